//go:build synctests

package services_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
	inventorydomain "github.com/choreography-go/choreography/services/inventory/domain"
	inventory "github.com/choreography-go/choreography/services/inventory/service"
	order "github.com/choreography-go/choreography/services/order/service"
	paymentdomain "github.com/choreography-go/choreography/services/payment/domain"
	payment "github.com/choreography-go/choreography/services/payment/service"
	shippingdomain "github.com/choreography-go/choreography/services/shipping/domain"
	shipping "github.com/choreography-go/choreography/services/shipping/service"
)

const (
	placed     = "com.example.order.placed.v1"
	authorized = "com.example.payment.authorized.v1"
	refunded   = "com.example.payment.refunded.v1"
	reserved   = "com.example.stock.reserved.v1"
	rejected   = "com.example.stock.rejected.v1"
	released   = "com.example.stock.released.v1"
	shipped    = "com.example.shipment.shipped.v1"
	failed     = "com.example.shipment.failed.v1"
	voided     = "com.example.payment.voided.v1"
	confirmed  = "com.example.order.confirmed.v1"
	expired    = "com.example.order.expired.v1"
	cancelled  = "com.example.order.cancelled.v1"
)

// roads is a carrier that outlives every instance, and whose answers are often
// lost, for some orders longer than they may take.
type roads struct {
	mu     sync.Mutex
	asked  map[string]int    // by key
	parcel map[string]bool   // by key: on its way; false: called off
	names  map[string]string // of the customers, by key
}

func newRoads() *roads {
	return &roads{asked: map[string]int{}, parcel: map[string]bool{}, names: map[string]string{}}
}

func (r *roads) PickUp(_ context.Context, key, _ string, to shippingdomain.Address) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked[key]++
	r.names[key] = to.Name
	if rides, known := r.parcel[key]; known && !rides {
		return "", errors.New("it was called off")
	}
	r.parcel[key] = true
	if lost := strings.Count(to.Street, "?"); r.asked[key] <= lost*lost*lost {
		return "", errors.New("the answer is lost")
	}
	return "parcel " + key, nil
}

func (r *roads) CallOff(_ context.Context, key string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.parcel[key] = false
	return nil
}

// rides is how many parcels are on their way to a customer.
func (r *roads) rides(name string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, rides := range r.parcel {
		if rides && r.names[key] == name {
			n++
		}
	}
	return n
}

// shelves is a warehouse that outlives every instance, and whose answers are often
// lost.
type shelves struct {
	mu     sync.Mutex
	asked  map[string]int
	aside  map[string]int    // pieces by key; 0: put back
	orders map[string]string // keys by orders, as far as they were told
}

func newShelves() *shelves {
	return &shelves{asked: map[string]int{}, aside: map[string]int{}, orders: map[string]string{}}
}

// label tells for which order a key is.
func (s *shelves) label(order, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.orders[order] = key
}

// holdsFor reports whether goods are set aside for an order.
func (s *shelves) holdsFor(order string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.aside[s.orders[order]] > 0
}

func (s *shelves) SetAside(_ context.Context, key, _ string, quantity int) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked[key]++
	if pieces, known := s.aside[key]; known && pieces == 0 {
		return "", errors.New("it was put back")
	}
	s.aside[key] = quantity
	if quantity == 3 && s.asked[key] < 5 {
		return "", errors.New("the answer is lost")
	}
	return key, nil
}

func (s *shelves) PutBack(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aside[key] = 0
	return nil
}

// holds reports whether goods are set aside under a reservation.
func (s *shelves) holds(reservation string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.aside[reservation] > 0
}

// orders is the order service, which is asked over HTTP.
func orders(patience time.Duration) choreotest.Simulated {
	return choreotest.Simulated{New: func() *choreo.Service {
		svc, h := order.New(patience)
		svc.Add(choreo.HTTP{Addr: ":8080", Handler: h})
		return svc
	}}
}

// payments is the payment service with the ledger of the run.
func payments(ledger func() paymentdomain.Ledger) choreotest.Simulated {
	return choreotest.Simulated{New: func() *choreo.Service { return payment.New(&paymentdomain.Payments{Ledger: ledger()}) }}
}

// TestSimulate runs the four services under all faults. Orders are placed over
// HTTP; some are over the customer's limit, go where no parcels go, or are for more
// than there is, and for others carrier and warehouse do not answer. An order may
// take a minute, which many do not end in.
func TestSimulate(t *testing.T) {
	var ledger *paymentdomain.MemoryLedger // the payment provider, which outlives every instance
	var carrier *roads
	var warehouse *shelves
	expiries, short := 0, 0 // of all flows that were judged
	choreotest.Simulate(t,
		[]choreotest.Simulated{
			orders(time.Minute),
			payments(func() paymentdomain.Ledger { return ledger }),
			{New: func() *choreo.Service {
				return inventory.New(&inventorydomain.Stock{Scarce: inventorydomain.DefaultScarce(), Warehouse: warehouse})
			}},
			{New: func() *choreo.Service {
				return shipping.New(&shippingdomain.Shipping{Area: shippingdomain.DefaultArea(), Carrier: carrier})
			}},
		},
		choreotest.Workload{Begin: place},
		append(stockIsKept(func() *shelves { return warehouse }), []choreotest.Invariant{
			failureReleases,
			{Name: "what is out of stock is never shipped", Check: func(f choreotest.Flow) error {
				if f.Has(rejected) {
					short++
				}
				if f.Has(shipped) && (f.Has(rejected) || !f.Has(reserved)) {
					return errors.New("it is shipped")
				}
				return nil
			}},
			{Name: "every paid order ends shipped or refunded, never both", Check: func(f choreotest.Flow) error {
				if !f.Has(authorized) {
					return nil
				}
				if n := f.Count(shipped) + f.Count(refunded); n != 1 {
					return fmt.Errorf("it is paid, shipped %d times and refunded %d times", f.Count(shipped), f.Count(refunded))
				}
				return nil
			}},
			{Name: "never both shipped and failed, and who expires is decided", Check: func(f choreotest.Flow) error {
				if f.Has(expired) {
					expiries++
				}
				if f.Has(shipped) && (f.Has(failed) || f.Has(refunded) || f.Has(voided)) {
					return fmt.Errorf("it is shipped, failed %d times, refunded %d times and voided %d times", f.Count(failed), f.Count(refunded), f.Count(voided))
				}
				if f.Count(expired) > 1 || f.Has(expired) && !f.Has(shipped) && !f.Has(failed) {
					return fmt.Errorf("it has expired %d times, is shipped %d times and failed %d times", f.Count(expired), f.Count(shipped), f.Count(failed))
				}
				return nil
			}},
			{Name: "what is said to be shipped is on its way, and nothing else", Check: func(f choreotest.Flow) error {
				for _, e := range f.Events {
					var p struct{ Address struct{ Name string } }
					if err := json.Unmarshal(e.Data, &p); e.Type != placed || err != nil {
						continue
					}
					if n := carrier.rides(p.Address.Name); n != f.Count(shipped) {
						return fmt.Errorf("%d parcels are on their way to %s, and it is shipped %d times", n, p.Address.Name, f.Count(shipped))
					}
					return nil
				}
				return errors.New("it was never placed")
			}},
			{Name: "every order ends", Check: func(f choreotest.Flow) error {
				if n := f.Count(confirmed) + f.Count(cancelled); n != 1 {
					return fmt.Errorf("it is confirmed %d times and cancelled %d times", f.Count(confirmed), f.Count(cancelled))
				}
				return nil
			}},
			{Name: "what is shipped is confirmed", Check: func(f choreotest.Flow) error {
				if f.Has(shipped) != f.Has(confirmed) {
					return errors.New("one is there without the other")
				}
				return nil
			}},
		}...),
		choreotest.Options{Reset: func() {
			ledger, carrier, warehouse = &paymentdomain.MemoryLedger{}, newRoads(), newShelves()
		}},
	)
	if expiries == 0 || short == 0 {
		t.Errorf("%d orders have expired and %d were out of stock: something was not decided", expiries, short)
	}
	t.Logf("%d orders have expired, %d were out of stock", expiries, short)
}

// stockIsKept are the invariants of what is set aside: in the end it is shipped or
// put back, in the events as in the warehouse.
func stockIsKept(warehouse func() *shelves) []choreotest.Invariant {
	return []choreotest.Invariant{{Name: "all stock that is reserved is shipped or released, never both", Check: func(f choreotest.Flow) error {
		if f.Count(reserved) > 1 || f.Count(released) > 1 || f.Has(reserved) && f.Has(rejected) {
			return fmt.Errorf("it is reserved %d times, rejected %d times and released %d times", f.Count(reserved), f.Count(rejected), f.Count(released))
		}
		if f.Has(reserved) && f.Has(shipped) == f.Has(released) {
			return fmt.Errorf("it is reserved, shipped %d times and released %d times", f.Count(shipped), f.Count(released))
		}
		for _, e := range f.Events {
			var r struct{ ReservationID string }
			if err := json.Unmarshal(e.Data, &r); e.Type == reserved && (err != nil || warehouse().holds(r.ReservationID) != f.Has(shipped)) {
				return fmt.Errorf("its goods are set aside: %t, and it is shipped %d times", warehouse().holds(r.ReservationID), f.Count(shipped))
			}
		}
		return nil
	}}}
}

// failureReleases is the invariant of an inventory that hears of every order.
var failureReleases = choreotest.Invariant{Name: "of what is not shipped nothing is kept", Check: func(f choreotest.Flow) error {
	if f.Has(released) != f.Has(failed) {
		return fmt.Errorf("it has failed %d times and is released %d times", f.Count(failed), f.Count(released))
	}
	return nil
}}

// place places an order over HTTP, as a customer's browser does: again under
// the same key until it is answered.
func place(w *choreotest.World, flow string) error {
	var number int
	if _, err := fmt.Sscanf(flow, "flow-%d", &number); err != nil {
		return err
	}
	amount, country, street, sku, quantity := 1999, "DE", "Road 1", "book", 1+number%3
	switch number % 8 {
	case 2:
		amount = 60_000 // over the limit
	case 5:
		country = "FR" // not served
	case 4:
		street = strings.Repeat("?", 2+number/8%3) // the carrier does not answer so often
	case 6:
		sku, quantity = "vase-3", 4 // out of stock
	case 7:
		sku, quantity, amount = "lamp-0", 1, 60_000 // and over the limit
	}
	body := fmt.Appendf(nil, `{"customer":"c-%d","tier":"standard","sku":%q,"quantity":%d,"amountCents":%d,
		"address":{"name":%q,"street":%q,"postcode":"10115","city":"Town","country":%q}}`, number%3, sku, quantity, amount, flow, street, country)
	client := w.HTTP("order")
	var last error
	for range 60 {
		id, err := post(w, client, flow, body)
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

func post(w *choreotest.World, client *http.Client, key string, body []byte) (id string, err error) {
	req, err := http.NewRequestWithContext(w.Context(), http.MethodPost, "http://order:8080/orders", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Idempotency-Key", key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusAccepted && resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", resp.Status, data)
	}
	var answer struct{ ID string }
	return answer.ID, json.Unmarshal(data, &answer)
}
