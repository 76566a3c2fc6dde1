package txn

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/choreography-go/choreography/choreo/internal/producer"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// asking is a membership that calls a function with the real one each time it
// is asked for, from the first transaction on.
func asking(t *testing.T, answer func(n int64, member string, generation int32) (string, int32)) (*rig, *atomic.Bool) {
	on := new(atomic.Bool)
	var asked atomic.Int64
	r := newRig(t, rigConfig{idle: true, change: func(c *Config) {
		real := c.Membership
		c.Membership = func() (string, int32) {
			member, generation := real()
			if !on.Load() {
				return member, generation
			}
			return answer(asked.Add(1), member, generation)
		}
	}})
	r.start()
	r.isReady()
	return r, on
}

// A transaction is committed under the membership that was read before its
// gate. One that begins while it is on its way may be that of a group in which
// a task of it is another's.
func TestAGenerationThatBeginsAfterTheGateIsNotUsed(t *testing.T) {
	r, on := asking(t, func(n int64, member string, generation int32) (string, int32) {
		return member, generation + int32(n) - 1
	})
	inc, src := r.fence.Open(0), r.source(0, 10)
	_, generation := r.member.GroupMetadata()
	on.Store(true)
	r.submit(inc, src, 0, "a").is(t, true)
	on.Store(false)
	sent := r.calls(kTxnCommit)
	if got := sent[0].req.(*kmsg.TxnOffsetCommitRequest).Generation; len(sent) != 1 || got != generation {
		t.Errorf("%d commits, the first under generation %d, want one under %d", len(sent), got, generation)
	}
}

// A task may be lost between the look at the new generation and the look at the
// fence: then the generation that was read is one in which it may be ours no
// more.
func TestATaskLostWhileTheGenerationIsReadIsNotCommitted(t *testing.T) {
	var lost atomic.Pointer[Incarnation]
	r, on := asking(t, func(n int64, member string, generation int32) (string, int32) {
		if n == 1 {
			return member, generation - 1 // as of the gate: the broker refuses it
		}
		lost.Load().Close(errRevoked)
		return member, generation
	})
	inc, src := r.fence.Open(0), r.source(0, 10)
	lost.Store(inc)
	on.Store(true)
	r.submit(inc, src, 0, "a").is(t, false)
	r.hasFailed(ReasonRevoked)
	on.Store(false)
	r.isReady()
	r.hasCommitted(0, -1)
	equal(t, "outputs", r.values("out"), nil)
}

// Another member id means that the session was lost: what was begun in it may
// have been another's meanwhile. A member id that is away for a moment does not.
func TestOnlyTheSameMemberGoesOn(t *testing.T) {
	for _, tc := range []struct {
		name string
		then func(n int64, member string, generation int32) (string, int32)
		ok   bool
	}{
		{"another", func(_ int64, member string, generation int32) (string, int32) { return member + "-2", generation }, false},
		{"none for a moment", func(n int64, member string, generation int32) (string, int32) {
			if n < 4 {
				return "", -1
			}
			return member, generation
		}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, on := asking(t, func(n int64, member string, generation int32) (string, int32) {
				if n == 1 {
					return member, generation - 1
				}
				return tc.then(n, member, generation)
			})
			inc, src := r.fence.Open(0), r.source(0, 10)
			// The broker would take the offsets of any member that it knows.
			r.intercept(once(kTxnCommit, 2, answer(&kerr.Error{})))
			if tc.ok {
				r.intercept(nil)
			}
			on.Store(true)
			r.submit(inc, src, 0, "a").is(t, tc.ok)
			on.Store(false)
			if tc.ok {
				r.hasCommitted(0, 1)
				return
			}
			r.hasFailed(ReasonMembership)
			r.isReady()
			r.hasCommitted(0, -1)
		})
	}
}

// Wait that has what it waited for returns nil, also when its context ends in
// the same moment.
func TestWaitPrefersTheEndOfTheTransactions(t *testing.T) {
	f := new(Fence)
	inc := f.Open(0)
	f.mu.Lock()
	inc.holders = 1
	f.mu.Unlock()
	inc.Close(nil)
	ctx, cancel := context.WithCancel(t.Context())
	waited := make(chan error, 1)
	var began sync.WaitGroup
	began.Add(1)
	go func() {
		began.Done()
		waited <- inc.Wait(ctx)
	}()
	began.Wait()
	waitFor(t, "Wait", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return inc.idle != nil
	})
	f.mu.Lock()
	inc.holders--
	close(inc.idle)
	inc.idle = nil
	cancel()
	f.mu.Unlock()
	if err := receive(t, waited, "the end of Wait"); err != nil {
		t.Errorf("Wait returned %v", err)
	}
}

// Whoever has stopped waiting does not count as waiting.
func TestARevokeThatGaveUpWaitingIsNotOurs(t *testing.T) {
	r := newRig(t, rigConfig{})
	inc, src := r.fence.Open(0), r.source(0, 10)
	held, release := make(chan call, 1), make(chan struct{})
	r.intercept(once(kTxnCommit, 1, func(c call) (kmsg.Response, error, bool) {
		r.hold(held, release)(c)
		return refusal(c.req, kerr.IllegalGeneration), nil, true
	}))
	d := r.submit(inc, src, 0, "a")
	receive(t, held, "the commit")
	inc.Close(errRevoked)
	short, cancel := context.WithCancel(t.Context())
	cancel()
	if err := inc.Wait(short); err == nil {
		t.Fatal("Wait returned though a transaction is in flight")
	}
	close(release)
	d.is(t, false)
	r.hasFailed(ReasonRevoked)
	r.isReady()
	r.hasCommitted(0, -1)
}

// A record acknowledged under another producer id or epoch than its
// transaction's is not part of it, whatever the client says.
func TestOnlyAcknowledgementsOfTheTransactionCount(t *testing.T) {
	who := producer.Identity{TransactionalID: "payment/0/0", ID: 7, Epoch: 3}
	for _, tc := range []struct {
		name  string
		id    int64
		epoch int16
		err   error
		ok    bool
	}{
		{"its own", 7, 3, nil, true},
		{"another epoch", 7, 4, nil, false},
		{"another id", 8, 3, nil, false},
		{"refused", 7, 3, kerr.InvalidRecord, false},
	} {
		a := &acks{who: who, left: 2, done: make(chan struct{})}
		a.promise(&kgo.Record{ProducerID: tc.id, ProducerEpoch: tc.epoch}, tc.err)
		select {
		case <-a.done:
			t.Fatalf("%s: done with one record left", tc.name)
		default:
		}
		a.promise(&kgo.Record{ProducerID: 7, ProducerEpoch: 3}, nil)
		receive(t, a.done, "the last acknowledgement")
		if rec, err := a.failure(); (err == nil) != tc.ok || (rec == nil) != tc.ok {
			t.Errorf("%s: %v of record %v", tc.name, err, rec)
		}
	}
}

// The broker counts epochs in 16 bits and gives the last one to nobody
// (KAFKA-20090): 32766 is the first that a lane must not use.
func TestTheEpochsLimitIsKafkas(t *testing.T) {
	if producer.MaxEpoch != math.MaxInt16-1 {
		t.Errorf("lanes are used up to epoch %d, the limit is %d", producer.MaxEpoch, math.MaxInt16-1)
	}
}
