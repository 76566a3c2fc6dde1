package choreotest

import (
	"fmt"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/deadletter"
	"github.com/choreography-go/choreography/choreo/operator"
	"github.com/twmb/franz-go/pkg/kgo"
)

// history is all that was committed in one run.
type history struct {
	flows    []Flow                   // in the order in which they began
	all      map[string][]FlowEvent   // by flow, with what was published twice, in the order of reading
	journals map[string][]*kgo.Record // by service, each partition's in its order
	extra    map[eventName]int        // copies that faults have published
	broken   []violation              // what could not be read
	events   int
}

// history gathers what the observer has read.
func (w *World) history() history {
	h := history{all: map[string][]FlowEvent{}, journals: map[string][]*kgo.Record{}, extra: w.duplicates}
	flows := map[string]*Flow{}
	var order []string
	flow := func(id string) *Flow {
		f := flows[id]
		if f == nil {
			f = &Flow{ID: id}
			flows[id] = f
			order = append(order, id)
		}
		return f
	}
	for _, id := range w.flows {
		flow(id)
	}
	for _, rec := range w.see.records {
		switch t := w.see.kinds[rec.Topic]; t.kind {
		case journalTopic:
			h.journals[t.service] = append(h.journals[t.service], rec)
		case deadLetterTopic:
			if deadletter.IsMark(rec) {
				continue
			}
			if a, ok := operator.ReadAudit(rec); ok {
				f := flow(a.Flow)
				f.Audits = append(f.Audits, a)
				continue
			}
			f := flow(flowOfRecord(rec))
			f.DeadLetters = append(f.DeadLetters, DeadLetter{rec})
		case eventTopic:
			ev, err := cloudevent.Read(rec)
			if err != nil {
				h.broken = append(h.broken, violation{"every event can be read", "", fmt.Sprintf("%s/%d/%d: %v", rec.Topic, rec.Partition, rec.Offset, err)})
				continue
			}
			h.events++
			id := flowOfRecord(rec)
			e := FlowEvent{ev, rec.Topic, rec.Partition, rec.Offset}
			h.all[id] = append(h.all[id], e)
			f := flow(id)
			name := eventName{ev.Source, ev.ID}
			if copies := count(h.all[id], name); copies > 1 && copies <= 1+h.extra[name] {
				continue
			}
			f.Events = append(f.Events, e)
		}
	}
	for _, id := range order {
		f := flows[id]
		f.Events = causal(f.Events)
		h.flows = append(h.flows, *f)
	}
	return h
}

// count is how many of the events have a name.
func count(events []FlowEvent, name eventName) int {
	n := 0
	for _, e := range events {
		if e.Source == name.source && e.ID == name.id {
			n++
		}
	}
	return n
}

// checkFlows checks that every flow that began has ended or shows as stuck, and
// the invariants of the test.
func (w *World) checkFlows(h history) (all []violation) {
	began := map[string]bool{}
	for _, id := range w.flows {
		began[id] = true
	}
	for _, f := range h.flows {
		if began[f.ID] && !f.Ended() && !f.Stuck() {
			text := fmt.Sprintf("it has neither ended nor a dead letter %v after the last fault", w.sim.Settle)
			if joins := w.see.incomplete(f.ID); joins != "" {
				text += ": " + joins
			}
			all = append(all, violation{allEnd, f.ID, text})
		}
		for _, i := range w.sim.invariants {
			if err := i.Check(f); err != nil {
				all = append(all, violation{i.Name, f.ID, err.Error()})
			}
		}
	}
	return all
}
