package domain

import (
	"context"
	"errors"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

func placed(tier string, cents int64) OrderPlaced {
	return OrderPlaced{OrderID: "o1", Customer: "ada", Tier: tier, AmountCents: cents, Address: Address{City: "Berlin", Country: "DE"}}
}

func TestAuthorizeUpToTheLimitOfTheTier(t *testing.T) {
	cases := []struct {
		tier  string
		cents int64
		limit int64 // of the refusal; 0: authorized
	}{
		{"standard", 1, 0}, {"standard", 50_000, 0}, {"standard", 50_001, 50_000},
		{"gold", 50_001, 0}, {"gold", 500_000, 0}, {"gold", 500_001, 500_000},
		{"platinum", 50_000, 0}, {"platinum", 50_001, 50_000}, {"", 50_001, 50_000},
	}
	for _, c := range cases {
		t.Run(c.tier+" "+strconv.FormatInt(c.cents, 10), func(t *testing.T) {
			var ledger MemoryLedger
			p := Payments{&ledger}
			a, err := p.Authorize(t.Context(), "k1", placed(c.tier, c.cents))
			if c.limit == 0 {
				want := Authorized{OrderID: "o1", AuthorizationID: a.AuthorizationID, AmountCents: c.cents, Address: Address{City: "Berlin", Country: "DE"}}
				if err != nil || a != want || a.AuthorizationID == "" || ledger.Held("ada") != c.cents {
					t.Fatalf("%+v, %v, held %d; want %+v", a, err, ledger.Held("ada"), want)
				}
				return
			}
			over, ok := errors.AsType[*OverLimit](err)
			if !ok || over.LimitCents != c.limit || ledger.Held("ada") != 0 {
				t.Fatalf("%v, held %d; want a refusal over %d", err, ledger.Held("ada"), c.limit)
			}
		})
	}
}

func TestRefundGivesBackWhatWasAuthorized(t *testing.T) {
	var ledger MemoryLedger
	p := Payments{&ledger}
	a, err := p.Authorize(t.Context(), "k1", placed("gold", 700))
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.Refund(t.Context(), "k2", a, "not served")
	want := Refunded{OrderID: "o1", RefundID: r.RefundID, AmountCents: 700, Reason: "not served"}
	if err != nil || r != want || r.RefundID == "" || ledger.Held("ada") != 0 {
		t.Errorf("%+v, %v, held %d; want %+v", r, err, ledger.Held("ada"), want)
	}
}

func TestVoidGivesBackWhatMayBeHeld(t *testing.T) {
	for _, held := range []bool{true, false} {
		var ledger MemoryLedger
		p := Payments{&ledger}
		if held {
			if _, err := p.Authorize(t.Context(), "k1", placed("gold", 700)); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.Void(t.Context(), "k1", placed("gold", 700)); err != nil {
			t.Fatal(err)
		}
		_, err := p.Authorize(t.Context(), "k1", placed("gold", 700))
		if !errors.Is(err, ErrVoided) || ledger.Held("ada") != 0 {
			t.Errorf("held before %v: authorized after void: %v, held %d", held, err, ledger.Held("ada"))
		}
	}
}

// away is a ledger that cannot be reached.
type away struct{}

var errAway = errors.New("no route to the bank")

func (away) Hold(context.Context, string, string, int64) (string, error) { return "", errAway }
func (away) Refund(context.Context, string, string) (string, error)      { return "", errAway }
func (away) Void(context.Context, string) error                          { return errAway }

func TestOutageIsNoRefusal(t *testing.T) {
	p := Payments{away{}}
	_, authorize := p.Authorize(t.Context(), "k1", placed("gold", 700))
	_, refund := p.Refund(t.Context(), "k2", Authorized{}, "")
	for doing, err := range map[string]error{"authorize": authorize, "refund": refund, "void": p.Void(t.Context(), "k1", placed("gold", 700))} {
		if _, refused := errors.AsType[*OverLimit](err); refused || !errors.Is(err, errAway) {
			t.Errorf("%s: %v", doing, err)
		}
	}
}

// A key names one wish: repeated in any order, it is fulfilled once and
// answered the same, also by a ledger that has forgotten it.
func TestLedgerFulfilsAWishOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var l MemoryLedger
		ctx := context.Background()
		holds, refunds := map[string]string{}, map[string]string{}
		released := map[string]bool{}
		for range rapid.IntRange(1, 40).Draw(t, "wishes") {
			key := "k" + strconv.Itoa(rapid.IntRange(0, 4).Draw(t, "key"))
			id, err := l.Hold(ctx, key, "ada", int64(len(key))*100)
			if first, again := holds[key]; err != nil || again && first != id {
				t.Fatalf("hold %s: %s, %v; first %s", key, id, err, first)
			}
			holds[key] = id
			if rapid.Bool().Draw(t, "refund") {
				r, err := l.Refund(ctx, "undo "+key, id)
				if first, again := refunds[key]; err != nil || again && first != r {
					t.Fatalf("refund %s: %s, %v; first %s", key, r, err, first)
				}
				refunds[key], released[key] = r, true
			}
			if want := int64(len(holds)-len(released)) * 200; l.Held("ada") != want {
				t.Fatalf("held %d, want %d", l.Held("ada"), want)
			}
			var restarted MemoryLedger
			if again, _ := restarted.Hold(ctx, key, "ada", 200); again != id {
				t.Fatalf("another ledger holds %s as %s, not %s", key, again, id)
			}
		}
	})
}

func TestLedgerRefusesAnotherHoldUnderAKey(t *testing.T) {
	var l MemoryLedger
	if _, err := l.Hold(t.Context(), "k1", "ada", 100); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Hold(t.Context(), "k1", "ada", 101); err == nil {
		t.Error("another amount was held under the same key")
	}
}

func TestLedgerForgetsTheOldest(t *testing.T) {
	var l MemoryLedger
	for i := range maxEntries + 10 {
		if _, err := l.Hold(t.Context(), strconv.Itoa(i), "ada", 1); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.entries) != maxEntries || l.Held("ada") != maxEntries {
		t.Errorf("%d entries, want %d", len(l.entries), maxEntries)
	}
	for i, want := range map[int]bool{9: false, 10: true, maxEntries + 9: true} {
		if got := l.entries[entryID("hold", strconv.Itoa(i))] != nil; got != want {
			t.Errorf("entry %d is known: %v, want %v", i, got, want)
		}
	}
}
