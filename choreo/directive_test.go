package choreo_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/internal/journal"
	"github.com/choreography-go/choreography/choreo/operator"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
)

// seldom parks after the first attempt, and makes the next one when nobody waits
// for it any more.
var seldom = choreo.Retry{Attempts: 100, InPlace: 1, First: 1000 * time.Hour, Max: 1000 * time.Hour, Over: 24 * time.Hour}

func rarely(s *choreo.Step[job, work]) { s.Retry = seldom }

func asked(do operator.Do, i operator.Item, data string) operator.Command {
	c := operator.Command{Do: do, Target: i.Target}
	if data != "" {
		c.Data = []byte(data)
	}
	return c
}

// expectAudit compares what matters of an audit with what is wanted.
func expectAudit(t *testing.T, a operator.Audit, want string) {
	t.Helper()
	if got := strings.TrimSpace(fmt.Sprint(a.Do, " ", a.Outcome, " ", strings.Join(a.Said, ","), " ", strings.Join(a.Dead, ","))); strings.Join(strings.Fields(got), " ") != want {
		t.Errorf("the audit tells %q, want %q: %+v", got, want, a)
	}
	if a.By != "tester" || a.Why != "test" || a.Service == "" || a.Instance == "" || time.Since(a.Time) > time.Minute || a.Flow == "" {
		t.Errorf("the audit tells too little: %+v", a)
	}
}

// An event of a step whose attempts fail, and one that waits behind it.
func TestAStuckStepIsRetriedSkippedOrResolved(t *testing.T) {
	given := jobGiven.New(job{"f", "a"})
	behind := jobDone.New(work{"f", "b"})
	for name, c := range map[string]struct {
		change func(*choreo.Step[job, work])
		heal   bool
		do     operator.Do
		data   string
		says   []choreo.Emission
		audit  string
		calls  []string
		dead   string
		undoes choreo.Emission // by a compensation that comes later
	}{
		"retried, mended": {
			heal: true, do: operator.Retry, says: []choreo.Emission{jobDone.New(work{"f", "a"}), behind},
			audit: "retry done test.job.done", calls: []string{"do a", "do a", "do b"},
			undoes: jobUndone.New(note{"f", "undone: b"}),
		},
		"skipped": {
			do: operator.Skip, says: []choreo.Emission{jobGivenUp.New(note{"f", "gave up"}), behind},
			audit: "skip done test.job.givenup", calls: []string{"do a", "do b"},
		},
		"skipped, without GiveUp": {
			change: func(s *choreo.Step[job, work]) { s.GiveUp = choreo.Failure[job]{} },
			do:     operator.Skip, says: []choreo.Emission{behind},
			audit: "skip done retries_exhausted", calls: []string{"do a", "do b"},
			dead: "given up by tester: test; the last attempt: not yet",
		},
		"resolved": {
			do: operator.Resolve, data: `{"ID":"f","By":"hand"}`, says: []choreo.Emission{jobDone.New(work{"f", "hand"}), behind},
			audit: "resolve done test.job.done", calls: []string{"do a", "do b"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := &worker{fail: map[string]int{"a": 1 << 30}}
			reg := prometheus.NewRegistry()
			changes := []func(*choreo.Step[job, work]){rarely}
			if c.change != nil {
				changes = append(changes, c.change)
			}
			s := startParking(t, w, reg, changes...)
			s.Publish("f", given)
			s.Publish("f", jobGiven.New(job{"f", "b"}))
			awaitGauge(t, reg, "choreo_parked_events", "", 1)
			var i operator.Item
			eventually(t, "an event waits behind it", func() error {
				if i = s.ExpectStuck("f", "work"); i.Waiting != 1 {
					return fmt.Errorf("%d events", i.Waiting)
				}
				return nil
			})
			if i.Kind != operator.Step || i.Attempts != 1 || i.Error != "not yet" || i.Waiting != 1 || i.Type != jobGiven.Type || time.Until(i.Next) < 0 {
				t.Errorf("stuck is %+v", i)
			}
			if c.heal {
				w.heal("a")
			}
			a := s.Tell(asked(c.do, i, c.data))
			expectAudit(t, a, c.audit)
			s.Expect("f", c.says...)
			if c.dead != "" {
				if got := s.ExpectDeadLetter("f").Header("choreo-dlq-error"); got != c.dead {
					t.Errorf("the dead letter tells of %q", got)
				}
			}
			s.ExpectNothingMore("f")
			expectCalls(t, w, c.calls...)
			if left := s.Stuck(); len(left) > 0 {
				t.Errorf("stuck after all are %+v", left)
			}
			// told again, it is refused: nothing is stuck any more
			expectAudit(t, s.Tell(asked(c.do, i, c.data)), string(c.do)+" refused")
			s.ExpectNothingMore("f")
			// what a person has done is undone like what the step has
			if name == "resolved" {
				s.Publish("f", calledOff.New(calloff{"f", "rain"}))
				s.Expect("f", jobUndone.New(note{"f", "undone: b"}), jobUndone.New(note{"f", "undone: hand"}))
			}
		})
	}
}

// What is held in memory at the bound of the flow does not stand in the way.
func TestAStuckUndoIsSkippedAtTheBoundOfAFlow(t *testing.T) {
	w := &worker{fail: map[string]int{"undo a": 1 << 30}}
	reg := prometheus.NewRegistry()
	s := startBounded(t, reg, 100, w.step(), rarely)
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	s.Expect("f", jobDone.New(work{"f", "a"}))
	s.Publish("f", calledOff.New(calloff{"f", "rain"}))
	i := s.ExpectStuck("f", "work")
	s.Publish("f", jobGiven.New(job{"f", "b"}))
	awaitGauge(t, reg, "choreo_in_flight_records", "", 1)
	expectAudit(t, s.Tell(asked(operator.Skip, i, "")), "skip done")
	awaitGauge(t, reg, "choreo_in_flight_records", "", 0)
}

func TestARetryThatFailsIsCountedAndWaitsAgain(t *testing.T) {
	w := &worker{fail: map[string]int{"a": 1 << 30}}
	s := startParking(t, w, nil, rarely)
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	i := s.ExpectStuck("f", "work")
	for n := range 3 {
		a := s.Tell(asked(operator.Retry, i, ""))
		expectAudit(t, a, "retry failed")
		if a.Error != "not yet" || a.Attempts != n+1 {
			t.Errorf("the audit of retry %d tells of %d attempts before, and of %q", n+1, a.Attempts, a.Error)
		}
	}
	eventually(t, "four attempts are counted", func() error {
		if now := s.ExpectStuck("f", "work"); now.Attempts != 4 || now.Target != i.Target || time.Until(now.Next) < 0 {
			return fmt.Errorf("stuck is %+v", now)
		}
		return nil
	})
	// the last of all attempts ends in its GiveUp event
	w = &worker{fail: map[string]int{"a": 1 << 30}}
	s = startParking(t, w, nil, rarely, func(s *choreo.Step[job, work]) { s.Retry.Attempts = 2 })
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	expectAudit(t, s.Tell(asked(operator.Retry, s.ExpectStuck("f", "work"), "")), "retry done test.job.givenup")
	s.Expect("f", jobGivenUp.New(note{"f", "gave up"}))
	expectCalls(t, w, "do a", "do a")
}

// A compensation that fails, of the second of two runs.
func TestAStuckUndoIsRetriedSkippedOrResolved(t *testing.T) {
	for name, c := range map[string]struct {
		heal  bool
		do    operator.Do
		data  string
		says  []choreo.Emission
		audit string
		calls []string
	}{
		"retried, mended": {
			heal: true, do: operator.Retry, audit: "retry done test.job.undone,test.job.undone",
			says:  []choreo.Emission{jobUndone.New(note{"f", "undone: b"}), jobUndone.New(note{"f", "undone: a"})},
			calls: []string{"undo b", "undo a"},
		},
		"skipped: it stays as it is, the other is undone": {
			do: operator.Skip, audit: "skip done test.job.undone",
			says:  []choreo.Emission{jobUndone.New(note{"f", "undone: a"})},
			calls: []string{"undo a"},
		},
		"resolved, and said": {
			do: operator.Resolve, data: `{"ID":"f","Text":"by hand"}`, audit: "resolve done test.job.undone,test.job.undone",
			says:  []choreo.Emission{jobUndone.New(note{"f", "by hand"}), jobUndone.New(note{"f", "undone: a"})},
			calls: []string{"undo a"},
		},
		"resolved in silence": {
			do: operator.Resolve, audit: "resolve done test.job.undone",
			says:  []choreo.Emission{jobUndone.New(note{"f", "undone: a"})},
			calls: []string{"undo a"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := &worker{fail: map[string]int{"undo b": 1 << 30}}
			reg := prometheus.NewRegistry()
			s := startParking(t, w, reg, rarely)
			for _, what := range []string{"a", "b"} {
				s.Publish("f", jobGiven.New(job{"f", what}))
				s.Expect("f", jobDone.New(work{"f", what}))
			}
			s.Publish("f", calledOff.New(calloff{"f", "rain"}))
			i := s.ExpectStuck("f", "work")
			if i.Kind != operator.Undo || i.Type != calledOff.Type || i.Attempts != 1 {
				t.Errorf("stuck is %+v", i)
			}
			awaitGauge(t, reg, "choreo_stuck_compensations", "", 1)
			if c.heal {
				w.heal("undo b")
			}
			expectAudit(t, s.Tell(asked(c.do, i, c.data)), c.audit)
			s.Expect("f", c.says...)
			s.Publish("f", calledOff.New(calloff{"f", "rain again"})) // is answered already
			s.Publish("f", jobGiven.New(job{"f", "c"}))               // never runs
			s.ExpectNothingMore("f")
			expectCalls(t, w, append([]string{"do a", "do b", "undo b"}, append(c.calls, "unknown c")...)...)
			if n := gauge(t, reg, "choreo_stuck_compensations", ""); n != 0 {
				t.Errorf("%v compensations are stuck after all", n)
			}
			expectAudit(t, s.Tell(asked(c.do, i, c.data)), string(c.do)+" refused")
		})
	}
}

// The only run is left as it is: nobody is told that nothing had been done.
func TestASkippedUndoIsNotTakenForOneThatWasNotNeeded(t *testing.T) {
	for _, do := range []operator.Do{operator.Skip, operator.Resolve} {
		w := &worker{fail: map[string]int{"undo a": 1 << 30}}
		s := startParking(t, w, nil, rarely)
		s.Publish("f", jobGiven.New(job{"f", "a"}))
		s.Expect("f", jobDone.New(work{"f", "a"}))
		s.Publish("f", calledOff.New(calloff{"f", "rain"}))
		i := s.ExpectStuck("f", "work")
		expectAudit(t, s.Tell(asked(do, i, "")), string(do)+" done")
		s.ExpectNothingMore("f")
		expectCalls(t, w, "do a", "undo a")
		remembered := journal.New(journal.Config{Steps: []string{"work"}})
		for _, rec := range readToEnd(t, s.Brokers(), "worker.journal") {
			if rec.Partition == i.Task {
				remembered.Apply(rec)
			}
		}
		want := map[operator.Do]journal.Status{operator.Skip: journal.Left, operator.Resolve: journal.Undone}[do]
		if runs := remembered.Runs("f", "work"); len(runs) != 1 || runs[0].Status != want {
			t.Errorf("after %s there are runs %+v", do, runs)
		}
	}
}

// A compensation that has overtaken parked attempts, and cannot find out what
// came of them.
func TestAStuckUnknownIsSkippedOrResolved(t *testing.T) {
	for do, c := range map[operator.Do]struct {
		says  []choreo.Emission
		audit string
	}{
		operator.Skip:    {nil, "skip done"},
		operator.Resolve: {[]choreo.Emission{jobDropped.New(note{"f", "dropped: rain"})}, "resolve done test.job.dropped"},
	} {
		w := &worker{fail: map[string]int{"a": 1 << 30, "unknown a": 1 << 30}}
		s := startParking(t, w, nil, rarely)
		s.Publish("f", jobGiven.New(job{"f", "a"}))
		s.ExpectStuck("f", "work")
		s.Publish("f", calledOff.New(calloff{"f", "rain"}))
		var i operator.Item
		eventually(t, "the compensation fails", func() error {
			if i = s.ExpectStuck("f", "work"); i.Kind != operator.Undo {
				return fmt.Errorf("stuck is %+v", i)
			}
			return nil
		})
		refused := s.Tell(asked(operator.Resolve, i, `{"ID":"f"}`))
		expectAudit(t, refused, "resolve refused")
		if !strings.Contains(refused.Error, "give no payload") {
			t.Errorf("refused for %q", refused.Error)
		}
		expectAudit(t, s.Tell(asked(do, i, "")), c.audit)
		s.Expect("f", c.says...)
		s.ExpectNothingMore("f")
		expectCalls(t, w, "do a", "unknown a")
		if left := s.Stuck(); len(left) > 0 {
			t.Errorf("stuck after all are %+v", left)
		}
	}
}

// An event of a cancelled step of which it cannot be found out whether an attempt
// had been made.
func TestAStuckUnknownOfACancelledStepIsSkipped(t *testing.T) {
	w := &worker{fail: map[string]int{"unknown a": 1 << 30}}
	s := startParking(t, w, nil, rarely)
	s.Publish("f", calledOff.New(calloff{"f", "rain"}))
	s.Expect("f", jobDropped.New(note{"f", "dropped: rain"}))
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	i := s.ExpectStuck("f", "work")
	if i.Kind != operator.Undo {
		t.Errorf("stuck is %+v", i)
	}
	expectAudit(t, s.Tell(asked(operator.Resolve, i, `{"ID":"f"}`)), "resolve refused")
	expectAudit(t, s.Tell(asked(operator.Skip, i, "")), "skip done")
	s.ExpectNothingMore("f")
	expectCalls(t, w, "unknown a")
}

// While a breaker is open, what waits for its provider is stuck, tried or not; a
// retry does not pass it, a skip does.
func TestWhatWaitsForAProviderIsRetriedSkippedOrResolved(t *testing.T) {
	l := &line{down: true}
	w := &worker{}
	step := l.calling(choreo.Breaker{Failures: 1, Open: time.Hour})
	step.Retry = choreo.Retry{Attempts: 100, InPlace: 1, First: time.Millisecond, Max: time.Minute}
	step.Compensate = choreo.Undo(w.Undo, jobUndone, calledOff).Unknown(w.Unknown)
	s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(2), step), choreotest.With(func(c *choreo.Config) { c.Logger = slog.New(slog.DiscardHandler) }))
	s.Publish("opens", jobGiven.New(job{"opens", "a"}))
	s.ExpectStuck("opens", "work")
	for _, f := range []string{"f", "g"} {
		s.Publish(f, jobGiven.New(job{f, "a"}))
	}
	i := s.ExpectStuck("f", "work")
	if i.Kind != operator.Step || i.Attempts != 0 || time.Since(i.Since) > time.Minute {
		t.Errorf("stuck is %+v", i)
	}
	for range 2 {
		a := s.Tell(asked(operator.Retry, i, ""))
		if expectAudit(t, a, "retry failed"); !strings.Contains(a.Error, "its breaker is not closed") {
			t.Errorf("it says %q", a.Error)
		}
	}
	i = s.ExpectStuck("f", "work")
	expectAudit(t, s.Tell(asked(operator.Skip, i, "")), "skip done test.job.givenup")
	s.Expect("f", jobGivenUp.New(note{"f", "gave up"}))
	expectAudit(t, s.Tell(asked(operator.Skip, i, "")), "skip refused")
	expectAudit(t, s.Tell(asked(operator.Resolve, s.ExpectStuck("g", "work"), `{"ID":"g","By":"hand"}`)), "resolve done test.job.done")
	s.Expect("g", jobDone.New(work{"g", "hand"}))
	if left := s.Stuck(); len(left) != 1 || left[0].Flow != "opens" {
		t.Errorf("stuck are %+v", left)
	}
	expectAudit(t, s.Tell(asked(operator.Skip, s.ExpectStuck("opens", "work"), "")), "skip done test.job.givenup")
	s.ExpectNothingMore("g")
}

// A step that joins events stands at the last of them.
func TestAStuckJoinedRunIsSkippedOrResolved(t *testing.T) {
	for _, do := range []operator.Do{operator.Skip, operator.Resolve} {
		w := &worker{fail: map[string]int{"a+x": 1 << 30}}
		s := startSending(t, w, nil, func(s *choreo.Step[parcel, work]) { s.Retry = seldom })
		s.Publish("f", isReady("f", "x"))
		s.ExpectJoin("f", "send", choreotest.JoinWaiting)
		s.Publish("f", given("f", "a"))
		i := s.ExpectStuck("f", "send")
		if do == operator.Skip {
			expectAudit(t, s.Tell(asked(do, i, "")), "skip done retries_exhausted")
			d := s.ExpectDeadLetter("f")
			w.heal("a+x")
			s.Replay(d)
			s.Expect("f", jobDone.New(work{"f", "a+x"}))
			expectCalls(t, w, "do a+x", "do a+x")
			continue
		}
		expectAudit(t, s.Tell(asked(do, i, `{"ID":"f","By":"hand"}`)), "resolve done test.job.done")
		s.Expect("f", jobDone.New(work{"f", "hand"}))
		s.Publish("f", offNow)
		s.Expect("f", jobUndone.New(note{"f", "undone: hand"}))
		s.ExpectNothingMore("f")
		expectCalls(t, w, "do a+x", "undo hand")
	}
}

// A reaction's queue may have another key than the flow of its event.
func TestAStuckReactionKeepsItsOwnKey(t *testing.T) {
	for _, do := range []operator.Do{operator.Skip, operator.Resolve} {
		s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(4), choreo.Reaction[job]{
			Name: "echo", On: jobGiven, Emits: choreo.Events{jobDone}, Retry: seldom,
			Do: func(_ context.Context, j job) (choreo.Emissions, error) {
				if j.What == "a" {
					return nil, errNotYet
				}
				return choreo.Emit(jobDone.New(work{j.ID, j.What})), nil
			},
		}))
		for _, what := range []string{"a", "b"} {
			rec := s.Record("f", jobGiven.New(job{"f", what}))
			rec.Key = []byte("key of another kind")
			s.PublishRecord(rec)
		}
		i := s.ExpectStuck("f", "echo")
		if i.Key != "key of another kind" {
			t.Errorf("stuck is %+v", i)
		}
		want := "resolve done"
		if do == operator.Skip {
			want = "skip done retries_exhausted"
		}
		expectAudit(t, s.Tell(asked(do, i, "")), want)
		s.Expect("f", jobDone.New(work{"f", "b"}))
		if do == operator.Skip {
			s.ExpectDeadLetter(i.Key)
		}
		s.ExpectNothingMore(i.Key)
	}
}

func TestAStuckDeadlineIsRetriedSkippedOrResolved(t *testing.T) {
	for name, c := range map[string]struct {
		heal  bool
		do    operator.Do
		data  string
		says  []choreo.Emission
		audit string
		stand choreotest.DeadlineStatus
	}{
		"retried":         {do: operator.Retry, audit: "retry failed", stand: choreotest.DeadlinePending},
		"retried, mended": {heal: true, do: operator.Retry, audit: "retry done test.job.late", stand: choreotest.DeadlineFired, says: []choreo.Emission{jobLate.New(note{"f", "late: a"})}},
		"skipped":         {do: operator.Skip, audit: "skip done", stand: choreotest.DeadlineMet},
		"resolved": {
			do: operator.Resolve, data: `{"ID":"f","Text":"by hand"}`, audit: "resolve done test.job.late", stand: choreotest.DeadlineFired,
			says: []choreo.Emission{jobLate.New(note{"f", "by hand"})},
		},
		"resolved without a payload": {do: operator.Resolve, audit: "resolve refused", stand: choreotest.DeadlinePending},
	} {
		t.Run(name, func(t *testing.T) {
			w := &worker{fail: map[string]int{"late": 1 << 30}}
			d := w.waits(10 * time.Millisecond)
			d.Retry = seldom
			s := startWaiting(t, nil, d)
			s.Publish("f", jobGiven.New(job{"f", "a"}))
			w.awaitCalls(t, 1, "late a")
			i := s.ExpectStuck("f", "in-time")
			if i.Kind != operator.Deadline {
				t.Errorf("stuck is %+v", i)
			}
			if c.heal {
				w.heal("late")
			}
			expectAudit(t, s.Tell(asked(c.do, i, c.data)), c.audit)
			s.Expect("f", c.says...)
			s.ExpectDeadline("f", "in-time", c.stand)
			s.ExpectNothingMore("f")
			if c.stand != choreotest.DeadlinePending {
				expectAudit(t, s.Tell(asked(c.do, i, c.data)), string(c.do)+" refused")
			}
		})
	}
}

// A deadline that is pending and has not passed is not stuck, whatever somebody
// says, and its flow is not erased.
func TestADeadlineThatHasNotPassedIsLeftAlone(t *testing.T) {
	w := &worker{}
	s := startWaiting(t, nil, w.waits(time.Hour))
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	s.ExpectDeadline("f", "in-time", choreotest.DeadlinePending)
	var j operator.Journal
	for _, rec := range readToEnd(t, s.Brokers(), "worker.journal") {
		j.Apply(rec)
	}
	all := j.Stuck(time.Now().Add(2 * time.Hour)) // as a clock that is ahead has it
	if len(all) != 1 {
		t.Fatalf("pending are %+v", all)
	}
	earlier := all[0]
	earlier.Began = earlier.Began.Add(-time.Millisecond)
	for want, c := range map[string]operator.Command{
		"the deadline has not passed yet":      asked(operator.Skip, all[0], ""),
		"the deadline is not pending any more": asked(operator.Skip, earlier, ""),
		"a deadline of the flow is pending":    asked(operator.Erase, all[0], ""),
	} {
		if a := s.Tell(c); a.Outcome != operator.Refused || !strings.Contains(a.Error, want) {
			t.Errorf("%s is %s: %q, want %q", c.Do, a.Outcome, a.Error, want)
		}
	}
	s.ExpectDeadline("f", "in-time", choreotest.DeadlinePending)
	expectCalls(t, w)
}

// What is wrong with a command is said, and nothing is changed by it.
func TestCommandsThatAreRefused(t *testing.T) {
	w := &worker{fail: map[string]int{"a": 1 << 30}}
	reg := prometheus.NewRegistry()
	s := startParking(t, w, reg, rarely)
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	i := s.ExpectStuck("f", "work")
	for name, c := range map[string]struct {
		do     operator.Do
		data   string
		change func(*operator.Target)
		want   string
	}{
		"a step resolved without a payload": {do: operator.Resolve, want: `give the payload of "test.job.done"`},
		"a field that is not declared":      {do: operator.Resolve, data: `{"ID":"f","Bye":"x"}`, want: `unknown field "Bye"`},
		"a payload of another form":         {do: operator.Resolve, data: `[1]`, want: "decode the payload of test.job.done"},
		"a payload that is too large":       {do: operator.Resolve, data: `{"ID":"` + strings.Repeat("x", 950<<10) + `"}`, want: "exceed MAX_EVENT_BYTES"},
		"another flow":                      {do: operator.Skip, change: func(x *operator.Target) { x.Key = "g" }, want: "nothing is parked there"},
		"another task":                      {do: operator.Skip, change: func(x *operator.Target) { x.Task = 1 - x.Task }, want: "nothing is parked there"},
		"another event":                     {do: operator.Skip, change: func(x *operator.Target) { x.Seq++ }, want: "another event is the first"},
		"another step":                      {do: operator.Skip, change: func(x *operator.Target) { x.Name = "play" }, want: "has moved on"},
		"another kind":                      {do: operator.Skip, change: func(x *operator.Target) { x.Kind = operator.Undo }, want: "has moved on"},
		"attempts that began at another time": {do: operator.Skip,
			change: func(x *operator.Target) { x.Began = x.Began.Add(time.Millisecond) }, want: "has moved on"},
		"a deadline":                     {do: operator.Skip, change: func(x *operator.Target) { x.Kind = operator.Deadline }, want: "not pending any more"},
		"a flow whose events are parked": {do: operator.Erase, want: "events of the flow are parked"},
		"a flow that is not known":       {do: operator.Erase, change: func(x *operator.Target) { x.Key = "g" }, want: "of"},
	} {
		cmd := asked(c.do, i, c.data)
		if c.change != nil {
			c.change(&cmd.Target)
		}
		a := s.Tell(cmd)
		if a.Outcome != operator.Refused || !strings.Contains(a.Error, c.want) {
			t.Errorf("%s: %s, %q; want it refused for %q", name, a.Outcome, a.Error, c.want)
		}
	}
	if now := s.ExpectStuck("f", "work"); now != i {
		t.Errorf("stuck is %+v, and was %+v", now, i)
	}
	expectCalls(t, w, "do a")
	if n := metric(t, reg, "choreo_operator_commands_total", "refused"); n == 0 {
		t.Error("no refusal is counted")
	}
}

// What is no command becomes a dead letter; what is no operator's cannot pass for
// a command.
func TestCommandsCannotBeForgedByEvents(t *testing.T) {
	w := &worker{fail: map[string]int{"a": 1 << 30}}
	s := startParking(t, w, nil, rarely)
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	i := s.ExpectStuck("f", "work")
	cmd := asked(operator.Skip, i, "")
	cmd.ID, cmd.By, cmd.Why = "x", "nobody", "because"
	for k := range 6 { // some of them come to their task by way of the inbox
		flow := fmt.Sprintf("g%d", k)
		rec := s.Record(flow, jobGiven.New(job{flow, "b"}))
		rec.Key = []byte("key")
		rec.Headers = append(rec.Headers, cmd.Record("worker.inbox").Headers...)
		s.PublishRecord(rec)
		s.Expect(flow, jobDone.New(work{flow, "b"}))
	}
	for name, spoil := range map[string]func(*kgo.Record){
		"asks for what there is not": func(r *kgo.Record) { r.Headers[0].Value = []byte("destroy") },
		"has no id":                  func(r *kgo.Record) { r.Headers[1].Value = nil },
		"is about nothing":           func(r *kgo.Record) { r.Headers[2].Value = nil },
		"has a place that is none":   func(r *kgo.Record) { r.Headers[4].Value = []byte("-1") },
		"has a time that is none":    func(r *kgo.Record) { r.Headers[5].Value = []byte("now") },
		"says not who":               func(r *kgo.Record) { r.Headers[6].Value = []byte(" ") },
		"says not why":               func(r *kgo.Record) { r.Headers[7].Value = nil },
		"says too much":              func(r *kgo.Record) { r.Headers[7].Value = []byte(strings.Repeat("x", 513)) },
		"says what it must not":      func(r *kgo.Record) { r.Value = []byte("{}") },
		"is not text":                func(r *kgo.Record) { r.Headers[6].Value = []byte("\xff") },
	} {
		rec := cmd.Record("worker.inbox")
		rec.Partition = 0
		rec.Key = []byte("spoiled")
		spoil(rec)
		s.PublishRecord(rec)
		if d := s.ExpectDeadLetter("spoiled"); d.Header("choreo-dlq-reason") != "invalid_event" {
			t.Errorf("a command that %s is a dead letter for %q", name, d.Header("choreo-dlq-error"))
		}
	}
	if now := s.ExpectStuck("f", "work"); now != i {
		t.Errorf("stuck is %+v, and was %+v", now, i)
	}
	if all := s.Audits(); len(all) > 0 {
		t.Errorf("audited are %+v", all)
	}
}

// Nothing in a command moves a cursor or forges a line of what an operator reads.
func TestWhatACommandSaysIsKeptOnALine(t *testing.T) {
	w := &worker{fail: map[string]int{"a": 1 << 30}}
	s := startParking(t, w, nil, rarely)
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	cmd := asked(operator.Retry, s.ExpectStuck("f", "work"), "")
	cmd.By, cmd.Why = "me\x1b[2J", "because\nerror: all is well"
	a := s.Tell(cmd)
	if strings.ContainsAny(a.By+a.Why, "\x1b\n") || !strings.HasPrefix(a.Why, "because") {
		t.Errorf("the audit says %q and %q", a.By, a.Why)
	}
}

// A command that is under way when the process is killed has its effect once, by
// the next one.
func TestACommandHasItsEffectOnceOverAKill(t *testing.T) {
	brokers := broker(t)
	w := &worker{fail: map[string]int{"undo a": 1 << 30}}
	service := func() *choreo.Service {
		s := w.step()
		s.Retry = seldom
		return choreo.NewService("worker", choreo.Tasks(1), s)
	}
	svc := service()
	createTopics(t, svc, configFor(brokers, "x"))
	first := runProcess(t, svc, brokers)
	outside := newOutside(t, svc, brokers)
	outside.say(jobGiven.New(job{"f", "a"}))
	outside.hear(1, func(choreo.Emission, cloudevent.Event) string { return "" })
	outside.say(calledOff.New(calloff{"f", "rain"}))
	awaitGauge(t, first.reg, "choreo_stuck_compensations", "", 1)
	var stuck []operator.Item
	eventually(t, "it is committed that it is stuck", func() error {
		var j operator.Journal
		for _, rec := range readToEnd(t, brokers, "worker.journal") {
			j.Apply(rec)
		}
		if stuck = j.Stuck(time.Now()); len(stuck) != 1 || stuck[0].Kind != operator.Undo {
			return fmt.Errorf("stuck are %+v", stuck)
		}
		return nil
	})
	first.plug.pull()
	cmd := asked(operator.Resolve, stuck[0], `{"ID":"f","Text":"by hand"}`)
	cmd.By, cmd.Why = "me", "paid back at the counter"
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for n := range 3 { // told three times, as by several people
		cmd.ID = fmt.Sprint("c", n)
		if err := cl.ProduceSync(t.Context(), cmd.Record("worker.inbox")).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	second := service()
	p := runProcess(t, second, brokers)
	awaitGauge(t, p.reg, "choreo_stuck_compensations", "", 0)
	var audits []operator.Audit
	eventually(t, "all three are answered", func() error {
		audits = nil
		for _, rec := range readToEnd(t, brokers, "worker.dlq") {
			if a, ok := operator.ReadAudit(rec); ok {
				audits = append(audits, a)
			}
		}
		if len(audits) < 3 {
			return fmt.Errorf("audited are %+v", audits)
		}
		return nil
	})
	var outcomes []operator.Outcome
	for _, a := range audits {
		outcomes = append(outcomes, a.Outcome)
	}
	if !slices.Equal(outcomes, []operator.Outcome{operator.Done, operator.Refused, operator.Refused}) {
		b, _ := json.Marshal(audits)
		t.Errorf("audited are %s", b)
	}
	if all := readToEnd(t, brokers, "work"); len(all) != 2 {
		t.Errorf("%d events were said, want 2", len(all))
	}
	if n := w.count("undo a"); n != 1 {
		t.Errorf("undo was called %d times", n)
	}
}

func TestErasingAFlow(t *testing.T) {
	w := &worker{}
	step := w.step()
	st := &choreo.State[job]{Name: "jobs", When: []choreo.Transition[job]{choreo.When(jobGiven, func(v *job, j job) { *v = j })}}
	s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(2), step, st))
	for _, flow := range []string{"f", "g"} {
		s.Publish(flow, jobGiven.New(job{flow, "secret of " + flow}))
		s.Expect(flow, jobDone.New(work{flow, "secret of " + flow}))
	}
	task := int32(0)
	for _, rec := range readToEnd(t, s.Brokers(), "worker.journal") {
		if strings.HasPrefix(string(rec.Key), "f\x00") {
			task = rec.Partition
		}
	}
	a := s.Tell(operator.Command{Do: operator.Erase, Target: operator.Target{Task: task, Key: "f"}})
	expectAudit(t, a, "erase done")
	last := map[string][]byte{} // as compaction leaves it
	for _, rec := range readToEnd(t, s.Brokers(), "worker.journal") {
		last[string(rec.Key)] = rec.Value
	}
	slots := 0
	for key, value := range last {
		if strings.HasPrefix(key, "f\x00") {
			slots++
			if value != nil {
				t.Errorf("%q is still in the journal", key)
			}
		}
	}
	if slots != a.Erased || slots < 2 {
		t.Errorf("%d slots were erased, %d are deleted", a.Erased, slots)
	}
	if _, err := st.Get(t.Context(), "f"); err == nil {
		t.Error("the state is still there")
	}
	if v, err := st.Get(t.Context(), "g"); err != nil || v.What != "secret of g" {
		t.Errorf("of the other flow there is %+v, %v", v, err)
	}
	expectAudit(t, s.Tell(operator.Command{Do: operator.Erase, Target: operator.Target{Task: task, Key: "f"}}), "erase refused")
}
