// Package sched runs items concurrently and in the order of their keys: the
// items of one key one after the other as submitted, those of different keys
// side by side, at most a given number at once.
//
// It owns the queues, the workers and the timers of repeated items. It knows
// nothing of Kafka, of handlers or of ownership: one Scheduler lives as long as
// the process, and an item that has lost its purpose says so by returning Done
// at once. That way an item of a new incarnation of a task waits behind a
// handler of the old one that still runs: never two at once for a key.
package sched

import (
	"context"
	"fmt"
	"hash/maphash"
	"sync"
	"time"
)

// Done is what Item.Run returns when the item is finished.
const Done time.Duration = -1

// DefaultWorkers is the limit that New takes for a number below 1.
const DefaultWorkers = 1024

// chunk is how many items SubmitAll adds under one lock: more would make the
// workers wait.
const chunk = 64

// What a burst leaves behind for reuse is bounded, since a Scheduler lives as
// long as the process.
const (
	mostFree    = 4096 // queues
	largestRing = 64   // items of one of them
	mostBuckets = 4096 // of the empty table
)

// Key names what must run one after the other.
type Key struct {
	Task int32  // partition number
	Name string // correlation id
}

// Item is a piece of work.
type Item interface {
	// Run does the work, for as long as it takes. A negative result, Done,
	// finishes the item; otherwise the same item runs again after that time, and
	// until then its key is blocked but no worker is held. Run must return: a
	// panic is not recovered here and ends the process, so an item that must
	// survive one recovers it itself; runtime.Goexit would block the key for ever.
	Run() (again time.Duration)
}

// Work is an item with its key.
type Work struct {
	Key  Key
	Item Item
}

// Stats is how much there is to do, at one moment.
type Stats struct {
	Running     int // items that run
	Waiting     int // items that run again later, each blocking its key
	QueuedKeys  int // keys that could run but for the limit
	QueuedItems int // items that have not begun
}

// Scheduler runs items. All methods are safe for concurrent use. Make one with
// New.
type Scheduler struct {
	limit int
	spawn func()        // the body of a worker, kept to start one without allocating
	idle  chan struct{} // closed when closed and no worker is left
	seed  maphash.Seed

	mu      sync.Mutex
	keys    table
	ready   list // keys with an item to run, first come first served
	free    list // queues of no key, for reuse
	workers int  // goroutines, the starting one included
	waking  bool // one of them is starting and will look at ready
	closed  bool
	stats   Stats // QueuedKeys lives in ready
}

// New makes a scheduler that runs at most workers items at once.
func New(workers int) *Scheduler {
	if workers < 1 {
		workers = DefaultWorkers
	}
	s := &Scheduler{limit: workers, idle: make(chan struct{}), seed: maphash.MakeSeed()}
	s.spawn = s.work
	return s
}

// Submit queues an item behind those of its key. It never blocks: bounding
// what is in flight is up to the caller. After Close it does nothing.
func (s *Scheduler) Submit(key Key, it Item) {
	h := hash(s.seed, key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.submit(h, key, it)
	s.wake()
}

// SubmitAll is Submit for each in turn, cheaper.
func (s *Scheduler) SubmitAll(batch []Work) {
	var hashes [chunk]uint64
	for len(batch) > 0 {
		part := batch[:min(chunk, len(batch))]
		batch = batch[len(part):]
		for i := range part {
			hashes[i] = hash(s.seed, part[i].Key)
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return
		}
		for i := range part {
			s.submit(hashes[i], part[i].Key, part[i].Item)
		}
		s.wake()
		s.mu.Unlock()
	}
}

func (s *Scheduler) submit(hash uint64, key Key, it Item) {
	q := s.keys.get(hash, key)
	if q == nil {
		if q = s.free.pop(); q == nil {
			q = new(queue)
		}
		q.key, q.hash = key, hash
		s.keys.put(q)
		s.ready.push(q)
	}
	q.items.push(it)
	s.stats.QueuedItems++
}

// Wake makes an item of the key that waits to run again do so now. If it runs
// just now and then asks to wait, it runs again at once: a wake-up is never
// lost to that race. Otherwise Wake does nothing.
func (s *Scheduler) Wake(key Key) {
	h := hash(s.seed, key)
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.keys.get(h, key)
	switch {
	case q == nil:
	case q.timer != nil:
		s.resume(q)
	case q.running:
		q.woken = true
	}
}

// Close lets no further item start, and drops all that are queued or wait. The
// running ones go on: see Wait. Closing again does nothing.
func (s *Scheduler) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	s.keys.all(func(q *queue) {
		if q.timer != nil {
			q.timer.Stop()
			q.timer = nil
		}
	})
	s.keys, s.ready, s.free = table{}, list{}, list{}
	s.stats = Stats{Running: s.stats.Running}
	if s.workers == 0 {
		close(s.idle)
	}
}

// Wait returns nil when, after Close, no item runs any more; or, when ctx ends
// first, an error that wraps its cause and says how many still run.
func (s *Scheduler) Wait(ctx context.Context) error {
	select {
	case <-s.idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for running items, %d left: %w", s.Stats().Running, context.Cause(ctx))
	}
}

// Stats tells how much there is to do now.
func (s *Scheduler) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.QueuedKeys = s.ready.n
	return st
}

// wake starts a worker if one is wanted. One at a time is starting: it wakes
// the next before it runs its item, so items that block bring up workers as fast
// as goroutines start, and items of a microsecond bring up hardly any.
func (s *Scheduler) wake() {
	if s.ready.n > 0 && !s.waking && s.workers < s.limit {
		s.waking = true
		s.workers++
		go s.spawn()
	}
}

// work is a worker: it runs items until none is ready.
func (s *Scheduler) work() {
	s.mu.Lock()
	s.waking = false
	for {
		q := s.ready.pop()
		if q == nil {
			break
		}
		it := q.current
		if it == nil {
			it = q.items.pop()
			q.current = it
			s.stats.QueuedItems--
		}
		q.running = true
		s.stats.Running++
		s.wake()
		s.mu.Unlock()

		again := it.Run()

		s.mu.Lock()
		s.stats.Running--
		q.running = false
		if s.closed {
			break
		}
		s.settle(q, again)
	}
	s.workers--
	if s.closed && s.workers == 0 {
		close(s.idle)
	}
	s.mu.Unlock()
}

// settle decides what comes next for the key of an item that has run.
func (s *Scheduler) settle(q *queue, again time.Duration) {
	switch {
	case again > 0 && !q.woken:
		s.stats.Waiting++
		var t *time.Timer
		t = time.AfterFunc(again, func() { s.fire(q, &t) })
		q.timer = t
	case again >= 0:
		s.ready.push(q)
	default:
		q.current = nil
		if q.items.n > 0 {
			s.ready.push(q)
		} else {
			s.keys.remove(q)
			s.release(q)
		}
	}
	q.woken = false
}

// release keeps a queue of no key for reuse, within reason.
func (s *Scheduler) release(q *queue) {
	if s.free.n == mostFree {
		return
	}
	q.key = Key{}
	if len(q.items.ring) > largestRing {
		q.items = fifo{}
	}
	s.free.push(q)
}

// fire is called by a queue's timer. The timer identifies itself, since it may
// come late: stopped, but already on its way here.
func (s *Scheduler) fire(q *queue, t **time.Timer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.timer != nil && q.timer == *t {
		s.resume(q)
	}
}

// resume ends the waiting of a queue.
func (s *Scheduler) resume(q *queue) {
	q.timer.Stop()
	q.timer = nil
	s.stats.Waiting--
	s.ready.push(q)
	s.wake()
}
