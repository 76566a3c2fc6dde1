package domain

import (
	"context"
	"errors"
	"testing"
)

func TestShipServesItsArea(t *testing.T) {
	cases := []struct {
		country, postcode string
		served            bool
	}{
		{"DE", "10115", true}, {"DE", "27498", false}, {"DE", "2749", true}, {"AT", "6691", false}, {"AT", "1010", true},
		{"CH", "7562", false}, {"CH", "8001", true}, {"NL", "1012 AB", true}, {"FR", "75001", false}, {"", "", false}, {"DE", "", true},
	}
	for _, c := range cases {
		t.Run(c.country+"-"+c.postcode, func(t *testing.T) {
			s := Shipping{DefaultArea(), PaperCarrier{}}
			got, err := s.Ship(t.Context(), "k1", Ready{OrderID: "o1", Address: Address{Country: c.country, Postcode: c.postcode}})
			if c.served {
				if err != nil || got.OrderID != "o1" || got.ParcelID == "" {
					t.Errorf("%+v, %v", got, err)
				}
				return
			}
			refusal, ok := errors.AsType[*NotServed](err)
			if !ok || *refusal != (NotServed{c.country, c.postcode}) || got != (Shipped{}) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

func TestAreaWithSeveralGapsInACountry(t *testing.T) {
	a := Area{"DE": {"1", "27"}}
	for postcode, want := range map[string]bool{"10115": false, "27498": false, "20095": true} {
		if a.serves(Address{Country: "DE", Postcode: postcode}) != want {
			t.Errorf("%s is served: want %v", postcode, want)
		}
	}
}

func TestShipAgainIsTheSameParcel(t *testing.T) {
	s := Shipping{DefaultArea(), PaperCarrier{}}
	ship := func(key string) string {
		got, err := s.Ship(t.Context(), key, Ready{Address: Address{Country: "NL"}})
		if err != nil {
			t.Fatal(err)
		}
		return got.ParcelID
	}
	first, again, other := ship("k1"), ship("k1"), ship("k2")
	if first != again || first == other {
		t.Error("a parcel must be the same for the same key, and for no other")
	}
}

// Where no boat goes a parcel waits, and is not refused.
func TestTheIslandThatIsCutOff(t *testing.T) {
	s := Shipping{DefaultArea(), PaperCarrier{}}
	for _, c := range []struct {
		to    Address
		waits bool
	}{
		{Address{Country: "DE", Postcode: "25859"}, true},
		{Address{Country: "DE", Postcode: "25858"}, false},
		{Address{Country: "CH", Postcode: "25859"}, false},
	} {
		got, err := s.Ship(t.Context(), "k1", Ready{OrderID: "o1", Address: c.to})
		if _, refused := errors.AsType[*NotServed](err); (err != nil) != c.waits || refused || (got.ParcelID == "") != c.waits {
			t.Errorf("%+v: %+v, %v; waits should be %v", c.to, got, err, c.waits)
		}
	}
	if err := s.CallOff(t.Context(), "k1", Ready{OrderID: "o1"}); err != nil {
		t.Error(err)
	}
}

type onStrike struct{}

var errStrike = errors.New("on strike")

func (onStrike) PickUp(context.Context, string, string, Address) (string, error) {
	return "", errStrike
}
func (onStrike) CallOff(context.Context, string) error { return errStrike }

func TestStrikeIsNoRefusal(t *testing.T) {
	s := Shipping{DefaultArea(), onStrike{}}
	_, err := s.Ship(t.Context(), "k1", Ready{Address: Address{Country: "NL"}})
	if _, refused := errors.AsType[*NotServed](err); refused || !errors.Is(err, errStrike) {
		t.Error(err)
	}
}

func TestWhatIsReady(t *testing.T) {
	to := Address{Country: "NL"}
	if got := ReadyWhen(PaymentAuthorized{"o1", to}, StockReserved{"shelf-1"}); got != (Ready{"o1", to, "shelf-1"}) {
		t.Errorf("%+v", got)
	}
}
