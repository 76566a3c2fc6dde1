package domain

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func details() Details {
	return Details{
		Customer: "ada", Tier: "standard", SKU: "lamp-1", Quantity: 2, AmountCents: 1_999,
		Address: Address{Name: "Ada L.", Street: "Am Markt 1", Postcode: "10115", City: "Berlin", Country: "DE"},
	}
}

// said collects the ends that an order says.
type said struct {
	confirmed []Confirmed
	cancelled []Cancelled
}

func (s *said) confirm(e Confirmed, say bool) {
	if say {
		s.confirmed = append(s.confirmed, e)
	}
}

func (s *said) cancel(e Cancelled, say bool) {
	if say {
		s.cancelled = append(s.cancelled, e)
	}
}

// apply applies an event, by its name.
func (s *said) apply(o *Order, event string) {
	switch event {
	case "placed":
		o.Place(Placed{OrderID: "o1", Details: details()})
	case "authorized":
		o.Authorize(PaymentAuthorized{AuthorizationID: "hold-1"})
	case "declined":
		s.cancel(o.Decline(PaymentDeclined{OrderID: "o1", Reason: "over limit"}))
	case "unavailable":
		o.PaymentUnavailable(PaymentUnavailable{Reason: "payment unavailable"})
	case "shipped":
		s.confirm(o.Ship(Shipped{OrderID: "o1", ParcelID: "parcel-1"}))
	case "shipment failed":
		o.NotShipped(ShipmentFailed{Reason: "not served"})
	case "refunded":
		s.cancel(o.Refund(PaymentRefunded{OrderID: "o1", Reason: "not served"}))
	case "voided":
		s.cancel(o.Void(PaymentVoided{OrderID: "o1", Reason: "payment unavailable"}))
	case "out of stock":
		o.OutOfStock(StockRejected{Reason: "sold out"})
	case "released":
		o.Release(StockReleased{})
	default:
		panic(event)
	}
}

// courses are the ways an order can take.
var courses = map[string]struct {
	events  []string
	status  Status
	said    said
	history []Status
}{
	"confirmed": {
		events: []string{"placed", "authorized", "shipped"}, status: StatusConfirmed,
		said:    said{confirmed: []Confirmed{{"o1", "parcel-1"}}},
		history: []Status{StatusPlaced, StatusAuthorized, StatusShipped, StatusConfirmed},
	},
	"declined": {
		events: []string{"placed", "declined"}, status: StatusCancelled,
		said:    said{cancelled: []Cancelled{{"o1", "over limit"}}},
		history: []Status{StatusPlaced, StatusDeclined, StatusCancelled},
	},
	"refunded": {
		events: []string{"placed", "authorized", "shipment failed", "refunded"}, status: StatusCancelled,
		said:    said{cancelled: []Cancelled{{"o1", "not served"}}},
		history: []Status{StatusPlaced, StatusAuthorized, StatusRefunding, StatusRefunded, StatusCancelled},
	},
	"voided after an outage": {
		events: []string{"placed", "unavailable", "voided"}, status: StatusCancelled,
		said:    said{cancelled: []Cancelled{{"o1", "payment unavailable"}}},
		history: []Status{StatusPlaced, StatusVoiding, StatusVoided, StatusCancelled},
	},
	"declined, and its goods put back": {
		events: []string{"placed", "declined", "shipment failed", "released"}, status: StatusCancelled,
		said:    said{cancelled: []Cancelled{{"o1", "over limit"}}},
		history: []Status{StatusPlaced, StatusDeclined, StatusReleased, StatusCancelled},
	},
	"voided, and its goods put back": {
		events: []string{"placed", "unavailable", "shipment failed", "voided", "released"}, status: StatusCancelled,
		said:    said{cancelled: []Cancelled{{"o1", "payment unavailable"}}},
		history: []Status{StatusPlaced, StatusVoiding, StatusVoided, StatusReleased, StatusCancelled},
	},
	"out of stock": {
		events: []string{"placed", "authorized", "out of stock", "shipment failed", "refunded", "released"}, status: StatusCancelled,
		said:    said{cancelled: []Cancelled{{"o1", "not served"}}},
		history: []Status{StatusPlaced, StatusAuthorized, StatusOutOfStock, StatusRefunding, StatusRefunded, StatusReleased, StatusCancelled},
	},
	"not yet authorized":   {events: []string{"placed"}, status: StatusPlaced, history: []Status{StatusPlaced}},
	"not yet shipped":      {events: []string{"placed", "authorized"}, status: StatusAuthorized, history: []Status{StatusPlaced, StatusAuthorized}},
	"not yet refunded":     {events: []string{"placed", "authorized", "shipment failed"}, status: StatusRefunding, history: []Status{StatusPlaced, StatusAuthorized, StatusRefunding}},
	"not yet voided":       {events: []string{"placed", "unavailable"}, status: StatusVoiding, history: []Status{StatusPlaced, StatusVoiding}},
	"nothing at all":       {},
	"only ahead of itself": {events: []string{"authorized"}, status: StatusAuthorized, history: []Status{StatusAuthorized}},
}

func statuses(o Order) (all []Status) {
	for _, e := range o.History {
		all = append(all, e.Status)
	}
	return all
}

func TestOrderTakesItsCourse(t *testing.T) {
	for name, c := range courses {
		t.Run(name, func(t *testing.T) {
			var o Order
			var got said
			for _, e := range c.events {
				got.apply(&o, e)
			}
			if o.Status() != c.status || !slices.Equal(statuses(o), c.history) || !reflect.DeepEqual(got, c.said) {
				t.Errorf("status %q, history %q, said %+v; want %q, %q, %+v", o.Status(), statuses(o), got, c.status, c.history, c.said)
			}
		})
	}
}

// Between topics there is no order, so an order must come out the same
// whichever way its events are heard, and however often, also when it was
// written down and read again in between.
func TestOrderComesOutTheSameInAnyOrderOfEvents(t *testing.T) {
	names := make([]string, 0, len(courses))
	for name := range courses {
		names = append(names, name)
	}
	slices.Sort(names)
	rapid.Check(t, func(t *rapid.T) {
		c := courses[rapid.SampledFrom(names).Draw(t, "course")]
		var want Order
		var wantSaid said
		for _, e := range c.events {
			wantSaid.apply(&want, e)
		}
		heard := slices.Clone(c.events)
		if len(heard) > 0 {
			heard = append(heard, rapid.SliceOfN(rapid.SampledFrom(c.events), 0, 5).Draw(t, "again")...)
			heard = rapid.Permutation(heard).Draw(t, "heard")
		}
		var o Order
		var got said
		for _, e := range heard {
			got.apply(&o, e)
			data, err := json.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			o = Order{}
			if err := json.Unmarshal(data, &o); err != nil {
				t.Fatal(err)
			}
		}
		if len(o.History) == 0 {
			o.History = nil
		}
		if !reflect.DeepEqual(o, want) || !reflect.DeepEqual(got, wantSaid) {
			t.Fatalf("heard %q: %+v, said %+v; want %+v, %+v", heard, o, got, want, wantSaid)
		}
	})
}

// Whatever is heard, even what cannot be, one end at most is said.
func TestOrderHasOneEnd(t *testing.T) {
	every := []string{"placed", "authorized", "declined", "unavailable", "shipped", "shipment failed", "refunded", "voided"}
	rapid.Check(t, func(t *rapid.T) {
		var o Order
		var got said
		var end Status
		for _, e := range rapid.SliceOf(rapid.SampledFrom(every)).Draw(t, "heard") {
			got.apply(&o, e)
			if end != "" && o.Status() != end {
				t.Fatalf("after its end %q the order became %q by %s", end, o.Status(), e)
			}
			if o.Ended() {
				end = o.Status()
			}
		}
		if n := len(got.confirmed) + len(got.cancelled); n > 1 || (n == 1) != o.Ended() {
			t.Fatalf("said %+v, ended %v", got, o.Ended())
		}
	})
}
