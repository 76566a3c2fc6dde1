package guide

import (
	"context"
	"encoding/xml"
	"fmt"
	"sync"
	"time"

	"github.com/choreography-go/choreography/choreo"
)

// The payment service's own view of what it hears, and what it says.
type (
	OrderPlaced struct {
		OrderID string `json:"orderId"`
		Cents   int64  `json:"cents"`
	}
	OrderPlacedV1 struct {
		Order string  `json:"order"`
		Euros float64 `json:"euros"`
	}
	ShipmentFailed struct {
		OrderID string `json:"orderId"`
		Reason  string `json:"reason"`
	}
	Held struct {
		OrderID string `json:"orderId"`
		Hold    string `json:"hold"`
	}
	Refund struct {
		OrderID string `json:"orderId"`
		Reason  string `json:"reason"`
	}
	NotHeld struct {
		OrderID string `json:"orderId"`
		Reason  string `json:"reason"`
	}
)

var (
	orderPlaced    = choreo.Event[OrderPlaced]{Type: "com.example.order.placed.v2", Topic: "orders"}
	orderPlacedV1  = choreo.Event[OrderPlacedV1]{Type: "com.example.order.placed.v1", Topic: "orders"}
	shipmentFailed = choreo.Event[ShipmentFailed]{Type: "com.example.shipment.failed.v1", Topic: "shipments"}

	authorized  = choreo.Event[Held]{Type: "com.example.payment.authorized.v1", Topic: "payments"}
	declined    = choreo.Event[NotHeld]{Type: "com.example.payment.declined.v1", Topic: "payments"}
	unavailable = choreo.Event[NotHeld]{Type: "com.example.payment.unavailable.v1", Topic: "payments"}
	refunded    = choreo.Event[Refund]{Type: "com.example.payment.refunded.v1", Topic: "payments"}
	voided      = choreo.Event[NotHeld]{Type: "com.example.payment.voided.v1", Topic: "payments", Outcome: choreo.Failed}
)

// upgrade reads a version 1 as a version 2.
func upgrade(o OrderPlacedV1) OrderPlaced {
	return OrderPlaced{OrderID: o.Order, Cents: int64(o.Euros * 100)}
}

// OverLimit is the domain's refusal.
type OverLimit struct{ LimitCents int64 }

func (e *OverLimit) Error() string { return fmt.Sprintf("over the limit of %d cents", e.LimitCents) }

func decline(o OrderPlaced, e *OverLimit) NotHeld { return NotHeld{o.OrderID, e.Error()} }
func outage(o OrderPlaced, _ error) NotHeld       { return NotHeld{o.OrderID, "provider unavailable"} }
func neverHeld(f ShipmentFailed) NotHeld          { return NotHeld{f.OrderID, f.Reason} }
func nothingHeld(n NotHeld) NotHeld               { return n }

// payments is the domain with its provider, in memory.
type payments struct {
	mu    sync.Mutex
	holds map[string]int64 // by idempotency key; what was released stays known
	away  error
}

func (p *payments) hold(key string, cents int64) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.holds == nil {
		p.holds = map[string]int64{}
	}
	if _, known := p.holds[key]; !known {
		p.holds[key] = cents
	}
	return "hold-1", p.away
}

// release gives back what is held, and sees to it that nothing will be: an
// attempt of an instance that was cut off may still be on its way.
func (p *payments) release(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.holds == nil {
		p.holds = map[string]int64{}
	}
	p.holds[key] = 0
}

func (p *payments) held() (cents int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.holds {
		cents += c
	}
	return cents
}

func (p *payments) authorize(ctx context.Context, o OrderPlaced) (Held, error) {
	if o.Cents > 50_000 {
		return Held{}, &OverLimit{50_000}
	}
	hold, err := p.hold(choreo.Meta(ctx).IdempotencyKey, o.Cents)
	return Held{o.OrderID, hold}, err
}

func (p *payments) refund(ctx context.Context, _ OrderPlaced, h Held) (Refund, error) {
	p.release(choreo.Meta(ctx).Undoes)
	r := Refund{OrderID: h.OrderID}
	if f, ok := choreo.Cause(ctx, shipmentFailed); ok {
		r.Reason = f.Reason
	}
	return r, nil
}

func (p *payments) void(ctx context.Context, _ OrderPlaced) error {
	p.release(choreo.Meta(ctx).Undoes)
	return nil
}

// newPayment declares the service.
func newPayment(p *payments) *choreo.Service {
	return choreo.NewService("payment",
		choreo.Step[OrderPlaced, Held]{
			Name: "authorize",
			On:   choreo.AnyOf(orderPlaced, choreo.Upcast(orderPlacedV1, upgrade)),
			Do:   p.authorize, Emit: authorized,

			Fail:   choreo.Failures[OrderPlaced]{choreo.FailAs(decline, declined)},
			GiveUp: choreo.GiveUpAs(outage, unavailable),

			Compensate: choreo.Undo(p.refund, refunded, shipmentFailed, unavailable).Unknown(p.void),
			Cancel: []choreo.Cancellation{
				choreo.CancelOn(shipmentFailed, neverHeld, voided),
				choreo.CancelOn(unavailable, nothingHeld, voided),
			},

			Retry:   choreo.Retry{Attempts: 3, First: 10 * time.Millisecond, Max: time.Second},
			Timeout: 2 * time.Second,
		},
		choreo.Tasks(4),
		choreo.Topic{Name: "orders", Partitions: 8, Config: map[string]string{"retention.ms": "604800000"}},
		choreo.Retention{Flow: 72 * time.Hour},
	)
}

// XML is a codec.
type XML struct{}

func (XML) ContentType() string                { return "application/xml" }
func (XML) Marshal(v any) ([]byte, error)      { return xml.Marshal(v) }
func (XML) Unmarshal(data []byte, v any) error { return xml.Unmarshal(data, v) }

type Invoice struct {
	Number string `xml:"number"`
}

var invoiced = choreo.Event[Invoice]{Type: "com.example.invoice.sent.v1", Topic: "invoices", Codec: XML{}}

// newInvoicing has a step that was renamed, that nothing undoes, and after which
// the flow only goes forward. The printer is often away, and has four hands.
func newInvoicing(send func(context.Context, Held) (Invoice, error)) *choreo.Service {
	return choreo.NewService("invoicing", choreo.Step[Held, Invoice]{
		Name: "send", Formerly: []string{"mail"}, Pivot: true,
		On: authorized, Do: send, Emit: invoiced,

		Timeout:       10 * time.Second,
		Breaker:       choreo.Breaker{Failures: 5, Of: 10, Open: 5 * time.Second},
		MaxConcurrent: 4,
	})
}
