// Package service declares the shipping service: what it hears and what it
// says. The rules themselves are in package domain.
package service

import (
	"context"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/services/shipping/domain"
)

var (
	orderExpired = choreo.Event[domain.OrderExpired]{Type: "com.example.order.expired.v1", Topic: "orders"}
	authorized   = choreo.Event[domain.PaymentAuthorized]{Type: "com.example.payment.authorized.v1", Topic: "payments"}

	shipped        = choreo.Event[domain.Shipped]{Type: "com.example.shipment.shipped.v1", Topic: "shipments"}
	shipmentFailed = choreo.Event[domain.ShipmentFailed]{Type: "com.example.shipment.failed.v1", Topic: "shipments"}
)

// New declares the service. To ship is the pivot: what is on its way is not
// called back, and until it is decided nobody else decides. So it has no
// GiveUp: a carrier's outage only makes it late, and after an hour the event is
// a dead letter for a person to look at.
//
// It also decides about orders that have expired. What was picked up is on its
// way, and the expiry is ignored. Else nothing will be, the carrier is told so if
// it may have heard of the parcel, and the failure is said by which others know.
func New(s *domain.Shipping) *choreo.Service {
	return choreo.NewService("shipping",
		choreo.Topic{Name: "orders", Partitions: 8},
		choreo.Topic{Name: "payments", Partitions: 8},
		choreo.Topic{Name: "shipments", Partitions: 8},
		choreo.Step[domain.PaymentAuthorized, domain.Shipped]{
			Name: "ship", On: authorized, Emit: shipped, Pivot: true,
			Do: func(ctx context.Context, p domain.PaymentAuthorized) (domain.Shipped, error) {
				return s.Ship(ctx, choreo.Meta(ctx).IdempotencyKey, p)
			},
			Fail: choreo.Failures[domain.PaymentAuthorized]{choreo.FailAs(notServed, shipmentFailed)},
			Compensate: choreo.Compensation[domain.PaymentAuthorized, domain.Shipped]{}.Unknown(func(ctx context.Context, p domain.PaymentAuthorized) error {
				return s.CallOff(ctx, choreo.Meta(ctx).Undoes, p)
			}),
			Cancel:  []choreo.Cancellation{choreo.CancelOn(orderExpired, tooLate, shipmentFailed)},
			Retry:   choreo.Retry{Attempts: 1_000, First: 100 * time.Millisecond, Max: 10 * time.Second, Over: time.Hour},
			Timeout: 5 * time.Second,
		},
	)
}

func tooLate(e domain.OrderExpired) domain.ShipmentFailed {
	return domain.ShipmentFailed{OrderID: e.OrderID, Reason: "not shipped in time"}
}

func notServed(p domain.PaymentAuthorized, e *domain.NotServed) domain.ShipmentFailed {
	return domain.ShipmentFailed{OrderID: p.OrderID, Reason: e.Error()}
}
