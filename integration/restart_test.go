package integration

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// seedOf makes a test's random choices repeatable: INTEGRATION_SEED sets them.
func seedOf(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64() >> 1
	if s := os.Getenv("INTEGRATION_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("INTEGRATION_SEED=%q is not a number", s)
		}
		seed = n
	}
	t.Logf("seed %d; the same choices again: INTEGRATION_SEED=%d", seed, seed)
	return rand.New(rand.NewPCG(seed, seed))
}

// firstCommit is how long after the start of the process the first event that
// it said was there for a read-committed reader.
func (w *world) firstCommit(p *process, topic string, from int) time.Duration {
	w.t.Helper()
	e, ok := w.reader.first(topic, from, 30*time.Second, func(s said) bool { return s.time.After(p.started) })
	if !ok {
		w.t.Fatalf("%v said nothing on %s within 30 s of its restart", p, topic)
	}
	return e.at.Sub(p.started)
}

func TestKilledAtRandomMomentsAndRestarted(t *testing.T) {
	const kills, limit = 32, 2 * time.Second
	rnd := seedOf(t)
	w := newWorld(t, anyBrokers(t))
	work, ship := w.begin()
	var took []time.Duration
	w.feeder.during(load{rate: 400, flows: 300, fail: 10}, func() {
		for range kills {
			time.Sleep(time.Duration(rnd.Int64N(int64(700 * time.Millisecond)))) // the random moment
			p, topic := &work, topicDone
			if rnd.IntN(2) == 0 {
				p, topic = &ship, topicShipped
			}
			(*p).kill()
			from := w.reader.count(topic)
			*p = w.start((*p).service, (*p).instance)
			took = append(took, w.firstCommit(*p, topic, from))
		}
	})
	w.check(30 * time.Second)
	t.Logf("%d kills; from restart to the first commit: %s", kills, spreadOf(took))
	if p99 := percentile(took, .99); p99 > limit {
		t.Errorf("p99 from restart to the first commit is %v, must be at most %v", p99, limit)
	}
}

func TestStoppedGracefullyAndRestarted(t *testing.T) {
	const stops, limit = 6, time.Second
	w := newWorld(t, anyBrokers(t))
	work, ship := w.begin()
	var ends, starts []time.Duration
	w.feeder.during(load{rate: 400, flows: 300, fail: 10}, func() {
		for i := range stops {
			time.Sleep(500 * time.Millisecond) // under load
			p, topic := &work, topicDone
			if i%2 == 1 {
				p, topic = &ship, topicShipped
			}
			ends = append(ends, (*p).terminate(20*time.Second))
			from := w.reader.count(topic)
			*p = w.start((*p).service, (*p).instance)
			starts = append(starts, w.firstCommit(*p, topic, from))
		}
	})
	w.check(30 * time.Second)
	t.Logf("from SIGTERM to exit: %s; from restart to the first commit: %s", spreadOf(ends), spreadOf(starts))
	if slowest := percentile(starts, 1); slowest > limit {
		t.Errorf("the first commit came %v after a restart, must be at most %v", slowest, limit)
	}
	for what, n := range w.notedRuns() {
		if n > 1 {
			t.Errorf("%q was done %d times: a graceful stop commits what was done", what, n)
		}
	}
}
