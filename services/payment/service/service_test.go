package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
	"github.com/choreography-go/choreography/services/payment/domain"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDeclarationIsValid(t *testing.T) {
	if err := New(&domain.Payments{}).Validate(); err != nil {
		t.Error(err)
	}
}

var address = domain.Address{Name: "Ada L.", City: "Berlin", Country: "DE"}

func order(id, tier string, cents int64) domain.OrderPlaced {
	return domain.OrderPlaced{OrderID: id, Customer: "ada", Tier: tier, AmountCents: cents, Address: address}
}

// bank is a ledger that notes which keys it was given, and that can be away.
type bank struct {
	domain.MemoryLedger
	mu   sync.Mutex
	keys map[string][]string // by wish, with repetitions
	// away makes a wish fail, after it was fulfilled; attempt counts those under its
	// key.
	away func(wish, key string, attempt int) error
}

func (b *bank) note(wish, key string) error {
	b.mu.Lock()
	if b.keys == nil {
		b.keys = map[string][]string{}
	}
	b.keys[wish] = append(b.keys[wish], key)
	attempt := 0
	for _, k := range b.keys[wish] {
		if k == key {
			attempt++
		}
	}
	b.mu.Unlock()
	if b.away == nil {
		return nil
	}
	return b.away(wish, key, attempt)
}

func (b *bank) Hold(ctx context.Context, key, customer string, cents int64) (string, error) {
	id, err := b.MemoryLedger.Hold(ctx, key, customer, cents)
	return id, errors.Join(err, b.note("hold", key))
}

func (b *bank) Refund(ctx context.Context, key, holdID string) (string, error) {
	id, err := b.MemoryLedger.Refund(ctx, key, holdID)
	return id, errors.Join(err, b.note("refund", key))
}

func (b *bank) Void(ctx context.Context, key string) error {
	return errors.Join(b.MemoryLedger.Void(ctx, key), b.note("void", key))
}

// start runs the service with retries that do not make the test wait.
func start(t *testing.T, b *bank) *choreotest.Service {
	return choreotest.Start(t, New(&domain.Payments{Ledger: b}))
}

// said returns the payload of the one event of that type that is said next.
func said[T any](t *testing.T, s *choreotest.Service, flow string, e choreo.Event[T]) T {
	t.Helper()
	var v T
	all := s.ExpectTypes(flow, e.Type)
	if len(all) != 1 {
		t.FailNow()
	}
	v, ok := all[0].Data.(T)
	if !ok {
		t.Fatalf("%s carries %T", e.Type, all[0].Data)
	}
	return v
}

func TestPaymentIsAuthorized(t *testing.T) {
	var b bank
	s := start(t, &b)
	s.Publish("o1", orderPlaced.New(order("o1", "gold", 60_000)))
	got := said(t, s, "o1", authorized)
	if want := (domain.Authorized{OrderID: "o1", AuthorizationID: got.AuthorizationID, AmountCents: 60_000, Address: address}); got != want || got.AuthorizationID == "" {
		t.Errorf("%+v, want %+v", got, want)
	}
	s.ExpectNothingMore("o1")
}

func TestPaymentIsDeclinedOverTheLimit(t *testing.T) {
	var b bank
	s := start(t, &b)
	s.Publish("o1", orderPlaced.New(order("o1", "standard", 60_000)))
	s.Expect("o1", declined.New(domain.Declined{OrderID: "o1", Reason: "the amount is over the customer's limit of 50000 cents", LimitCents: 50_000}))
	s.ExpectNothingMore("o1")
	if len(b.keys) != 0 {
		t.Errorf("the ledger was asked: %v", b.keys)
	}
}

func TestPaymentIsRefundedOnceWhenTheShipmentFailed(t *testing.T) {
	var b bank
	s := start(t, &b)
	s.Publish("o1", orderPlaced.New(order("o1", "standard", 700)))
	said(t, s, "o1", authorized)
	failure := shipmentFailed.New(domain.ShipmentFailed{OrderID: "o1", Reason: "not served"})
	again := s.Record("o1", failure)
	s.PublishRecord(again)
	got := said(t, s, "o1", refunded)
	if want := (domain.Refunded{OrderID: "o1", RefundID: got.RefundID, AmountCents: 700, Reason: "not served"}); got != want || got.RefundID == "" {
		t.Errorf("%+v, want %+v", got, want)
	}
	s.PublishRecord(again)
	s.Publish("o1", failure) // another event that says the same
	s.ExpectNothingMore("o1")
	if b.Held("ada") != 0 || len(b.keys["refund"]) != 1 || b.keys["refund"][0] == b.keys["hold"][0] {
		t.Errorf("held %d, keys %v", b.Held("ada"), b.keys)
	}
}

func TestPaymentNeverHappensAfterItsShipmentFailed(t *testing.T) {
	var b bank
	s := start(t, &b)
	s.Publish("o1", shipmentFailed.New(domain.ShipmentFailed{OrderID: "o1", Reason: "not served"}))
	s.Expect("o1", voided.New(domain.Voided{OrderID: "o1", Reason: "not served"}))
	s.Publish("o1", orderPlaced.New(order("o1", "standard", 700)))
	s.ExpectNothingMore("o1")
	// Only to make sure that an attempt which nobody remembers held nothing.
	if len(b.keys["hold"]) != 0 || len(b.keys["refund"]) != 0 || len(b.keys["void"]) != 1 {
		t.Errorf("the ledger was asked: %v", b.keys)
	}
}

// An answer is lost, and the wish repeated: under one key, so money is held
// once.
func TestPaymentIsRepeatedUnderOneKey(t *testing.T) {
	b := bank{away: func(_, _ string, attempt int) error {
		if attempt < 3 {
			return errors.New("connection reset")
		}
		return nil
	}}
	s := start(t, &b)
	s.Publish("o1", orderPlaced.New(order("o1", "standard", 700)))
	said(t, s, "o1", authorized)
	s.ExpectNothingMore("o1")
	if k := b.keys["hold"]; b.Held("ada") != 700 || len(k) != 3 || k[0] != k[1] || k[1] != k[2] {
		t.Errorf("held %d, keys %v", b.Held("ada"), b.keys)
	}
}

// The ledger fulfils wishes of one order, but its answers do not come, while
// others are answered. Nobody knows then whether money is held, so it is found out
// by the key before the order is given up; an outage is no refusal.
func TestPaymentThatIsGivenUpHoldsNothing(t *testing.T) {
	failing := make(chan string, 1) // its key
	ask, others := make(chan struct{}, 100), make(chan struct{}, 100)
	b := bank{away: func(wish, key string, attempt int) error {
		switch first := <-failing; {
		case wish == "void" && attempt > 1:
			failing <- first
			return nil
		case wish == "hold" && first != "" && first != key:
			failing <- first
			others <- struct{}{}
			return nil
		}
		failing <- key
		if wish == "hold" {
			ask <- struct{}{}
			<-others
		}
		return errors.New("connection reset")
	}}
	failing <- ""
	s := start(t, &b)
	s.Publish("o1", orderPlaced.New(order("o1", "standard", 700)))
	for n := range attempts {
		<-ask
		s.Publish(fmt.Sprint("other", n), orderPlaced.New(order(fmt.Sprint("other", n), "standard", 1)))
	}
	s.Expect("o1",
		unavailable.New(domain.Unavailable{OrderID: "o1", Reason: "payment unavailable"}),
		voided.New(domain.Voided{OrderID: "o1", Reason: "payment unavailable"}))
	s.ExpectNothingMore("o1")
	hold, void := b.keys["hold"], b.keys["void"]
	if b.Held("ada") != attempts || len(hold) != 2*attempts || len(void) != 2 || void[0] != hold[0] || void[1] != hold[0] {
		t.Errorf("held %d, keys %v", b.Held("ada"), b.keys)
	}
}
