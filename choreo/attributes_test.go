package choreo_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
)

// A tracker fills flows, steps with status, start and end, and events from the
// headers alone.
func TestHeadersTellWhatATrackerNeeds(t *testing.T) {
	w := &worker{fail: map[string]int{"b": 1, "never": 99}}
	svc := choreo.NewService("worker", choreo.Tasks(1), w.step(), choreo.Starts(jobGiven))
	s := choreotest.Start(t, svc)
	flow := "f"
	say := func(what string) {
		t.Helper()
		if _, err := svc.Publish(t.Context(), jobGiven.New(job{"f", what}), choreo.Flow(flow)); err != nil {
			t.Fatal(err)
		}
	}
	say("a")
	s.ExpectTypes(flow, jobGiven.Type, jobDone.Type)
	say("b")
	s.ExpectTypes(flow, jobGiven.Type, jobDone.Type)
	say("refuse")
	s.ExpectTypes(flow, jobGiven.Type, jobRefused.Type)
	say("never")
	s.ExpectTypes(flow, jobGiven.Type, jobGivenUp.Type)
	s.Publish(flow, calledOff.New(calloff{"f", "rain"}))
	s.ExpectTypes(flow, jobUndone.Type, jobUndone.Type)
	s.Publish("g", calledOff.New(calloff{"g", "rain"}))
	s.ExpectTypes("g", jobDropped.Type)
	s.ExpectNothingMore(flow)

	given, said := readToEnd(t, s.Brokers(), "jobs"), readToEnd(t, s.Brokers(), "work")
	calls := readToEnd(t, s.Brokers(), "calls")
	if len(given) != 4 || len(said) != 7 || len(calls) != 2 {
		t.Fatalf("%d, %d and %d events", len(given), len(said), len(calls))
	}
	for _, rec := range given {
		for key, want := range map[string]string{"ce_choreoservice": "worker", "ce_choreokind": "started", "ce_correlationid": flow, "ce_causationid": "", "ce_choreohops": ""} {
			if got := header(rec, key); got != want {
				t.Errorf("published: %s is %q, want %q", key, got, want)
			}
		}
	}
	for i, c := range []struct{ flow, cause, kind, attempt, undoes string }{
		{flow, header(given[0], "ce_id"), "did", "1", ""},
		{flow, header(given[1], "ce_id"), "did", "2", ""},
		{flow, header(given[2], "ce_id"), "failed", "1", ""},
		{flow, header(given[3], "ce_id"), "gaveup", "3", ""},
		{flow, header(calls[0], "ce_id"), "undone", "1", header(said[1], "ce_id")},
		{flow, header(calls[0], "ce_id"), "undone", "1", header(said[0], "ce_id")},
		{"g", header(calls[1], "ce_id"), "cancelled", "", ""},
	} {
		rec := said[i]
		for key, want := range map[string]string{
			"ce_correlationid": c.flow, "ce_causationid": c.cause, "ce_choreoservice": "worker", "ce_choreostep": "work",
			"ce_choreokind": c.kind, "ce_choreoattempt": c.attempt, "ce_choreohops": "1", "ce_choreoundoes": c.undoes,
		} {
			if got := header(rec, key); got != want {
				t.Errorf("event %d, %s: %s is %q, want %q", i, c.kind, key, got, want)
			}
		}
		end, err := time.Parse(time.RFC3339Nano, header(rec, "ce_time"))
		if err != nil {
			t.Errorf("event %d: %v", i, err)
		}
		if c.kind == "cancelled" {
			continue // no attempt, so no start
		}
		ms, err := strconv.ParseInt(header(rec, "ce_choreobegan"), 10, 64)
		if began := time.UnixMilli(ms); err != nil || began.After(end) || end.Sub(began) > time.Minute {
			t.Errorf("event %d: it began at %v and ended at %v (%v)", i, began, end, err)
		}
		if started := header(rec, "ce_choreostarted"); started == "" {
			t.Errorf("event %d tells not when its flow began", i)
		}
	}
}
