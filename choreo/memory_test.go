package choreo_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
	"github.com/prometheus/client_golang/prometheus"
)

// When flow state takes all memory that it may, nothing more is read, and readiness
// says so, until flows have expired. Meanwhile those that are stuck hold the
// memory, however long: first by what is parked, then by their states.
func TestAtTheBoundOfFlowStateReadingPausesUntilFlowsExpire(t *testing.T) {
	const limit, flows, each = 1 << 20, 4, 300 << 10
	w := &worker{fail: map[string]int{"undo a": 1 << 30}}
	reg := prometheus.NewRegistry()
	step := w.step()
	step.Do = func(ctx context.Context, j job) (work, error) {
		if j.ID == "late" {
			if held := gauge(t, reg, "choreo_journal_bytes", ""); held >= limit {
				t.Errorf("an event was read while flow state takes %v bytes", held)
			}
		}
		return w.Do(ctx, j)
	}
	st := &choreo.State[job]{Name: "jobs", When: []choreo.Transition[job]{choreo.When(jobGiven, func(v *job, j job) { *v = j })}}
	svc := choreo.NewService("worker", choreo.Tasks(1), choreo.Retention{Flow: 2 * time.Second}, step, st)
	s := choreotest.Start(t, svc, choreotest.With(func(c *choreo.Config) {
		c.MaxJournalBytes, c.Registerer, c.Logger = limit, reg, slog.New(slog.NewTextHandler(io.Discard, nil))
	}))
	for n := range flows {
		flow := fmt.Sprint("f", n)
		s.Publish(flow, jobGiven.New(job{flow, "a"}))
		s.Expect(flow, jobDone.New(work{flow, "a"}))
		s.Publish(flow, calledOff.New(calloff{flow, "rain"}))
	}
	awaitGauge(t, reg, "choreo_stuck_compensations", "", flows)
	if err := svc.Ready(); err != nil {
		t.Errorf("before the bound it says %v", err)
	}
	for n := range flows {
		flow := fmt.Sprint("f", n)
		s.Publish(flow, jobGiven.New(job{flow, strings.Repeat("b", each)}))
	}
	says := fmt.Sprintf("the limit is MAX_JOURNAL_BYTES, %d: reading pauses until flows end or expire", limit)
	eventually(t, "it says that it is not ready", func() error {
		if err := svc.Ready(); err == nil || !strings.Contains(err.Error(), says) {
			return fmt.Errorf("it says %w, want %q", err, says)
		}
		return nil
	})
	s.Publish("late", jobGiven.New(job{"late", "c"}))
	w.awaitCalls(t, w.count("undo a")+100, "undo a") // time for it to be read
	if n := gauge(t, reg, "choreo_in_flight_records", ""); n != 0 || w.count("do c") != 0 {
		t.Errorf("%v events are in memory, the one that waits was handled %d times", n, w.count("do c"))
	}
	w.heal("undo a")
	awaitGauge(t, reg, "choreo_stuck_compensations", "", 0)
	awaitGauge(t, reg, "choreo_parked_events", "", 0)
	if held := gauge(t, reg, "choreo_journal_bytes", ""); held < limit {
		t.Errorf("of the states %v bytes are kept", held)
	}
	s.Expect("late", jobDone.New(work{"late", "c"}))
	eventually(t, "it is ready", svc.Ready)
	if n := w.count("do c"); n != 1 {
		t.Errorf("the event that has waited was handled %d times", n)
	}
}
