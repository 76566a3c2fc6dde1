// Package agenda tells what has become due: of any number of keys, each at its
// time.
//
// It owns the times and one timer for all of them. It knows nothing of flows or
// of the journal: what a key stands for, and whether it is still due, whoever is
// told must look up, so that nothing need ever be taken out of an agenda, and a key
// may be in it more than once. Sweep takes out many. Nothing in it is durable.
//
// Times are distances from now by the monotonic clock, which runs on evenly
// whatever becomes of the wall clock.
package agenda

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// most is how many keys are told of at once.
const most = 256

// Agenda holds keys until they are due. Make one with New. Its methods may be
// called by any goroutine.
type Agenda struct {
	due func(keys []string)

	mu     sync.Mutex
	began  time.Time // with a monotonic reading
	heap   []entry
	timer  *time.Timer
	at     time.Duration // what the timer is set to
	firing bool          // the timer has fired, and whoever runs for it has not ended
	closed bool
}

// entry is 24 bytes; the text of its key is somebody else's.
type entry struct {
	at  time.Duration // since began
	key string
}

// New makes an empty agenda. It calls due, on a goroutine of its own and never
// twice at once, with keys in the order of their times.
func New(due func(keys []string)) *Agenda { return &Agenda{due: due, began: time.Now()} }

// Add makes a key due after a time, which may have passed: of what is due, the
// longest is told of first. It does nothing after Close.
func (a *Agenda) Add(key string, in time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	a.push(entry{time.Since(a.began) + in, key})
	a.set()
}

// Close empties the agenda. A call of due may be under way and end later.
func (a *Agenda) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed, a.heap = true, nil
	if a.timer != nil {
		a.timer.Stop()
	}
}

// Len is how many keys are not due yet.
func (a *Agenda) Len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.heap)
}

// Sweep takes out the keys of which keep says false. It is for agendas with many,
// which have been settled before they were due. Nothing is told of meanwhile.
func (a *Agenda) Sweep(keep func(key string) bool) {
	a.mu.Lock()
	all := a.heap
	a.heap = nil
	a.mu.Unlock()
	var kept []entry
	for _, e := range all {
		if keep(e.key) {
			kept = append(kept, e)
		}
	}
	slices.SortFunc(kept, func(a, b entry) int { return cmp.Compare(a.at, b.at) }) // which is a heap
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	added := a.heap
	a.heap = kept
	for _, e := range added {
		a.push(e)
	}
	a.set()
}

// Overdue is for how long the first key is due that was not told of yet; 0: none is.
func (a *Agenda) Overdue() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.heap) == 0 {
		return 0
	}
	return max(0, time.Since(a.began)-a.heap[0].at)
}

// set sets the timer to the first entry, unless it is set to one as early.
func (a *Agenda) set() {
	if a.firing || len(a.heap) == 0 {
		return
	}
	first := a.heap[0].at
	switch wait := first - time.Since(a.began); {
	case a.timer == nil:
		a.timer = time.AfterFunc(wait, a.fire)
	case a.at == 0 || first < a.at:
		a.timer.Reset(wait)
	default:
		return
	}
	a.at = max(first, 1)
}

// fire tells of all that is due.
func (a *Agenda) fire() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.firing { // set anew while it was on its way here
		return
	}
	a.firing, a.at = true, 0
	for {
		var keys []string
		now := time.Since(a.began)
		for len(keys) < most && len(a.heap) > 0 && a.heap[0].at <= now {
			keys = append(keys, a.pop())
		}
		if len(keys) == 0 {
			break
		}
		a.mu.Unlock()
		a.due(keys)
		a.mu.Lock()
	}
	a.firing = false
	a.set()
}

func (a *Agenda) push(e entry) {
	a.heap = append(a.heap, e)
	h := a.heap
	i := len(h) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if h[parent].at <= e.at {
			break
		}
		h[i] = h[parent]
		i = parent
	}
	h[i] = e
}

func (a *Agenda) pop() string {
	h := a.heap
	key, last := h[0].key, h[len(h)-1]
	h[len(h)-1] = entry{}
	h = h[:len(h)-1]
	a.heap = h
	for i := 0; len(h) > 0; {
		child := 2*i + 1
		if child+1 < len(h) && h[child+1].at < h[child].at {
			child++
		}
		if child >= len(h) || last.at <= h[child].at {
			h[i] = last
			break
		}
		h[i] = h[child]
		i = child
	}
	if len(h) == 0 {
		a.heap = nil
	}
	return key
}
