package choreotest_test

import (
	"fmt"
	"testing"

	"github.com/choreography-go/choreography/choreo/choreotest"
)

// Start runs a service for the length of a test. (This example is the body of a
// test; t is the test's.)
func ExampleStart() {
	test := func(t *testing.T) {
		s := choreotest.Start(t, parrot())
		s.Publish("flow-1", asked.New(ask{"hello"}))
		s.Expect("flow-1", answered.New(answer{"hello"}), repeated.New(answer{"hello!"}))
		s.ExpectNothingMore("flow-1")

		s.Publish("flow-2", asked.New(ask{"?"}))
		if d := s.ExpectDeadLetter("flow-2"); d.Header("choreo-dlq-reason") != "retries_exhausted" {
			t.Error(d.Header("choreo-dlq-error"))
		}
	}
	_ = test
}

// Simulate runs a whole choreography, two instances of each service, under
// simulated time and faults. It needs the build tag synctests. (This example is
// the body of a test; t is the test's.)
func ExampleSimulate() {
	test := func(t *testing.T) {
		choreotest.Simulate(t,
			[]choreotest.Simulated{{New: parrot}},
			choreotest.Workload{Flows: 50, Begin: func(w *choreotest.World, flow string) error {
				return w.Say(flow, asked.New(ask{"hello"}))
			}},
			[]choreotest.Invariant{{Name: "every question is answered once", Check: func(f choreotest.Flow) error {
				if n := f.Count("answered"); n != 1 {
					return fmt.Errorf("it is answered %d times", n)
				}
				return nil
			}}},
			choreotest.Options{Seeds: 10},
		)
	}
	_ = test
}
