package choreo_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/deadletter"
	"github.com/choreography-go/choreography/choreo/operator"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// overlong is a text that narrow topics do not take.
var overlong = incompressible(6000)

// tooMuch undoes as the worker does, and says more of it than narrow topics take.
func tooMuch(w *worker) choreo.Compensation[job, work] {
	return choreo.Undo(func(ctx context.Context, j job, x work) (note, error) {
		out, err := w.Undo(ctx, j, x)
		out.Text = overlong
		return out, err
	}, jobUndone, calledOff).Unknown(w.Unknown)
}

// startNarrow starts a service whose topic "work" takes no events of 2000 bytes.
func startNarrow(t *testing.T, reg *prometheus.Registry, declarations ...choreo.Declaration) *choreotest.Service {
	t.Helper()
	svc := choreo.NewService("worker", choreo.Tasks(1), choreo.Topic{Name: "work", Config: map[string]string{"max.message.bytes": "2000"}})
	svc.Add(declarations...)
	return choreotest.Start(t, svc, choreotest.With(func(c *choreo.Config) {
		c.Registerer = reg
		c.Logger = slog.New(slog.DiscardHandler)
	}))
}

// limit changes what a topic takes.
func limit(t *testing.T, brokers []string, topic, bytes string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	set := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &bytes}}
	if _, err := kadm.NewClient(cl).AlterTopicConfigs(t.Context(), set, topic); err != nil {
		t.Fatal(err)
	}
}

// expectRefusals counts how often the broker has refused something for its size:
// all that is in work is done again each time.
func expectRefusals(t *testing.T, reg *prometheus.Registry, want float64) {
	t.Helper()
	if got := metric(t, reg, "choreo_transaction_failures_total", "too_large"); got != want {
		t.Errorf("the broker has refused %v records, want %v", got, want)
	}
}

// A step whose event the broker refuses may have done something, so a compensation
// finds that out before it says that nothing was done.
func TestACompensationOfWhatTheBrokerRefusedFindsOut(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*worker, *choreo.Step[job, work])
		calls  []string
	}{
		"what it did": {func(w *worker, s *choreo.Step[job, work]) {
			s.Do = func(ctx context.Context, j job) (work, error) {
				out, err := w.Do(ctx, j)
				out.By = overlong
				return out, err
			}
		}, []string{"do a", "unknown a"}},
		"its refusal": {func(w *worker, s *choreo.Step[job, work]) {
			s.Do = func(ctx context.Context, j job) (work, error) {
				_, err := w.Do(ctx, j)
				if err == nil {
					err = notMyJob
				}
				return work{}, err
			}
			s.Fail = choreo.Failures[job]{choreo.FailWith(func(j job, _ *choreo.Rejection) note { return note{j.ID, overlong} }, jobRefused)}
		}, []string{"do a", "do a", "unknown a"}},
		"that it was given up": {func(w *worker, s *choreo.Step[job, work]) {
			w.fail = map[string]int{"a": 1 << 30}
			s.GiveUp = choreo.GiveUpAs(func(j job, _ error) note { return note{j.ID, overlong} }, jobGivenUp)
			s.Retry = choreo.Retry{Attempts: 1}
		}, []string{"do a", "do a", "unknown a"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := &worker{}
			step := w.step()
			c.change(w, &step)
			reg := prometheus.NewRegistry()
			s := startNarrow(t, reg, step)
			s.Publish("f", jobGiven.New(job{"f", "a"}))
			d := s.ExpectDeadLetter("f")
			expectHeaders(t, d, map[string]string{"choreo-dlq-reason": "unsayable", "choreo-dlq-step": "work", "choreo-dlq-attempts": "1", "choreo-dlq-truncated": ""})
			if text := d.Header("choreo-dlq-error"); !strings.Contains(text, `for topic "work" for its size; raise the topic's max.message.bytes`) {
				t.Errorf("it is a dead letter because of %q", text)
			}
			s.Publish("f", calledOff.New(calloff{"f", "rain"}))
			s.Expect("f", jobDropped.New(note{"f", "dropped: rain"}))
			s.ExpectNothingMore("f")
			expectCalls(t, w, c.calls...)
			expectRefusals(t, reg, 1)
		})
	}
}

// A dead letter of what was refused is replayed once the topic takes it.
func TestWhatTheBrokerRefusedIsReplayed(t *testing.T) {
	w := &worker{}
	s := startNarrow(t, nil, w.step())
	s.Publish("f", jobGiven.New(job{"f", overlong}))
	d := s.ExpectDeadLetter("f")
	limit(t, s.Brokers(), "work", "100000")
	s.Replay(d)
	s.Expect("f", jobDone.New(work{"f", overlong}))
	s.ExpectReplayed(d, deadletter.Succeeded)
}

// Of the handlers of an event only the one is to blame whose event was refused.
func TestOtherHandlersOfAnEventSayWhatTheySay(t *testing.T) {
	long := func(id string) note { return note{id, overlong} }
	for name, c := range map[string]struct {
		guilty choreo.Declaration
		calls  []string
	}{
		"a step": {choreo.Step[job, note]{Name: "guilty", On: jobGiven, Emit: jobGivenUp, Retry: quickly,
			Do: func(_ context.Context, j job) (note, error) { return long(j.ID), nil }}, nil},
		"a reaction": {choreo.Reaction[job]{Name: "guilty", On: jobGiven, Emits: choreo.Events{jobGivenUp},
			Do: func(_ context.Context, j job) (choreo.Emissions, error) {
				return choreo.Emit(jobGivenUp.New(long(j.ID))), nil
			}}, nil},
		"a state": {&choreo.State[tally]{Name: "guilty", When: []choreo.Transition[tally]{
			choreo.ThenAny(jobGiven, func(_ *tally, j job) (choreo.Emissions, error) {
				return choreo.Emit(jobGivenUp.New(long(j.ID))), nil
			}, jobGivenUp),
		}}, nil},
	} {
		for _, first := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, first %v", name, first), func(t *testing.T) {
				w := &worker{}
				declarations := []choreo.Declaration{w.step(), c.guilty}
				if first {
					declarations = []choreo.Declaration{c.guilty, w.step()}
				}
				reg := prometheus.NewRegistry()
				s := startNarrow(t, reg, declarations...)
				s.Publish("f", jobGiven.New(job{"f", "a"}))
				s.Expect("f", jobDone.New(work{"f", "a"}))
				expectHeaders(t, s.ExpectDeadLetter("f"), map[string]string{"choreo-dlq-reason": "unsayable", "choreo-dlq-step": "guilty"})
				s.ExpectNothingMore("f")
				expectRefusals(t, reg, 1)
			})
		}
	}
}

// An undo whose event the broker refuses is never given up, and shows as stuck. It
// is not called again to say the same.
func TestAnUndoWhoseEventTheBrokerRefusesIsStuck(t *testing.T) {
	for name, c := range map[string]struct {
		do    operator.Do
		data  string
		audit string
		says  []choreo.Emission
	}{
		"retried":                 {do: operator.Retry, audit: "retry failed"},
		"skipped":                 {do: operator.Skip, audit: "skip done"},
		"resolved in silence":     {do: operator.Resolve, audit: "resolve done"},
		"resolved":                {do: operator.Resolve, data: `{"ID":"f","Text":"by hand"}`, audit: "resolve done test.job.undone", says: []choreo.Emission{jobUndone.New(note{"f", "by hand"})}},
		"resolved with as much":   {do: operator.Resolve, data: fmt.Sprintf(`{"ID":"f","Text":%q}`, overlong), audit: "resolve refused"},
		"resolved with a mistake": {do: operator.Resolve, data: `{"Nothing":1}`, audit: "resolve refused"},
	} {
		t.Run(name, func(t *testing.T) {
			w := &worker{}
			step := w.step()
			rarely(&step)
			step.Compensate = tooMuch(w)
			reg := prometheus.NewRegistry()
			s := startNarrow(t, reg, step)
			s.Publish("f", jobGiven.New(job{"f", "a"}))
			s.Expect("f", jobDone.New(work{"f", "a"}))
			s.Publish("f", calledOff.New(calloff{"f", "rain"}))
			i := s.ExpectStuck("f", "work")
			if i.Kind != operator.Undo || i.Attempts != 1 || !strings.Contains(i.Error, "max.message.bytes, or say less, and start again") {
				t.Errorf("stuck is %+v", i)
			}
			s.Publish("g", jobGiven.New(job{"g", "b"}))
			s.Expect("g", jobDone.New(work{"g", "b"}))
			expectCalls(t, w, "do a", "undo a", "do b")
			expectRefusals(t, reg, 1)
			expectAudit(t, s.Tell(asked(c.do, i, c.data)), c.audit)
			s.Expect("f", c.says...)
			if strings.Contains(c.audit, "done") {
				s.ExpectNothingMore("f")
			} else {
				s.ExpectStuck("f", "work")
			}
			expectCalls(t, w, "do a", "undo a", "do b")
		})
	}
}

// It is tried again in place and from the journal, as every undo, and never said.
func TestWhatTheBrokerRefusedIsNotSaidByAnyRetry(t *testing.T) {
	w := &worker{}
	step := w.step()
	step.Retry = choreo.Retry{First: time.Millisecond, Max: 2 * time.Millisecond}
	step.Compensate = tooMuch(w)
	reg := prometheus.NewRegistry()
	s := startNarrow(t, reg, step)
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	s.Expect("f", jobDone.New(work{"f", "a"}))
	s.Publish("f", calledOff.New(calloff{"f", "rain"}))
	eventually(t, "it is tried some times", func() error {
		if i := s.ExpectStuck("f", "work"); i.Attempts < 10 {
			return fmt.Errorf("%d times", i.Attempts)
		}
		return nil
	})
	expectCalls(t, w, "do a", "undo a")
	expectRefusals(t, reg, 1)
}

// A process that is started again tries once more: the topic may take it now.
func TestAnUndoThatWasRefusedIsSaidAfterARestart(t *testing.T) {
	w := &worker{}
	step := w.step()
	step.Emit.Topic = "jobs"
	step.Compensate = tooMuch(w)
	svc := choreo.NewService("worker", choreo.Tasks(1), step, choreo.Topic{Name: "work", Config: map[string]string{"max.message.bytes": "2000"}})
	cfg := configFor(broker(t), "a")
	reg := prometheus.NewRegistry()
	cfg.Registerer = reg
	createTopics(t, svc, cfg)
	outside := newOutside(t, svc, cfg.Brokers)
	first := runInstance(t, svc, cfg)
	outside.say(jobGiven.New(job{"f", "a"}))
	w.awaitCalls(t, 1, "do a")
	outside.say(calledOff.New(calloff{"f", "rain"}))
	awaitGauge(t, reg, "choreo_parked_events", "work", 1)
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	expectRefusals(t, reg, 1)
	limit(t, cfg.Brokers, "work", "100000")
	cfg.Registerer = prometheus.NewRegistry()
	runInstance(t, svc, cfg)
	said := outside.hear(1, func(_ choreo.Emission, ev cloudevent.Event) string { return ev.Type })
	if said[0] != jobUndone.Type {
		t.Errorf("said was %q", said)
	}
	expectCalls(t, w, "do a", "undo a", "undo a")
}

// Of several runs that are undone only the one is stuck whose event is refused.
func TestOneOfSeveralUndosWhoseEventTheBrokerRefuses(t *testing.T) {
	undoneB, undoneA := jobUndone.New(note{"f", "undone: b"}), jobUndone.New(note{"f", "undone: a"})
	for name, c := range map[string]struct {
		refused, fails string // whose events or undos
		says           []choreo.Emission
		do             operator.Do
		data           string
		audit          string
		then           []choreo.Emission
		left           int
	}{
		"the older one":              {refused: "a", says: []choreo.Emission{undoneB}, do: operator.Skip, audit: "skip done"},
		"the newer one":              {refused: "b", do: operator.Skip, audit: "skip done test.job.undone", then: []choreo.Emission{undoneA}},
		"both":                       {refused: "ab", do: operator.Skip, audit: "skip done", left: 1},
		"the newer one was resolved": {refused: "a", fails: "b", do: operator.Resolve, data: `{"ID":"f","Text":"hand"}`, audit: "resolve done test.job.undone", then: []choreo.Emission{jobUndone.New(note{"f", "hand"})}, left: 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := &worker{fail: map[string]int{"undo " + c.fails: 1 << 30}}
			step := w.step()
			rarely(&step)
			step.Compensate = choreo.Undo(func(ctx context.Context, j job, x work) (note, error) {
				out, err := w.Undo(ctx, j, x)
				if strings.Contains(c.refused, x.By) {
					out.Text = overlong
				}
				return out, err
			}, jobUndone, calledOff).Unknown(w.Unknown)
			s := startNarrow(t, nil, step)
			for _, what := range []string{"a", "b"} {
				s.Publish("f", jobGiven.New(job{"f", what}))
				s.Expect("f", jobDone.New(work{"f", what}))
			}
			s.Publish("f", calledOff.New(calloff{"f", "rain"}))
			s.Expect("f", c.says...)
			expectAudit(t, s.Tell(asked(c.do, s.ExpectStuck("f", "work"), c.data)), c.audit)
			s.Expect("f", c.then...)
			if left := s.Stuck(); len(left) != c.left {
				t.Errorf("stuck are %+v", left)
			}
		})
	}
}

// What Cancel says may be refused, too: who waits for it must not wait unseen, and
// the step stays cancelled.
func TestACancellationWhoseEventTheBrokerRefusesIsStuck(t *testing.T) {
	w := &worker{}
	step := w.step()
	rarely(&step)
	step.Cancel = []choreo.Cancellation{choreo.CancelOn(calledOff, func(c calloff) note { return note{c.ID, overlong} }, jobDropped)}
	reg := prometheus.NewRegistry()
	s := startNarrow(t, reg, step)
	s.Publish("f", calledOff.New(calloff{"f", "rain"}))
	i := s.ExpectStuck("f", "work")
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	expectAudit(t, s.Tell(asked(operator.Retry, i, "")), "retry failed")
	expectAudit(t, s.Tell(asked(operator.Resolve, i, "")), "resolve done")
	s.ExpectNothingMore("f")
	if left := s.Stuck(); len(left) > 0 {
		t.Errorf("stuck are %+v", left)
	}
	expectCalls(t, w, "unknown a")
	expectRefusals(t, reg, 1)
}

// A payload that an operator gives, and the broker refuses for its size, is refused:
// what is stuck is so still, and is resolved by another one.
func TestWhatAnOperatorSaysMayBeTooLargeForItsTopic(t *testing.T) {
	w := &worker{fail: map[string]int{"a": 1 << 30, "late": 1 << 30}}
	step := w.step()
	rarely(&step)
	d := w.waits(10 * time.Millisecond)
	d.Retry = seldom
	for name, c := range map[string]struct {
		declared choreo.Declaration
		stuck    string
		data     string // but for what it tells
		says     choreo.Emission
	}{
		"a step":     {step, "work", `{"ID":"f","By":%q}`, jobDone.New(work{"f", "hand"})},
		"a deadline": {d, "in-time", `{"ID":"f","Text":%q}`, jobLate.New(note{"f", "hand"})},
	} {
		t.Run(name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			s := startNarrow(t, reg, c.declared)
			s.Publish("f", jobGiven.New(job{"f", "a"}))
			i := s.ExpectStuck("f", c.stuck)
			a := s.Tell(asked(operator.Resolve, i, fmt.Sprintf(c.data, overlong)))
			expectAudit(t, a, "resolve refused")
			if !strings.Contains(a.Error, `what was stuck is so still: the broker refused a record of `) || !strings.Contains(a.Error, "max.message.bytes") {
				t.Errorf("it is refused because of %q", a.Error)
			}
			if now := s.ExpectStuck("f", c.stuck); now.Target != i.Target {
				t.Errorf("stuck is %+v, was %+v", now, i)
			}
			expectRefusals(t, reg, 1)
			if a = s.Tell(asked(operator.Resolve, i, fmt.Sprintf(c.data, "hand"))); a.Outcome != operator.Done {
				t.Errorf("the audit tells %+v", a)
			}
			s.Expect("f", c.says)
			s.ExpectNothingMore("f")
		})
	}
}

// Of a letter that its topic does not take only what tells where it lies is kept.
func TestADeadLetterThatTheBrokerRefusesIsTruncated(t *testing.T) {
	w := &worker{}
	s := startNarrow(t, nil, w.step())
	limit(t, s.Brokers(), "worker.dlq", "2000")
	for name, rec := range map[string]*kgo.Record{
		"before any handler": change(s.Record("f", jobGiven.New(job{"f", overlong})), "ce_source", nil),
		"of a handler":       s.Record("f", jobGiven.New(job{"f", overlong})),
	} {
		s.PublishRecord(rec)
		d := s.ExpectDeadLetter("")
		if reason := d.Header("choreo-dlq-reason"); (reason == "unsayable") != (name == "of a handler") || len(d.Record.Value) > 0 || d.Header("choreo-dlq-truncated") == "" {
			t.Errorf("%s: a dead letter because of %q with %d bytes", name, reason, len(d.Record.Value))
		}
	}
}
