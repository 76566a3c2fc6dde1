package choreo

import (
	"fmt"
	"slices"
	"time"

	"github.com/choreography-go/choreography/choreo/internal/journal"
)

// Both sets a step off when a and b have come in a flow, in whatever order, with
// what join makes of them; [All3] waits for three. A half may be an [Event],
// [AnyOf] several, or an [Upcast] of an older version. Only a [Step] can join.
//
// The first event of each half counts: the same one again changes nothing, and
// further ones are passed over and counted. What has come is kept in the
// service's journal until the rest comes, so that neither a crash nor another
// instance loses it; a flow that waits shows in the metrics. It is dropped like all
// that is kept of a flow: [Retention].Grace after the flow's outcome, else
// Retention.Flow after its last event.
//
// What the step says is caused by the last half, and names all of them in the
// attribute causationids; its id does not depend on their order. [Meta] describes
// the last half. A step joins once in a flow: whatever comes after it ran is passed
// over. join must be a pure function: the runs of a step are undone with what it
// makes of the same halves again.
func Both[A, B, In any](a Trigger[A], b Trigger[B], join func(A, B) In) Trigger[In] {
	j := joining[In]{halves: []half{halfOf(a), halfOf(b)}}
	if join != nil {
		j.make = func(x []any) In { return join(as[A](x[0]), as[B](x[1])) }
	}
	return j
}

// All3 sets a step off when a, b and c have come in a flow; see [Both].
func All3[A, B, C, In any](a Trigger[A], b Trigger[B], c Trigger[C], join func(A, B, C) In) Trigger[In] {
	j := joining[In]{halves: []half{halfOf(a), halfOf(b), halfOf(c)}}
	if join != nil {
		j.make = func(x []any) In { return join(as[A](x[0]), as[B](x[1]), as[C](x[2])) }
	}
	return j
}

// as is what was decoded, also if that is the nil of an interface.
func as[T any](v any) T {
	t, _ := v.(T)
	return t
}

// half is one of the events that are joined: its alternatives, and how to read them.
type half struct {
	on  []alternativePlan
	bad string // why it cannot be one
}

func halfOf[T any](t Trigger[T]) half {
	if t == nil {
		return half{bad: "is missing: say which event it is"}
	}
	if j, bad := t.joins(); j != nil || bad != "" {
		return half{bad: "is a join itself; use All3, or a step in between that says an event of its own"}
	}
	h := half{on: plansOf(t.alternatives())}
	if len(h.on) == 0 {
		h.bad = "names no event: give AnyOf at least one"
	}
	return h
}

func plansOf[T any](all []alternative[T]) (plans []alternativePlan) {
	for _, a := range all {
		plans = append(plans, alternativePlan{event: a.event, decode: func(b []byte) (any, error) { return a.read(b) }})
	}
	return plans
}

type joining[In any] struct {
	halves []half
	make   func([]any) In
}

func (joining[In]) alternatives() []alternative[In] { return nil }

func (j joining[In]) joins() (*joinPlan, string) {
	p := &joinPlan{halves: j.halves}
	if j.make != nil {
		p.make = func(x []any) any { return j.make(x) }
	}
	return p, ""
}

// joinPlan is how a step reads what it joins.
type joinPlan struct {
	halves []half
	make   func([]any) any
}

// mistakes are what is declared wrongly.
func (j *joinPlan) mistakes() (all []string) {
	for i, h := range j.halves {
		if h.bad != "" {
			all = append(all, fmt.Sprintf("half %d of the join %s", i+1, h.bad))
		}
	}
	if j.make == nil {
		all = append(all, "the join has no function that makes one value of its halves")
	}
	return all
}

// place is which half an event type is, -1 if it is none.
func (j *joinPlan) place(eventType string) int {
	for i, h := range j.halves {
		for _, a := range h.on {
			if a.event.Type == eventType {
				return i
			}
		}
	}
	return -1
}

// arrange puts what has come in the order of the declaration. It is false if
// something is missing.
func (j *joinPlan) arrange(halves []journal.Half) (at []*journal.Half, complete bool) {
	at = make([]*journal.Half, len(j.halves))
	for i := range halves {
		if p := j.place(halves[i].Type); p >= 0 && at[p] == nil {
			at[p] = &halves[i]
		}
	}
	for _, h := range at {
		if h == nil {
			return at, false
		}
	}
	return at, true
}

// read makes the step's input of the halves, which must be complete.
func (j *joinPlan) read(step string, halves []journal.Half) (in any, err error) {
	at, complete := j.arrange(halves)
	if !complete {
		return nil, fmt.Errorf("step %q ran on events that it no longer joins; declare them again with AnyOf or Upcast", step)
	}
	values := make([]any, len(at))
	for i, h := range at {
		if h.Data == nil {
			return nil, fmt.Errorf("of the event %q that step %q has joined the payload was not kept: it was too large, or the version that ran needed it no more", h.ID, step)
		}
		for _, a := range j.halves[i].on {
			if a.event.Type != h.Type {
				continue
			}
			if values[i], err = a.decode(h.Data); err != nil {
				return nil, &decodeError{h.Type, err}
			}
		}
	}
	if p := protect(func() { in = j.make(values) }); p != nil {
		return nil, fmt.Errorf("join the events of step %q: %w", step, p)
	}
	return in, nil
}

// joined is what a run of a join works on: all halves, the last one last.
type joined struct {
	journal.Join
	hash    journal.Hash // names the run
	hops    int          // of the half that is the furthest from the flow's start
	started time.Time    // of the flow, as far as any half tells
}

func newJoined(j journal.Join) *joined {
	x := &joined{Join: j, hash: j.Hash()}
	for _, h := range j.Halves {
		x.hops = max(x.hops, h.Hops)
		if !h.Started.IsZero() && (x.started.IsZero() || h.Started.Before(x.started)) {
			x.started = h.Started
		}
	}
	return x
}

// ids are those of all halves.
func (j *joined) ids() []string {
	all := make([]string, len(j.Halves))
	for i, h := range j.Halves {
		all[i] = h.ID
	}
	return all
}

// cause names what the run's handler works on: the event, or all that it joins.
func (r *run) cause() journal.Hash {
	if r.joined != nil {
		return r.joined.hash
	}
	return r.hash
}

// asHalf is the run's event as a join keeps it.
func (r *run) asHalf() journal.Half {
	h := journal.Half{
		Event: r.causing(true), Topic: r.rec.Topic, Partition: r.rec.Partition, Offset: r.rec.Offset, Hops: r.event.Hops, Started: r.started(),
		Heard: r.in.owned.clock.wall(r.now()).Truncate(time.Millisecond),
	}
	if !h.Started.IsZero() {
		h.Time = r.event.Time // else it would be taken for the start
	}
	h.TraceParent, h.TraceState = passOn(&r.event)
	return h
}

// gather adds the event to what has come of the flow's join. It goes on with
// r.joined once that is all.
func (s *stepRun) gather(r *run) (v verdict, over bool) {
	m := r.e.metrics.step(s.step)
	j, _ := r.store().Join(r.flow, s.step)
	j.Step = s.step
	_, cancelled := r.store().Cancelled(r.flow, s.step)
	known := j.Find(r.hash) >= 0
	x, ran := r.store().Run(r.flow, s.step, r.hash) // by itself: it could not be read, or there was no join then
	switch {
	case known:
	case ran && (r.replay == nil || x.Status != journal.Dead):
		m.duplicates.Inc()
		return done, true
	case s.surplus(r, j):
		m.surplus.Inc()
		r.logger(s.step).Info("passed over: its half of the join has come by another event, or the step ran without it", "type", r.event.Type)
		return done, true
	case !ran && !cancelled && r.replay.forgot(s.step):
		r.deadLetter(s.step, reasonForgotten, errForgotten)
		return done, true
	default:
		if _, err := s.on.decode(r.event.Data); err != nil {
			s.bury(r, reasonUndecodable, &decodeError{s.on.event.Type, err})
			return done, true
		}
		j.Halves = append(j.Halves, r.asHalf())
	}
	if _, complete := s.join.arrange(j.Halves); complete {
		r.joined = newJoined(j)
		return 0, false
	}
	if known {
		m.duplicates.Inc()
		return done, true
	}
	j.Status = journal.JoinWaiting
	if cancelled {
		j.Status = journal.JoinCancelled
	}
	if !r.journal(s.step)(r.store().PutJoin(r.flow, j, r.now())) {
		s.record(r, journal.Dead, journal.Event{}) // so that it can be replayed
	}
	return done, true
}

// surplus reports whether the step needs no such event in the flow any more: its
// half has come, or the step ran before it was declared to join.
func (s *stepRun) surplus(r *run, j journal.Join) bool {
	if j.Status == journal.JoinDone {
		return true
	}
	if at, _ := s.join.arrange(j.Halves); at[s.join.place(r.event.Type)] != nil {
		return true
	}
	for _, x := range r.store().Runs(r.flow, s.step) {
		switch x.Status {
		case journal.Did, journal.Failed, journal.GaveUp:
			return true
		}
	}
	return false
}

// keepHalves notes all halves of a run that is not over: what comes meanwhile is
// surplus, and the flow does not show as waiting.
func (s *stepPlan) keepHalves(r *run) {
	if r.joined != nil && r.joined.Status != journal.JoinDone {
		s.putHalves(r)
	}
}

func (s *stepPlan) putHalves(r *run) {
	if r.joined == nil {
		return
	}
	r.joined.Status = journal.JoinDone
	if c, err := r.store().PutJoin(r.flow, r.joined.Join, r.now()); err == nil {
		r.changes = append(r.changes, c) // else the event at work has what is not kept
	}
}

// recordHalves journals the join of a run that is over, with the payloads if they
// may be needed again. It is false if the event is a dead letter for its size.
func (s *stepPlan) recordHalves(r *run, keep bool) bool {
	if r.joined == nil {
		return true
	}
	j := r.joined.Join
	j.Status = journal.JoinDone
	if !keep {
		j.Halves = withoutData(j.Halves)
	}
	return r.journal(s.step)(r.store().PutJoin(r.flow, j, r.now()))
}

// withoutData leaves of halves what names them.
func withoutData(halves []journal.Half) []journal.Half {
	all := slices.Clone(halves)
	for i := range all {
		all[i].Data, all[i].TraceParent, all[i].TraceState = nil, "", ""
	}
	return all
}

// joinOf is what a step has joined in a flow, with an event that may not be noted
// there yet.
func (s *stepPlan) joinOf(r *run, last journal.Event) journal.Join {
	j, _ := r.store().Join(r.flow, s.step)
	if h := (journal.Half{Event: last}); last.Data != nil && j.Find(h.Hash()) < 0 {
		j.Halves = append(j.Halves, h)
	}
	return j
}

// cancelJoin notes that what has come will not be joined. Attempts of which nothing
// was committed may be found out about later, from the payloads.
func (s *stepPlan) cancelJoin(r *run) {
	j, ok := r.store().Join(r.flow, s.step)
	if !ok {
		return
	}
	j.Status = journal.JoinCancelled
	if s.unknown == nil || len(r.store().Runs(r.flow, s.step)) > 0 {
		j.Halves = withoutData(j.Halves)
	}
	r.journal(s.step)(r.store().PutJoin(r.flow, j, r.now()))
}
