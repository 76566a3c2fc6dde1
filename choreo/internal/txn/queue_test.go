package txn

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A queue that is never empty does not grow: what is taken makes room.
func TestQueueTakesNoMoreMemoryThanItHolds(t *testing.T) {
	var q queue
	one := &Result{Records: []*kgo.Record{{}}}
	for range 100 {
		q.push(one)
	}
	q.take(nil, 97, 1<<20)
	for range 10_000 {
		q.push(one)
		if n := len(q.take(nil, 1, 1<<20)); n != 1 || q.len() != 3 {
			t.Fatalf("%d were taken, %d are left", n, q.len())
		}
	}
	if n := cap(q.items); n > 256 {
		t.Errorf("it has room for %d results, and never held more than 100", n)
	}
}

// Results wait for company only while others are in flight, nobody drains, and
// there are few of them.
func TestWhatWaitsForCompany(t *testing.T) {
	loud := &Result{Records: []*kgo.Record{{}}}
	for _, c := range []struct {
		name               string
		inFlight, draining int
		results            []*Result
		want               work
		waits              bool
	}{
		{"nothing", 0, 0, nil, nothing, false},
		{"one, alone", 0, 0, []*Result{loud}, transactional, false},
		{"one, beside others", 1, 0, []*Result{loud}, nothing, true},
		{"one, beside others, while somebody drains", 1, 1, []*Result{loud}, transactional, false},
		{"enough, beside others", 1, 0, []*Result{loud, loud, loud}, transactional, false},
		{"offsets alone", 0, 0, []*Result{{}}, nothing, true},
		{"offsets alone, while somebody drains", 0, 1, []*Result{{}}, offsetsAlone, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &Pipeline{cfg: Config{Gather: time.Hour, SilentAfter: time.Hour, MaxRecords: 3}, draining: c.draining}
			for _, r := range c.results {
				p.add(r)
			}
			kind, after := p.pending(c.inFlight)
			if kind != c.want || (after > 0) != c.waits {
				t.Errorf("%v after %v", kind, after)
			}
		})
	}
}
