package choreo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/choreography-go/choreography/choreo/internal/journal"
)

// The barrier keeps a step's runs and its compensation apart, whatever order
// their events arrive in. What a flow's journal says of a step decides:
//
//	                     the step's event      a compensation trigger
//	nothing              runs                  cancels, says Cancel's event
//	it ran               (duplicate)           undoes, says the undo's event
//	it was rejected      (duplicate)           cancels, says Cancel's event
//	given up, dead       (duplicate)           Unknown, then says Cancel's event
//	a pivot that ran     (duplicate)           nothing: it has answered
//	cancelled            Unknown, no more      nothing: it has answered

// stepRun runs a step on one of its events.
type stepRun struct {
	*stepPlan
	on *alternativePlan
}

func (s *stepRun) name() string     { return s.step }
func (s *stepRun) settings() policy { return s.policy }

func (s *stepRun) call(ctx context.Context, r *run) (err error) {
	r.out, err = s.do(ctx, r.decoded)
	return err
}

func (s *stepRun) handle(r *run) verdict {
	m := r.e.metrics.step(s.step)
	if _, cancelled := r.store().Cancelled(r.flow, s.step); cancelled {
		return s.skip(r)
	}
	if r.decoded == nil {
		if v, over := s.begin(r); over {
			return v
		}
	}
	if err := r.refused(s.emit, s.step, kindDid, 0); err != nil {
		r.attempt++ // the one that did it
		s.bury(r, reasonUnsayable, err)
		return done
	}
	err := r.do(s)
	if err == nil {
		e, sayErr := r.say(s.emit, r.out, s.step, kindDid, 0)
		if sayErr != nil {
			s.bury(r, reasonUnsayable, sayErr)
			return done
		}
		if s.record(r, journal.Did, e) {
			m.did.Inc()
		}
		return done
	}
	if r.left() {
		return dropped
	}
	if v, ok := r.waits(s, err, false); ok {
		s.keepHalves(r)
		return v
	}
	for i := range s.fail {
		if match, ok := s.fail[i].match(err); ok {
			if s.sayFailure(r, &s.fail[i], match, kindFailed, journal.Failed) {
				m.failed.Inc()
			}
			return done
		}
	}
	if _, ok := errors.AsType[*Rejection](err); ok {
		s.bury(r, reasonRejected, fmt.Errorf("step %q has no Fail for it (FailWith): %w", s.step, err))
		return done
	}
	if v, ok := r.again(s.policy.retry, err, false); ok {
		m.retries.Inc()
		s.keepHalves(r)
		r.logger(s.step).Warn("attempt failed, will be repeated", "attempt", r.attempt, "in", time.Duration(v), "error", r.e.errorText(err))
		return v
	}
	if s.giveUp != nil {
		if s.sayFailure(r, s.giveUp, err, kindGaveUp, journal.GaveUp) {
			m.gaveUp.Inc()
			r.logger(s.step).Error("gave up", "attempts", r.attempt, "error", r.e.errorText(err))
		}
		return done
	}
	s.bury(r, reasonExhausted, err)
	return done
}

// begin decodes the step's input, unless there is nothing to run on or it ran.
func (s *stepRun) begin(r *run) (v verdict, over bool) {
	if s.join != nil {
		if v, over := s.gather(r); over {
			return v, true
		}
	}
	x, ran := r.store().Run(r.flow, s.step, r.cause())
	if ran {
		if r.replay == nil || x.Status != journal.Dead {
			r.e.metrics.step(s.step).duplicates.Inc()
			return done, true
		}
		r.replay.attempts = int(x.Attempts)
	} else if r.joined == nil && r.replay.forgot(s.step) {
		r.deadLetter(s.step, reasonForgotten, errForgotten)
		return done, true
	} else if r.joined == nil && s.hasJoined(r) {
		r.e.metrics.step(s.step).duplicates.Inc()
		return done, true
	}
	in, err := s.read(r)
	if err != nil {
		s.bury(r, reasonUndecodable, err)
		return done, true
	}
	r.decoded = in
	return 0, false
}

// read decodes what the step runs on.
func (s *stepRun) read(r *run) (any, error) {
	if r.joined != nil {
		return s.join.read(s.step, r.joined.Halves)
	}
	in, err := s.on.decode(r.event.Data)
	if err != nil {
		return nil, &decodeError{s.on.event.Type, err}
	}
	return in, nil
}

// skip leaves an event of a cancelled step alone. The event may have been tried
// before, by an attempt of which nothing was committed: its effect is found out
// and undone now.
func (s *stepRun) skip(r *run) verdict {
	if r.replay != nil {
		r.replay.cancelled = true
	}
	if r.decoded == nil {
		if r.attempt == 0 {
			r.e.metrics.step(s.step).skipped.Inc()
		}
		if s.unknown == nil {
			return done
		}
		if s.join != nil {
			if v, over := s.gather(r); over {
				return v
			}
		}
		if x, ran := r.store().Run(r.flow, s.step, r.cause()); ran && (r.replay == nil || x.Status != journal.Dead) {
			return done
		}
		in, err := s.read(r)
		if err != nil {
			r.deadLetter(s.step, reasonUndecodable, err)
			return done
		}
		r.decoded, r.undoes = in, r.e.idempotencyKey(r.cause(), s.step, doingDo)
	}
	if r.takes() == nil {
		if err := r.try(s, doingUndo, attempting(func(ctx context.Context) error { return s.unknown(ctx, r.decoded) })); err != nil {
			if r.left() {
				return dropped
			}
			if v, ok := r.waits(s, err, true); ok {
				return v
			}
			return s.undoFailed(r, err)
		}
	}
	r.e.stuck.remove(r)
	return done
}

// record journals how the run ended. Its payloads are kept only where a
// compensation may need them. A run too large to be journalled is dead.
func (s *stepPlan) record(r *run, status journal.Status, out journal.Event) bool {
	attempts := r.attempt + r.replay.before()
	keep := s.undo != nil && status == journal.Did ||
		s.unknown != nil && attempts > 0 && (status == journal.GaveUp || status == journal.Dead)
	if !keep {
		out.Data = nil
	}
	x := journal.Run{Step: s.step, Hash: r.cause(), Status: status, Attempts: uint32(attempts), In: r.causing(keep && r.joined == nil), Out: out}
	if s.recordHalves(r, keep || status == journal.Dead) && r.journal(s.step)(r.store().PutRun(r.flow, x, r.now())) {
		return true
	}
	s.putHalves(r)
	x.Status, x.In.Data, x.Out = journal.Dead, nil, journal.Event{}
	r.journal(s.step)(r.store().PutRun(r.flow, x, r.now()))
	return false
}

// sayFailure says the event that an error becomes.
func (s *stepRun) sayFailure(r *run, f *failurePlan, err error, kind string, status journal.Status) bool {
	var payload any
	if p := protect(func() { payload = f.make(r.decoded, err) }); p != nil {
		s.bury(r, reasonUnsayable, errors.Join(p, err))
		return false
	}
	e, sayErr := r.say(f.event, payload, s.step, kind, 0)
	if sayErr != nil {
		s.bury(r, reasonUnsayable, errors.Join(sayErr, err))
		return false
	}
	return s.record(r, status, e)
}

// bury makes the event a dead letter and records that the run ended so.
func (s *stepRun) bury(r *run, reason string, err error) {
	r.deadLetter(s.step, reason, err)
	s.record(r, journal.Dead, journal.Event{})
}

// stepTrigger compensates or cancels a step.
type stepTrigger struct {
	*stepPlan
	trigger *triggerPlan
}

func (s *stepTrigger) name() string     { return s.step }
func (s *stepTrigger) settings() policy { return s.policy }

func (s *stepTrigger) handle(r *run) verdict {
	if r.undoing == nil {
		if v, settled := s.settle(r); settled {
			return v
		}
	}
	for len(r.undoing) > 0 {
		var err error
		if d := r.takes(); d != nil {
			err = s.settleNewest(r, d)
		} else {
			err = s.undoNewest(r)
		}
		if err != nil {
			if r.left() {
				return dropped
			}
			if v, ok := r.waits(s, err, true); ok {
				return v
			}
			return s.undoFailed(r, err)
		}
		r.e.stuck.remove(r)
		r.undoing, r.attempt, r.began = r.undoing[1:], 0, time.Time{}
		r.gotOn()
	}
	return s.answer(r)
}

// settle decides what a trigger means for the step, by the barrier's table. It
// leaves in r.undoing the runs to undo, newest first.
func (s *stepTrigger) settle(r *run) (v verdict, settled bool) {
	m := r.e.metrics.step(s.step)
	if _, cancelled := r.store().Cancelled(r.flow, s.step); cancelled {
		m.duplicates.Inc()
		return done, true
	}
	runs := r.store().Runs(r.flow, s.step)
	if len(runs) == 0 && r.forgotten() {
		_, interrupted := s.interrupted(r)
		_, joins := r.store().Join(r.flow, s.step)
		if !interrupted && !joins {
			r.deadLetter(s.step, reasonForgotten, fmt.Errorf(
				"the flow began more than %v ago and its state is no longer kept; raise Retention.Flow above the longest flow", r.e.plan.retain.Flow))
			return done, true
		}
	}
	for _, x := range runs {
		if s.pivot && (x.Status == journal.Did || x.Status == journal.Failed) {
			m.skipped.Inc()
			return done, true
		}
		if x.Status == journal.Did && !s.trigger.undoes {
			m.skipped.Inc() // it ran, and this event cancels only what has not run
			return done, true
		}
	}
	r.undoing = s.toUndo(r, runs)
	r.trigger = &r.event
	return 0, false
}

// toUndo are the runs of the step that are to be undone, newest first: of those in
// the journal, and of what is parked.
func (s *stepTrigger) toUndo(r *run, runs []journal.Run) (all []journal.Run) {
	parked, interrupted := s.interrupted(r)
	// What is parked has a run already if that was dead and is replayed, or if it
	// was undone here by an attempt before.
	if x, ran := r.store().Run(r.flow, s.step, parked.Hash); interrupted && s.unknown != nil && (!ran || x.Status == journal.Dead) {
		all = append(all, parked) // of all its runs it is the newest
	}
	for _, x := range runs {
		switch {
		case interrupted && x.Hash == parked.Hash:
		case x.Status == journal.Did:
			all = append(all, x)
		case (x.Status == journal.GaveUp || x.Status == journal.Dead) && x.Attempts > 0 && s.unknown != nil:
			all = append(all, x)
		}
	}
	return all
}

// undoNewest undoes r.undoing[0] and says so.
func (s *stepTrigger) undoNewest(r *run) error {
	x := r.undoing[0]
	r.undoes = r.e.idempotencyKey(x.Hash, s.step, doingDo)
	in, err := s.readIn(r, x)
	if err != nil {
		r.attempt++
		return err
	}
	m := r.e.metrics.step(s.step)
	if x.Status != journal.Did {
		if err := r.try(s, doingUndo, attempting(func(ctx context.Context) error { return s.unknown(ctx, in) })); err != nil {
			return err
		}
		s.mark(r, x, journal.Undone)
		return nil
	}
	out, err := s.decodeOut(x.Out.Data)
	if err != nil {
		r.attempt++
		return &decodeError{x.Out.Type, err}
	}
	if err := r.refused(s.undone, s.step, kindUndone, int(x.Seq)); err != nil {
		r.attempt++
		return untilRestart(err)
	}
	var undone any
	if err := r.try(s, doingUndo, attempting(func(ctx context.Context) (err error) {
		undone, err = s.undo(ctx, in, out)
		return err
	})); err != nil {
		return err
	}
	if _, err := r.say(s.undone, undone, s.step, kindUndone, int(x.Seq)); err != nil {
		return err
	}
	s.mark(r, x, journal.Undone)
	r.answered = true
	m.undone.Inc()
	return nil
}

// mark journals what became of a run on which nothing is to be done any more.
func (s *stepTrigger) mark(r *run, x journal.Run, status journal.Status) {
	x.Status, x.By = status, r.asTrigger()
	x.In.Data, x.Out.Data = nil, nil
	r.journal(s.step)(r.store().PutRun(r.flow, x, r.now()))
}

// readIn decodes the run's input as it was said then, by the alternative that
// reads its type.
func (s *stepPlan) readIn(r *run, x journal.Run) (any, error) {
	if s.join != nil {
		j := s.joinOf(r, x.In)
		if j.Hash() != x.Hash {
			return nil, fmt.Errorf("step %q ran on event %q alone, before it was declared to join events; run the version that did until such flows have ended", s.step, x.In.ID)
		}
		return s.join.read(s.step, j.Halves)
	}
	if x.In.Data == nil {
		return nil, fmt.Errorf("the run of step %q on event %q was recorded by a version that declared no compensation for it, so its payload was not kept", s.step, x.In.ID)
	}
	for i := range s.on {
		if s.on[i].event.Type == x.In.Type {
			in, err := s.on[i].decode(x.In.Data)
			if err != nil {
				return nil, &decodeError{x.In.Type, err}
			}
			return in, nil
		}
	}
	return nil, fmt.Errorf("step %q ran on an event of type %q, which it no longer declares; add it again with AnyOf or Upcast", s.step, x.In.Type)
}

// undoFailed retries for ever: a compensation that is given up is money lost.
func (s *stepPlan) undoFailed(r *run, err error) verdict {
	m := r.e.metrics.step(s.step)
	m.retries.Inc()
	v, _ := r.again(s.policy.retry, err, true)
	r.e.stuck.add(r)
	if _, ok := errors.AsType[*Rejection](err); ok {
		err = fmt.Errorf("a compensation must not be rejected, it is taken for a failure: %w", err)
	}
	r.logger(s.step).Error("compensation failed, will be repeated until it succeeds", "attempt", r.attempt, "in", time.Duration(v), "error", r.e.errorText(err))
	return v
}

// answer says Cancel's event where nothing was undone, and closes the barrier.
func (s *stepTrigger) answer(r *run) verdict {
	if !r.answered && s.trigger.cancel != nil {
		err := s.sayCancel(r)
		if _, refused := errors.AsType[*refusedError](err); refused {
			if r.takes() == nil {
				r.attempt++
				return s.undoFailed(r, untilRestart(err))
			}
		} else if err != nil {
			r.deadLetter(s.step, reasonUndecodable, err)
		} else {
			r.e.metrics.step(s.step).cancelled.Inc()
		}
	}
	s.release(r)
	s.cancelJoin(r)
	r.journal(s.step)(r.store().PutCancelled(r.flow, journal.Cancelled{Step: s.step, By: []journal.Trigger{r.asTrigger()}}, r.now()))
	return done
}

func (s *stepTrigger) sayCancel(r *run) error {
	var payload any
	var err error
	if p := protect(func() { payload, err = s.trigger.cancel.answer(r.event.Data) }); p != nil {
		return p
	}
	if err != nil {
		return &decodeError{s.trigger.on.Type, err}
	}
	_, err = r.say(s.trigger.cancel.emit, payload, s.step, kindCancelled, 0)
	return err
}

// forgotten reports that the flow is older than its state is kept: what is not
// remembered of it may have happened.
func (r *run) forgotten() bool {
	started := r.started()
	return !started.IsZero() && r.in.owned.clock.atMost().Sub(started) > r.e.plan.retain.Flow
}

// stuckRuns knows the compensations that have failed and wait for their next
// attempt.
type stuckRuns struct {
	mu   sync.Mutex
	runs map[*run]struct{}
}

func (s *stuckRuns) add(r *run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.runs == nil {
		s.runs = map[*run]struct{}{}
	}
	s.runs[r] = struct{}{}
}

func (s *stuckRuns) remove(r *run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.runs, r)
}

func (s *stuckRuns) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.runs)
}
