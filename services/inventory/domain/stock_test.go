package domain

import (
	"context"
	"errors"
	"testing"
)

func order(sku string, quantity int) OrderPlaced {
	return OrderPlaced{OrderID: "o1", SKU: sku, Quantity: quantity}
}

func TestScarceArticles(t *testing.T) {
	s := Stock{DefaultScarce(), PaperWarehouse{}}
	for _, c := range []struct {
		sku      string
		quantity int
		there    bool
	}{{"book", 1_000_000, true}, {"lamp-0", 1, false}, {"vase-3", 3, true}, {"vase-3", 4, false}, {"lamp-0", 0, true}, {"", 1, true}} {
		got, err := s.Reserve(t.Context(), "k1", order(c.sku, c.quantity))
		if c.there {
			if err != nil || got.OrderID != "o1" || got.SKU != c.sku || got.Quantity != c.quantity || got.ReservationID == "" {
				t.Errorf("%d of %q: %+v, %v", c.quantity, c.sku, got, err)
			}
			continue
		}
		refusal, ok := errors.AsType[*OutOfStock](err)
		if want := (OutOfStock{c.sku, c.quantity, DefaultScarce()[c.sku]}); !ok || *refusal != want || got != (Reserved{}) {
			t.Errorf("%d of %q: %+v, %v", c.quantity, c.sku, got, err)
		}
	}
}

func TestReserveAgainIsTheSameReservation(t *testing.T) {
	s := Stock{Warehouse: PaperWarehouse{}}
	reserve := func(key string) string {
		got, err := s.Reserve(t.Context(), key, order("book", 1))
		if err != nil {
			t.Fatal(err)
		}
		return got.ReservationID
	}
	if first := reserve("k1"); first != reserve("k1") || first == reserve("k2") {
		t.Error("a reservation must be the same for the same key, and for no other")
	}
	if got, err := s.Release(t.Context(), "k1", order("book", 1), "snow"); err != nil || got != (Released{"o1", "snow"}) {
		t.Errorf("%+v, %v", got, err)
	}
}

type flooded struct{}

var errFlooded = errors.New("flooded")

func (flooded) SetAside(context.Context, string, string, int) (string, error) { return "", errFlooded }
func (flooded) PutBack(context.Context, string) error                         { return errFlooded }

func TestAFloodIsNoRefusal(t *testing.T) {
	s := Stock{Warehouse: flooded{}}
	_, reserve := s.Reserve(t.Context(), "k1", order("book", 1))
	_, release := s.Release(t.Context(), "k1", order("book", 1), "")
	for doing, err := range map[string]error{"reserve": reserve, "release": release} {
		if _, refused := errors.AsType[*OutOfStock](err); refused || !errors.Is(err, errFlooded) {
			t.Errorf("%s: %v", doing, err)
		}
	}
}
