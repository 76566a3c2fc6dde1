package choreo

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo/internal/task"
	"github.com/choreography-go/choreography/choreo/internal/txn"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// fixedStatus is a statusSource that always says the same.
type fixedStatus status

func (s *fixedStatus) status() status { return status(*s) }

// gathered is what a registry shows: a value for each series, of histograms the
// number of observations.
func gathered(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			name := f.GetName() + "{" + strings.Join(labels, ",") + "}"
			switch {
			case m.GetCounter() != nil:
				all[name] = m.GetCounter().GetValue()
			case m.GetGauge() != nil:
				all[name] = m.GetGauge().GetValue()
			default:
				all[name] = float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return all
}

func TestMetricsCountWhatTheirNamesSay(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := newMetrics(reg, samplePlan(t))
	before := gathered(t, reg)
	m.consumed.Inc()
	m.forwarded.Inc()
	m.published.Inc()
	m.conflicts.Inc()
	m.lag.Observe(1)
	m.ignored(ignoredNotHeard)
	m.ignored("made\nup")
	p := m.step("pay")
	p.did.Inc()
	p.failed.Inc()
	p.gaveUp.Inc()
	p.undone.Inc()
	p.cancelled.Inc()
	p.duplicates.Inc()
	p.skipped.Inc()
	p.retries.Inc()
	p.seconds.Observe(1)
	m.step("total").did.Inc()
	m.step("nobody").did.Inc()
	m.deadLetter("pay", reasonRejected)
	m.deadLetter("", reasonTooBig)
	m.deadLetter("pay", "made up")
	m.Committed(time.Second, 1, 2, 3)
	m.CommittedSilently(time.Second, 5)
	m.Failed(txn.ReasonFenced)
	m.Failed("made up")
	m.Retried(txn.RetryConcurrent)
	m.LanesBusy(3)

	want := map[string]float64{
		"choreo_consumed_total{}": 1, "choreo_forwarded_total{}": 1, "choreo_published_total{}": 1, "choreo_publish_conflicts_total{}": 1,
		"choreo_lag_seconds{}": 1, "choreo_ignored_total{reason=not_heard}": 1, "choreo_ignored_total{reason=other}": 1,
		"choreo_runs_total{outcome=did,step=pay}": 1, "choreo_runs_total{outcome=failed,step=pay}": 1, "choreo_runs_total{outcome=gaveup,step=pay}": 1,
		"choreo_runs_total{outcome=undone,step=pay}": 1, "choreo_runs_total{outcome=cancelled,step=pay}": 1, "choreo_runs_total{outcome=duplicate,step=pay}": 1,
		"choreo_runs_total{outcome=skipped,step=pay}": 1, "choreo_runs_total{outcome=dead,step=pay}": 2, "choreo_runs_total{outcome=dead,step=}": 1,
		"choreo_runs_total{outcome=did,step=total}": 1, "choreo_runs_total{outcome=did,step=}": 1,
		"choreo_compensations_total{step=pay}": 1, "choreo_cancellations_total{step=pay}": 1, "choreo_retries_total{step=pay}": 1, "choreo_handler_seconds{step=pay}": 1,
		"choreo_dead_letters_total{reason=rejected,step=pay}": 1, "choreo_dead_letters_total{reason=too_big,step=}": 1, "choreo_dead_letters_total{reason=other,step=pay}": 1,
		"choreo_transaction_seconds{}": 1, "choreo_transaction_results{}": 1, "choreo_transaction_records{}": 1, "choreo_transaction_bytes{}": 1,
		"choreo_silent_commits_total{}": 1, "choreo_silent_results_total{}": 5,
		"choreo_transaction_failures_total{reason=fenced}": 1, "choreo_transaction_failures_total{reason=other}": 1,
		"choreo_transaction_retries_total{reason=concurrent_transactions}": 1, "choreo_transactions_in_flight{}": 3,
	}
	changed := map[string]float64{}
	for name, v := range gathered(t, reg) {
		if was, ok := before[name]; strings.HasPrefix(name, "choreo_") && (!ok || was != v) {
			changed[name] = v
		}
	}
	if !maps.Equal(changed, want) {
		for _, name := range slices.Sorted(maps.Keys(changed)) {
			if want[name] != changed[name] {
				t.Errorf("%s = %v, want %v", name, changed[name], want[name])
			}
		}
		for name := range want {
			if _, ok := changed[name]; !ok {
				t.Errorf("%s did not change", name)
			}
		}
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

func TestMetricsShowTheEnginesStatus(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := newMetrics(reg, samplePlan(t))
	m.watch(&fixedStatus{
		live: true, tasks: []task.TaskStatus{{Partition: 4, Phase: task.Open, Restore: 2 * time.Second}, {Partition: 5, Phase: task.Open}, {Partition: 6, Phase: task.Stopped}},
		journalFlows: 7, journalBytes: 8, beyondPrefix: 9, inFlight: 10, inFlightBytes: 11, overdue: map[string]int{"pay": 12}, stuck: 13,
		doors: []doorStatus{{"archive", "", 14, 15}, {"pay", "half-open", 16, 17}},
	})
	got := gathered(t, reg)
	for name, want := range map[string]float64{
		"choreo_ready{}": 1, "choreo_tasks_owned{phase=open}": 2, "choreo_tasks_owned{phase=stopped}": 1, "choreo_tasks_owned{phase=restoring}": 0,
		"choreo_restore_seconds{task=4}": 2, "choreo_journal_flows{}": 7, "choreo_journal_bytes{}": 8, "choreo_finished_beyond_prefix{}": 9,
		"choreo_in_flight_records{}": 10, "choreo_in_flight_bytes{}": 11, "choreo_overdue_handlers{step=pay}": 12, "choreo_stuck_compensations{}": 13,
		"choreo_breaker_state{state=open,step=pay}": 0, "choreo_breaker_state{state=half-open,step=pay}": 1, "choreo_breaker_state{state=closed,step=pay}": 0,
		"choreo_concurrent_attempts{step=archive}": 14, "choreo_waiting_flows{step=archive}": 15, "choreo_concurrent_attempts{step=pay}": 16, "choreo_waiting_flows{step=pay}": 17,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s = %v (%v), want %v", name, v, ok, want)
		}
	}
	if v, ok := got["choreo_breaker_state{state=open,step=archive}"]; ok {
		t.Errorf("the state of a breaker that is not declared is %v", v)
	}
	m.watch(&fixedStatus{live: true, reasons: []string{"starting"}})
	if v := gathered(t, reg)["choreo_ready{}"]; v != 0 {
		t.Errorf("choreo_ready = %v while there is a reason", v)
	}
	m.watch(nil)
	if v := gathered(t, reg)["choreo_journal_flows{}"]; v != 0 {
		t.Errorf("choreo_journal_flows = %v of an ended run", v)
	}
}

func TestARegistryServesOneServiceAfterTheOther(t *testing.T) {
	reg := prometheus.NewRegistry()
	first := newMetrics(reg, samplePlan(t))
	first.clients.Hook("lane")
	first.consumed.Inc()
	second := newMetrics(reg, samplePlan(t))
	second.clients.Hook("lane")
	second.watch(&fixedStatus{journalFlows: 3})
	got := gathered(t, reg)
	if got["choreo_consumed_total{}"] != 1 || got["choreo_journal_flows{}"] != 3 {
		t.Errorf("consumed %v, flows %v", got["choreo_consumed_total{}"], got["choreo_journal_flows{}"])
	}
}

func TestMeasuringAllocatesNothing(t *testing.T) {
	m := newMetrics(prometheus.NewRegistry(), samplePlan(t))
	if n := testing.AllocsPerRun(100, func() {
		m.consumed.Inc()
		s := m.step("pay")
		s.did.Inc()
		s.undone.Inc()
		s.seconds.Observe(0.001)
		m.lag.Observe(0.01)
		m.ignored(ignoredNotHeard)
		m.deadLetter("pay", reasonRejected)
		m.Committed(time.Millisecond, 1, 1, 1)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkMeasureRun(b *testing.B) {
	m := newMetrics(prometheus.NewRegistry(), samplePlan(b))
	b.ReportAllocs()
	for b.Loop() {
		s := m.step("pay")
		s.did.Inc()
		s.seconds.Observe(0.001)
		m.lag.Observe(0.01)
	}
}
