package choreotest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/contract"
	"github.com/choreography-go/choreography/choreo/internal/journal"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A history of one flow: a and b were heard, and the step that joins them has said c.
func TestBrokenJoinsAreFound(t *testing.T) {
	heard := contract.Hearer{Name: "join", Role: contract.Joins}
	service := &simulatedService{name: "s", contracts: []contract.Contract{{
		Service: "s", Tasks: 1,
		Hears: []contract.Heard{{Event: contract.Event{Type: "a"}, By: []contract.Hearer{heard}}, {Event: contract.Event{Type: "b"}, By: []contract.Hearer{heard}}},
		Joins: []contract.Join{{Name: "join", Halves: [][]string{{"a"}, {"b"}}, Emits: "c"}},
	}}}
	s := &simulation{services: []*simulatedService{service}}
	at := time.Unix(1, 0)
	event := func(typ string) FlowEvent {
		return FlowEvent{Event: cloudevent.Event{ID: typ, Source: "/x", Type: typ, Time: at}}
	}
	a, b, c := event("a"), event("b"), event("c")
	c.Service, c.Step, c.Kind, c.CausationID, c.CausationIDs = "s", "join", cloudevent.KindDid, "b", []string{"a", "b"}
	half := func(e FlowEvent) journal.Half {
		return journal.Half{Event: journal.Event{Source: e.Source, ID: e.ID, Type: e.Type}, Heard: at}
	}
	// journalled is a journal that has kept halves, and a run on some.
	journalled := func(status journal.JoinStatus, ran []FlowEvent, kept ...FlowEvent) (all []*kgo.Record) {
		store := journal.New(journal.Config{Steps: []string{"join"}})
		put := func(c journal.Change, err error) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, c.Record("s.journal", 0, at))
		}
		var j journal.Join
		for _, e := range kept {
			j.Halves = append(j.Halves, half(e))
		}
		if j.Step, j.Status = "join", status; len(kept) > 0 {
			put(store.PutJoin("f", j, at))
		}
		if len(ran) > 0 {
			j.Halves = nil
			for _, e := range ran {
				j.Halves = append(j.Halves, half(e))
			}
			put(store.PutRun("f", journal.Run{Step: "join", Hash: j.Hash(), Status: journal.Did, Out: journal.Event{ID: "c"}}, at))
		}
		return all
	}
	both := []FlowEvent{a, b}
	for name, x := range map[string]struct {
		events  []FlowEvent
		journal []*kgo.Record
		want    []string // in one violation each
	}{
		"all is well":                    {[]FlowEvent{a, b, c}, journalled(journal.JoinDone, both, a, b), nil},
		"one half waits":                 {[]FlowEvent{a}, journalled(journal.JoinWaiting, nil, a), nil},
		"both wait":                      {both, journalled(journal.JoinWaiting, nil, a, b), []string{`"join" has not run, though it has all that it joins`}},
		"a half was not kept":            {both, journalled(journal.JoinWaiting, nil, a), []string{"has not kept it for what it joins"}},
		"nothing was kept":               {[]FlowEvent{a}, nil, []string{"has neither kept it, nor run, nor was it cancelled"}},
		"it has said what it did not do": {[]FlowEvent{a, b, c}, journalled(journal.JoinDone, nil, a, b), []string{`no run of step "join" on the events ["a" "b"]`}},
		"it ran on others":               {[]FlowEvent{a, b, c}, journalled(journal.JoinDone, []FlowEvent{b, c}, a, b), []string{`no run of step "join" on the events`, "no event tells of it"}},
		"a cause is nowhere":             {[]FlowEvent{b, c}, journalled(journal.JoinDone, both, a, b), []string{"has a cause that is not there, a"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := history{flows: []Flow{{ID: "f", Events: x.events}}, journals: map[string][]*kgo.Record{"s": x.journal}}
			got := h.journalled(s)
			for _, want := range x.want {
				if !slices.ContainsFunc(got, func(v violation) bool { return strings.Contains(v.text, want) }) {
					t.Errorf("nobody says %q: %v", want, got)
				}
			}
			if len(x.want) == 0 && len(got) > 0 {
				t.Errorf("found %v", got)
			}
		})
	}
}

func TestWhatWaitsForMoreIsTold(t *testing.T) {
	store := journal.New(journal.Config{Steps: []string{"join"}})
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	record := func(status journal.JoinStatus) *kgo.Record {
		c, err := store.PutJoin("f", journal.Join{Step: "join", Status: status, Halves: []journal.Half{{Heard: at}}}, at)
		if err != nil {
			t.Fatal(err)
		}
		return c.Record("s.journal", 0, at)
	}
	j := joins{}
	j.take(record(journal.JoinWaiting))
	j.take(&kgo.Record{Topic: "s.journal", Key: []byte("f\x00run/x"), Value: []byte{1}})
	if got := j.waiting("f"); got != `step "join" of s has waited since 03:04:05 for what it joins` || j.waiting("g") != "" {
		t.Errorf("told is %q", got)
	}
	done := record(journal.JoinDone)
	j.take(done)
	if got := j.waiting("f"); got != "" {
		t.Errorf("told is %q after all has come", got)
	}
	done.Value = nil
	if j.take(done); len(j) != 0 {
		t.Error("what was dropped is remembered")
	}
}
