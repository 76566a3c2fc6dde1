package choreo

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/deadletter"
	"github.com/choreography-go/choreography/choreo/internal/journal"
	"github.com/choreography-go/choreography/choreo/internal/txn"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A dead letter is replayed through the inbox (see package deadletter): the
// event is judged and worked on as one that arrives now, for the handler that
// the letter names. The flow's journal remembers the letter, so that replaying
// it twice has the effect of once, and a mark on the dead-letter topic says what
// became of it; both are in the transaction of the results.

// replay is what a run knows of the letter that it replays.
type replay struct {
	deadletter.Replay
	attempts  int  // that were made at the run before
	failed    bool // it became another dead letter
	cancelled bool // the step is cancelled
}

// hash names the letter among what the flow has seen.
func (p *replay) hash() journal.Hash {
	return journal.HashOf("/replay", p.Letter.String()) // no reaction has this name
}

// of reports that it is a replay for that handler. A run that is none has nil.
func (p *replay) of(handler string) bool { return p != nil && p.Step == handler }

// forgot reports that nothing is left of the run that the letter of a step
// tells of, so that it is not known whether the step was cancelled since.
func (p *replay) forgot(step string) bool { return p.of(step) && !p.Forgotten }

// before is how many attempts were made at the run before it was replayed.
func (p *replay) before() int {
	if p == nil {
		return 0
	}
	return p.attempts
}

// acceptReplayed takes a replayed event from the inbox. Whatever it is, its run
// comes to the end at which the letter is marked.
func (e *engine) acceptReplayed(in *input, sent *kgo.Record, b *batch) {
	e.metrics.consumed.Inc()
	r := b.newRun()
	rec := b.keep(r, sent)
	again, err := e.readReplay(rec)
	if err != nil {
		e.bury(in, rec, "", &refusal{reason: reasonInvalid, err: err}, b)
		return
	}
	rec.Key = again.Key // so that it is the original
	r.replay = &replay{Replay: again}
	h, refused := e.hearAgain(rec, r)
	r.begin(e, in, rec, h.marked(replayBegin{}))
	r.size, r.key = size(sent), r.flow
	if refused {
		r.flow = string(sent.Key) // of what cannot be read no better is known
		r.key = r.flow
	} else if home := txn.Partition([]byte(r.flow), e.plan.tasks); home != in.owned.partition {
		b.submit(e.forward(in, sent, r.flow, home))
		return
	}
	b.run(r)
}

// isReplay reports whether a record replays a dead letter. Elsewhere than in the
// inbox anybody may have set the header.
func (e *engine) isReplay(rec *kgo.Record) bool {
	return rec.Topic == e.names.inbox && header(rec, deadletter.HeaderReplay) != nil
}

func (e *engine) readReplay(rec *kgo.Record) (deadletter.Replay, error) {
	again, err := deadletter.ReadReplay(rec)
	if err == nil && again.Letter.Topic != e.names.dlq {
		err = fmt.Errorf("it replays %s, which is none of this service's dead letters", again.Letter)
	}
	return again, err
}

// hearAgain reads a replayed event into the run and finds its handlers; one that
// is refused has a handler that makes it a dead letter again.
func (e *engine) hearAgain(rec *kgo.Record, r *run) (h *hearing, refused bool) {
	h, why := e.judge(rec, &r.event, &r.replay.Replay)
	if why != nil {
		r.event.Outcome = "" // it is not heard
		return &hearing{event: &eventDecl{}, handlers: []handler{refusedRun{why}}}, true
	}
	return h, false
}

// marked is the hearing between the first handlers of a replay and the last one.
func (h *hearing) marked(first ...handler) *hearing {
	return &hearing{event: h.event, handlers: slices.Concat(first, h.handlers, []handler{replayEnd{}}), passes: h.passes}
}

// resumeReplay goes on with a replay from the queue of its key. One that has
// waited behind other events has not begun; another replay of its letter may have
// been among those.
func (r *run) resumeReplay(e *engine, o *owned, key string, p journal.Parked, t journal.Retry) {
	again, err := e.readReplay(p.Record)
	if err != nil { // it was read before, by another version
		r.begin(e, o.timer, p.Record, &hearing{event: &eventDecl{}})
		r.goOn(key, p, t)
		r.abandon(p.At, &refusal{reason: reasonInvalid, err: err})
		return
	}
	r.replay = &replay{Replay: again, failed: p.Failed, cancelled: p.Cancelled}
	h, refused := e.hearAgain(p.Record, r)
	r.begin(e, o.timer, p.Record, h)
	r.goOn(key, p, t)
	if refused {
		r.flow = key
	} else {
		h = r.rest(h, p)
	}
	if p.At == "" {
		r.hears = h.marked(replayBegin{})
	} else {
		r.hears = h.marked()
	}
}

// judge reads a replayed event and finds the handlers it is for, or says why it
// is a dead letter again.
func (e *engine) judge(rec *kgo.Record, ev *cloudevent.Event, again *deadletter.Replay) (*hearing, *refusal) {
	view := cloudevent.ViewOf(rec)
	if err := view.Read(ev); err != nil {
		return nil, &refusal{reason: reasonInvalid, err: err}
	}
	var h *hearing
	// The header counts only where the inbox's writers have set it.
	if header(rec, headerPublish) != nil && strings.HasPrefix(again.Origin, e.names.inbox+"/") {
		if d := e.plan.start(ev.Type); d != nil {
			h = &hearing{event: d, handlers: []handler{startRun{d}}, passes: true}
		}
	} else if all := e.plan.hears[ev.Type]; all != nil {
		if h = all.only(again.Step); h != nil && again.Step != "" {
			again.Step = h.handlers[0].name() // the present one
		}
	}
	if h == nil {
		return nil, &refusal{reason: reasonNotHeard, err: notHeard(ev.Type, again.Step)}
	}
	if why := e.unfit(rec); why != nil {
		return nil, why
	}
	return h, tooFar(ev)
}

func notHeard(eventType, step string) error {
	if step == "" {
		return fmt.Errorf("nothing of the service hears %q; declare it and replay this letter", eventType)
	}
	return fmt.Errorf("%q of the service does not hear %q; if it was renamed say so by Formerly, and replay this letter", step, eventType)
}

// only is the part of one handler, by its present name or an earlier one; nil if
// there is none. All of them go by the name "".
func (h *hearing) only(name string) *hearing {
	if name == "" {
		return h
	}
	own := &hearing{event: h.event}
	for _, x := range h.handlers {
		if x.name() == name || slices.Contains(formerNames(x), name) {
			own.handlers = append(own.handlers, x)
		}
	}
	if len(own.handlers) == 0 {
		return nil
	}
	return own
}

func formerNames(h handler) []string {
	switch x := h.(type) {
	case *stepRun:
		return x.formerly
	case *stepTrigger:
		return x.formerly
	case *deadlineSet:
		return x.formerly
	case *deadlineMet:
		return x.formerly
	}
	return nil
}

// refusedRun makes a replayed event a dead letter again.
type refusedRun struct{ *refusal }

func (refusedRun) name() string     { return "" }
func (refusedRun) settings() policy { return policy{} }

func (x refusedRun) handle(r *run) verdict {
	r.bury(letter{step: r.replay.Step, reason: x.reason, attempts: r.attempt, err: x.err})
	return done
}

// replayBegin is the first handler of a replay: it ends one that is a
// repetition.
type replayBegin struct{}

func (replayBegin) name() string     { return "" }
func (replayBegin) settings() policy { return policy{} }

func (replayBegin) handle(r *run) verdict {
	if _, seen := r.store().Seen(r.flow, r.replay.hash()); seen {
		r.e.metrics.replayed(replayDuplicate)
		r.next = len(r.hears.handlers) - 1
	}
	return done
}

// replayEnd is the last one: it remembers the letter, and marks it.
type replayEnd struct{}

func (replayEnd) name() string     { return "" }
func (replayEnd) settings() policy { return policy{} }

func (replayEnd) handle(r *run) verdict {
	p := r.replay
	r.journal(p.Step)(r.store().PutSeen(r.flow, p.hash(), 0, r.now()))
	m := deadletter.Mark{Letter: p.Letter, Outcome: deadletter.Succeeded, Time: time.Now(), By: r.e.plan.service}
	switch {
	case p.failed:
		m.Outcome = deadletter.Failed
	case p.cancelled:
		m.Outcome = deadletter.Cancelled
	}
	r.records = append(r.records, m.Record(r.e.names.dlq, p.Key))
	r.e.metrics.replayed(string(m.Outcome))
	r.logger(p.Step).Info("dead letter replayed", "letter", p.Letter.String(), "outcome", string(m.Outcome))
	return done
}

// errForgotten is why a replay does not run a step.
var errForgotten = errors.New("nothing is remembered of the run that the dead letter tells of, so the step may have been cancelled since: its flow has ended, " +
	"or the letter is older than Retention.Flow; if the step may run, replay this letter and say so")
