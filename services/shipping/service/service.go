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
	declined     = choreo.Event[domain.NotPaid]{Type: "com.example.payment.declined.v1", Topic: "payments"}
	unavailable  = choreo.Event[domain.NotPaid]{Type: "com.example.payment.unavailable.v1", Topic: "payments"}
	reserved     = choreo.Event[domain.StockReserved]{Type: "com.example.stock.reserved.v1", Topic: "stock"}
	rejected     = choreo.Event[domain.StockRejected]{Type: "com.example.stock.rejected.v1", Topic: "stock"}

	shipped        = choreo.Event[domain.Shipped]{Type: "com.example.shipment.shipped.v1", Topic: "shipments"}
	shipmentFailed = choreo.Event[domain.ShipmentFailed]{Type: "com.example.shipment.failed.v1", Topic: "shipments"}
)

// New declares the service. An order is shipped when it was paid for and its goods
// were set aside, whichever comes first. What ends one of both ends the shipment:
// its failure is what payment and inventory undo their work for, and nothing else.
//
// To ship is the pivot: what is on its way is not called back, and until it is
// decided nobody else decides. So it has no GiveUp: a carrier's outage only makes
// it late, and after an hour the event is a dead letter for a person to look at.
//
// It also decides about orders that have expired. What was picked up is on its
// way, and the expiry is ignored. Else nothing will be, the carrier is told so if
// it may have heard of the parcel, and the failure is said by which others know.
//
// An order that is declined is cancelled at once, and its goods may be reserved
// after that: hence the grace.
func New(s *domain.Shipping) *choreo.Service {
	return choreo.NewService("shipping",
		choreo.Topic{Name: "orders", Partitions: 8},
		choreo.Topic{Name: "payments", Partitions: 8},
		choreo.Topic{Name: "stock", Partitions: 8},
		choreo.Topic{Name: "shipments", Partitions: 8},
		choreo.Retention{Grace: 10 * time.Minute},
		choreo.Step[domain.Ready, domain.Shipped]{
			Name: "ship", On: choreo.Both(authorized, reserved, domain.ReadyWhen), Emit: shipped, Pivot: true,
			Do: func(ctx context.Context, r domain.Ready) (domain.Shipped, error) {
				return s.Ship(ctx, choreo.Meta(ctx).IdempotencyKey, r)
			},
			Fail: choreo.Failures[domain.Ready]{choreo.FailAs(notServed, shipmentFailed)},
			Compensate: choreo.Compensation[domain.Ready, domain.Shipped]{}.Unknown(func(ctx context.Context, r domain.Ready) error {
				return s.CallOff(ctx, choreo.Meta(ctx).Undoes, r)
			}),
			Cancel: []choreo.Cancellation{
				choreo.CancelOn(orderExpired, tooLate, shipmentFailed),
				choreo.CancelOn(rejected, outOfStock, shipmentFailed),
				choreo.CancelOn(declined, notPaid, shipmentFailed),
				choreo.CancelOn(unavailable, notPaid, shipmentFailed),
			},
			Retry:   choreo.Retry{Attempts: 1_000, First: 100 * time.Millisecond, Max: 10 * time.Second, Over: time.Hour},
			Timeout: 5 * time.Second,
		},
	)
}

func tooLate(e domain.OrderExpired) domain.ShipmentFailed {
	return domain.ShipmentFailed{OrderID: e.OrderID, Reason: "not shipped in time"}
}

func outOfStock(r domain.StockRejected) domain.ShipmentFailed {
	return domain.ShipmentFailed{OrderID: r.OrderID, Reason: r.Reason}
}

func notPaid(n domain.NotPaid) domain.ShipmentFailed {
	return domain.ShipmentFailed{OrderID: n.OrderID, Reason: n.Reason}
}

func notServed(r domain.Ready, e *domain.NotServed) domain.ShipmentFailed {
	return domain.ShipmentFailed{OrderID: r.OrderID, Reason: e.Error()}
}
