package txn

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// The queue keeps what is gathered in order, whatever is taken and put back,
// knows how much of it has outputs, and does not grow with what went through.
func TestWhatIsGatheredKeepsItsOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q queue
		var model, taken []*Result
		most := 0
		n := 0
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				r := &Result{Offset: int64(n), bytes: rapid.IntRange(0, 30).Draw(t, "bytes")}
				n++
				r.Records = make([]*kgo.Record, rapid.IntRange(0, 2).Draw(t, "records"))
				q.push(r)
				model = append(model, r)
				most = max(most, len(model))
			},
			"take": func(t *rapid.T) {
				records, bytes := rapid.IntRange(1, 6).Draw(t, "records"), rapid.IntRange(1, 100).Draw(t, "bytes")
				want := 0
				for r, b := records, bytes; want < len(model) && r > 0 && b > 0; want++ {
					r -= len(model[want].Records)
					b -= model[want].bytes
				}
				taken = q.take(taken[:0], records, bytes)
				if !slices.Equal(taken, model[:want]) {
					t.Fatalf("took %d of %d, want %d", len(taken), len(model), want)
				}
				model = slices.Clone(model[want:])
			},
			"put back": func(*rapid.T) {
				q.putBack(taken)
				model = append(slices.Clone(taken), model...)
				most = max(most, len(model))
				taken = nil
			},
			"": func(t *rapid.T) {
				loud := 0
				for _, r := range model {
					if len(r.Records) > 0 {
						loud++
					}
				}
				if q.len() != len(model) || q.loud != loud {
					t.Fatalf("%d results, %d with outputs, want %d and %d", q.len(), q.loud, len(model), loud)
				}
				if cap(q.items) > 4*most+8 {
					t.Fatalf("room for %d results, at most %d were in it", cap(q.items), most)
				}
			},
		})
		if got := q.takeAll(); !slices.Equal(got, model) || q.len() != 0 || q.loud != 0 {
			t.Fatalf("the last %d results: %d, then %d left", len(model), len(got), q.len())
		}
	})
}

// A queue that is never empty still reuses its memory.
func TestWhatWentThroughIsNotKept(t *testing.T) {
	var q queue
	for range 8 {
		q.push(&Result{Records: make([]*kgo.Record, 1)})
	}
	var batch []*Result
	for range 10_000 {
		q.push(&Result{Records: make([]*kgo.Record, 1)})
		batch = q.take(batch[:0], 1, 1)
	}
	if q.len() != 8 || cap(q.items) > 64 {
		t.Fatalf("%d results take room for %d", q.len(), cap(q.items))
	}
}

// Done tells of results in the order in which they were submitted, within a
// transaction and over several.
func TestResultsAreToldInOrder(t *testing.T) {
	r := newRig(t, rigConfig{})
	inc, src := r.fence.Open(0), r.source(0, 40)
	var mu sync.Mutex
	var order []int64
	done := make(chan struct{}, 40)
	for first := int64(0); first < 40; first += 10 {
		var together []*Result
		for o := first; o < first+10; o++ {
			res, _ := result(inc, src, o, fmt.Sprint(o))
			res.Done = DoneFunc(func(bool) {
				mu.Lock()
				order = append(order, o)
				mu.Unlock()
				done <- struct{}{}
			})
			together = append(together, res)
		}
		r.pipe.SubmitAll(together)
	}
	for range 40 {
		receive(t, done, "Done")
	}
	if !slices.IsSorted(order) {
		t.Errorf("told in the order %v", order)
	}
}

// An output that comes while a silent commit waits for its turn is not taken for
// one of the silent offsets: it is produced, before what comes later.
func TestAnOutputThatComesWhileASilentCommitWaitsIsProduced(t *testing.T) {
	r := newRig(t, rigConfig{change: func(c *Config) { c.SilentAfter = time.Millisecond }})
	inc, src := r.fence.Open(0), r.source(0, 10)
	held, release := make(chan call, 1), make(chan struct{})
	r.intercept(once(kEnd, 1, r.hold(held, release)))
	first := r.submit(inc, src, 0, "0")
	receive(t, held, "the end of the first transaction")
	silent := r.submit(inc, src, 1)
	// The lane that commits it has left the wait for something to do: a signal stays.
	waitFor(t, "the silent commit to wait for its turn", func() bool {
		r.pipe.signal()
		time.Sleep(2 * time.Millisecond)
		return len(r.pipe.wake) == 1
	})
	loud := r.submit(inc, src, 2, "2")
	close(release)
	for _, d := range []told{first, silent, loud, r.submit(inc, src, 3, "3")} {
		d.is(t, true)
	}
	equal(t, "outputs", r.values("out"), []string{"0", "2", "3"})
	r.hasCommitted(0, 4)
}

// While a silent commit is under way no transaction sends its offsets, for those
// of the silent commit could be appended after them.
func TestNoOffsetsAreSentBesideASilentCommit(t *testing.T) {
	r := newRig(t, rigConfig{change: func(c *Config) { c.SilentAfter = time.Millisecond }})
	inc, src := r.fence.Open(0), r.source(0, 10)
	held, release := make(chan call, 1), make(chan struct{})
	r.intercept(silently(once(kTxnCommit, 1, r.hold(held, release))))
	silent := r.submit(inc, src, 0)
	receive(t, held, "the silent commit")
	loud := r.submit(inc, src, 1, "1")
	stays(t, "its offsets wait", func() bool { return r.pipe.gatheredNow() == 1 && len(r.calls(kTxnCommit)) == 1 })
	close(release)
	silent.is(t, true)
	loud.is(t, true)
	r.hasCommitted(0, 2)
}
