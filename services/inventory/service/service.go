// Package service declares the inventory service: what it hears, what it says,
// and what undoes what. The rules themselves are in package domain.
package service

import (
	"context"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/services/inventory/domain"
)

var (
	orderPlaced    = choreo.Event[domain.OrderPlaced]{Type: "com.example.order.placed.v1", Topic: "orders"}
	shipmentFailed = choreo.Event[domain.ShipmentFailed]{Type: "com.example.shipment.failed.v1", Topic: "shipments"}

	reserved = choreo.Event[domain.Reserved]{Type: "com.example.stock.reserved.v1", Topic: "stock"}
	rejected = choreo.Event[domain.Rejected]{Type: "com.example.stock.rejected.v1", Topic: "stock"}
	released = choreo.Event[domain.Released]{Type: "com.example.stock.released.v1", Topic: "stock"}
)

// New declares the service.
//
// Goods are put back when their shipment failed, and for no other reason: shipping
// alone decides whether they leave. Whatever was set aside until then, it says once
// that nothing is any more. A warehouse that cannot be reached makes an order late,
// and the order's expiry ends that.
//
// An order may be cancelled before its goods are put back, and be forgotten only
// after that: hence the grace.
func New(s *domain.Stock) *choreo.Service {
	adapted := stock{s}
	return choreo.NewService("inventory",
		choreo.Topic{Name: "orders", Partitions: 8},
		choreo.Topic{Name: "shipments", Partitions: 8},
		choreo.Topic{Name: "stock", Partitions: 8},
		choreo.Retention{Grace: 10 * time.Minute},
		choreo.Step[domain.OrderPlaced, domain.Reserved]{
			Name: "reserve", On: orderPlaced, Do: adapted.reserve, Emit: reserved,
			Fail:       choreo.Failures[domain.OrderPlaced]{choreo.FailAs(outOfStock, rejected)},
			Compensate: choreo.Undo(adapted.release, released, shipmentFailed).Unknown(adapted.forget),
			Cancel:     []choreo.Cancellation{choreo.CancelOn(shipmentFailed, nothingHeld, released)},
			Retry:      choreo.Retry{Attempts: 1_000, First: 100 * time.Millisecond, Max: 10 * time.Second, Over: time.Hour},
			Timeout:    5 * time.Second,
		},
	)
}

// stock gives the domain what the runtime knows: idempotency keys, and why
// something is undone.
type stock struct{ *domain.Stock }

func (s stock) reserve(ctx context.Context, o domain.OrderPlaced) (domain.Reserved, error) {
	return s.Reserve(ctx, choreo.Meta(ctx).IdempotencyKey, o)
}

func (s stock) release(ctx context.Context, o domain.OrderPlaced, _ domain.Reserved) (domain.Released, error) {
	because, _ := choreo.Cause(ctx, shipmentFailed) // nothing else sets it off
	return s.Release(ctx, choreo.Meta(ctx).Undoes, o, because.Reason)
}

func (s stock) forget(ctx context.Context, o domain.OrderPlaced) error {
	_, err := s.Release(ctx, choreo.Meta(ctx).Undoes, o, "")
	return err
}

func outOfStock(o domain.OrderPlaced, e *domain.OutOfStock) domain.Rejected {
	return domain.Rejected{OrderID: o.OrderID, SKU: o.SKU, Reason: e.Error()}
}

func nothingHeld(f domain.ShipmentFailed) domain.Released {
	return domain.Released{OrderID: f.OrderID, Reason: f.Reason}
}
