package choreo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/choreography-go/choreography/choreo/internal/txn"
	"github.com/choreography-go/choreography/choreo/internal/view"
)

// state returns the committed state of a flow. The flow's owner answers from
// its memory; any other instance from its view of the journal, after it has
// read up to what was committed when it was asked.
func (e *engine) state(ctx context.Context, name, flow string) ([]byte, error) {
	p := txn.Partition([]byte(flow), e.plan.tasks)
	var data []byte
	var known bool
	var err error
	if o := e.ownedTask(p); o != nil {
		data, known = o.store.Committed(flow, name)
	} else {
		data, known, err = e.view.State(ctx, p, name, flow)
	}
	switch {
	case errors.Is(err, view.ErrClosed):
		return nil, ErrNotRunning
	case err != nil:
		return nil, err
	case !known:
		return nil, fmt.Errorf("%w: %.64q", ErrNoFlow, flow)
	}
	return data, nil
}

// awaitState calls enough with the flow's state whenever it may have changed,
// until it returns true.
func (e *engine) awaitState(ctx context.Context, name, flow string, enough func([]byte) (bool, error)) error {
	for {
		changed, forget := e.watchers.watch(flow)
		data, err := e.state(ctx, name, flow)
		ok := false
		if err == nil {
			ok, err = enough(data)
		} else if errors.Is(err, ErrNoFlow) {
			err = nil // not yet
		}
		if ok || err != nil {
			forget()
			return err
		}
		// The commit wakes us, or the view that reads of it. Should ownership
		// move in between, nobody does: look again.
		var again <-chan time.Time
		var t *time.Timer
		if e.ownedTask(txn.Partition([]byte(flow), e.plan.tasks)) == nil {
			t = time.NewTimer(viewInterval)
			again = t.C
		}
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		if t != nil {
			t.Stop()
		}
		forget()
		if err != nil {
			return err
		}
	}
}

// viewInterval is how often Await looks again for a flow that another instance
// owns, should nothing wake it.
const viewInterval = time.Second

// watchers are the goroutines that await a change of a flow's state.
type watchers struct {
	mu    sync.Mutex
	flows map[string]*watcher
}

type watcher struct {
	changed chan struct{}
	n       int
}

// watch returns a channel that is closed when the flow's state was committed
// anew. forget must be called.
func (w *watchers) watch(flow string) (changed <-chan struct{}, forget func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.flows == nil {
		w.flows = map[string]*watcher{}
	}
	x := w.flows[flow]
	if x == nil {
		x = &watcher{changed: make(chan struct{})}
		w.flows[flow] = x
	}
	x.n++
	return x.changed, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if x.n--; x.n == 0 && w.flows[flow] == x {
			delete(w.flows, flow)
		}
	}
}

func (w *watchers) wake(flow string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if x := w.flows[flow]; x != nil {
		close(x.changed)
		delete(w.flows, flow)
	}
}

func (w *watchers) wakeAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for flow, x := range w.flows {
		close(x.changed)
		delete(w.flows, flow)
	}
}
