//go:build synctests

package guide

import (
	"fmt"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
)

// The code of docs/testing.md.
func TestSimulatePayments(t *testing.T) {
	var provider *payments // outlives the instances of payment
	choreotest.Simulate(t,
		[]choreotest.Simulated{
			{New: func() *choreo.Service { return newOrder(":8080", nil) }},
			{New: func() *choreo.Service { return newPayment(provider) }, Instances: 3},
		},
		choreotest.Workload{Flows: 30, Begin: func(w *choreotest.World, flow string) error {
			if err := w.Publish("order", flow, orderPlaced.New(OrderPlaced{flow, 1999})); err != nil {
				return err
			}
			if err := w.Sleep(500 * time.Millisecond); err != nil {
				return err
			}
			return w.Say(flow, shipmentFailed.New(ShipmentFailed{flow, "not served"})) // as shipping would
		}},
		[]choreotest.Invariant{
			{Name: "what is held is refunded once, or was never held", Check: func(f choreotest.Flow) error {
				held, back, never := f.Count(authorized.Type), f.Count(refunded.Type), f.Count(voided.Type)
				if back != held || held+never != 1 {
					return fmt.Errorf("held %d times, refunded %d times, %d times never held", held, back, never)
				}
				return nil
			}},
			{Name: "the provider holds nothing", Check: func(choreotest.Flow) error {
				if cents := provider.held(); cents != 0 {
					return fmt.Errorf("it holds %d cents", cents)
				}
				return nil
			}},
		},
		choreotest.Options{Seeds: 3, Reset: func() { provider = &payments{} }},
	)
}
