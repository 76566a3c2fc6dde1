package choreo_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
)

func contains(s, sub string) bool { return strings.Contains(s, sub) }

func TestReactionSaysNoneOneOrMany(t *testing.T) {
	r := choreo.Reaction[job]{Name: "echo", On: jobGiven, Emits: choreo.Events{jobDone, jobRefused},
		Do: func(_ context.Context, j job) (choreo.Emissions, error) {
			switch j.What {
			case "none":
				return nil, nil
			case "one":
				return choreo.Emit(jobDone.New(work{j.ID, "1"})), nil
			}
			return choreo.Emit(jobDone.New(work{j.ID, "1"}), jobRefused.New(note{j.ID, "2"}), jobDone.New(work{j.ID, "3"})), nil
		}}
	s := choreotest.Start(t, choreo.NewService("echo", choreo.Tasks(2), r))
	s.Publish("f", jobGiven.New(job{"f", "none"}))
	s.Publish("f", jobGiven.New(job{"f", "one"}))
	s.Publish("f", jobGiven.New(job{"f", "many"}))
	s.Expect("f", jobDone.New(work{"f", "1"}), jobDone.New(work{"f", "1"}), jobRefused.New(note{"f", "2"}), jobDone.New(work{"f", "3"}))
	s.ExpectNothingMore("f")
}

func TestReactionOnceDropsDuplicates(t *testing.T) {
	for _, once := range []bool{false, true} {
		t.Run(fmt.Sprint(once), func(t *testing.T) {
			r := choreo.Reaction[job]{Name: "echo", On: jobGiven, Emits: choreo.Events{jobDone}, Once: once,
				Do: func(_ context.Context, j job) (choreo.Emissions, error) {
					return choreo.Emit(jobDone.New(work{j.ID, j.What})), nil
				}}
			s := choreotest.Start(t, choreo.NewService("echo", choreo.Tasks(1), r))
			rec := s.Record("f", jobGiven.New(job{"f", "a"}))
			s.PublishRecord(rec)
			s.PublishRecord(rec)
			s.Expect("f", jobDone.New(work{"f", "a"}))
			if !once { // a Reaction keeps no state: it hears the duplicate
				s.Expect("f", jobDone.New(work{"f", "a"}))
			}
			s.ExpectNothingMore("f")
		})
	}
}

func TestReactionSaysOnlyWhatItDeclares(t *testing.T) {
	r := choreo.Reaction[job]{Name: "echo", On: jobGiven, Emits: choreo.Events{jobDone},
		Do: func(_ context.Context, j job) (choreo.Emissions, error) {
			return choreo.Emit(jobDone.New(work{j.ID, "a"}), jobRefused.New(note{j.ID, "b"})), nil
		}}
	s := choreotest.Start(t, choreo.NewService("echo", choreo.Tasks(1), r))
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	d := s.ExpectDeadLetter("f")
	if d.Header("choreo-dlq-reason") != "unsayable" || !contains(d.Header("choreo-dlq-error"), `"echo" says "test.job.refused"`) {
		t.Errorf("dead letter: %s, %s", d.Header("choreo-dlq-reason"), d.Header("choreo-dlq-error"))
	}
	s.ExpectNothingMore("f") // all or none
}

// What exceeds MAX_EVENT_BYTES is not said, nor anything with it.
func TestWhatExceedsTheLimitOfEventsIsNotSaid(t *testing.T) {
	const limit = 2000
	w := &worker{}
	step := w.step()
	step.Do = func(ctx context.Context, j job) (work, error) {
		out, err := w.Do(ctx, j)
		if j.ID == "f" {
			out.By = strings.Repeat("x", limit)
		}
		return out, err
	}
	echo := choreo.Reaction[calloff]{Name: "echo", On: calledOff2, Emits: choreo.Events{jobUndone}, Do: func(_ context.Context, c calloff) (choreo.Emissions, error) {
		return choreo.Emit(jobUndone.New(note{c.ID, "small"}), jobUndone.New(note{c.ID, strings.Repeat("x", limit)})), nil
	}}
	step.Compensate = choreo.Undo(w.Undo, jobUndone, calledOff).Unknown(w.Unknown)
	s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(1), step, echo), choreotest.With(func(c *choreo.Config) { c.MaxEventBytes = limit }))
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	s.Publish("g", calledOff2.New(calloff{"g", "a"}))
	for flow, name := range map[string]string{"f": "work", "g": "echo"} {
		d := s.ExpectDeadLetter(flow)
		expectHeaders(t, d, map[string]string{"choreo-dlq-reason": "unsayable", "choreo-dlq-step": name})
		if text := d.Header("choreo-dlq-error"); !contains(text, "exceed MAX_EVENT_BYTES, 2000") {
			t.Errorf("%s: it says %q", name, text)
		}
		s.ExpectNothingMore(flow)
	}
	s.Publish("h", jobGiven.New(job{"h", "b"}))
	s.Expect("h", jobDone.New(work{"h", "b"}))
}

func TestMiddlewareWrapsEveryAttempt(t *testing.T) {
	w := &worker{fail: map[string]int{"a": 1}}
	svc := choreo.NewService("worker", choreo.Tasks(1), w.step())
	var outer, inner, failed atomic.Int32
	svc.Use(func(next func(context.Context) error) func(context.Context) error {
		return func(ctx context.Context) error {
			outer.Add(1)
			if m := choreo.Meta(ctx); m.Step != "work" || m.Flow != "f" || m.IdempotencyKey == "" {
				t.Errorf("Meta in middleware: %+v", m)
			}
			err := next(context.WithValue(ctx, ctxKey{}, "seen"))
			if err != nil {
				failed.Add(1)
			}
			return err
		}
	}, func(next func(context.Context) error) func(context.Context) error {
		return func(ctx context.Context) error {
			if ctx.Value(ctxKey{}) != "seen" {
				t.Error("the first middleware is not the outermost")
			}
			inner.Add(1)
			return next(ctx)
		}
	})
	s := choreotest.Start(t, svc)
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	s.Expect("f", jobDone.New(work{"f", "a"}))
	s.Publish("f", calledOff.New(calloff{"f", "rain"}))
	s.Expect("f", jobUndone.New(note{"f", "undone: a"}))
	if outer.Load() != 3 || inner.Load() != 3 || failed.Load() != 1 {
		t.Errorf("%d outer, %d inner, %d failed; want 3, 3, 1", outer.Load(), inner.Load(), failed.Load())
	}
}

type ctxKey struct{}

func TestMetaAndCause(t *testing.T) {
	var did, undid choreo.Metadata
	var why calloff
	var known, other bool
	s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(1), choreo.Step[job, work]{
		Name: "work", On: jobGiven, Emit: jobDone,
		Do: func(ctx context.Context, j job) (work, error) {
			if did = choreo.Meta(ctx); did.Attempt == 1 {
				return work{}, errNotYet
			}
			return work{}, nil
		},
		Compensate: choreo.Undo(func(ctx context.Context, _ job, _ work) (note, error) {
			undid = choreo.Meta(ctx)
			why, known = choreo.Cause(ctx, calledOff)
			_, other = choreo.Cause(ctx, calledOff2)
			return note{}, nil
		}, jobUndone, calledOff, calledOff2),
		Retry: quickly,
	}))
	rec := s.Record("f", jobGiven.New(job{"f", "a"}))
	s.PublishRecord(rec)
	s.Expect("f", jobDone.New(work{}))
	s.Publish("f", calledOff.New(calloff{"f", "rain"}))
	s.Expect("f", jobUndone.New(note{}))
	if did.Flow != "f" || did.EventID != header(rec, "ce_id") || did.Type != jobGiven.Type || did.Attempt != 2 || did.Undoes != "" {
		t.Errorf("in Do Meta is %+v", did)
	}
	if undid.Undoes != did.IdempotencyKey || undid.IdempotencyKey == did.IdempotencyKey || undid.IdempotencyKey == "" {
		t.Errorf("in the undo Meta is %+v; it undoes the run of key %s", undid, did.IdempotencyKey)
	}
	if !known || why.Why != "rain" || other {
		t.Errorf("Cause tells %+v (%v), and the other %v", why, known, other)
	}
	if m := choreo.Meta(context.Background()); m != (choreo.Metadata{}) {
		t.Errorf("outside a handler Meta is %+v", m)
	}
}

func TestForeignKeysReachTheFlowsTaskThroughTheInbox(t *testing.T) {
	w := &worker{}
	s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(4), w.step()))
	// A producer that partitions otherwise: each event of the flow lies on
	// another partition.
	for i := range 4 {
		rec := s.Record("f", jobGiven.New(job{"f", fmt.Sprint(i)}))
		rec.Key = fmt.Append(nil, "customer-", i)
		s.PublishRecord(rec)
		s.Expect("f", jobDone.New(work{"f", fmt.Sprint(i)}))
	}
	s.Publish("f", calledOff.New(calloff{"f", "rain"}))
	s.Expect("f", jobUndone.New(note{"f", "undone: 3"}), jobUndone.New(note{"f", "undone: 2"}),
		jobUndone.New(note{"f", "undone: 1"}), jobUndone.New(note{"f", "undone: 0"}))
	s.ExpectNothingMore("f")
}

func TestAnEventWithoutCorrelationIDStartsAFlowNamedByItsKeyOrItsID(t *testing.T) {
	w := &worker{}
	s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(4), w.step()))
	rec := change(s.Record("by-key", jobGiven.New(job{"1", "a"})), "ce_correlationid", nil)
	s.PublishRecord(rec)
	s.Expect("by-key", jobDone.New(work{"1", "a"}))
	rec = change(s.Record("x", jobGiven.New(job{"2", "b"})), "ce_correlationid", nil)
	rec.Key = nil
	s.PublishRecord(rec)
	s.Expect(header(rec, "ce_id"), jobDone.New(work{"2", "b"}))
}

func TestARunningServiceCannotBeRunAgain(t *testing.T) {
	w := &worker{}
	svc := choreo.NewService("worker", choreo.Tasks(1), w.step())
	s := choreotest.Start(t, svc)
	err := svc.Run(t.Context(), choreo.Config{Brokers: s.Brokers(), InstanceID: "other"})
	if err == nil || !contains(err.Error(), "is running already") {
		t.Errorf("a second Run returned %v", err)
	}
	if svc.Ready() != nil {
		t.Error("the first run has suffered:", errors.Join(svc.Ready()))
	}
}
