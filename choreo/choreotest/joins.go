package choreotest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/choreography-go/choreography/choreo/contract"
	"github.com/choreography-go/choreography/choreo/internal/journal"
	"github.com/twmb/franz-go/pkg/kgo"
)

// JoinStatus says how far a step that joins events has come in a flow.
type JoinStatus string

// The statuses.
const (
	JoinWaiting   JoinStatus = "waiting"   // some of its events have come, and others have not
	JoinDone      JoinStatus = "done"      // the step has run, or is tried
	JoinCancelled JoinStatus = "cancelled" // the step was cancelled
)

// joins are the joins of flows, as journals tell.
type joins map[joinOf]joinStanding

type joinOf struct{ journal, flow, step string }

type joinStanding struct {
	status journal.JoinStatus
	since  time.Time // when the first half came
}

// take notes what a record of a journal says of them.
func (j joins) take(rec *kgo.Record) {
	flow, slot, ok := slotOf(rec.Key)
	step, is := strings.CutPrefix(slot, "join/")
	if !ok || !is {
		return
	}
	of := joinOf{rec.Topic, flow, step}
	if rec.Value == nil {
		delete(j, of)
	} else if _, _, status, since, ok := journal.ReadJoin(rec); ok {
		j[of] = joinStanding{status, since}
	}
}

// waiting tells of the joins of a flow that wait, "" if none does.
func (j joins) waiting(flow string) string {
	var all []string
	for of, x := range j {
		if of.flow == flow && x.status == journal.JoinWaiting {
			all = append(all, fmt.Sprintf("step %q of %s has waited since %s for what it joins", of.step, strings.TrimSuffix(of.journal, ".journal"), x.since.UTC().Format(time.TimeOnly)))
		}
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}

// Join is how far a step that joins events has come in the flow, as far as the
// journal was read; "" if nothing of it has come.
func (s *Service) Join(flow, step string) JoinStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.joinStatus(flow, step)
}

func (s *Service) joinStatus(flow, step string) JoinStatus {
	if x, ok := s.joins[joinOf{s.svc.Name() + ".journal", flow, step}]; ok {
		return JoinStatus(x.status.String())
	}
	return ""
}

// ExpectJoin waits until a step that joins events has come so far in the flow, and
// fails the test if it never does.
func (s *Service) ExpectJoin(flow, step string, want JoinStatus) {
	s.t.Helper()
	got, ok := await(s, func() (JoinStatus, bool) {
		got := s.joinStatus(flow, step)
		return got, got == want
	})
	if got == "" {
		got = "not begun"
	}
	if !ok {
		s.t.Fatalf("flow %q: the join of step %q is %s after %v, not %s\n%s", flow, step, got, s.patience, want, s.Tree(flow))
	}
}

// cause names what an event of a step was said on: an event, or all that the step
// joins.
func (f Flow) cause(e FlowEvent) (hash journal.Hash, what string, ok bool) {
	if len(e.CausationIDs) == 0 {
		cause := f.find(e.CausationID)
		if cause == nil {
			return hash, e.CausationID, false
		}
		return journal.HashOf(cause.Source, cause.ID), cause.Type + " " + cause.ID, true
	}
	var j journal.Join
	for _, id := range e.CausationIDs {
		cause := f.find(id)
		if cause == nil {
			return hash, id, false
		}
		j.Halves = append(j.Halves, journal.Half{Event: journal.Event{Source: cause.Source, ID: cause.ID}})
	}
	return j.Hash(), fmt.Sprintf("the events %q", e.CausationIDs), true
}

// halves are those of the join that a step is in every version of its service; nil
// if versions differ.
func (s *simulatedService) halves(step string) (halves [][]string) {
	for i, c := range s.contracts {
		at := slices.IndexFunc(c.Joins, func(j contract.Join) bool { return j.Name == step })
		if at < 0 || i > 0 && !slices.EqualFunc(halves, c.Joins[at].Halves, slices.Equal) {
			return nil
		}
		halves = c.Joins[at].Halves
	}
	return halves
}

// half tells what is wrong with what became of an event that a step joins; "" if
// nothing is.
func (m memory) half(f Flow, step string, e FlowEvent) string {
	j, _ := m.store.Join(f.ID, step)
	if m.closed[stepOf{f.ID, step}] || len(m.store.Runs(f.ID, step)) > 0 {
		return ""
	}
	if len(j.Halves) == 0 {
		return "has neither kept it, nor run, nor was it cancelled"
	}
	halves := m.service.halves(step)
	if len(halves) == 0 {
		return ""
	}
	missing, kept := false, false
	for _, types := range halves {
		has := slices.ContainsFunc(j.Halves, func(h journal.Half) bool { return slices.Contains(types, h.Type) })
		missing = missing || !has
		kept = kept || has && slices.Contains(types, e.Type)
	}
	switch {
	case !missing:
		return "has not run, though it has all that it joins"
	case !kept:
		return "has not kept it for what it joins"
	}
	return ""
}
