package task

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Owner owns the tasks that the group assigns to this process. Its methods may
// be called by any goroutine at any time.
type Owner struct {
	cfg     Config
	log     *slog.Logger
	contact contact

	ctx        context.Context // done when Run is over
	cancel     context.CancelCauseFunc
	closed     chan struct{}  // closed when Run has returned
	restoring  chan struct{}  // bounds restores
	relieving  chan struct{}  // one at a time
	hint       chan struct{}  // a topic may have changed
	background sync.WaitGroup // ends of tenures, watch, drain

	reader atomic.Pointer[reader]

	mu       sync.Mutex
	started  bool
	meta     *kgo.Client // requests only
	data     *kgo.Client // reads by direct assignment
	group    *kgo.Client // joins, never fetches
	leave    context.CancelFunc
	topology topology // as at start
	assigned map[int32]bool
	tenures  map[int32]*tenure
	kept     map[int32]bool // from an earlier membership, to be opened anew
	as       membership     // under which tasks are owned
	joined   bool
	down     bool  // the pipeline is not ready yet or failed
	cause    error // why
	closing  bool
}

// errNotReady is why no task is opened before the first PipelineReady.
var errNotReady = errors.New("the transaction lanes are not made yet")

// fetchWait is how long a fetch of the data client waits for records. One fetch
// per broker is under way at a time, and a partition that is added or resumed
// meanwhile waits for its end; so it is short, at ten requests per second to
// each broker from an idle instance.
const fetchWait = 100 * time.Millisecond

// leaveTimeout bounds leaving the group, which waits for a join in progress.
const leaveTimeout = 3 * time.Second

// New checks the configuration and returns all that is wrong with it at once.
// It connects to nothing.
func New(cfg Config) (*Owner, error) {
	if err := cfg.normalize(); err != nil {
		return nil, err
	}
	o := &Owner{
		cfg:       cfg,
		log:       cfg.Logger,
		contact:   contact{last: time.Now(), quiet: max(2*cfg.Heartbeat, cfg.SessionTimeout*6/10)},
		closed:    make(chan struct{}),
		restoring: make(chan struct{}, cfg.Restores),
		relieving: make(chan struct{}, 1),
		hint:      make(chan struct{}, 1),
		assigned:  make(map[int32]bool),
		tenures:   make(map[int32]*tenure),
		kept:      make(map[int32]bool),
		down:      true, // until the pipeline is ready for the first time
		cause:     errNotReady,
	}
	o.ctx, o.cancel = context.WithCancelCause(context.Background())
	return o, nil
}

// client makes a client with the options that all have in common.
func (o *Owner) client(opts ...kgo.Opt) (*kgo.Client, error) {
	all := append([]kgo.Opt{kgo.MetadataMinAge(100 * time.Millisecond), kgo.FetchMaxWait(fetchWait)}, o.cfg.Options...)
	cl, err := kgo.NewClient(append(append(all, kgo.WithHooks(&o.contact)), opts...)...)
	if err != nil {
		return nil, fmt.Errorf("making a Kafka client: %w", err)
	}
	return cl, nil
}

// Run checks the topics, joins the group and serves tasks until Close, which
// makes it return nil; until ctx is done, which closes everything at once,
// waits for no transaction and returns ctx's error; or until an error that no
// retry mends: topics that are missing or do not fit ([TopicError]), an
// instance id in use ([InstanceInUseError]), a refused authorization. While no
// broker answers it keeps trying. It may be called once.
func (o *Owner) Run(ctx context.Context) error {
	o.mu.Lock()
	if o.started {
		o.mu.Unlock()
		return errors.New("task: Run was called twice")
	}
	o.started = true
	o.mu.Unlock()
	defer close(o.closed)
	stop := context.AfterFunc(ctx, func() { o.cancel(context.Cause(ctx)) })
	defer stop()

	err := o.start()
	if err == nil {
		<-o.ctx.Done()
	} else {
		o.cancel(err)
	}
	o.shut()
	if cause := context.Cause(o.ctx); !errors.Is(cause, errClosed) {
		return cause
	}
	return nil
}

// start makes the clients, in the order of need, and joins the group.
func (o *Owner) start() error {
	meta, err := o.client()
	if err != nil {
		return err
	}
	o.mu.Lock()
	o.meta = meta
	o.mu.Unlock()
	top, err := o.awaitTopics()
	if err != nil {
		return err
	}
	data, err := o.client(
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), // what retention removed unread is said, not skipped
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(),
		kgo.KeepRetryableFetchErrors(), // they may say that a topic is gone
	)
	if err != nil {
		return err
	}
	r := newReader(o.ctx, data, o.cfg.Engine, o.cfg.PollRecords)
	r.notice = o.noticed
	r.failed = func(t *Task, p partition, err error) {
		o.reopen(t, fmt.Errorf("reading topic %q, partition %d: %w", p.topic, p.num, err))
	}
	o.mu.Lock()
	o.topology, o.data = top, data
	closing := o.closing
	o.mu.Unlock()
	o.reader.Store(r)
	go r.run()
	if closing {
		return nil
	}
	ctx, leave := context.WithCancel(context.Background())
	group, err := o.join(ctx)
	if err != nil {
		leave()
		return err
	}
	o.mu.Lock()
	o.group, o.leave = group, leave
	o.mu.Unlock()
	o.background.Go(func() { o.drain(group) })
	o.background.Go(o.watch)
	return nil
}

// awaitTopics describes the topics, for as long as no broker answers.
func (o *Owner) awaitTopics() (topology, error) {
	backoff := openBackoff
	for {
		ctx, cancel := context.WithTimeout(o.ctx, o.cfg.SessionTimeout)
		top, err := describe(ctx, o.meta, o.cfg.names())
		cancel()
		switch {
		case err == nil:
			return top, o.cfg.check(top)
		case o.ctx.Err() != nil:
			return nil, context.Cause(o.ctx)
		case denied(err):
			return nil, err
		}
		o.contact.failed(err)
		o.log.Warn("no broker has answered yet: trying again", "in", backoff, "error", err)
		if pause(o.ctx, backoff) != nil {
			return nil, context.Cause(o.ctx)
		}
		backoff = min(2*backoff, openBackoffMax)
	}
}

// shut closes what start made. o.ctx is done.
func (o *Owner) shut() {
	o.mu.Lock()
	o.closing = true
	group, data, meta, r := o.group, o.data, o.meta, o.reader.Load()
	list := o.all()
	o.mu.Unlock()
	if r != nil {
		r.stop()
	}
	o.endAll(list, context.Cause(o.ctx))
	if group != nil {
		ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
		_ = group.LeaveGroupContext(ctx) // best effort: the session ends by itself
		cancel()
		o.leave()
		group.Close()
	}
	o.background.Wait()
	if data != nil {
		data.Close()
	}
	if meta != nil {
		meta.Close()
	}
}

// all lists the tenures. o.mu is held.
func (o *Owner) all() []*tenure {
	list := make([]*tenure, 0, len(o.tenures))
	for _, t := range o.tenures {
		list = append(list, t)
	}
	return list
}

// StopReading takes nothing new: when it returns, Deliver is not called any
// more. Tasks stay owned, so that what was delivered can be committed.
func (o *Owner) StopReading() {
	o.mu.Lock()
	o.closing = true
	o.mu.Unlock()
	if r := o.reader.Load(); r != nil {
		r.stop()
	}
}

// Close ends every incarnation, waits within ctx for the transactions that hold
// them, and closes the clients; Run returns then. A static member does not
// leave the group: a restart under the same instance id gets the same tasks
// back at once. Call it after StopReading and after the pipeline has committed
// what it had. The error is ctx's, if it was done first; everything is closed
// all the same.
func (o *Owner) Close(ctx context.Context) error {
	o.mu.Lock()
	o.closing = true
	started := o.started
	list := o.all()
	o.mu.Unlock()
	if started {
		o.settleAll(ctx, list, errClosed)
		o.endAll(list, errClosed)
	}
	o.cancel(errClosed)
	if started {
		<-o.closed
	}
	return ctx.Err()
}

// Membership is the member id and generation to commit with, as of now. Before
// the first assignment the id is empty and the generation -1, and nothing may
// be committed. The id is that under which the tasks are owned that are open:
// when the group client has another one already it is the last one still, which
// the broker refuses.
func (o *Owner) Membership() (member string, generation int32) {
	o.mu.Lock()
	group, as := o.group, o.as
	o.mu.Unlock()
	if group == nil || as.member == "" {
		return "", -1
	}
	if member, generation = group.GroupMetadata(); member != as.member {
		return as.member, as.generation
	}
	return member, generation
}

// PipelineFailed tells that a transaction failed and everything not committed
// is void. Every incarnation is closed, nothing is delivered, and owned tasks
// wait for PipelineReady. It does not block on the network.
func (o *Owner) PipelineFailed(cause error) {
	o.mu.Lock()
	if o.closing {
		o.mu.Unlock()
		return
	}
	o.down, o.cause = true, cause
	list := o.all()
	o.background.Add(len(list))
	o.mu.Unlock()
	for _, t := range list {
		t.close(cause)
	}
	for _, t := range list {
		go func() {
			defer o.background.Done()
			o.end(t, cause)
		}()
	}
}

// PipelineReady tells that the lanes are made, at first or anew: every owned
// task is opened from what the broker holds. No task is opened before the first
// call.
func (o *Owner) PipelineReady() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.down {
		return
	}
	o.down, o.cause = false, nil
	if o.closing {
		return
	}
	for num := range o.assigned {
		o.begin(num, nil)
	}
}

// Wake tells that a source that did not take all records it was given may
// have room again. It is cheap and never blocks.
func (o *Owner) Wake() {
	if r := o.reader.Load(); r != nil {
		r.wake()
	}
}

// Partitions is the number of tasks of the service, which is the partition
// count of its inbox; 0 before Run has found it out.
func (o *Owner) Partitions() int32 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.topology[o.cfg.Inbox].partitions
}
