// Package domain is the inventory service's rules: what an order may have of an
// article. It is plain Go and knows neither Kafka nor the runtime. The goods
// themselves are the business of a [Warehouse].
package domain

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// What the inventory service hears: its own view, only the fields that it needs.
type (
	// OrderPlaced says that somebody wants goods.
	OrderPlaced struct {
		OrderID  string `json:"orderId"`
		SKU      string `json:"sku"`
		Quantity int    `json:"quantity"`
	}
	// ShipmentFailed says that they will not be shipped.
	ShipmentFailed struct {
		OrderID string `json:"orderId"`
		Reason  string `json:"reason"`
	}
)

// What the inventory service says.
type (
	// Reserved says that the goods are set aside for the order.
	Reserved struct {
		OrderID       string `json:"orderId"`
		ReservationID string `json:"reservationId"`
		SKU           string `json:"sku"`
		Quantity      int    `json:"quantity"`
	}
	// Rejected says that there are not as many.
	Rejected struct {
		OrderID string `json:"orderId"`
		SKU     string `json:"sku"`
		Reason  string `json:"reason"`
	}
	// Released says that nothing is set aside for the order, nor will be.
	Released struct {
		OrderID string `json:"orderId"`
		Reason  string `json:"reason"`
	}
)

// Warehouse keeps goods. A key names one wish: however often it is repeated
// under its key, goods are set aside once, and none once they were put back, also
// if the warehouse had not heard of it.
type Warehouse interface {
	SetAside(ctx context.Context, key, sku string, quantity int) (reservationID string, err error)
	PutBack(ctx context.Context, key string) error
}

// Scarce is how many pieces of an article an order may have at most. Of all others
// there are plenty.
type Scarce map[string]int

// DefaultScarce has an article that is sold out, and one of which few are left.
func DefaultScarce() Scarce { return Scarce{"lamp-0": 0, "vase-3": 3} }

// OutOfStock is the refusal of an order for more than there is.
type OutOfStock struct {
	SKU          string
	Wanted, Left int // pieces
}

func (e *OutOfStock) Error() string {
	return fmt.Sprintf("of %s there are %d, not %d", e.SKU, e.Left, e.Wanted)
}

// Stock sets goods aside. It may be used by any number of goroutines if its
// Warehouse may.
type Stock struct {
	Scarce    Scarce
	Warehouse Warehouse
}

// Reserve sets the order's goods aside, or returns an [*OutOfStock].
func (s *Stock) Reserve(ctx context.Context, key string, o OrderPlaced) (Reserved, error) {
	if left, scarce := s.Scarce[o.SKU]; scarce && o.Quantity > left {
		return Reserved{}, &OutOfStock{o.SKU, o.Quantity, left}
	}
	id, err := s.Warehouse.SetAside(ctx, key, o.SKU, o.Quantity)
	if err != nil {
		return Reserved{}, fmt.Errorf("set %d of %q aside for order %q: %w", o.Quantity, o.SKU, o.OrderID, err)
	}
	return Reserved{OrderID: o.OrderID, ReservationID: id, SKU: o.SKU, Quantity: o.Quantity}, nil
}

// Release puts back what was set aside under a key, if anything was.
func (s *Stock) Release(ctx context.Context, key string, o OrderPlaced, reason string) (Released, error) {
	if err := s.Warehouse.PutBack(ctx, key); err != nil {
		return Released{}, fmt.Errorf("put the goods of order %q back: %w", o.OrderID, err)
	}
	return Released{OrderID: o.OrderID, Reason: reason}, nil
}

// PaperWarehouse is a Warehouse on paper, in the place of shelves. It derives
// reservation ids from keys, so it need not remember a wish to answer it the same
// again.
type PaperWarehouse struct{}

// SetAside implements [Warehouse].
func (PaperWarehouse) SetAside(_ context.Context, key, _ string, _ int) (string, error) {
	sum := sha256.Sum256([]byte(key))
	return "shelf-" + hex.EncodeToString(sum[:12]), nil
}

// PutBack implements [Warehouse]. On paper nothing was moved.
func (PaperWarehouse) PutBack(context.Context, string) error { return nil }
