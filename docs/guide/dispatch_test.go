package guide

import (
	"context"
	"testing"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
)

// What the dispatch service hears of the warehouse, and what it says.
type (
	Picked struct {
		OrderID string `json:"orderId"`
		Box     string `json:"box"`
	}
	NotPicked struct {
		OrderID string `json:"orderId"`
	}
	Ready struct {
		Held   Held
		Picked Picked
	}
	Sent struct {
		OrderID string `json:"orderId"`
		Box     string `json:"box"`
		Hold    string `json:"hold"`
	}
)

var (
	picked    = choreo.Event[Picked]{Type: "com.example.warehouse.picked.v1", Topic: "warehouse"}
	notPicked = choreo.Event[NotPicked]{Type: "com.example.warehouse.short.v1", Topic: "warehouse"}
	sent      = choreo.Event[Sent]{Type: "com.example.shipment.sent.v1", Topic: "shipments"}
)

func ready(h Held, p Picked) Ready { return Ready{h, p} }

func dispatch(_ context.Context, r Ready) (Sent, error) {
	return Sent{r.Held.OrderID, r.Picked.Box, r.Held.Hold}, nil
}

func newDispatch() *choreo.Service {
	short := func(n NotPicked) ShipmentFailed { return ShipmentFailed{n.OrderID, "out of stock"} }
	return choreo.NewService("dispatch",
		choreo.Step[Ready, Sent]{
			Name: "dispatch", On: choreo.Both(authorized, picked, ready), Do: dispatch, Emit: sent, Pivot: true,
			Cancel: []choreo.Cancellation{choreo.CancelOn(notPicked, short, shipmentFailed)},
		},
	)
}

func TestDispatchOfWhatIsPaidAndPicked(t *testing.T) {
	s := choreotest.Start(t, newDispatch())
	s.Publish("o1", picked.New(Picked{"o1", "B7"}))
	s.ExpectJoin("o1", "dispatch", choreotest.JoinWaiting)
	s.Publish("o1", authorized.New(Held{"o1", "hold-1"}))
	s.Expect("o1", sent.New(Sent{"o1", "B7", "hold-1"}))
	s.ExpectNothingMore("o1")
	s.Publish("o2", authorized.New(Held{"o2", "hold-2"}))
	s.Publish("o2", notPicked.New(NotPicked{"o2"}))
	s.Expect("o2", shipmentFailed.New(ShipmentFailed{"o2", "out of stock"}))
	s.ExpectNothingMore("o2")
}
