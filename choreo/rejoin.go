package choreo

import (
	"time"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/internal/journal"
	"github.com/choreography-go/choreography/choreo/internal/sched"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A join that waits in the journal may need no more by the present declaration:
// one of its halves was removed, or the step joins nothing any more. No event
// would set it off, so that is done when the task is restored.

// rejoin sets off the joins of a restored task that wait for nothing that is
// declared.
func (e *engine) rejoin(o *owned) {
	var work []sched.Work
	o.store.EachJoin(func(flow string, j journal.Join) {
		s := e.plan.stepOf(j.Step)
		if _, complete := s.remaining(j); complete {
			work = append(work, sched.Work{Key: sched.Key{Task: o.partition, Name: flow}, Item: &rejoined{e: e, o: o, s: s, flow: flow}})
		}
	})
	e.sched.SubmitAll(work)
}

// standIn lets other halves of a join take the place of the one that is parked, if
// its step does not hear that any more and needs no more than those.
func (r *run) standIn(p journal.Parked) bool {
	o, s := r.in.owned, r.e.plan.stepOf(p.At)
	if s == nil || r.replay != nil {
		return false
	}
	j, ok := r.store().Join(r.flow, s.step)
	if _, complete := s.remaining(j); !ok || !complete || j.Find(r.hash) < 0 {
		return false
	}
	j.Status = journal.JoinWaiting
	c, err := r.store().PutJoin(r.flow, j, r.now())
	if err != nil {
		return false
	}
	r.changes = append(r.changes, c)
	r.e.sched.Submit(sched.Key{Task: o.partition, Name: r.flow}, &rejoined{e: r.e, o: o, s: s, flow: r.flow})
	return true
}

func (p *plan) stepOf(name string) *stepPlan {
	for _, s := range p.steps {
		if s.step == name {
			return s
		}
	}
	return nil // the journal knows declared ones only
}

// remaining are the halves that set the step off as it is declared now. It is false
// if it waits for more, or hears none of them.
func (s *stepPlan) remaining(j journal.Join) (halves []journal.Half, complete bool) {
	for _, h := range j.Halves {
		if s.hearing(h.Type) != nil {
			halves = append(halves, h)
		}
	}
	if s.join == nil || len(halves) == 0 {
		return halves, len(halves) > 0
	}
	_, complete = s.join.arrange(j.Halves)
	return halves[len(halves)-1:], complete // any of them sets it off
}

// hasJoined reports whether the event is one of those on which the step has run
// together, by an earlier declaration, and comes again. What goes on from the queue,
// or from a join that waited, has not run.
func (s *stepRun) hasJoined(r *run) bool {
	if r.replay != nil || r.place != nil && (r.place.alone || r.place.at == s.step) {
		return false
	}
	j, ok := r.store().Join(r.flow, s.step)
	return ok && j.Status == journal.JoinDone && j.Find(r.hash) >= 0
}

// hearing is how the step hears a type of event, nil if it does not.
func (s *stepPlan) hearing(eventType string) *alternativePlan {
	for i := range s.on {
		if s.on[i].event.Type == eventType {
			return &s.on[i]
		}
	}
	return nil
}

// rejoined lets a step run on halves that have waited, in the order in which they
// came.
type rejoined struct {
	e    *engine
	o    *owned
	s    *stepPlan
	flow string
	left []journal.Half
	run  *run // at work on the first of them
}

func (x *rejoined) Run() time.Duration {
	if x.run == nil {
		j, ok := x.o.store.Join(x.flow, x.s.step)
		if !ok || j.Status != journal.JoinWaiting || !x.o.inc.Standing() {
			return sched.Done // the flow has gone on meanwhile
		}
		x.left, _ = x.s.remaining(j)
		x.begin()
		if x.s.join == nil { // nothing else would end the join
			j.Status, j.Halves = journal.JoinDone, withoutData(j.Halves)
			x.run.journal(x.s.step)(x.o.store.PutJoin(x.flow, j, x.run.now()))
		}
	}
	for {
		if wait := x.run.Run(); wait != sched.Done {
			return wait
		}
		if x.left = x.left[1:]; len(x.left) == 0 {
			return sched.Done
		}
		x.begin()
	}
}

// begin makes the run on the first half that is left. It has no source, and goes
// before all that is parked, for the one step alone.
func (x *rejoined) begin() {
	h := x.left[0]
	on := x.s.hearing(h.Type)
	r := &run{event: cloudevent.Event{
		Source: h.Source, ID: h.ID, Type: h.Type, DataContentType: h.ContentType, Data: h.Data, CorrelationID: x.flow, PartitionKey: x.flow,
		Hops: h.Hops, Time: h.Time, Started: h.Started, TraceParent: h.TraceParent, TraceState: h.TraceState,
	}}
	rec := &kgo.Record{Topic: h.Topic, Partition: h.Partition, Offset: h.Offset, Timestamp: x.o.clock.local(h.Heard)}
	if err := r.event.Fill(rec); err != nil { // it was written with these attributes
		rec.Key, rec.Value = []byte(x.flow), h.Data
	}
	r.begin(x.e, x.o.timer, rec, &hearing{event: on.event, handlers: []handler{&stepRun{x.s, on}}, stateful: true})
	r.place = &place{alone: true}
	x.run = r
}
