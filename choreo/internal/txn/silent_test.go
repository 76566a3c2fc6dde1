package txn

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo/internal/producer"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestRule6SilentOffsetsRideInTheNextTransaction(t *testing.T) {
	r := newRig(t, rigConfig{})
	inc, a, b := r.fence.Open(0), r.source(0, 10), r.source(1, 10)
	silent1 := r.submit(inc, a, 0)
	silent2 := r.submit(inc, b, 0)
	stays(t, "nothing is committed for silent offsets alone", func() bool { return len(r.calls(kTxnCommit)) == 0 })
	silent1.notYet(t)
	loud := r.submit(inc, a, 1, "x")
	for _, d := range []told{silent1, silent2, loud} {
		d.is(t, true)
	}
	commits := r.calls(kTxnCommit)
	if len(commits) != 1 || commits[0].txn == offsetsID {
		t.Fatalf("%d commits", len(commits))
	}
	if at := partitionsOf(commits[0]); at[0] != 2 || at[1] != 1 {
		t.Errorf("committed %v", at)
	}
}

func TestRule6SilentOffsetsAreCommittedAloneAfterAWhile(t *testing.T) {
	r := newRig(t, rigConfig{change: func(c *Config) { c.SilentAfter = 20 * time.Millisecond }})
	inc, src := r.fence.Open(0), r.source(0, 10)
	for o := range 3 {
		r.submit(inc, src, int64(o)).is(t, true)
		r.hasCommitted(0, int64(o+1))
	}
	if all, silent := r.calls(kTxnCommit), r.silentCommits(); len(all) != 3 || len(silent) != 3 {
		t.Fatalf("commits: %v", all)
	}
	initialized := 0
	for _, c := range r.calls(kInit) {
		if c.txn == offsetsID {
			initialized++
		}
	}
	if initialized != 1 {
		t.Errorf("the id was initialized %d times, want once, when the lanes were made", initialized)
	}
	member, generation := r.member.GroupMetadata()
	req := r.calls(kTxnCommit)[0].req.(*kmsg.TxnOffsetCommitRequest)
	if req.MemberID != member || req.Generation != generation || member == "" {
		t.Errorf("committed as %q in %d, is %q in %d", req.MemberID, req.Generation, member, generation)
	}
	r.submit(inc, src, 3, "x").is(t, true) // and transactions go on
	r.hasCommitted(0, 4)
}

func TestRule6ASilentCommitIsAloneInThePipeline(t *testing.T) {
	r := newRig(t, rigConfig{})
	inc, src := r.fence.Open(0), r.source(0, 10)
	ends, commits := make(chan call, 10), make(chan call, 10)
	endGoes, commitGoes := make(chan struct{}), make(chan struct{})
	end, commit := once(kEnd, 1, r.hold(ends, endGoes)), once(kEnd, 1, r.hold(commits, commitGoes))
	r.intercept(func(c call) (kmsg.Response, error, bool) {
		if c.txn == offsetsID {
			return commit(c)
		}
		return end(c)
	})
	first := r.submit(inc, src, 0, "1")
	receive(t, ends, "the end of the first transaction")
	silent := r.submit(inc, src, 1)
	drained := make(chan error, 1)
	go func() { drained <- r.pipe.Drain(context.Background()) }()
	stays(t, "no silent commit while a transaction is in flight", func() bool { return len(r.silentCommits()) == 0 })
	close(endGoes)
	first.is(t, true)
	receive(t, commits, "the end of the silent commit")
	second := r.submit(inc, src, 2, "2")
	stays(t, "no transaction begins before the silent commit is through", func() bool { return len(r.calls(kTxnCommit)) == 2 })
	silent.notYet(t)
	close(commitGoes)
	silent.is(t, true)
	second.is(t, true)
	if err := receive(t, drained, "the end of Drain"); err != nil {
		t.Error(err)
	}
	r.hasCommitted(0, 3)
}

func TestRule6OfASilentCommitOnlyAnAnswerIsRetried(t *testing.T) {
	for _, tc := range []struct {
		name   string
		treat  func(call) (kmsg.Response, error, bool)
		sends  int
		reason Reason
	}{
		{"the coordinator moved", answer(kerr.NotCoordinator), 2, ""},
		{"a rebalance is completing", answer(kerr.RebalanceInProgress), 2, ""},
		{"the answer is lost", lose, 1, ReasonNoAnswer},
		{"unknown member", answer(kerr.UnknownMemberID), 1, ReasonMembership},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, rigConfig{change: func(c *Config) { c.SilentAfter = time.Millisecond }})
			inc, src := r.fence.Open(0), r.source(0, 10)
			r.intercept(silently(once(kTxnCommit, 1, tc.treat)))
			r.submit(inc, src, 0).is(t, tc.reason == "")
			if got := len(r.silentCommits()); got != tc.sends {
				t.Errorf("sent %d times, want %d", got, tc.sends)
			}
			if tc.reason == "" {
				r.hasCommitted(0, 1)
				return
			}
			r.hasFailed(tc.reason)
			r.isReady()
			r.hasCommitted(0, -1)
		})
	}
}

func TestRule6AFailureWhileASilentCommitWaitsForItsTurn(t *testing.T) {
	r := newRig(t, rigConfig{})
	inc, src := r.fence.Open(0), r.source(0, 10)
	held, release := make(chan call, 1), make(chan struct{})
	end := once(kProduce, 1, func(c call) (kmsg.Response, error, bool) {
		r.hold(held, release)(c)
		return refusal(c.req, kerr.InvalidRecord), nil, true
	})
	r.intercept(end)
	loud := r.submit(inc, src, 0, "1")
	receive(t, held, "the records of the transaction")
	silent := r.submit(inc, src, 1)
	drained := make(chan error, 1)
	go func() { drained <- r.pipe.Drain(context.Background()) }()
	waitFor(t, "the drain to begin", func() bool {
		r.pipe.mu.Lock()
		defer r.pipe.mu.Unlock()
		return r.pipe.draining > 0
	})
	stays(t, "the silent commit waits", func() bool { return len(r.silentCommits()) == 0 })
	close(release)
	loud.is(t, false)
	silent.is(t, false)
	r.hasFailed(ReasonProduce)
	r.isReady()
	if err := receive(t, drained, "the end of Drain"); err != nil {
		t.Error(err)
	}
	r.hasCommitted(0, -1)
}

// The end of a silent commit is answered once; without an answer nobody knows,
// and a refusal fails it like any other transaction.
func TestRule6ASilentCommitCountsWhenItsEndIsAnswered(t *testing.T) {
	for _, tc := range []struct {
		name   string
		treat  func(call) (kmsg.Response, error, bool)
		reason Reason
	}{
		{"the last one's markers are being written", answer(kerr.ConcurrentTransactions), ""},
		{"the coordinator moved", answer(kerr.NotCoordinator), ""},
		{"fenced", answer(kerr.InvalidProducerEpoch), ReasonFenced},
		{"refused", answer(kerr.UnknownServerError), ReasonRefused},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, rigConfig{change: func(c *Config) { c.SilentAfter = time.Millisecond }})
			inc, src := r.fence.Open(0), r.source(0, 10)
			r.intercept(silently(once(kEnd, 1, tc.treat)))
			r.submit(inc, src, 0).is(t, tc.reason == "")
			if tc.reason == "" {
				r.hasCommitted(0, 1)
				return
			}
			r.hasFailed(tc.reason)
			r.isReady()
			r.hasCommitted(0, -1) // what was open is aborted
			inc, src = r.fence.Open(0), r.source(0, 10)
			r.submit(inc, src, 0).is(t, true)
			r.hasCommitted(0, 1)
		})
	}
}

// An id that cannot be initialized fails the silent commit, and with it the lanes.
func TestRule6ASilentCommitWithoutAnIdentityFails(t *testing.T) {
	r := newRig(t, rigConfig{change: func(c *Config) { c.SilentAfter = time.Millisecond }})
	inc, src := r.fence.Open(0), r.source(0, 10)
	end, init := once(kEnd, 1, r.exhausted), once(kInit, 1, answer(kerr.TransactionalIDAuthorizationFailed))
	r.intercept(silently(func(c call) (kmsg.Response, error, bool) {
		if c.key == kEnd {
			return end(c)
		}
		return init(c)
	}))
	r.submit(inc, src, 0).is(t, true)
	r.submit(inc, src, 1).is(t, false)
	err := r.hasFailed(ReasonOpen)
	if !errors.Is(err, kerr.TransactionalIDAuthorizationFailed) {
		t.Errorf("failed with %v", err)
	}
	r.isReady()
	r.hasCommitted(0, -1)
}

// exhausted ends a transaction and says that its epoch was the last but one.
func (r *rig) exhausted(c call) (kmsg.Response, error, bool) {
	resp := c.req.ResponseKind().(*kmsg.EndTxnResponse)
	resp.ProducerID, resp.ProducerEpoch = c.req.(*kmsg.EndTxnRequest).ProducerID, producer.MaxEpoch
	return resp, nil, true
}

// Epoch 32766 is not used by it either: the id gets another producer id before.
func TestRule6ASilentCommitIsNotOfAnExhaustedEpoch(t *testing.T) {
	r := newRig(t, rigConfig{change: func(c *Config) { c.SilentAfter = time.Millisecond }})
	inc, src := r.fence.Open(0), r.source(0, 10)
	r.intercept(silently(once(kEnd, 2, r.exhausted)))
	for o := range 3 {
		r.submit(inc, src, int64(o)).is(t, true)
	}
	commits := r.silentCommits()
	if last := commits[len(commits)-1].req.(*kmsg.TxnOffsetCommitRequest); last.ProducerEpoch >= producer.MaxEpoch {
		t.Errorf("a transaction with epoch %d", last.ProducerEpoch)
	}
	r.hasCommitted(0, 3)
}
