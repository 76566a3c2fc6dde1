// Package domain is the shipping service's rules: what makes a parcel, where parcels
// go, and where not. It is plain Go and knows neither Kafka nor the runtime. Parcels
// themselves are the business of a [Carrier].
package domain

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// What the shipping service hears: its own view, only the fields that it needs.
type (
	// PaymentAuthorized says that the parcel is paid for.
	PaymentAuthorized struct {
		OrderID string  `json:"orderId"`
		Address Address `json:"address"`
	}
	// StockReserved says that what goes into it is set aside.
	StockReserved struct {
		ReservationID string `json:"reservationId"`
	}
	// NotPaid says that nobody pays for it.
	NotPaid struct {
		OrderID string `json:"orderId"`
		Reason  string `json:"reason"`
	}
	// StockRejected says that there is nothing to go into it.
	StockRejected struct {
		OrderID string `json:"orderId"`
		Reason  string `json:"reason"`
	}
	// OrderExpired asks not to ship any more what is not shipped yet.
	OrderExpired struct {
		OrderID string `json:"orderId"`
	}
)

// Ready is an order that can be shipped: it is paid for, and its goods are there.
type Ready struct {
	OrderID string
	Address Address
	Goods   string // the reservation under which they lie
}

// ReadyWhen both has happened.
func ReadyWhen(p PaymentAuthorized, s StockReserved) Ready {
	return Ready{OrderID: p.OrderID, Address: p.Address, Goods: s.ReservationID}
}

// Address is where a parcel goes.
type Address struct {
	Name     string `json:"name"`
	Street   string `json:"street"`
	Postcode string `json:"postcode"`
	City     string `json:"city"`
	Country  string `json:"country"`
}

// What the shipping service says.
type (
	// Shipped says that the parcel is on its way.
	Shipped struct {
		OrderID  string `json:"orderId"`
		ParcelID string `json:"parcelId"`
	}
	// ShipmentFailed says that nothing will be shipped.
	ShipmentFailed struct {
		OrderID string `json:"orderId"`
		Reason  string `json:"reason"`
	}
)

// Carrier brings parcels: it picks up the goods of a reservation. A key names one wish: however often it is repeated
// under its key, one parcel is picked up, and none once it was called off, also if
// the carrier had not heard of it.
type Carrier interface {
	PickUp(ctx context.Context, key, goods string, to Address) (parcelID string, err error)
	CallOff(ctx context.Context, key string) error
}

// Area is where a carrier goes: the postcodes that it does not serve, by the
// countries that it does.
type Area map[string][]string

// DefaultArea has gaps: an island without roads, and two villages that are
// reached only through a neighbouring country.
func DefaultArea() Area {
	return Area{"AT": {"6691"}, "CH": {"7562"}, "DE": {"27498"}, "NL": nil}
}

// serves reports whether parcels go there.
func (a Area) serves(to Address) bool {
	gaps, ok := a[to.Country]
	for _, prefix := range gaps {
		ok = ok && !strings.HasPrefix(to.Postcode, prefix)
	}
	return ok
}

// NotServed is the refusal of an address outside the area.
type NotServed struct{ Country, Postcode string }

func (e *NotServed) Error() string {
	return fmt.Sprintf("no parcels go to %s-%s", e.Country, e.Postcode)
}

// Shipping ships what is ready. It may be used by any number of goroutines
// if its Carrier may.
type Shipping struct {
	Area    Area
	Carrier Carrier
}

// Ship has the parcel picked up, or returns a [*NotServed].
func (s *Shipping) Ship(ctx context.Context, key string, r Ready) (Shipped, error) {
	if !s.Area.serves(r.Address) {
		return Shipped{}, &NotServed{r.Address.Country, r.Address.Postcode}
	}
	id, err := s.Carrier.PickUp(ctx, key, r.Goods, r.Address)
	if err != nil {
		return Shipped{}, fmt.Errorf("have the parcel of order %q picked up: %w", r.OrderID, err)
	}
	return Shipped{OrderID: r.OrderID, ParcelID: id}, nil
}

// CallOff sees to it that no parcel is picked up, when it is not known whether the
// carrier has heard the wish.
func (s *Shipping) CallOff(ctx context.Context, key string, r Ready) error {
	if err := s.Carrier.CallOff(ctx, key); err != nil {
		return fmt.Errorf("call the parcel of order %q off: %w", r.OrderID, err)
	}
	return nil
}

// PaperCarrier is a Carrier on paper, in the place of a parcel service. It
// derives parcel ids from keys, so it need not remember a wish to answer it
// the same again. To one island no boat goes for the time being, so what is to go
// there waits.
type PaperCarrier struct{}

// cutOff is that island's postcode. It is in the area: this is an outage, no refusal.
const cutOff = "25859"

// PickUp implements [Carrier].
func (PaperCarrier) PickUp(_ context.Context, key, _ string, to Address) (string, error) {
	if to.Country == "DE" && to.Postcode == cutOff {
		return "", errors.New("no boat goes there for the time being")
	}
	sum := sha256.Sum256([]byte(key))
	return "parcel-" + hex.EncodeToString(sum[:12]), nil
}

// CallOff implements [Carrier]. On paper nothing is on its way.
func (PaperCarrier) CallOff(context.Context, string) error { return nil }
