// Package service declares the order service: what it says and hears, what it
// keeps of an order, and its HTTP interface. What the events mean for an order
// is in package domain.
package service

import (
	"context"
	"net/http"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/services/order/domain"
)

var (
	placed    = choreo.Event[domain.Placed]{Type: "com.example.order.placed.v1", Topic: "orders"}
	confirmed = choreo.Event[domain.Confirmed]{Type: "com.example.order.confirmed.v1", Topic: "orders", Outcome: choreo.Succeeded}
	expired   = choreo.Event[domain.Expired]{Type: "com.example.order.expired.v1", Topic: "orders"}
	cancelled = choreo.Event[domain.Cancelled]{Type: "com.example.order.cancelled.v1", Topic: "orders", Outcome: choreo.Failed}

	authorized  = choreo.Event[domain.PaymentAuthorized]{Type: "com.example.payment.authorized.v1", Topic: "payments"}
	declined    = choreo.Event[domain.PaymentDeclined]{Type: "com.example.payment.declined.v1", Topic: "payments"}
	unavailable = choreo.Event[domain.PaymentUnavailable]{Type: "com.example.payment.unavailable.v1", Topic: "payments"}
	refunded    = choreo.Event[domain.PaymentRefunded]{Type: "com.example.payment.refunded.v1", Topic: "payments"}
	voided      = choreo.Event[domain.PaymentVoided]{Type: "com.example.payment.voided.v1", Topic: "payments"}

	rejected = choreo.Event[domain.StockRejected]{Type: "com.example.stock.rejected.v1", Topic: "stock"}
	released = choreo.Event[domain.StockReleased]{Type: "com.example.stock.released.v1", Topic: "stock"}

	shipped        = choreo.Event[domain.Shipped]{Type: "com.example.shipment.shipped.v1", Topic: "shipments"}
	shipmentFailed = choreo.Event[domain.ShipmentFailed]{Type: "com.example.shipment.failed.v1", Topic: "shipments"}
)

// Patience is how long an order may take until it is asked to end, unless
// somebody says otherwise.
const Patience = 15 * time.Minute

// New declares the service and returns it with the handler of its HTTP
// interface, which works while the service runs.
//
// An order that has not ended in time has expired. To say so is a request: the
// service whose work ends it, shipping, decides. It may be done already.
func New(patience time.Duration) (*choreo.Service, http.Handler) {
	orders := &choreo.State[domain.Order]{Name: "order", When: []choreo.Transition[domain.Order]{
		choreo.When(placed, (*domain.Order).Place),
		choreo.When(authorized, (*domain.Order).Authorize),
		choreo.When(expired, (*domain.Order).Expire),
		choreo.When(unavailable, (*domain.Order).PaymentUnavailable),
		choreo.When(rejected, (*domain.Order).OutOfStock),
		choreo.When(released, (*domain.Order).Release),
		choreo.When(shipmentFailed, (*domain.Order).NotShipped),
		choreo.Then(shipped, (*domain.Order).Ship, confirmed),
		choreo.Then(declined, (*domain.Order).Decline, cancelled),
		choreo.Then(refunded, (*domain.Order).Refund, cancelled),
		choreo.Then(voided, (*domain.Order).Void, cancelled),
	}}
	svc := choreo.NewService("order",
		choreo.Topic{Name: "orders", Partitions: 8},
		choreo.Topic{Name: "payments", Partitions: 8},
		choreo.Topic{Name: "stock", Partitions: 8},
		choreo.Topic{Name: "shipments", Partitions: 8},
		choreo.Starts(placed),
		orders,
		choreo.Deadline[domain.Placed, domain.Expired]{
			Name: "outcome-in-time", After: placed, Within: choreo.Fixed[domain.Placed](patience), Unless: choreo.Events{confirmed, cancelled},
			Do:   func(_ context.Context, p domain.Placed) (domain.Expired, error) { return p.Expired(), nil },
			Emit: expired,
		},
	)
	return svc, newHandler(orders, flows{svc})
}

// flows is how the HTTP interface starts flows.
type flows struct{ svc *choreo.Service }

func (f flows) idOf(key string) string { return f.svc.FlowOf(key) }

func (f flows) place(ctx context.Context, key string, p domain.Placed) error {
	_, err := f.svc.Publish(ctx, placed.New(p), choreo.IdempotencyKey(key))
	return err
}
