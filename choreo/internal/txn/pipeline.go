package txn

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Pipeline commits results by transactions. Make one with New, start it with
// Run. Its methods may be called by any goroutine.
type Pipeline struct {
	cfg     Config
	coord   atomic.Int32   // node id of the group's coordinator, -1: to be found
	making  sync.Mutex     // held while a client is made
	closing sync.WaitGroup // clients being closed
	wake    chan struct{}  // there is something new; holds one
	ctx     context.Context
	cancel  context.CancelCauseFunc
	ended   chan struct{} // closed when Run has returned

	mu       sync.Mutex
	started  bool
	stopped  bool          // Run is over, what is submitted is dropped
	gathered queue         // not yet taken
	since    time.Time     // when the oldest gathered one came, about
	draining int           // calls of Drain
	left     int           // results submitted and not done
	idle     chan struct{} // closed when left becomes 0; nil while nobody waits
}

// New checks the configuration and says all that is wrong with it at once. It
// connects to nothing. Incarnations cannot be opened from now on until Ready.
func New(cfg Config) (*Pipeline, error) {
	if err := cfg.normalize(); err != nil {
		return nil, err
	}
	p := &Pipeline{cfg: cfg, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	if err := kgo.ValidateOpts(p.options(cfg.TransactionalID(0))...); err != nil {
		return nil, fmt.Errorf("the options of the lanes' clients: %w", err)
	}
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	p.coord.Store(-1)
	cfg.Fence.CloseAll(ErrNotReady)
	return p, nil
}

var errClosed = errors.New("closed")

// Run makes the lanes, which ends what a predecessor of the same instance left
// open, and commits what is submitted until ctx is done or Close is called. It
// then stops at once (call Drain before), waits until nothing of the pipeline
// runs any more, and has called every Done. It returns nil after Close and
// ctx's cause otherwise; failures are retried for ever. It may be called once.
func (p *Pipeline) Run(ctx context.Context) error {
	p.mu.Lock()
	if p.started {
		p.mu.Unlock()
		return errors.New("txn: Run was called twice")
	}
	p.started = true
	p.mu.Unlock()
	defer close(p.ended)
	stop := context.AfterFunc(ctx, func() { p.cancel(context.Cause(ctx)) })
	defer stop()

	told := false // Failed was called for this outage
	failing := newBackoff(p.cfg.RetryMin, p.cfg.RetryMax)
	for p.ctx.Err() == nil {
		lanes, quiet := p.makeLanes(&told)
		if lanes == nil {
			break
		}
		s := newSession(p.ctx, p, lanes, quiet)
		told = false
		p.cfg.Fence.Reopen()
		p.cfg.Ready()
		cause := p.serve(s)
		if p.ctx.Err() != nil {
			break
		}
		told = true
		p.coord.Store(-1)
		p.cfg.Logger.Warn("a transaction failed: tasks are opened anew from what the broker says", "reason", string(cause.Reason), "error", cause.Err)
		// What fails the same way each time must not do so hundreds of times a
		// second. The first failure after a success is mended at once.
		if s.committed.Load() {
			failing = newBackoff(p.cfg.RetryMin, p.cfg.RetryMax)
		} else {
			p.whileDropping(func() { _ = pause(p.ctx, failing.next(), cause) })
		}
	}

	p.cfg.Fence.CloseAll(ErrStopped)
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	p.dropGathered()
	p.closing.Wait()
	if cause := context.Cause(p.ctx); !errors.Is(cause, errClosed) {
		return cause
	}
	return nil
}

// serve runs the session to its end and returns why it ended.
func (p *Pipeline) serve(s *session) *Error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.run()
	}()
	select {
	case <-s.broken:
	case <-p.ctx.Done():
		s.fail(0, &Error{Reason: ReasonNoAnswer, Err: ErrStopped})
	}
	s.mu.Lock()
	cause := s.cause
	s.mu.Unlock()
	if p.ctx.Err() != nil {
		p.cfg.Fence.CloseAll(ErrStopped)
	} else {
		p.cfg.Fence.CloseAll(cause)
		p.cfg.Observer.Failed(cause.Reason)
		p.cfg.Failed(cause)
	}
	p.whileDropping(func() { <-done })
	return cause
}

// makeLanes makes the lanes, for as long as it takes, and tells of the outage
// once. It returns nil when the pipeline is to stop.
func (p *Pipeline) makeLanes(told *bool) (lanes []*lane, quiet *silent) {
	p.whileDropping(func() {
		lanes, quiet = p.openAll(func(err error) {
			failure := &Error{Reason: ReasonOpen, Err: err}
			p.cfg.Observer.Failed(ReasonOpen)
			p.cfg.Logger.Warn("a lane cannot be made: trying again", "error", err)
			if !*told {
				*told = true
				p.cfg.Fence.CloseAll(failure)
				p.cfg.Failed(failure)
			}
		})
	})
	return lanes, quiet
}

// whileDropping drops what is gathered and submitted while f runs: there are no
// lanes then, and every incarnation is closed.
func (p *Pipeline) whileDropping(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	for {
		p.dropGathered()
		select {
		case <-p.wake:
		case <-done:
			p.dropGathered()
			return
		}
	}
}

func (p *Pipeline) dropGathered() {
	p.mu.Lock()
	dropped := p.gathered.takeAll()
	p.mu.Unlock()
	for _, r := range dropped {
		r.done(false)
	}
	p.settle(len(dropped))
}

// Submit hands over one result. It never blocks: the caller bounds what is in
// flight. Results of one key must be submitted in their order. A result whose
// incarnation is closed is dropped, at the gate at the latest. Submit panics if
// a result has no incarnation, or neither a source nor a home.
func (p *Pipeline) Submit(r *Result) {
	check(r)
	r.bytes = r.size()
	p.mu.Lock()
	signal := p.add(r)
	stopped := p.stopped
	p.mu.Unlock()
	p.submittedTo(signal, stopped)
}

// SubmitAll hands over several results, in order. The slice is not kept.
func (p *Pipeline) SubmitAll(rs []*Result) {
	for _, r := range rs {
		check(r)
		r.bytes = r.size()
	}
	p.mu.Lock()
	signal := false
	for _, r := range rs {
		signal = p.add(r) || signal
	}
	stopped := p.stopped
	p.mu.Unlock()
	p.submittedTo(signal, stopped)
}

func check(r *Result) {
	switch {
	case r.Inc == nil:
		panic("txn: a result without incarnation: nothing says whose work it is")
	case r.source() == nil:
		panic("txn: a result without source, of an incarnation without home (SetHome): no offset to commit with it")
	}
}

// add gathers a result and reports whether who waits must be told. p.mu is held.
func (p *Pipeline) add(r *Result) bool {
	first := p.gathered.len() == 0
	if first {
		p.since = time.Now()
	}
	p.left++
	p.gathered.push(r)
	return first || len(r.Records) > 0 && (p.gathered.loud == 1 || p.gathered.loud == p.enough())
}

func (p *Pipeline) submittedTo(signal, stopped bool) {
	if stopped {
		p.dropGathered()
	} else if signal {
		p.signal()
	}
}

func (p *Pipeline) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// company is how many results with outputs do not wait for more.
const company = 64

func (p *Pipeline) enough() int { return min(company, p.cfg.MaxRecords) }

// pending says what there is to commit; if nothing yet, after how long silent
// offsets will have waited long enough (0: there are none).
//
// While others are in flight, results wait a little for company: a transaction
// costs the broker the same whether it holds one event or a hundred, and where
// cores are scarce that time is everybody's. Alone, none waits.
func (p *Pipeline) pending(inFlight int) (work, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.gathered.loud > 0:
		if inFlight == 0 || p.draining > 0 || p.gathered.loud >= p.enough() {
			return transactional, 0
		}
		if left := p.cfg.Gather - time.Since(p.since); left > 0 {
			return nothing, left
		}
		return transactional, 0
	case p.gathered.len() == 0:
		return nothing, 0
	case p.draining > 0:
		return offsetsAlone, 0
	}
	if left := p.cfg.SilentAfter - time.Since(p.since); left > 0 {
		return nothing, left
	}
	return offsetsAlone, 0
}

// take appends to batch what is gathered, up to and including the result that
// reaches the bounds of a transaction.
func (p *Pipeline) take(batch []*Result) []*Result {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gathered.take(batch, p.cfg.MaxRecords, p.cfg.MaxBytes)
}

// putBack gathers results again, before all others.
func (p *Pipeline) putBack(rs []*Result) {
	if len(rs) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gathered.putBack(rs)
}

// settle takes note that Done was called for n results.
func (p *Pipeline) settle(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left -= n
	if p.left == 0 && p.idle != nil {
		close(p.idle)
		p.idle = nil
	}
}

// Drain waits until everything submitted has been committed, silent offsets
// too, or dropped; or until ctx is done, whose cause it then wraps. Whoever
// submits must have stopped, or it may never find the pipeline empty.
func (p *Pipeline) Drain(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.draining++
	defer func() { p.draining-- }()
	for p.left > 0 {
		if p.idle == nil {
			p.idle = make(chan struct{})
		}
		idle := p.idle
		p.mu.Unlock()
		p.signal()
		select {
		case <-idle:
		case <-ctx.Done():
		}
		p.mu.Lock()
		if p.left > 0 && ctx.Err() != nil {
			return fmt.Errorf("draining the pipeline, %d results are left: %w", p.left, context.Cause(ctx))
		}
	}
	return nil
}

// Close makes Run return and waits for that. What is not committed yet is
// dropped: call Drain before.
func (p *Pipeline) Close() {
	p.cancel(errClosed)
	p.mu.Lock()
	started := p.started
	p.mu.Unlock()
	if started {
		<-p.ended
	}
}

// Fits returns nil if the record is small enough to be produced to its topic,
// as far as this client knows, else a *RecordTooLargeError.
func (p *Pipeline) Fits(rec *kgo.Record) error {
	limit := int(p.cfg.BatchBytes(rec.Topic))
	if n := RecordSize(rec) + batchOverhead; n > limit {
		return &RecordTooLargeError{Topic: rec.Topic, Bytes: n, Limit: limit}
	}
	return nil
}
