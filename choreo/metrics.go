package choreo

import (
	"sync/atomic"
	"time"

	"github.com/choreography-go/choreography/choreo/deadletter"
	"github.com/choreography-go/choreography/choreo/internal/clientmetrics"
	"github.com/choreography-go/choreography/choreo/internal/txn"
	"github.com/choreography-go/choreography/choreo/operator"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

const namespace = "choreo"

// Why records are passed over, as the label has it.
const (
	ignoredNotCloudEvent = "not_cloudevent" // no CloudEvent
	ignoredNotHeard      = "not_heard"      // of a type that the service does not hear
	ignoredInvalid       = "invalid_event"  // broken, and not of a type that the service hears
)

// replayDuplicate is the outcome of a replay that is a repetition.
const replayDuplicate = "duplicate"

// labelOther takes the place of a label value that is none of the known ones, so
// that the number of series is fixed when the service starts.
const labelOther = "other"

// metrics are the measurements of a running service. Every series exists from
// the start, with labels that come from declarations and constants alone, so a
// measurement is one atomic operation and no input can make new series. All
// methods and fields may be used by any number of goroutines.
type metrics struct {
	consumed  prometheus.Counter
	lag       prometheus.Observer // seconds from a record's timestamp to its commit
	forwarded prometheus.Counter
	published prometheus.Counter
	conflicts prometheus.Counter // published again with another payload

	reg      *prometheus.Registry
	steps    map[string]*stepMetrics
	other    *stepMetrics
	unheard  map[string]prometheus.Counter
	replays  map[string]prometheus.Counter // by outcome
	commands map[operator.Do]map[operator.Outcome]prometheus.Counter
	failures map[txn.Reason]prometheus.Counter
	again    map[txn.RetryReason]prometheus.Counter

	txnSeconds, txnResults, txnRecords, txnBytes prometheus.Observer

	silentCommits, silentResults prometheus.Counter

	opened, turnedAway *prometheus.CounterVec // of doors

	lanesBusy prometheus.Gauge
	source    atomic.Pointer[statusSource]
	clients   clientmetrics.Kinds
}

// stepMetrics are those of one step, reaction, state or deadline.
type stepMetrics struct {
	did, failed, gaveUp, duplicates, skipped, retries prometheus.Counter

	undone, cancelled counters
	met, fired        prometheus.Counter  // of a deadline
	surplus, missed   prometheus.Counter  // of a step that joins
	seconds           prometheus.Observer // of one attempt

	dead        prometheus.Counter
	deadLetters map[string]prometheus.Counter // by reason
}

// counters are counted together.
type counters [2]prometheus.Counter

func (c counters) Inc() {
	for _, x := range c {
		x.Inc()
	}
}

var (
	handlerBuckets     = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	lagBuckets         = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600}
	transactionBuckets = []float64{.001, .002, .003, .005, .0075, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	countBuckets       = prometheus.ExponentialBuckets(1, 4, 8)    // 1 to 16,384
	byteBuckets        = prometheus.ExponentialBuckets(1024, 4, 8) // 1 KiB to 16 MiB
)

// newMetrics registers a service's metrics. A registry takes those of one
// service at a time: a second one, after the first has ended, takes its series
// over.
func newMetrics(reg *prometheus.Registry, p *plan) *metrics {
	m := &metrics{
		reg:      reg,
		steps:    map[string]*stepMetrics{},
		unheard:  map[string]prometheus.Counter{},
		replays:  map[string]prometheus.Counter{},
		failures: map[txn.Reason]prometheus.Counter{},
		again:    map[txn.RetryReason]prometheus.Counter{},
		clients:  clientmetrics.Kinds{Registry: reg, Namespace: namespace + "_kafka"},
	}
	m.consumed = m.counter("consumed_total", "Events that were heard.")
	m.lag = m.histogram("lag_seconds", "Time from an event's record timestamp to the commit of what was said on it.", lagBuckets)
	m.forwarded = m.counter("forwarded_total", "Events sent on through the inbox to the task of their flow.")
	m.published = m.counter("published_total", "Events published outside handlers.")
	m.conflicts = m.counter("publish_conflicts_total", "Events published again under an idempotency key with another payload.")

	ignored := m.counterVec("ignored_total", "Records passed over.", "reason")
	for _, r := range []string{ignoredNotCloudEvent, ignoredNotHeard, ignoredInvalid, labelOther} {
		m.unheard[r] = ignored.WithLabelValues(r)
	}
	replays := m.counterVec("replays_total", "Dead letters that were replayed.", "outcome")
	for _, o := range []string{string(deadletter.Succeeded), string(deadletter.Failed), string(deadletter.Cancelled), replayDuplicate, labelOther} {
		m.replays[o] = replays.WithLabelValues(o)
	}
	commands := m.counterVec("operator_commands_total", "Commands of operators that were answered.", "do", "outcome")
	m.commands = map[operator.Do]map[operator.Outcome]prometheus.Counter{}
	for _, do := range operator.Dos {
		m.commands[do] = map[operator.Outcome]prometheus.Counter{}
		for _, o := range operator.Outcomes {
			m.commands[do][o] = commands.WithLabelValues(string(do), string(o))
		}
	}
	m.registerSteps(p)

	m.txnSeconds = m.histogram("transaction_seconds", "Time from the gate to the answer of a transaction's end.", transactionBuckets)
	m.txnResults = m.histogram("transaction_results", "Finished input records in a transaction.", countBuckets)
	m.txnRecords = m.histogram("transaction_records", "Records said and journalled in a transaction.", countBuckets)
	m.txnBytes = m.histogram("transaction_bytes", "Size of the records in a transaction, before compression.", byteBuckets)
	m.silentCommits = m.counter("silent_commits_total", "Offset commits without a transaction, of records on which nothing was said.")
	m.silentResults = m.counter("silent_results_total", "Input records finished by silent commits.")
	m.lanesBusy = register(reg, prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: "transactions_in_flight", Help: "Transactions in flight."}))
	failures := m.counterVec("transaction_failures_total", "Resets of the transaction pipeline.", "reason")
	for _, r := range []txn.Reason{
		txn.ReasonFenced, txn.ReasonMembership, txn.ReasonRevoked, txn.ReasonNoAnswer, txn.ReasonCoordinator,
		txn.ReasonTooLarge, txn.ReasonProduce, txn.ReasonRefused, txn.ReasonOpen, labelOther,
	} {
		m.failures[r] = failures.WithLabelValues(string(r))
	}
	again := m.counterVec("transaction_retries_total", "Repeated requests of a transaction's first stage.", "reason")
	for _, r := range []txn.RetryReason{txn.RetryConcurrent, txn.RetryCoordinator, txn.RetryGeneration, labelOther} {
		m.again[r] = again.WithLabelValues(string(r))
	}

	register(reg, collectors.NewGoCollector())
	register(reg, collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	replace(reg, newStatusCollector(m.status))
	return m
}

// registerSteps resolves the series of every name under which work is counted.
func (m *metrics) registerSteps(p *plan) {
	runs := m.counterVec("runs_total", "Ends of runs.", "step", "outcome")
	retries := m.counterVec("retries_total", "Attempts that failed and are repeated.", "step")
	dead := m.counterVec("dead_letters_total", "Events sent to the dead-letter topic.", "step", "reason")
	undone := m.counterVec("compensations_total", "Runs undone.", "step")
	cancelled := m.counterVec("cancellations_total", "Cancellations answered for a step that had not run.", "step")
	seconds := register(m.reg, prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: namespace, Name: "handler_seconds", Help: "Time of one attempt in a handler.", Buckets: handlerBuckets,
	}, []string{"step"}))
	add := func(name string) *stepMetrics {
		s := &stepMetrics{
			did: runs.WithLabelValues(name, kindDid), failed: runs.WithLabelValues(name, kindFailed),
			gaveUp: runs.WithLabelValues(name, kindGaveUp), dead: runs.WithLabelValues(name, "dead"),
			duplicates: runs.WithLabelValues(name, "duplicate"), skipped: runs.WithLabelValues(name, "skipped"),
			undone:    counters{runs.WithLabelValues(name, kindUndone), undone.WithLabelValues(name)},
			cancelled: counters{runs.WithLabelValues(name, kindCancelled), cancelled.WithLabelValues(name)},
			retries:   retries.WithLabelValues(name), seconds: seconds.WithLabelValues(name),
			deadLetters: map[string]prometheus.Counter{},
		}
		for _, r := range append([]string{labelOther}, deadLetterReasons...) {
			s.deadLetters[r] = dead.WithLabelValues(name, r)
		}
		m.steps[name] = s
		return s
	}
	m.other = add("")
	surplus := m.counterVec("join_surplus_total", "Events passed over because their half of a join had come by another event, or the step ran without it.", "step")
	missed := m.counterVec("joins_forgotten_total", "Joins of which a half was missing when their flow was dropped, without an outcome.", "step")
	for _, s := range p.steps {
		x := add(s.step)
		if s.join != nil {
			x.surplus, x.missed = surplus.WithLabelValues(s.step), missed.WithLabelValues(s.step)
		}
	}
	for _, s := range p.states {
		add(s.state)
	}
	for _, r := range p.reacts {
		add(r.reaction)
	}
	met := m.counterVec("deadlines_met_total", "Deadlines that were met, or for which what they wait for was heard before.", "step")
	fired := m.counterVec("deadlines_fired_total", "Deadlines that have fired.", "step")
	for _, d := range p.deadlines {
		s := add(d.deadline)
		s.met, s.fired = met.WithLabelValues(d.deadline), fired.WithLabelValues(d.deadline)
	}
	if len(p.starts) > 0 {
		add(kindStarted)
	}
	m.opened = m.counterVec("breaker_opened_total", "How often a breaker has opened.", "step")
	m.turnedAway = m.counterVec("turned_away_total", "Attempts that were not begun, and wait: because the breaker was not closed, or MaxConcurrent were under way.", "step", "reason")
}

// door resolves the series of a door.
func (m *metrics) door(step string) (opened, open, full prometheus.Counter) {
	return m.opened.WithLabelValues(step), m.turnedAway.WithLabelValues(step, "open"), m.turnedAway.WithLabelValues(step, "full")
}

// step returns the metrics of a step, reaction, state or deadline by its name. What no
// step is to blame for is counted under the name "".
func (m *metrics) step(name string) *stepMetrics {
	if s, ok := m.steps[name]; ok {
		return s
	}
	return m.other
}

// ignored counts a record that was passed over.
func (m *metrics) ignored(reason string) { pick(m.unheard, reason).Inc() }

// replayed counts the replay of a dead letter.
func (m *metrics) replayed(outcome string) { pick(m.replays, outcome).Inc() }

// commanded counts an operator's command.
func (m *metrics) commanded(do operator.Do, outcome operator.Outcome) { m.commands[do][outcome].Inc() }

// deadLetter counts a dead letter, and with it the end of a run.
func (m *metrics) deadLetter(step, reason string) {
	s := m.step(step)
	s.dead.Inc()
	pick(s.deadLetters, reason).Inc()
}

func pick[K ~string](from map[K]prometheus.Counter, key K) prometheus.Counter {
	if c, ok := from[key]; ok {
		return c
	}
	return from[labelOther]
}

// Committed is told of each transaction.
func (m *metrics) Committed(took time.Duration, results, records, bytes int) {
	m.txnSeconds.Observe(took.Seconds())
	m.txnResults.Observe(float64(results))
	m.txnRecords.Observe(float64(records))
	m.txnBytes.Observe(float64(bytes))
}

// CommittedSilently is told of each transaction of offsets alone.
func (m *metrics) CommittedSilently(_ time.Duration, results int) {
	m.silentCommits.Inc()
	m.silentResults.Add(float64(results))
}

// Failed is told of each reset of the pipeline.
func (m *metrics) Failed(reason txn.Reason) { pick(m.failures, reason).Inc() }

// Retried is told of each repeated stage (a).
func (m *metrics) Retried(reason txn.RetryReason) { pick(m.again, reason).Inc() }

// LanesBusy is told the number of transactions in flight.
func (m *metrics) LanesBusy(n int) { m.lanesBusy.Set(float64(n)) }

var _ txn.Observer = (*metrics)(nil)

func (m *metrics) counter(name, help string) prometheus.Counter {
	return register(m.reg, prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}))
}

func (m *metrics) counterVec(name, help string, labels ...string) *prometheus.CounterVec {
	return register(m.reg, prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels))
}

func (m *metrics) histogram(name, help string, buckets []float64) prometheus.Histogram {
	return register(m.reg, prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}))
}

// register registers a collector, or returns the one that is registered as it.
func register[C prometheus.Collector](reg *prometheus.Registry, c C) C {
	if err := reg.Register(c); err != nil {
		if already, ok := err.(prometheus.AlreadyRegisteredError); ok { //nolint:errorlint // never wrapped
			if existing, ok := already.ExistingCollector.(C); ok {
				return existing
			}
		}
		panic(err) // a name that is taken by another kind of metric
	}
	return c
}

// replace registers a collector in the place of an earlier one like it.
func replace(reg *prometheus.Registry, c prometheus.Collector) {
	reg.Unregister(c)
	register(reg, c)
}
