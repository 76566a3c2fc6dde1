package choreotest

import (
	"fmt"
	"slices"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/contract"
)

// The invariants that are always on.
const (
	sayOnce      = "no event is said twice"
	inOrder      = "what a step says stands in the order of its causes"
	nothingLost  = "everything heard is worked on"
	allEnd       = "every flow ends or shows as stuck"
	answerOnce   = "every trigger of a compensation is answered once"
	obeyOnce     = "every command of an operator is answered once"
	journalTold  = "the journal holds what the events tell"
	allStops     = "everything that was started stops"
	endsByItself = "no service ends by itself"
)

// check checks the invariants that are always on, as far as they are about what
// was committed.
func (h history) check(s *simulation) []violation {
	all := slices.Clone(h.broken)
	for _, f := range h.flows {
		all = append(all, h.saidOnce(f, s)...)
		all = append(all, h.ordered(f)...)
		all = append(all, answeredOnce(f)...)
		all = append(all, obeyedOnce(f)...)
	}
	all = append(all, h.journalled(s)...)
	return all
}

// obeyedOnce finds commands of operators that were answered more than once.
func obeyedOnce(f Flow) (all []violation) {
	answers := map[string]int{}
	for _, a := range f.Audits {
		if answers[a.Command]++; answers[a.Command] == 2 {
			all = append(all, violation{obeyOnce, f.ID, fmt.Sprintf("command %s to %s is answered more than once", a.Command, a.Do)})
		}
	}
	return all
}

// saidOnce finds events that a reader of committed records sees twice. What
// faults have published twice may be there twice, and so may be what a
// Reaction without memory has said about it.
func (h history) saidOnce(f Flow, s *simulation) (all []violation) {
	copies := map[eventName]int{}
	for _, e := range h.all[f.ID] {
		copies[eventName{e.Source, e.ID}]++
	}
	for _, e := range f.Events {
		name := eventName{e.Source, e.ID}
		n := copies[name]
		if delete(copies, name); n == 0 {
			continue // told already
		}
		allowed := 1
		if cause := f.find(e.CausationID); cause != nil && s.hasRole(e.Service, e.Step, contract.Reacts) {
			allowed = max(allowed, count(h.all[f.ID], eventName{cause.Source, cause.ID}))
		}
		if n > allowed+h.extra[name] {
			all = append(all, violation{sayOnce, f.ID, fmt.Sprintf("%s %s of %s stands there %d times", e.Type, e.ID, sayer(e.Event), n)})
		}
	}
	return all
}

// hasRole reports whether a handler of a service has a role for some event.
func (s *simulation) hasRole(service, name string, role contract.Role) bool {
	for h := range s.hearers {
		if h.service == service && h.Name == name && h.Role == role {
			return true
		}
	}
	return false
}

// ordered finds events of one step that stand in one partition in another order
// than their causes in theirs.
func (h history) ordered(f Flow) (all []violation) {
	first := map[string]FlowEvent{} // by id; of copies, the first one is what is worked on
	for _, e := range h.all[f.ID] {
		if _, ok := first[e.ID]; !ok {
			first[e.ID] = e
		}
	}
	type place struct {
		service, step, topic, causeTopic string
		partition, causePartition        int32
	}
	last := map[place]FlowEvent{}
	causes := map[place]FlowEvent{}
	for _, e := range h.all[f.ID] { // each partition's in its order
		cause, ok := first[e.CausationID]
		if !ok || first[e.ID].Offset != e.Offset || e.Service == "" {
			continue
		}
		p := place{e.Service, e.Step, e.Topic, cause.Topic, e.Partition, cause.Partition}
		if before, ok := causes[p]; ok && before.Offset > cause.Offset {
			all = append(all, violation{inOrder, f.ID, fmt.Sprintf("%s at %s/%d/%d stands before %s at offset %d, and their causes, at offsets %d and %d of %s/%d, stand the other way round",
				last[p].Type, p.topic, p.partition, last[p].Offset, e.Type, e.Offset, before.Offset, cause.Offset, cause.Topic, cause.Partition)})
		}
		last[p], causes[p] = e, cause
	}
	return all
}

// answeredOnce finds steps that have answered the triggers of their
// compensation more than once, or have undone some of their runs and others not.
func answeredOnce(f Flow) (all []violation) {
	type step struct{ service, name string }
	said := map[step]map[cloudevent.Kind][]FlowEvent{}
	var order []step
	for _, e := range f.Events {
		k := step{e.Service, e.Step}
		if said[k] == nil {
			said[k] = map[cloudevent.Kind][]FlowEvent{}
			order = append(order, k)
		}
		said[k][e.Kind] = append(said[k][e.Kind], e)
	}
	for _, k := range order {
		fail := func(format string, args ...any) {
			all = append(all, violation{answerOnce, f.ID, fmt.Sprintf("step %q of %s ", k.name, k.service) + fmt.Sprintf(format, args...)})
		}
		did, undone, cancelled := said[k][cloudevent.KindDid], said[k][cloudevent.KindUndone], said[k][cloudevent.KindCancelled]
		if len(cancelled) > 1 {
			fail("has said %d times that it is cancelled", len(cancelled))
		}
		if len(cancelled) > 0 && len(undone) > 0 {
			fail("has said both that it is undone and that it is cancelled")
		}
		times := map[string]int{}
		for _, u := range undone {
			times[u.Undoes]++
		}
		for _, d := range did {
			switch n := times[d.ID]; {
			case n > 1:
				fail("has undone its run %s %d times", d.ID, n)
			case n == 0 && len(undone) > 0:
				fail("has undone other runs and not the one that said %s", d.ID)
			case n == 0 && len(cancelled) > 0:
				fail("has said %s and that it is cancelled", d.ID)
			}
		}
	}
	return all
}
