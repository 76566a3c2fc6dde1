// Package choreotest runs a service inside a test: the real runtime against an
// in-memory broker, so that a test says what the service hears and expects what
// it says.
//
//	s := choreotest.Start(t, payment.New(ledger))
//	s.Publish("order-1", payment.OrderPlaced.New(...))
//	s.Expect("order-1", payment.Authorized.New(...))
//	s.ExpectNothingMore("order-1")
//
// A failing expectation prints the flow's events as a causal tree.
//
// The package owns the broker, the clock of expectations and the printing. It
// uses the runtime through its public API alone, as any program would.
package choreotest
