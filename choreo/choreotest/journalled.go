package choreotest

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/contract"
	"github.com/choreography-go/choreography/choreo/internal/journal"
	"github.com/twmb/franz-go/pkg/kgo"
)

// memory is what a service's journal tells. Flows that were forgotten since are
// remembered here, with what was put last into each of their slots.
type memory struct {
	service *simulatedService
	steps   []string
	states  []string
	waits   []string // deadlines
	store   *journal.Store
	applied map[stateOf]map[journal.Hash]bool // the events that changed a state
	closed  map[stepOf]bool                   // cancelled
}

type (
	stateOf struct{ flow, state string }
	stepOf  struct{ flow, step string }
)

// remember folds the journal of a service.
func (s *simulation) remember(x *simulatedService, records []*kgo.Record) (memory, []violation) {
	m := memory{service: x, applied: map[stateOf]map[journal.Hash]bool{}, closed: map[stepOf]bool{}}
	c := journal.Config{States: map[string]time.Duration{}}
	for h := range s.hearers {
		switch {
		case h.service != x.name:
		case h.Role == contract.Reacts:
			c.Reactions = append(c.Reactions, h.Name)
		case h.Role == contract.Changes:
			c.States[h.Name] = 0
		case h.Role == contract.Sets, h.Role == contract.Meets:
			if !slices.Contains(c.Deadlines, h.Name) {
				c.Deadlines = append(c.Deadlines, h.Name)
			}
		case !slices.Contains(c.Steps, h.Name):
			c.Steps = append(c.Steps, h.Name)
		}
	}
	m.steps, m.states, m.waits, m.store = c.Steps, slices.Sorted(maps.Keys(c.States)), c.Deadlines, journal.New(c)
	over := deadlines{} // met or fired
	var all []violation
	for _, rec := range records {
		flow, slot, ok := slotOf(rec.Key)
		kind, rest, _ := strings.Cut(slot, "/")
		if rec.Value == nil && kind != "parked" && kind != "retry" {
			delete(over, deadlineOf{flow, rest})
			continue // forgotten
		}
		if !ok {
			all = append(all, violation{journalTold, "", fmt.Sprintf("%s/%d/%d has no slot in its key", rec.Topic, rec.Partition, rec.Offset)})
			continue
		}
		m.store.Apply(rec)
		switch kind {
		case "run":
			step := rest[:max(0, strings.LastIndexByte(rest, '/'))]
			if why := m.late(flow, step, rec); why != "" {
				all = append(all, violation{answerOnce, flow, why})
			}
		case "deadline":
			_, d, _ := journal.ReadDeadline(rec)
			of := deadlineOf{flow, rest}
			if was := over.status(of); was != "" {
				all = append(all, violation{journalTold, flow, fmt.Sprintf("deadline %q of %s was %s, and is %s after that (%s/%d/%d)",
					rest, x.name, was, d.Status, rec.Topic, rec.Partition, rec.Offset)})
			}
			if d.Status != journal.Pending {
				over[of] = d
			}
		case "cancelled":
			m.closed[stepOf{flow, rest}] = true
		case "state":
			of := stateOf{flow, rest}
			if m.applied[of] == nil {
				m.applied[of] = map[journal.Hash]bool{}
			}
			state, _ := m.store.State(flow, rest)
			for _, hash := range state.Applied {
				m.applied[of][hash] = true
			}
		}
	}
	if err := m.store.Restored(); err != nil {
		all = append(all, violation{journalTold, "", fmt.Sprintf("the journal of %s: %v", x.name, err)})
	}
	return m, all
}

// late tells what is wrong with the record of a run of a step that was
// cancelled before; "" if it was not, or the run is one that was undone.
func (m memory) late(flow, step string, rec *kgo.Record) string {
	if !m.closed[stepOf{flow, step}] {
		return ""
	}
	for _, run := range m.store.Runs(flow, step) {
		if !bytes.HasSuffix(rec.Key, []byte("/"+run.Hash.String())) || run.Status == journal.Undone || run.Status == journal.Left {
			continue
		}
		return fmt.Sprintf("step %q of %s has run after it was cancelled (%s/%d/%d)", step, m.service.name, rec.Topic, rec.Partition, rec.Offset)
	}
	return ""
}

// slotOf takes a journal key apart.
func slotOf(key []byte) (flow, slot string, ok bool) {
	i := bytes.LastIndexByte(key, 0)
	if i < 0 {
		return "", "", false
	}
	return string(key[:i]), string(key[i+1:]), true
}

// journalled holds each service's journal against what the events tell: every
// event that a step has said has its run, every run its event; every event
// heard by a step has an answer, and every one heard by a state has changed it.
func (h history) journalled(s *simulation) (all []violation) {
	for _, x := range s.services {
		m, wrong := s.remember(x, h.journals[x.name])
		all = append(all, wrong...)
		for _, f := range h.flows {
			all = append(all, m.said(f)...)
			all = append(all, m.heard(f, s)...)
			all = append(all, m.fired(f)...)
		}
	}
	return all
}

// statuses are how the run stands whose event is of a kind.
var statuses = map[cloudevent.Kind][]journal.Status{
	cloudevent.KindDid:    {journal.Did, journal.Undone, journal.Left},
	cloudevent.KindFailed: {journal.Failed},
	cloudevent.KindGaveUp: {journal.GaveUp, journal.Undone, journal.Left},
}

// said compares the runs in the journal with what the steps have said.
func (m memory) said(f Flow) (all []violation) {
	fail := func(format string, args ...any) {
		all = append(all, violation{journalTold, f.ID, fmt.Sprintf("the journal of %s: ", m.service.name) + fmt.Sprintf(format, args...)})
	}
	told := map[journal.Hash]bool{} // events whose runs an event tells of
	undone := map[string]bool{}     // events that were undone
	for _, e := range f.Events {
		if e.Kind == cloudevent.KindUndone {
			undone[e.Undoes] = true
		}
	}
	for _, e := range f.Events {
		if e.Service != m.service.name || !slices.Contains(m.steps, e.Step) {
			continue
		}
		hash, cause, found := f.cause(e)
		if !found {
			fail("%s of step %q has a cause that is not there, %s", e.Type, e.Step, cause)
			continue
		}
		if allowed, ok := statuses[e.Kind]; ok {
			told[hash] = true
			run, there := m.store.Run(f.ID, e.Step, hash)
			switch {
			case !there:
				fail("no run of step %q on %s, which it has answered by %s", e.Step, cause, e.Type)
			case !slices.Contains(allowed, run.Status):
				fail("the run of step %q on %s is %q, and what it has said is of kind %q", e.Step, cause, run.Status, e.Kind)
			case run.Status == journal.Undone && e.Kind == cloudevent.KindDid && !undone[e.ID]:
				fail("the run of step %q on %s is undone, and no event tells of it", e.Step, cause)
			}
			continue
		}
		if !m.closed[stepOf{f.ID, e.Step}] {
			fail("step %q has said %s and is not cancelled", e.Step, e.Type)
		}
	}
	for _, step := range m.steps {
		for _, run := range m.store.Runs(f.ID, step) {
			switch {
			case run.Status == journal.Dead:
				if !f.Stuck() {
					fail("the run of step %q on event %s is dead, and there is no dead letter", step, run.In.ID)
				}
			case (run.Status == journal.Undone || run.Status == journal.Left) && run.Out.ID == "" && m.closed[stepOf{f.ID, step}]:
				// its attempts were parked, and a compensation overtook them
			case !told[run.Hash] && (run.Status != journal.Undone || !f.Stuck()):
				fail("the run of step %q on event %s is %q, and no event tells of it", step, run.In.ID, run.Status)
			}
		}
	}
	return all
}

// fired compares the deadlines in the journal with what they have said.
func (m memory) fired(f Flow) (all []violation) {
	for _, name := range m.waits {
		said := map[string]bool{}
		for _, e := range f.Events {
			if e.Service == m.service.name && e.Step == name {
				said[e.ID] = true
			}
		}
		status := m.store.DeadlineStatus(f.ID, name)
		if want := status == journal.Fired; len(said) > 1 || want != (len(said) == 1) {
			all = append(all, violation{journalTold, f.ID, fmt.Sprintf("the journal of %s: deadline %q is %s, and has said %d events", m.service.name, name, status, len(said))})
		}
	}
	return all
}

// heard compares what was heard with what the journal says became of it.
func (m memory) heard(f Flow, s *simulation) (all []violation) {
	for h := range s.hearers {
		if h.service != m.service.name || h.Role != contract.Joins && !m.service.hasAlways(h.Name, h.event) {
			continue
		}
		for _, e := range f.Events {
			if e.Type != h.event || f.buried(e) {
				continue
			}
			hash := journal.HashOf(e.Source, e.ID)
			missing := ""
			switch h.Role {
			case contract.Runs:
				_, ran := m.store.Run(f.ID, h.Name, hash)
				if !ran && s.hasRole(h.service, h.Name, contract.Joins) {
					missing = m.half(f, h.Name, e) // by another version
				} else if !ran && !m.closed[stepOf{f.ID, h.Name}] {
					missing = "has neither run on it nor was it cancelled"
				}
			case contract.Joins:
				missing = m.half(f, h.Name, e)
			case contract.Changes:
				if !m.applied[stateOf{f.ID, h.Name}][hash] {
					missing = "was not changed by it"
				}
			case contract.Sets:
				if m.store.DeadlineStatus(f.ID, h.Name) == 0 {
					missing = "was neither set nor met"
				}
			case contract.Meets:
				if status := m.store.DeadlineStatus(f.ID, h.Name); status != journal.Met && status != journal.Fired {
					missing = "is " + status.String() + " though that meets it"
				}
			case contract.Compensates, contract.Cancels:
				if !m.closed[stepOf{f.ID, h.Name}] && len(m.store.Runs(f.ID, h.Name)) == 0 {
					missing = "has neither run nor was it cancelled by it"
				}
			}
			if missing != "" {
				all = append(all, violation{nothingLost, f.ID, fmt.Sprintf("%s heard %s %s (%s/%d/%d), and %q %s",
					m.service.name, e.Type, e.ID, e.Topic, e.Partition, e.Offset, h.Name, missing)})
			}
		}
	}
	return all
}

// buried reports whether an event is a dead letter.
func (f Flow) buried(e FlowEvent) bool {
	return slices.ContainsFunc(f.DeadLetters, func(d DeadLetter) bool { return d.Header("ce_id") == e.ID })
}
