package choreo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/internal/journal"
	"github.com/choreography-go/choreography/choreo/internal/offsets"
	"github.com/choreography-go/choreography/choreo/internal/sched"
	"github.com/choreography-go/choreography/choreo/internal/task"
	"github.com/choreography-go/choreography/choreo/internal/txn"
	"github.com/twmb/franz-go/pkg/kgo"
)

type runningService struct{ atomic.Pointer[engine] }

// engine joins ownership, scheduling and transactions for one running service:
// it is the task.Engine that takes the records of owned tasks, gives them to
// the handlers of the plan in key order, and submits what they said.
type engine struct {
	plan    *plan
	cfg     Config
	names   topicNames
	source  string // of what the service says
	log     *slog.Logger
	metrics *metrics
	tracing *tracing
	wrap    []Middleware

	fence *txn.Fence
	pipe  *txn.Pipeline
	owner *task.Owner
	sched *sched.Scheduler
	room  *room

	inbox    *kgo.Client // publishes to the inbox
	view     *view
	watchers watchers
	overdue  overdue
	stuck    stuckRuns

	mu    sync.RWMutex
	owned map[int32]*owned

	phase        atomic.Int32
	stopping     atomic.Bool // publish refuses
	awayBecause  atomic.Pointer[error]
	journalBytes atomic.Int64 // flow state of all tasks, as of the last look
	poison       poisoned
}

// owned is one ownership of a task, from Opened to Closed.
type owned struct {
	partition int32
	inc       *txn.Incarnation
	store     *journal.Store
	ctx       context.Context // ends with the incarnation
	expiring  atomic.Int64    // flows handed to the scheduler to be dropped
}

// store is a journal.Store while it is restored.
type store struct{ *journal.Store }

func (s store) Begun(topic string, p int32) ([16]byte, bool) {
	return s.Store.Begun(topic, p)
}

// Claim begins an ownership.
func (e *engine) Claim(t int32) task.Incarnation { return e.fence.Open(t) }

// NewStore makes the journal of a task.
func (e *engine) NewStore(int32) task.Store { return store{e.newStore()} }

func (e *engine) newStore() *journal.Store {
	c := journal.Config{
		States: map[string]time.Duration{}, Formerly: map[string]string{},
		Retain: e.plan.retain.Flow, Grace: e.plan.retain.Grace, MaxRecord: journalRecordBytes(e.cfg.MaxEventBytes),
	}
	for _, s := range e.plan.steps {
		c.Steps = append(c.Steps, s.step)
		for _, f := range s.formerly {
			c.Formerly[f] = s.step
		}
	}
	for _, s := range e.plan.states {
		c.States[s.state] = s.retain
	}
	for t, d := range e.plan.events {
		c.Common = append(c.Common, t, d.codec.ContentType())
	}
	return journal.New(c)
}

// input is what the engine keeps of one source: task.Source.Handle.
type input struct {
	*txn.Source
	owned *owned
	// waking is set while the source waits for room, so that the gate wakes
	// the owner when there is some again.
	full atomic.Bool
	// passed is gated of this input, made once for all its silent results.
	passed func(bool)
}

// Opened prepares the sources of a restored task.
func (e *engine) Opened(t *task.Task) error {
	inc := t.Incarnation.(*txn.Incarnation)
	o := &owned{partition: t.Partition, inc: inc, store: t.Store.(store).Store, ctx: inc.Context()}
	for _, s := range t.Sources {
		tr, err := offsets.New(s.Offset, s.Metadata, offsets.LeaderEpoch(s.LeaderEpoch))
		if err != nil {
			return err
		}
		in := &input{owned: o, Source: &txn.Source{Topic: s.Topic, TopicID: s.TopicID, Partition: s.Partition, Offsets: tr}}
		in.passed = func(bool) { e.gated(in) }
		s.Handle = in
		if s == t.Home() {
			inc.SetHome(in.Source)
		}
	}
	e.mu.Lock()
	e.owned[t.Partition] = o
	e.mu.Unlock()
	return nil
}

// Begin commits that inputs are begun, each with its start offset.
func (e *engine) Begin(ctx context.Context, t *task.Task, fresh []*task.Source) error {
	o := t.Sources[0].Handle.(*input).owned
	done := make(chan bool, len(fresh))
	now := time.Now()
	for _, s := range fresh {
		c := o.store.PutBegun(s.Topic, s.Partition, s.TopicID)
		e.pipe.Submit(&txn.Result{
			Inc: o.inc, Source: s.Handle.(*input).Source, Offset: txn.NoOffset,
			Records: []*kgo.Record{c.Record(e.names.journal, o.partition, now)},
			Done:    func(committed bool) { done <- committed },
		})
	}
	for range fresh {
		select {
		case ok := <-done:
			if !ok {
				return ErrStopping
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-o.ctx.Done():
			return context.Cause(o.ctx)
		}
	}
	return nil
}

// Recommit commits an idle source's offset once more.
func (e *engine) Recommit(s *task.Source) {
	in := s.Handle.(*input)
	e.pipe.Submit(&txn.Result{Inc: in.owned.inc, Source: in.Source, Offset: txn.NoOffset})
}

// Closed forgets a task.
func (e *engine) Closed(t *task.Task) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if o := e.owned[t.Partition]; o != nil && o.inc == t.Incarnation.(*txn.Incarnation) {
		delete(e.owned, t.Partition)
	}
	e.watchers.wakeAll()
}

// ownedTask returns the live ownership of a task, or nil.
func (e *engine) ownedTask(partition int32) *owned {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if o := e.owned[partition]; o != nil && o.inc.Standing() {
		return o
	}
	return nil
}

// Deliver takes records of one source: those nobody hears are finished at
// once, the others go to their handlers in key order.
func (e *engine) Deliver(ctx context.Context, s *task.Source, recs []*kgo.Record) int {
	in := s.Handle.(*input)
	var b batch
	taken := 0
	for _, rec := range recs {
		if !in.Offsets.Room() {
			in.full.Store(true)
			if !in.Offsets.Room() { // else the gate made room in between
				break
			}
			in.full.Store(false)
		}
		if b.full() || !e.room.try(rec) {
			e.dispatch(&b)
			if !e.room.wait(ctx, in.owned.ctx, rec) {
				break
			}
		}
		taken++
		if !in.Offsets.Begin(rec.Offset, rec.LeaderEpoch) {
			e.room.give(rec) // an earlier owner has finished it
			continue
		}
		e.accept(in, rec, &b)
	}
	e.dispatch(&b)
	return taken
}

// batch gathers what Deliver hands on, so that locks are taken once for many.
type batch struct {
	results []*txn.Result
	work    []sched.Work
}

const batchSize = 256

func (b *batch) full() bool { return len(b.results)+len(b.work) >= batchSize }

func (e *engine) dispatch(b *batch) {
	if len(b.results) > 0 {
		e.pipe.SubmitAll(b.results)
		clear(b.results)
		b.results = b.results[:0]
	}
	if len(b.work) > 0 {
		e.sched.SubmitAll(b.work)
		clear(b.work)
		b.work = b.work[:0]
	}
}

func (b *batch) submit(r *txn.Result) { b.results = append(b.results, r) }

func (b *batch) run(task int32, key string, it sched.Item) {
	b.work = append(b.work, sched.Work{Key: sched.Key{Task: task, Name: key}, Item: it})
}

// accept decides what becomes of one record.
func (e *engine) accept(in *input, rec *kgo.Record, b *batch) {
	if rec.Attrs.IsControl() {
		e.skip(in, rec, b)
		return
	}
	if in.Topic == e.names.inbox && header(rec, headerPublish) != nil {
		e.acceptPublished(in, rec, b)
		return
	}
	view := cloudevent.ViewOf(rec)
	if view.Mode() == cloudevent.NotCloudEvent {
		e.metrics.ignored(ignoredNotCloudEvent)
		e.skip(in, rec, b)
		return
	}
	h := e.plan.hears[string(view.Type())]
	if h == nil && view.Mode() == cloudevent.Binary {
		e.metrics.ignored(ignoredNotHeard)
		e.unheard(in, &view)
		e.skip(in, rec, b)
		return
	}
	if len(rec.Value) > e.cfg.MaxEventBytes {
		e.refuse(in, rec, h, &refusal{reason: reasonTooBig,
			err: &tooBigError{len(rec.Value), e.cfg.MaxEventBytes}}, b)
		return
	}
	if n := e.poison.times(in.Topic, in.Partition, rec.Offset); n > 0 {
		e.refuse(in, rec, h, &refusal{reason: reasonUnsayable, truncate: n > 1,
			err: errors.New("the broker refused what the handlers said for its size; see max.message.bytes of the topics")}, b)
		return
	}
	ev, err := cloudevent.Read(rec)
	if h == nil && err == nil { // structured: the type is known only now
		if h = e.plan.hears[ev.Type]; h == nil {
			e.metrics.ignored(ignoredNotHeard)
			e.skip(in, rec, b)
			return
		}
	}
	if err != nil {
		e.refuse(in, rec, h, &refusal{reason: reasonInvalid, err: err}, b)
		return
	}
	if ev.Hops >= maxHops {
		e.refuse(in, rec, h, &refusal{reason: reasonHops,
			err: fmt.Errorf("%d hops from the start of its flow; the events go round in a cycle", ev.Hops)}, b)
		return
	}
	e.metrics.consumed.Inc()
	r := newRun(e, in, rec, ev, h)
	if h.stateful {
		if home := txn.Partition([]byte(r.flow), e.plan.tasks); home != in.owned.partition {
			b.submit(e.forward(in, rec, r.flow, home))
			return
		}
		b.run(in.owned.partition, r.flow, r)
		return
	}
	key := r.flow
	if rec.Key != nil {
		key = string(rec.Key)
	}
	b.run(in.owned.partition, key, r)
}

// skip finishes a record that nobody works on.
func (e *engine) skip(in *input, rec *kgo.Record, b *batch) {
	e.room.give(rec)
	b.submit(&txn.Result{Inc: in.owned.inc, Source: in.Source, Offset: rec.Offset, Done: in.passed})
}

// unheard notes that a flow has ended when the event of another's outcome
// passes by, so that its state need not wait for the retention.
func (e *engine) unheard(in *input, v *cloudevent.View) {
	if len(v.Outcome()) > 0 {
		in.owned.store.Ended(string(v.CorrelationID()), time.Now())
	}
}

func header(rec *kgo.Record, key string) []byte {
	for i := range rec.Headers {
		if rec.Headers[i].Key == key {
			return rec.Headers[i].Value
		}
	}
	return nil
}

// gated tells that results of a source have passed the gate: where the source
// was full there may be room again.
func (e *engine) gated(in *input) {
	if in.full.Load() && in.Offsets.Room() {
		in.full.Store(false)
		e.owner.Wake()
	}
}
