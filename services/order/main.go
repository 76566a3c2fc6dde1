// Command order is the order service: it takes orders over HTTP, follows what
// becomes of them and says how they end. HTTP_ADDR is where it listens, :8080
// by default; the other variables are those of every service, see --help.
package main

import (
	"cmp"
	"os"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/services/order/service"
)

func main() {
	svc, handler := service.New(service.Patience)
	svc.Add(choreo.HTTP{Addr: cmp.Or(os.Getenv("HTTP_ADDR"), ":8080"), Handler: handler})
	choreo.Main(svc, tracing("order"))
}
