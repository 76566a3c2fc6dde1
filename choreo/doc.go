// Package choreo is a runtime for choreographed sagas on Kafka. A service
// embeds it: it hears CloudEvents, reacts with plain Go functions, says the
// next events with correlation and causation ids, and says compensating
// events when something fails. There is no coordinator.
//
// A service is declared as data, in typed struct literals:
//
//	svc := choreo.NewService("payment",
//		choreo.Step[OrderPlaced, Authorized]{
//			Name: "authorize", On: orderPlaced, Do: payments.Authorize, Emit: authorized,
//			Fail:       choreo.Failures[OrderPlaced]{choreo.FailAs(overLimit, declined)},
//			Compensate: choreo.Undo(payments.Refund, refunded, shipmentFailed),
//		})
//	choreo.Main(svc)
//
// Everything a service reads, decides and says is one Kafka transaction:
// from event to event the effect is exactly once, in order for each key, also
// across retries, restarts and rebalances. What handlers do to the world
// outside Kafka happens at least once, under a stable idempotency key
// ([Metadata].IdempotencyKey).
//
// The package owns the declarations, their validation and the engine that runs
// them. Transactions, ownership of partitions, per-flow state and key-ordered
// execution are the business of its internal packages, which know nothing of
// declarations.
package choreo
