package choreotest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/operator"
)

// Flow is what was committed of one flow, as anybody sees it who reads
// committed records only.
type Flow struct {
	// ID is the flow's correlation id.
	ID string
	// Events are all of its events, each after the one that caused it. What the
	// faults have published twice is listed once.
	Events []FlowEvent
	// DeadLetters are the events that a service could not work on.
	DeadLetters []DeadLetter
	// Audits tell what came of the commands of operators.
	Audits []operator.Audit
}

// FlowEvent is one event of a flow.
type FlowEvent struct {
	cloudevent.Event
	// Topic, Partition and Offset are where it lies.
	Topic     string
	Partition int32
	Offset    int64
}

// Has reports whether an event of that type was said.
func (f Flow) Has(eventType string) bool { return f.Count(eventType) > 0 }

// Count is how many events of that type were said.
func (f Flow) Count(eventType string) int {
	n := 0
	for _, e := range f.Events {
		if e.Type == eventType {
			n++
		}
	}
	return n
}

// Ended reports whether an event that is an outcome was said.
func (f Flow) Ended() bool {
	return slices.ContainsFunc(f.Events, func(e FlowEvent) bool { return e.Outcome != "" })
}

// Stuck reports whether the flow shows as stuck: one of its events is a dead
// letter.
func (f Flow) Stuck() bool { return len(f.DeadLetters) > 0 }

// find is the event of that id, nil if there is none.
func (f Flow) find(id string) *FlowEvent {
	for i := range f.Events {
		if f.Events[i].ID == id {
			return &f.Events[i]
		}
	}
	return nil
}

// causal puts events into an order in which each comes after its cause, and
// otherwise by their times.
func causal(events []FlowEvent) []FlowEvent {
	slices.SortStableFunc(events, func(a, b FlowEvent) int { return a.Time.Compare(b.Time) })
	at := map[string]int{}
	for i, e := range events {
		if _, ok := at[e.ID]; !ok {
			at[e.ID] = i
		}
	}
	placed := make([]bool, len(events))
	sorted := make([]FlowEvent, 0, len(events))
	var place func(int)
	place = func(i int) {
		if placed[i] {
			return
		}
		placed[i] = true
		for _, id := range events[i].CausationIDs {
			if cause, ok := at[id]; ok {
				place(cause)
			}
		}
		if cause, ok := at[events[i].CausationID]; ok {
			place(cause)
		}
		sorted = append(sorted, events[i])
	}
	for i := range events {
		place(i)
	}
	return sorted
}

// Tree shows the events of the flow, each below the one that caused it, with
// who said it, where it lies and its payload; and last its dead letters.
func (f Flow) Tree() string {
	if len(f.Events)+len(f.DeadLetters) == 0 {
		return "    (no event of this flow was committed)"
	}
	known := map[string]bool{}
	for _, e := range f.Events {
		known[e.ID] = true
	}
	var b strings.Builder
	var branch func(cause string, depth int)
	printed := make([]bool, len(f.Events))
	show := func(i, depth int) {
		e := f.Events[i]
		printed[i] = true
		fmt.Fprintf(&b, "    %s%s  [%s]  %s  %s/%d/%d  %s\n", strings.Repeat("  ", depth), e.Type, sayer(e.Event),
			e.Time.Format("04:05.000"), e.Topic, e.Partition, e.Offset, bounded(string(e.Data)))
		branch(e.ID, depth+1)
	}
	branch = func(cause string, depth int) {
		for i, e := range f.Events {
			if e.CausationID == cause && !printed[i] {
				show(i, depth)
			}
		}
	}
	for i, e := range f.Events {
		if !printed[i] && (e.CausationID == "" || !known[e.CausationID]) {
			show(i, 0)
		}
	}
	for i := range f.Events { // what goes round in a circle has no root
		if !printed[i] {
			show(i, 0)
		}
	}
	for _, d := range f.DeadLetters {
		fmt.Fprintf(&b, "    dead letter  [%s]  %s\n", d.Header("ce_type"), d.why())
	}
	return strings.TrimRight(b.String(), "\n")
}

// sayer tells who said an event, and on what occasion.
func sayer(e cloudevent.Event) string {
	if e.Service == "" {
		return "published"
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s %s", e.Service, e.Step, e.Kind))
}
