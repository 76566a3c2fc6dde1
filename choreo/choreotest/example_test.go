package choreotest_test

import (
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
