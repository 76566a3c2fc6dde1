package choreo_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
)

// tally is a state: what was heard of one job.
type tally struct {
	Given, Off int
	Why        string
}

var tallied = choreo.Event[tally]{Type: "test.tallied", Topic: "tallies", Outcome: choreo.Succeeded}

func tallyService() (*choreo.Service, *choreo.State[tally]) {
	st := &choreo.State[tally]{Name: "tally", When: []choreo.Transition[tally]{
		choreo.When(jobGiven, func(s *tally, j job) { s.Given++ }),
		choreo.Then(calledOff, func(s *tally, c calloff) (tally, bool) {
			s.Off++
			s.Why = c.Why
			return *s, s.Off == 1
		}, tallied),
		choreo.ThenAny(calledOff2, func(s *tally, c calloff) (choreo.Emissions, error) {
			s.Why = "must not stay"
			if c.Why == "undeclared" {
				return choreo.Emit(jobDone.New(work{})), nil
			}
			return nil, errors.New("on purpose")
		}, tallied),
	}}
	return choreo.NewService("counter", choreo.Tasks(2), choreo.Starts(jobGiven), st), st
}

func TestStateIsChangedOncePerEventAndReadAsCommitted(t *testing.T) {
	svc, st := tallyService()
	if _, err := st.Get(t.Context(), "f"); !errors.Is(err, choreo.ErrNotRunning) {
		t.Errorf("before the service runs Get returns %v, want ErrNotRunning", err)
	}
	s := choreotest.Start(t, svc)
	if _, err := st.Get(t.Context(), "f"); !errors.Is(err, choreo.ErrNoFlow) {
		t.Errorf("for an unknown flow Get returns %v, want ErrNoFlow", err)
	}
	given := s.Record("f", jobGiven.New(job{"f", "a"}))
	s.PublishRecord(given)
	s.PublishRecord(given)
	s.Publish("f", jobGiven.New(job{"f", "b"}))
	s.ExpectNothingMore("f") // events on different topics have no order among them
	s.Publish("f", calledOff.New(calloff{"f", "rain"}))
	s.Expect("f", tallied.New(tally{2, 1, "rain"}))
	s.Publish("f", calledOff.New(calloff{"f", "snow"}))
	s.ExpectNothingMore("f")
	got, err := st.Get(t.Context(), "f")
	if err != nil || got != (tally{2, 2, "snow"}) {
		t.Errorf("the state is %+v (%v), want {2 2 snow}", got, err)
	}
}

func TestStateTransitionThatFailsLeavesTheStateAndIsADeadLetter(t *testing.T) {
	svc, st := tallyService()
	s := choreotest.Start(t, svc)
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	s.ExpectNothingMore("f")
	s.Publish("f", calledOff2.New(calloff{"f", "x"}))
	if d := s.ExpectDeadLetter("f"); d.Header("choreo-dlq-reason") != "failed" || d.Header("choreo-dlq-error") != "on purpose" {
		t.Errorf("dead letter: %s, %s", d.Header("choreo-dlq-reason"), d.Header("choreo-dlq-error"))
	}
	s.Publish("f", calledOff2.New(calloff{"f", "undeclared"}))
	if d := s.ExpectDeadLetter("f"); d.Header("choreo-dlq-error") != `choreo: event is not declared: "tally" says "test.job.done"; add it to what the handler may say` {
		t.Errorf("dead letter: %s", d.Header("choreo-dlq-error"))
	}
	s.ExpectNothingMore("f")
	if got, err := st.Get(t.Context(), "f"); err != nil || got != (tally{Given: 1}) {
		t.Errorf("the state is %+v (%v), want {1 0 }", got, err)
	}
}

func TestAwaitSeesTheCommittedChange(t *testing.T) {
	svc, st := tallyService()
	s := choreotest.Start(t, svc)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	got := make(chan tally)
	go func() {
		v, err := st.Await(ctx, "f", func(v tally) bool { return v.Off > 0 })
		if err != nil {
			t.Errorf("Await: %v", err)
		}
		got <- v
	}()
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	s.ExpectNothingMore("f")
	s.Publish("f", calledOff.New(calloff{"f", "rain"}))
	if v := <-got; v != (tally{1, 1, "rain"}) {
		t.Errorf("Await returned %+v", v)
	}
	done, cancel2 := context.WithCancelCause(t.Context())
	cancel2(errNotYet)
	if v, err := st.Await(done, "f", func(tally) bool { return false }); !errors.Is(err, errNotYet) || v.Off != 1 {
		t.Errorf("when its context ends Await returns %+v, %v", v, err)
	}
}

func TestPublishSaysAnEventOncePerIdempotencyKey(t *testing.T) {
	svc, st := tallyService()
	s := choreotest.Start(t, svc)
	flow := svc.FlowOf("k")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			got, err := svc.Publish(t.Context(), jobGiven.New(job{"x", "a"}), choreo.IdempotencyKey("k"))
			if err != nil || got != flow {
				t.Errorf("Publish: %q, %v; want %q", got, err, flow)
			}
		})
	}
	wg.Wait()
	s.Expect(flow, jobGiven.New(job{"x", "a"}))
	s.ExpectNothingMore(flow)
	if v, err := st.Get(t.Context(), flow); err != nil || v.Given != 1 {
		t.Errorf("the state is %+v (%v), want one job", v, err)
	}
	// another event of the same flow, under a key of its own
	if _, err := svc.Publish(t.Context(), jobGiven.New(job{"x", "b"}), choreo.Flow(flow), choreo.IdempotencyKey("k2")); err != nil {
		t.Fatal(err)
	}
	s.Expect(flow, jobGiven.New(job{"x", "b"}))
	// without a key every Publish is a flow of its own
	one, err1 := svc.Publish(t.Context(), jobGiven.New(job{"y", "c"}))
	two, err2 := svc.Publish(t.Context(), jobGiven.New(job{"y", "c"}))
	if err := errors.Join(err1, err2); err != nil || one == two {
		t.Errorf("flows %q and %q, %v", one, two, err)
	}
	s.Expect(one, jobGiven.New(job{"y", "c"}))
	s.Expect(two, jobGiven.New(job{"y", "c"}))
}

func TestPublishRefuses(t *testing.T) {
	svc, _ := tallyService()
	if _, err := svc.Publish(t.Context(), jobGiven.New(job{})); !errors.Is(err, choreo.ErrNotRunning) {
		t.Errorf("before the service runs: %v, want ErrNotRunning", err)
	}
	choreotest.Start(t, svc)
	for _, c := range []struct {
		name string
		e    choreo.Emission
		opt  choreo.PublishOption
		want string
	}{
		{"an event that it does not start with", calledOff.New(calloff{}), choreo.IdempotencyKey("a"), `event is not declared: "test.called.off"; add it to the service's Starts`},
		{"a payload of another type", choreo.Emission{Type: "test.job.given", Data: 7}, choreo.IdempotencyKey("a"), "its payload is declared as choreo_test.job, not int"},
		{"a flow with a line break", jobGiven.New(job{}), choreo.Flow("a\nb"), "is not a correlation id"},
		{"an empty flow with a key", jobGiven.New(job{}), choreo.Flow(fmt.Sprintf("%0300d", 1)), "is not a correlation id"},
		{"data above the limit", jobGiven.New(job{"x", string(make([]byte, 2<<20))}), choreo.IdempotencyKey("a"), "exceed MAX_EVENT_BYTES"},
	} {
		if _, err := svc.Publish(t.Context(), c.e, c.opt); err == nil || !contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
