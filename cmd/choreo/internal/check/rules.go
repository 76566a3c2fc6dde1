package check

import (
	"slices"
	"strings"
)

// Names of the rules.
const (
	rulePlacedOnce = "placed-once"
	ruleAnswer     = "answer"
	ruleOneOutcome = "one-outcome"
	ruleOnce       = "once"
	ruleKnown      = "known-types"
	ruleConfirmed  = "confirmed-is-shipped"
	rulePaid       = "shipped-is-paid"
	ruleDeclined   = "declined-is-cancelled"
	ruleFailed     = "failed-is-refunded"
	ruleRefund     = "refund-has-reason"
	ruleStock      = "stock-is-shipped-or-released"
	ruleNeverBoth  = "never-shipped-and-refunded"
	ruleExpired    = "expiry-is-decided"
	ruleIDs        = "ids"
	ruleCauses     = "causes"
	ruleKeys       = "keys"
	rulePast       = "past-first"
	ruleEffects    = "effects-in-order"
	ruleWanted     = "wanted-outcome"
	ruleStranger   = "strangers"
	ruleMalformed  = "malformed"
)

// rule judges one flow. What must not be is reported in any flow, what must be
// only in a flow that has ended: before, it may still come.
type rule struct {
	name string
	// says is the rule in words.
	says  string
	judge func(f *flow, o Order, violated func(format string, args ...any))
}

// Rules returns every rule, name and words.
func Rules() [][2]string {
	all := [][2]string{
		{ruleIDs, "no two events have the same source and id"},
		{ruleStranger, "every flow on the topics belongs to an order that was placed (unless others use them too)"},
		{ruleMalformed, "every record on the topics is an event (unless others use them too)"},
	}
	for _, r := range flowRules {
		all = append(all, [2]string{r.name, r.says})
	}
	return all
}

var flowRules = []rule{
	{rulePlacedOnce, "every order is placed once, in one flow", placedOnce},
	{ruleAnswer, "the flow that the order service answers with is that of the order", answer},
	{ruleOneOutcome, "a flow has one outcome", oneOutcome},
	{ruleOnce, "nothing happens twice: each type of event is at most once in a flow", once},
	{ruleKnown, "only the types of the order flow are said, and payment.voided only of what was not paid for, or might not be", known},
	{ruleConfirmed, "confirmed if and only if shipped, and because of it", confirmed},
	{rulePaid, "shipped only because of an authorized payment and of reserved stock, both of them", paid},
	{ruleDeclined, "declined: cancelled because of it, never shipped", declined},
	{ruleFailed, "shipment failed: refunded exactly once because of it, or never paid if it was declined, out of stock or expired, then cancelled because of that", failed},
	{ruleRefund, "refunded only because of a failed shipment, and what was authorized", refund},
	{ruleStock, "stock: released exactly once because of a failed shipment, never of what is shipped; rejected: never reserved or shipped", stock},
	{ruleNeverBoth, "never both shipped and refunded, nor shipped and failed", neverBoth},
	{ruleExpired, "expired: nothing but the decision about the shipment follows from that alone, and the order ends by it", expiry},
	{ruleCauses, "the causes of every event lead back to order.placed in the same flow; order.placed has none", causes},
	{ruleKeys, "an event's key is its flow, and the flow's events on one topic lie on one partition", keys},
	{rulePast, "on one partition no event precedes one that is in its causal past", pastFirst},
	{ruleEffects, "what one service says of two causes that lie on one partition lies, on one partition, in the order of the causes", effects},
	{ruleWanted, "the outcome is the one that the order's content demands", wanted},
}

func placedOnce(f *flow, _ Order, violated func(string, ...any)) {
	if all := f.of(Placed); len(all) > 1 {
		violated("the order was placed %d times: %v", len(all), all)
	} else if len(all) == 0 && len(f.events) > 0 {
		violated("there are events of the flow but no %s; one is %v", short(Placed), f.events[0])
	}
}

func answer(f *flow, o Order, violated func(string, ...any)) {
	for _, e := range f.of(Placed) {
		if e.Ref != o.Ref {
			violated("the order service answered with this flow, in which the order of %q was placed", e.Ref)
		}
	}
}

func oneOutcome(f *flow, _ Order, violated func(string, ...any)) {
	if all := append(f.of(Confirmed), f.of(Cancelled)...); len(all) > 1 {
		violated("there are %d outcomes: %v", len(all), all)
	}
}

func once(f *flow, _ Order, violated func(string, ...any)) {
	for _, t := range []string{Authorized, Declined, Refunded, Voided, Reserved, Rejected, Released, Shipped, ShipFailed, Expired} {
		if all := f.of(t); len(all) > 1 {
			violated("%s is there %d times: %v", short(t), len(all), all)
		}
	}
}

func known(f *flow, _ Order, violated func(string, ...any)) {
	for _, e := range f.events {
		switch e.Type {
		case Placed, Confirmed, Cancelled, Authorized, Declined, Refunded, Reserved, Rejected, Released, Shipped, ShipFailed, Expired:
			continue
		case Voided:
			if f.has(Expired) || f.has(Rejected) || f.has(Declined) {
				continue
			}
			fallthrough
		default:
			violated("%v should not be in this flow", e)
		}
	}
}

func confirmed(f *flow, _ Order, violated func(string, ...any)) {
	for _, e := range f.of(Confirmed) {
		if !f.caused(Shipped, e) {
			violated("%v is not caused by %s", e, short(Shipped))
		}
	}
	if f.has(Shipped) && f.ended() && !f.has(Confirmed) {
		violated("shipped, but not confirmed")
	}
}

func paid(f *flow, _ Order, violated func(string, ...any)) {
	for _, e := range f.of(Shipped) {
		for _, t := range []string{Authorized, Reserved} {
			if !slices.ContainsFunc(e.Causes, func(id string) bool { i, ok := f.byID[id]; return ok && f.events[i].Type == t }) {
				violated("%v is not caused by %s", e, short(t))
			}
		}
	}
}

func stock(f *flow, _ Order, violated func(string, ...any)) {
	if f.has(Rejected) {
		for _, t := range []string{Reserved, Shipped} {
			for _, e := range f.of(t) {
				violated("out of stock, and yet %v", e)
			}
		}
	}
	releases := f.of(Released)
	for _, e := range releases {
		if !f.caused(ShipFailed, e) {
			violated("%v is not caused by %s", e, short(ShipFailed))
		}
		if f.has(Shipped) {
			violated("shipped, and yet %v", e)
		}
	}
	if f.ended() && f.has(Reserved) && !f.has(Shipped) && len(releases) != 1 {
		violated("reserved and not shipped, and there are %d releases instead of one", len(releases))
	}
}

func declined(f *flow, _ Order, violated func(string, ...any)) {
	if !f.has(Declined) {
		return
	}
	for _, t := range []string{Authorized, Shipped, Confirmed} {
		for _, e := range f.of(t) {
			violated("declined, and yet %v", e)
		}
	}
	other := f.has(Expired) || f.has(Rejected) // may have come first
	if f.ended() && !other && !f.causedAny(Declined, f.of(Cancelled)) {
		violated("declined, but not cancelled because of it")
	}
}

func failed(f *flow, _ Order, violated func(string, ...any)) {
	if !f.has(ShipFailed) {
		return
	}
	for _, e := range f.of(Confirmed) {
		violated("the shipment failed, and yet %v", e)
	}
	refunds := f.of(Refunded)
	never := (f.has(Expired) || f.has(Rejected)) && f.has(Voided) || f.has(Declined)
	if len(refunds) > 1 || len(refunds) == 0 && f.ended() && !never || len(refunds) > 0 && never {
		violated("the shipment failed, and there are %d refunds instead of one", len(refunds))
	}
	if f.ended() && len(refunds) > 0 && !f.causedAny(Refunded, f.of(Cancelled)) {
		violated("refunded, but not cancelled because of it")
	}
}

func refund(f *flow, _ Order, violated func(string, ...any)) {
	for _, e := range f.of(Refunded) {
		for _, t := range []string{ShipFailed, Authorized} {
			if t == Authorized && (f.has(Expired) || f.has(Rejected)) && f.has(Authorized) {
				continue // the cause of the failure is another one, which nobody has paid for
			}
			if !f.caused(t, e) {
				violated("%v is not caused by %s", e, short(t))
			}
		}
	}
}

func neverBoth(f *flow, _ Order, violated func(string, ...any)) {
	for _, t := range []string{Refunded, Voided, ShipFailed} {
		if f.has(Shipped) && f.has(t) {
			violated("both %s and %s", short(Shipped), short(t))
		}
	}
}

func expiry(f *flow, _ Order, violated func(string, ...any)) {
	for _, x := range f.of(Expired) {
		for _, e := range f.events {
			if e.Type != ShipFailed && slices.Contains(e.Causes, x.ID) {
				violated("%v follows from %v, which only asks for a decision", e, x)
			}
		}
	}
	if f.has(Expired) && f.ended() && !f.has(Shipped) && !f.has(ShipFailed) && !f.has(Declined) {
		violated("it has expired, and nobody has decided that")
	}
}

func causes(f *flow, _ Order, violated func(string, ...any)) {
	for i, e := range f.events {
		if e.Type == Placed {
			if len(e.Causes) > 0 {
				violated("%v starts the flow but has the causes %q", e, e.Causes)
			}
			continue
		}
		if len(e.Causes) == 0 {
			violated("%v has no cause", e)
		}
		for _, id := range e.Causes {
			if _, ok := f.byID[id]; ok {
				continue
			}
			if other, ok := f.elsewhere[id]; ok {
				violated("%v has a cause of another flow, %q", e, other)
			} else {
				violated("%v has the cause %.64q, which is nowhere", e, id)
			}
		}
		if f.ancestors(i)[i] {
			violated("%v is in its own causal past", e)
		}
	}
}

func keys(f *flow, _ Order, violated func(string, ...any)) {
	first := map[string]Event{}
	for _, e := range f.events {
		if e.Key != f.id {
			violated("%v has the key %.64q", e, e.Key)
		}
		if a, ok := first[e.Topic]; !ok {
			first[e.Topic] = e
		} else if a.Partition != e.Partition {
			violated("%v and %v lie on two partitions", a, e)
		}
	}
}

func pastFirst(f *flow, _ Order, violated func(string, ...any)) {
	for i, e := range f.events {
		for j := range f.ancestors(i) {
			if a := f.events[j]; samePartition(a, e) && a.Offset > e.Offset {
				violated("%v precedes %v, which is in its causal past", e, a)
			}
		}
	}
}

// effects compares only what one service said: others work on their own.
func effects(f *flow, _ Order, violated func(string, ...any)) {
	for i := range f.events {
		for j := range f.events {
			x, y := f.events[i], f.events[j]
			if x.Source != y.Source || !samePartition(x, y) || x.Offset >= y.Offset {
				continue
			}
			for _, c := range x.Causes {
				for _, d := range y.Causes {
					ci, ok1 := f.byID[c]
					di, ok2 := f.byID[d]
					if !ok1 || !ok2 || ci == di {
						continue
					}
					if cx, cy := f.events[ci], f.events[di]; samePartition(cx, cy) && cx.Offset > cy.Offset {
						violated("%v precedes %v, but its cause %v comes after the other's, %v", x, y, cx, cy)
					}
				}
			}
		}
	}
}

func wanted(f *flow, o Order, violated func(string, ...any)) {
	if !f.ended() {
		return
	}
	got := f.outcome()
	if given := f.has(Expired) && (got == WasRefunded || got == WasDeclined || got == WasShort); got != o.Want && !given {
		violated("the order was %s; by its content it should be %s", got, o.Want)
	}
}

// outcome is how an ended flow has ended.
func (f *flow) outcome() Outcome {
	switch {
	case f.has(Confirmed):
		return WasConfirmed
	case f.has(Declined):
		return WasDeclined
	case f.has(Rejected):
		return WasShort
	case f.has(Refunded):
		return WasRefunded
	case f.has(Voided):
		return WasDeclined // it was never paid
	}
	return "cancelled without a decline or a refund"
}

// causedAny reports whether there are events, and each has one of the type in
// its causal past.
func (f *flow) causedAny(eventType string, events []Event) bool {
	for _, e := range events {
		if !f.caused(eventType, e) {
			return false
		}
	}
	return len(events) > 0
}

func samePartition(a, b Event) bool { return a.Topic == b.Topic && a.Partition == b.Partition }

func short(eventType string) string { return strings.TrimPrefix(eventType, "com.example.") }
