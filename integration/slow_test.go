package integration

import (
	"fmt"
	"testing"
	"time"
)

// latencies are the times from feeding a job to reading what was done with it,
// of the events from the i-th on that are such.
func (w *world) latencies(i int, such func(said) bool) []time.Duration {
	at := map[string]time.Time{}
	jobs, _ := w.feeder.all()
	for _, j := range jobs {
		at[j.id] = j.at
	}
	var all []time.Duration
	for _, e := range w.reader.since(topicDone, i) {
		if such(e) {
			all = append(all, e.at.Sub(at[e.cause]))
		}
	}
	return all
}

func TestSlowKeyDelaysNoOther(t *testing.T) {
	const slow, limit = 5 * time.Second, 100 * time.Millisecond
	w := newWorld(t, anyBrokers(t))
	w.begin()
	w.feeder.during(load{rate: 200, flows: 100}, func() { time.Sleep(500 * time.Millisecond) }) // warm up
	w.settle(10 * time.Second)
	warm := w.reader.count(topicDone)
	w.feeder.during(load{rate: 200, flows: 100}, func() { time.Sleep(2 * time.Second) })
	w.settle(10 * time.Second)
	before := w.latencies(warm, func(said) bool { return true })
	from := w.reader.count(topicDone)
	began := time.Now()
	w.feeder.next(job{Flow: "slow", Millis: int(slow.Milliseconds())})
	w.feeder.during(load{rate: 200, flows: 100}, func() {
		if _, ok := w.reader.first(topicDone, from, slow+5*time.Second, func(s said) bool { return s.flow == "slow" }); !ok {
			t.Errorf("the slow job was not done %v after it should have been", 5*time.Second)
		}
	})
	took := time.Since(began)
	w.check(20 * time.Second)
	others := w.latencies(from, func(e said) bool { return e.flow != "slow" && e.time.Before(began.Add(slow)) })
	t.Logf("from feeding a job to reading what was done: %s; while one key takes %v, the others: %s", spreadOf(before), took.Round(time.Millisecond), spreadOf(others))
	if len(others) < 500 {
		t.Errorf("only %d other events within %v", len(others), slow)
	}
	// On a machine that is too busy for the limit, what counts is that the others
	// do not wait for the slow key, which would take seconds.
	if p99, was := percentile(others, .99), percentile(before, .99); p99 > max(limit, 3*was) {
		t.Errorf("p99 of the others is %v, must be below %v (before, it was %v)", p99, limit, was)
	}
}

// awaitDone waits until so many jobs are done, as long as there are ever more.
func (w *world) awaitDone(want int) {
	w.t.Helper()
	for n := w.reader.count(topicDone); n < want; n = w.reader.count(topicDone) {
		within(w.t, 60*time.Second, fmt.Sprintf("more than %d of %d jobs are done", n, want), func() bool { return w.reader.count(topicDone) > n })
	}
}

// As many handlers as there may be are at work at once: none of the first jobs is
// done before all of them have begun. How fast many keys are is only told, for that
// depends on the machine.
func TestHandlersOfDifferentKeysRunAtOnce(t *testing.T) {
	const together, keys, each = 1000, 10_000, 10 * time.Millisecond
	w := newWorld(t, anyBrokers(t))
	for i := range together {
		w.feeder.next(job{Flow: fmt.Sprintf("together-%d", i), Together: together})
	}
	w.feeder.flush()
	p := w.start("work", "work-0", fmt.Sprintf("MAX_HANDLERS=%d", together))
	w.awaitDone(together)
	p.terminate(30 * time.Second)
	for i := range keys {
		w.feeder.next(job{Flow: fmt.Sprintf("key-%d", i), Millis: int(each.Milliseconds())})
	}
	w.feeder.flush()
	p = w.start("work", "work-0")
	w.awaitDone(together + keys)
	all := w.reader.since(topicDone, together)
	first, last := all[0].time, all[0].at
	for _, e := range all {
		if e.time.Before(first) {
			first = e.time
		}
		if e.at.After(last) {
			last = e.at
		}
	}
	began := first.Add(-each) // the first attempt began when it was done, less its time
	took := last.Sub(began)
	alone := keys * each
	t.Logf("%d keys of %v each: %v from the first attempt to the last event read, %.0f times as fast as one at a time; %v since the start of the process",
		keys, each, took.Round(time.Millisecond), alone.Seconds()/took.Seconds(), last.Sub(p.started).Round(time.Millisecond))
	w.start("ship", "ship-0")
	w.check(60 * time.Second)
}
