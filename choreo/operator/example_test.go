package operator_test

import (
	"fmt"
	"time"

	"github.com/choreography-go/choreography/choreo/operator"
)

// A service tells on its dead-letter topic what came of a command. Whoever reads
// along may send it on to where audits are kept for longer.
func ExampleReadAudit() {
	asked := operator.Command{
		ID: "7", Do: operator.Skip, By: "ann", Why: "test data",
		Target: operator.Target{Kind: operator.Step, Key: "order-17", Name: "authorize", Began: time.Now()},
	}
	audit := operator.Of(&asked) // as the service does
	audit.Outcome, audit.Dead = operator.Done, []string{"retries_exhausted"}
	rec, err := audit.Record("payment.dlq", "/payment", []byte("order-17"))
	if err != nil {
		fmt.Println(err)
		return
	}

	if a, ok := operator.ReadAudit(rec); ok {
		fmt.Printf("%s: %s %s at %s of flow %s, because: %s; dead letters: %v\n", a.Outcome, a.By, a.Do, a.Name, a.Flow, a.Why, a.Dead)
	}
	// Output: done: ann skip at authorize of flow order-17, because: test data; dead letters: [retries_exhausted]
}
