package choreo_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/deadletter"
	"github.com/choreography-go/choreography/choreo/operator"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// noGiveUp lets a step's used up retries be dead letters.
func noGiveUp(s *choreo.Step[job, work]) { s.GiveUp = choreo.Failure[job]{} }

// replayOf is the record by which a letter is replayed, to be changed.
func replayOf(t *testing.T, d choreotest.DeadLetter, forgotten bool) *kgo.Record {
	t.Helper()
	l, ok := deadletter.ReadLetter(d.Record)
	if !ok {
		t.Fatal("it is no dead letter")
	}
	rec, err := l.Replay(d.Record, "worker.inbox", forgotten)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func expectHeaders(t *testing.T, d choreotest.DeadLetter, want map[string]string) {
	t.Helper()
	for key, value := range want {
		if got := d.Header(key); got != value {
			t.Errorf("header %s is %q, want %q", key, got, value)
		}
	}
}

func TestReplayRunsADeadStepAgainOnce(t *testing.T) {
	w := &worker{fail: map[string]int{"a": 3}}
	s := start(t, w, noGiveUp)
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	d := s.ExpectDeadLetter("f")
	for range 3 {
		s.Replay(d)
	}
	s.Expect("f", jobDone.New(work{"f", "a"}))
	s.ExpectReplayed(d, deadletter.Succeeded)
	s.ExpectNothingMore("f")
	s.Replay(d)
	s.ExpectNothingMore("f")
	s.ExpectReplayed(d, deadletter.Succeeded) // there is one mark still
	// nor does another letter of the event run what has run
	s.PublishRecord(change(replayOf(t, d, false), deadletter.HeaderReplay, []byte("worker.dlq/0/99")))
	s.ExpectNothingMore("f")
	expectCalls(t, w, "do a", "do a", "do a", "do a")
	// the run is like any other: it can be undone
	s.Publish("f", calledOff.New(calloff{"f", "rain"}))
	s.Expect("f", jobUndone.New(note{"f", "undone: a"}))
}

func TestReplayThatFailsIsALetterOfItsOwn(t *testing.T) {
	w := &worker{fail: map[string]int{"a": 6}}
	s := start(t, w, noGiveUp)
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	first := s.ExpectDeadLetter("f")
	s.Replay(first)
	s.ExpectReplayed(first, deadletter.Failed)
	second := s.ExpectDeadLetter("f")
	expectHeaders(t, second, map[string]string{
		deadletter.HeaderPrevious: deadletter.PositionOf(first.Record).String(), deadletter.HeaderOrigin: first.Header(deadletter.HeaderOrigin),
		deadletter.HeaderReason: "retries_exhausted", deadletter.HeaderStep: "work", deadletter.HeaderAttempts: "3", deadletter.HeaderReplay: "",
	})
	if !bytes.Equal(second.Record.Key, first.Record.Key) || !bytes.Equal(second.Record.Value, first.Record.Value) {
		t.Error("the second letter's key and value are not the original ones")
	}
	s.Replay(first)
	s.ExpectNothingMore("f")
	s.Replay(second)
	s.Expect("f", jobDone.New(work{"f", "a"}))
	s.ExpectReplayed(second, deadletter.Succeeded)
}

func TestReplayOfACancelledStepDoesNotRunIt(t *testing.T) {
	w := &worker{fail: map[string]int{"a": 3}}
	s := start(t, w, noGiveUp)
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	d := s.ExpectDeadLetter("f")
	s.Publish("f", calledOff.New(calloff{"f", "rain"}))
	s.Expect("f", jobDropped.New(note{"f", "dropped: rain"}))
	s.Replay(d)
	s.ExpectReplayed(d, deadletter.Cancelled)
	s.ExpectNothingMore("f")
	expectCalls(t, w, "do a", "do a", "do a", "unknown a")
}

// The run's attempts may have had an effect. A replay that makes none of its own
// does not make the runtime forget them.
func TestReplayKeepsTheAttemptsBeforeIt(t *testing.T) {
	w := &worker{fail: map[string]int{"a": 3}}
	registry := prometheus.NewRegistry()
	step := w.step()
	noGiveUp(&step)
	s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(1), step),
		choreotest.With(func(cfg *choreo.Config) { cfg.Registerer = registry }))
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	rec := replayOf(t, s.ExpectDeadLetter("f"), false)
	rec.Value = []byte("{") // as for a version that reads it no more
	s.PublishRecord(rec)
	expectHeaders(t, s.ExpectDeadLetter("f"), map[string]string{deadletter.HeaderReason: "undecodable", deadletter.HeaderAttempts: "0"})
	s.Publish("f", calledOff.New(calloff{"f", "rain"}))
	deadline := time.Now().Add(choreotest.Patience)
	for metric(t, registry, "choreo_stuck_compensations", "") == 0 {
		if time.Now().After(deadline) {
			t.Fatal("the step was called off as if nothing had been attempted")
		}
		time.Sleep(time.Millisecond)
	}
}

// A letter tells of one handler; the others have done their work.
func TestReplayIsForTheHandlerOfItsLetterAlone(t *testing.T) {
	w := &worker{fail: map[string]int{"a": 3}}
	step := w.step()
	noGiveUp(&step)
	count := &choreo.State[job]{Name: "count", When: []choreo.Transition[job]{choreo.When(jobGiven, func(j *job, _ job) { j.What += "i" })}}
	echo := choreo.Reaction[job]{Name: "echo", On: jobGiven, Emits: choreo.Events{jobGivenOld},
		Do: func(_ context.Context, j job) (choreo.Emissions, error) {
			return choreo.Emit(jobGivenOld.New("echo")), nil
		}}
	s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(2), count, step, echo))
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	d := s.ExpectDeadLetter("f")
	s.Expect("f", jobGivenOld.New("echo"))
	s.Replay(d)
	s.Expect("f", jobDone.New(work{"f", "a"}))
	s.ExpectNothingMore("f")
	if got, err := count.Get(t.Context(), "f"); err != nil || got.What != "i" {
		t.Errorf("the state was changed %q times, %v", got.What, err)
	}
}

func TestReplayReachesAStepByItsEarlierName(t *testing.T) {
	w := &worker{fail: map[string]int{"a": 3}}
	s := start(t, w, noGiveUp, func(s *choreo.Step[job, work]) { s.Name, s.Formerly = "labour", []string{"work"} })
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	d := s.ExpectDeadLetter("f")
	for name, reason := range map[string]string{"work": "", "play": "not_heard"} {
		rec := change(replayOf(t, d, true), deadletter.HeaderStep, []byte(name))
		rec = change(rec, deadletter.HeaderReplay, []byte("worker.dlq/0/7"+fmt.Sprint(len(reason))))
		s.PublishRecord(rec)
		if reason == "" {
			s.Expect("f", jobDone.New(work{"f", "a"}))
			continue
		}
		expectHeaders(t, s.ExpectDeadLetter("f"), map[string]string{deadletter.HeaderReason: reason, deadletter.HeaderStep: name})
	}
}

// What is remembered of a step is so under all its names, and so is that nothing is.
func TestReplayOfAForgottenFlowIsRefusedUnderAnEarlierName(t *testing.T) {
	w := &worker{fail: map[string]int{"a": 3}}
	s := start(t, w, noGiveUp, func(s *choreo.Step[job, work]) { s.Name, s.Formerly = "labour", []string{"work"} })
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	rec := change(replayOf(t, s.ExpectDeadLetter("f"), false), deadletter.HeaderStep, []byte("work"))
	rec = change(rec, "ce_correlationid", []byte("g"))
	rec.Key = []byte("g")
	s.PublishRecord(rec)
	expectHeaders(t, s.ExpectDeadLetter("f"), map[string]string{deadletter.HeaderReason: "flow_forgotten", deadletter.HeaderStep: "labour"})
	expectCalls(t, w, "do a", "do a", "do a")
}

func TestReplayOfStatesAndReactions(t *testing.T) {
	for name, declaration := range map[string]func(fails func() error) choreo.Declaration{
		"once": func(fails func() error) choreo.Declaration {
			return choreo.Reaction[job]{Name: "once", On: jobGiven, Emits: choreo.Events{jobDone}, Once: true, Retry: choreo.Retry{Attempts: 1},
				Do: func(_ context.Context, j job) (choreo.Emissions, error) {
					return choreo.Emit(jobDone.New(work{j.ID, j.What})), fails()
				}}
		},
		"often": func(fails func() error) choreo.Declaration {
			return choreo.Reaction[job]{Name: "often", On: jobGiven, Emits: choreo.Events{jobDone}, Retry: choreo.Retry{Attempts: 1},
				Do: func(_ context.Context, j job) (choreo.Emissions, error) {
					return choreo.Emit(jobDone.New(work{j.ID, j.What})), fails()
				}}
		},
		"state": func(fails func() error) choreo.Declaration {
			return &choreo.State[job]{Name: "state", When: []choreo.Transition[job]{choreo.Then(jobGiven, func(_ *job, j job) (work, bool) {
				if fails() != nil {
					panic("not yet")
				}
				return work{j.ID, j.What}, true
			}, jobDone)}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(2), declaration(func() error {
				if calls++; calls == 1 {
					return errNotYet
				}
				return nil
			})))
			rec := s.Record("f", jobGiven.New(job{"f", "a"}))
			if name == "often" {
				rec.Key = []byte("somebody") // handled on another task than that of the flow
			}
			s.PublishRecord(rec)
			d := s.ExpectDeadLetter(string(rec.Key))
			s.Replay(d)
			s.Replay(d)
			s.Expect("f", jobDone.New(work{"f", "a"}))
			s.ExpectReplayed(d, deadletter.Succeeded)
			s.ExpectNothingMore("f")
		})
	}
}

// What no handler saw is judged anew; each letter once.
func TestReplayOfWhatNoHandlerSaw(t *testing.T) {
	w := &worker{}
	s := start(t, w)
	for _, c := range []struct {
		flow, reason string
		make         func(*kgo.Record) *kgo.Record
		mend         func(*kgo.Record) *kgo.Record // as by another version or setting
	}{
		{"no-id", "invalid_event", func(r *kgo.Record) *kgo.Record { return change(r, "ce_id", nil) },
			func(r *kgo.Record) *kgo.Record {
				r.Headers = append(r.Headers, kgo.RecordHeader{Key: "ce_id", Value: []byte("1")})
				return r
			}},
		{"cycle", "too_many_hops", func(r *kgo.Record) *kgo.Record {
			c := *r
			c.Headers = append(slices.Clone(r.Headers), kgo.RecordHeader{Key: "ce_choreohops", Value: []byte("100")})
			return &c
		}, func(r *kgo.Record) *kgo.Record { return change(r, "ce_choreohops", nil) }},
	} {
		bad := c.make(s.Record(c.flow, jobGiven.New(job{c.flow, "a"})))
		s.PublishRecord(bad)
		first := s.ExpectDeadLetter(c.flow)
		s.Replay(first)
		s.Replay(first)
		s.ExpectReplayed(first, deadletter.Failed)
		second := s.ExpectDeadLetter(c.flow)
		expectHeaders(t, second, map[string]string{
			deadletter.HeaderReason: c.reason, deadletter.HeaderPrevious: deadletter.PositionOf(first.Record).String(),
			deadletter.HeaderOrigin: first.Header(deadletter.HeaderOrigin),
		})
		s.ExpectNothingMore(c.flow)
		s.PublishRecord(c.mend(replayOf(t, second, false)))
		s.Expect(c.flow, jobDone.New(work{c.flow, "a"}))
		s.ExpectReplayed(second, deadletter.Succeeded)
	}
}

// A replay of a step whose run is remembered no more might run a cancelled one.
func TestReplayOfAForgottenFlowIsRefusedUnlessAskedFor(t *testing.T) {
	w := &worker{fail: map[string]int{"a": 3}}
	s := start(t, w, noGiveUp)
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	d := s.ExpectDeadLetter("f")
	elsewhere := func(forgotten bool, letter string) *kgo.Record {
		rec := change(replayOf(t, d, forgotten), "ce_correlationid", []byte("g"))
		rec = change(rec, "ce_partitionkey", []byte("g"))
		rec.Key = []byte("g")
		return change(rec, deadletter.HeaderReplay, []byte(letter))
	}
	s.PublishRecord(elsewhere(false, "worker.dlq/0/71"))
	expectHeaders(t, s.ExpectDeadLetter("f"), map[string]string{deadletter.HeaderReason: "flow_forgotten", deadletter.HeaderStep: "work"})
	s.ExpectNothingMore("g")
	expectCalls(t, w, "do a", "do a", "do a")
	s.PublishRecord(elsewhere(true, "worker.dlq/0/72"))
	s.ExpectTypes("g", jobDone.Type)
}

// Only what lies in the inbox is a replay, and only of this service's letters.
func TestReplaysCannotBeForgedByEvents(t *testing.T) {
	w := &worker{}
	step := w.step()
	s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(4), step, choreo.Starts(jobGiven)))
	forged := func(flow string, headers ...string) *kgo.Record {
		rec := s.Record(flow, jobGiven.New(job{flow, flow}))
		for i := 0; i < len(headers); i += 2 {
			rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: headers[i], Value: []byte(headers[i+1])})
		}
		return rec
	}
	for i := range 6 { // some of them come to their task by way of the inbox
		flow := fmt.Sprintf("f%d", i)
		rec := forged(flow, deadletter.HeaderReplay, "worker.dlq/0/1", deadletter.HeaderStep, "nothing")
		rec.Key = []byte("key")
		s.PublishRecord(rec)
		s.Expect(flow, jobDone.New(work{flow, flow}))
	}
	for i, value := range []string{"", "worker.dlq", "worker.dlq/-1/0", "payment.dlq/0/1", strings.Repeat("9", 5000)} {
		rec := forged(fmt.Sprintf("g%d", i), deadletter.HeaderReplay, value)
		rec.Topic = "worker.inbox"
		s.PublishRecord(rec)
		expectHeaders(t, s.ExpectDeadLetter(fmt.Sprintf("g%d", i)), map[string]string{deadletter.HeaderReason: "invalid_event"})
	}
}

// Nor does an event of another producer's become one that is published: it is
// heard, whether or not the service starts flows with such events.
func TestReplaysAreNotForgedIntoPublishedEvents(t *testing.T) {
	for name, more := range map[string][]choreo.Declaration{"started elsewhere": nil, "started here": {choreo.Starts(jobGiven)}} {
		t.Run(name, func(t *testing.T) {
			s := choreotest.Start(t, choreo.NewService("worker", append(more, choreo.Tasks(4), (&worker{}).step())...))
			rec := change(s.Record("h", jobGiven.New(job{"h", "h"})), "ce_id", nil)
			rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: "choreo-publish", Value: []byte("jobs")})
			s.PublishRecord(rec)
			d := s.ExpectDeadLetter("h")
			again := replayOf(t, d, false)
			again.Headers = append(again.Headers, kgo.RecordHeader{Key: "ce_id", Value: []byte("1")})
			s.PublishRecord(again)
			s.Expect("h", jobDone.New(work{"h", "h"}))
			s.ExpectReplayed(d, deadletter.Succeeded)
			s.ExpectNothingMore("h")
		})
	}
}

// A replay may be sent to any task, by a tool or a person. It is worked on at its
// flow's, which knows of the flow and of the letter.
func TestReplaysReachTheTaskOfTheirFlow(t *testing.T) {
	w := &worker{fail: map[string]int{"a": 3}}
	step := w.step()
	noGiveUp(&step)
	s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(8), step))
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	d := s.ExpectDeadLetter("f")
	for i := range 20 { // of any hash
		rec := replayOf(t, d, false)
		rec.Key = fmt.Append(nil, "key ", i)
		s.PublishRecord(rec)
	}
	s.Expect("f", jobDone.New(work{"f", "a"}))
	s.ExpectReplayed(d, deadletter.Succeeded)
	s.ExpectNothingMore("f")
	expectCalls(t, w, "do a", "do a", "do a", "do a")
}

func TestReplayOfAPublishedEventSaysIt(t *testing.T) {
	s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(2), choreo.Starts(jobGiven)))
	rec := change(s.Record("f", jobGiven.New(job{"f", "a"})), "ce_id", nil)
	rec.Topic = "worker.inbox"
	rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: "choreo-publish", Value: []byte("jobs")},
		kgo.RecordHeader{Key: "ce_choreoservice", Value: []byte("worker")})
	s.PublishRecord(rec)
	d := s.ExpectDeadLetter("f")
	again := replayOf(t, d, false)
	again.Headers = append(again.Headers, kgo.RecordHeader{Key: "ce_id", Value: []byte("1")})
	s.PublishRecord(again)
	s.PublishRecord(again)
	s.Expect("f", jobGiven.New(job{"f", "a"}))
	s.ExpectReplayed(d, deadletter.Succeeded)
	s.ExpectNothingMore("f")
}

func TestRedactedLetters(t *testing.T) {
	const secret = "4111-1111"
	keepLength := func(ev cloudevent.Event) []byte { return fmt.Appendf(nil, "%d bytes", len(ev.Data)) }
	for _, c := range []struct {
		name   string
		redact func(cloudevent.Event) []byte
		change func(*kgo.Record) *kgo.Record
		want   string // the letter's value; "original"
	}{
		{"to a length", keepLength, nil, "29 bytes"},
		{"to nothing", func(cloudevent.Event) []byte { return nil }, nil, ""},
		{"not at all", func(ev cloudevent.Event) []byte { return ev.Data }, nil, "original"},
		{"by a panic", func(cloudevent.Event) []byte { panic(secret) }, nil, ""},
		{"an invalid event", keepLength, func(r *kgo.Record) *kgo.Record { return change(r, "ce_id", nil) }, "29 bytes"},
		{"a payload that cannot be decoded", keepLength, func(r *kgo.Record) *kgo.Record {
			c := *r
			c.Value = []byte(`{"ID":"f","What":"` + secret + `","When":"` + secret + `"}`)
			return &c
		}, "48 bytes"},
		{"a structured event", keepLength, func(r *kgo.Record) *kgo.Record {
			ev, err := cloudevent.Read(r)
			if err != nil {
				t.Fatal(err)
			}
			c := *r
			c.Headers = []kgo.RecordHeader{{Key: "content-type", Value: []byte("application/cloudevents+json")}}
			c.Value, _ = json.Marshal(map[string]any{"specversion": "1.0", "id": ev.ID, "source": ev.Source, "type": ev.Type, "correlationid": "f",
				"datacontenttype": "application/json", "data": json.RawMessage(ev.Data)})
			return &c
		}, "29 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			type dated struct {
				ID, What string
				When     time.Time `json:",omitzero"`
			}
			given := choreo.Event[dated]{Type: jobGiven.Type, Topic: jobGiven.Topic}
			log := &lines{}
			s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(1), choreo.Step[dated, work]{
				Name: "work", On: given, Emit: jobDone, Retry: choreo.Retry{Attempts: 1},
				Do: func(context.Context, dated) (work, error) { return work{}, errNotYet },
			}), choreotest.With(func(cfg *choreo.Config) {
				cfg.Redact, cfg.Logger = c.redact, slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			}))
			rec := s.Record("f", given.New(dated{ID: "f", What: secret}))
			if c.change != nil {
				rec = c.change(rec)
			}
			s.PublishRecord(rec)
			d := s.ExpectDeadLetter("f")
			if strings.Contains(strings.Join(log.all(), "\n"), secret) {
				t.Error("the log tells the secret")
			}
			l, ok := deadletter.ReadLetter(d.Record)
			if !ok || l.Type != jobGiven.Type || l.Flow != "f" {
				t.Errorf("it reads as %+v", l)
			}
			_, err := l.Replay(d.Record, "worker.inbox", false)
			if c.want == "original" {
				if !bytes.Equal(d.Record.Value, rec.Value) || l.Redacted != "" || err != nil {
					t.Errorf("it is not the original: %q, redacted %q, replay: %v", d.Record.Value, l.Redacted, err)
				}
				return
			}
			if string(d.Record.Value) != c.want || d.Record.Value == nil {
				t.Errorf("the value is %q, want %q", d.Record.Value, c.want)
			}
			for _, h := range d.Record.Headers {
				if strings.Contains(string(h.Value), secret) {
					t.Errorf("header %s tells the secret: %s", h.Key, h.Value)
				}
			}
			if e, ok := errors.AsType[*deadletter.NotReplayable](err); !ok || !strings.Contains(e.Error(), l.Origin) {
				t.Errorf("its replay: %v, want that it is at its origin, %s", err, l.Origin)
			}
		})
	}
}

// What Config.RedactError leaves out of an error is nowhere: not in a log line, in
// the journal, in an audit event or in a letter.
func TestRedactedErrors(t *testing.T) {
	const secret = "4111-1111"
	for _, c := range []struct {
		name   string
		redact func(string) string
		want   string
	}{
		{"a part", func(text string) string { return strings.ReplaceAll(text, secret, "***") }, "the card *** is refused"},
		{"by a panic", func(text string) string { panic(text) }, "whose text is left out"},
	} {
		t.Run(c.name, func(t *testing.T) {
			step := (&worker{}).step()
			rarely(&step)
			step.Do = func(context.Context, job) (work, error) {
				return work{}, errors.New("the card " + secret + " is refused")
			}
			step.GiveUp = choreo.Failure[job]{}
			log := &lines{}
			s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(1), step), choreotest.With(func(cfg *choreo.Config) {
				cfg.RedactError, cfg.Logger = c.redact, slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			}))
			s.Publish("f", jobGiven.New(job{"f", "a"}))
			i := s.ExpectStuck("f", "work")
			a := s.Tell(asked(operator.Retry, i, ""))
			s.Tell(asked(operator.Skip, s.ExpectStuck("f", "work"), ""))
			d := s.ExpectDeadLetter("f").Header("choreo-dlq-error")
			for where, text := range map[string]string{"the journal": i.Error, "the audit event": a.Error, "the letter": d, "the log": strings.Join(log.all(), "\n")} {
				if strings.Contains(text, secret) || !strings.Contains(text, c.want) {
					t.Errorf("%s says %s", where, text)
				}
			}
		})
	}
}

// TestReplaysHaveTheEffectOfOnceInTheirOrder makes dead letters of random flows
// and replays them any number of times, in any groups: each is worked on once,
// those of a flow in the order in which they were first sent.
func TestReplaysHaveTheEffectOfOnceInTheirOrder(t *testing.T) {
	t.Run("keyed by flow", func(t *testing.T) { replaysInAnyGroups(t, 3, false) })
	t.Run("keyed otherwise", func(t *testing.T) { replaysInAnyGroups(t, 1, true) })
}

func replaysInAnyGroups(t *testing.T, tasks choreo.Tasks, foreign bool) {
	const budget = 1500 * time.Millisecond
	var mu sync.Mutex
	broken := true
	effects, had := map[string][]string{}, map[string]bool{}
	s := choreotest.Start(t, choreo.NewService("worker", tasks, choreo.Step[job, work]{
		Name: "work", On: jobGiven, Emit: jobDone, Retry: choreo.Retry{Attempts: 1},
		Do: func(ctx context.Context, j job) (work, error) {
			mu.Lock()
			defer mu.Unlock()
			if broken {
				return work{}, errNotYet
			}
			if key := choreo.Meta(ctx).IdempotencyKey; !had[key] { // else its transaction has failed
				had[key] = true
				effects[j.ID] = append(effects[j.ID], j.What)
			}
			return work{j.ID, j.What}, nil
		},
	}))
	heal := func(is bool) {
		mu.Lock()
		defer mu.Unlock()
		broken = is
	}
	sequences, began := 0, time.Now()
	rapid.Check(t, func(rt *rapid.T) {
		if time.Since(began) > budget {
			return
		}
		sequences++
		heal(true)
		type sent struct {
			flow, what string
			d          choreotest.DeadLetter
		}
		var letters []sent
		sizes := rapid.SliceOfN(rapid.IntRange(1, 4), 1, 3).Draw(rt, "letters of each flow")
		for f, n := range sizes {
			flow := fmt.Sprintf("s%d-f%d", sequences, f)
			for i := range n {
				rec := s.Record(flow, jobGiven.New(job{flow, fmt.Sprint(i)}))
				if foreign {
					rec.Key = []byte("customer of " + flow)
				}
				s.PublishRecord(rec)
				letters = append(letters, sent{flow: flow, what: fmt.Sprint(i)})
				letters[len(letters)-1].d = s.ExpectDeadLetter(string(rec.Key))
			}
		}
		heal(false)
		want := map[string][]string{}
		for range rapid.IntRange(1, 5).Draw(rt, "replays") {
			in := rapid.SliceOfN(rapid.Bool(), len(letters), len(letters)).Draw(rt, "which")
			for i, l := range letters {
				if !in[i] {
					continue
				}
				s.Replay(l.d)
				if !slices.Contains(want[l.flow], l.what) {
					want[l.flow] = append(want[l.flow], l.what)
				}
			}
		}
		for _, l := range letters {
			if slices.Contains(want[l.flow], l.what) {
				s.ExpectReplayed(l.d, deadletter.Succeeded)
			}
		}
		for f := range sizes {
			flow := fmt.Sprintf("s%d-f%d", sequences, f)
			s.ExpectTypes(flow, slices.Repeat([]string{jobDone.Type}, len(want[flow]))...)
			mu.Lock()
			got := slices.Clone(effects[flow])
			mu.Unlock()
			if !slices.Equal(got, want[flow]) {
				rt.Errorf("flow %s had the effects %v, want %v", flow, got, want[flow])
			}
		}
	})
	for f := range sequences {
		s.ExpectNothingMore(fmt.Sprintf("s%d-f0", f+1))
	}
	t.Logf("%d sequences", sequences)
	if sequences < 3 {
		t.Errorf("only %d sequences were played in %v", sequences, budget)
	}
}
