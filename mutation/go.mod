module github.com/choreography-go/choreography/mutation

go 1.26.0
