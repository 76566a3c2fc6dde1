package choreo_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/internal/txn"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A record of the journal that is damaged, or of a newer version, stops its task
// with an error that names it, and readiness; the other task goes on. It is not
// dropped: the version that can read it goes on with it.
func TestAJournalRecordThatCannotBeReadStopsItsTaskAlone(t *testing.T) {
	for name, c := range map[string]struct {
		key, want string
		value     []byte
	}{
		"of a newer version": {"f\x00seen", "format version 2 is newer than 1; run the version that wrote it, or a newer one", []byte{2, 1}},
		"damaged":            {"f\x00run/work/AAAAAAAAAAAAAAAAAAAAAA", "the value is damaged", []byte{1, 1, 255}},
		"of a newer kind":    {"f\x00later/thing", "this version knows no such kind of slot", []byte{1}},
	} {
		t.Run(name, func(t *testing.T) {
			brokers := broker(t)
			w := &worker{}
			svc := choreo.NewService("worker", choreo.Tasks(2), w.step())
			createTopics(t, svc, configFor(brokers, "x"))
			outside := newOutside(t, svc, brokers)
			lies, goes := txn.Partition([]byte("f"), 2), otherTask(t)
			cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
			if err != nil {
				t.Fatal(err)
			}
			defer cl.Close()
			write := func(value []byte) {
				t.Helper()
				if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "worker.journal", Partition: lies, Key: []byte(c.key), Value: value}).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
			write(c.value)
			i := runInstance(t, svc, configFor(brokers, "a"))
			eventually(t, "the task is stopped", func() error {
				err := svc.Ready()
				if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("task %d is stopped", lies)) {
					return fmt.Errorf("it says %w", err)
				}
				if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "offset 0") {
					t.Errorf("it says %v", err)
				}
				return nil
			})
			outside.say(jobGiven.New(job{"f", "a"})) // must wait
			rec, err := svc.Encode(goes, jobGiven.New(job{goes, "b"}))
			if err != nil {
				t.Fatal(err)
			}
			if err := outside.cl.ProduceSync(t.Context(), rec).FirstErr(); err != nil {
				t.Fatal(err)
			}
			show := func(em choreo.Emission, _ cloudevent.Event) string { return fmt.Sprint(em.Data) }
			if said := outside.hear(1, show); said[0] != fmt.Sprintf("{%s b}", goes) {
				t.Errorf("said was %v", said)
			}
			if err := svc.Ready(); err == nil {
				t.Error("it is ready")
			}
			if all := readToEnd(t, brokers, "worker.journal"); string(all[0].Key) != c.key && string(all[len(all)-1].Key) != c.key {
				t.Error("the record is gone")
			}
			if err := i.stop(); err != nil {
				t.Error(err)
			}
			write(nil) // as the version that reads it would, in time
			again := choreo.NewService("worker", choreo.Tasks(2), w.step())
			runInstance(t, again, configFor(brokers, "a")).awaitReady(t, again)
			if said := outside.hear(1, show); said[0] != "{f a}" {
				t.Errorf("said was %v", said)
			}
		})
	}
}

// What becomes of a flow whose state was kept for long enough: a compensation that
// comes then is a dead letter of its own kind.
func TestACompensationAfterTheRetentionIsADeadLetter(t *testing.T) {
	w := &worker{}
	reg := prometheus.NewRegistry()
	s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(1), choreo.Retention{Flow: 2 * time.Second}, w.step()),
		choreotest.With(func(c *choreo.Config) { c.Registerer = reg }))
	given := s.Record("f", jobGiven.New(job{"f", "a"}))
	began := time.Now()
	s.PublishRecord(given)
	s.Expect("f", jobDone.New(work{"f", "a"}))
	awaitGauge(t, reg, "choreo_journal_flows", "", 0)
	if kept := time.Since(began); kept < 2*time.Second-time.Second { // the journal counts in seconds
		t.Errorf("the flow was forgotten after %v", kept)
	}
	off := s.Record("f", calledOff.New(calloff{"f", "rain"}))
	off.Headers = append(off.Headers, kgo.RecordHeader{Key: "ce_choreostarted", Value: fmt.Append(nil, began.Add(-3*time.Second).UnixMilli())})
	s.PublishRecord(off)
	d := s.ExpectDeadLetter("f")
	expectHeaders(t, d, map[string]string{"choreo-dlq-reason": "flow_forgotten", "choreo-dlq-step": "work"})
	if text := d.Header("choreo-dlq-error"); !strings.Contains(text, "raise Retention.Flow") {
		t.Errorf("it says %q", text)
	}
	s.ExpectNothingMore("f") // nothing is said that may not be true
	expectCalls(t, w, "do a")
}

// For how long the oldest compensation has been failing.
func TestStuckCompensationsShowTheirAge(t *testing.T) {
	w := &worker{fail: map[string]int{"undo a": 1 << 30, "undo b": 1 << 30}}
	reg := prometheus.NewRegistry()
	s := startParking(t, w, reg)
	for _, f := range []string{"a", "b"} {
		s.Publish(f, jobGiven.New(job{f, f}))
		s.Expect(f, jobDone.New(work{f, f}))
	}
	if n := gauge(t, reg, "choreo_stuck_oldest_seconds", ""); n != 0 {
		t.Errorf("the oldest of none is %v s old", n)
	}
	s.Publish("a", calledOff.New(calloff{"a", "rain"}))
	awaitGauge(t, reg, "choreo_stuck_compensations", "", 1)
	eventually(t, "it is some seconds old", func() error {
		if n := gauge(t, reg, "choreo_stuck_oldest_seconds", ""); n < 3 || n > 60 {
			return fmt.Errorf("it is %v s old", n)
		}
		return nil
	})
	s.Publish("b", calledOff.New(calloff{"b", "rain"}))
	awaitGauge(t, reg, "choreo_stuck_compensations", "", 2)
	if n := gauge(t, reg, "choreo_stuck_oldest_seconds", ""); n < 3 {
		t.Errorf("the oldest is %v s old by now", n)
	}
	w.heal("undo a")
	w.heal("undo b")
	awaitGauge(t, reg, "choreo_stuck_oldest_seconds", "", 0)
}

// Rejecting in an undo is a mistake of its programmer: no answer, though Fail would
// match it, but a failure as every other one.
func TestAnUndoThatRejectsHasFailed(t *testing.T) {
	w := &worker{}
	reg := prometheus.NewRegistry()
	log := &lines{}
	again := make(chan struct{})
	step := w.step()
	parks(&step)
	step.Compensate = choreo.Undo(func(ctx context.Context, j job, done work) (note, error) {
		if choreo.Meta(ctx).Attempt <= 3 {
			w.note("reject %s", done.By)
			return note{}, notMyJob
		}
		<-again
		return w.Undo(ctx, j, done)
	}, jobUndone, calledOff).Unknown(w.Unknown)
	s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(1), step), choreotest.With(func(c *choreo.Config) {
		c.Registerer, c.Logger = reg, slog.New(slog.NewJSONHandler(log, nil))
	}))
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	s.Expect("f", jobDone.New(work{"f", "a"}))
	s.Publish("f", calledOff.New(calloff{"f", "rain"}))
	w.awaitCalls(t, 3, "reject a")
	awaitGauge(t, reg, "choreo_stuck_compensations", "", 1)
	close(again)
	s.Expect("f", jobUndone.New(note{"f", "undone: a"}))
	s.ExpectNothingMore("f")
	awaitGauge(t, reg, "choreo_stuck_compensations", "", 0)
	expectCalls(t, w, "do a", "reject a", "reject a", "reject a", "undo a")
	alarms := 0
	for _, l := range log.all() {
		if strings.Contains(l, `"ERROR"`) && strings.Contains(l, "compensation failed") && strings.Contains(l, "must not be rejected") && strings.Contains(l, notMyJob.Error()) {
			alarms++
		}
	}
	if alarms != 3 {
		t.Errorf("the log has %d alarms, want 3:\n%s", alarms, strings.Join(log.all(), "\n"))
	}
}

// Somebody sets the group's offsets by hand, while no instance runs: what steps
// have heard before is recognized, a plain reaction hears it again, and what is
// skipped is never heard.
func TestResettingTheGroupsOffsets(t *testing.T) {
	for name, c := range map[string]struct {
		back  bool
		says  []string
		calls []string
	}{
		"back to the beginning": {true, []string{"echoed a", "done {f b}", "echoed b", "done {f c}", "echoed c"}, []string{"do a", "do b", "do c"}},
		"on to the end":         {false, []string{"done {f c}", "echoed c"}, []string{"do a", "do c"}},
	} {
		t.Run(name, func(t *testing.T) {
			brokers := broker(t)
			w := &worker{}
			echoed := choreo.Event[string]{Type: "test.job.echoed", Topic: "work"}
			service := func() *choreo.Service {
				return choreo.NewService("worker", choreo.Tasks(1), w.step(), choreo.Reaction[job]{
					Name: "echo", On: jobGiven, Emits: choreo.Events{echoed},
					Do: func(_ context.Context, j job) (choreo.Emissions, error) { return choreo.Emit(echoed.New(j.What)), nil },
				})
			}
			svc := service()
			createTopics(t, svc, configFor(brokers, "x"))
			outside := newOutside(t, svc, brokers)
			show := func(em choreo.Emission, _ cloudevent.Event) string {
				return fmt.Sprint(strings.TrimPrefix(em.Type, "test.job."), " ", em.Data)
			}
			i := runInstance(t, svc, configFor(brokers, "a"))
			i.awaitReady(t, svc)
			outside.say(jobGiven.New(job{"f", "a"}))
			outside.hear(2, show)
			if err := i.stop(); err != nil {
				t.Fatal(err)
			}
			outside.say(jobGiven.New(job{"f", "b"})) // lies there unread
			adm := kadm.NewClient(outside.cl)
			var at kadm.Offsets
			for _, topic := range []string{"jobs", "calls", "worker.inbox"} {
				ends, err := adm.ListEndOffsets(t.Context(), topic)
				if err != nil {
					t.Fatal(err)
				}
				end, _ := ends.Lookup(topic, 0)
				if c.back {
					end.Offset = 0
				}
				at.AddOffset(topic, 0, end.Offset, -1)
			}
			if err := adm.CommitAllOffsets(t.Context(), "worker", at); err == nil {
				t.Error("offsets of a group with members were set")
			}
			if _, err := adm.LeaveGroup(t.Context(), kadm.LeaveGroup("worker").InstanceIDs("a")); err != nil { // as when its session ends
				t.Fatal(err)
			}
			if err := adm.CommitAllOffsets(t.Context(), "worker", at); err != nil {
				t.Fatal(err)
			}
			again := service()
			runInstance(t, again, configFor(brokers, "a")).awaitReady(t, again)
			outside.say(jobGiven.New(job{"f", "c"}))
			if said := outside.hear(len(c.says), show); !slices.Equal(said, c.says) {
				t.Errorf("said was %q, want %q", said, c.says)
			}
			expectCalls(t, w, c.calls...)
		})
	}
}

// A flow that has ended is forgotten after the grace: a compensation that comes
// later finds nothing to undo, since none should.
func TestACompensationAfterTheGraceFindsNothing(t *testing.T) {
	w := &worker{}
	reg := prometheus.NewRegistry()
	step := w.step()
	step.Emit.Outcome = choreo.Succeeded
	s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(1), choreo.Retention{Grace: time.Second}, step),
		choreotest.With(func(c *choreo.Config) { c.Registerer = reg }))
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	s.ExpectTypes("f", jobDone.Type)
	awaitGauge(t, reg, "choreo_journal_flows", "", 0)
	s.Publish("f", calledOff.New(calloff{"f", "rain"}))
	s.Expect("f", jobDropped.New(note{"f", "dropped: rain"}))
	s.ExpectNothingMore("f")
	expectCalls(t, w, "do a")
}
