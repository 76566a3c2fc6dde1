package choreo_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
)

// Several declarations hear one event: what they say is one transaction, each
// runs once, and a dead letter is of the one that failed.
func TestSeveralHandlersOfOneEvent(t *testing.T) {
	var first atomic.Int32
	w := &worker{fail: map[string]int{"late": 2, "never": 99}}
	second := w.step()
	second.GiveUp, second.Compensate = choreo.Failure[job]{}, choreo.Undo(w.Undo, jobUndone, calledOff)
	st := &choreo.State[tally]{Name: "tally", When: []choreo.Transition[tally]{choreo.When(jobGiven, func(s *tally, _ job) { s.Given++ })}}
	s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(1), st,
		choreo.Reaction[job]{Name: "first", On: jobGiven, Emits: choreo.Events{jobGivenUp},
			Do: func(_ context.Context, j job) (choreo.Emissions, error) {
				first.Add(1)
				return choreo.Emit(jobGivenUp.New(note{j.ID, "first"})), nil
			}}, second))
	s.Publish("f", jobGiven.New(job{"f", "late"}))
	s.Expect("f", jobGivenUp.New(note{"f", "first"}), jobDone.New(work{"f", "late"}))
	s.Publish("f", jobGiven.New(job{"f", "never"}))
	s.Expect("f", jobGivenUp.New(note{"f", "first"}))
	if d := s.ExpectDeadLetter("f"); d.Header("choreo-dlq-step") != "work" || d.Header("choreo-dlq-attempts") != "3" {
		t.Errorf("dead letter of %q after %s attempts", d.Header("choreo-dlq-step"), d.Header("choreo-dlq-attempts"))
	}
	s.ExpectNothingMore("f")
	if n := first.Load(); n != 2 {
		t.Errorf("the first handler ran %d times for two events, whatever the second's attempts", n)
	}
	if v, err := st.Get(t.Context(), "f"); err != nil || v.Given != 2 {
		t.Errorf("the state is %+v, %v", v, err)
	}
}

// Events of one type that different handlers say because of one event are
// different events.
func TestSeveralHandlersSayDifferentEvents(t *testing.T) {
	says := func(name string) choreo.Reaction[job] {
		return choreo.Reaction[job]{Name: name, On: jobGiven, Emits: choreo.Events{jobDone},
			Do: func(_ context.Context, j job) (choreo.Emissions, error) {
				return choreo.Emit(jobDone.New(work{j.ID, "same"}), jobDone.New(work{j.ID, "same"})), nil
			}}
	}
	s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(1), says("first"), says("second")))
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	same := jobDone.New(work{"f", "same"})
	s.Expect("f", same, same, same, same)
	s.ExpectNothingMore("f")
	by := map[string]string{}
	for i, rec := range readToEnd(t, s.Brokers(), jobDone.Topic) {
		id := header(rec, "ce_id")
		if other, known := by[id]; known {
			t.Errorf("event %d, of %s, has the id of one of %s", i, header(rec, "ce_choreostep"), other)
		}
		by[id] = header(rec, "ce_choreostep")
	}
	if len(by) != 4 {
		t.Errorf("%d ids for four events", len(by))
	}
}

// A trigger that arrives while the step waits for its next attempt waits behind
// it; the retries still end.
func TestATriggerWaitsBehindTheRetries(t *testing.T) {
	w := &worker{fail: map[string]int{"a": 99}}
	calling := make(chan struct{}, 10)
	proceed := make(chan struct{})
	s := start(t, w, func(s *choreo.Step[job, work]) {
		do := s.Do
		s.Do = func(ctx context.Context, j job) (work, error) {
			calling <- struct{}{}
			<-proceed
			return do(ctx, j)
		}
	})
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	<-calling
	s.Publish("f", calledOff.New(calloff{"f", "rain"}))
	close(proceed)
	s.Expect("f", jobGivenUp.New(note{"f", "gave up"}), jobDropped.New(note{"f", "dropped: rain"}))
	s.ExpectNothingMore("f")
	expectCalls(t, w, "do a", "do a", "do a", "unknown a")
}

func TestATriggerOfNoEventIsAMistake(t *testing.T) {
	w := &worker{}
	step := w.step()
	step.On = choreo.AnyOf[job]()
	err := choreo.NewService("worker", step, choreo.Reaction[job]{Name: "r", On: choreo.AnyOf[job](nil),
		Do: func(context.Context, job) (choreo.Emissions, error) { return nil, nil }}).Validate()
	for _, want := range []string{`step "work": On names no event`, `reaction "r": On names no event`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate says %v, want %q", err, want)
		}
	}
}
