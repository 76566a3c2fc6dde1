package choreo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/deadletter"
	"github.com/choreography-go/choreography/choreo/internal/journal"
	"github.com/choreography-go/choreography/choreo/internal/sched"
	"github.com/choreography-go/choreography/choreo/internal/txn"
	"github.com/choreography-go/choreography/choreo/operator"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A command of an operator reaches the task of what it is about through the inbox
// (see package operator). It is an item of the scheduler under that key, so that
// nothing else happens there meanwhile, and passes what is parked there. What it
// names must be stuck still; then the head of the queue, or the deadline, is worked
// on as when it is due, but for what the command says in place of the attempt. The
// result has the command's offset, so that it is done once, and an audit event.

// directive is a command at work.
type directive struct {
	operator.Command
	e      *engine
	in     *input
	offset int64
	size   int64 // of its record

	after *resumption // works the queue off, once the command is obeyed
	taken bool        // the handler has taken it
	moved bool        // what was stuck is done
	// payload is what is to be said, nil for nothing.
	payload any
	said    string        // the id of the event that has it
	tried   journal.Retry // as it was stuck
	audit   operator.Audit
	changes []journal.Change
}

// acceptCommand takes a command from the inbox.
func (e *engine) acceptCommand(in *input, rec *kgo.Record, b *batch) {
	e.metrics.consumed.Inc()
	c, err := operator.ReadCommand(rec)
	if err != nil {
		e.bury(in, rec, "", &refusal{reason: reasonInvalid, err: err}, b)
		return
	}
	d := &directive{Command: c, e: e, in: in, offset: rec.Offset, size: size(rec)}
	b.work = append(b.work, sched.Work{Key: sched.Key{Task: in.owned.partition, Name: c.Key}, Item: d})
}

// Run does what is asked for, then goes on with the queue.
func (d *directive) Run() time.Duration {
	if d.after != nil {
		return d.after.Run()
	}
	if !d.in.owned.inc.Standing() {
		d.dropped()
		return sched.Done
	}
	d.after = &resumption{e: d.e, o: d.in.owned, key: d.Key}
	d.audit = operator.Of(&d.Command)
	if err := d.obey(); err != nil {
		d.answer(operator.Refused, err)
		return sched.Done
	}
	return 0
}

func (d *directive) obey() error {
	if err := d.e.poison.why(output{d.in.Topic, d.in.Partition, d.offset, anything}); err != nil {
		return fmt.Errorf("what was stuck is so still: %w", err)
	}
	switch {
	case d.Do == operator.Erase:
		return d.erase()
	case d.Kind == operator.Deadline:
		return d.lapse()
	}
	return d.resume()
}

// Why a command is not obeyed.
var (
	errNotParked  = errors.New("nothing is parked there any more: what was stuck is done, or was given up")
	errOtherEvent = errors.New("another event is the first of the queue there by now: what was stuck is done, or was given up")
	errCalledOff  = errors.New("the step was called off: its compensation is queued, and goes before any further attempt; list again to see whether it fails")
	errMovedOn    = errors.New("the event has moved on since: what was stuck is done, and its present attempts are at something else; list again")
)

// resume works on the head of a queue.
func (d *directive) resume() error {
	o := d.in.owned
	p, t, ok := o.store.Head(d.Key)
	switch {
	case !ok:
		return errNotParked
	case p.Seq != d.Seq:
		return errOtherEvent
	case p.At == "" || t.Began.UnixMilli() != d.Began.UnixMilli() || (d.Kind == operator.Undo) != t.Undo:
		return errMovedOn
	}
	h, probe := d.standing(p)
	switch {
	case h == nil:
		return fmt.Errorf("the service no longer declares that %q hears this event: its next attempt makes it a dead letter", p.At)
	case p.At != d.Name && !slices.Contains(formerNames(h), d.Name):
		return errMovedOn
	}
	if _, overtaking := d.e.promotable(o, d.Key, p); overtaking != nil {
		o.agenda.Add(d.Key, 0)
		return errCalledOff
	}
	if d.Do == operator.Resolve {
		if err := d.resolvable(h, probe); err != nil {
			return err
		}
	}
	d.tried = t
	d.audit.Attempts, d.audit.Error = int(t.Attempts), t.Error
	r := d.e.resumed(o, d.Key, p, t)
	r.told = d
	r.Run()
	return nil
}

// standing is the handler at which a parked event stands, and a run of it to ask
// the journal by. The handler is nil if it does not hear the event any more.
func (d *directive) standing(p journal.Parked) (handler, *run) {
	probe := &run{}
	view := cloudevent.ViewOf(p.Record)
	if view.Read(&probe.event) != nil {
		return nil, nil
	}
	h := d.e.plan.hears[probe.event.Type]
	if h == nil {
		return nil, nil
	}
	probe.begin(d.e, d.in.owned.timer, p.Record, h)
	probe.key = d.Key
	for _, x := range h.handlers {
		if x.name() == p.At {
			return x, probe
		}
	}
	return nil, nil
}

// resolvable reads the payload of what is to be said, or says why it cannot be.
func (d *directive) resolvable(h handler, probe *run) error {
	switch s := h.(type) {
	case *stepRun:
		if _, cancelled := probe.store().Cancelled(probe.flow, s.step); cancelled { // only what came of attempts is to be found out
			return d.silent(s.step)
		}
		if d.Data == nil {
			return fmt.Errorf("a step is resolved by saying its event, which others wait for and a compensation is given: give the payload of %q", s.emit.Type)
		}
		return d.read(s.emit)
	case *stepTrigger:
		if all := s.toUndo(probe, probe.store().Runs(probe.flow, s.step)); len(all) == 0 || all[0].Status != journal.Did {
			return d.silent(s.step)
		}
		if d.Data == nil {
			return nil
		}
		return d.read(s.undone)
	}
	return d.silent(h.name())
}

// silent refuses a payload where nothing is said.
func (d *directive) silent(name string) error {
	if d.Data != nil {
		return fmt.Errorf("nothing is said when %q is done with this: give no payload", name)
	}
	return nil
}

// read decodes a person's JSON as the payload of an event. Names of fields that
// are not declared are refused, since they are mistakes; and what is said must be
// readable as it is declared.
func (d *directive) read(ev *eventDecl) error {
	v := reflect.New(ev.payload)
	err := protect(func() {
		dec := json.NewDecoder(bytes.NewReader(d.Data))
		dec.DisallowUnknownFields()
		if err := dec.Decode(v.Interface()); err != nil {
			panic(&decodeError{ev.Type, err})
		}
	})
	if p, ok := errors.AsType[*panicError](err); ok {
		if decode, ok := p.value.(*decodeError); ok {
			err = decode
		}
	}
	if err != nil {
		return err
	}
	data, err := encode(ev, v.Elem().Interface(), d.e.cfg.MaxEventBytes)
	if err != nil {
		return err
	}
	if _, err := ev.decode(data); err != nil {
		return &decodeError{ev.Type, err}
	}
	d.payload = v.Elem().Interface()
	return nil
}

// lapse works on a deadline that has passed.
func (d *directive) lapse() error {
	o := d.in.owned
	all := o.store.PendingOf(d.Key)
	i := slices.IndexFunc(all, func(x journal.Deadline) bool {
		return (x.Name == d.Name || slices.Contains(d.e.plan.deadlineOf(x.Name).formerly, d.Name)) && x.Set.UnixMilli() == d.Began.UnixMilli()
	})
	if i < 0 {
		return errors.New("the deadline is not pending any more: it has fired, or was met")
	}
	if wait := o.remaining(all[i]); wait > 0 {
		return fmt.Errorf("the deadline has not passed yet: it fires in %v", wait.Round(time.Second))
	}
	if d.Do == operator.Resolve {
		s := d.e.plan.deadlineOf(all[i].Name)
		if d.Data == nil {
			return fmt.Errorf("a deadline is resolved by saying its event: give the payload of %q, or skip it", s.emit.Type)
		}
		if err := d.read(s.emit); err != nil {
			return err
		}
	}
	r := d.e.lapsing(o, d.Key, all[i])
	d.audit.Attempts = r.attempt
	r.told = d
	r.Run()
	return nil
}

// erase forgets a flow.
func (d *directive) erase() error {
	o := d.in.owned
	switch {
	case txn.Partition([]byte(d.Key), d.e.plan.tasks) != o.partition:
		return errors.New("the flow is of another task")
	case !o.store.Known(d.Key):
		return errors.New("nothing is remembered of the flow")
	case o.store.Waiting(d.Key) > 0:
		return errors.New("events of the flow are parked: resolve or skip what is stuck first")
	case o.store.IsPending(d.Key):
		return errors.New("a deadline of the flow is pending: wait for it, or skip it once it has passed")
	}
	d.changes = o.store.Erase(d.Key)
	d.audit.Erased = len(d.changes)
	d.answer(operator.Done, nil)
	return nil
}

// takes is what the handler at work is told to do in place of an attempt, once;
// nil: nothing.
func (r *run) takes() *directive {
	d := r.told
	if d == nil || d.taken || d.Do == operator.Retry {
		return nil
	}
	d.taken = true
	r.tried = time.Now()
	return d
}

// speaks reports that a person's payload is what is said next.
func (d *directive) speaks() bool { return d != nil && d.payload != nil && d.said == "" }

// gotOn notes that what the run was stuck at is done, though not all of its work.
func (r *run) gotOn() {
	if r.told != nil {
		r.told.moved = true
	}
}

// givenUpError is why there is no further attempt: a person has said so.
type givenUpError struct{ by, why, last string }

func (e *givenUpError) Error() string {
	return fmt.Sprintf("given up by %s: %s; the last attempt: %s", e.by, e.why, e.last)
}

func (d *directive) givesUp() error { return &givenUpError{d.By, d.Why, d.tried.Error} }

// do makes one attempt at a step or reaction, or takes what a person has said in its
// place: the payload of a step's event, and nothing of a reaction.
func (r *run) do(h interface {
	handler
	attempted
}) error {
	d := r.takes()
	switch {
	case d == nil:
		return r.try(h, doingDo, h)
	case d.Do == operator.Skip:
		return d.givesUp()
	}
	r.out, r.emissions = d.payload, nil
	return nil
}

// settleNewest ends the attempts at undoing r.undoing[0], as a person has said. It
// counts as answered: what would be said where nothing was to undo, is not true.
func (s *stepTrigger) settleNewest(r *run, d *directive) error {
	x := r.undoing[0]
	if d.Do == operator.Skip {
		s.mark(r, x, journal.Left)
		r.answered = true
		return nil
	}
	if x.Status == journal.Did {
		if d.payload != nil {
			if _, err := r.say(s.undone, d.payload, s.step, kindUndone, int(x.Seq)); err != nil {
				return err
			}
		}
		r.answered = true
		r.e.metrics.step(s.step).undone.Inc()
	}
	s.mark(r, x, journal.Undone)
	return nil
}

// settled ends the attempts at a deadline, as a person has said; false: nobody has.
func (s *deadlineLapse) settled(r *run) (is bool, err error) {
	d := r.takes()
	switch {
	case d == nil:
		return false, nil
	case d.Do == operator.Skip:
		c, err := r.store().PutDeadline(r.flow, journal.Deadline{Name: s.deadline, Status: journal.Met}, r.now())
		if err == nil {
			r.changes = append(r.changes, c)
		}
		return true, err
	}
	_, err = r.say(s.emit, d.payload, s.deadline, kindExpired, 0)
	if err == nil {
		s.fires(r)
	}
	return true, err
}

// report tells in the audit what has come of the command, by its run's results.
func (d *directive) report(r *run) *kgo.Record {
	a := &d.audit
	for _, rec := range r.records {
		if rec.Topic == d.e.names.dlq {
			if reason := header(rec, deadletter.HeaderReason); reason != nil {
				a.Dead = append(a.Dead, string(reason))
			}
			continue
		}
		view := cloudevent.ViewOf(rec)
		a.Said = append(a.Said, string(view.Type()))
	}
	a.Outcome = operator.Done
	if r.parked && r.next == 0 && !d.moved {
		a.Outcome, a.Error = operator.Failed, d.e.errorText(r.failed.err)
	}
	return d.audited()
}

// answer submits what has come of a command that has no run.
func (d *directive) answer(outcome operator.Outcome, err error) {
	d.audit.Outcome = outcome
	if err != nil {
		d.audit.Error = d.e.errorText(err)
	}
	res := &txn.Result{Inc: d.in.owned.inc, Source: d.in.Source, Offset: d.offset, Done: d}
	if rec := d.audited(); rec != nil {
		res.Records = append(res.Records, rec)
	}
	now := time.Now()
	for _, c := range d.changes {
		res.Records = append(res.Records, c.Record(d.e.names.journal, d.in.owned.partition, now))
	}
	d.e.pipe.Submit(res)
}

// audited is the audit's record.
func (d *directive) audited() *kgo.Record {
	a := &d.audit
	a.Time, a.Service, a.Instance = time.Now().UTC(), d.e.plan.service, d.e.cfg.InstanceID
	rec, err := a.Record(d.e.names.dlq, d.e.source, []byte(d.Key))
	if err != nil { // what a command holds is bounded and printable
		d.e.log.Error("an operator's command cannot be audited", "command", d.ID, "error", err)
		return nil
	}
	return rec
}

// Done is told by the pipeline, or by the run, what became of the result.
func (d *directive) Done(committed bool) {
	d.e.room.Give(d.size)
	if committed {
		if len(d.changes) > 0 {
			d.in.owned.store.Commit(d.changes...)
			d.e.watchers.wake(d.Key)
		}
		d.e.metrics.commanded(d.Do, d.audit.Outcome)
		a := &d.audit
		log := d.e.log.Info
		if a.Outcome != operator.Done {
			log = d.e.log.Warn
		}
		log("an operator's command", "do", string(a.Do), "outcome", string(a.Outcome), "by", a.By, "why", a.Why, "command", a.Command,
			"flow", clip(d.Key), "step", a.Name, "kind", string(a.Kind), "error", a.Error)
	}
	d.e.gated(d.in)
}

// dropped gives up a command whose task is no longer ours: it is read again.
func (d *directive) dropped() { d.e.room.Give(d.size) }
