// Package domain is the payment service's rules: who may spend how much, and
// what is done with the money. It is plain Go and knows neither Kafka nor the
// runtime. Money itself is the business of a [Ledger].
package domain

import (
	"context"
	"fmt"
)

// Ledger holds and returns money. A key names one wish: however often it is
// repeated under its key, it is fulfilled once and answered the same.
type Ledger interface {
	// Hold reserves an amount of a customer's money.
	Hold(ctx context.Context, key, customer string, cents int64) (holdID string, err error)
	// Refund gives back what was held.
	Refund(ctx context.Context, key, holdID string) (refundID string, err error)
	// Void gives back what was held under the key of Hold, if anything was, and
	// sees to it that nothing will be.
	Void(ctx context.Context, holdKey string) error
}

// Payments authorizes and refunds payments. It may be used by any number of
// goroutines if its Ledger may.
type Payments struct{ Ledger Ledger }

// OverLimit is the refusal of an order above the customer's limit.
type OverLimit struct{ LimitCents int64 }

func (e *OverLimit) Error() string {
	return fmt.Sprintf("the amount is over the customer's limit of %d cents", e.LimitCents)
}

// limits of one order by the customer's tier, in cents.
var limits = map[string]int64{"standard": 50_000, "gold": 500_000}

// limit of a tier; a tier that is not known may spend as little as the
// strictest.
func limit(tier string) int64 {
	if cents, ok := limits[tier]; ok {
		return cents
	}
	return limits["standard"]
}

// Authorize holds the order's amount, or returns an [*OverLimit].
func (p *Payments) Authorize(ctx context.Context, key string, o OrderPlaced) (Authorized, error) {
	if l := limit(o.Tier); o.AmountCents > l {
		return Authorized{}, &OverLimit{l}
	}
	id, err := p.Ledger.Hold(ctx, key, o.Customer, o.AmountCents)
	if err != nil {
		return Authorized{}, fmt.Errorf("hold %d cents for order %q: %w", o.AmountCents, o.OrderID, err)
	}
	return Authorized{OrderID: o.OrderID, AuthorizationID: id, AmountCents: o.AmountCents, Address: o.Address}, nil
}

// Refund gives an authorized amount back.
func (p *Payments) Refund(ctx context.Context, key string, a Authorized, reason string) (Refunded, error) {
	id, err := p.Ledger.Refund(ctx, key, a.AuthorizationID)
	if err != nil {
		return Refunded{}, fmt.Errorf("refund authorization %q of order %q: %w", a.AuthorizationID, a.OrderID, err)
	}
	return Refunded{OrderID: a.OrderID, RefundID: id, AmountCents: a.AmountCents, Reason: reason}, nil
}

// Void undoes an authorization of which nobody knows whether it happened.
// holdKey is the key it had.
func (p *Payments) Void(ctx context.Context, holdKey string, o OrderPlaced) error {
	if err := p.Ledger.Void(ctx, holdKey); err != nil {
		return fmt.Errorf("void whatever is held for order %q: %w", o.OrderID, err)
	}
	return nil
}
