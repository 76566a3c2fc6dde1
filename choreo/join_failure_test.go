package choreo_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
	"github.com/choreography-go/choreography/choreo/deadletter"
	"github.com/prometheus/client_golang/prometheus"
)

// Case 4 of the barrier for a joined run: what was tried is found out about with
// the value of both halves, and never tried again.
func TestBarrierCase4OfAJoin(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*worker, *choreo.Step[parcel, work])
		fails  map[string]int
		calls  []string
	}{
		"Unknown": {calls: []string{"do a+x", "unknown a+x"}},
		"no Unknown": {change: func(w *worker, s *choreo.Step[parcel, work]) {
			s.Compensate = choreo.Undo(func(ctx context.Context, p parcel, done work) (note, error) { return w.Undo(ctx, p.job(), done) }, jobUndone, calledOff)
		}, calls: []string{"do a+x"}},
		"Unknown fails": {fails: map[string]int{"unknown a+x": 10}, calls: []string{"do a+x", "unknown a+x"}},
		"a pivot": {change: func(w *worker, s *choreo.Step[parcel, work]) {
			s.Pivot, s.Compensate = true, choreo.Compensation[parcel, work]{}.Unknown(func(ctx context.Context, p parcel) error { return w.Unknown(ctx, p.job()) })
		}, calls: []string{"do a+x", "unknown a+x"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := &worker{fail: map[string]int{"a+x": 1 << 30}}
			for what, n := range c.fails {
				w.fail[what] = n
			}
			reg := prometheus.NewRegistry()
			s := startSending(t, w, reg, func(s *choreo.Step[parcel, work]) {
				parksJoined(s)
				if c.change != nil {
					c.change(w, s)
				}
			})
			s.Publish("f", given("f", "a"))
			s.Publish("f", isReady("f", "x"))
			s.Publish("f", isReady("f", "y"))
			awaitGauge(t, reg, "choreo_parked_events", "send", 1)
			s.Publish("f", offNow)
			s.Publish("f", offNow)
			s.Expect("f", jobDropped.New(note{"f", "dropped: rain"}))
			s.ExpectNothingMore("f")
			s.ExpectJoin("f", "send", choreotest.JoinCancelled)
			expectOnce(t, w, c.calls...)
			if n := gauge(t, reg, "choreo_stuck_compensations", ""); n != 0 {
				t.Errorf("%v compensations are stuck after all", n)
			}
		})
	}
}

// An attempt at a joined run was lost with its transaction, and the cancellation
// comes first when all is heard again, in whatever order: Unknown is told the key
// under which the attempt was made.
func TestTheEffectOfALostAttemptAtAJoinIsUndone(t *testing.T) {
	var undoes, key atomic.Value
	w := &worker{}
	s := startSending(t, w, nil, func(s *choreo.Step[parcel, work]) {
		do, undo := s.Do, func(ctx context.Context, p parcel, done work) (note, error) { return w.Undo(ctx, p.job(), done) }
		s.Do = func(ctx context.Context, p parcel) (work, error) {
			key.Store(choreo.Meta(ctx).IdempotencyKey)
			return do(ctx, p)
		}
		s.Compensate = choreo.Undo(undo, jobUndone, calledOff).Unknown(func(ctx context.Context, p parcel) error {
			undoes.Store(choreo.Meta(ctx).Undoes)
			return w.Unknown(ctx, p.job())
		})
	})
	for n, flow := range []string{"ran", "lost", "lost too"} {
		g := with(s.Record(flow, given(flow, "a")), "id", "g")
		x := with(s.Record(flow, isReady(flow, "x")), "id", "p")
		if n == 2 {
			g, x = x, g
		}
		s.PublishRecord(g)
		if n > 0 {
			s.Publish(flow, calledOff.New(calloff{flow, "rain"}))
			s.Expect(flow, jobDropped.New(note{flow, "dropped: rain"}))
		}
		s.PublishRecord(x)
		if n == 0 {
			s.Expect(flow, jobDone.New(work{flow, "a+x"}))
		}
		s.ExpectNothingMore(flow)
	}
	expectCalls(t, w, "do a+x", "unknown a+x", "unknown a+x")
	if key.Load() == nil || key.Load() != undoes.Load() {
		t.Errorf("Unknown was told the key %v, Do was given %v", undoes.Load(), key.Load())
	}
}

func TestRefusedAndGivenUpAsAJoin(t *testing.T) {
	w := &worker{fail: map[string]int{"a+x": 1 << 30}}
	s := startSending(t, w, nil, func(s *choreo.Step[parcel, work]) {
		do := s.Do
		s.Do = func(ctx context.Context, p parcel) (work, error) {
			if p.Packed.Text == "refuse" {
				return work{}, notMyJob
			}
			return do(ctx, p)
		}
		s.Fail = choreo.Failures[parcel]{choreo.FailWith(func(p parcel, r *choreo.Rejection) note { return note{p.Job.ID, r.Code + " " + p.Packed.Text} }, jobRefused)}
		s.GiveUp = choreo.GiveUpAs(func(p parcel, _ error) note { return note{p.Job.ID, "gave up " + p.Packed.Text} }, jobGivenUp)
	})
	s.Publish("f", given("f", "a"))
	s.Publish("f", isReady("f", "x"))
	s.Expect("f", jobGivenUp.New(note{"f", "gave up x"}))
	s.Publish("f", offNow) // what was given up is found out about, with both halves
	s.Expect("f", jobDropped.New(note{"f", "dropped: rain"}))
	s.Publish("g", given("g", "a"))
	s.Publish("g", isReady("g", "refuse"))
	s.Expect("g", jobRefused.New(note{"g", "not-mine refuse"}))
	s.ExpectNothingMore("f")
	s.ExpectNothingMore("g")
	expectOnce(t, w, "do a+x", "unknown a+x")
}

// The dead letter of a joined run holds its last half; replayed, it finds the
// others again.
func TestReplayOfAJoinedRun(t *testing.T) {
	w := &worker{fail: map[string]int{"a+x": 3}}
	s := startSending(t, w, nil, nil)
	s.Publish("f", given("f", "a"))
	s.ExpectJoin("f", "send", choreotest.JoinWaiting) // topics have no order among each other
	s.Publish("f", isReady("f", "x"))
	d := s.ExpectDeadLetter("f")
	if d.Header("ce_type") != packed.Type || d.Header("choreo-dlq-attempts") != "3" || d.Header("choreo-dlq-step") != "send" {
		t.Errorf("the letter is of %s after %s attempts at %s", d.Header("ce_type"), d.Header("choreo-dlq-attempts"), d.Header("choreo-dlq-step"))
	}
	s.Publish("f", isReady("f", "y")) // another one does not take its place
	s.Publish("f", given("f", "b"))
	s.ExpectNothingMore("f")
	for range 2 {
		s.Replay(d)
	}
	s.Expect("f", jobDone.New(work{"f", "a+x"}))
	s.ExpectReplayed(d, deadletter.Succeeded)
	s.ExpectNothingMore("f")
	expectOnce(t, w, "do a+x")
	s.Publish("f", offNow) // the run is like any other
	s.Expect("f", jobUndone.New(note{"f", "undone: a+x"}))
}

func TestReplayOfAJoinedRunThatWasCancelled(t *testing.T) {
	w := &worker{fail: map[string]int{"a+x": 3}}
	s := startSending(t, w, nil, nil)
	s.Publish("f", isReady("f", "x"))
	s.Publish("f", given("f", "a"))
	d := s.ExpectDeadLetter("f")
	s.Publish("f", offNow)
	s.Expect("f", jobDropped.New(note{"f", "dropped: rain"}))
	s.Replay(d)
	s.ExpectReplayed(d, deadletter.Cancelled)
	s.ExpectNothingMore("f")
	expectOnce(t, w, "do a+x", "unknown a+x")
}

// A half that cannot be read is a dead letter and none: the one that is sent in its
// stead counts, or itself when it is replayed.
func TestAHalfThatCannotBeRead(t *testing.T) {
	w := &worker{}
	s := startSending(t, w, nil, nil)
	for _, flow := range []string{"f", "g"} {
		bad := s.Record(flow, given(flow, "a"))
		good := bad.Value
		bad.Value = []byte("{")
		s.PublishRecord(bad)
		d := s.ExpectDeadLetter(flow)
		if d.Header("choreo-dlq-reason") != "undecodable" {
			t.Errorf("it is a dead letter for %q", d.Header("choreo-dlq-reason"))
		}
		s.PublishRecord(bad) // a duplicate is no second letter
		s.Publish(flow, isReady(flow, "x"))
		s.ExpectJoin(flow, "send", choreotest.JoinWaiting)
		s.ExpectNothingMore(flow)
		if flow == "f" {
			s.Publish(flow, given(flow, "b"))
			s.Expect(flow, jobDone.New(work{flow, "b+x"}))
			continue
		}
		again := replayOf(t, d, false)
		again.Value = good // as if a version that can read it were deployed
		s.PublishRecord(again)
		s.Expect(flow, jobDone.New(work{flow, "a+x"}))
		s.ExpectReplayed(d, deadletter.Succeeded)
		s.ExpectNothingMore(flow)
	}
}

// Of a flow that is forgotten a half is not taken up by a replay unless somebody
// asks for that: the step may have run, or been cancelled.
func TestReplayOfAHalfOfAForgottenFlow(t *testing.T) {
	w := &worker{}
	s := startSending(t, w, nil, nil)
	bad := s.Record("f", given("f", "a"))
	good := bad.Value
	bad.Value = []byte("{")
	s.PublishRecord(bad)
	d := s.ExpectDeadLetter("f")
	elsewhere := func(forgotten bool) *choreotest.DeadLetter { // in a flow of which nothing is known
		again := replayOf(t, d, forgotten)
		again.Value, again.Key = good, []byte("g")
		s.PublishRecord(with(again, "correlationid", "g"))
		if forgotten {
			return nil
		}
		letter := s.ExpectDeadLetter("f")
		return &letter
	}
	if letter := elsewhere(false); letter.Header("choreo-dlq-reason") != "flow_forgotten" {
		t.Errorf("it is a letter for %q", letter.Header("choreo-dlq-reason"))
	}
	if got := s.Join("g", "send"); got != "" {
		t.Errorf("the join is %s", got)
	}
}

// What a step that joins says meets deadlines like any other event.
func TestADeadlineAwaitsAJoinedStep(t *testing.T) {
	w := &worker{}
	d := w.waits(0)
	d.Within = choreo.Per(func(j job) time.Duration {
		if j.ID == "f" {
			return time.Hour
		}
		return 20 * time.Millisecond
	})
	d.Unless = choreo.Events{jobDone}
	s := startSending(t, w, nil, nil, d, retained)
	for _, flow := range []string{"f", "g"} {
		s.Publish(flow, given(flow, "a"))
		s.ExpectJoin(flow, "send", choreotest.JoinWaiting)
	}
	s.ExpectDeadline("f", "in-time", choreotest.DeadlinePending)
	s.Publish("f", isReady("f", "x"))
	s.Expect("f", jobDone.New(work{"f", "a+x"}))
	s.ExpectDeadline("f", "in-time", choreotest.DeadlineMet)
	s.Expect("g", jobLate.New(note{"g", "late: a"}))
	s.Publish("g", isReady("g", "x")) // the join does not know of it
	s.Expect("g", jobDone.New(work{"g", "a+x"}))
	s.ExpectNothingMore("f")
}

// A half whose other half never comes is dropped with its flow, and counted; with a
// flow that has ended it goes in silence.
func TestAHalfIsDroppedWithItsFlow(t *testing.T) {
	ended := choreo.Event[note]{Type: "test.ended", Topic: "ends", Outcome: choreo.Failed}
	w := &worker{}
	reg := prometheus.NewRegistry()
	s := startSending(t, w, reg, nil, choreo.Retention{Flow: 3 * time.Second, Grace: time.Millisecond},
		choreo.Reaction[note]{Name: "listen", On: ended, Do: func(context.Context, note) (choreo.Emissions, error) { return nil, nil }})
	s.Publish("over", given("over", "a"))
	s.Publish("waits", given("waits", "a"))
	awaitGauge(t, reg, "choreo_joins_waiting", "send", 2)
	s.Publish("over", ended.New(note{"over", ""}))
	awaitGauge(t, reg, "choreo_joins_waiting", "send", 1)
	if n := counter(t, reg, "choreo_joins_forgotten_total", "send"); n != 0 {
		t.Errorf("%v were forgotten", n)
	}
	awaitGauge(t, reg, "choreo_joins_waiting", "send", 0)
	if n := counter(t, reg, "choreo_joins_forgotten_total", "send"); n != 1 {
		t.Errorf("%v were forgotten", n)
	}
}

// A join that panics is a dead letter, and its halves are there for the replay.
func TestAJoinThatPanics(t *testing.T) {
	var broken atomic.Bool
	broken.Store(true)
	w := &worker{}
	s := startSending(t, w, nil, func(s *choreo.Step[parcel, work]) {
		s.On = choreo.Both(jobGiven, packed, func(j job, n note) parcel {
			if broken.Load() {
				panic("no")
			}
			return parcel{j, n}
		})
	})
	s.Publish("f", given("f", "a"))
	s.Publish("f", isReady("f", "x"))
	d := s.ExpectDeadLetter("f")
	if d.Header("choreo-dlq-reason") != "undecodable" || !strings.Contains(d.Header("choreo-dlq-error"), `join the events of step "send": panic: no`) {
		t.Errorf("it is a letter for %q: %s", d.Header("choreo-dlq-reason"), d.Header("choreo-dlq-error"))
	}
	broken.Store(false)
	s.Replay(d)
	s.Expect("f", jobDone.New(work{"f", "a+x"}))
}

// A half may be the first event of its flow that the service hears long after the
// flow began: a cancellation of what waits is no cancellation of what is forgotten.
func TestAJoinThatWaitsIsRemembered(t *testing.T) {
	w := &worker{}
	s := startSending(t, w, nil, nil)
	began := "1" // long ago
	s.PublishRecord(with(s.Record("f", given("f", "a")), "choreostarted", began))
	s.ExpectJoin("f", "send", choreotest.JoinWaiting)
	s.PublishRecord(with(s.Record("f", offNow), "choreostarted", began))
	s.Expect("f", jobDropped.New(note{"f", "dropped: rain"}))
	s.ExpectNothingMore("f")
}

// Large halves are kept whole, three of them too.
func TestLargeHalvesAreKept(t *testing.T) {
	const size = 900_000
	w := &worker{}
	type all struct{ A, B, C int }
	s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(1), choreo.Step[all, note]{
		Name: "send", Emit: jobUndone, Retry: soon,
		On: choreo.All3(jobGiven, packed, paidFor, func(a job, b, c note) all { return all{len(a.What), len(b.Text), len(c.Text)} }),
		Do: func(_ context.Context, a all) (note, error) {
			if w.fails("first") {
				return note{}, errNotYet
			}
			return note{"f", strings.Repeat("x", (a.A+a.B+a.C)/size)}, nil
		},
	}), choreotest.With(func(c *choreo.Config) { c.MaxEventBytes = 1 << 20 }))
	w.mu.Lock()
	w.fail = map[string]int{"first": 5}
	w.mu.Unlock()
	text := strings.Repeat("y", size)
	for _, e := range []choreo.Emission{given("f", text), isReady("f", text), paidFor.New(note{"f", text})} {
		s.Publish("f", e)
	}
	s.Expect("f", jobUndone.New(note{"f", "xxx"}))
	s.ExpectJoin("f", "send", choreotest.JoinDone)
}
