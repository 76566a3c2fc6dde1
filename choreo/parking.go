package choreo

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/internal/journal"
	"github.com/choreography-go/choreography/choreo/internal/sched"
	"github.com/choreography-go/choreography/choreo/operator"
	"github.com/twmb/franz-go/pkg/kgo"
)

// An event whose attempts fail is parked: it goes into a queue in the journal,
// its offset is finished, and its next attempts are made from there. Later
// events of its key, by which the scheduler orders them, queue behind it; other
// keys pass. Only the head of a queue is ever tried, and its queue is worked off
// in order once it is done.
//
// Whatever changes a queue is an item of the scheduler under the queue's key, so
// nothing happens to it twice at once. Somebody always looks after a queue that
// is not empty: the agenda has its key at the time of the head's next attempt, a
// door has it in its line, or an item of the key is at work or waits.

// place is the place of a run's event in the queue of its key.
type place struct {
	seq   uint64   // 0: it is not from the queue, and will go before all others
	done  []string // handlers that were through with it before
	alone bool     // for one handler only
	ahead bool     // it was in the queue, and goes before all others: it is not tried in place
	at    string   // the handler at which it stands, as the queue has it
	reply bool     // run.answered, as the queue has it
}

// failure is why a handler asks to be called again.
type failure struct {
	err     error
	inPlace bool  // not yet tried in place as often as it may be
	undo    bool  // of a compensation
	forever bool  // it may be parked beyond the bound of a task: of a flow and step there is one at most
	door    *door // nil: it has failed; else it waits there
	tried   bool  // before it does, it has failed
}

// resumed reports whether the run is one from the queue. It has no source and
// takes no room.
func (r *run) resumed() bool { return r.place != nil && r.place.seq != 0 }

// mustQueue reports whether other events of the run's key are to be done first.
func (r *run) mustQueue() bool {
	return r.next == 0 && r.attempt == 0 && r.place == nil && !r.hears.passes && (r.store().Waiting(r.key) > 0 || r.in.owned.holds(r.key))
}

// queue puts the event behind those that are parked under its key; then it has
// returned true. A compensation goes ahead of the attempts that it overtakes, and
// only what other handlers have to do with its event is queued. Without room in
// the queue the event is held.
func (r *run) queue() (queued bool) {
	h := r.overtaking()
	if h != nil && r.isSecond(h) {
		h = nil // that one goes first, and then there is nothing to overtake
	}
	r.e.refill(r.in.owned, r.key)
	if h != nil && r.onlyFor(h) {
		r.place = &place{alone: true}
		return false
	}
	rest := journal.Parked{Record: r.rec}
	if h != nil {
		rest.Done = []string{h.name()}
	}
	if !r.in.owned.holds(r.key) && r.e.mayPark(r.in.owned, r.key, r.e.cfg.MaxParkedPerTask) && r.enqueue(rest) == nil {
		if h != nil {
			r.place = &place{alone: true}
			r.only(h)
			return false
		}
		r.putOff()
		return true
	}
	var ahead *run
	if h != nil {
		ahead = r.split(h)
	}
	r.waitHeld()
	if ahead != nil {
		ahead.Run()
	}
	return true
}

// only leaves one handler's work to be done on the event.
func (r *run) only(h handler) {
	r.hears = &hearing{event: r.hears.event, handlers: []handler{h}, stateful: true}
}

// isSecond reports whether an earlier compensation of the handler's step is queued or
// held, and about to go before its attempts.
func (r *run) isSecond(h handler) bool {
	o := r.in.owned
	if head, _, ok := o.store.Head(r.key); ok && head.At == h.name() {
		if _, earlier := r.e.promotable(o, r.key, head); earlier != nil {
			return true
		}
	}
	return o.holds(r.key) && slices.ContainsFunc(o.overflow.of(r.key), func(x *run) bool {
		other := x.overtaking()
		return other != nil && other.name() == h.name()
	})
}

// enqueue puts something at the end of the queue.
func (r *run) enqueue(p journal.Parked) error {
	c, err := r.store().Park(r.key, p, r.now())
	if err != nil {
		return fmt.Errorf("park an event: %w", err)
	}
	r.changes = append(r.changes, c)
	return nil
}

// overtaking is the handler whose step has attempts parked that the event
// cancels, nil if there is none. Of replays only those overtake that are for that
// step alone, since a replay is marked once, for all its handlers.
func (r *run) overtaking() handler {
	if r.replay != nil && r.replay.Step == "" {
		return nil
	}
	for _, h := range r.hears.handlers {
		if t, ok := h.(*stepTrigger); ok && t.overtakes(r) {
			return h
		}
	}
	return nil
}

// overtakes reports whether the step's attempts are parked, and no other
// compensation of it is.
func (s *stepTrigger) overtakes(r *run) bool {
	if _, cancelled := r.store().Cancelled(r.flow, s.step); cancelled {
		return false
	}
	parked := r.store().Standing(r.key, s.step)
	if len(parked) == 0 {
		return false
	}
	_, is := s.runOf(r, parked[0])
	return is
}

// interrupted is the run whose attempts are parked: what came of them is not
// known.
func (s *stepTrigger) interrupted(r *run) (journal.Run, bool) {
	for _, p := range r.store().Standing(r.key, s.step) {
		if x, is := s.runOf(r, p); is {
			return x, true
		}
	}
	return journal.Run{}, false
}

// runOf is the run of the step by a parked event, if the event sets it off.
func (s *stepTrigger) runOf(r *run, p journal.Parked) (journal.Run, bool) {
	var ev cloudevent.Event
	view := cloudevent.ViewOf(p.Record)
	if err := view.Read(&ev); err != nil {
		return journal.Run{}, false // it was read before, by another version
	}
	if !slices.ContainsFunc(s.on, func(a alternativePlan) bool { return a.event.Type == ev.Type }) {
		return journal.Run{}, false
	}
	in := journal.Event{Source: ev.Source, ID: ev.ID, Type: ev.Type, ContentType: ev.DataContentType, Data: ev.Data}
	if in.Data == nil {
		in.Data = []byte{}
	}
	x := journal.Run{Step: s.step, Hash: journal.HashOf(ev.Source, ev.ID), Attempts: 1, In: in}
	if s.join != nil {
		j := s.joinOf(r, in)
		if _, complete := s.join.arrange(j.Halves); !complete {
			return journal.Run{}, false // it was parked before the step was declared as a join
		}
		x.Hash = j.Hash()
	}
	return x, true
}

// release lets the event go on whose attempts were overtaken: its step is
// cancelled and leaves it alone, and its other handlers have their turn.
func (s *stepTrigger) release(r *run) {
	for _, p := range r.store().Standing(r.key, s.step) {
		if _, is := s.runOf(r, p); is {
			r.changes = append(r.changes, r.store().DropRetry(r.key, p.Seq)...)
			r.in.owned.agenda.Add(r.key, 0)
		}
	}
}

// mayPark reports whether there is room in a queue, while less than so much of a
// task is parked.
func (e *engine) mayPark(o *owned, key string, most int) bool {
	return o.store.Waiting(key) < e.cfg.MaxParkedPerFlow && o.store.Parked() < most
}

// hold notes that the event cannot be parked, and takes room for long. See mayRead.
func (r *run) hold() {
	if !r.held {
		r.held = true
		r.in.owned.held.Add(1)
	}
}

// park puts the event into the queue of its key, or back, after a failed
// attempt. It returns false if the next attempt is to be awaited in place.
func (r *run) park(h handler, wait time.Duration) bool {
	f, o := r.failed, r.in.owned
	if f == nil || f.inPlace && !r.resumed() && (r.place == nil || !r.place.ahead) {
		return false
	}
	if f.door != nil && r.asParked(h) && !f.tried {
		if r.told != nil {
			r.told.answer(operator.Failed, f.err)
			r.told = nil
		}
		return true
	}
	most := r.e.cfg.MaxParkedPerTask
	if f.door != nil {
		most = r.e.nearlyParked()
	}
	if !r.resumed() && !f.forever && !r.e.mayPark(o, r.key, most) {
		r.hold()
		return false
	}
	p := journal.Parked{At: h.name(), Answered: r.answered, Record: r.rec}
	if r.replay != nil {
		p.Failed, p.Cancelled = r.replay.failed, r.replay.cancelled
	}
	if r.place != nil {
		p.Seq, p.Alone, p.Done = r.place.seq, r.place.alone, slices.Clone(r.place.done)
	}
	for _, before := range r.hears.handlers[:r.next] {
		if name := before.name(); name != "" {
			p.Done = append(p.Done, name)
		}
	}
	if !r.resumed() || p.At != r.place.at || p.Answered != r.place.reply {
		c, err := r.store().Park(r.key, p, r.now())
		if err != nil {
			r.logger(h.name()).Warn("cannot be parked: later events of its key wait in memory", "error", err)
			r.hold()
			return false
		}
		r.changes = append(r.changes, c)
		p.Seq = c.Seq()
	}
	text := r.e.errorText(f.err)
	if !r.resumed() && f.door == nil {
		r.logger(h.name()).Warn("parked: later events of its key wait behind it", "attempts", r.attempt, "error", text)
	}
	if f.door != nil {
		wait = 0 // after a restart it goes there at once
	}
	if r.began.IsZero() {
		r.began = time.Now()
	}
	if f.door == nil || f.tried || r.attempt > 0 || r.resumed() {
		r.changes = append(r.changes, r.store().PutRetry(r.key, journal.Retry{
			Seq: p.Seq, Attempts: uint32(r.attempt), Began: o.clock.wall(r.began), Next: o.clock.wall(time.Now().Add(wait)),
			Undo: f.undo, Error: text,
		}, r.now()))
	}
	r.e.stuck.remove(r)
	r.putOff()
	if _, overtaking := r.e.promotable(o, r.key, p); overtaking != nil {
		r.e.sched.Submit(r.schedKey(), &resumption{e: r.e, o: o, key: strings.Clone(r.key)})
	}
	if f.door != nil {
		f.door.park(r.schedKey())
	} else {
		o.agenda.Add(strings.Clone(r.key), wait) // not the text of all attributes, of which the key is a part
	}
	return true
}

// asParked reports whether the queue has the event as it is now.
func (r *run) asParked(h handler) bool {
	return r.resumed() && h.name() == r.place.at && r.answered == r.place.reply && len(r.records) == 0 && len(r.changes) == 0
}

// waits is the verdict on an attempt that waits at its step's door.
func (r *run) waits(h handler, err error, forever bool) (verdict, bool) {
	const longest = time.Minute // it is called
	a, ok := errors.AsType[*awaiting](err)
	if !ok {
		return 0, false
	}
	r.failed = &failure{err: a.cause, inPlace: a.soon, undo: forever && r.attempt > 0, forever: forever, door: a.door, tried: a.tried}
	if a.tried {
		r.e.metrics.step(h.name()).retries.Inc()
		r.logger(h.name()).Warn("attempt failed, will be repeated when the provider answers", "error", r.e.errorText(a.cause))
	}
	return verdict(longest), true
}

// schedKey is the key under which the scheduler has the run.
func (r *run) schedKey() sched.Key { return sched.Key{Task: r.in.owned.partition, Name: r.key} }

// putOff submits what is said and journalled so far. The event goes on from the
// journal.
func (r *run) putOff() {
	r.parked = true
	r.submit()
}

// leave takes an event that is done out of the queue.
func (r *run) leave() {
	if !r.resumed() {
		return
	}
	r.now()
	r.changes = append(r.changes, r.store().Unpark(r.key, r.place.seq)...)
	if r.place.at != "" {
		r.logger(r.place.at).Info("a parked event is done")
	}
}

// resumption goes on with the head of a queue, when it is due.
type resumption struct {
	e   *engine
	o   *owned
	key string
	at  *run // at work: its next attempt is awaited in place
}

// Run works the queue off, as far as it can be. If the head is not due, the
// agenda has it.
func (x *resumption) Run() time.Duration {
	if x.at == nil {
		if x.at = x.e.resume(x.o, x.key); x.at == nil {
			return sched.Done
		}
	}
	x.at.failed = nil // by the attempt before
	if again := x.at.Run(); again >= 0 {
		return again
	}
	f := x.at.failed
	if x.at = nil; f != nil && f.door != nil {
		return sched.Done // the door has it
	}
	return 0
}

// due is told by the agenda of keys whose heads may be due.
func (e *engine) due(o *owned, keys []string) {
	work := make([]sched.Work, len(keys))
	for i, key := range keys {
		work[i] = sched.Work{Key: sched.Key{Task: o.partition, Name: key}, Item: &resumption{e: e, o: o, key: key}}
	}
	e.sched.SubmitAll(work)
}

// resume is what to work on next of a key: the head of its queue if that is due, or
// what goes before it. It is nil if there is nothing yet.
func (e *engine) resume(o *owned, key string) *run {
	if !o.inc.Standing() || e.stopping.Load() {
		return nil
	}
	e.refill(o, key)
	p, t, ok := o.store.Head(key)
	if !ok {
		return o.takeHeld(key)
	}
	if r := e.promote(o, key, p); r != nil {
		return r
	}
	if r := e.promoteHeld(o, key); r != nil { // it came after all that is queued
		return r
	}
	if o.until(key, t.Next) > 0 {
		return nil
	}
	return e.resumed(o, key, p, t)
}

// promote lets a compensation that was queued go before the attempts of its step, at
// which the head of the queue stands, for that step alone. It is nil if there is none.
func (e *engine) promote(o *owned, key string, head journal.Parked) *run {
	p, r := e.promotable(o, key, head)
	if r == nil {
		return nil
	}
	r.place = &place{alone: true, ahead: true}
	if r.replay != nil { // for that step alone, and marked by this run
		r.now()
		r.changes = append(r.changes, o.store.Unpark(key, p.Seq)...)
		return r
	}
	p.Done = append(slices.Clone(p.Done), head.At)
	c, err := o.store.Park(key, p, r.now())
	if err != nil {
		return nil // it keeps its place
	}
	r.changes = append(r.changes, c)
	r.only(r.overtaking())
	return r
}

// promotable is the first compensation that was queued before the attempts of its
// step, at which the head of the queue stands, began to fail, and a run of it. There
// is none if the head is a compensation itself. See overtakes.
func (e *engine) promotable(o *owned, key string, head journal.Parked) (journal.Parked, *run) {
	s := e.plan.stepOf(head.At)
	if s == nil || len(s.triggers) == 0 || o.store.Waiting(key) < 2 {
		return journal.Parked{}, nil
	}
	for _, p := range o.store.Queue(key)[1:] {
		switch {
		case p.At != "", p.Alone, slices.Contains(p.Done, s.step), e.unsayable(p.Record) != nil, !s.isTriggeredBy(p.Record):
			continue
		}
		r := e.resumed(o, key, p, journal.Retry{})
		if h := r.overtaking(); h != nil && h.name() == s.step {
			return p, r
		}
	}
	return journal.Parked{}, nil
}

// isTriggeredBy reports whether an event compensates the step.
func (s *stepPlan) isTriggeredBy(rec *kgo.Record) bool {
	var ev cloudevent.Event
	view := cloudevent.ViewOf(rec)
	return view.Read(&ev) == nil && slices.ContainsFunc(s.triggers, func(t triggerPlan) bool { return t.on.Type == ev.Type })
}

// recall puts the queues of a restored journal on the agenda. The wall clock of
// who wrote it may have been ahead, or its handler may have waited for longer: no
// attempt is further away than the handler allows. A compensation that is queued
// does not wait for it. See promote.
func (e *engine) recall(o *owned) {
	o.store.Heads(func(key, at string, _ int, next time.Time) {
		if d := e.doors[at]; d != nil {
			d.distrust()
		}
		longest := defaultMax
		if h := e.plan.handlerOf(at); h != nil {
			longest = h.settings().retry.withDefaults().Max
		}
		if o.until(key, next) > longest {
			if o.early == nil {
				o.early = map[string]earlier{}
			}
			o.early[key] = earlier{next, o.clock.began.Add(longest)}
		}
	})
	o.store.Heads(func(key, at string, behind int, next time.Time) {
		o.agenda.Add(key, o.until(key, next))
		if s := e.plan.stepOf(at); s != nil && len(s.triggers) > 0 && behind > 0 {
			o.agenda.Add(key, 0) // a compensation that went before may have been lost with its attempt
		}
	})
}

// earlier is the time of an attempt that a journal says is later.
type earlier struct{ said, at time.Time }

// until is how long it is to an attempt that the journal says is next.
func (o *owned) until(key string, next time.Time) time.Duration {
	if next.IsZero() {
		return 0
	}
	if x, ok := o.early[key]; ok && x.said.Equal(next) {
		return time.Until(x.at)
	}
	return time.Until(o.clock.local(next))
}

// handlerOf is some handler of a name, nil if there is none.
func (p *plan) handlerOf(name string) handler {
	for _, h := range p.hears {
		for _, x := range h.handlers {
			if x.name() == name {
				return x
			}
		}
	}
	return nil
}

// resumed makes the run of a parked event.
func (e *engine) resumed(o *owned, key string, p journal.Parked, t journal.Retry) *run {
	r := &run{place: &place{seq: p.Seq, done: p.Done, alone: p.Alone, at: p.At, reply: p.Answered}}
	if e.isReplay(p.Record) {
		r.resumeReplay(e, o, key, p, t)
		return r
	}
	view := cloudevent.ViewOf(p.Record)
	err := view.Read(&r.event)
	h := e.plan.hears[r.event.Type]
	if h == nil {
		h = &hearing{event: &eventDecl{}}
	}
	r.begin(e, o.timer, p.Record, h)
	r.goOn(key, p, t)
	switch why := e.unsayable(p.Record); {
	case err != nil:
		r.abandon(p.At, &refusal{reason: reasonInvalid, err: err})
	case why != nil:
		r.abandon(p.At, why)
	default:
		r.hears = r.rest(h, p)
	}
	return r
}

// goOn takes over how far the attempts on a parked event have come. Since its next
// one was due an event of a step with a door has waited there, or for an owner of
// its task: like the time at the door (see enter), that until this owner began is
// no part of Retry.Over.
func (r *run) goOn(key string, p journal.Parked, t journal.Retry) {
	r.key, r.attempt, r.answered = key, int(t.Attempts), p.Answered
	if t.Attempts == 0 {
		return
	}
	c := r.in.owned.clock
	r.began = c.local(t.Began)
	if waited := c.began.Sub(c.local(t.Next)); waited > 0 && !t.Undo && r.e.doors[p.At] != nil {
		r.began = r.began.Add(waited)
	}
}

// rest is what is left to do on a parked event. It is a dead letter for the
// handler at which it stands if that does not hear it any more.
func (r *run) rest(h *hearing, p journal.Parked) *hearing {
	x, stands := h.from(p)
	if !stands && r.standIn(p) {
		r.attempt = 0
	} else if !stands {
		r.deadLetter(p.At, reasonNotHeard, fmt.Errorf(
			"it was parked at %q, which no longer hears %q; declare that again, and replay this letter", p.At, r.event.Type))
		r.attempt = 0 // of the handler that is next
	}
	if r.key != r.flow { // nothing that keeps flow state heard it then
		x.handlers = slices.DeleteFunc(x.handlers, ofFlow)
	}
	return x
}

// ofFlow reports whether a handler has to run in the flow's own task.
func ofFlow(h handler) bool {
	switch h.(type) {
	case *stepRun, *stepTrigger, *stateApply, *deadlineSet, *deadlineMet:
		return true
	}
	return false
}

// abandon makes the whole event a dead letter.
func (r *run) abandon(step string, why *refusal) {
	r.bury(letter{step: step, reason: why.reason, attempts: r.attempt, err: why.err})
	r.hears = &hearing{event: r.hears.event}
}

// from is what is left to do on a parked event: the handler at which it stands,
// then those that are not done, in today's order. It is false if that handler
// does not hear the event any more.
func (h *hearing) from(p journal.Parked) (*hearing, bool) {
	x := &hearing{event: h.event, stateful: h.stateful}
	stands := p.At == ""
	for _, each := range h.handlers {
		switch name := each.name(); {
		case name == p.At:
			x.handlers, stands = slices.Insert(x.handlers, 0, each), true
		case !p.Alone && !slices.Contains(p.Done, name):
			x.handlers = append(x.handlers, each)
		}
	}
	return x, stands
}

// clock leads from this process's monotonic clock to the wall clock and back.
// It reads the latter once, so that nothing is early or late in the process
// however that is set meanwhile.
type clock struct {
	began time.Time // with a monotonic reading
	shown time.Time // what the wall clock showed then
}

func newClock() clock {
	now := time.Now()
	return clock{now, now.Round(0)}
}

// notBefore lets the wall clock have shown at least this when the process began:
// it was seen before, so the clock was set back since.
func (c *clock) notBefore(seen time.Time) {
	if seen.After(c.shown) {
		c.shown = seen
	}
}

func (c clock) wall(t time.Time) time.Time      { return c.shown.Add(t.Sub(c.began)) }
func (c clock) local(shown time.Time) time.Time { return c.began.Add(shown.Sub(c.shown)) }

// atLeast and atMost bound what time it is by a wall clock that may have been set
// meanwhile: what is compared with them may have been noted before or since.
func (c clock) atLeast() time.Time {
	now := time.Now().Round(0)
	if steady := c.wall(time.Now()); steady.Before(now) {
		return steady
	}
	return now
}

func (c clock) atMost() time.Time {
	now := time.Now().Round(0)
	if steady := c.wall(time.Now()); steady.After(now) {
		return steady
	}
	return now
}

// since is local, for a time that may be none.
func (c clock) since(shown time.Time) time.Time {
	if shown.IsZero() {
		return time.Time{}
	}
	return c.local(shown)
}

// parkings is how much is parked in all tasks.
func (e *engine) parkings() []taskParking {
	e.mu.RLock()
	defer e.mu.RUnlock()
	var all []taskParking
	for _, o := range e.owned {
		if p := o.store.Parking(); p.Events > 0 {
			p.UndoSince = o.clock.since(p.UndoSince)
			all = append(all, taskParking{o.partition, p})
		}
	}
	return all
}

type taskParking struct {
	task int32
	journal.Parking
}

// parkedReasons says which tasks can park nothing more.
func (e *engine) parkedReasons(parked []taskParking) (all []string) {
	for _, p := range parked {
		if p.Events >= e.cfg.MaxParkedPerTask {
			all = append(all, fmt.Sprintf("task %d: %d events of %d flows are parked, the limit is MAX_PARKED_PER_TASK, %d: the task's reading pauses until their handlers succeed",
				p.task, p.Events, p.Flows, e.cfg.MaxParkedPerTask))
		}
		if p.Full > 0 {
			all = append(all, fmt.Sprintf("task %d: %d flows have as many events parked as MAX_PARKED_PER_FLOW allows, %d: their next ones wait in memory, and the task's reading pauses when they are many",
				p.task, p.Full, e.cfg.MaxParkedPerFlow))
		}
	}
	slices.Sort(all)
	return all
}
