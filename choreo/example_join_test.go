package choreo_test

import (
	"context"
	"fmt"

	"github.com/choreography-go/choreography/choreo"
)

// A parcel leaves when its order was paid and its goods were set aside, whatever
// comes first. What the step runs on is one value, made of both.
func ExampleBoth() {
	type (
		Reserved struct{ Order, Shelf string }
		Rejected struct{ Order string }
		Ready    struct {
			Paid  Authorized
			Goods Reserved
		}
		Shipped struct{ Order, From string }
	)
	reserved := choreo.Event[Reserved]{Type: "example.stock.reserved.v1", Topic: "stock"}
	rejected := choreo.Event[Rejected]{Type: "example.stock.rejected.v1", Topic: "stock"}
	shipped := choreo.Event[Shipped]{Type: "example.shipment.shipped.v1", Topic: "shipments"}

	ready := func(a Authorized, r Reserved) Ready { return Ready{a, r} }
	ship := choreo.Step[Ready, Shipped]{
		Name: "ship", On: choreo.Both(authorized, reserved, ready), Emit: shipped, Pivot: true,
		Do: func(_ context.Context, r Ready) (Shipped, error) {
			return Shipped{Order: r.Paid.Order, From: r.Goods.Shelf}, nil
		},
		// Without goods the other half is waited for no longer.
		Cancel: []choreo.Cancellation{choreo.CancelOn(rejected, func(r Rejected) ShipmentFailed {
			return ShipmentFailed{Order: r.Order, Reason: "out of stock"}
		}, shipmentFailed)},
	}
	said, err := ship.Do(context.Background(), ready(Authorized{Order: "o1"}, Reserved{Order: "o1", Shelf: "B7"}))
	fmt.Println(said, err, choreo.NewService("shipping", ship).Validate())
	// Output: {o1 B7} <nil> <nil>
}

// A half may be several events: alternatives, or versions of one.
func ExampleAll3() {
	type Approved struct{ Order, By string }
	byHand := choreo.Event[Approved]{Type: "example.order.approved.v1", Topic: "orders"}
	byRule := choreo.Event[string]{Type: "example.order.cleared.v1", Topic: "orders"}
	weighed := choreo.Event[int]{Type: "example.parcel.weighed.v1", Topic: "parcels"}

	trigger := choreo.All3(authorized, weighed,
		choreo.AnyOf(byHand, choreo.Upcast(byRule, func(rule string) Approved { return Approved{By: rule} })),
		func(a Authorized, grams int, ok Approved) string {
			return fmt.Sprintf("%s: %d g, approved by %s", a.Order, grams, ok.By)
		})
	err := choreo.NewService("shipping", choreo.Step[string, Authorized]{
		Name: "label", On: trigger, Emit: authorized,
		Do: func(context.Context, string) (Authorized, error) { return Authorized{}, nil },
	}).Validate()
	fmt.Println(err)
	// Output: <nil>
}
