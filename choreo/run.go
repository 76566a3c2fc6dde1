package choreo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/choreography-go/choreography/choreo/internal/room"
	"github.com/choreography-go/choreography/choreo/internal/sched"
	"github.com/choreography-go/choreography/choreo/internal/task"
	"github.com/choreography-go/choreography/choreo/internal/timelimit"
	"github.com/choreography-go/choreography/choreo/internal/txn"
	"github.com/choreography-go/choreography/choreo/internal/view"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Run runs the service until ctx ends, then stops it gracefully: nothing new
// is taken, what is in work is finished and committed within
// [Config].StopTimeout, and a restart under the same instance id continues at
// once. It returns nil after a graceful stop, and otherwise the error that
// ended the run. While brokers are away it keeps trying.
//
// A Service runs once at a time.
func (s *Service) Run(ctx context.Context, cfg Config) error {
	p := newPlan(s)
	if err := p.err(); err != nil {
		return err
	}
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return err
	}
	if !s.claimed.CompareAndSwap(false, true) {
		return fmt.Errorf("service %q is running already", p.service)
	}
	defer s.claimed.Store(false)
	e, err := newEngine(s, p, cfg)
	if err != nil {
		return err
	}
	return e.run(ctx, s)
}

func newEngine(s *Service, p *plan, cfg Config) (*engine, error) {
	e := &engine{
		plan: p, cfg: cfg, names: namesOf(p.service, cfg.TopicPrefix), source: p.source(), wrap: s.middleware,
		log: serviceLogger(cfg.Logger, p.service, cfg.InstanceID), metrics: newMetrics(cfg.Registerer, p),
		tracing: newTracing(cfg.TracerProvider, cfg.TopicPrefix+p.service),
		fence:   &txn.Fence{}, room: &room.Room{MaxRecords: cfg.MaxInFlight, MaxBytes: cfg.MaxInFlightBytes}, sched: sched.New(cfg.MaxHandlers), lapses: newLapses(cfg),
		attempts: timelimit.Attempts{Late: ErrTimeout},
		owned:    map[int32]*owned{}, failed: make(chan error, 1),
	}
	e.room.Closed = e.journalFull
	e.doors = e.newDoors()
	group := e.names.group
	writes := []string{e.names.inbox, e.names.journal, e.names.dlq}
	for _, topic := range p.outputTopics() {
		writes = append(writes, e.names.topic(topic))
	}
	laneID := func(lane int) string { return fmt.Sprintf("%s/%s/%d", group, cfg.InstanceID, lane) }
	var err error
	e.pipe, err = txn.New(txn.Config{
		Fence: e.fence, Group: group, InstanceID: cfg.InstanceID, TransactionalID: laneID, Lanes: cfg.Lanes,
		OffsetsID:     fmt.Sprintf("%s/%s/offsets", group, cfg.InstanceID),
		Topics:        writes,
		Membership:    func() (string, int32) { return e.owner.Membership() },
		ClientOptions: e.clientOptions("lane"),
		Manual:        func(topic string) bool { return topic == e.names.journal },
		BatchBytes:    e.batchBytes,
		Failed:        e.pipelineFailed,
		Ready:         func() { e.owner.PipelineReady() },
		Observer:      e.metrics,
		SilentAfter:   cfg.IdleCommit,
		Logger:        e.log,
	})
	if err != nil {
		return nil, err
	}
	tc := task.Config{
		Command: p.service, Group: group, Inbox: e.names.inbox, Journal: e.names.journal, InstanceID: cfg.InstanceID,
		TransactionalPrefix: group + "/", OwnPrefix: fmt.Sprintf("%s/%s/", group, cfg.InstanceID),
		Options: e.clientOptions("data"), Engine: e, Logger: e.log, SessionTimeout: cfg.SessionTimeout,
	}
	for _, topic := range p.inputTopics() {
		from := task.Earliest
		if p.topics[topic].From == Latest {
			from = task.Latest
		}
		tc.Inputs = append(tc.Inputs, task.Input{Topic: e.names.topic(topic), From: from})
	}
	if e.owner, err = task.New(tc); err != nil {
		return nil, err
	}
	e.view = view.New(view.Config{Journal: e.names.journal, NewStore: e.newStore, Options: e.clientOptions("view"), Changed: e.watchers.wake})
	return e, nil
}

// batchBytes is the largest batch to send to a topic: the runtime's own topics
// take more than Kafka's default, as `topics --apply` makes them.
func (e *engine) batchBytes(topic string) int32 {
	const kafkaDefault = 1_000_012
	switch topic {
	case e.names.dlq:
		return maxDeadLetter + 1<<20
	case e.names.journal:
		return int32(max(kafkaDefault, e.plan.journalRecordBytes(e.cfg.MaxEventBytes)))
	}
	return int32(max(kafkaDefault, e.cfg.MaxEventBytes+64<<10))
}

// journalRecordBytes bounds one journal record: a run keeps what it heard and
// what it said, a join all its halves.
func (p *plan) journalRecordBytes(maxEvent int) int {
	events := 2
	for _, s := range p.steps {
		if s.join != nil {
			events = max(events, len(s.join.halves))
		}
	}
	return events*maxEvent + 128<<10
}

// run serves until ctx ends or something fails that no retry mends.
func (e *engine) run(ctx context.Context, s *Service) (err error) {
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()

	stopAdmin, err := e.startAdmin()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopAdmin(context.WithoutCancel(ctx))) }()

	if err := e.prepare(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	if e.inbox, err = kgo.NewClient(append(e.clientOptions("publish"), kgo.ProducerLinger(0),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)), kgo.RecordDeliveryTimeout(10*time.Second),
		kgo.ProducerBatchMaxBytes(e.batchBytes("")))...); err != nil {
		return fmt.Errorf("make the client that publishes: %w", err)
	}
	defer e.inbox.Close()
	defer e.view.Close()
	defer e.closeDoors()

	wg.Go(func() {
		if err := e.pipe.Run(work); err != nil && work.Err() == nil {
			e.fail(fmt.Errorf("transaction pipeline: %w", err))
		}
	})
	wg.Go(func() {
		if err := e.owner.Run(work); err != nil && work.Err() == nil {
			e.fail(err)
		}
	})
	wg.Go(func() { e.keepHouse(work) })

	var reader stateReader = e
	for _, bind := range e.plan.bindStates {
		bind(reader)
	}
	s.running.Store(e)
	defer s.running.Store(nil)
	stopHTTP, err := startHTTP(ctx, e.plan.https, e.cfg.Listen, e.log)
	if err != nil {
		e.end(cancel, &wg)
		return err
	}

	e.phase.Store(phaseRunning)
	e.log.Info("service runs", "group", e.names.group, "tasks", e.plan.tasks)
	select {
	case <-ctx.Done():
		err = e.stop(context.WithoutCancel(ctx), stopHTTP)
	case err = <-e.failed:
		e.log.Error("service fails", "error", err)
		stopping, end := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		_ = stopHTTP(stopping)
		end()
	}
	e.end(cancel, &wg)
	return err
}

// fail ends the run; the first error counts.
func (e *engine) fail(err error) {
	select {
	case e.failed <- err:
	default:
	}
}

// end stops what a run has started. Handlers that are cut off get a moment to
// see that their contexts have ended, so that none outlives the run unless it
// ignores that.
func (e *engine) end(cancel context.CancelCauseFunc, started *sync.WaitGroup) {
	const patience = time.Second
	e.sched.Close()
	cancel(ErrStopping)
	started.Wait()
	ctx, forget := context.WithTimeout(context.Background(), patience)
	defer forget()
	if err := e.sched.Wait(ctx); err != nil {
		e.log.Error("handlers ignore that their contexts have ended, and outlive the run", "error", err)
	}
}

// prepare waits for the brokers and checks that they and the topics will do.
func (e *engine) prepare(ctx context.Context) error {
	cl, err := kgo.NewClient(e.clientOptions("admin")...)
	if err != nil {
		return fmt.Errorf("make the admin client: %w", err)
	}
	defer cl.Close()
	began := time.Now()
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		attempt, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := txn.CheckCluster(attempt, cl)
		if err == nil {
			err = verifyTopics(attempt, kadm.NewClient(cl), e.plan, e.cfg)
		}
		cancel()
		// Not every broker knows at once of a topic that was just created.
		spreading := time.Since(began) < topicsSpread && onlyMissing(err)
		if err == nil || ctx.Err() != nil || isFinal(err) && !spreading {
			return err
		}
		e.awayBecause.Store(&err)
		e.log.Warn("cannot start yet, will try again", "in", wait, "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// topicsSpread is how long a missing topic may be one that not all brokers have
// heard of.
const topicsSpread = 3 * time.Second

func onlyMissing(err error) bool {
	t, ok := errors.AsType[*TopicsError](err)
	return ok && !slices.ContainsFunc(t.Problems, func(p TopicProblem) bool { return !p.Missing && !p.Harmless })
}

// isFinal reports that asking the brokers again would not help: somebody has to
// change the cluster, the topics, or our rights.
func isFinal(err error) bool {
	for _, denied := range []error{
		kerr.ClusterAuthorizationFailed, kerr.TopicAuthorizationFailed, kerr.GroupAuthorizationFailed,
		kerr.TransactionalIDAuthorizationFailed, kerr.SaslAuthenticationFailed, kerr.UnsupportedSaslMechanism,
	} {
		if errors.Is(err, denied) {
			return true
		}
	}
	if _, ok := errors.AsType[*txn.ClusterError](err); ok {
		return true
	}
	_, ok := errors.AsType[*TopicsError](err)
	return ok
}

// stop ends a run gracefully. What does not end within the limit is dropped:
// it was not committed, so it is done again after the restart.
func (e *engine) stop(ctx context.Context, stopHTTP func(context.Context) error) error {
	e.log.Info("service stops", "limit", e.cfg.StopTimeout)
	e.phase.Store(phaseStopping)
	ctx, cancel := context.WithTimeoutCause(ctx, e.cfg.StopTimeout, fmt.Errorf("not stopped within STOP_TIMEOUT, %v", e.cfg.StopTimeout))
	defer cancel()
	if err := stopHTTP(ctx); err != nil {
		e.log.Warn("HTTP requests were cut off", "error", err)
	}
	e.stopping.Store(true)
	e.owner.StopReading()
	if err := e.idle(ctx); err != nil {
		e.log.Warn("handlers were cut off; their events are handled again after a restart", "error", err)
	}
	e.sched.Close()
	if err := e.pipe.Drain(ctx); err != nil {
		e.log.Warn("not all results were committed; their events are handled again after a restart", "error", err)
	}
	if err := e.owner.Close(ctx); err != nil {
		e.log.Warn("leave the group", "error", err)
	}
	e.pipe.Close()
	e.log.Info("service has stopped")
	return nil
}

// idle waits until no handler runs or could run. Those that wait for another
// attempt, and what is queued behind them, are not waited for.
func (e *engine) idle(ctx context.Context) error {
	t := time.NewTicker(2 * time.Millisecond)
	defer t.Stop()
	for {
		if s := e.sched.Stats(); s.Running == 0 && s.QueuedKeys == 0 {
			return nil
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// pipelineFailed is told that nothing in memory is to be trusted any more.
func (e *engine) pipelineFailed(cause error) {
	if large, ok := errors.AsType[*txn.RecordTooLargeError](cause); ok && large.Result != nil {
		e.refusedForSize(large)
	}
	e.owner.PipelineFailed(cause)
}

// keepHouse drops expired flows and times of deadlines that are met, and lets reading
// go on when memory was freed. It also looks whether sources that are full have room
// again: they are told by results of their own alone, and may wait for what others
// hold in memory or have parked, or for a provider to be back (see mayRead). Half a
// second is soon enough for that, and looking costs next to nothing.
func (e *engine) keepHouse(ctx context.Context) {
	const interval, perTask = 500 * time.Millisecond, 20_000
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		e.mu.RLock()
		all := make([]*owned, 0, len(e.owned))
		for _, o := range e.owned {
			all = append(all, o)
		}
		e.mu.RUnlock()
		var bytes int64
		for _, o := range all {
			bytes += o.store.Bytes()
			e.expire(o, perTask)
			o.sweepDeadlines()
			for _, in := range o.inputs {
				e.gated(in)
			}
		}
		e.journalBytes.Store(bytes)
		e.room.Changed()
	}
}

// expire hands the flows of a task that may be dropped to the scheduler, so
// that none is dropped while one of its events is at work. A flow that is at
// work for long, such as on a compensation that fails, holds up no other.
func (e *engine) expire(o *owned, most int) {
	if !o.inc.Standing() {
		return
	}
	var work []sched.Work
	flows := o.store.Expirable(o.clock.atLeast(), most)
	o.mu.Lock()
	for _, flow := range flows {
		if _, queued := o.expiring[flow]; queued {
			continue
		}
		o.expiring[flow] = struct{}{}
		work = append(work, sched.Work{Key: sched.Key{Task: o.partition, Name: flow}, Item: &expiry{e, o, flow}})
	}
	o.mu.Unlock()
	e.sched.SubmitAll(work)
}

func (e *engine) journalFull() bool { return e.journalBytes.Load() >= e.cfg.MaxJournalBytes }
