package choreo

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/internal/journal"
	"github.com/choreography-go/choreography/choreo/internal/sched"
	"github.com/choreography-go/choreography/choreo/internal/timelimit"
	"github.com/choreography-go/choreography/choreo/internal/txn"
	"github.com/twmb/franz-go/pkg/kgo"
)

// run is the work on one event: all handlers that hear it, one after the
// other, and what they said. It is one item of the scheduler, which never runs
// two items of a flow at once, and one result of the pipeline, so what the
// handlers of an event say and journal is committed together.
type run struct {
	e     *engine
	in    *input
	rec   *kgo.Record
	size  int64 // of rec
	event cloudevent.Event
	hears *hearing
	flow  string
	key   string // under which the scheduler orders it
	hash  journal.Hash

	next      int           // the handler at work
	before    progress      // of the handlers before it
	attempt   int           // of that handler, from 1
	began     time.Time     // the first attempt
	tried     time.Time     // when the last attempt was over
	joined    *joined       // what the step joins, once all of it has come
	decoded   any           // the step's input, once decoded
	out       any           // what the step's last attempt returned
	emissions Emissions     // what the reaction's last attempt returned
	undoing   []journal.Run // what is left to undo
	trigger   *cloudevent.Event
	undoes    string   // idempotency key of the run being undone
	answered  bool     // an undo's event answers the trigger
	failed    *failure // of the last attempt, if there is to be another
	place     *place   // in the queue of the key
	parked    bool     // the event goes on from the journal
	held      bool     // it could not be parked when it should have been
	doing     string   // doingDo or doingUndo

	replay *replay    // nil unless a dead letter is replayed
	told   *directive // nil unless an operator has said what to do with it

	records []*kgo.Record
	changes []journal.Change
	at      time.Time // of the journal records
	ended   bool      // an outcome was heard or said
	result  txn.Result
	ctx     *runContext // of the last attempt
	unwatch func() bool // see wakeWhenLost

	said *outgoing // the events among records, the last one first

	// own is what nearly every run needs once, so that it is allocated with it.
	own struct {
		rec     kgo.Record
		ctx     runContext
		records [2]*kgo.Record
	}
}

// outgoing is an event on its way out: the record and the memory of its headers.
// Both are most of what a run needs, and nobody has them any more once they are
// committed, so they are used again.
type outgoing struct {
	record kgo.Record
	space  cloudevent.Space
	before *outgoing // of the same run
}

// progress is how far a run has come.
type progress struct {
	records, changes int
	ended            bool
}

// verdict is what a handler says of the run: done, dropped, or to be called
// again after a time.
type verdict time.Duration

const (
	done    verdict = -1
	dropped verdict = -2
)

// begin prepares a run whose event is read.
func (r *run) begin(e *engine, in *input, rec *kgo.Record, h *hearing) {
	r.e, r.in, r.rec, r.size, r.hears = e, in, rec, size(rec), h
	r.flow = flowOf(rec, &r.event)
	r.key = r.flow
	r.hash = journal.HashOf(r.event.Source, r.event.ID)
	r.records = r.own.records[:0]
}

// newRecord is a record to be said, with space for its headers.
func (r *run) newRecord(topic string) (*kgo.Record, *cloudevent.Space) {
	s, ok := r.e.outgoing.Get().(*outgoing)
	if !ok {
		s = new(outgoing)
	}
	s.before, r.said = r.said, s
	s.record.Topic = topic
	return &s.record, &s.space
}

// forget gives back the memory of what was said and is committed. Of what is
// not, the client may hold the records a little longer.
func (r *run) forget() {
	r.records, r.result.Records = nil, nil
	for s := r.said; s != nil; {
		before := s.before
		s.record, s.before = kgo.Record{}, nil
		r.e.outgoing.Put(s)
		s = before
	}
	r.said = nil
}

// flowOf is the correlation id of an event; one that has none is the start of
// a flow named by its key, or else by its id.
func flowOf(rec *kgo.Record, ev *cloudevent.Event) string {
	if ev.CorrelationID != "" {
		return ev.CorrelationID
	}
	if k := string(rec.Key); cloudevent.ValidCorrelationID(k) {
		return k
	}
	return ev.ID
}

// Run works on the event until it is done, or has to wait for another attempt.
func (r *run) Run() time.Duration {
	if r.unwatch != nil {
		r.unwatch()
		r.unwatch = nil
	}
	if r.mustQueue() {
		if r.queue() {
			return sched.Done
		}
	}
	for ; r.next < len(r.hears.handlers); r.next++ {
		if !r.in.owned.inc.Standing() {
			r.drop()
			return sched.Done
		}
		h := r.hears.handlers[r.next]
		if r.attempt == 0 && r.undoing == nil {
			r.before = progress{len(r.records), len(r.changes), r.ended}
		}
		switch v := h.handle(r); v {
		case done:
			r.attempt, r.joined, r.decoded, r.out, r.emissions, r.undoing, r.trigger, r.undoes, r.answered = 0, nil, nil, nil, nil, nil, nil, "", false
		case dropped:
			r.drop()
			return sched.Done
		default:
			if r.park(h, time.Duration(v)) {
				return sched.Done
			}
			r.wakeWhenLost()
			return time.Duration(v)
		}
	}
	r.finish()
	return sched.Done
}

// wakeWhenLost ends the wait for the next attempt when the ownership ends: the
// event is read again by the task's next owner, and if that is us it must not
// wait behind this one.
func (r *run) wakeWhenLost() {
	r.unwatch = context.AfterFunc(r.in.owned.ctx, func() {
		r.e.sched.Wake(sched.Key{Task: r.in.owned.partition, Name: r.key})
	})
}

// finish submits what was said and journalled.
func (r *run) finish() {
	if r.event.Outcome != "" || r.hears.event.Outcome != NotAnOutcome {
		r.ended = true
	}
	r.leave()
	if r.ended {
		r.in.owned.store.Ended(r.flow, time.Now())
	}
	r.submit()
}

func (r *run) submit() {
	var audit *kgo.Record
	if r.told != nil {
		audit = r.told.report(r)
	}
	for _, c := range r.changes {
		r.records = append(r.records, c.Record(r.e.names.journal, r.in.owned.partition, r.at))
	}
	r.result = txn.Result{Inc: r.in.owned.inc, Source: r.in.Source, Offset: r.rec.Offset, Done: r}
	if r.told != nil { // what it works on is in the journal; the command is what is finished
		r.result.Source, r.result.Offset = r.told.in.Source, r.told.offset
		if audit != nil {
			r.records = append(r.records, audit)
		}
	}
	r.result.Records = r.records
	r.e.pipe.Submit(&r.result)
}

// drop gives up an event whose task is no longer ours.
func (r *run) drop() {
	r.e.stuck.remove(r)
	r.giveRoom()
	if r.told != nil {
		r.told.dropped()
	}
}

func (r *run) giveRoom() {
	switch r.in {
	case r.in.owned.timer:
		return
	case r.in.owned.lapsed:
		r.e.lapses.settled()
		return
	}
	r.e.room.Give(r.size)
	if r.held {
		r.in.owned.held.Add(-1)
	}
}

// Done is told by the pipeline what became of the result.
func (r *run) Done(committed bool) {
	r.giveRoom()
	if r.told != nil {
		r.told.Done(committed)
	}
	if !committed {
		return
	}
	r.forget()
	if !r.parked {
		r.e.metrics.lag.Observe(time.Since(r.rec.Timestamp).Seconds())
	}
	if r.in == r.in.owned.lapsed {
		r.in.owned.late.forget(r.flow, r.hears.handlers[0].name())
	}
	if len(r.changes) > 0 {
		r.in.owned.store.Commit(r.changes...)
		r.e.watchers.wake(r.flow)
	}
	r.e.gated(r.in)
}

// journal notes a change to be written with the result. One that is too large
// for the journal makes the event a dead letter, and takes back what the
// handler said and journalled: it returns false.
func (r *run) journal(step string) func(journal.Change, error) bool {
	return func(c journal.Change, err error) bool {
		if err != nil {
			r.store().Revert(r.changes[r.before.changes:]...)
			r.changes = r.changes[:r.before.changes]
			clear(r.records[r.before.records:])
			r.records = r.records[:r.before.records]
			r.ended = r.before.ended
			r.deadLetter(step, reasonTooBig, err)
			return false
		}
		r.changes = append(r.changes, c)
		return true
	}
}

// now is the time of the run's journal records, the same for all of them.
func (r *run) now() time.Time {
	if r.at.IsZero() {
		r.at = time.Now()
	}
	return r.at
}

func (r *run) store() *journal.Store { return r.in.owned.store }

// causing is the event as the journal keeps it.
func (r *run) causing(keepData bool) journal.Event {
	ev := journal.Event{Source: r.event.Source, ID: r.event.ID, Type: r.event.Type, ContentType: r.event.DataContentType}
	if keepData {
		ev.Data = r.event.Data
		if ev.Data == nil {
			ev.Data = []byte{}
		}
	}
	return ev
}

// asTrigger is the event as the trigger of a compensation that it has answered.
func (r *run) asTrigger() journal.Trigger {
	return journal.Trigger{Hash: r.hash, ID: r.event.ID, Type: r.event.Type, Answered: true}
}

// metadata is what Meta tells.
func (r *run) metadata() Metadata {
	m := Metadata{
		Flow: r.flow, EventID: r.event.ID, Source: r.event.Source, Type: r.event.Type, Time: r.event.Time,
		Cause: r.event.CausationID, Undoes: r.undoes, Attempt: r.attempt,
	}
	if r.next < len(r.hears.handlers) {
		m.Step = r.hears.handlers[r.next].name()
	}
	hash := r.cause()
	if len(r.undoing) > 0 {
		hash = r.undoing[0].Hash
	}
	m.IdempotencyKey = r.e.idempotencyKey(hash, m.Step, r.doing)
	return m
}

const (
	doingDo   = "do"
	doingUndo = "undo"
)

// idempotencyKey is hash(event, service, step, do|undo): the same for every
// attempt, on every instance.
func (e *engine) idempotencyKey(event journal.Hash, step, doing string) string {
	return derive(event, e.plan.service, step, 0, doing)
}

// derive makes ids: 128 bits of SHA-256, as unpadded base64url.
func derive(event journal.Hash, service, step string, number int, kind ...string) string {
	b := make([]byte, 0, 128)
	b = append(b, event[:]...)
	b = append(b, service...)
	b = append(b, 0)
	b = append(b, step...)
	b = append(b, 0)
	for _, part := range kind {
		b = append(b, part...)
	}
	b = append(b, 0)
	b = strconv.AppendInt(b, int64(number), 10)
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// runContext is the context of one attempt. It answers for the run itself.
type runContext struct {
	context.Context
	run *run
}

func (c *runContext) Value(key any) any {
	if _, ok := key.(runKey); ok {
		return c.run
	}
	return c.Context.Value(key)
}

// attempted is what an attempt is made at: a handler, or one function of it.
type attempted interface {
	call(ctx context.Context, r *run) error
}

// attempting is a function to be attempted.
type attempting func(context.Context) error

func (f attempting) call(ctx context.Context, _ *run) error { return f(ctx) }

// try makes one attempt: door, context, timeout, span, middleware, metrics, panics.
func (r *run) try(h handler, doing string, what attempted) (err error) {
	name, p := h.name(), h.settings()
	timeout := p.timeout
	d := r.e.doorOf(p, name)
	var pass *passage
	if d != nil {
		if pass, err = d.enter(r, timeout); err != nil {
			return err
		}
	}
	start := time.Now()
	if r.attempt == 0 {
		r.began = start
	}
	r.attempt++
	r.doing = doing
	m := r.e.metrics.step(name)
	ctx := r.in.owned.ctx
	ctx, span := r.e.tracing.start(ctx, r, name)
	var limit *timelimit.Context
	if timeout > 0 {
		limit = r.e.attempts.Begin(ctx, name, start, timeout)
		ctx = limit
	}
	r.ctx = r.newContext(ctx)
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{p, debug.Stack()}
		}
		r.tried = time.Now()
		m.seconds.Observe(r.tried.Sub(start).Seconds())
		if limit != nil {
			if late := limit.End(r.tried); late && err != nil {
				err = errors.Join(ErrTimeout, err)
			}
		}
		span.end(err, r.e.errorText)
		if d != nil {
			err = d.leave(r, pass, err)
		}
	}()
	return r.wrapped(what)
}

// newContext makes the context of an attempt: one of its own, because what the
// handler started may outlive it.
func (r *run) newContext(parent context.Context) *runContext {
	ctx := &r.own.ctx
	if ctx.run != nil { // used
		ctx = new(runContext)
	}
	*ctx = runContext{parent, r}
	return ctx
}

// wrapped calls what is attempted, through the middleware.
func (r *run) wrapped(what attempted) error {
	if len(r.e.wrap) == 0 {
		return what.call(r.ctx, r)
	}
	attempt := func(ctx context.Context) error { return what.call(ctx, r) }
	for i := len(r.e.wrap) - 1; i >= 0; i-- {
		attempt = r.e.wrap[i](attempt)
	}
	return attempt(r.ctx)
}

// left reports that the attempt failed because the task is no longer ours:
// whatever came of it, it is not for us to say.
func (r *run) left() bool { return !r.in.owned.inc.Standing() }

// again says when the next attempt is due, or that there is none. Waits have
// full jitter, so that flows which failed together do not return together.
func (r *run) again(p Retry, err error, forever bool) (verdict, bool) {
	p = p.withDefaults()
	r.failed = &failure{err: err, inPlace: r.attempt < p.InPlace, undo: forever, forever: forever}
	if _, told := errors.AsType[*givenUpError](err); told && !forever {
		return 0, false
	}
	if !forever {
		if r.attempt >= p.Attempts || p.Over > 0 && time.Since(r.began) >= p.Over {
			return 0, false
		}
	}
	wait := p.First
	for i := 1; i < r.attempt && wait < p.Max; i++ {
		wait *= 2
	}
	wait = min(wait, p.Max)
	return verdict(rand.Int64N(int64(wait) + 1)), true
}

// logger has flow, event and step on every line.
func (r *run) logger(step string) *slog.Logger {
	return runLogger(r.e.log, r.flow, r.event.ID, step)
}
