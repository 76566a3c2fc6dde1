package choreo_test

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
)

// Events as a payment service sees them: the fields that it needs.
type (
	OrderPlaced struct {
		Order string `json:"order"`
		Cents int64  `json:"cents"`
	}
	Authorized struct {
		Order  string `json:"order"`
		Charge string `json:"charge"`
	}
	Declined struct {
		Order  string `json:"order"`
		Reason string `json:"reason"`
	}
	Refunded struct {
		Order string `json:"order"`
	}
	ShipmentFailed struct {
		Order  string `json:"order"`
		Reason string `json:"reason"`
	}
)

var (
	placed         = choreo.Event[OrderPlaced]{Type: "example.order.placed.v1", Topic: "orders"}
	authorized     = choreo.Event[Authorized]{Type: "example.payment.authorized.v1", Topic: "payments"}
	declined       = choreo.Event[Declined]{Type: "example.payment.declined.v1", Topic: "payments"}
	refunded       = choreo.Event[Refunded]{Type: "example.payment.refunded.v1", Topic: "payments"}
	shipmentFailed = choreo.Event[ShipmentFailed]{Type: "example.shipment.failed.v1", Topic: "shipments"}
)

// OverLimit is an error of the domain. It knows nothing of events.
type OverLimit struct{ Limit int64 }

func (e OverLimit) Error() string { return fmt.Sprintf("over the limit of %d", e.Limit) }

// Payments is the domain: plain functions.
type Payments struct{ Limit int64 }

func (p Payments) Authorize(ctx context.Context, o OrderPlaced) (Authorized, error) {
	if o.Cents > p.Limit {
		return Authorized{}, OverLimit{p.Limit}
	}
	// A provider would be called under choreo.Meta(ctx).IdempotencyKey.
	return Authorized{Order: o.Order, Charge: "charge of " + o.Order}, nil
}

func (p Payments) Refund(_ context.Context, o OrderPlaced, a Authorized) (Refunded, error) {
	return Refunded{Order: o.Order}, nil
}

func newPayment(p Payments) *choreo.Service {
	return choreo.NewService("payment",
		choreo.Step[OrderPlaced, Authorized]{
			Name: "authorize", On: placed, Do: p.Authorize, Emit: authorized,
			Fail: choreo.Failures[OrderPlaced]{choreo.FailAs(func(o OrderPlaced, e OverLimit) Declined {
				return Declined{Order: o.Order, Reason: e.Error()}
			}, declined)},
			Compensate: choreo.Undo(p.Refund, refunded, shipmentFailed),
		})
}

// A service is declared as data; Validate reports all mistakes at once, without
// a broker.
func ExampleNewService() {
	fmt.Println(newPayment(Payments{Limit: 1000}).Validate())

	wrong := choreo.NewService("payment", choreo.Step[OrderPlaced, Authorized]{Name: "authorize", On: placed, Emit: authorized})
	fmt.Println(wrong.Validate())
	// Output:
	// <nil>
	// choreo: service "payment" is declared wrongly:
	// step "authorize": Do is missing: give the function to call
}

// A step calls the domain and says an event; errors of the domain become
// events, and a failure further on is compensated.
func ExampleStep() {
	p := Payments{Limit: 1000}
	_ = choreo.Step[OrderPlaced, Authorized]{
		Name: "authorize", On: placed, Do: p.Authorize, Emit: authorized,
		Fail: choreo.Failures[OrderPlaced]{choreo.FailAs(func(o OrderPlaced, e OverLimit) Declined {
			return Declined{Order: o.Order, Reason: e.Error()}
		}, declined)},
		Retry:   choreo.Retry{Attempts: 10, First: 50 * time.Millisecond, Over: 2 * time.Minute},
		Timeout: 5 * time.Second,
	}
}

// A breaker keeps attempts from a provider that is away: none is made while it is
// open, and no order is given up for that. An event has 5 attempts more than it
// takes to open it. At most 20 orders are authorized at once on an instance.
func ExampleBreaker() {
	step := choreo.Step[OrderPlaced, Authorized]{
		Name: "authorize", On: placed, Do: Payments{}.Authorize, Emit: authorized,
		Timeout: 2 * time.Second, MaxConcurrent: 20,
		Breaker: choreo.Breaker{Failures: 10, Of: 20, Open: 5 * time.Second},
	}
	fmt.Println(choreo.NewService("payment", step).Validate())
	step.Retry.Attempts = 3
	fmt.Println(choreo.NewService("payment", step).Validate())
	// Output:
	// <nil>
	// choreo: service "payment" is declared wrongly:
	// step "authorize": Retry.Attempts is 3, less than Breaker.Failures, 10: while the provider is away an event could be given up before the breaker opens; make them at least as many
}

// When the shipment fails every payment of the flow is refunded, newest first,
// until that has succeeded. The undo function has what the step heard and said,
// and the event that set it off.
func ExampleUndo() {
	refund := func(ctx context.Context, o OrderPlaced, a Authorized) (Refunded, error) {
		if why, ok := choreo.Cause(ctx, shipmentFailed); ok {
			fmt.Println("refund", a.Charge, "because", why.Reason)
		}
		return Refunded{Order: o.Order}, nil
	}
	_ = choreo.Step[OrderPlaced, Authorized]{
		Name: "authorize", On: placed, Do: Payments{}.Authorize, Emit: authorized,
		Compensate: choreo.Undo(refund, refunded, shipmentFailed),
	}
}

// A reaction says none, one or many events, as values that a unit test
// compares.
func ExampleReaction() {
	notice := choreo.Event[string]{Type: "example.notice.v1", Topic: "notices"}
	react := func(_ context.Context, d Declined) (choreo.Emissions, error) {
		if d.Reason == "" {
			return nil, nil
		}
		return choreo.Emit(notice.New("order " + d.Order + " was declined: " + d.Reason)), nil
	}
	svc := choreo.NewService("notifier", choreo.Reaction[Declined]{
		Name: "tell", On: declined, Do: react, Emits: choreo.Events{notice}, Once: true,
	})
	fmt.Println(svc.Validate())
	said, _ := react(context.Background(), Declined{Order: "7", Reason: "over the limit"})
	fmt.Println(said)
	// Output:
	// <nil>
	// [{example.notice.v1 order 7 was declined: over the limit}]
}

// Order is what the order service keeps of one flow.
type Order struct {
	Status  string
	History []string
}

// A State is changed by events only, each once, and read on any instance.
func ExampleState() {
	orders := &choreo.State[Order]{Name: "order", Retain: 30 * 24 * time.Hour, When: []choreo.Transition[Order]{
		choreo.When(placed, func(o *Order, e OrderPlaced) { o.Status = "placed" }),
		choreo.When(authorized, func(o *Order, e Authorized) { o.Status, o.History = "paid", append(o.History, e.Charge) }),
		choreo.When(declined, func(o *Order, e Declined) { o.Status = "declined" }),
	}}
	svc := choreo.NewService("order", orders, choreo.Starts(placed))
	fmt.Println(svc.Validate())
	_, err := orders.Get(context.Background(), "a flow")
	fmt.Println(errors.Is(err, choreo.ErrNotRunning))
	// Output:
	// <nil>
	// true
}

// Publish starts a flow from outside, such as from an HTTP handler. Under the
// same idempotency key the event is said once, in the same flow.
func ExampleService_Publish() {
	svc := choreo.NewService("order", choreo.Starts(placed))
	place := func(ctx context.Context, requestKey string, o OrderPlaced) (flow string, err error) {
		return svc.Publish(ctx, placed.New(o), choreo.IdempotencyKey(requestKey))
	}
	_, err := place(context.Background(), "k-1", OrderPlaced{Order: "7", Cents: 900})
	fmt.Println(err)
	first, again, other := svc.FlowOf("k-1"), svc.FlowOf("k-1"), svc.FlowOf("k-2")
	fmt.Println(first == again, first == other)
	// Output:
	// choreo: the service is not running
	// true false
}

// An event may end its flow, and may have a codec and a key of its own.
func ExampleEvent() {
	confirmed := choreo.Event[Refunded]{Type: "example.order.confirmed.v1", Topic: "orders", Outcome: choreo.Succeeded}
	label := choreo.Event[[]byte]{Type: "example.label.v1", Topic: "labels", Codec: choreo.Bytes{Type: "application/pdf"}}
	fmt.Println(confirmed.New(Refunded{Order: "7"}))
	fmt.Println(label.New([]byte("%PDF")).Type)
	// Output:
	// {example.order.confirmed.v1 {7}}
	// example.label.v1
}

// A step hears several types of event, and old versions of one as the present
// one: also when a run of the old version is undone.
func ExampleUpcast() {
	type PlacedV0 struct{ ID string }
	placedV0 := choreo.Event[PlacedV0]{Type: "example.order.placed.v0", Topic: "orders"}
	svc := choreo.NewService("payment", choreo.Step[OrderPlaced, Authorized]{
		Name: "authorize", Do: Payments{}.Authorize, Emit: authorized,
		On: choreo.AnyOf(placed, choreo.Upcast(placedV0, func(old PlacedV0) OrderPlaced { return OrderPlaced{Order: old.ID} })),
	})
	fmt.Println(svc.Validate())
	// Output: <nil>
}

// Run serves until its context ends, and then stops gracefully. Most programs
// call [choreo.Main] instead, which takes the configuration from the environment.
func ExampleService_Run() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	svc := newPayment(Payments{Limit: 1000})
	err := svc.Run(ctx, choreo.Config{Brokers: []string{"127.0.0.1:9092"}, InstanceID: "Payment 0"})
	fmt.Println(err != nil) // an instance id has no spaces
	// Output: true
}

// The whole service in a unit test, against an in-memory broker.
func TestExamplePayment(t *testing.T) {
	s := choreotest.Start(t, newPayment(Payments{Limit: 1000}))
	s.Publish("order-1", placed.New(OrderPlaced{"1", 900}))
	s.Expect("order-1", authorized.New(Authorized{"1", "charge of 1"}))
	s.Publish("order-1", shipmentFailed.New(ShipmentFailed{"1", "no such street"}))
	s.Expect("order-1", refunded.New(Refunded{"1"}))
	s.ExpectNothingMore("order-1")

	s.Publish("order-2", placed.New(OrderPlaced{"2", 1100}))
	s.Expect("order-2", declined.New(Declined{"2", "over the limit of 1000"}))
	s.ExpectNothingMore("order-2")
}
