package service

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
	"github.com/choreography-go/choreography/services/shipping/domain"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDeclarationIsValid(t *testing.T) {
	if err := New(&domain.Shipping{}).Validate(); err != nil {
		t.Error(err)
	}
}

// van is a carrier that notes its keys, and whose first answers are lost.
type van struct {
	mu   sync.Mutex
	keys []string
	lost int
	off  []string // keys that were called off

	asked chan struct{} // has a value once the carrier was asked; nil: nobody wants to know
}

func (v *van) CallOff(_ context.Context, key string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.off = append(v.off, key)
	return nil
}

func (v *van) PickUp(ctx context.Context, key, goods string, to domain.Address) (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.keys = append(v.keys, key)
	select {
	case v.asked <- struct{}{}:
	default:
	}
	if len(v.keys) <= v.lost {
		return "", errors.New("connection reset")
	}
	return domain.PaperCarrier{}.PickUp(ctx, key, goods, to)
}

func paid(country string) domain.PaymentAuthorized {
	return domain.PaymentAuthorized{OrderID: "o1", Address: domain.Address{Postcode: "1010", Country: country}}
}

var inStock = reserved.New(domain.StockReserved{ReservationID: "shelf-1"})

func TestReadyOrderIsShippedOnce(t *testing.T) {
	v := &van{lost: 2}
	s := choreotest.Start(t, New(&domain.Shipping{Area: domain.DefaultArea(), Carrier: v}))
	authorization := s.Record("o1", authorized.New(paid("AT")))
	s.PublishRecord(authorization)
	s.ExpectJoin("o1", "ship", choreotest.JoinWaiting)
	if len(v.keys) != 0 {
		t.Error("the carrier was asked for what is not in stock")
	}
	s.Publish("o1", inStock)
	got := s.ExpectTypes("o1", shipped.Type)
	s.PublishRecord(authorization)
	s.ExpectNothingMore("o1")
	parcel, err := domain.PaperCarrier{}.PickUp(t.Context(), v.keys[0], "shelf-1", domain.Address{})
	if want := (domain.Shipped{OrderID: "o1", ParcelID: parcel}); err != nil || len(got) != 1 || got[0].Data != want {
		t.Errorf("said %+v, want %+v", got, want)
	}
	if len(v.keys) != 3 || v.keys[0] != v.keys[1] || v.keys[1] != v.keys[2] {
		t.Errorf("keys %q, want the same three times", v.keys)
	}
}

func TestAddressThatIsNotServed(t *testing.T) {
	v := &van{}
	s := choreotest.Start(t, New(&domain.Shipping{Area: domain.DefaultArea(), Carrier: v}))
	s.Publish("o1", inStock)
	s.Publish("o1", authorized.New(paid("FR")))
	s.Expect("o1", shipmentFailed.New(domain.ShipmentFailed{OrderID: "o1", Reason: "no parcels go to FR-1010"}))
	s.ExpectNothingMore("o1")
	if len(v.keys) != 0 {
		t.Errorf("the carrier was asked: %q", v.keys)
	}
}

// What expires before it is paid for is never shipped, and what is shipped is
// not called back.
func TestAnExpiryIsDecided(t *testing.T) {
	v := &van{}
	s := choreotest.Start(t, New(&domain.Shipping{Area: domain.DefaultArea(), Carrier: v}))
	failed := shipmentFailed.New(domain.ShipmentFailed{OrderID: "o1", Reason: "not shipped in time"})
	s.Publish("o1", orderExpired.New(domain.OrderExpired{OrderID: "o1"}))
	s.Expect("o1", failed)
	s.Publish("o1", authorized.New(paid("AT")))
	s.Publish("o1", inStock)
	s.ExpectNothingMore("o1")
	s.Publish("o2", authorized.New(paid("AT")))
	s.Publish("o2", inStock)
	s.ExpectTypes("o2", shipped.Type)
	s.Publish("o2", orderExpired.New(domain.OrderExpired{OrderID: "o2"}))
	s.ExpectNothingMore("o2")
	s.Publish("o3", inStock)
	s.Publish("o3", authorized.New(paid("FR")))
	s.ExpectTypes("o3", shipmentFailed.Type)
	s.Publish("o3", orderExpired.New(domain.OrderExpired{OrderID: "o3"}))
	s.ExpectNothingMore("o3")
	if len(v.keys) != 1 {
		t.Errorf("the carrier was asked %d times", len(v.keys))
	}
}

// An order that expires while the carrier does not answer may be with it: it is
// called off before anybody is told that it is not shipped.
func TestAnExpiryWhileTheCarrierDoesNotAnswer(t *testing.T) {
	v := &van{lost: 1 << 30, asked: make(chan struct{}, 1)}
	s := choreotest.Start(t, New(&domain.Shipping{Area: domain.DefaultArea(), Carrier: v}))
	s.Publish("o1", authorized.New(paid("AT")))
	s.Publish("o1", inStock)
	<-v.asked
	s.Publish("o1", orderExpired.New(domain.OrderExpired{OrderID: "o1"}))
	s.Expect("o1", shipmentFailed.New(domain.ShipmentFailed{OrderID: "o1", Reason: "not shipped in time"}))
	s.ExpectNothingMore("o1")
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.off) == 0 || v.off[0] != v.keys[0] {
		t.Errorf("called off are %q, asked for were %q", v.off, v.keys)
	}
}

// What ends one of the halves ends the shipment, before or after the other has come,
// and once.
func TestAnOrderThatCannotBeReady(t *testing.T) {
	for name, c := range map[string]struct {
		half, end choreo.Emission
		reason    string
	}{
		"out of stock":        {authorized.New(paid("AT")), rejected.New(domain.StockRejected{OrderID: "o1", Reason: "sold out"}), "sold out"},
		"declined":            {inStock, declined.New(domain.NotPaid{OrderID: "o1", Reason: "over the limit"}), "over the limit"},
		"payment unavailable": {inStock, unavailable.New(domain.NotPaid{OrderID: "o1", Reason: "away"}), "away"},
	} {
		for _, first := range []string{"the half first", "the end first"} {
			t.Run(name+", "+first, func(t *testing.T) {
				v := &van{}
				s := choreotest.Start(t, New(&domain.Shipping{Area: domain.DefaultArea(), Carrier: v}))
				said := []choreo.Emission{c.half, c.end}
				if first == "the end first" {
					said[0], said[1] = said[1], said[0]
				}
				for _, e := range said {
					s.Publish("o1", e)
				}
				s.Expect("o1", shipmentFailed.New(domain.ShipmentFailed{OrderID: "o1", Reason: c.reason}))
				s.Publish("o1", orderExpired.New(domain.OrderExpired{OrderID: "o1"}))
				s.ExpectNothingMore("o1")
				if len(v.keys) != 0 {
					t.Errorf("the carrier was asked: %q", v.keys)
				}
			})
		}
	}
}
