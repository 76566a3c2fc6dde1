package txn

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// Fence is the lock between the gate of the pipeline and whoever ends the
// ownership of a task: the broker fences stale epochs of a group, but with the
// current one it accepts offsets of any partition, so that only we can tell
// that a partition is not ours any more. The zero value is ready and open.
//
// All methods of a Fence and its incarnations may be called by any goroutine,
// none blocks on the network except Wait.
type Fence struct {
	mu   sync.Mutex
	open map[*Incarnation]struct{}
	down error  // not nil: between CloseAll and Reopen
	mark uint64 // of the last transaction at the gate
}

// ErrClosed is what an incarnation's cause wraps when Close was given none.
var ErrClosed = errors.New("the ownership of the task has ended")

// Open begins a new ownership of a task. Between CloseAll and Reopen the
// incarnation is closed from the start, with CloseAll's cause: its offsets and
// journal must not be read before the lanes are made anew.
func (f *Fence) Open(task int32) *Incarnation {
	ctx, cancel := context.WithCancelCause(context.Background())
	i := &Incarnation{fence: f, task: task, ctx: ctx, cancel: cancel}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down != nil {
		i.closed = true
		i.down.Store(true)
		cancel(f.down)
		return i
	}
	if f.open == nil {
		f.open = make(map[*Incarnation]struct{})
	}
	f.open[i] = struct{}{}
	return i
}

// CloseAll closes every incarnation, and those that Open makes until Reopen.
// The pipeline calls it when a transaction has failed.
func (f *Fence) CloseAll(cause error) {
	if cause == nil {
		cause = ErrClosed
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = cause
	for i := range f.open {
		i.close(cause)
	}
}

// Reopen ends what CloseAll began. Incarnations that were closed stay so.
func (f *Fence) Reopen() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = nil
}

// Incarnation is one ownership of a task, from Open to Close. Every result
// carries the incarnation it was made under.
type Incarnation struct {
	fence  *Fence
	task   int32
	ctx    context.Context
	cancel context.CancelCauseFunc

	home atomic.Pointer[Source]
	down atomic.Bool // closed, for those who only ask

	// The rest is guarded by fence.mu.

	closed bool

	// holders is the number of transactions that passed the gate with results
	// of this incarnation and have not ended; idle is closed when it becomes 0
	// (nil when nobody waits); waiting is the number of calls of Wait.
	holders int
	waiting int
	idle    chan struct{}
	mark    uint64 // of the transaction that holds it last
}

// Task is the number of the owned task.
func (i *Incarnation) Task() int32 { return i.task }

// Context is done when the incarnation is closed; its cause says why.
func (i *Incarnation) Context() context.Context { return i.ctx }

// Standing reports whether the incarnation is still open. It waits for no lock:
// it is asked for every record, and the gate holds the lock for a whole batch.
func (i *Incarnation) Standing() bool { return !i.down.Load() }

// SetHome names the source whose offset is committed again with results that
// have no source of their own, which are a timer's doing: the commit is what
// makes the broker check our membership. Call it before submitting such.
func (i *Incarnation) SetHome(s *Source) {
	i.home.Store(s)
}

// Close ends the ownership: no result of it passes the gate any more. A
// transaction that passed it before goes on (see Wait). The first call's cause
// is the one that counts.
func (i *Incarnation) Close(cause error) {
	if cause == nil {
		cause = ErrClosed
	}
	i.fence.mu.Lock()
	defer i.fence.mu.Unlock()
	i.close(cause)
}

func (i *Incarnation) close(cause error) {
	if i.closed {
		return
	}
	i.closed = true
	i.down.Store(true)
	delete(i.fence.open, i)
	i.cancel(cause)
}

// Wait blocks until every transaction that holds results of the incarnation
// has ended, committed or not, and their Done was called; or until ctx is done,
// whose error it then returns. Call it after Close.
//
// A revoke callback must wait here before it returns. As long as it does, the
// group cannot give the task to anyone else, and so a transaction that was
// caught by the rebalance may still take the group's new generation: it counts
// the incarnation as ours although it is closed. Without a waiting call it does
// not, and fails.
func (i *Incarnation) Wait(ctx context.Context) error {
	f := i.fence
	f.mu.Lock()
	defer f.mu.Unlock()
	i.waiting++
	defer func() { i.waiting-- }()
	for i.holders > 0 {
		if i.idle == nil {
			i.idle = make(chan struct{})
		}
		idle := i.idle
		f.mu.Unlock()
		select {
		case <-idle:
		case <-ctx.Done():
		}
		f.mu.Lock()
		if i.holders > 0 && ctx.Err() != nil {
			return fmt.Errorf("waiting for the transactions of task %d to end: %w", i.task, context.Cause(ctx))
		}
	}
	return nil
}

// ours reports whether a transaction that holds the incarnations may still
// commit under a newer generation of the group, one that was read before the
// call: they are open, or the revoke waits.
func (f *Fence) ours(held []*Incarnation) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, i := range held {
		if i.closed && i.waiting == 0 {
			return false
		}
	}
	return true
}

// release takes note that a transaction that held the incarnations has ended.
func (f *Fence) release(held []*Incarnation) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, i := range held {
		i.holders--
		if i.holders == 0 && i.idle != nil {
			close(i.idle)
			i.idle = nil
		}
	}
}
