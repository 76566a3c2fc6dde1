package choreo

import (
	"context"
	"errors"
	"time"
)

// stateApply applies an event to a State.
type stateApply struct {
	*statePlan
	when    *transitionPlan
	allowed map[string]*eventDecl
}

func (s *stateApply) name() string     { return s.state }
func (s *stateApply) settings() policy { return policy{} }

// handle folds the event into the state, once. A transition is a pure function,
// so an error of it is not repeated: the state stays as it was, and the event
// is a dead letter.
func (s *stateApply) handle(r *run) verdict {
	m := r.e.metrics.step(s.state)
	if r.store().Applied(r.flow, s.state, r.hash) {
		m.duplicates.Inc()
		return done
	}
	var was []byte
	if now, ok := r.store().State(r.flow, s.state); ok {
		was = now.Payload
	}
	var next []byte
	var out Emissions
	err := r.try(s, doingDo, attempting(func(context.Context) (err error) {
		next, out, err = s.when.apply(was, r.event.Data)
		return err
	}))
	if err == nil {
		err = r.sayAll(out, s.allowed, s.state)
	}
	if err != nil {
		reason := reasonFailed
		if _, ok := errors.AsType[*decodeError](err); ok {
			reason = reasonUndecodable
		} else if _, ok := errors.AsType[*refusedError](err); ok {
			reason = reasonUnsayable
		}
		r.deadLetter(s.state, reason, err)
		return done
	}
	if r.journal(s.state)(r.store().PutState(r.flow, s.state, next, r.hash, r.now())) {
		m.did.Inc()
	}
	return done
}

// reactionRun runs a Reaction on one of its events.
type reactionRun struct {
	*reactionPlan
	allowed map[string]*eventDecl
	react   func(ctx context.Context, data []byte) (Emissions, error)
}

func (s *reactionRun) name() string     { return s.reaction }
func (s *reactionRun) settings() policy { return s.policy }

func (s *reactionRun) call(ctx context.Context, r *run) (err error) {
	r.emissions, err = s.react(ctx, r.event.Data)
	return err
}

func (s *reactionRun) handle(r *run) verdict {
	m := r.e.metrics.step(s.reaction)
	if s.once && r.attempt == 0 && !r.replay.of(s.reaction) { // its letter tells that it has failed
		if _, seen := r.store().Seen(r.flow, r.seenBy(s.reaction)); seen {
			m.duplicates.Inc()
			return done
		}
	}
	err := r.do(s)
	if err != nil && r.left() {
		return dropped
	}
	if v, ok := r.waits(s, err, false); ok {
		return v
	}
	permanent := false
	reason := reasonExhausted
	if _, undecodable := errors.AsType[*decodeError](err); undecodable {
		permanent, reason = true, reasonUndecodable
	} else if _, rejected := errors.AsType[*Rejection](err); rejected {
		permanent, reason = true, reasonRejected
	} else if err == nil {
		if err = r.sayAll(r.emissions, s.allowed, s.reaction); err != nil {
			permanent, reason = true, reasonUnsayable
		}
	}
	if err != nil && !permanent {
		if v, ok := r.again(s.policy.retry, err, false); ok {
			m.retries.Inc()
			r.logger(s.reaction).Warn("attempt failed, will be repeated", "attempt", r.attempt, "in", time.Duration(v), "error", r.e.errorText(err))
			return v
		}
	}
	if err != nil {
		r.deadLetter(s.reaction, reason, err)
	} else {
		m.did.Inc()
	}
	if s.once {
		r.journal(s.reaction)(r.store().PutSeen(r.flow, r.seenBy(s.reaction), 0, r.now()))
	}
	return done
}
