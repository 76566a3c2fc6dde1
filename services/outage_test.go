//go:build synctests

package services_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
	inventorydomain "github.com/choreography-go/choreography/services/inventory/domain"
	inventory "github.com/choreography-go/choreography/services/inventory/service"
	order "github.com/choreography-go/choreography/services/order/service"
	paymentdomain "github.com/choreography-go/choreography/services/payment/domain"
	shippingdomain "github.com/choreography-go/choreography/services/shipping/domain"
	shipping "github.com/choreography-go/choreography/services/shipping/service"
)

// bank is a ledger that outlives every instance, and that cannot be reached at
// times: wishes are not heard, or their answers are lost.
type bank struct {
	paymentdomain.MemoryLedger
	away func(call int, after time.Duration) bool

	mu    sync.Mutex
	began time.Time // of the run: when it was first asked
	all   int       // calls
	calls int       // while it is away
}

var errAway = errors.New("connection refused")

// call calls the bank if it can be reached, or if only the answer is lost.
func (b *bank) call(do func() error) error {
	b.mu.Lock()
	if b.began.IsZero() {
		b.began = time.Now()
	}
	b.all++
	away := b.away(b.all, time.Since(b.began))
	if away {
		b.calls++
	}
	lost := away && b.calls%2 == 0
	b.mu.Unlock()
	if away && !lost {
		return errAway
	}
	if err := do(); err != nil || !lost {
		return err
	}
	return errAway
}

func (b *bank) Hold(ctx context.Context, key, customer string, cents int64) (id string, err error) {
	return id, b.call(func() error { id, err = b.MemoryLedger.Hold(ctx, key, customer, cents); return err })
}

func (b *bank) Refund(ctx context.Context, key, holdID string) (id string, err error) {
	return id, b.call(func() error { id, err = b.MemoryLedger.Refund(ctx, key, holdID); return err })
}

func (b *bank) Void(ctx context.Context, holdKey string) error {
	return b.call(func() error { return b.MemoryLedger.Void(ctx, holdKey) })
}

// TestSimulateABankThatIsAway places orders while the payment provider is away for
// ten minutes and payment's instances are killed, moved and joined by others. No
// customer is declined by it: every order is paid and shipped when it is back, before
// the patience of the order service is over.
func TestSimulateABankThatIsAway(t *testing.T) {
	outage(t, 20, 2000, func(_ int, after time.Duration) bool {
		return after > 30*time.Second && after < 10*time.Minute+30*time.Second
	})
}

// TestSimulateABankThatFailsOften is the same with a provider of which three in ten
// calls fail, all the time.
func TestSimulateABankThatFailsOften(t *testing.T) {
	outage(t, 15, 2000, func(call int, _ time.Duration) bool { return call*7%10 < 3 })
}

// outage runs orders of which every one is to be paid, while the bank is away at
// times. It must be called so often while it is.
func outage(t *testing.T, least, limit int, away func(call int, after time.Duration) bool) {
	var ledger *bank
	var warehouse *shelves
	most := 0
	choreotest.Simulate(t,
		[]choreotest.Simulated{
			orders(order.Patience),
			payments(func() paymentdomain.Ledger { return ledger }),
			{New: func() *choreo.Service {
				return inventory.New(&inventorydomain.Stock{Scarce: inventorydomain.DefaultScarce(), Warehouse: warehouse})
			}},
			{New: func() *choreo.Service {
				return shipping.New(&shippingdomain.Shipping{Area: shippingdomain.DefaultArea(), Carrier: newRoads()})
			}},
		},
		choreotest.Workload{Flows: 60, Begin: buy},
		[]choreotest.Invariant{
			{Name: "every order is paid once, and confirmed", Check: func(f choreotest.Flow) error {
				if f.Count(authorized) != 1 || f.Count(confirmed) != 1 || f.Has(cancelled) || f.Has(voided) || f.Has(refunded) {
					return fmt.Errorf("it is authorized %d times and confirmed %d times, cancelled %d, voided %d and refunded %d times",
						f.Count(authorized), f.Count(confirmed), f.Count(cancelled), f.Count(voided), f.Count(refunded))
				}
				return nil
			}},
			{Name: "what is held is what was ordered", Check: func(choreotest.Flow) error {
				if cents := ledger.Held("c-0") + ledger.Held("c-1") + ledger.Held("c-2"); cents != 60*1999 {
					return fmt.Errorf("%d cents are held", cents)
				}
				most = max(most, ledger.calls)
				return nil
			}},
		},
		choreotest.Options{
			For: 11 * time.Minute, FaultEvery: 20 * time.Second,
			Faults: []choreotest.FaultKind{choreotest.Kills, choreotest.Joins, choreotest.Leaves, choreotest.Cuts, choreotest.LeaderMoves},
			Reset:  func() { ledger, warehouse = &bank{away: away}, newShelves() },
		},
	)
	if most < least || most > limit {
		t.Errorf("at most %d calls were made while it was away", most)
	}
	t.Logf("at most %d calls were made while it was away", most)
}

// buy places an order that nothing is wrong with, until it is answered.
func buy(w *choreotest.World, flow string) error {
	var number int
	if _, err := fmt.Sscanf(flow, "flow-%d", &number); err != nil {
		return err
	}
	body := fmt.Appendf(nil, `{"customer":"c-%d","tier":"standard","sku":"book","quantity":1,"amountCents":1999,
		"address":{"name":%q,"street":"Road 1","postcode":"10115","city":"Town","country":"DE"}}`, number%3, flow)
	var last error
	for range 60 {
		id, err := post(w, w.HTTP("order"), flow, body)
		if err == nil {
			w.Began(id)
			return nil
		}
		last = err
		if err := w.Sleep(5 * time.Second); err != nil {
			return err
		}
	}
	return fmt.Errorf("place order %s: %w", flow, last)
}
