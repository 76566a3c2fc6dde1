package guide

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Order is what the order service keeps of a flow.
type Order struct {
	Status string `json:"status"`
	Cents  int64  `json:"cents"`
}

type Confirmed struct {
	OrderID string `json:"orderId"`
}

type Overdue struct {
	OrderID string `json:"orderId"`
}

type Alarm struct {
	Text string `json:"text"`
}

var (
	confirmed = choreo.Event[Confirmed]{Type: "com.example.order.confirmed.v1", Topic: "orders", Outcome: choreo.Succeeded}
	overdue   = choreo.Event[Overdue]{Type: "com.example.order.overdue.v1", Topic: "orders"}
	alarm     = choreo.Event[Alarm]{Type: "com.example.alarm.v1", Topic: "alarms"}
)

func newOrders() *choreo.State[Order] {
	return &choreo.State[Order]{Name: "order", Retain: 30 * 24 * time.Hour, When: []choreo.Transition[Order]{
		choreo.When(orderPlaced, func(o *Order, p OrderPlaced) {
			o.Cents = p.Cents
			o.Status = cmp.Or(o.Status, "placed") // what became of it may be heard first
		}),
		choreo.When(declined, func(o *Order, n NotHeld) { o.Status = "declined" }),
		choreo.Then(authorized, func(o *Order, h Held) (Confirmed, bool) {
			if o.Status == "declined" {
				return Confirmed{}, false
			}
			o.Status = "confirmed"
			return Confirmed{h.OrderID}, true
		}, confirmed),
	}}
}

// raise is a reaction's function: a value in, values out.
func raise(_ context.Context, n NotHeld) (choreo.Emissions, error) {
	if n.Reason == "" {
		return nil, nil
	}
	return choreo.Emit(alarm.New(Alarm{"payment: " + n.Reason})), nil
}

func newOrder(addr string, listening func(string)) *choreo.Service {
	orders := newOrders()
	svc := choreo.NewService("order", orders,
		choreo.Starts(orderPlaced),
		choreo.Reaction[NotHeld]{
			Name: "raise-alarm", On: choreo.AnyOf(unavailable, declined),
			Do: raise, Emits: choreo.Events{alarm},
		},
		choreo.Deadline[OrderPlaced, Overdue]{
			Name: "payment-in-time", After: orderPlaced, Within: choreo.Fixed[OrderPlaced](15 * time.Minute),
			Unless: choreo.Events{authorized, declined, unavailable},
			Do:     func(_ context.Context, p OrderPlaced) (Overdue, error) { return Overdue{p.OrderID}, nil },
			Emit:   overdue,
		},
	)
	svc.Add(choreo.HTTP{Addr: addr, Handler: handler(svc, orders), Listening: listening})
	svc.Use(counted)
	return svc
}

// handler places an order and waits for what becomes of it.
func handler(svc *choreo.Service, orders *choreo.State[Order]) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var p OrderPlaced
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&p); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
		defer cancel()
		flow, err := svc.Publish(ctx, orderPlaced.New(p), choreo.IdempotencyKey(r.Header.Get("Idempotency-Key")))
		if err != nil {
			http.Error(w, "try again under the same key", http.StatusServiceUnavailable)
			return
		}
		order, err := orders.Await(ctx, flow, func(o Order) bool { return o.Status != "placed" })
		if errors.Is(err, context.DeadlineExceeded) {
			w.WriteHeader(http.StatusAccepted) // order is as it was at the deadline
		}
		_ = json.NewEncoder(w).Encode(order)
	})
}

var attempts, failures atomic.Int64

// counted is a middleware.
func counted(next func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		attempts.Add(1)
		err := next(ctx)
		if err != nil {
			failures.Add(1)
		}
		return err
	}
}

// publishFromOutside says an event without choreo.
func publishFromOutside(ctx context.Context, cl *kgo.Client, orderID string, payload []byte) error {
	return cl.ProduceSync(ctx, &kgo.Record{
		Topic: "orders",
		Key:   []byte(orderID),
		Value: payload,
		Headers: []kgo.RecordHeader{
			{Key: "ce_specversion", Value: []byte("1.0")},
			{Key: "ce_id", Value: []byte("order-placed-" + orderID)},
			{Key: "ce_source", Value: []byte("/webshop")},
			{Key: "ce_type", Value: []byte("com.example.order.placed.v2")},
			{Key: "ce_correlationid", Value: []byte(orderID)},
			{Key: "content-type", Value: []byte("application/json")},
		},
	}).FirstErr()
}

// newReader reads events without choreo.
func newReader(brokers ...string) (*kgo.Client, error) {
	return kgo.NewClient(
		kgo.SeedBrokers(brokers...),
		kgo.ConsumeTopics("payments"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
	)
}
