//go:build synctests

package services_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
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
)

// Versions of the shipping service, as docs/changing-the-flow.md has them.
type (
	paid    = shippingdomain.PaymentAuthorized
	inStock = shippingdomain.StockReserved
	ready   = shippingdomain.Ready
	parcel  = shippingdomain.Shipped
	failure = shippingdomain.ShipmentFailed
	notPaid = shippingdomain.NotPaid
	soldOut = shippingdomain.StockRejected
	tooLate = shippingdomain.OrderExpired
	shipper = shippingdomain.Shipping
)

var (
	orderExpired       = choreo.Event[tooLate]{Type: expired, Topic: "orders"}
	paymentAuthorized  = choreo.Event[paid]{Type: authorized, Topic: "payments"}
	paymentDeclined    = choreo.Event[notPaid]{Type: "com.example.payment.declined.v1", Topic: "payments"}
	paymentUnavailable = choreo.Event[notPaid]{Type: "com.example.payment.unavailable.v1", Topic: "payments"}
	stockReserved      = choreo.Event[inStock]{Type: reserved, Topic: "stock"}
	stockRejected      = choreo.Event[soldOut]{Type: rejected, Topic: "stock"}
	parcelShipped      = choreo.Event[parcel]{Type: shipped, Topic: "shipments"}
	shipmentFailed     = choreo.Event[failure]{Type: failed, Topic: "shipments"}
)

// The carrier is asked for the parcel of an order: whatever sets the step off, the
// wish is the same.
func shipReady(s *shipper) func(context.Context, ready) (parcel, error) {
	return func(ctx context.Context, r ready) (parcel, error) { return s.Ship(ctx, r.OrderID, r) }
}

func ship(s *shipper) func(context.Context, paid) (parcel, error) {
	return func(ctx context.Context, p paid) (parcel, error) {
		return s.Ship(ctx, p.OrderID, ready{OrderID: p.OrderID, Address: p.Address})
	}
}

func callOffReady(s *shipper) choreo.Compensation[ready, parcel] {
	return choreo.Compensation[ready, parcel]{}.Unknown(func(ctx context.Context, r ready) error { return s.CallOff(ctx, r.OrderID, r) })
}

func callOff(s *shipper) choreo.Compensation[paid, parcel] {
	return choreo.Compensation[paid, parcel]{}.Unknown(func(ctx context.Context, p paid) error {
		return s.CallOff(ctx, p.OrderID, ready{OrderID: p.OrderID})
	})
}

func readyNotServed(r ready, e *shippingdomain.NotServed) failure {
	return failure{OrderID: r.OrderID, Reason: e.Error()}
}
func notServed(p paid, e *shippingdomain.NotServed) failure {
	return failure{OrderID: p.OrderID, Reason: e.Error()}
}
func late(e tooLate) failure   { return failure{OrderID: e.OrderID, Reason: "not shipped in time"} }
func unpaid(n notPaid) failure { return failure{OrderID: n.OrderID, Reason: n.Reason} }
func sold(r soldOut) failure   { return failure{OrderID: r.OrderID, Reason: r.Reason} }

var stubborn = choreo.Retry{Attempts: 1_000, InPlace: 2, First: 100 * time.Millisecond, Max: 5 * time.Second}

// beforeStock ships what is paid for. It hears nothing of the stock.
func beforeStock(s *shipper) *choreo.Service {
	return choreo.NewService("shipping",
		choreo.Topic{Name: "orders", Partitions: 8},
		choreo.Topic{Name: "payments", Partitions: 8},
		choreo.Topic{Name: "shipments", Partitions: 8},
		choreo.Step[paid, parcel]{
			Name: "ship", On: paymentAuthorized, Do: ship(s), Emit: parcelShipped, Pivot: true,
			Fail: choreo.Failures[paid]{choreo.FailAs(notServed, shipmentFailed)}, Compensate: callOff(s),
			Cancel: []choreo.Cancellation{
				choreo.CancelOn(orderExpired, late, shipmentFailed),
				choreo.CancelOn(paymentDeclined, unpaid, shipmentFailed),
				choreo.CancelOn(paymentUnavailable, unpaid, shipmentFailed),
			},
			Retry: stubborn,
		},
	)
}

// withStock waits for the stock, too.
func withStock(s *shipper) *choreo.Service {
	return choreo.NewService("shipping",
		choreo.Topic{Name: "orders", Partitions: 8},
		choreo.Topic{Name: "payments", Partitions: 8},
		choreo.Topic{Name: "stock", Partitions: 8},
		choreo.Topic{Name: "shipments", Partitions: 8},
		choreo.Step[ready, parcel]{
			Name: "ship", On: choreo.Both(paymentAuthorized, stockReserved, shippingdomain.ReadyWhen), Do: shipReady(s), Emit: parcelShipped, Pivot: true,
			Fail: choreo.Failures[ready]{choreo.FailAs(readyNotServed, shipmentFailed)}, Compensate: callOffReady(s),
			Cancel: []choreo.Cancellation{
				choreo.CancelOn(orderExpired, late, shipmentFailed),
				choreo.CancelOn(paymentDeclined, unpaid, shipmentFailed),
				choreo.CancelOn(paymentUnavailable, unpaid, shipmentFailed),
				choreo.CancelOn(stockRejected, sold, shipmentFailed),
			},
			Retry: stubborn,
		},
	)
}

// Shipping with the join is deployed over shipping without it, instance by instance,
// while orders are placed and everything fails that can.
func TestSimulateAddingAService(t *testing.T) { changing(t, beforeStock, withStock) }

// And back: what waits for the stock by then is shipped without it.
func TestSimulateRemovingAServiceAgain(t *testing.T) {
	changing(t, beforeStock, withStock, beforeStock)
}

// changing deploys versions of shipping, one after the other: no order is stuck,
// shipped and refunded, or leaves goods behind.
func changing(t *testing.T, versions ...func(*shipper) *choreo.Service) {
	var ledger *paymentdomain.MemoryLedger
	var carrier *roads
	var warehouse *shelves
	var makers []func() *choreo.Service
	started := make([]atomic.Int32, len(versions))
	for n, v := range versions {
		makers = append(makers, func() *choreo.Service {
			started[n].Add(1)
			return v(&shipper{Area: shippingdomain.DefaultArea(), Carrier: carrier})
		})
	}
	choreotest.Simulate(t,
		[]choreotest.Simulated{
			{New: func() *choreo.Service {
				svc, h := order.New(time.Minute)
				svc.Add(choreo.HTTP{Addr: ":8080", Handler: h})
				return svc
			}},
			{New: func() *choreo.Service { return payment.New(&paymentdomain.Payments{Ledger: ledger}) }},
			{New: func() *choreo.Service {
				return inventory.New(&inventorydomain.Stock{Scarce: inventorydomain.DefaultScarce(), Warehouse: warehouse})
			}},
			{New: makers[0], Next: makers[1:]},
		},
		choreotest.Workload{Begin: place},
		append(stockIsKept(func() *shelves { return warehouse }),
			choreotest.Invariant{Name: "every order ends once, never shipped and refunded", Check: func(f choreotest.Flow) error {
				if n := f.Count(confirmed) + f.Count(cancelled); n != 1 || f.Count(shipped) > 1 || f.Has(shipped) && (f.Has(failed) || f.Has(refunded)) {
					return fmt.Errorf("it has ended %d times, is shipped %d times, refunded %d times and failed %d times", n, f.Count(shipped), f.Count(refunded), f.Count(failed))
				}
				return nil
			}},
			choreotest.Invariant{Name: "what is paid is shipped or refunded", Check: func(f choreotest.Flow) error {
				if f.Has(authorized) && f.Count(shipped)+f.Count(refunded) != 1 {
					return errors.New("it is paid, and neither")
				}
				return nil
			}},
		),
		choreotest.Options{Seeds: 3, Faults: []choreotest.FaultKind{
			choreotest.Deploys, choreotest.Kills, choreotest.Freezes, choreotest.Joins, choreotest.Leaves, choreotest.HandlerErrors, choreotest.Cuts, choreotest.LostAnswers,
		}, Reset: func() {
			ledger, warehouse = &paymentdomain.MemoryLedger{}, newShelves()
			carrier = &roads{asked: map[string]int{}, parcel: map[string]bool{}, names: map[string]string{}}
		}},
	)
	for n := range started {
		if started[n].Load() < 2 { // one is for its contract
			t.Errorf("version %d of shipping was never deployed", n+1)
		}
	}
}
