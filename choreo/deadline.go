package choreo

import (
	"context"
	"fmt"
	"time"

	"github.com/choreography-go/choreography/choreo/internal/journal"
)

// Deadline waits for what is to follow an event of In in its flow: unless one of
// Unless is heard within a time, it calls Do and says Emit. It is kept in the
// service's journal, so that it fires once, whatever instance owns the flow then,
// and within a second of its time, or of the end of an outage.
//
// A flow has one deadline of a name. The first event of After sets it, further
// ones leave it as it is; an event of Unless that is heard before the first one
// has met it beforehand. Where a deadline hears an event that others of the
// service hear too, it is the first to, so that their failures do not delay it.
//
// Time counts from when the deadline hears the event of After, not from when that
// was said. It is taken by the monotonic clock, so that setting the wall clock
// changes nothing while the process runs. Over restarts it is taken by the wall
// clock: one that is ahead then makes a deadline fire by as much early; one that
// is behind the time at which the last pending one was set counts from that.
//
// An expiry is a request. Whoever does what the flow waits for decides: if it is
// done, the expiry is ignored; if not, it never is, and says its failure, on
// which others compensate. Nobody should compensate on the expiry itself.
type Deadline[In, Out any] struct {
	// Name is durable: it is part of event ids and of the journal.
	Name string
	// Formerly lists earlier names of this deadline.
	Formerly []string
	// After is what sets the deadline.
	After Trigger[In]
	// Within is how long it waits: [Fixed], or [Per] event.
	Within Within[In]
	// Unless are the events that meet it.
	Unless Events
	// Do makes what is said when nothing has met it. It is called with the event of
	// After, which [Meta] describes too, and like a step's Do at least once. An
	// error is retried until Do succeeds or the deadline is met, and other events
	// of the flow do not wait for that.
	Do func(context.Context, In) (Out, error)
	// Emit is said when Do succeeded, caused by the event of After.
	Emit Event[Out]

	// Retry bounds the waits between attempts by First and Max; its other fields
	// do not apply.
	Retry Retry
	// Timeout cancels the context of one attempt. Zero: 30 s.
	Timeout time.Duration
}

// Within is how long a [Deadline] waits. Make it with [Fixed] or [Per].
type Within[In any] struct {
	fixed time.Duration
	of    func(In) time.Duration
	is    bool // fixed
}

// Fixed is the same time for all events.
func Fixed[In any](d time.Duration) Within[In] { return Within[In]{fixed: d, is: true} }

// Per is a time that depends on the event. It must be more than 0 and at most 100
// years, or the event is a dead letter and sets no deadline; so it is if of
// panics.
func Per[In any](of func(In) time.Duration) Within[In] { return Within[In]{of: of} }

// maxWithin leaves room for sums of times, which a time.Duration ends at 292
// years.
const maxWithin = 100 * 365 * 24 * time.Hour

// deadlinePlan is a Deadline without its type parameters.
type deadlinePlan struct {
	deadline string
	formerly []string
	after    []alternativePlan
	fixed    time.Duration // 0: it depends on the event
	within   func(in any) time.Duration
	unless   []*eventDecl
	do       func(ctx context.Context, in any) (any, error)
	emit     *eventDecl
	policy   policy
}

func (d *deadlinePlan) name() string     { return d.deadline }
func (d *deadlinePlan) settings() policy { return d.policy }

func (d Deadline[In, Out]) declare(p *plan) {
	x := &deadlinePlan{
		deadline: d.Name, formerly: d.Formerly, emit: d.Emit.decl(), policy: policy{retry: d.Retry, timeout: d.Timeout},
	}
	if x.policy.timeout == 0 {
		x.policy.timeout = defaultTimeout
	}
	p.deadlines = append(p.deadlines, x)
	if d.After == nil {
		p.mistake("deadline %q: After is missing: say which event sets it", d.Name)
	} else if j, bad := d.After.joins(); j != nil || bad != "" {
		p.mistake("deadline %q: After joins events, which only a Step can; let it be set by what such a step says", d.Name)
	} else {
		x.after = plansOf(d.After.alternatives())
		if len(x.after) == 0 {
			p.mistake("deadline %q: After names no event: give AnyOf at least one", d.Name)
		}
	}
	switch w := d.Within; {
	case w.is:
		x.fixed, x.within = w.fixed, func(any) time.Duration { return w.fixed }
		if err := checkWithin(w.fixed); err != nil {
			p.mistake("deadline %q: %w", d.Name, err)
		}
	case w.of != nil:
		x.within = func(in any) time.Duration { return w.of(in.(In)) }
	default:
		p.mistake("deadline %q: Within is missing: say how long it waits, with Fixed or Per", d.Name)
	}
	if len(d.Unless) == 0 {
		p.mistake("deadline %q: Unless is empty, so nothing could meet it: say which events it waits for", d.Name)
	}
	for i, e := range d.Unless {
		if e == nil {
			p.mistake("deadline %q: Unless has no event at place %d", d.Name, i+1)
			continue
		}
		x.unless = append(x.unless, e.decl())
	}
	if d.Do == nil {
		p.mistake("deadline %q: Do is missing: give the function that makes what is said", d.Name)
	} else {
		x.do = func(ctx context.Context, in any) (any, error) { return d.Do(ctx, in.(In)) }
	}
	for i := range x.after {
		p.hear(x.after[i].event, &deadlineSet{x, &x.after[i]}, true)
	}
	for _, e := range x.unless {
		p.hear(e, &deadlineMet{x}, true)
	}
	p.declareEvent(x.emit)
}

func checkWithin(d time.Duration) error {
	switch {
	case d <= 0:
		return fmt.Errorf("Within is %v; it must be more than 0", d)
	case d > maxWithin:
		return fmt.Errorf("Within is %v; it must be at most 100 years, %v", d, maxWithin)
	}
	return nil
}

// deadlineSet sets a deadline on one of its events.
type deadlineSet struct {
	*deadlinePlan
	on *alternativePlan
}

func (s *deadlineSet) handle(r *run) verdict {
	m := r.e.metrics.step(s.deadline)
	if r.store().DeadlineStatus(r.flow, s.deadline) != 0 {
		m.duplicates.Inc()
		return done
	}
	in, err := s.on.decode(r.event.Data)
	if err != nil {
		r.deadLetter(s.deadline, reasonUndecodable, &decodeError{s.on.event.Type, err})
		return done
	}
	var within time.Duration
	if err = protect(func() { within = s.within(in) }); err == nil {
		err = checkWithin(within)
	}
	if err != nil {
		r.deadLetter(s.deadline, reasonDeadline, fmt.Errorf("set the deadline %q: %w", s.deadline, err))
		return done
	}
	o := r.in.owned
	d := journal.Deadline{
		Name: s.deadline, Status: journal.Pending, After: r.causing(true), Hops: r.event.Hops, Started: r.started(),
		// Nothing fires early for the parts of a millisecond that the journal does not keep.
		Set: o.clock.wall(r.now()).Add(time.Millisecond - 1).Truncate(time.Millisecond), Within: (within + time.Millisecond - 1).Truncate(time.Millisecond),
	}
	if !d.Started.IsZero() {
		d.Time = r.event.Time // else it would be taken for the start
	}
	d.TraceParent, d.TraceState = passOn(&r.event)
	c, err := r.store().PutDeadline(r.flow, d, r.now())
	if r.journal(s.deadline)(c, err) {
		o.deadlines.Add(c.Flow(), o.remaining(d))
	}
	return done
}

// deadlineMet notes that what a deadline waits for was heard.
type deadlineMet struct{ *deadlinePlan }

func (s *deadlineMet) handle(r *run) verdict {
	if was := r.store().DeadlineStatus(r.flow, s.deadline); was == 0 || was == journal.Pending {
		s.meet(r)
	} else {
		r.e.metrics.step(s.deadline).duplicates.Inc()
	}
	return done
}

// meet journals that a deadline does not fire.
func (d *deadlinePlan) meet(r *run) {
	r.in.owned.late.forget(r.flow, d.deadline)
	if r.journal(d.deadline)(r.store().PutDeadline(r.flow, journal.Deadline{Name: d.deadline, Status: journal.Met}, r.now())) {
		r.e.metrics.step(d.deadline).met.Inc()
	}
}

// reads decodes the event that has set a deadline, by the alternative that reads
// its type.
func (d *deadlinePlan) reads(after journal.Event) (any, error) {
	for i := range d.after {
		if d.after[i].event.Type == after.Type {
			in, err := d.after[i].decode(after.Data)
			if err != nil {
				return nil, &decodeError{after.Type, err}
			}
			return in, nil
		}
	}
	return nil, fmt.Errorf("deadline %q was set by an event of type %q, which it no longer declares; add it again with AnyOf or Upcast", d.deadline, after.Type)
}
