// Package choreotest runs services inside a test: the real runtime against
// brokers in memory.
//
// [Start] runs one service, so that a test says what the service hears and
// expects what it says:
//
//	s := choreotest.Start(t, payment.New(ledger))
//	s.Publish("order-1", payment.OrderPlaced.New(...))
//	s.Expect("order-1", payment.Authorized.New(...))
//	s.ExpectNothingMore("order-1")
//
// A failing expectation prints the flow's events as a causal tree.
//
// [Simulate] runs a whole choreography, several instances of each service, under
// simulated time and injected faults, and checks invariants over all that was
// committed:
//
//	choreotest.Simulate(t, services, workload, invariants, choreotest.Options{Seeds: 100})
//
// A failing seed prints the command that runs it again, and the faults that
// suffice. It needs the build tag synctests: see [Simulate].
//
// The package owns the brokers, the clock of expectations and the printing. It
// uses the runtime through its public API alone, as any program would; only to
// compare journals with events it reads them as the runtime does.
package choreotest
