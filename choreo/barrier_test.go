package choreo_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
)

// A small choreography: work is done on jobs, undone when it is called off.
type (
	job     struct{ ID, What string }
	work    struct{ ID, By string }
	calloff struct{ ID, Why string }
	note    struct{ ID, Text string }
)

var (
	jobGiven    = choreo.Event[job]{Type: "test.job.given", Topic: "jobs"}
	jobDone     = choreo.Event[work]{Type: "test.job.done", Topic: "work"}
	jobRefused  = choreo.Event[note]{Type: "test.job.refused", Topic: "work"}
	jobGivenUp  = choreo.Event[note]{Type: "test.job.givenup", Topic: "work"}
	jobUndone   = choreo.Event[note]{Type: "test.job.undone", Topic: "work"}
	jobDropped  = choreo.Event[note]{Type: "test.job.dropped", Topic: "work"}
	calledOff   = choreo.Event[calloff]{Type: "test.called.off", Topic: "calls"}
	calledOff2  = choreo.Event[calloff]{Type: "test.called.off.otherwise", Topic: "calls"}
	errNotYet   = errors.New("not yet")
	quickly     = choreo.Retry{Attempts: 3, First: time.Millisecond, Max: 2 * time.Millisecond}
	notMyJob    = choreo.Reject("not-mine", "somebody else's job")
	dropped     = func(c calloff) note { return note{c.ID, "dropped: " + c.Why} }
	refuse      = func(j job, r *choreo.Rejection) note { return note{j.ID, r.Code} }
	giveUp      = func(j job, err error) note { return note{j.ID, "gave up"} }
	jobGivenOld = choreo.Event[string]{Type: "test.job.given.v0", Topic: "jobs"}
)

// worker is the domain: it counts its calls.
type worker struct {
	mu    sync.Mutex
	calls []string
	fail  map[string]int // what -> how many attempts fail
}

func (w *worker) note(format string, a ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, fmt.Sprintf(format, a...))
}

func (w *worker) called() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.calls...)
}

func (w *worker) fails(what string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail[what] == 0 {
		return false
	}
	w.fail[what]--
	return true
}

func (w *worker) Do(_ context.Context, j job) (work, error) {
	w.note("do %s", j.What)
	switch {
	case j.What == "refuse":
		return work{}, notMyJob
	case w.fails(j.What):
		return work{}, errNotYet
	}
	return work{j.ID, j.What}, nil
}

func (w *worker) Undo(_ context.Context, j job, done work) (note, error) {
	w.note("undo %s", done.By)
	if w.fails("undo " + done.By) {
		return note{}, errNotYet
	}
	return note{j.ID, "undone: " + done.By}, nil
}

func (w *worker) Unknown(_ context.Context, j job) error {
	w.note("unknown %s", j.What)
	if w.fails("unknown " + j.What) {
		return errNotYet
	}
	return nil
}

func (w *worker) step() choreo.Step[job, work] {
	return choreo.Step[job, work]{
		Name: "work", On: jobGiven, Do: w.Do, Emit: jobDone,
		Fail:       choreo.Failures[job]{choreo.FailWith(refuse, jobRefused)},
		GiveUp:     choreo.GiveUpAs(giveUp, jobGivenUp),
		Compensate: choreo.Undo(w.Undo, jobUndone, calledOff, calledOff2).Unknown(w.Unknown),
		Cancel:     []choreo.Cancellation{choreo.CancelOn(calledOff, dropped, jobDropped)},
		Retry:      quickly,
	}
}

func start(t *testing.T, w *worker, change ...func(*choreo.Step[job, work])) *choreotest.Service {
	t.Helper()
	s := w.step()
	for _, c := range change {
		c(&s)
	}
	return choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(2), s))
}

func expectCalls(t *testing.T, w *worker, want ...string) {
	t.Helper()
	if got := w.called(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the domain was called with %q, want %q", got, want)
	}
}

func TestBarrierCase1TriggerArrivesTwice(t *testing.T) {
	w := &worker{}
	s := start(t, w)
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	s.Expect("f", jobDone.New(work{"f", "a"}))
	s.Publish("f", calledOff.New(calloff{"f", "rain"}))
	s.Expect("f", jobUndone.New(note{"f", "undone: a"}))
	s.Publish("f", calledOff.New(calloff{"f", "rain"}))  // said again, with another id
	s.Publish("f", calledOff2.New(calloff{"f", "snow"})) // another trigger of the same step
	s.ExpectNothingMore("f")
	expectCalls(t, w, "do a", "undo a")
}

func TestBarrierCase1TheSameRecordTwice(t *testing.T) {
	w := &worker{}
	s := start(t, w)
	rec := s.Record("f", jobGiven.New(job{"f", "a"}))
	off := s.Record("f", calledOff.New(calloff{"f", "rain"}))
	s.PublishRecord(rec)
	s.PublishRecord(rec)
	s.Expect("f", jobDone.New(work{"f", "a"}))
	s.PublishRecord(off)
	s.PublishRecord(off)
	s.Expect("f", jobUndone.New(note{"f", "undone: a"}))
	s.ExpectNothingMore("f")
	expectCalls(t, w, "do a", "undo a")
}

func TestBarrierCase2TriggerForAStepThatNeverRan(t *testing.T) {
	w := &worker{}
	s := start(t, w)
	s.Publish("f", calledOff.New(calloff{"f", "rain"}))
	s.Expect("f", jobDropped.New(note{"f", "dropped: rain"}))
	s.Publish("f", calledOff.New(calloff{"f", "rain"}))
	s.ExpectNothingMore("f")
	// a trigger for which no Cancel is declared is answered in silence
	s.Publish("g", calledOff2.New(calloff{"g", "snow"}))
	s.ExpectNothingMore("g")
	s.Publish("g", jobGiven.New(job{"g", "a"}))
	s.ExpectNothingMore("g")
	expectCalls(t, w, "unknown a")
}

func TestBarrierCase3TheStepsEventAfterItsCancellation(t *testing.T) {
	w := &worker{}
	s := start(t, w)
	s.Publish("f", calledOff.New(calloff{"f", "rain"}))
	s.Expect("f", jobDropped.New(note{"f", "dropped: rain"}))
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	s.ExpectNothingMore("f")
	expectCalls(t, w, "unknown a") // nothing is known of attempts before the cancellation

	// also after an undo: a cancelled step stays cancelled for its flow
	s.Publish("g", jobGiven.New(job{"g", "a"}))
	s.Expect("g", jobDone.New(work{"g", "a"}))
	s.Publish("g", calledOff.New(calloff{"g", "rain"}))
	s.Expect("g", jobUndone.New(note{"g", "undone: a"}))
	again := s.Record("g", jobGiven.New(job{"g", "b"}))
	s.PublishRecord(again)
	s.ExpectNothingMore("g")
	expectCalls(t, w, "unknown a", "do a", "undo a", "unknown b")
}

// An attempt has had its effect and was lost with its transaction; the trigger
// comes first when all is heard again. Then the step's event finds the effect,
// until that succeeds, and is told the key under which it was made.
func TestBarrierCase3TheEffectOfALostAttemptIsUndone(t *testing.T) {
	w := &worker{fail: map[string]int{"unknown a": 5}}
	var undoes, key atomic.Value
	s := start(t, w, func(s *choreo.Step[job, work]) {
		s.Compensate = choreo.Undo(w.Undo, jobUndone, calledOff).Unknown(func(ctx context.Context, j job) error {
			undoes.Store(choreo.Meta(ctx).Undoes)
			return w.Unknown(ctx, j)
		})
	})
	rec := s.Record("f", jobGiven.New(job{"f", "a"}))
	s.Publish("f", calledOff.New(calloff{"f", "rain"}))
	s.Expect("f", jobDropped.New(note{"f", "dropped: rain"}))
	s.PublishRecord(rec)
	s.ExpectNothingMore("f")
	expectCalls(t, w, slices.Repeat([]string{"unknown a"}, 6)...)

	// The key is the one that Do would have been given for this very event.
	other := &worker{}
	s = start(t, other, func(s *choreo.Step[job, work]) {
		s.Do = func(ctx context.Context, j job) (work, error) {
			key.Store(choreo.Meta(ctx).IdempotencyKey)
			return other.Do(ctx, j)
		}
	})
	s.PublishRecord(rec)
	s.Expect("f", jobDone.New(work{"f", "a"}))
	if key.Load() == nil || key.Load() != undoes.Load() {
		t.Errorf("Unknown was told the key %v, Do gets %v", undoes.Load(), key.Load())
	}
}

func TestBarrierCase5SeveralRunsAreUndoneNewestFirst(t *testing.T) {
	w := &worker{fail: map[string]int{"undo b": 2}}
	s := start(t, w)
	for _, what := range []string{"a", "b", "c"} {
		s.Publish("f", jobGiven.New(job{"f", what}))
		s.Expect("f", jobDone.New(work{"f", what}))
	}
	s.Publish("f", calledOff.New(calloff{"f", "rain"}))
	s.Expect("f", jobUndone.New(note{"f", "undone: c"}), jobUndone.New(note{"f", "undone: b"}), jobUndone.New(note{"f", "undone: a"}))
	s.ExpectNothingMore("f")
	expectCalls(t, w, "do a", "do b", "do c", "undo c", "undo b", "undo b", "undo b", "undo a")
}

func TestBarrierRejectedThenCalledOff(t *testing.T) {
	w := &worker{}
	s := start(t, w)
	s.Publish("f", jobGiven.New(job{"f", "refuse"}))
	s.Expect("f", jobRefused.New(note{"f", "not-mine"}))
	s.Publish("f", calledOff.New(calloff{"f", "rain"}))
	s.Expect("f", jobDropped.New(note{"f", "dropped: rain"}))
	s.ExpectNothingMore("f")
	expectCalls(t, w, "do refuse") // a rejection is not retried, and leaves nothing to undo
}

func TestBarrierGivenUpThenCalledOff(t *testing.T) {
	w := &worker{fail: map[string]int{"a": 99, "unknown a": 1}}
	s := start(t, w)
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	s.Expect("f", jobGivenUp.New(note{"f", "gave up"}))
	s.Publish("f", calledOff.New(calloff{"f", "rain"}))
	s.Expect("f", jobDropped.New(note{"f", "dropped: rain"}))
	s.ExpectNothingMore("f")
	expectCalls(t, w, "do a", "do a", "do a", "unknown a", "unknown a")
}

func TestBarrierPivotThatRanHasAnswered(t *testing.T) {
	w := &worker{}
	s := start(t, w, func(s *choreo.Step[job, work]) {
		s.Pivot, s.Compensate, s.GiveUp = true, choreo.Compensation[job, work]{}, choreo.Failure[job]{}
	})
	s.Publish("ran", jobGiven.New(job{"ran", "a"}))
	s.Expect("ran", jobDone.New(work{"ran", "a"}))
	s.Publish("ran", calledOff.New(calloff{"ran", "rain"}))
	s.ExpectNothingMore("ran")

	s.Publish("refused", jobGiven.New(job{"refused", "refuse"}))
	s.Expect("refused", jobRefused.New(note{"refused", "not-mine"}))
	s.Publish("refused", calledOff.New(calloff{"refused", "rain"}))
	s.ExpectNothingMore("refused")

	s.Publish("never", calledOff.New(calloff{"never", "rain"}))
	s.Expect("never", jobDropped.New(note{"never", "dropped: rain"}))
	s.Publish("never", jobGiven.New(job{"never", "a"}))
	s.ExpectNothingMore("never")
	expectCalls(t, w, "do a", "do refuse")
}

func TestRetriesKeepTheOrderOfTheKeyAndLetOthersPass(t *testing.T) {
	w := &worker{fail: map[string]int{"a": 2}}
	release := make(chan struct{})
	s := start(t, w, func(s *choreo.Step[job, work]) {
		do := s.Do
		s.Do = func(ctx context.Context, j job) (work, error) {
			if j.What == "a" {
				select { // the first attempt fails only when another flow has passed
				case <-release:
				case <-ctx.Done():
				}
			}
			return do(ctx, j)
		}
	})
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	s.Publish("f", jobGiven.New(job{"f", "b"}))
	s.Publish("g", jobGiven.New(job{"g", "c"}))
	s.Expect("g", jobDone.New(work{"g", "c"}))
	close(release)
	s.Expect("f", jobDone.New(work{"f", "a"}), jobDone.New(work{"f", "b"}))
	s.ExpectNothingMore("f")
	expectCalls(t, w, "do c", "do a", "do a", "do a", "do b")
}

func TestUsedUpRetriesWithoutGiveUpAreADeadLetter(t *testing.T) {
	w := &worker{fail: map[string]int{"a": 99}}
	s := start(t, w, func(s *choreo.Step[job, work]) {
		s.GiveUp, s.Compensate = choreo.Failure[job]{}, choreo.Undo(w.Undo, jobUndone, calledOff)
	})
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	dead := s.ExpectDeadLetter("f")
	for header, want := range map[string]string{
		"choreo-dlq-reason": "retries_exhausted", "choreo-dlq-step": "work", "choreo-dlq-attempts": "3", "choreo-dlq-error": "not yet",
	} {
		if got := dead.Header(header); got != want {
			t.Errorf("header %s is %q, want %q", header, got, want)
		}
	}
	s.ExpectNothingMore("f")
	// the flow is stuck, not lost: it can still be called off
	s.Publish("f", calledOff.New(calloff{"f", "rain"}))
	s.Expect("f", jobDropped.New(note{"f", "dropped: rain"}))
}

func TestUpcastAlsoWhenTheRunIsUndone(t *testing.T) {
	w := &worker{}
	s := start(t, w, func(s *choreo.Step[job, work]) {
		s.On = choreo.AnyOf(s.On, choreo.Upcast(jobGivenOld, func(what string) job { return job{"old", what} }))
	})
	s.Publish("f", jobGivenOld.New("a"))
	s.Expect("f", jobDone.New(work{"old", "a"}))
	s.Publish("f", calledOff.New(calloff{"f", "rain"}))
	s.Expect("f", jobUndone.New(note{"old", "undone: a"}))
}
