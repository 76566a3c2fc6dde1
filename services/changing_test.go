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
	paymentdomain "github.com/choreography-go/choreography/services/payment/domain"
	shippingdomain "github.com/choreography-go/choreography/services/shipping/domain"
)

// Versions of shipping and inventory, as docs/changing-the-flow.md has them.
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

	wish     = inventorydomain.OrderPlaced
	setAside = inventorydomain.Reserved
	putBack  = inventorydomain.Released
	missing  = inventorydomain.Rejected
	unserved = inventorydomain.ShipmentFailed
)

// keeper is who sets goods aside, and labels them.
type keeper struct {
	inventorydomain.Stock
	shelves *shelves
}

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

var (
	orderPlaced    = choreo.Event[wish]{Type: placed, Topic: "orders"}
	parcelFailed   = choreo.Event[unserved]{Type: failed, Topic: "shipments"}
	goodsSetAside  = choreo.Event[setAside]{Type: reserved, Topic: "stock"}
	goodsMissing   = choreo.Event[missing]{Type: rejected, Topic: "stock"}
	goodsPutBack   = choreo.Event[putBack]{Type: released, Topic: "stock"}
	stocktakingDue = choreo.Event[wish]{Type: "com.example.stocktaking.due.v1", Topic: "stocktakings"}
)

func reserve(k *keeper) func(context.Context, wish) (setAside, error) {
	return func(ctx context.Context, w wish) (setAside, error) {
		k.shelves.label(w.OrderID, choreo.Meta(ctx).IdempotencyKey)
		return k.Reserve(ctx, choreo.Meta(ctx).IdempotencyKey, w)
	}
}

// closing takes no order any more, and puts back what an attempt of the version
// before may have set aside for it.
func closing(k *keeper) func(context.Context, wish) (setAside, error) {
	return func(ctx context.Context, w wish) (setAside, error) {
		if _, err := k.Release(ctx, choreo.Meta(ctx).IdempotencyKey, w, ""); err != nil {
			return setAside{}, err
		}
		return setAside{}, &inventorydomain.OutOfStock{SKU: w.SKU, Wanted: w.Quantity}
	}
}

func release(k *keeper) choreo.Compensation[wish, setAside] {
	return choreo.Undo(func(ctx context.Context, w wish, _ setAside) (putBack, error) {
		return k.Release(ctx, choreo.Meta(ctx).Undoes, w, "not shipped")
	}, goodsPutBack, parcelFailed).Unknown(func(ctx context.Context, w wish) error {
		_, err := k.Release(ctx, choreo.Meta(ctx).Undoes, w, "")
		return err
	})
}

func sorry(w wish, e *inventorydomain.OutOfStock) missing {
	return missing{OrderID: w.OrderID, SKU: w.SKU, Reason: e.Error()}
}
func nothingHeld(f unserved) putBack { return putBack{OrderID: f.OrderID, Reason: f.Reason} }

// keeping is inventory with what it does when an order is placed.
func keeping(k *keeper, do func(*keeper) func(context.Context, wish) (setAside, error)) *choreo.Service {
	return choreo.NewService("inventory",
		choreo.Topic{Name: "orders", Partitions: 8, From: choreo.Latest},
		choreo.Topic{Name: "shipments", Partitions: 8},
		choreo.Topic{Name: "stock", Partitions: 8},
		choreo.Retention{Grace: 10 * time.Minute},
		choreo.Step[wish, setAside]{
			Name: "reserve", On: orderPlaced, Do: do(k), Emit: goodsSetAside,
			Fail: choreo.Failures[wish]{choreo.FailAs(sorry, goodsMissing)}, Compensate: release(k),
			Cancel: []choreo.Cancellation{choreo.CancelOn(parcelFailed, nothingHeld, goodsPutBack)},
			Retry:  stubborn,
		},
	)
}

// asItIs is the inventory of this repository.
func asItIs(k *keeper) *choreo.Service { return inventory.New(&k.Stock) }

// notYet is inventory before it begins: it hears nothing that anybody says.
func notYet(*keeper) *choreo.Service {
	return choreo.NewService("inventory", choreo.Topic{Name: "stocktakings", Partitions: 8},
		choreo.Reaction[wish]{Name: "wait", On: stocktakingDue, Do: func(context.Context, wish) (choreo.Emissions, error) { return nil, nil }})
}

func inBusiness(k *keeper) *choreo.Service  { return keeping(k, reserve) }
func closingDown(k *keeper) *choreo.Service { return keeping(k, closing) }

// Shipping with the join is deployed over shipping without it, instance by instance,
// while orders are placed and everything fails that can.
func TestSimulateAddingAService(t *testing.T) {
	changing(t, 1, []inventoryVersion{asItIs}, []shippingVersion{beforeStock, withStock}, failureReleases)
}

// And back: what waits for the stock by then is shipped without it.
func TestSimulateRemovingAServiceAgain(t *testing.T) {
	changing(t, 1, []inventoryVersion{asItIs}, []shippingVersion{beforeStock, withStock, beforeStock}, failureReleases)
}

// The service itself comes while orders are on their way, and goes while some still
// are for which it has set goods aside. In what order it and shipping are deployed is
// left to chance: who takes the wrong one first declines orders, and breaks none. In
// seed 43 the last version finds goods that an attempt of the one before has set aside.
func TestSimulateTheServiceComesAndGoes(t *testing.T) {
	changing(t, 41, []inventoryVersion{notYet, inBusiness, closingDown}, []shippingVersion{beforeStock, withStock, beforeStock})
}

type (
	shippingVersion  func(*shipper) *choreo.Service
	inventoryVersion func(*keeper) *choreo.Service
)

// deployed is a service in several versions. Starts of each are counted.
func deployed[T any, V ~func(T) *choreo.Service](versions []V, with func() T) (s choreotest.Simulated, started []atomic.Int32) {
	started = make([]atomic.Int32, len(versions))
	for n, v := range versions {
		s.Next = append(s.Next, func() *choreo.Service {
			started[n].Add(1)
			return v(with())
		})
	}
	s.New, s.Next = s.Next[0], s.Next[1:]
	return s, started
}

// TestSimulateThreeServices runs the example as it was before inventory: the smallest
// choreography whose speed docs/testing.md tells of.
func TestSimulateThreeServices(t *testing.T) {
	var ledger *paymentdomain.MemoryLedger
	var carrier *roads
	choreotest.Simulate(t,
		[]choreotest.Simulated{
			orders(time.Minute),
			payments(func() paymentdomain.Ledger { return ledger }),
			{New: func() *choreo.Service {
				return beforeStock(&shipper{Area: shippingdomain.DefaultArea(), Carrier: carrier})
			}},
		},
		choreotest.Workload{Begin: place}, []choreotest.Invariant{endsOnce, paidIsServed},
		choreotest.Options{Reset: func() { ledger, carrier = &paymentdomain.MemoryLedger{}, newRoads() }},
	)
}

var (
	endsOnce = choreotest.Invariant{Name: "every order ends once, never shipped and refunded", Check: func(f choreotest.Flow) error {
		if n := f.Count(confirmed) + f.Count(cancelled); n != 1 || f.Count(shipped) > 1 || f.Has(shipped) && (f.Has(failed) || f.Has(refunded)) {
			return fmt.Errorf("it has ended %d times, is shipped %d times, refunded %d times and failed %d times", n, f.Count(shipped), f.Count(refunded), f.Count(failed))
		}
		return nil
	}}
	paidIsServed = choreotest.Invariant{Name: "what is paid is shipped or refunded", Check: func(f choreotest.Flow) error {
		if f.Has(authorized) && f.Count(shipped)+f.Count(refunded) != 1 {
			return errors.New("it is paid, and neither")
		}
		return nil
	}}
)

// changing deploys versions of inventory and shipping, one after the other: no order
// is stuck, shipped and refunded, or leaves goods behind.
func changing(t *testing.T, seed uint64, ofInventory []inventoryVersion, ofShipping []shippingVersion, more ...choreotest.Invariant) {
	var ledger *paymentdomain.MemoryLedger
	var carrier *roads
	var warehouse *shelves
	inventories, kept := deployed(ofInventory, func() *keeper {
		return &keeper{inventorydomain.Stock{Scarce: inventorydomain.DefaultScarce(), Warehouse: warehouse}, warehouse}
	})
	shippings, served := deployed(ofShipping, func() *shipper {
		return &shipper{Area: shippingdomain.DefaultArea(), Carrier: carrier}
	})
	choreotest.Simulate(t,
		[]choreotest.Simulated{
			orders(time.Minute),
			payments(func() paymentdomain.Ledger { return ledger }),
			inventories, shippings,
		},
		choreotest.Workload{Begin: place},
		append(append(stockIsKept(func() *shelves { return warehouse }), more...),
			endsOnce, paidIsServed,
			choreotest.Invariant{Name: "no goods are left behind", Check: func(f choreotest.Flow) error {
				if warehouse.holdsFor(f.ID) && (!f.Has(reserved) || !f.Has(shipped)) {
					return fmt.Errorf("some are set aside; it is reserved %d times and shipped %d times", f.Count(reserved), f.Count(shipped))
				}
				return nil
			}},
		),
		choreotest.Options{Seed: seed, Seeds: 3, Faults: []choreotest.FaultKind{
			choreotest.Deploys, choreotest.Kills, choreotest.Freezes, choreotest.Joins, choreotest.Leaves, choreotest.HandlerErrors, choreotest.Cuts, choreotest.LostAnswers,
		}, Reset: func() {
			ledger, carrier, warehouse = &paymentdomain.MemoryLedger{}, newRoads(), newShelves()
		}},
	)
	for name, started := range map[string][]atomic.Int32{"inventory": kept, "shipping": served} {
		for n := range started {
			if started[n].Load() < 2 { // one is for its contract
				t.Errorf("version %d of %s was never deployed", n+1, name)
			}
		}
	}
}
