package check

import (
	"cmp"
	"fmt"
	"slices"
)

// Outcome is how a flow of the order example ends.
type Outcome string

const (
	// WasConfirmed is an order that was paid and shipped.
	WasConfirmed Outcome = "confirmed"
	// WasDeclined is an order that was cancelled because it was not paid.
	WasDeclined Outcome = "declined"
	// WasRefunded is an order that was cancelled after it was paid, because it
	// could not be shipped.
	WasRefunded Outcome = "refunded"
	// WasShort is an order that was cancelled because its goods were out of stock,
	// whether it was paid by then or not.
	WasShort Outcome = "out of stock"
)

// Outcomes are all that there are, in the order in which they are shown.
var Outcomes = []Outcome{WasConfirmed, WasDeclined, WasRefunded, WasShort}

// Order is one order that was placed.
type Order struct {
	// Ref is the customer that it was placed for, another for each order.
	Ref string
	// Flow is the id that the order service answered with; empty if it never
	// answered.
	Flow string
	// Want is what the order's content demands. An order that has expired may be
	// cancelled instead.
	Want Outcome
}

// Violation is one breach of a rule.
type Violation struct {
	// Rule is the rule's name; see [Rules].
	Rule string `json:"rule"`
	// Order is the order's Ref, empty if the breach belongs to no order.
	Order string `json:"order,omitempty"`
	// Flow is the correlation id, empty if it is not known.
	Flow    string `json:"flow,omitempty"`
	Message string `json:"message"`
}

func (v Violation) String() string {
	return fmt.Sprintf("%s: order %q, flow %q: %s", v.Rule, v.Order, v.Flow, v.Message)
}

// Report is the verdict on a history. Every order is counted once: under its
// outcome, as unfinished, or as wrong.
type Report struct {
	Confirmed  int `json:"confirmed"`
	Declined   int `json:"declined"`
	Refunded   int `json:"refunded"`
	Short      int `json:"outOfStock"`
	Unfinished int `json:"unfinished"`
	// Expired counts the orders that had expired when they ended; they are under their
	// outcome too.
	Expired int `json:"expired"`
	// Wrong counts orders with a violation, flows that belong to no order, and
	// records that are no events.
	Wrong      int         `json:"wrong"`
	Violations []Violation `json:"violations"`
	// Lacking says for each unfinished order what is there of it.
	Lacking []string `json:"lacking"`
	// Examples holds the events of one right flow of each outcome.
	Examples map[Outcome][]Event `json:"-"`
}

// History is what was read from the topics.
type History struct {
	Events []Event
	// Malformed are the errors of [Parse].
	Malformed []error
	// Shared says that others place orders on the same topics: flows that
	// belong to none of our orders, and records that are no events, are theirs.
	Shared bool
}

// Judge judges a history: what became of each order, and whether every rule
// was kept. The order of h.Events does not matter.
func Judge(orders []Order, h History) Report {
	r := Report{Examples: map[Outcome][]Event{}, Violations: []Violation{}, Lacking: []string{}}
	flows := map[string][]Event{}
	byID := map[string]string{} // event id -> flow, to say of a missing cause where it is
	for _, e := range h.Events {
		flows[e.Flow] = append(flows[e.Flow], e)
		byID[e.ID] = e.Flow
	}
	placed := map[string][]string{} // ref -> flows in which an order was placed
	for id, events := range flows {
		for _, e := range events {
			if e.Type == Placed && !slices.Contains(placed[e.Ref], id) {
				placed[e.Ref] = append(placed[e.Ref], id)
			}
		}
	}
	doubled := doubledIDs(h.Events)
	ours := map[string]bool{}
	for _, o := range orders {
		ids := placed[o.Ref]
		slices.Sort(ids)
		for _, id := range ids {
			ours[id] = true
		}
		if o.Flow != "" {
			ours[o.Flow] = true
		}
		r.judge(o, ids, flows, byID, doubled)
	}
	if !h.Shared {
		r.judgeStrangers(flows, ours, h.Malformed)
	}
	slices.SortStableFunc(r.Violations, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.Flow, b.Flow), cmp.Compare(a.Rule, b.Rule))
	})
	return r
}

func (r *Report) judge(o Order, ids []string, flows map[string][]Event, byID map[string]string, doubled map[string][]string) {
	id := o.Flow
	if id == "" && len(ids) > 0 {
		id = ids[0]
	}
	f := newFlow(id, flows[id], byID)
	var found []Violation
	add := func(rule, format string, args ...any) {
		found = append(found, Violation{Rule: rule, Order: o.Ref, Flow: id, Message: fmt.Sprintf(format, args...)})
	}
	for _, other := range ids {
		if other != id {
			add(rulePlacedOnce, "the order was placed in flow %q too", other)
		}
	}
	for _, message := range doubled[id] {
		add(ruleIDs, "%s", message)
	}
	for _, rule := range flowRules {
		rule.judge(f, o, func(format string, args ...any) { add(rule.name, format, args...) })
	}
	switch {
	case len(found) > 0:
		r.Wrong++
		r.Violations = append(r.Violations, found...)
		return
	case !f.ended():
		r.Unfinished++
		r.Lacking = append(r.Lacking, lacking(o, f))
		return
	}
	outcome := f.outcome()
	switch outcome {
	case WasConfirmed:
		r.Confirmed++
	case WasDeclined:
		r.Declined++
	case WasRefunded:
		r.Refunded++
	case WasShort:
		r.Short++
	}
	if f.has(Expired) {
		r.Expired++
	}
	if r.Examples[outcome] == nil {
		r.Examples[outcome] = f.events
	}
}

func lacking(o Order, f *flow) string {
	switch {
	case o.Flow == "" && len(f.events) == 0:
		return fmt.Sprintf("order %q: it was not accepted, and no event of it is there", o.Ref)
	case len(f.events) == 0:
		return fmt.Sprintf("order %q, flow %q: it was accepted, but no event of it is there", o.Ref, f.id)
	}
	last := f.events[len(f.events)-1]
	if f.has(Cancelled) {
		return fmt.Sprintf("order %q, flow %q: cancelled, and no %s; the last of %d events is %v", o.Ref, f.id, short(Released), len(f.events), last)
	}
	return fmt.Sprintf("order %q, flow %q: no outcome; the last of %d events is %v", o.Ref, f.id, len(f.events), last)
}

// judgeStrangers reports what belongs to no order on topics that are ours alone.
func (r *Report) judgeStrangers(flows map[string][]Event, ours map[string]bool, malformed []error) {
	for id, events := range flows {
		if !ours[id] {
			r.Wrong++
			r.Violations = append(r.Violations, Violation{Rule: ruleStranger, Flow: id,
				Message: fmt.Sprintf("%d events belong to no order that was placed; one is %v", len(events), events[0])})
		}
	}
	for _, err := range malformed {
		r.Wrong++
		r.Violations = append(r.Violations, Violation{Rule: ruleMalformed, Message: err.Error()})
	}
}

// doubledIDs finds events that share source and id, by flow.
func doubledIDs(events []Event) map[string][]string {
	type name struct{ source, id string }
	first := make(map[name]int, len(events))
	doubled := map[string][]string{}
	for i, e := range events {
		n := name{e.Source, e.ID}
		j, seen := first[n]
		if !seen {
			first[n] = i
			continue
		}
		flows := []string{e.Flow}
		if f := events[j].Flow; f != e.Flow {
			flows = append(flows, f)
		}
		for _, f := range flows {
			doubled[f] = append(doubled[f], fmt.Sprintf("%v and %v have the same source and id", events[j], e))
		}
	}
	return doubled
}
