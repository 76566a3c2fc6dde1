package choreo

import (
	"strconv"
	"time"

	"github.com/choreography-go/choreography/choreo/internal/task"
	"github.com/prometheus/client_golang/prometheus"
)

// watch makes the gauges show what source says from now on; nil ends that.
func (m *metrics) watch(source statusSource) {
	if source == nil {
		m.source.Store(nil)
		return
	}
	m.source.Store(&source)
}

func (m *metrics) status() status {
	if s := m.source.Load(); s != nil {
		return (*s).status()
	}
	return status{}
}

// statusCollector makes gauges of one snapshot per scrape.
type statusCollector struct {
	status func() status

	ready, tasks, restore, flows, bytes, beyond, inFlight, inFlightBytes, overdue, stuck, parked, parkedFlows, parkedOldest *prometheus.Desc

	stuckOldest *prometheus.Desc

	deadlines, deadlinesFailing, deadlinesOverdue *prometheus.Desc

	joins, joinsOldest           *prometheus.Desc
	breaker, concurrent, waiting *prometheus.Desc
}

func newStatusCollector(f func() status) *statusCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
	}
	return &statusCollector{
		status:        f,
		ready:         desc("ready", "1 if the service is ready."),
		tasks:         desc("tasks_owned", "Tasks that this instance owns, by phase.", "phase"),
		restore:       desc("restore_seconds", "How long the last restore of an owned task took, so far if it still runs.", "task"),
		flows:         desc("journal_flows", "Flows in memory."),
		bytes:         desc("journal_bytes", "Memory that flows take, about."),
		beyond:        desc("finished_beyond_prefix", "Offsets finished beyond an unfinished one of their partition."),
		inFlight:      desc("in_flight_records", "Records read and not committed yet."),
		inFlightBytes: desc("in_flight_bytes", "Size of the records read and not committed yet."),
		overdue:       desc("overdue_handlers", "Attempts that outlive their timeout and block their flow.", "step"),
		stuck:         desc("stuck_compensations", "Compensations that failed and are repeated until they succeed."),
		parked:        desc("parked_events", "Events parked, by the step at which they wait for another attempt; of no step: behind such events.", "step"),
		parkedFlows:   desc("parked_flows", "Flows of which events are parked."),
		stuckOldest:   desc("stuck_oldest_seconds", "For how long the oldest compensation has been failing; 0: none is."),
		parkedOldest:  desc("parked_oldest_seconds", "For how long the oldest parked event has been parked at its step; 0: none is."),

		deadlines:        desc("deadlines_pending", "Deadlines that are set, and neither met nor fired.", "step"),
		deadlinesFailing: desc("deadlines_failing", "Deadlines whose attempts have failed and are repeated until they succeed or are met."),
		deadlinesOverdue: desc("deadlines_overdue_seconds", "For how long the deadline has been due that waits the longest to fire; 0: none is."),

		joins:       desc("joins_waiting", "Flows in which some of the events that the step joins have come, and others have not.", "step"),
		joinsOldest: desc("joins_oldest_seconds", "For how long the join has waited that waits the longest; 0: none does.", "step"),

		breaker:    desc("breaker_state", "1 for the state in which the breaker is, else 0.", "step", "state"),
		concurrent: desc("concurrent_attempts", "Attempts under way, of steps with a Breaker or MaxConcurrent.", "step"),
		waiting:    desc("waiting_flows", "Flows that wait for the breaker, or for room.", "step"),
	}
}

// Describe implements prometheus.Collector.
func (c *statusCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.ready, c.tasks, c.restore, c.flows, c.bytes, c.beyond, c.inFlight, c.inFlightBytes, c.overdue, c.stuck, c.stuckOldest, c.parked, c.parkedFlows, c.parkedOldest,
		c.deadlines, c.deadlinesFailing, c.deadlinesOverdue, c.joins, c.joinsOldest, c.breaker, c.concurrent, c.waiting} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *statusCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.status()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	ready := 0.0
	if s.live && len(s.reasons) == 0 {
		ready = 1
	}
	gauge(c.ready, ready)
	var phases [task.Stopped + 1]int
	for _, t := range s.tasks {
		phases[t.Phase]++
		gauge(c.restore, t.Restore.Seconds(), strconv.Itoa(int(t.Partition)))
	}
	for p, n := range phases {
		gauge(c.tasks, float64(n), task.Phase(p).String())
	}
	gauge(c.flows, float64(s.journalFlows))
	gauge(c.bytes, float64(s.journalBytes))
	gauge(c.beyond, float64(s.beyondPrefix))
	gauge(c.inFlight, float64(s.inFlight))
	gauge(c.inFlightBytes, float64(s.inFlightBytes))
	for step, n := range s.overdue {
		gauge(c.overdue, float64(n), step)
	}
	gauge(c.stuck, float64(s.stuck))
	gauge(c.stuckOldest, age(s.stuckSince))
	for step, n := range s.parked {
		gauge(c.parked, float64(n), step)
	}
	gauge(c.parkedFlows, float64(s.parkedFlows))
	gauge(c.parkedOldest, age(s.parkedSince))
	for name, n := range s.deadlines {
		gauge(c.deadlines, float64(n), name)
	}
	gauge(c.deadlinesFailing, float64(s.failing))
	gauge(c.deadlinesOverdue, s.lateBy.Seconds())
	for step, x := range s.joins {
		gauge(c.joins, float64(x.Flows), step)
		gauge(c.joinsOldest, age(x.Since), step)
	}
	for _, d := range s.doors {
		gauge(c.concurrent, float64(d.Concurrent), d.Step)
		gauge(c.waiting, float64(d.Waiting), d.Step)
		for _, state := range breakerStates {
			if d.Breaker == "" {
				break
			}
			is := 0.0
			if d.Breaker == state {
				is = 1
			}
			gauge(c.breaker, is, d.Step, state)
		}
	}
}

// age is how many seconds have passed since a time; 0 if it is none.
func age(since time.Time) float64 {
	if since.IsZero() {
		return 0
	}
	return max(0, time.Since(since).Seconds())
}
