package choreo

import (
	"container/list"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/choreography-go/choreography/choreo/internal/sched"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/prometheus/client_golang/prometheus"
)

// A door is what the attempts of a step or reaction pass that has a Breaker or
// MaxConcurrent. Who is not let in waits in its line, by the key of its flow, and
// holds no worker: as a parked event if the provider is away, and else in the
// scheduler, as if for another attempt. Nothing asks again and again: whoever
// leaves calls the next ones. A place at the door is promised to who was called,
// so that those who come meanwhile do not take it; and one who does not come, or
// has no more need of it, gives the promise back.
type door struct {
	step          string
	maxConcurrent int // 0: no limit
	answered      func(error) bool
	log           *slog.Logger
	stopping      *atomic.Bool

	opened, open, full prometheus.Counter

	// What is asked for every record that is read.
	away     atomic.Bool  // the breaker is not closed
	inMemory atomic.Int64 // of the waiters, those that are not parked

	mu      sync.Mutex
	circuit *circuit // nil: there is no breaker
	timer   *time.Timer
	within  int                                        // attempts under way
	called  int                                        // waiters that were called and have not come yet
	waiting map[sched.Key]*waiter                      // all of them
	line    list.List                                  // those that were not called, of *waiter
	summon  func(key sched.Key, o *owned, parked bool) // lets one that was called come
}

// waiter is a key of which an event waits at a door.
type waiter struct {
	o      *owned
	since  time.Time
	place  *list.Element // nil: it was called
	parked bool          // else it is an item of the scheduler that waits
}

// passage is an attempt on the inner side of a door.
type passage struct {
	began   time.Time
	round   uint64
	probe   *time.Timer // nil: it is no probe; else it is overdue when this fires
	settled bool        // what came of it is known to the breaker
}

// awaiting is the error of an attempt that waits at its step's door, and is not
// counted.
type awaiting struct {
	door  *door
	cause error
	soon  bool // it waits for room
	tried bool // it was made, and has failed with cause
}

var (
	errAway = errors.New("its breaker is not closed: no attempt is made until the provider answers")
	errFull = errors.New("as many attempts as MaxConcurrent allows are under way")
)

func (a *awaiting) Error() string { return a.cause.Error() }

// forget gives on what was promised to a key.
func (d *door) forget(key sched.Key) {
	d.mu.Lock()
	w := d.waiting[key]
	if w == nil || w.place != nil {
		d.mu.Unlock()
		return
	}
	d.remove(key, w)
	d.unlockAndCall()
}

// enter begins an attempt; timeout is how long it may take. Or else it puts the
// run into the line, and the attempt is to be made when the run is called.
func (d *door) enter(r *run, timeout time.Duration) (*passage, error) {
	key := r.schedKey()
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.waiting[key]
	promised := d.called
	if w != nil && w.place == nil {
		promised-- // to this one
	}
	full := d.maxConcurrent > 0 && d.within+promised >= d.maxConcurrent
	if full || d.circuit != nil && !d.circuit.lets(promised) {
		d.await(r, key, w)
		if d.away.Load() {
			if w == nil {
				d.open.Inc()
			}
			return nil, &awaiting{door: d, cause: errAway}
		}
		if w == nil {
			d.full.Inc()
		}
		return nil, &awaiting{door: d, cause: errFull, soon: true}
	}
	if w != nil {
		if !r.began.IsZero() {
			r.began = r.began.Add(time.Since(w.since)) // Retry.Over is for attempts
		}
		d.remove(key, w)
	}
	d.within++
	p := &passage{began: time.Now()}
	if c := d.circuit; c != nil {
		p.round = c.round
		if c.State() == circuitbreaker.HalfOpenState {
			c.probing++
			p.probe = time.AfterFunc(timeout, func() { d.overdue(p) })
		}
	}
	return p, nil
}

// await puts a run into the line; one that was called and has to wait on, at its
// head.
func (d *door) await(r *run, key sched.Key, w *waiter) {
	switch {
	case w == nil:
		w = &waiter{since: time.Now()}
		key.Name = strings.Clone(key.Name) // not the text of all attributes, of which the key is a part
		d.waiting[key] = w
		w.place = d.line.PushBack(key)
		d.inMemory.Add(1)
	case w.place == nil:
		d.called--
		w.place = d.line.PushFront(key)
	}
	w.o = r.in.owned
	d.setParked(w, r.resumed())
}

func (d *door) setParked(w *waiter, parked bool) {
	if w.parked == parked {
		return
	}
	if w.parked = parked; parked {
		d.inMemory.Add(-1)
	} else {
		d.inMemory.Add(1)
	}
}

// park tells that the event of a key in the line is parked now.
func (d *door) park(key sched.Key) {
	d.mu.Lock()
	w := d.waiting[key]
	if w == nil {
		d.mu.Unlock()
		return
	}
	d.setParked(w, true)
	called, o := w.place == nil, w.o
	d.mu.Unlock()
	if called { // as what it was before
		d.summon(key, o, true)
	}
}

// leftTask takes all of a task that is no longer owned out of the line.
func (d *door) leftTask(o *owned) {
	d.mu.Lock()
	for key, w := range d.waiting {
		if w.o == o {
			d.remove(key, w)
		}
	}
	d.unlockAndCall()
}

func (d *door) remove(key sched.Key, w *waiter) {
	delete(d.waiting, key)
	d.setParked(w, true)
	if w.place != nil {
		d.line.Remove(w.place)
	} else {
		d.called--
	}
}

// leave ends an attempt that came to err. If it is not to be counted the error is
// an [*awaiting], and the run is in the line again. Of an attempt whose task was
// lost, and of one that came to no call, it is not known what the provider would
// have said.
func (d *door) leave(r *run, p *passage, err error) error {
	answered := err == nil || d.answered(err)
	_, undecodable := errors.AsType[*decodeError](err)
	abandoned := !answered && r.left() || undecodable
	d.mu.Lock()
	d.within--
	uncounted := false
	if c := d.circuit; c != nil {
		if p.probe != nil {
			p.probe.Stop()
		}
		d.record(p, answered, abandoned)
		uncounted = !answered && !abandoned && (p.probe != nil || c.round != p.round)
	}
	if uncounted {
		r.attempt--
		r.began = r.began.Add(time.Since(p.began)) // see enter
		d.await(r, r.schedKey(), nil)
		err = &awaiting{door: d, cause: err, tried: true}
	}
	d.unlockAndCall()
	return err
}

// record tells the breaker what an attempt has come to, once, and unless it has
// changed its state since.
func (d *door) record(p *passage, answered, abandoned bool) {
	c := d.circuit
	if p.settled || c.round != p.round {
		return
	}
	p.settled = true
	if p.probe != nil {
		c.probing--
	}
	before := c.State()
	switch {
	case abandoned:
	case answered:
		c.RecordSuccess()
	default:
		c.RecordFailure()
	}
	d.changed(before)
}

// overdue takes a probe for failed that has not returned in time. It may ignore
// its context for ever, and the breaker must not stay half-open for it.
func (d *door) overdue(p *passage) {
	d.mu.Lock()
	d.record(p, false, false)
	d.unlockAndCall()
}

// changed goes on from a change of the breaker's state.
func (d *door) changed(before circuitbreaker.State) {
	c := d.circuit
	state := c.State()
	if state == before {
		return
	}
	d.away.Store(state != circuitbreaker.ClosedState)
	switch state {
	case circuitbreaker.OpenState:
		d.opened.Inc()
		d.stayOpen()
		if before == circuitbreaker.ClosedState {
			d.log.Warn("the breaker has opened: no attempt is made until the provider answers", "next", c.RemainingDelay())
		}
	case circuitbreaker.ClosedState:
		d.log.Info("the breaker is closed again", "waiting", len(d.waiting))
	}
}

func (d *door) stayOpen() { d.timer = time.AfterFunc(d.circuit.RemainingDelay(), d.halfOpen) }

// halfOpen lets probes in when the time of being open is over.
func (d *door) halfOpen() {
	d.mu.Lock()
	if d.circuit.RemainingDelay() > 0 {
		d.stayOpen()
	} else if d.circuit.IsOpen() {
		d.circuit.HalfOpen()
	}
	d.unlockAndCall()
}

// distrust lets the first attempts of a process be probes: events were parked when
// it began, and the provider may be away still.
func (d *door) distrust() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.circuit; c != nil && c.round == 0 && c.Metrics().Executions() == 0 && d.within == 0 {
		c.HalfOpen()
		d.away.Store(true)
	}
}

// unlockAndCall calls those for whom there is room now. After an outage many
// wait: each attempt that ends calls two, so that they come ever faster and the
// other flows are not held up.
func (d *door) unlockAndCall() {
	const most = 2
	type call struct {
		key    sched.Key
		o      *owned
		parked bool
	}
	var calls [most]call
	n := 0
	for n < most && d.mayCall() {
		place := d.line.Front()
		key := d.line.Remove(place).(sched.Key)
		w := d.waiting[key]
		if w.place = nil; !w.o.inc.Standing() {
			d.called++
			d.remove(key, w)
			continue
		}
		d.called++
		calls[n] = call{key, w.o, w.parked}
		n++
	}
	d.mu.Unlock()
	for _, c := range calls[:n] {
		d.summon(c.key, c.o, c.parked)
	}
}

func (d *door) mayCall() bool {
	return d.line.Len() > 0 && !d.stopping.Load() &&
		(d.maxConcurrent == 0 || d.within+d.called < d.maxConcurrent) && (d.circuit == nil || d.circuit.lets(d.called))
}

// close ends what the door has started.
func (d *door) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
}

// doorStatus is what people and metrics are told of a door.
type doorStatus struct {
	Step       string `json:"step"`
	Breaker    string `json:"breaker,omitempty"` // its state, if there is one
	Concurrent int    `json:"concurrent"`        // attempts under way
	Waiting    int    `json:"waiting"`           // flows
}

// breakerStates are all in which a breaker may be.
var breakerStates = []string{circuitbreaker.ClosedState.String(), circuitbreaker.HalfOpenState.String(), circuitbreaker.OpenState.String()}

func (d *door) status() doorStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := doorStatus{Step: d.step, Concurrent: d.within, Waiting: len(d.waiting)}
	if d.circuit != nil {
		s.Breaker = d.circuit.State().String()
	}
	return s
}
