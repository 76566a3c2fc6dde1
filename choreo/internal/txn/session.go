package txn

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// The stages that a transaction passes. One turn per stage goes round among the
// lanes: a lane takes it when its predecessor in the ring, which drives the
// transaction before, has passed it on.
const (
	stageOffsets = iota // (a) the gate and TxnOffsetCommit
	stageRecords        // (b) Produce
	stageEnd            // (c) EndTxn
	stageDone           // telling whose results they were
	stages
)

// session is one life of the lanes, from their making to the first failure.
type session struct {
	p     *Pipeline
	lanes []*lane
	quiet *silent
	ctx   context.Context // ends with Run

	seq       atomic.Int64 // of the last transaction begun; written by who has the turn in stage (a)
	busy      atomic.Int32
	broken    chan struct{} // closed at the first failure
	committed atomic.Bool   // something was

	mu     sync.Mutex
	failed int64 // the first transaction that failed; those from it on are doomed
	cause  *Error
}

func newSession(ctx context.Context, p *Pipeline, lanes []*lane, quiet *silent) *session {
	return &session{p: p, lanes: lanes, quiet: quiet, ctx: ctx, broken: make(chan struct{}), failed: math.MaxInt64}
}

// run drives the lanes until the first failure, or the end of ctx, and all
// transactions before it are through.
func (s *session) run() {
	var wg sync.WaitGroup
	for _, l := range s.lanes {
		wg.Go(func() { l.run(s) })
	}
	for stage := range stages {
		s.lanes[0].turns[stage] <- struct{}{}
	}
	wg.Wait()
	for _, l := range s.lanes {
		s.p.discard(l.client)
	}
}

// fail dooms the transaction and all after it.
func (s *session) fail(seq int64, cause *Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = min(s.failed, seq)
	if s.cause == nil {
		s.cause = cause
		close(s.broken)
	}
}

// doomed reports whether an earlier transaction, or this one, has failed.
func (s *session) doomed(seq int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return seq >= s.failed
}

func (s *session) over() bool {
	select {
	case <-s.broken:
		return true
	default:
		return false
	}
}

// timeout bounds a transaction.
func (s *session) timeout() (context.Context, context.CancelFunc) {
	d := s.p.deadline()
	return context.WithTimeoutCause(s.ctx, d, fmt.Errorf("the transaction is not through after %v", d))
}

// run drives one transaction after the other, until one fails. Turns that are
// taken are always passed on, and that is how those after it learn of it.
func (l *lane) run(s *session) {
	for {
		renewal, cancel := context.WithTimeout(s.ctx, s.p.deadline())
		renewErr := s.p.renew(renewal, l)
		cancel()

		<-l.turns[stageOffsets]
		switch kind := s.await(renewErr == nil); {
		case s.over():
			l.pass(stageOffsets)
			return
		case renewErr != nil:
			s.fail(s.seq.Load()+1, &Error{Reason: ReasonOpen, Err: renewErr})
			l.pass(stageOffsets)
			return
		case kind == offsetsAlone:
			if !l.commitSilently(s) {
				return
			}
		default:
			t := s.begin(l)
			if t == nil { // all of them were dropped
				l.batch = l.batch[:0]
				l.keep()
				continue
			}
			if !t.run() {
				return
			}
		}
	}
}

// pass hands the turn to the next lane, keep to this one again.
func (l *lane) pass(stage int) { l.next.turns[stage] <- struct{}{} }
func (l *lane) keep()          { l.turns[stageOffsets] <- struct{}{} }

type work int

const (
	nothing work = iota
	transactional
	offsetsAlone
)

// await blocks until there is something to commit or the session is over. The
// turn in stage (a) is held.
func (s *session) await(healthy bool) work {
	if !healthy {
		return nothing
	}
	p := s.p
	for {
		kind, after := p.pending(int(s.busy.Load()))
		if kind != nothing || s.over() {
			return kind
		}
		var timer *time.Timer
		var expired <-chan time.Time
		if after > 0 {
			timer = time.NewTimer(after)
			expired = timer.C
		}
		select {
		case <-p.wake:
		case <-expired:
		case <-s.broken:
		}
		if timer != nil {
			timer.Stop()
		}
	}
}
