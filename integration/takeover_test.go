package integration

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// freezeInTransaction stops a process by SIGSTOP at a moment when it has a
// transaction open.
func (w *world) freezeInTransaction(p *process) (at time.Time) {
	w.t.Helper()
	for range 200 {
		p.signal(syscall.SIGSTOP)
		at = time.Now()
		own := w.prefix + p.service + "/" + p.instance + "/"
		if open := w.openTransactions(p.service); slices.ContainsFunc(open, func(id string) bool { return strings.HasPrefix(id, own) }) {
			return at
		}
		p.signal(syscall.SIGCONT)
		time.Sleep(7 * time.Millisecond)
	}
	w.t.Fatalf("%v was never caught in a transaction", p)
	return at
}

func TestTakeoverWithOpenTransaction(t *testing.T) {
	w := newWorld(t, anyBrokers(t))
	limit := w.session + 3*time.Second
	first, _ := w.begin()
	second := w.start("work", "work-1")
	w.awaitTasks(20*time.Second, first, second)
	var took, blocked []time.Duration
	w.feeder.during(load{rate: 400, flows: 300}, func() {
		for i := range 4 {
			time.Sleep(500 * time.Millisecond) // under load
			victim := &first
			if i%2 == 1 {
				victim = &second
			}
			at := w.freezeInTransaction(*victim)
			if i < 2 {
				(*victim).kill()
			}
			// The partition that was taken over last tells how long it took. Our
			// reader and ship, which read committed records, are blocked no longer.
			var slowest, slowestShipped time.Duration
			for partition := range int32(tasks) {
				e, ok := w.reader.first(topicDone, 0, limit+20*time.Second, func(s said) bool { return s.partition == partition && s.time.After(at) })
				if !ok {
					t.Fatalf("nothing was said on partition %d for %v after %v was stopped", partition, limit+20*time.Second, *victim)
				}
				slowest = max(slowest, e.at.Sub(at))
				if e, ok = w.reader.first(topicShipped, 0, 20*time.Second, func(s said) bool { return s.cause == e.id }); !ok {
					t.Fatalf("ship says nothing of partition %d", partition)
				}
				slowestShipped = max(slowestShipped, e.at.Sub(at))
			}
			took, blocked = append(took, slowest), append(blocked, slowestShipped)
			if i < 2 {
				*victim = w.start("work", (*victim).instance)
			} else {
				(*victim).signal(syscall.SIGCONT) // it does not know yet that it was given up
			}
			(*victim).awaitReady(20 * time.Second)
			w.awaitTasks(20*time.Second, first, second)
		}
	})
	w.check(30 * time.Second)
	t.Logf("session timeout %v; from the stop until every partition goes on: %v; until ship goes on with every partition: %v", w.session, took, blocked)
	if slowest := percentile(slices.Concat(took, blocked), 1); slowest > limit {
		t.Errorf("a takeover took %v, must be at most %v", slowest, limit)
	}
}
