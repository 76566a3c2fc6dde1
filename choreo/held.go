package choreo

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/choreography-go/choreography/choreo/internal/journal"
)

// An event that finds no room in the queue of its key is held: it waits in memory,
// behind those of its key that are held already, and keeps its room and its offset
// unfinished. It does not wait in the scheduler, where it would block its key for
// commands, deadlines, and compensations that overtake. As soon as there is room
// it is queued, or worked on if nothing is queued any more.
//
// Like a queue, the held events of a key are touched by items of the scheduler
// under that key alone. Whoever works the queue off looks after them, and so does
// the agenda from time to time: another key may have made room in the task. With
// the ownership all of them end; the task's next owner reads them again.
type heldEvents struct {
	mu     sync.Mutex
	keys   map[string]*heldKey
	closed bool
}

// heldKey is what is held of one key, in order.
type heldKey struct {
	name string // its own copy
	runs []*run
	look time.Time // when the agenda has the key
}

// lookInterval is how long room that another key has made may be left unused.
const lookInterval = time.Second

// add holds an event behind the others of its key. It returns false if nothing is
// held any more.
func (x *heldEvents) add(r *run) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return false
	}
	k := x.keys[r.key]
	if k == nil {
		if x.keys == nil {
			x.keys = map[string]*heldKey{}
		}
		k = &heldKey{name: strings.Clone(r.key)}
		x.keys[k.name] = k
	}
	k.runs = append(k.runs, r)
	return true
}

// of are the events that are held of a key.
func (x *heldEvents) of(key string) []*run {
	x.mu.Lock()
	defer x.mu.Unlock()
	if k := x.keys[key]; k != nil {
		return slices.Clone(k.runs)
	}
	return nil
}

// first is the first event that is held of a key, nil if there is none.
func (x *heldEvents) first(key string) *run {
	x.mu.Lock()
	defer x.mu.Unlock()
	if k := x.keys[key]; k != nil {
		return k.runs[0]
	}
	return nil
}

// take takes an event out, for the caller to see to. It returns false if it was
// dropped meanwhile.
func (x *heldEvents) take(r *run) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	k := x.keys[r.key]
	if k == nil {
		return false
	}
	i := slices.Index(k.runs, r)
	if i < 0 {
		return false
	}
	if len(k.runs) == 1 {
		delete(x.keys, r.key)
	} else if i == 0 {
		k.runs[0] = nil
		k.runs = k.runs[1:] // there may be many
	} else {
		k.runs = slices.Delete(k.runs, i, i+1)
	}
	return true
}

// mustLook reports whether a key is to be put on the agenda, with its own name:
// events of it are held, and the agenda does not have it.
func (x *heldEvents) mustLook(key string) (name string, must bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	k := x.keys[key]
	if k == nil || time.Until(k.look) > 0 {
		return "", false
	}
	k.look = time.Now().Add(lookInterval)
	return k.name, true
}

// close drops all. Nothing is held from then on.
func (x *heldEvents) close() {
	x.mu.Lock()
	all := x.keys
	x.closed, x.keys = true, nil
	x.mu.Unlock()
	for _, k := range all {
		for _, r := range k.runs {
			r.drop()
		}
	}
}

// holds reports whether events of a key are held. Nearly always none of the task
// is, and nothing is asked but a counter.
func (o *owned) holds(key string) bool { return o.held.Load() > 0 && o.overflow.first(key) != nil }

// waitHeld keeps the event in memory, behind those of its key that are held.
func (r *run) waitHeld() {
	r.hold()
	if !r.in.owned.overflow.add(r) {
		r.drop()
		return
	}
	r.e.lookAgain(r.in.owned, r.key)
}

func (e *engine) lookAgain(o *owned, key string) {
	if name, must := o.overflow.mustLook(key); must {
		o.agenda.Add(name, lookInterval)
	}
}

// refill queues what is held of a key, as far as there is room. With nothing in the
// queue the first is to be worked on, see [engine.resume].
func (e *engine) refill(o *owned, key string) {
	if !o.holds(key) {
		return
	}
	for o.store.Waiting(key) > 0 && e.mayPark(o, key, e.cfg.MaxParkedPerTask) {
		r := o.overflow.first(key)
		if r == nil {
			return
		}
		if r.enqueue(r.whole()) != nil {
			break // it waits until it is the next
		}
		if !o.overflow.take(r) {
			return // the ownership has ended
		}
		r.putOff()
	}
	e.lookAgain(o, key)
}

// whole is the event as it goes into a queue: all that is left to do on it.
func (r *run) whole() journal.Parked {
	p := journal.Parked{Record: r.rec}
	if r.place != nil {
		p.Done = r.place.done
	}
	return p
}

// takeHeld is the first event that is held of a key, to be worked on; nil if there
// is none. Nothing may be queued before it.
func (o *owned) takeHeld(key string) *run {
	if !o.holds(key) {
		return nil
	}
	r := o.overflow.first(key)
	if r == nil || !o.overflow.take(r) {
		return nil
	}
	if r.place == nil {
		r.place = &place{} // it need not queue
	}
	return r
}

// promoteHeld is a compensation that is held, to go before the attempts of its
// step; nil if there is none.
func (e *engine) promoteHeld(o *owned, key string) *run {
	if !o.holds(key) {
		return nil
	}
	for _, r := range o.overflow.of(key) {
		h := r.overtaking()
		switch {
		case h == nil:
		case r.onlyFor(h):
			if o.overflow.take(r) {
				r.place = &place{alone: true}
				return r
			}
		default:
			if ahead := r.split(h); ahead != nil {
				return ahead
			}
		}
	}
	return nil
}

// onlyFor reports whether nothing but one handler's work is left to do on the event.
func (r *run) onlyFor(h handler) bool {
	return r.replay != nil || len(r.hears.handlers) == 1 && r.hears.handlers[0].name() == h.name()
}

// split takes one handler's work out of an event that waits on for its other
// handlers, and puts it before the queue: a run without a source, since the event's
// offset is not finished with it. If the event is read again, its step is cancelled
// already, or it finds this in the queue. It is nil if that cannot be journalled.
func (r *run) split(h handler) *run {
	o, now := r.in.owned, time.Now()
	p := journal.Parked{At: h.name(), Alone: true, Record: r.rec}
	c, err := o.store.Park(r.key, p, now)
	if err != nil {
		return nil
	}
	p.Seq = c.Seq()
	ahead := r.e.resumed(o, r.key, p, journal.Retry{})
	ahead.at, ahead.changes = now, append(ahead.changes, c)
	if r.place == nil {
		r.place = &place{}
	}
	r.place.done = append(r.place.done, h.name())
	r.hears = &hearing{event: r.hears.event, stateful: r.hears.stateful, handlers: slices.DeleteFunc(slices.Clone(r.hears.handlers), func(x handler) bool {
		return x.name() == h.name()
	})}
	return ahead
}

// meetsHeld reports whether an event that meets the deadline is held.
func (s *deadlinePlan) meetsHeld(r *run) bool {
	o := r.in.owned
	if !o.holds(r.key) {
		return false
	}
	return slices.ContainsFunc(o.overflow.of(r.key), func(x *run) bool {
		return slices.ContainsFunc(x.hears.handlers, func(h handler) bool {
			m, is := h.(*deadlineMet)
			return is && m.deadline == s.deadline
		})
	})
}
