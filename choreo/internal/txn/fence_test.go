package txn

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var errRevoked = errors.New("revoked")

func TestRule7ResultsOfAClosedIncarnationDoNotPassTheGate(t *testing.T) {
	r := newRig(t, rigConfig{change: func(c *Config) { c.Lanes = 1 }})
	old, kept := r.fence.Open(0), r.fence.Open(1)
	oldSrc, keptSrc := r.source(0, 10), r.source(1, 10)
	held, release := make(chan call, 1), make(chan struct{})
	r.intercept(once(kEnd, 1, r.hold(held, release)))
	first := r.submit(kept, keptSrc, 0, "1")
	receive(t, held, "the end of the first")
	gone, silentGone := r.submit(old, oldSrc, 0, "gone"), r.submit(old, oldSrc, 1)
	stays2 := r.submit(kept, keptSrc, 1, "2")
	old.Close(errRevoked)
	if !errors.Is(context.Cause(old.Context()), errRevoked) || old.Standing() || !kept.Standing() {
		t.Fatal("Close is not seen")
	}
	if err := old.Wait(t.Context()); err != nil { // no transaction holds it
		t.Fatal(err)
	}
	close(release)
	first.is(t, true)
	gone.is(t, false)
	silentGone.is(t, false)
	stays2.is(t, true)
	equal(t, "outputs", r.values("out"), []string{"1", "2"})
	r.hasCommitted(0, -1)
	if got := oldSrc.Offsets.Commit().Offset; got != 0 {
		t.Errorf("offsets of a dropped result count as finished up to %d", got)
	}
}

func TestRule7WhenOnlySilentResultsPassTheyWaitOn(t *testing.T) {
	r := newRig(t, rigConfig{change: func(c *Config) { c.Lanes = 1 }})
	old, kept := r.fence.Open(0), r.fence.Open(1)
	held, release := make(chan call, 1), make(chan struct{})
	r.intercept(once(kEnd, 1, r.hold(held, release)))
	keptSrc := r.source(1, 10)
	r.submit(kept, keptSrc, 0, "1")
	receive(t, held, "the end of the first")
	silent := r.submit(kept, keptSrc, 1)
	gone := r.submit(old, r.source(0, 10), 0, "gone")
	old.Close(errRevoked)
	close(release)
	gone.is(t, false)
	stays(t, "no transaction without outputs", func() bool { return len(r.calls(kTxnCommit)) == 1 })
	silent.notYet(t)
	r.submit(kept, keptSrc, 2, "2").is(t, true)
	silent.is(t, true)
	r.hasCommitted(1, 3)
}

func TestRule7WaitLastsUntilTheTransactionHasEnded(t *testing.T) {
	for _, fails := range []bool{false, true} {
		r := newRig(t, rigConfig{})
		inc, src := r.fence.Open(0), r.source(0, 10)
		held, release := make(chan call, 1), make(chan struct{})
		r.intercept(once(kEnd, 1, func(c call) (kmsg.Response, error, bool) {
			r.hold(held, release)(c)
			if fails {
				return refusal(c.req, kerr.ProducerFenced), nil, true
			}
			return nil, nil, false
		}))
		d := r.submit(inc, src, 0, "1")
		receive(t, held, "the end of the transaction")
		inc.Close(errRevoked)
		short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		if err := inc.Wait(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Wait returned %v while the transaction was in flight", err)
		}
		cancel()
		waited := make(chan error, 1)
		go func() { waited <- inc.Wait(context.Background()) }()
		close(release)
		if err := receive(t, waited, "the end of Wait"); err != nil {
			t.Fatal(err)
		}
		select {
		case ok := <-d:
			if ok == fails {
				t.Fatalf("Done(%v)", ok)
			}
		default:
			t.Fatal("Wait returned before Done was called")
		}
		if !fails {
			r.hasCommitted(0, 1)
		}
	}
}

// generations makes a membership that is one generation behind until told.
type generations struct {
	real  func() (string, int32)
	stale atomic.Bool
	none  atomic.Bool
	asked atomic.Int64
}

func (g *generations) membership() (string, int32) {
	g.asked.Add(1)
	member, generation := g.real()
	if g.none.Load() {
		return "", -1
	}
	if g.stale.Load() {
		generation--
	}
	return member, generation
}

func newGenerationRig(t *testing.T) (*rig, *generations) {
	g := &generations{}
	r := newRig(t, rigConfig{idle: true, change: func(c *Config) {
		g.real = c.Membership
		c.Membership = g.membership
	}})
	r.start()
	r.isReady()
	return r, g
}

func TestRule7ANewGenerationIsTakenWhileEverythingStands(t *testing.T) {
	r, g := newGenerationRig(t)
	inc, src := r.fence.Open(0), r.source(0, 10)
	g.stale.Store(true)
	d := r.submit(inc, src, 0, "1")
	waitFor(t, "the refused commit", func() bool { return g.asked.Load() > 2 })
	stays(t, "the old generation is not tried again", func() bool { return len(r.calls(kTxnCommit)) == 1 })
	g.stale.Store(false)
	d.is(t, true)
	r.hasCommitted(0, 1)
}

func TestRule7ANewGenerationIsNotTakenForWhatIsGone(t *testing.T) {
	r, g := newGenerationRig(t)
	gone, kept := r.fence.Open(0), r.fence.Open(1)
	goneSrc, keptSrc := r.source(0, 10), r.source(1, 10)
	g.stale.Store(true)
	res1, d1 := result(gone, goneSrc, 0, "1")
	res2, d2 := result(kept, keptSrc, 0, "2")
	r.pipe.SubmitAll([]*Result{res1, res2})
	waitFor(t, "the refused commit", func() bool { return g.asked.Load() > 2 })
	gone.Close(errRevoked) // lost: nobody waits
	g.stale.Store(false)
	d1.is(t, false)
	d2.is(t, false)
	r.hasFailed(ReasonRevoked)
	r.isReady()
	equal(t, "outputs", r.values("out"), nil)
	r.hasCommitted(0, -1)
	r.hasCommitted(1, -1)
}

func TestRule7ARevokeThatWaitsLetsItsTransactionTakeTheNewGeneration(t *testing.T) {
	r, g := newGenerationRig(t)
	inc, src := r.fence.Open(0), r.source(0, 10)
	g.stale.Store(true)
	d := r.submit(inc, src, 0, "1")
	waitFor(t, "the refused commit", func() bool { return len(r.calls(kTxnCommit)) >= 1 })
	waited := make(chan error, 1)
	r.fence.mu.Lock() // so that no attempt sees it closed and nobody waiting
	inc.close(errRevoked)
	inc.waiting++
	r.fence.mu.Unlock()
	go func() { waited <- inc.Wait(context.Background()) }()
	g.stale.Store(false)
	if err := receive(t, waited, "the end of Wait"); err != nil {
		t.Fatal(err)
	}
	d.is(t, true)
	r.hasCommitted(0, 1)
}

func TestRule7AnEmptyMemberIDIsNeverSent(t *testing.T) {
	r, g := newGenerationRig(t)
	g.none.Store(true)
	inc, src := r.fence.Open(0), r.source(0, 10)
	d := r.submit(inc, src, 0, "1")
	waitFor(t, "the pipeline to ask", func() bool { return g.asked.Load() > 2 })
	stays(t, "nothing is sent", func() bool { return len(r.calls(kTxnCommit, kProduce)) == 0 })
	g.none.Store(false)
	d.is(t, true)
	r.hasCommitted(0, 1)
}

func TestRule7ATimersDoingCommitsTheHomeOffsetAgain(t *testing.T) {
	r := newRig(t, rigConfig{})
	inc, home, other := r.fence.Open(3), r.source(3, 10), r.source(2, 10)
	inc.SetHome(home)
	r.submit(inc, home, 0, "1").is(t, true)
	r.submit(inc, nil, 0, "timer").is(t, true)
	r.submit(inc, other, NoOffset, "re-commit").is(t, true)
	commits := r.calls(kTxnCommit)
	if at := partitionsOf(commits[1]); len(at) != 1 || at[3] != 1 {
		t.Errorf("a timer's doing committed %v", at)
	}
	if at := partitionsOf(commits[2]); len(at) != 1 || at[2] != 0 {
		t.Errorf("a result without offset committed %v", at)
	}
	d := r.submit(inc, other, NoOffset) // an idle source, against expiry
	if err := r.pipe.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.is(t, true)
	if got := r.silentCommits(); len(got) != 1 || partitionsOf(got[0])[2] != 0 {
		t.Errorf("re-commit: %v", got)
	}
}

func TestRule7ARealRebalanceLosesAndDoublesNothing(t *testing.T) {
	// The member's generation grows while transactions run: another one joins.
	r := newRig(t, rigConfig{})
	inc := r.fence.Open(0)
	src := r.source(0, 1000)
	_, before := r.member.GroupMetadata()
	var dones []told
	joined := false
	for o := range 1000 {
		dones = append(dones, r.submit(inc, src, int64(o), "x"))
		if o == 300 && !joined {
			joined = true
			other := r.client(kgo.ConsumerGroup(group), kgo.ConsumeTopics("in"), kgo.Balancers(kgo.CooperativeStickyBalancer()), kgo.HeartbeatInterval(50*time.Millisecond))
			other.PauseFetchTopics("in")
		}
		if o%50 == 0 {
			dones[o].is(t, true)
			dones[o] <- true
		}
	}
	for _, d := range dones {
		d.is(t, true)
	}
	waitFor(t, "the rebalance", func() bool { _, now := r.member.GroupMetadata(); return now > before })
	r.submit(inc, r.source(1, 1), 0, "y").is(t, true)
	r.hasCommitted(0, 1000)
	if got := len(r.values("out")); got != 1001 {
		t.Errorf("%d outputs, want 1001", got)
	}
}

func TestFenceOpenBetweenCloseAllAndReopenIsClosed(t *testing.T) {
	var f Fence
	a := f.Open(1)
	f.CloseAll(errRevoked)
	b := f.Open(1)
	for name, inc := range map[string]*Incarnation{"before": a, "between": b} {
		if inc.Standing() || !errors.Is(context.Cause(inc.Context()), errRevoked) {
			t.Errorf("%s: stands, or cause %v", name, context.Cause(inc.Context()))
		}
	}
	f.Reopen()
	c := f.Open(7)
	if !c.Standing() || c.Task() != 7 || a.Standing() || b.Standing() {
		t.Error("Reopen opens what was closed, or nothing")
	}
	c.Close(nil)
	if !errors.Is(context.Cause(c.Context()), ErrClosed) {
		t.Error("no cause")
	}
	if len(f.open) != 0 {
		t.Errorf("the fence keeps %d closed incarnations", len(f.open))
	}
}
