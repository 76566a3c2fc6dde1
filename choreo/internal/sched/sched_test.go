package sched

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

const panicEnv = "SCHED_TEST_PANIC"

func TestMain(m *testing.M) {
	if os.Getenv(panicEnv) != "" { // the child of TestPanicIsNotHidden
		New(1).Submit(Key{}, run(func() time.Duration { panic("boom from an item") }))
		select {}
	}
	goleak.VerifyTestMain(m)
}

// run is an item of one function.
type run func() time.Duration

func (f run) Run() time.Duration { return f() }

func key(n int) Key { return Key{Task: int32(n % 3), Name: "flow-" + strconv.Itoa(n)} }

// journal notes what happened when, in fake time.
type journal struct {
	mu    sync.Mutex
	start time.Time
	lines []string
}

func newJournal() *journal { return &journal{start: time.Now()} }

func (j *journal) note(what string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf("%v %s", time.Since(j.start), what))
}

func (j *journal) expect(t *testing.T, want ...string) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	if !slices.Equal(j.lines, want) {
		t.Errorf("happened:\n\t%s\nwant:\n\t%s", strings.Join(j.lines, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// item notes its start, takes a while, and wants to run again after each of
// the given times.
func (j *journal) item(name string, takes time.Duration, again ...time.Duration) Item {
	return run(func() time.Duration {
		j.note(name)
		time.Sleep(takes)
		if len(again) == 0 {
			return Done
		}
		d := again[0]
		again = again[1:]
		return d
	})
}

const ms = time.Millisecond

func TestBehaviour(t *testing.T) {
	a, b, c := key(1), key(2), key(3)
	for _, test := range []struct {
		name    string
		workers int
		do      func(*Scheduler, *journal)
		want    []string
	}{
		{"items of a key run in order, one at a time", 8, func(s *Scheduler, j *journal) {
			for i := range 4 {
				s.Submit(a, j.item(strconv.Itoa(i), ms))
			}
		}, []string{"0s 0", "1ms 1", "2ms 2", "3ms 3"}},
		{"tasks are separate", 8, func(s *Scheduler, j *journal) {
			s.Submit(Key{1, "x"}, j.item("task 1", ms, ms))
			time.Sleep(ms / 2)
			s.Submit(Key{2, "x"}, j.item("task 2", ms))
		}, []string{"0s task 1", "500µs task 2", "2ms task 1"}},
		{"ready keys run first come first served", 1, func(s *Scheduler, j *journal) {
			s.SubmitAll([]Work{{a, j.item("a1", ms)}, {a, j.item("a2", ms)}, {b, j.item("b1", ms)}, {c, j.item("c1", ms)}, {b, j.item("b2", ms)}})
		}, []string{"0s a1", "1ms b1", "2ms c1", "3ms a2", "4ms b2"}},
		{"a waiting item blocks its key and holds no worker", 1, func(s *Scheduler, j *journal) {
			s.SubmitAll([]Work{{a, j.item("a1", 0, 10*ms, 5*ms)}, {a, j.item("a2", 0)}, {b, j.item("b1", 2*ms)}})
		}, []string{"0s a1", "0s b1", "10ms a1", "15ms a1", "15ms a2"}},
		{"again at once lets others pass", 1, func(s *Scheduler, j *journal) {
			s.SubmitAll([]Work{{a, j.item("a1", ms, 0, 0)}, {b, j.item("b1", ms)}, {c, j.item("c1", ms)}})
		}, []string{"0s a1", "1ms b1", "2ms c1", "3ms a1", "4ms a1"}},
		{"a key whose time has come queues behind the ready ones", 1, func(s *Scheduler, j *journal) {
			s.SubmitAll([]Work{{a, j.item("a1", 0, ms)}, {b, j.item("b1", 3*ms)}, {c, j.item("c1", ms)}})
		}, []string{"0s a1", "0s b1", "3ms c1", "4ms a1"}},
		{"wake a waiting item", 1, func(s *Scheduler, j *journal) {
			s.SubmitAll([]Work{{a, j.item("a1", 0, time.Hour)}, {a, j.item("a2", 0)}})
			time.Sleep(ms)
			s.Wake(a)
		}, []string{"0s a1", "1ms a1", "1ms a2"}},
		{"the timer of a woken item is gone", 1, func(s *Scheduler, j *journal) {
			s.Submit(a, j.item("a1", 0, 10*ms, 20*ms))
			time.Sleep(ms)
			s.Wake(a)
		}, []string{"0s a1", "1ms a1", "21ms a1"}},
		{"wake an item that runs and then wants to wait", 1, func(s *Scheduler, j *journal) {
			s.Submit(a, j.item("a1", 2*ms, time.Hour, 5*ms))
			time.Sleep(ms)
			s.Wake(a)
		}, []string{"0s a1", "2ms a1", "9ms a1"}},
		{"a wake-up is not left to the next item", 1, func(s *Scheduler, j *journal) {
			s.SubmitAll([]Work{{a, j.item("a1", 2*ms)}, {a, j.item("a2", 0, 7*ms)}})
			time.Sleep(ms)
			s.Wake(a)
		}, []string{"0s a1", "2ms a2", "9ms a2"}},
		{"wake what is queued, or nothing", 1, func(s *Scheduler, j *journal) {
			s.SubmitAll([]Work{{a, j.item("a1", 2*ms)}, {b, j.item("b1", 0, 3*ms)}})
			s.Wake(b)
			s.Wake(c)
			time.Sleep(3 * ms)
			s.Wake(a)
		}, []string{"0s a1", "2ms b1", "5ms b1"}},
		{"a key that was idle starts anew", 1, func(s *Scheduler, j *journal) {
			s.Submit(a, j.item("a1", ms))
			time.Sleep(2 * ms)
			s.Submit(b, j.item("b1", ms))
			s.Submit(a, j.item("a2", ms))
		}, []string{"0s a1", "2ms b1", "3ms a2"}},
		{"close drops what is queued and what waits", 1, func(s *Scheduler, j *journal) {
			s.SubmitAll([]Work{{a, j.item("a1", 0, 3*ms)}, {b, j.item("b1", 2*ms, 0)}, {b, j.item("b2", 0)}, {c, j.item("c1", 0)}})
			time.Sleep(ms)
			s.Close()
			s.Wake(a)
			s.Submit(c, j.item("c2", 0))
			s.SubmitAll([]Work{{a, j.item("a2", 0)}})
			s.Close()
		}, []string{"0s a1", "0s b1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, j := New(test.workers), newJournal()
				test.do(s, j)
				time.Sleep(time.Minute)
				synctest.Wait()
				j.expect(t, test.want...)
				if got := s.Stats(); got != (Stats{}) {
					t.Errorf("left behind: %+v", got)
				}
				if s.keys.n != 0 || s.workers != 0 {
					t.Errorf("left behind: %d keys, %d workers", s.keys.n, s.workers)
				}
			})
		})
	}
}

// A timer that has gone off but comes late, after its queue was given to
// another key, does nothing.
func TestLateTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, j := New(1), newJournal()
		s.Submit(key(1), j.item("a", 0, 10*ms))
		synctest.Wait()
		s.mu.Lock()
		q := s.keys.get(hash(s.seed, key(1)), key(1))
		late := q.timer
		s.mu.Unlock()
		s.Wake(key(1))
		synctest.Wait()
		s.Submit(key(2), j.item("b", 0, 10*ms))
		synctest.Wait()
		if q.key != key(2) {
			t.Fatal("the queue was not reused: this test shows nothing")
		}
		s.fire(q, &late)
		time.Sleep(time.Second)
		j.expect(t, "0s a", "0s a", "0s b", "10ms b")
	})
}

func TestThroughputOfBlockingItems(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const keys, takes = 10_000, 10 * ms
		s := New(1024)
		var left atomic.Int64
		left.Store(keys)
		done := make(chan struct{})
		batch := make([]Work, keys)
		for i := range batch {
			batch[i] = Work{key(i), run(func() time.Duration {
				time.Sleep(takes)
				if left.Add(-1) == 0 {
					close(done)
				}
				return Done
			})}
		}
		start := time.Now()
		s.SubmitAll(batch)
		<-done
		took := time.Since(start)
		t.Logf("%d x serial", keys*takes/took)
		if want := 10 * takes; took != want { // 10,000 / 1024, rounded up
			t.Errorf("took %v, want %v", took, want)
		}
		synctest.Wait()
	})
}

func TestSlowKeyDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, start := New(2), time.Now()
		s.Submit(key(0), run(func() time.Duration { time.Sleep(5 * time.Second); return Done }))
		var last time.Duration
		for i := range 1000 {
			s.Submit(key(0), run(func() time.Duration { return Done }))
			s.Submit(key(1+i%10), run(func() time.Duration { time.Sleep(ms); last = time.Since(start); return Done }))
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if last != time.Second { // one worker is left for them
			t.Errorf("the others took until %v, want 1s", last)
		}
		if got := s.Stats(); got.QueuedItems != 1000 || got.Running != 1 || got.QueuedKeys != 0 {
			t.Errorf("%+v, want the slow key's 1000 items queued", got)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := s.Stats(); got != (Stats{}) {
			t.Errorf("left behind: %+v", got)
		}
	})
}

func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, j := New(2), newJournal()
		for i := range 5 {
			s.Submit(key(i), j.item("", ms, ms))
			s.Submit(key(i), j.item("", ms))
		}
		synctest.Wait()
		if got, want := s.Stats(), (Stats{Running: 2, QueuedKeys: 3, QueuedItems: 8}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		time.Sleep(ms)
		synctest.Wait()
		if got, want := s.Stats(), (Stats{Running: 2, Waiting: 2, QueuedKeys: 1, QueuedItems: 6}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := s.Stats(); got != (Stats{}) {
			t.Errorf("left behind: %+v", got)
		}
	})
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, j := New(4), newJournal()
		for i := range 3 {
			s.Submit(key(i), j.item("", time.Duration(1+i)*time.Second, 0))
		}
		synctest.Wait()
		s.Close()
		cause := errors.New("the stop limit is reached")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 1500*ms, cause)
		defer cancel()
		if err := s.Wait(ctx); !errors.Is(err, cause) || !strings.Contains(err.Error(), "2 left") {
			t.Errorf("Wait: %v, want one that says %q and 2 left", err, cause)
		}
		start := time.Now()
		if err := s.Wait(t.Context()); err != nil || time.Since(start) != 1500*ms {
			t.Errorf("Wait: %v after %v", err, time.Since(start))
		}
		if err := s.Wait(t.Context()); err != nil {
			t.Errorf("Wait again: %v", err)
		}
	})
	idle := New(1)
	idle.Close()
	if err := idle.Wait(t.Context()); err != nil {
		t.Errorf("Wait of one never used: %v", err)
	}
}

func TestPanicIsNotHidden(t *testing.T) {
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), panicEnv+"=1")
	out, err := child.CombinedOutput()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || !strings.Contains(string(out), "boom from an item") {
		t.Errorf("the process ended with %v and said %q", err, out)
	}
}

func TestDefaultLimit(t *testing.T) {
	for n, want := range map[int]int{-1: DefaultWorkers, 0: DefaultWorkers, 1: 1, 7: 7} {
		if got := New(n).limit; got != want {
			t.Errorf("New(%d) runs up to %d at once, want %d", n, got, want)
		}
	}
}

func TestBurstLeavesLittleBehind(t *testing.T) {
	s := New(1)
	gate, done := make(chan struct{}), make(chan struct{})
	s.Submit(key(-1), run(func() time.Duration { <-gate; return Done }))
	for i := range 20_000 {
		s.Submit(key(i), run(func() time.Duration { return Done }))
		s.Submit(key(0), run(func() time.Duration { return Done }))
	}
	s.Submit(key(0), run(func() time.Duration { close(done); return Done }))
	close(gate)
	<-done
	for s.Stats() != (Stats{}) {
		time.Sleep(ms)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for q := s.free.first; q != nil; q = q.next {
		if len(q.items.ring) > largestRing {
			t.Errorf("keeps a ring of %d items", len(q.items.ring))
		}
	}
	if s.free.n > mostFree || len(s.keys.buckets) > mostBuckets || s.keys.n != 0 {
		t.Errorf("keeps %d queues and %d buckets", s.free.n, len(s.keys.buckets))
	}
}

func TestAllocations(t *testing.T) {
	const size = 1000
	s := New(4)
	var left atomic.Int64
	it := &counted{&left, make(chan struct{})}
	var batch []Work
	for i := range size {
		batch = append(batch, Work{key(i), it})
	}
	if got := testing.AllocsPerRun(50, func() {
		left.Store(size)
		s.SubmitAll(batch)
		<-it.done
	}); got > 20 { // per batch: now and then a queue more than ever before is in use
		t.Errorf("%v allocations per %d items", got, size)
	}
}

// Many submitters and real time, for the race detector.
func TestConcurrentUse(t *testing.T) {
	const submitters, each, keys = 4, 2000, 50
	s := New(16)
	var all, wg sync.WaitGroup
	all.Add(submitters * each)
	var busy [submitters * keys]atomic.Bool
	var next [submitters * keys]int // guarded by the order of the key alone
	for g := range submitters {
		wg.Go(func() {
			for i := range each {
				k := g*keys + i%keys
				tries := i % 3
				s.Submit(key(k), run(func() time.Duration {
					if busy[k].Swap(true) {
						t.Errorf("two items of key %d at once", k)
					}
					defer busy[k].Store(false)
					if tries--; tries >= 0 {
						return time.Duration(i%2) * time.Microsecond
					}
					if next[k] != i/keys {
						t.Errorf("key %d: item %d runs, want %d", k, i/keys, next[k])
					}
					next[k]++
					all.Done()
					return Done
				}))
				s.Wake(key(k))
			}
		})
	}
	wg.Wait()
	all.Wait()
	s.Close()
	if err := s.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}
