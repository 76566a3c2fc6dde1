package choreo

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/internal/agenda"
	"github.com/choreography-go/choreography/choreo/internal/journal"
	"github.com/choreography-go/choreography/choreo/internal/offsets"
	"github.com/choreography-go/choreography/choreo/internal/room"
	"github.com/choreography-go/choreography/choreo/internal/sched"
	"github.com/choreography-go/choreography/choreo/internal/task"
	"github.com/choreography-go/choreography/choreo/internal/timelimit"
	"github.com/choreography-go/choreography/choreo/internal/txn"
	"github.com/choreography-go/choreography/choreo/internal/view"
	"github.com/choreography-go/choreography/choreo/operator"
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
	pipe  pipeline
	owner *task.Owner
	sched *sched.Scheduler
	room  *room.Room

	outgoing sync.Pool // of *outgoing

	inbox    *kgo.Client // publishes to the inbox
	view     *view.View
	watchers watchers
	attempts timelimit.Attempts
	stuck    stuckRuns
	lapses   *lapses
	doors    map[string]*door // by step, those that have one

	mu    sync.RWMutex
	owned map[int32]*owned

	phase        atomic.Int32
	stopping     atomic.Bool // publish refuses
	awayBecause  atomic.Pointer[error]
	journalBytes atomic.Int64 // flow state of all tasks, as of the last look
	poison       poisoned
	failed       chan error // what ends the run
}

// pipeline is what the engine uses of a txn.Pipeline.
type pipeline interface {
	Submit(*txn.Result)
	SubmitAll([]*txn.Result)
	Run(context.Context) error
	Drain(context.Context) error
	Close()
}

// owned is one ownership of a task, from Opened to Closed.
type owned struct {
	partition int32
	inc       *txn.Incarnation
	store     *journal.Store
	ctx       context.Context // ends with the incarnation, because of ErrStopping
	inputs    []*input        // not changed after Opened
	timer     *input          // of what is from no input: parked events
	agenda    *agenda.Agenda  // when the heads of queues are due
	lapsed    *input          // of deadlines that fire
	deadlines *agenda.Agenda  // when flows have deadlines that are due
	late      late
	clock     clock
	early     map[string]earlier // by key, not changed after Opened
	held      atomic.Int64       // events that cannot be parked, and wait in memory
	overflow  heldEvents         // those of them that are not at work

	mu       sync.Mutex
	expiring map[string]struct{} // flows handed to the scheduler to be dropped
}

func (e *engine) newOwned(partition int32, inc *txn.Incarnation, s *journal.Store) *owned {
	ctx, cancel := context.WithCancelCause(context.Background())
	context.AfterFunc(inc.Context(), func() {
		cancel(fmt.Errorf("%w: %w", ErrStopping, context.Cause(inc.Context())))
	})
	o := &owned{partition: partition, inc: inc, store: s, ctx: ctx, clock: newClock(), expiring: map[string]struct{}{}}
	o.timer = &input{owned: o, Source: nil}
	o.agenda = agenda.New(func(keys []string) { e.due(o, keys) })
	o.lapsed = &input{owned: o, Source: nil}
	o.deadlines = agenda.New(func(flows []string) { e.lapse(o, flows) })
	context.AfterFunc(ctx, func() {
		o.agenda.Close()
		o.deadlines.Close()
		o.overflow.close()
	})
	return o
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
		Retain: e.plan.retain.Flow, Grace: e.plan.retain.Grace, MaxRecord: e.plan.journalRecordBytes(e.cfg.MaxEventBytes),
		MaxParked: e.cfg.MaxParkedPerFlow,
	}
	for _, s := range e.plan.steps {
		c.Steps = append(c.Steps, s.step)
		for _, f := range s.formerly {
			c.Formerly[f] = s.step
		}
	}
	for _, d := range e.plan.deadlines {
		c.Deadlines = append(c.Deadlines, d.deadline)
		for _, f := range d.formerly {
			c.Formerly[f] = d.deadline
		}
	}
	for _, s := range e.plan.states {
		c.States[s.state] = s.retain
	}
	for _, s := range e.plan.reacts {
		c.Reactions = append(c.Reactions, s.reaction)
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
	// full is set while the source waits for room, so that the gate wakes the
	// owner when there is some again.
	full atomic.Bool
	// passed is gated of this input, made once for all its silent results.
	passed txn.DoneFunc
	doors  []*door // of the steps that its events set off
}

// Opened prepares the sources of a restored task.
func (e *engine) Opened(t *task.Task) error {
	inc := t.Incarnation.(*txn.Incarnation)
	o := e.newOwned(t.Partition, inc, t.Store.(store).Store)
	for _, s := range t.Sources {
		tr, err := offsets.New(s.Offset, s.Metadata, offsets.LeaderEpoch(s.LeaderEpoch))
		if err != nil {
			return err
		}
		in := &input{owned: o, Source: &txn.Source{Topic: s.Topic, TopicID: s.TopicID, Partition: s.Partition, Offsets: tr}}
		in.passed = func(bool) { e.gated(in) }
		in.doors = e.doorsBehind(s.Topic)
		s.Handle = in
		o.inputs = append(o.inputs, in)
		if s == t.Home() {
			inc.SetHome(in.Source)
		}
	}
	o.seeTimes()
	e.mu.Lock()
	e.owned[t.Partition] = o
	e.mu.Unlock()
	e.recall(o)
	o.recallDeadlines()
	e.rejoin(o)
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
			Done:    txn.DoneFunc(func(committed bool) { done <- committed }),
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
		for _, d := range e.doors {
			d.leftTask(o)
		}
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
	next := in.Offsets.Next()
	for i, rec := range recs {
		b.ahead = len(recs) - i
		if rec.Offset < next {
			e.truncated(in, rec.Offset, next)
			break
		}
		next = rec.Offset + 1
		if !e.mayRead(in) {
			in.full.Store(true)
			if !e.mayRead(in) { // else the gate made room in between
				break
			}
			in.full.Store(false)
		}
		n := size(rec)
		if b.full() || !e.room.Try(n) {
			e.dispatch(&b)
			if !e.room.Wait(ctx, in.owned.ctx, n) {
				break
			}
		}
		taken++
		if !in.Offsets.Begin(rec.Offset, rec.LeaderEpoch) {
			e.room.Give(n) // an earlier owner has finished it
			continue
		}
		e.accept(in, rec, &b)
	}
	e.dispatch(&b)
	return taken
}

// truncated ends the run: offsets that were worked on already now hold other
// records, as after an unclean election of a partition's leader. What came of
// the lost ones stands, so a person must know.
func (e *engine) truncated(in *input, offset, next int64) {
	err := fmt.Errorf("%s/%d delivers offset %d after %d: the partition was truncated, and events that were handled are lost from it; "+
		"start again to go on from what the broker has committed", in.Topic, in.Partition, offset, next-1)
	in.owned.inc.Close(err)
	e.fail(err)
}

// batch gathers what Deliver hands on, so that locks are taken once for many.
type batch struct {
	results []*txn.Result
	work    []sched.Work
	runs    []run  // to be used
	bytes   []byte // its capacity is to be used
	ahead   int    // records to be accepted, this one included
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

// So many runs, and bytes of their records, are allocated together. All of them
// live as long as any does.
const (
	runsAtOnce  = 16 // fill a size class of the allocator
	bytesAtOnce = 4096
)

func (b *batch) newRun() *run {
	if len(b.runs) == 0 {
		b.runs = make([]run, max(1, min(runsAtOnce, b.ahead)))
	}
	r := &b.runs[0]
	b.runs = b.runs[1:]
	return r
}

// keep gives a run its record, as a copy. As it was fetched, a record holds on to
// all that came in the same answer, megabytes, and it may have to wait for long:
// for the flow's turn, or for another attempt.
func (b *batch) keep(r *run, rec *kgo.Record) *kgo.Record {
	n := int(size(rec))
	if cap(b.bytes)-len(b.bytes) < n {
		b.bytes = make([]byte, 0, max(n, min(bytesAtOnce, n*b.ahead)))
	}
	copied := func(v []byte) []byte {
		if len(v) == 0 {
			if v != nil {
				v = []byte{}
			}
			return v
		}
		start := len(b.bytes)
		b.bytes = append(b.bytes, v...)
		return b.bytes[start:len(b.bytes):len(b.bytes)]
	}
	own := &r.own.rec
	*own = *rec
	own.Key, own.Value = copied(rec.Key), copied(rec.Value)
	for i := range own.Headers { // the list is the record's own already
		own.Headers[i].Value = copied(own.Headers[i].Value)
	}
	return own
}

func (b *batch) submit(r *txn.Result) { b.results = append(b.results, r) }

func (b *batch) run(r *run) {
	b.work = append(b.work, sched.Work{Key: sched.Key{Task: r.in.owned.partition, Name: r.key}, Item: r})
}

// accept decides what becomes of one record.
func (e *engine) accept(in *input, rec *kgo.Record, b *batch) {
	if rec.Attrs.IsControl() {
		e.skip(in, rec, b)
		return
	}
	if in.Topic == e.names.inbox {
		if e.isReplay(rec) {
			e.acceptReplayed(in, rec, b)
			return
		}
		if operator.IsCommand(rec) {
			e.acceptCommand(in, rec, b)
			return
		}
		if header(rec, headerPublish) != nil {
			e.acceptPublished(in, rec, b)
			return
		}
	}
	view := cloudevent.ViewOf(rec)
	var r *run
	var err error
	var h *hearing
	switch view.Mode() {
	case cloudevent.NotCloudEvent:
		e.metrics.ignored(ignoredNotCloudEvent)
		e.skip(in, rec, b)
		return
	case cloudevent.Binary:
		if h = e.plan.hears[string(view.Type())]; h == nil {
			e.unheard(in, string(view.CorrelationID()), len(view.Outcome()) > 0)
			e.skip(in, rec, b)
			return
		}
	default: // structured: what is not read has no type, so nobody hears it
		r = b.newRun()
		rec = b.keep(r, rec)
		view = cloudevent.ViewOf(rec)
		if err = view.Read(&r.event); err == nil {
			if h = e.plan.hears[r.event.Type]; h == nil {
				e.unheard(in, r.event.CorrelationID, r.event.Outcome != "")
				e.skip(in, rec, b)
				return
			}
		}
	}
	if why := e.unfit(rec); why != nil {
		e.refuse(in, rec, h, why, b)
		return
	}
	if r == nil {
		r = b.newRun()
		rec = b.keep(r, rec)
		err = view.Read(&r.event)
		r.event.Data = rec.Value
	}
	if err != nil {
		e.refuse(in, rec, h, &refusal{reason: reasonInvalid, err: err}, b)
		return
	}
	if why := tooFar(&r.event); why != nil {
		e.refuse(in, rec, h, why, b)
		return
	}
	e.metrics.consumed.Inc()
	r.begin(e, in, rec, h)
	if h.stateful {
		if home := txn.Partition([]byte(r.flow), e.plan.tasks); home != in.owned.partition {
			b.submit(e.forward(in, rec, r.flow, home))
			return
		}
	} else if rec.Key != nil && string(rec.Key) != r.key {
		r.key = string(rec.Key)
	}
	b.run(r)
}

// skip finishes a record that nobody works on.
func (e *engine) skip(in *input, rec *kgo.Record, b *batch) {
	e.room.Give(size(rec))
	b.submit(&txn.Result{Inc: in.owned.inc, Source: in.Source, Offset: rec.Offset, Done: in.passed})
}

// unheard counts an event that nobody hears. If it is an outcome its flow has
// ended, so that the flow's state need not wait for the retention.
func (e *engine) unheard(in *input, flow string, outcome bool) {
	e.metrics.ignored(ignoredNotHeard)
	if outcome {
		in.owned.store.Ended(flow, time.Now())
	}
}

// unfit is why a record is refused for its size, or for what came of it; nil if
// it is not.
func (e *engine) unfit(rec *kgo.Record) *refusal {
	if len(rec.Value) > e.cfg.MaxEventBytes {
		return &refusal{reason: reasonTooBig, err: &tooBigError{len(rec.Value), e.cfg.MaxEventBytes}}
	}
	return e.unsayable(rec)
}

// tooFar is why an event is refused that has come too far from the start of its
// flow, nil if it has not.
func tooFar(ev *cloudevent.Event) *refusal {
	if ev.Hops < maxHops {
		return nil
	}
	return &refusal{reason: reasonHops, err: fmt.Errorf("%d hops from the start of its flow; the events go round in a cycle", ev.Hops)}
}

// unsayable is why a record is refused of which the broker has refused something
// that no handler said, nil if it has not.
func (e *engine) unsayable(rec *kgo.Record) *refusal {
	if err := e.poison.why(outputOf(rec, anything)); err != nil {
		return &refusal{reason: reasonUnsayable, err: err}
	}
	return nil
}

// passed makes the Done of a result that is no run's: its record takes room
// until then, like every other one.
func (e *engine) passed(in *input, rec *kgo.Record) txn.DoneFunc {
	return func(bool) {
		e.room.Give(size(rec))
		e.gated(in)
	}
}

// size is the room that a record takes.
func size(rec *kgo.Record) int64 {
	n := len(rec.Key) + len(rec.Value)
	for i := range rec.Headers {
		n += len(rec.Headers[i].Key) + len(rec.Headers[i].Value)
	}
	return int64(n)
}

func header(rec *kgo.Record, key string) []byte {
	for i := range rec.Headers {
		if rec.Headers[i].Key == key {
			return rec.Headers[i].Value
		}
	}
	return nil
}

// mayRead reports whether a source may take another record. While events of a
// task cannot be parked, each of its sources has a part of the room only, so that
// they pause before all of it is taken and the other tasks have to wait as well.
func (e *engine) mayRead(in *input) bool {
	return in.Offsets.Room() && (in.owned.held.Load() == 0 || in.Offsets.InFlight() < e.partOfRoom()) && e.letIn(in)
}

// gated tells that results of a source have passed the gate: where the source
// was full there may be room again.
func (e *engine) gated(in *input) {
	if in.full.Load() && e.mayRead(in) {
		in.full.Store(false)
		e.owner.Wake()
	}
}
