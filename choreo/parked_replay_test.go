package choreo_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
	"github.com/choreography-go/choreography/choreo/deadletter"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
)

// unreadable is an event of the worker's that cannot be decoded: its letter tells
// of a run without attempts. Its replay is of the same event, mended.
func unreadable(t *testing.T, s *choreotest.Service, flow, what string) (d choreotest.DeadLetter, mended *kgo.Record) {
	t.Helper()
	good := s.Record(flow, jobGiven.New(job{flow, what}))
	bad := *good
	bad.Value = []byte("{")
	s.PublishRecord(&bad)
	d = s.ExpectDeadLetter(flow)
	mended = replayOf(t, d, false)
	mended.Value = good.Value
	return d, mended
}

// A replay that is parked goes on as a replay: for its handler alone, with its
// mark at the end, and counted as one with those that wait behind it.
func TestReplayThatIsParked(t *testing.T) {
	w := &worker{fail: map[string]int{"a": 1 << 30}}
	reg := prometheus.NewRegistry()
	step := w.step()
	parks(&step)
	count := &choreo.State[job]{Name: "count", When: []choreo.Transition[job]{choreo.When(jobGiven, func(j *job, _ job) { j.What += "i" })}}
	echo := choreo.Reaction[job]{Name: "echo", On: jobGiven, Emits: choreo.Events{jobGivenOld},
		Do: func(_ context.Context, j job) (choreo.Emissions, error) {
			return choreo.Emit(jobGivenOld.New("echo of " + j.What)), nil
		}}
	s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(4), count, step, echo), choreotest.With(func(c *choreo.Config) {
		c.Registerer, c.Logger = reg, slog.New(slog.DiscardHandler)
	}))
	good := s.Record("f", jobGiven.New(job{"f", "a"}))
	bad := *good
	bad.Value = []byte(`{"What":1}`)
	s.PublishRecord(&bad)
	var d choreotest.DeadLetter
	for range 3 { // of step, state and reaction
		if x := s.ExpectDeadLetter("f"); x.Header(deadletter.HeaderStep) == "work" {
			d = x
		}
	}
	if d.Record == nil {
		t.Fatal("the step has made no dead letter")
	}
	mended := replayOf(t, d, false)
	mended.Value = good.Value
	s.PublishRecord(mended)
	awaitGauge(t, reg, "choreo_parked_events", "work", 1)
	for _, key := range []string{"f", "the key of another task", "and another"} { // of which some are forwarded
		again := *mended
		again.Key = []byte(key)
		s.PublishRecord(&again)
	}
	awaitGauge(t, reg, "choreo_parked_events", "", 3) // behind it, of no step
	s.Publish("f", jobGiven.New(job{"f", "b"}))
	awaitGauge(t, reg, "choreo_parked_events", "", 4)
	w.awaitCalls(t, 5, "do a")
	if n := metric(t, reg, "choreo_replays_total", ""); n != 0 {
		t.Errorf("%v replays are over, of one that is parked", n)
	}
	w.heal("a")
	s.Expect("f", jobDone.New(work{"f", "a"}), jobDone.New(work{"f", "b"}), jobGivenOld.New("echo of b"))
	s.ExpectReplayed(d, deadletter.Succeeded)
	s.ExpectNothingMore("f")
	s.ExpectReplayed(d, deadletter.Succeeded) // there is one mark still
	if n := metric(t, reg, "choreo_replays_total", "duplicate"); n != 3 {
		t.Errorf("%v replays were repetitions, want 3", n)
	}
	if got := w.once(); strings.Join(got, ", ") != "do a, do b" {
		t.Errorf("the domain was called with %q", got)
	}
	if v, err := count.Get(t.Context(), "f"); err != nil || v.What != "i" {
		t.Errorf("the state was changed %q times, %v", v.What, err)
	}
}

// A replay that is given up is another letter, of the same event and origin.
func TestReplayThatIsParkedAndFails(t *testing.T) {
	w := &worker{fail: map[string]int{"a": 1 << 30}}
	s := startParking(t, w, nil, noGiveUp, func(s *choreo.Step[job, work]) { s.Retry.Attempts = 4 })
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	first := s.ExpectDeadLetter("f")
	s.Replay(first)
	s.ExpectReplayed(first, deadletter.Failed)
	second := s.ExpectDeadLetter("f")
	expectHeaders(t, second, map[string]string{
		deadletter.HeaderPrevious: deadletter.PositionOf(first.Record).String(), deadletter.HeaderOrigin: first.Header(deadletter.HeaderOrigin),
		deadletter.HeaderFingerprint: first.Header(deadletter.HeaderFingerprint), deadletter.HeaderReason: "retries_exhausted",
		deadletter.HeaderStep: "work", deadletter.HeaderAttempts: "4", deadletter.HeaderReplay: "",
	})
	w.heal("a")
	s.Replay(second)
	s.Expect("f", jobDone.New(work{"f", "a"}))
	s.ExpectReplayed(second, deadletter.Succeeded)
	s.ExpectNothingMore("f")
}

// The mark tells of all handlers, also of those before the one at which the
// replay was parked.
func TestReplayThatFailedBeforeItWasParkedIsMarkedSo(t *testing.T) {
	w := &worker{fail: map[string]int{"a": 1 << 30}}
	reg := prometheus.NewRegistry()
	step := w.step()
	parks(&step)
	refuses := choreo.Reaction[job]{Name: "refuses", On: jobGiven, Do: func(context.Context, job) (choreo.Emissions, error) {
		return nil, choreo.Reject("not-mine", "never")
	}}
	s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(1), refuses, step), choreotest.With(func(c *choreo.Config) {
		c.Registerer, c.Logger = reg, slog.New(slog.DiscardHandler)
	}))
	s.PublishRecord(change(s.Record("f", jobGiven.New(job{"f", "a"})), "ce_id", nil))
	d := s.ExpectDeadLetter("f")
	rec := replayOf(t, d, false)
	rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: "ce_id", Value: []byte("1")})
	s.PublishRecord(rec)
	awaitGauge(t, reg, "choreo_parked_events", "work", 1)
	expectHeaders(t, s.ExpectDeadLetter("f"), map[string]string{deadletter.HeaderReason: "rejected", deadletter.HeaderStep: "refuses"})
	w.heal("a")
	s.Expect("f", jobDone.New(work{"f", "a"}))
	s.ExpectReplayed(d, deadletter.Failed)
	s.ExpectNothingMore("f")
}

// A replay that nobody hears waits its turn, and is a letter again.
func TestReplayThatIsNotHeardWaitsBehindWhatIsParked(t *testing.T) {
	w := &worker{fail: map[string]int{"b": 1 << 30}}
	reg := prometheus.NewRegistry()
	s := startParking(t, w, reg)
	d, mended := unreadable(t, s, "f", "a")
	s.Publish("f", jobGiven.New(job{"f", "b"}))
	awaitGauge(t, reg, "choreo_parked_events", "work", 1)
	s.PublishRecord(change(mended, deadletter.HeaderStep, []byte("play")))
	awaitGauge(t, reg, "choreo_parked_events", "", 1)
	w.heal("b")
	s.Expect("f", jobDone.New(work{"f", "b"}))
	expectHeaders(t, s.ExpectDeadLetter("f"), map[string]string{
		deadletter.HeaderReason: "not_heard", deadletter.HeaderStep: "play", deadletter.HeaderPrevious: deadletter.PositionOf(d.Record).String(),
	})
	s.ExpectReplayed(d, deadletter.Failed)
	s.ExpectNothingMore("f")
}

// A compensation overtakes the attempts of a replay as it does others, also if
// its run had none before it was a dead letter.
func TestBarrierCase4OfAReplayThatIsParked(t *testing.T) {
	for name, c := range map[string]struct {
		unknownFails int
		change       func(*choreo.Step[job, work])
		calls        string
	}{
		"found out":           {0, nil, "do a, unknown a"},
		"found out at last":   {1 << 30, nil, "do a, unknown a"},
		"nothing to find out": {0, func(s *choreo.Step[job, work]) { s.Compensate = choreo.Compensation[job, work]{} }, "do a"},
	} {
		t.Run(name, func(t *testing.T) {
			w := &worker{fail: map[string]int{"a": 1 << 30, "unknown a": c.unknownFails}}
			reg := prometheus.NewRegistry()
			s := startParking(t, w, reg, func(s *choreo.Step[job, work]) {
				if c.change != nil {
					c.change(s)
				}
			})
			d, mended := unreadable(t, s, "f", "a")
			s.PublishRecord(mended)
			awaitGauge(t, reg, "choreo_parked_events", "work", 1)
			s.Publish("f", calledOff.New(calloff{"f", "rain"}))
			if c.unknownFails > 0 { // it is not answered before that is known
				awaitGauge(t, reg, "choreo_parked_events", "work", 2)
				w.heal("unknown a")
			}
			s.Expect("f", jobDropped.New(note{"f", "dropped: rain"}))
			s.ExpectReplayed(d, deadletter.Cancelled)
			s.ExpectNothingMore("f")
			if got := strings.Join(w.once(), ", "); got != c.calls {
				t.Errorf("the domain was called with %q, want %q", got, c.calls)
			}
		})
	}
}

// A compensation that is replayed overtakes, too, if it is for that step alone;
// once, and it is marked. One that is for all handlers waits its turn.
func TestBarrierCase4ByAReplayedCompensation(t *testing.T) {
	for name, c := range map[string]struct {
		step         string
		unknownFails int
	}{"for its step": {"work", 0}, "for its step, parked": {"work", 20}, "for all": {"", 0}} {
		t.Run(name, func(t *testing.T) {
			w := &worker{fail: map[string]int{"a": 1 << 30, "unknown a": c.unknownFails}}
			reg := prometheus.NewRegistry()
			s := startParking(t, w, reg)
			s.PublishRecord(change(s.Record("f", calledOff.New(calloff{"f", "rain"})), "ce_id", nil))
			d := s.ExpectDeadLetter("f")
			rec := change(replayOf(t, d, false), deadletter.HeaderStep, []byte(c.step))
			rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: "ce_id", Value: []byte("1")})
			s.Publish("f", jobGiven.New(job{"f", "a"}))
			awaitGauge(t, reg, "choreo_parked_events", "work", 1)
			s.PublishRecord(rec)
			s.PublishRecord(rec)
			if c.step == "" {
				awaitGauge(t, reg, "choreo_parked_events", "", 2)
				w.heal("a")
				s.Expect("f", jobDone.New(work{"f", "a"}), jobUndone.New(note{"f", "undone: a"}))
			} else {
				s.Expect("f", jobDropped.New(note{"f", "dropped: rain"}))
			}
			s.ExpectReplayed(d, deadletter.Succeeded)
			s.ExpectNothingMore("f")
			s.ExpectReplayed(d, deadletter.Succeeded)
		})
	}
}

// So does one that waited behind another handler's failure when the attempts of its
// step began to fail.
func TestBarrierCase4ByAReplayedCompensationThatWasQueuedBefore(t *testing.T) {
	for name, c := range map[string]struct {
		retry choreo.Retry
		fails int // attempts of the compensation
		bound int // of the queue; 0: there is room for all
	}{
		"at once":                 {retry: choreo.Retry{First: time.Hour, Max: time.Hour, Attempts: 20}},
		"as often as it needs to": {retry: soon, fails: 3},
		"and is held":             {retry: choreo.Retry{First: time.Hour, Max: time.Hour, Attempts: 20}, bound: 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := &worker{fail: map[string]int{"echo": 1 << 30, "a": 1 << 30, "unknown a": c.fails}}
			reg := prometheus.NewRegistry()
			step := w.step()
			step.Retry = c.retry
			s := choreotest.Start(t, behindEcho(w, step), choreotest.With(func(cfg *choreo.Config) {
				cfg.Registerer, cfg.Logger, cfg.MaxParkedPerFlow = reg, slog.New(slog.DiscardHandler), c.bound
			}))
			s.PublishRecord(change(s.Record("f", calledOff.New(calloff{"f", "rain"})), "ce_id", nil))
			d := s.ExpectDeadLetter("f")
			rec := change(replayOf(t, d, false), deadletter.HeaderStep, []byte("work"))
			rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: "ce_id", Value: []byte("1")})
			s.Publish("f", jobGiven.New(job{"f", "a"}))
			awaitGauge(t, reg, "choreo_parked_events", "echo", 1)
			s.PublishRecord(rec)
			s.PublishRecord(rec)
			if c.bound > 0 {
				awaitGauge(t, reg, "choreo_in_flight_records", "", 2)
			} else {
				awaitGauge(t, reg, "choreo_parked_events", "", 2)
			}
			w.heal("echo")
			s.Expect("f", jobDropped.New(note{"f", "dropped: rain"}))
			s.ExpectReplayed(d, deadletter.Succeeded)
			s.ExpectNothingMore("f")
			s.ExpectReplayed(d, deadletter.Succeeded)
			expectOnce(t, w, "do a", "unknown a")
			awaitGauge(t, reg, "choreo_parked_events", "", 0)
			if n := metric(t, reg, "choreo_replays_total", "duplicate"); n != 1 {
				t.Errorf("%v replays were repetitions, want 1", n)
			}
			if n := metric(t, reg, "choreo_replays_total", ""); n != 2 {
				t.Errorf("of 2 replays %v were marked", n)
			}
		})
	}
}

// An attempt of the replay may have been lost before the step was cancelled, and
// its run knows of none.
func TestReplayOfACancelledStepFindsOutWhatALostAttemptDid(t *testing.T) {
	w := &worker{}
	s := start(t, w)
	d, mended := unreadable(t, s, "f", "a")
	s.Publish("f", calledOff.New(calloff{"f", "rain"}))
	s.Expect("f", jobDropped.New(note{"f", "dropped: rain"}))
	s.PublishRecord(mended)
	s.ExpectReplayed(d, deadletter.Cancelled)
	s.ExpectNothingMore("f")
	expectCalls(t, w, "unknown a")
}

// What is parked comes from the journal, where another's event may have any
// header: only what was in the inbox is a replay.
func TestReplaysCannotBeForgedByParkedEvents(t *testing.T) {
	w := &worker{fail: map[string]int{"a": 1 << 30}}
	reg := prometheus.NewRegistry()
	s := startParking(t, w, reg)
	rec := s.Record("f", jobGiven.New(job{"f", "a"}))
	rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: deadletter.HeaderReplay, Value: []byte("worker.dlq/0/1")},
		kgo.RecordHeader{Key: deadletter.HeaderStep, Value: []byte("nothing")})
	s.PublishRecord(rec)
	awaitGauge(t, reg, "choreo_parked_events", "work", 1)
	w.awaitCalls(t, 5, "do a")
	w.heal("a")
	s.Expect("f", jobDone.New(work{"f", "a"}))
	s.ExpectNothingMore("f")
	if n := metric(t, reg, "choreo_replays_total", ""); n != 0 {
		t.Errorf("%v replays, and there was none", n)
	}
}
