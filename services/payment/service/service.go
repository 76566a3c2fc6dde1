// Package service declares the payment service: what it hears, what it says,
// and what undoes what. The rules themselves are in package domain.
package service

import (
	"context"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/services/payment/domain"
)

var (
	orderPlaced    = choreo.Event[domain.OrderPlaced]{Type: "com.example.order.placed.v1", Topic: "orders"}
	shipmentFailed = choreo.Event[domain.ShipmentFailed]{Type: "com.example.shipment.failed.v1", Topic: "shipments"}

	authorized  = choreo.Event[domain.Authorized]{Type: "com.example.payment.authorized.v1", Topic: "payments"}
	declined    = choreo.Event[domain.Declined]{Type: "com.example.payment.declined.v1", Topic: "payments"}
	unavailable = choreo.Event[domain.Unavailable]{Type: "com.example.payment.unavailable.v1", Topic: "payments"}
	refunded    = choreo.Event[domain.Refunded]{Type: "com.example.payment.refunded.v1", Topic: "payments"}
	voided      = choreo.Event[domain.Voided]{Type: "com.example.payment.voided.v1", Topic: "payments"}
)

// attempts at an authorization before it is given up, while others succeed.
const attempts = 6

// New declares the service.
//
// An authorization is refunded when its shipment failed. When the ledger could
// not be reached the service says so, hears itself, and finds out by the key of
// the authorization whether money is held: only then is the order given up, by
// payment.voided. An outage is never taken for a refusal. While the ledger answers
// nobody, orders wait for it.
func New(p *domain.Payments) *choreo.Service {
	adapted := payments{p}
	return choreo.NewService("payment",
		choreo.Topic{Name: "orders", Partitions: 8},
		choreo.Topic{Name: "payments", Partitions: 8},
		choreo.Topic{Name: "shipments", Partitions: 8},
		choreo.Step[domain.OrderPlaced, domain.Authorized]{
			Name: "authorize", On: orderPlaced, Do: adapted.authorize, Emit: authorized,
			Fail:       choreo.Failures[domain.OrderPlaced]{choreo.FailAs(overLimit, declined)},
			GiveUp:     choreo.GiveUpAs(outage, unavailable),
			Compensate: choreo.Undo(adapted.refund, refunded, shipmentFailed).Unknown(adapted.void),
			Cancel: []choreo.Cancellation{
				choreo.CancelOn(shipmentFailed, neverHeld, voided),
				choreo.CancelOn(unavailable, nothingHeld, voided),
			},
			Retry:   choreo.Retry{Attempts: attempts, First: 100 * time.Millisecond, Max: 10 * time.Second},
			Timeout: 2 * time.Second,
			Breaker: choreo.Breaker{Failures: 5, Open: 5 * time.Second},
		},
	)
}

// payments gives the domain what the runtime knows: idempotency keys, and why
// something is undone.
type payments struct{ *domain.Payments }

func (p payments) authorize(ctx context.Context, o domain.OrderPlaced) (domain.Authorized, error) {
	return p.Authorize(ctx, choreo.Meta(ctx).IdempotencyKey, o)
}

func (p payments) refund(ctx context.Context, _ domain.OrderPlaced, a domain.Authorized) (domain.Refunded, error) {
	because, _ := choreo.Cause(ctx, shipmentFailed) // nothing else sets a refund off
	return p.Refund(ctx, choreo.Meta(ctx).IdempotencyKey, a, because.Reason)
}

func (p payments) void(ctx context.Context, o domain.OrderPlaced) error {
	return p.Void(ctx, choreo.Meta(ctx).Undoes, o)
}

func overLimit(o domain.OrderPlaced, e *domain.OverLimit) domain.Declined {
	return domain.Declined{OrderID: o.OrderID, Reason: e.Error(), LimitCents: e.LimitCents}
}

func outage(o domain.OrderPlaced, _ error) domain.Unavailable {
	return domain.Unavailable{OrderID: o.OrderID, Reason: "payment unavailable"}
}

func neverHeld(f domain.ShipmentFailed) domain.Voided {
	return domain.Voided{OrderID: f.OrderID, Reason: f.Reason}
}

func nothingHeld(u domain.Unavailable) domain.Voided {
	return domain.Voided{OrderID: u.OrderID, Reason: u.Reason}
}
