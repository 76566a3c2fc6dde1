//go:build synctests

package services_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
	order "github.com/choreography-go/choreography/services/order/service"
	paymentdomain "github.com/choreography-go/choreography/services/payment/domain"
	payment "github.com/choreography-go/choreography/services/payment/service"
	shippingdomain "github.com/choreography-go/choreography/services/shipping/domain"
	shipping "github.com/choreography-go/choreography/services/shipping/service"
)

const (
	authorized = "com.example.payment.authorized.v1"
	refunded   = "com.example.payment.refunded.v1"
	shipped    = "com.example.shipment.shipped.v1"
	confirmed  = "com.example.order.confirmed.v1"
	cancelled  = "com.example.order.cancelled.v1"
)

// TestSimulate runs the three services under all faults. Orders are placed over
// HTTP; every third is over the customer's limit, or goes where no parcels go.
func TestSimulate(t *testing.T) {
	var ledger *paymentdomain.MemoryLedger // the payment provider, which outlives every instance
	choreotest.Simulate(t,
		[]choreotest.Simulated{
			{New: func() *choreo.Service {
				svc, h := order.New()
				svc.Add(choreo.HTTP{Addr: ":8080", Handler: h})
				return svc
			}},
			{New: func() *choreo.Service { return payment.New(&paymentdomain.Payments{Ledger: ledger}) }},
			{New: func() *choreo.Service {
				return shipping.New(&shippingdomain.Shipping{Area: shippingdomain.DefaultArea(), Carrier: shippingdomain.PaperCarrier{}})
			}},
		},
		choreotest.Workload{Begin: place},
		[]choreotest.Invariant{
			{Name: "every paid order ends shipped or refunded, never both", Check: func(f choreotest.Flow) error {
				if !f.Has(authorized) {
					return nil
				}
				if n := f.Count(shipped) + f.Count(refunded); n != 1 {
					return fmt.Errorf("it is paid, shipped %d times and refunded %d times", f.Count(shipped), f.Count(refunded))
				}
				return nil
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
		},
		choreotest.Options{Reset: func() { ledger = &paymentdomain.MemoryLedger{} }},
	)
}

// place places an order over HTTP, as a customer's browser does: again under
// the same key until it is answered.
func place(w *choreotest.World, flow string) error {
	var number int
	if _, err := fmt.Sscanf(flow, "flow-%d", &number); err != nil {
		return err
	}
	amount, country := 1999, "DE"
	switch number % 6 {
	case 2:
		amount = 60_000 // over the limit
	case 5:
		country = "FR" // not served
	}
	body := fmt.Appendf(nil, `{"customer":"c-%d","tier":"standard","sku":"book","quantity":1,"amountCents":%d,
		"address":{"name":"A. Customer","street":"Road 1","postcode":"10115","city":"Town","country":%q}}`, number%3, amount, country)
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
