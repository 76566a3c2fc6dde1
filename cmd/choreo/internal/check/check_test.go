package check

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// history builds the events of one order's flow, each caused by the last.
type history struct {
	flow, ref string
	events    []Event
}

func (h history) then(eventType string) history {
	topic, service, _ := strings.Cut(map[string]string{
		"order": "orders order", "payment": "payments payment", "shipment": "shipments shipping", "stock": "stock inventory",
	}[strings.Split(short(eventType), ".")[0]], " ")
	e := Event{
		Topic: topic, Partition: 3, Key: h.flow, ID: h.flow + "/" + short(eventType), Source: "/" + service, Type: eventType,
		Time: time.Unix(100, int64(len(h.events))), Flow: h.flow, Service: service,
	}
	for _, before := range h.events {
		if before.Topic == topic {
			e.Offset = before.Offset + 2
		}
	}
	if len(h.events) == 0 {
		e.Ref = h.ref
	} else {
		e.Causes = []string{h.events[len(h.events)-1].ID}
	}
	h.events = append(slices.Clip(h.events), e)
	return h
}

// because is then, of an event that the last ones of some types have caused.
func (h history) because(eventType string, causes ...string) history {
	h = h.then(eventType)
	e := &h.events[len(h.events)-1]
	e.Causes = nil
	for _, cause := range causes {
		for _, before := range slices.Backward(h.events[:len(h.events)-1]) {
			if before.Type == cause {
				e.Causes = append(e.Causes, before.ID)
				break
			}
		}
	}
	return h
}

// right returns the history of an order that went as it should.
func right(n int, o Outcome) (Order, []Event) {
	h := history{flow: fmt.Sprintf("flow-%d", n), ref: fmt.Sprintf("ref-%d", n)}.then(Placed)
	switch o {
	case WasConfirmed:
		h = h.then(Authorized).because(Reserved, Placed).because(Shipped, Authorized, Reserved).then(Confirmed)
	case WasDeclined:
		h = h.because(Reserved, Placed).because(Declined, Placed).then(Cancelled).because(ShipFailed, Declined).
			because(Voided, ShipFailed).because(Released, ShipFailed)
	case WasRefunded:
		h = h.because(Reserved, Placed).because(Authorized, Placed).because(ShipFailed, Reserved, Authorized).then(Refunded).then(Cancelled).
			because(Released, ShipFailed)
	case WasShort:
		h = h.then(Authorized).because(Rejected, Placed).then(ShipFailed).then(Refunded).because(Released, ShipFailed).because(Cancelled, Refunded)
	}
	return Order{Ref: h.ref, Flow: h.flow, Want: o}, h.events
}

func TestRightHistoriesAreCounted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var orders []Order
		var events []Event
		want := map[Outcome]int{}
		for n := range rapid.IntRange(0, 12).Draw(t, "orders") {
			o, e := right(n, rapid.SampledFrom(Outcomes).Draw(t, "outcome"))
			if rapid.Bool().Draw(t, "no answer") {
				o.Flow = "" // the answer was lost; the order was placed all the same
			}
			want[o.Want]++
			orders, events = append(orders, o), append(events, e...)
		}
		r := Judge(orders, History{Events: rapid.Permutation(events).Draw(t, "events")})
		if r.Confirmed != want[WasConfirmed] || r.Declined != want[WasDeclined] || r.Refunded != want[WasRefunded] || r.Short != want[WasShort] ||
			r.Unfinished != 0 || r.Wrong != 0 || len(r.Violations) != 0 {
			t.Fatalf("%+v, want %v", r, want)
		}
		for o, n := range want {
			if n > 0 && len(r.Examples[o]) == 0 {
				t.Fatalf("no example of %s", o)
			}
		}
	})
}

// An order that has expired ends by what shipping decides: it is shipped all the
// same, or given up, whether it was paid before, after that, or never.
func TestExpiredOrders(t *testing.T) {
	expired := func(h history) history {
		h = h.then(Expired)
		h.events[len(h.events)-1].Causes = []string{h.events[0].ID}
		return h
	}
	because := func(h history, eventType, cause string) history {
		h = h.then(eventType)
		for _, e := range h.events {
			if e.Type == cause {
				h.events[len(h.events)-1].Causes = []string{e.ID}
			}
		}
		return h
	}
	start := history{flow: "flow-0", ref: "ref-0"}.then(Placed).because(Reserved, Placed)
	paid := start.because(Authorized, Placed)
	failed := func(h history, by string) history { return because(because(h, ShipFailed, by), Released, ShipFailed) }
	for name, c := range map[string]struct {
		h    history
		want Outcome
	}{
		"shipped before it was decided": {because(expired(paid).because(Shipped, Authorized, Reserved), Confirmed, Shipped), WasConfirmed},
		"given up and refunded":         {because(because(failed(expired(paid), Expired), Refunded, ShipFailed), Cancelled, Refunded), WasRefunded},
		"given up and never paid":       {because(because(failed(expired(start), Expired), Voided, ShipFailed), Cancelled, Voided), WasDeclined},
		"declined meanwhile":            {because(failed(because(expired(start), Declined, Placed), Declined), Cancelled, Declined), WasDeclined},
		"declined, and given up for it": {because(because(failed(because(expired(start), Declined, Placed), Expired), Voided, ShipFailed), Cancelled, Voided), WasDeclined},
	} {
		o := Order{Ref: "ref-0", Flow: "flow-0", Want: WasConfirmed}
		if c.want == WasDeclined && name != "given up and never paid" {
			o.Want = WasDeclined
		}
		r := Judge([]Order{o}, History{Events: c.h.events})
		got := map[Outcome]int{WasConfirmed: r.Confirmed, WasDeclined: r.Declined, WasRefunded: r.Refunded}
		if len(r.Violations) > 0 || got[c.want] != 1 || r.Expired != 1 || len(r.Examples[c.want]) == 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	for name, c := range map[string]struct {
		h    history
		rule string
	}{
		"refunded because of the expiry": {because(because(expired(paid), Refunded, Expired), Cancelled, Refunded), ruleExpired},
		"cancelled without a decision":   {because(because(expired(start), Cancelled, Expired), Released, Placed), ruleExpired},
		"shipped and voided":             {because(because(expired(paid).because(Shipped, Authorized, Reserved), Voided, Placed), Confirmed, Shipped), ruleNeverBoth},
		"voided without an expiry":       {because(because(start, Voided, Placed), Cancelled, Voided), ruleKnown},
		"expired twice":                  {because(expired(expired(start)), Cancelled, Expired), ruleOnce},
	} {
		r := Judge([]Order{{Ref: "ref-0", Flow: "flow-0", Want: WasConfirmed}}, History{Events: c.h.events})
		if !slices.ContainsFunc(r.Violations, func(v Violation) bool { return v.Rule == c.rule }) {
			t.Errorf("%s: nobody says %s: %+v", name, c.rule, r.Violations)
		}
	}
}

// What is out of stock is given up whether it was paid before, after that, or never.
func TestOrdersOutOfStock(t *testing.T) {
	start := history{flow: "flow-0", ref: "ref-0"}.then(Placed).because(Rejected, Placed)
	failed := start.because(ShipFailed, Rejected).because(Released, ShipFailed)
	for name, h := range map[string]history{
		"never paid":    failed.because(Voided, ShipFailed).because(Cancelled, Voided),
		"paid before":   start.because(Authorized, Placed).because(ShipFailed, Rejected).because(Released, ShipFailed).because(Refunded, ShipFailed).because(Cancelled, Refunded),
		"paid too late": failed.because(Authorized, Placed).because(Refunded, ShipFailed).because(Cancelled, Refunded),
	} {
		r := Judge([]Order{{Ref: "ref-0", Flow: "flow-0", Want: WasShort}}, History{Events: h.events})
		if len(r.Violations) > 0 || r.Short != 1 || len(r.Examples[WasShort]) == 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestUnfinished(t *testing.T) {
	o, events := right(0, WasRefunded)
	never := Order{Ref: "ref-9", Want: WasConfirmed}
	lost := Order{Ref: "ref-8", Flow: "flow-8", Want: WasConfirmed}
	for n := range events {
		r := Judge([]Order{o, never, lost}, History{Events: events[:n]})
		if r.Unfinished != 3 || r.Wrong != 0 || len(r.Lacking) != 3 || len(r.Violations) != 0 {
			t.Errorf("with the first %d events: %+v", n, r)
		}
	}
}

// violation is a right history that was spoilt in one way.
type violation struct {
	rule  string
	name  string
	of    Outcome
	spoil func(h *spoilt)
	// also names rules that cannot but be broken too
	also []string
}

type spoilt struct {
	order     *Order
	events    []Event
	malformed []error
}

func (s *spoilt) get(eventType string) *Event {
	for i := range s.events {
		if s.events[i].Type == eventType {
			return &s.events[i]
		}
	}
	panic("no " + eventType)
}

func (s *spoilt) drop(eventType string) {
	s.events = slices.DeleteFunc(s.events, func(e Event) bool { return e.Type == eventType })
}

// say adds an event that is caused by the first of a type, as its service
// would say it after all others.
func (s *spoilt) say(eventType, cause string) *Event {
	e := history{flow: s.order.Flow, ref: s.order.Ref, events: s.events}.then(eventType).events[len(s.events)]
	e.ID += fmt.Sprintf("/%d", len(s.events))
	e.Causes = nil
	if cause != "" {
		e.Causes = []string{s.get(cause).ID}
	}
	s.events = append(s.events, e)
	return &s.events[len(s.events)-1]
}

var violations = []violation{
	{ruleIDs, "the same record twice", WasConfirmed, func(s *spoilt) {
		e := *s.get(Authorized)
		e.Offset += 10
		s.events = append(s.events, e)
	}, []string{ruleOnce}},
	{ruleIDs, "another event under an id", WasConfirmed, func(s *spoilt) {
		s.get(Authorized).Source = "/order"
		s.get(Authorized).ID = s.get(Placed).ID
		s.get(Shipped).Causes = []string{s.get(Placed).ID, s.get(Reserved).ID}
	}, []string{rulePaid}},
	{rulePlacedOnce, "placed twice in a flow", WasConfirmed, func(s *spoilt) { s.say(Placed, "").Ref = s.order.Ref }, nil},
	{rulePlacedOnce, "placed in two flows", WasConfirmed, func(s *spoilt) {
		h := history{flow: "flow-7", ref: s.order.Ref}.then(Placed)
		s.events = append(s.events, h.events...)
	}, nil},
	{rulePlacedOnce, "never placed", WasDeclined, func(s *spoilt) { s.drop(Placed) }, []string{ruleCauses}},
	{ruleAnswer, "answered with another order's flow", WasConfirmed, func(s *spoilt) {
		s.get(Placed).Ref = "somebody"
	}, nil},
	{ruleOneOutcome, "confirmed twice", WasConfirmed, func(s *spoilt) { s.say(Confirmed, Shipped) }, nil},
	{ruleOneOutcome, "cancelled twice", WasDeclined, func(s *spoilt) { s.say(Cancelled, Declined) }, nil},
	{ruleOneOutcome, "confirmed and cancelled", WasConfirmed, func(s *spoilt) { s.say(Cancelled, Shipped) }, nil},
	{ruleOnce, "authorized twice", WasConfirmed, func(s *spoilt) { s.say(Authorized, Placed) }, nil},
	{ruleOnce, "declined twice", WasDeclined, func(s *spoilt) { s.say(Declined, Placed) }, nil},
	{ruleOnce, "shipped twice", WasConfirmed, func(s *spoilt) {
		e := s.say(Shipped, Authorized)
		e.Causes = append(e.Causes, s.get(Reserved).ID)
	}, nil},
	{ruleOnce, "failed twice", WasRefunded, func(s *spoilt) { s.say(ShipFailed, Authorized) }, nil},
	{ruleOnce, "refunded twice", WasRefunded, func(s *spoilt) { s.say(Refunded, ShipFailed) }, []string{ruleFailed}},
	{ruleKnown, "an unknown type", WasConfirmed, func(s *spoilt) {
		s.say(Authorized, Placed).Type = "com.example.payment.unavailable.v1"
	}, nil},
	{ruleConfirmed, "confirmed without a shipment", WasConfirmed, func(s *spoilt) {
		s.drop(Shipped)
		s.get(Confirmed).Causes = []string{s.get(Authorized).ID}
	}, []string{ruleStock}},
	{ruleConfirmed, "confirmed beside the shipment", WasConfirmed, func(s *spoilt) {
		s.get(Confirmed).Causes = []string{s.get(Authorized).ID}
	}, nil},
	{ruleConfirmed, "shipped, then cancelled", WasConfirmed, func(s *spoilt) { s.get(Confirmed).Type = Cancelled }, []string{ruleWanted}},
	{rulePaid, "shipped without a payment", WasConfirmed, func(s *spoilt) {
		s.drop(Authorized)
		s.get(Shipped).Causes = []string{s.get(Reserved).ID}
	}, nil},
	{rulePaid, "shipped beside the payment", WasConfirmed, func(s *spoilt) {
		s.get(Shipped).Causes = []string{s.get(Placed).ID, s.get(Reserved).ID}
	}, nil},
	{rulePaid, "shipped without stock", WasConfirmed, func(s *spoilt) {
		s.drop(Reserved)
		s.get(Shipped).Causes = []string{s.get(Authorized).ID}
	}, nil},
	{rulePaid, "shipped beside the stock", WasConfirmed, func(s *spoilt) {
		s.get(Shipped).Causes = []string{s.get(Authorized).ID}
	}, nil},
	{ruleStock, "reserved what is out of stock", WasShort, func(s *spoilt) { s.say(Reserved, Placed) }, nil},
	{ruleStock, "shipped what is out of stock", WasShort, func(s *spoilt) { s.say(Shipped, Authorized) }, []string{rulePaid, ruleNeverBoth, ruleConfirmed}},
	{ruleStock, "released what is shipped", WasConfirmed, func(s *spoilt) { s.say(Released, Shipped) }, nil},
	{ruleStock, "released for another reason", WasRefunded, func(s *spoilt) {
		s.get(Released).Causes = []string{s.get(Placed).ID}
	}, nil},
	{ruleOnce, "released twice", WasRefunded, func(s *spoilt) { s.say(Released, ShipFailed) }, []string{ruleStock}},
	{ruleOnce, "reserved twice", WasRefunded, func(s *spoilt) { s.say(Reserved, Placed) }, nil},
	{ruleOnce, "rejected twice", WasShort, func(s *spoilt) { s.say(Rejected, Placed) }, nil},
	{ruleDeclined, "declined and shipped", WasDeclined, func(s *spoilt) { s.say(Shipped, Declined) }, []string{rulePaid, ruleConfirmed, ruleNeverBoth, ruleStock}},
	{ruleDeclined, "declined and authorized", WasDeclined, func(s *spoilt) { s.say(Authorized, Placed) }, nil},
	{ruleDeclined, "declined, then confirmed", WasDeclined, func(s *spoilt) { s.get(Cancelled).Type = Confirmed }, []string{ruleConfirmed, ruleWanted, ruleFailed}},
	{ruleDeclined, "declined, cancelled for another reason", WasDeclined, func(s *spoilt) {
		s.get(Cancelled).Causes = []string{s.get(Placed).ID}
	}, nil},
	{ruleFailed, "failed, not refunded", WasRefunded, func(s *spoilt) {
		s.drop(Refunded)
		s.get(Cancelled).Causes = []string{s.get(ShipFailed).ID}
	}, []string{ruleWanted}},
	{ruleFailed, "failed, then confirmed", WasRefunded, func(s *spoilt) { s.get(Cancelled).Type = Confirmed }, []string{ruleConfirmed, ruleWanted}},
	{ruleFailed, "cancelled before the refund", WasRefunded, func(s *spoilt) {
		s.get(Cancelled).Causes = []string{s.get(ShipFailed).ID}
	}, nil},
	{ruleRefund, "refunded without a failed shipment", WasRefunded, func(s *spoilt) {
		s.drop(ShipFailed)
		s.get(Refunded).Causes, s.get(Released).Causes = []string{s.get(Authorized).ID}, []string{s.get(Authorized).ID}
	}, []string{ruleStock}},
	{ruleRefund, "refunded what was not authorized", WasRefunded, func(s *spoilt) {
		s.drop(Authorized)
		s.get(ShipFailed).Causes = []string{s.get(Placed).ID}
	}, nil},
	{ruleExpired, "given up because of the expiry itself", WasDeclined, func(s *spoilt) {
		s.say(Expired, Placed)
		s.get(Cancelled).Causes = append(s.get(Cancelled).Causes, s.get(Expired).ID)
	}, []string{ruleEffects, rulePast}},
	{ruleNeverBoth, "shipped and refunded", WasConfirmed, func(s *spoilt) { s.say(Refunded, Shipped) }, []string{ruleRefund}},
	{ruleNeverBoth, "shipped and failed", WasConfirmed, func(s *spoilt) { s.say(ShipFailed, Authorized) }, []string{ruleFailed}},
	{ruleNeverBoth, "shipped and refunded, unfinished", WasConfirmed, func(s *spoilt) {
		s.drop(Confirmed)
		s.say(Refunded, Shipped)
	}, []string{ruleRefund}},
	{ruleCauses, "an event without a cause", WasConfirmed, func(s *spoilt) { s.get(Authorized).Causes = nil }, nil},
	{ruleCauses, "a cause that is nowhere", WasConfirmed, func(s *spoilt) { s.get(Authorized).Causes = []string{"gone"} }, nil},
	{ruleCauses, "one of two causes is nowhere", WasConfirmed, func(s *spoilt) {
		s.get(Confirmed).Causes = append(s.get(Confirmed).Causes, "gone")
	}, nil},
	{ruleCauses, "a cause in another flow", WasConfirmed, func(s *spoilt) { s.get(Authorized).Causes = []string{"flow-1/order.placed.v1"} }, nil},
	{ruleCauses, "placed with a cause", WasConfirmed, func(s *spoilt) { s.get(Placed).Causes = []string{"gone"} }, nil},
	{ruleCauses, "a cycle of causes", WasRefunded, func(s *spoilt) {
		s.get(Authorized).Causes = []string{s.get(ShipFailed).ID}
	}, nil},
	{ruleKeys, "another key", WasConfirmed, func(s *spoilt) { s.get(Shipped).Key = "x" }, nil},
	{ruleKeys, "another partition", WasConfirmed, func(s *spoilt) { s.get(Confirmed).Partition++ }, nil},
	{rulePast, "an effect before its cause", WasConfirmed, func(s *spoilt) {
		s.get(Confirmed).Offset, s.get(Placed).Offset = s.get(Placed).Offset, s.get(Confirmed).Offset
	}, nil},
	{rulePast, "a refund before its authorization", WasRefunded, func(s *spoilt) {
		s.get(Authorized).Offset, s.get(Refunded).Offset = s.get(Refunded).Offset, s.get(Authorized).Offset
	}, nil},
	{ruleEffects, "effects the wrong way round", WasRefunded, func(s *spoilt) {
		// What one service says of the payment's first and second event.
		s.get(ShipFailed).Offset = 9
		e := s.say(ShipFailed, Refunded)
		e.Offset = 5
	}, []string{ruleOnce, rulePast}},
	{ruleWanted, "confirmed, should be declined", WasConfirmed, func(s *spoilt) { s.order.Want = WasDeclined }, nil},
	{ruleWanted, "declined, should be refunded", WasDeclined, func(s *spoilt) { s.order.Want = WasRefunded }, nil},
	{ruleWanted, "refunded, should be confirmed", WasRefunded, func(s *spoilt) { s.order.Want = WasConfirmed }, nil},
	{ruleWanted, "cancelled for no reason", WasDeclined, func(s *spoilt) {
		for _, t := range []string{Declined, ShipFailed, Voided} {
			s.drop(t)
		}
		s.get(Cancelled).Causes, s.get(Released).Causes = []string{s.get(Placed).ID}, []string{s.get(Placed).ID}
	}, []string{ruleStock}},
	{ruleStranger, "a flow of nobody", WasConfirmed, func(s *spoilt) {
		s.events = append(s.events, history{flow: "flow-7", ref: "nobody"}.then(Placed).events...)
	}, nil},
	{ruleMalformed, "a record that is no event", WasConfirmed, func(s *spoilt) {
		s.malformed = append(s.malformed, errors.New("no event"))
	}, nil},
}

func TestViolationsAreCaught(t *testing.T) {
	for _, v := range violations {
		t.Run(v.rule+"/"+v.name, func(t *testing.T) {
			o, events := right(0, v.of)
			other, others := right(1, WasConfirmed)
			s := &spoilt{order: &o, events: events}
			v.spoil(s)
			r := Judge([]Order{o, other}, History{Events: append(s.events, others...), Malformed: s.malformed})
			broken := map[string]bool{}
			for _, x := range r.Violations {
				broken[x.Rule] = true
				if x.Message == "" || x.Order == "" && x.Rule != ruleStranger && x.Rule != ruleMalformed {
					t.Errorf("says too little: %+v", x)
				}
			}
			want := map[string]bool{v.rule: true}
			for _, a := range v.also {
				want[a] = true
			}
			for rule := range want {
				if !broken[rule] {
					t.Errorf("%s was not caught: %v", rule, r.Violations)
				}
			}
			for rule := range broken {
				if !want[rule] {
					t.Errorf("%s should not be broken: %v", rule, r.Violations)
				}
			}
			if r.Wrong != 1 || r.Unfinished != 0 {
				t.Errorf("%d wrong, %d unfinished", r.Wrong, r.Unfinished)
			}
			if s := r.Confirmed + r.Declined + r.Refunded + r.Short; s != 1 && v.rule != ruleStranger && v.rule != ruleMalformed {
				t.Errorf("%d are right, want the other order only", s)
			}
		})
	}
}

// A rule that nothing breaks in these tests might be one that cannot fail.
func TestEveryRuleHasAViolation(t *testing.T) {
	for _, r := range Rules() {
		if r[1] == "" || !slices.ContainsFunc(violations, func(v violation) bool { return v.rule == r[0] }) {
			t.Errorf("rule %s has no violation in the tests, or no words", r[0])
		}
	}
}

func TestOthersOnSharedTopics(t *testing.T) {
	o, events := right(0, WasConfirmed)
	_, others := right(1, WasDeclined)
	others[1].Causes = nil // wrong, but not ours
	h := History{Events: append(events, others...), Malformed: []error{errors.New("no event")}, Shared: true}
	if r := Judge([]Order{o}, h); r.Wrong != 0 || r.Confirmed != 1 {
		t.Errorf("shared: %+v", r)
	}
	h.Shared = false
	if r := Judge([]Order{o}, h); r.Wrong != 2 {
		t.Errorf("not shared: %+v", r)
	}
}

// Effects of causes on two partitions, and of two services, may come in any
// order.
func TestEffectsWithoutAnOrder(t *testing.T) {
	for name, change := range map[string]func(x *Event){
		"another service":         func(x *Event) { x.Source = "/other" },
		"another partition":       func(x *Event) { x.Partition++ },
		"the same cause":          func(x *Event) { x.Causes = []string{"c1"} },
		"causes on two topics":    func(x *Event) { x.Causes = []string{"c3"} },
		"in order":                func(x *Event) { x.Offset = 20 },
		"a cause that is no more": func(x *Event) { x.Causes = []string{"gone"} },
	} {
		t.Run(name, func(t *testing.T) {
			events := []Event{
				{ID: "c1", Topic: "a", Offset: 1}, {ID: "c2", Topic: "a", Offset: 2}, {ID: "c3", Topic: "b", Offset: 3},
				{ID: "e1", Topic: "t", Offset: 10, Source: "/s", Causes: []string{"c1"}},
				{ID: "e2", Topic: "t", Offset: 5, Source: "/s", Causes: []string{"c2"}},
			}
			count := func() (n int) {
				effects(newFlow("f", events, nil), Order{}, func(string, ...any) { n++ })
				return n
			}
			if count() != 1 {
				t.Fatal("the effects are the wrong way round, and it was not said once")
			}
			if change(&events[4]); count() != 0 {
				t.Error("these effects have no order")
			}
		})
	}
}
