package task

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// tenure is one ownership of a task, from the claim to the end. The state below
// mu is read by Status while one goroutine, open's, drives it.
type tenure struct {
	num    int32
	ctx    context.Context // done when the ownership is over
	cancel context.CancelFunc
	opened chan struct{} // closed when the opening goroutine has returned
	ended  chan struct{} // closed when nothing of it is left
	ending atomic.Bool   // end has begun

	mu    sync.Mutex
	inc   Incarnation // nil before the claim
	task  *Task       // nil before Opened
	phase Phase
	since time.Time
	err   error

	restoreBegan time.Time
	restoreTook  time.Duration
	records      int64
}

// enter notes the phase.
func (t *tenure) enter(p Phase, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.phase != p {
		t.phase, t.since = p, time.Now()
	}
	t.err = err
}

// close ends the incarnation at once: nothing of it enters a transaction any
// more. The rest of the end may take longer.
func (t *tenure) close(cause error) {
	t.cancel()
	t.mu.Lock()
	inc := t.inc
	t.mu.Unlock()
	if inc != nil {
		inc.Close(cause)
	}
}

// claim begins the incarnation, unless the tenure has ended meanwhile.
func (t *tenure) claim(e Engine) (Incarnation, error) {
	inc := e.Claim(t.num)
	t.mu.Lock()
	t.inc = inc
	t.mu.Unlock()
	if err := t.ctx.Err(); err != nil { // close may have come before inc was set
		inc.Close(err)
		return nil, err
	}
	context.AfterFunc(inc.Context(), t.cancel) // the pipeline closes it, too
	return inc, nil
}

// assign begins a tenure for each partition number and opens them.
func (o *Owner) assign(nums []int32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.joined = true
	for num := range o.kept {
		o.assigned[num] = true
		if !o.down && !o.closing {
			o.begin(num, nil)
		}
	}
	clear(o.kept)
	for _, num := range nums {
		o.assigned[num] = true
		if o.down || o.closing {
			continue
		}
		if last := o.tenures[num]; last != nil { // cannot be: it was revoked or lost before
			continue
		}
		o.begin(num, nil)
	}
}

// begin replaces the tenure of a partition number, of which the last one, if
// any, is ending or ended. why is kept as the state of a task that is tried
// anew after it was stopped. o.mu is held.
func (o *Owner) begin(num int32, why error) {
	last := o.tenures[num]
	ctx, cancel := context.WithCancel(o.ctx)
	t := &tenure{
		num: num, ctx: ctx, cancel: cancel, since: time.Now(),
		opened: make(chan struct{}), ended: make(chan struct{}),
	}
	if why != nil {
		t.phase, t.err = Stopped, why
		if last != nil {
			last.mu.Lock()
			t.since = last.since
			last.mu.Unlock()
		}
	}
	o.tenures[num] = t
	go func() {
		defer close(t.opened)
		if last != nil {
			<-last.ended
			if last.wait(ctx) != nil { // this one has ended, too
				return
			}
		}
		o.open(t)
	}()
}

// Why incarnations are closed.
var (
	errRevoked = errors.New("the group gives the task to another member")
	errLost    = errors.New("the group session ended")
	errClosed  = errors.New("the service stops")
)

// end ends a tenure: its incarnation is closed, nothing of it is delivered any
// more, and the engine has dropped it. Only the first call does it; the others
// wait for it, and not in a sync.Once: who waits for a mutex holds simulated time
// up.
func (o *Owner) end(t *tenure, cause error) {
	t.close(cause)
	if !t.ending.CompareAndSwap(false, true) {
		<-t.ended
		return
	}
	defer close(t.ended)
	<-t.opened
	t.mu.Lock()
	task := t.task
	t.mu.Unlock()
	if task != nil {
		o.reader.Load().remove(task)
		o.cfg.Engine.Closed(task)
	}
}

// wait waits until no transaction holds results of a tenure that is closed. Until
// then neither offsets nor journal can be read by us: what is on its way to the
// broker shows in none of them, and the broker accepts it, since the generation
// and the producer are still the same.
func (t *tenure) wait(ctx context.Context) error {
	t.mu.Lock()
	inc := t.inc
	t.mu.Unlock()
	if inc == nil {
		return nil
	}
	return inc.Wait(ctx)
}

// settle waits before the group gives a task away. It follows the close at once:
// for as long as it waits the group cannot do so, and the pipeline may rely on
// that.
func (o *Owner) settle(ctx context.Context, t *tenure) {
	if err := t.wait(ctx); err != nil {
		o.log.Warn("a task is given up while a transaction still holds results of it: the next owner waits for its end", "task", t.num, "error", err)
	}
}

// take makes partition numbers unassigned and returns their tenures, to be ended
// and forgotten.
func (o *Owner) take(nums []int32) []*tenure {
	o.mu.Lock()
	defer o.mu.Unlock()
	var list []*tenure
	for _, num := range nums {
		delete(o.assigned, num)
		delete(o.kept, num)
		if t := o.tenures[num]; t != nil {
			list = append(list, t)
		}
	}
	return list
}

// forget drops tenures that have ended.
func (o *Owner) forget(list []*tenure) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, t := range list {
		if o.tenures[t.num] == t {
			delete(o.tenures, t.num)
		}
	}
}

// settleAll closes tenures and waits for the transactions that hold them, side
// by side.
func (o *Owner) settleAll(ctx context.Context, list []*tenure, cause error) {
	var wg sync.WaitGroup
	for _, t := range list {
		wg.Go(func() {
			t.close(cause)
			o.settle(ctx, t)
		})
	}
	wg.Wait()
}

// endAll ends tenures side by side.
func (o *Owner) endAll(list []*tenure, cause error) {
	var wg sync.WaitGroup
	for _, t := range list {
		wg.Go(func() { o.end(t, cause) })
	}
	wg.Wait()
}

// stop ends a tenure and leaves its task stopped with an error, until the
// watch tries it again.
func (o *Owner) stop(t *tenure, err error) {
	t.mu.Lock()
	news := t.phase != Stopped || t.err == nil || t.err.Error() != err.Error()
	t.mu.Unlock()
	t.close(err)
	t.enter(Stopped, err)
	if news {
		o.log.Error("task stopped: its events are not processed until this is decided", "task", t.num, "error", err)
	}
}

// reopen ends a tenure whose reading failed and opens the task anew: the
// opening finds out whether the failure stops the task.
func (o *Owner) reopen(task *Task, cause error) {
	o.mu.Lock()
	t := o.tenures[task.Partition]
	if t == nil || t.ctx.Err() != nil || o.closing || !t.is(task) {
		o.mu.Unlock()
		return
	}
	o.background.Add(1)
	o.mu.Unlock()
	o.log.Warn("reading failed: the task is opened anew", "task", task.Partition, "error", cause)
	t.close(cause)
	go func() {
		defer o.background.Done()
		o.end(t, cause)
		if pause(o.ctx, reopenPause) != nil {
			return
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.tenures[t.num] == t && o.assigned[t.num] && !o.down && !o.closing {
			o.begin(t.num, nil)
		}
	}()
}

func (t *tenure) is(task *Task) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.task == task
}

// reopenPause keeps a reading that fails at once from turning in a circle.
const reopenPause = 250 * time.Millisecond
