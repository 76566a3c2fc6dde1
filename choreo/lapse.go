package choreo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/internal/journal"
	"github.com/choreography-go/choreography/choreo/internal/sched"
	"github.com/choreography-go/choreography/choreo/operator"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A deadline that is due fires as an item of the scheduler under its flow's key,
// so that it meets no event of the flow: whichever comes first finds the deadline
// pending, and changes it. What it says is a result without a source, fenced by
// the incarnation.
//
// The agenda of deadlines is another one than that of parked events, because it
// waits while as many as may be are at work: after an outage there may be a million
// at once, which must hold up neither records nor parked events.

// lapse fires the deadlines of a flow that are due.
type lapse struct {
	e    *engine
	o    *owned
	flow string
}

// Run fires all that are due. For the others the agenda has the flow once more.
func (x *lapse) Run() time.Duration {
	defer x.e.lapses.ran()
	for _, d := range x.o.store.PendingOf(x.flow) {
		if !x.o.inc.Standing() || x.e.stopping.Load() || x.o.remaining(d) > 0 {
			break
		}
		if x.o.late.due(x.flow, d.Name) {
			x.e.fire(x.o, x.flow, d)
		}
	}
	return sched.Done
}

// lapse is told by the agenda of flows that may have deadlines due.
func (e *engine) lapse(o *owned, flows []string) {
	for len(flows) > 0 {
		n := e.lapses.begin(o.ctx, len(flows))
		if n == 0 || e.stopping.Load() {
			return
		}
		work := make([]sched.Work, n)
		for i, flow := range flows[:n] {
			work[i] = sched.Work{Key: sched.Key{Task: o.partition, Name: flow}, Item: &lapse{e, o, flow}}
		}
		flows = flows[n:]
		e.sched.SubmitAll(work)
	}
}

// seeTimes moves the task's clock on to the time at which the last pending deadline
// was set, if it is behind that: it was set back since, and no deadline is further
// away than it was then.
func (o *owned) seeTimes() {
	o.store.EachPending(func(_ string, set time.Time, _ time.Duration) { o.clock.notBefore(set) })
}

// recallDeadlines puts the pending deadlines of a restored journal on the agenda.
func (o *owned) recallDeadlines() {
	o.store.EachPending(func(flow string, set time.Time, within time.Duration) {
		o.deadlines.Add(flow, time.Until(o.clock.local(set.Add(within))))
	})
}

// sweepDeadlines takes out of the agenda what is settled already, when that is most
// of what is in it: else the memory of a flow that has long ended would stay until
// its deadline.
func (o *owned) sweepDeadlines() {
	const few = 1024
	pending := 0
	for _, n := range o.store.Pending() {
		pending += n
	}
	if n := o.deadlines.Len(); n > few && n > 2*pending {
		o.deadlines.Sweep(o.store.IsPending)
	}
}

// remaining is how long it is until a deadline fires.
func (o *owned) remaining(d journal.Deadline) time.Duration {
	return time.Until(o.clock.local(d.Due()))
}

// fire makes one attempt at a deadline that is due.
func (e *engine) fire(o *owned, flow string, d journal.Deadline) { e.lapsing(o, flow, d).Run() }

// lapsing makes the run of a deadline that is due.
func (e *engine) lapsing(o *owned, flow string, d journal.Deadline) *run {
	s := &deadlineLapse{e.plan.deadlineOf(d.Name), d}
	began, attempts := o.late.attempts(flow, d.Name)
	r := &run{attempt: attempts, began: began, event: cloudevent.Event{
		Source: d.After.Source, ID: d.After.ID, Type: d.After.Type, DataContentType: d.After.ContentType, Data: d.After.Data,
		CorrelationID: flow, Hops: d.Hops, Time: d.Time, Started: d.Started, TraceParent: d.TraceParent, TraceState: d.TraceState,
	}}
	rec := &kgo.Record{Topic: s.heardOn(e, d.After.Type), Partition: o.partition, Offset: -1, Timestamp: o.clock.local(d.Due())}
	r.begin(e, o.lapsed, rec, &hearing{event: &eventDecl{}, handlers: []handler{s}, passes: true})
	o.late.note(flow, d.Name, rec.Timestamp)
	e.lapses.fires()
	return r
}

func (p *plan) deadlineOf(name string) *deadlinePlan {
	for _, d := range p.deadlines {
		if d.deadline == name {
			return d
		}
	}
	return nil // the journal knows declared ones only
}

// heardOn is the topic of an event that sets the deadline, for its spans.
func (d *deadlinePlan) heardOn(e *engine, eventType string) string {
	for _, a := range d.after {
		if a.event.Type == eventType {
			return e.names.topic(a.event.Topic)
		}
	}
	return ""
}

// deadlineLapse fires a deadline.
type deadlineLapse struct {
	*deadlinePlan
	d journal.Deadline
}

func (s *deadlineLapse) call(ctx context.Context, r *run) (err error) {
	r.out, err = s.do(ctx, r.decoded)
	return err
}

func (s *deadlineLapse) handle(r *run) verdict {
	if s.follows(r) || s.meetsHeld(r) {
		s.meet(r)
		return done
	}
	settled, err := s.settled(r)
	if !settled {
		if err = s.attempt(r); err == nil {
			s.fires(r)
		}
	}
	if err == nil {
		return done
	}
	if r.left() {
		return dropped
	}
	return s.failed(r, err)
}

// fires journals that the deadline has fired.
func (s *deadlineLapse) fires(r *run) {
	r.changes = append(r.changes, r.store().Fired(r.flow, s.deadline, r.now()))
	r.e.metrics.step(s.deadline).fired.Inc()
}

// follows reports whether what the deadline waits for is in the queue of the
// flow: it was heard, and waits for other events.
func (s *deadlineLapse) follows(r *run) bool {
	return slices.ContainsFunc(r.store().Queue(r.key), func(p journal.Parked) bool {
		if p.Alone || slices.Contains(p.Done, s.deadline) {
			return false
		}
		if r.e.isReplay(p.Record) {
			if again, err := r.e.readReplay(p.Record); err != nil || again.Step != "" && again.Step != s.deadline {
				return false
			}
		}
		view := cloudevent.ViewOf(p.Record)
		var ev cloudevent.Event
		return view.Read(&ev) == nil && slices.ContainsFunc(s.unless, func(e *eventDecl) bool { return e.Type == ev.Type })
	})
}

// attempt calls Do, and says what it makes.
func (s *deadlineLapse) attempt(r *run) (err error) {
	if err := r.refused(s.emit, s.deadline, kindExpired, 0); err != nil {
		r.attempt++
		return untilRestart(err)
	}
	if r.decoded, err = s.reads(s.d.After); err != nil {
		r.attempt++
		return err
	}
	if err := r.try(s, doingDo, s); err != nil {
		return err
	}
	_, err = r.say(s.emit, r.out, s.deadline, kindExpired, 0)
	return err
}

// failed lets the deadline be tried again, for as long as it is pending. Other
// events of the flow do not wait for that: one of them may meet it.
func (s *deadlineLapse) failed(r *run, err error) verdict {
	r.e.metrics.step(s.deadline).retries.Inc()
	v, _ := r.again(s.policy.retry, err, true)
	wait := time.Duration(v)
	o := r.in.owned
	o.late.failed(r, s.deadline, wait)
	o.deadlines.Add(r.flow, wait)
	if _, ok := errors.AsType[*Rejection](err); ok {
		err = fmt.Errorf("a deadline must not be rejected, it is taken for a failure: %w", err)
	}
	if r.told != nil {
		r.told.answer(operator.Failed, err)
		r.told = nil
	}
	r.logger(s.deadline).Error("deadline failed, will be repeated until it succeeds or is met", "attempt", r.attempt, "in", wait, "error", r.e.errorText(err))
	return dropped
}

// late are the deadlines of a task whose time has come and which have not fired
// for good: they are at work, or have failed. The attempts of those are counted
// anew by the task's next owner.
type late struct {
	mu sync.Mutex
	of map[lateKey]lateDeadline
}

type lateKey struct{ flow, deadline string }

type lateDeadline struct {
	since       time.Time // when it was due
	attempts    int       // that have failed
	began, next time.Time // the first of them, and the next one
}

// due reports whether no later attempt is to be awaited.
func (l *late) due(flow, deadline string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Until(l.of[lateKey{flow, deadline}].next) <= 0
}

// attempts is how many have failed, and when they began.
func (l *late) attempts(flow, deadline string) (began time.Time, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	x := l.of[lateKey{flow, deadline}]
	return x.began, x.attempts
}

// note counts a deadline in.
func (l *late) note(flow, deadline string, since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of == nil {
		l.of = map[lateKey]lateDeadline{}
	}
	x := l.of[lateKey{flow, deadline}]
	x.since = since
	l.of[lateKey{flow, deadline}] = x
}

// failed notes an attempt that has failed, and when the next one is due.
func (l *late) failed(r *run, deadline string, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := lateKey{r.flow, deadline}
	x := l.of[key]
	now := time.Now()
	if x.attempts == 0 {
		x.began = now
	}
	if !r.began.IsZero() {
		x.began = r.began
	}
	x.attempts, x.next = r.attempt, now.Add(wait)
	l.of[key] = x
}

// forget counts a deadline out: it has fired, or was met.
func (l *late) forget(flow, deadline string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.of, lateKey{flow, deadline})
}

// shown is how many have failed, and since when the oldest of all is due; zero:
// there is none.
func (l *late) shown() (failing int, oldest time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, x := range l.of {
		if x.attempts > 0 {
			failing++
		}
		if oldest.IsZero() || x.since.Before(oldest) {
			oldest = x.since
		}
	}
	return failing, oldest
}

// lateness is how many deadlines of the task fail, and for how long the oldest of
// all is due.
func (o *owned) lateness() (failing int, longest time.Duration) {
	failing, oldest := o.late.shown()
	longest = o.deadlines.Overdue()
	if !oldest.IsZero() {
		longest = max(longest, time.Since(oldest))
	}
	return failing, longest
}

// lapses bounds what deadlines have at work at once.
type lapses struct {
	mostQueued, mostUnsettled int

	mu        sync.Mutex
	queued    int           // items of the scheduler that have not run
	unsettled int           // runs that are not committed or dropped
	freed     chan struct{} // closed when there is room again; nil: nobody waits
}

// newLapses leaves the better part of handlers and memory to records.
func newLapses(c Config) *lapses {
	return &lapses{mostQueued: max(1, c.MaxHandlers/4), mostUnsettled: max(1, c.MaxInFlight/4)}
}

// begin waits until some flows may be handed to the scheduler, and returns how
// many, at most so many: 0 if ctx has ended.
func (l *lapses) begin(ctx context.Context, most int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if n := min(most, l.mostQueued-l.queued, l.mostUnsettled-l.unsettled); n > 0 {
			l.queued += n
			return n
		}
		if l.freed == nil {
			l.freed = make(chan struct{})
		}
		freed := l.freed
		l.mu.Unlock()
		select {
		case <-freed:
		case <-ctx.Done():
		}
		l.mu.Lock()
		if ctx.Err() != nil {
			return 0
		}
	}
}

// ran is told of each item that has run.
func (l *lapses) ran() { l.change(-1, 0) }

// fires is told of each run that is made, settled of its end.
func (l *lapses) fires()   { l.change(0, 1) }
func (l *lapses) settled() { l.change(0, -1) }

// change tells those who wait once there is a good piece of room: told of every
// single end, they would wake up for each.
func (l *lapses) change(queued, unsettled int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queued += queued
	l.unsettled += unsettled
	if l.freed != nil && l.queued < l.mostQueued-l.mostQueued/4 && l.unsettled < l.mostUnsettled-l.mostUnsettled/4 {
		close(l.freed)
		l.freed = nil
	}
}
