package service

import (
	"context"
	"errors"
	"sync"
	"testing"

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
}

func (v *van) PickUp(ctx context.Context, key string, to domain.Address) (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.keys = append(v.keys, key)
	if len(v.keys) <= v.lost {
		return "", errors.New("connection reset")
	}
	return domain.PaperCarrier{}.PickUp(ctx, key, to)
}

func paid(country string) domain.PaymentAuthorized {
	return domain.PaymentAuthorized{OrderID: "o1", Address: domain.Address{Postcode: "1010", Country: country}}
}

func TestPaidOrderIsShippedOnce(t *testing.T) {
	v := &van{lost: 2}
	s := choreotest.Start(t, New(&domain.Shipping{Area: domain.DefaultArea(), Carrier: v}))
	authorization := s.Record("o1", authorized.New(paid("AT")))
	s.PublishRecord(authorization)
	got := s.ExpectTypes("o1", shipped.Type)
	s.PublishRecord(authorization)
	s.ExpectNothingMore("o1")
	parcel, err := domain.PaperCarrier{}.PickUp(t.Context(), v.keys[0], domain.Address{})
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
	s.Publish("o1", authorized.New(paid("FR")))
	s.Expect("o1", shipmentFailed.New(domain.ShipmentFailed{OrderID: "o1", Reason: "no parcels go to FR-1010"}))
	s.ExpectNothingMore("o1")
	if len(v.keys) != 0 {
		t.Errorf("the carrier was asked: %q", v.keys)
	}
}
