package txn

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// While a transaction is in flight, results wait for company; when it is
// through, they go on at once, whatever is left of the wait.
func TestResultsGatherWhileATransactionIsInFlight(t *testing.T) {
	r := newRig(t, rigConfig{change: func(c *Config) { c.Gather = time.Hour }})
	inc, src := r.fence.Open(0), r.source(0, 500)
	ends, goes := make(chan call, 10), make(chan struct{})
	r.intercept(once(kEnd, 1, r.hold(ends, goes)))
	alone := r.submit(inc, src, 0, "alone") // nothing is in flight: no wait
	receive(t, ends, "EndTxn")
	var waiting []told
	for o := range 5 {
		waiting = append(waiting, r.submit(inc, src, int64(o+1), "waits"))
	}
	stays(t, "one transaction has begun", func() bool { return len(r.calls(kTxnCommit)) == 1 })
	close(goes)
	alone.is(t, true)
	for _, d := range waiting {
		d.is(t, true)
	}
	if n := len(r.calls(kTxnCommit)); n != 2 {
		t.Errorf("%d transactions, want 2: one alone and one for all that waited", n)
	}
}

func TestEnoughResultsDoNotWaitForMore(t *testing.T) {
	r := newRig(t, rigConfig{change: func(c *Config) { c.Gather = time.Hour }})
	inc, src := r.fence.Open(0), r.source(0, 500)
	ends, goes := make(chan call, 10), make(chan struct{})
	r.intercept(once(kEnd, 1, r.hold(ends, goes)))
	alone := r.submit(inc, src, 0, "alone")
	receive(t, ends, "EndTxn")
	var many []told
	for o := range company {
		many = append(many, r.submit(inc, src, int64(o+1), "x"))
	}
	waitFor(t, "the second transaction begins beside the first", func() bool { return len(r.calls(kTxnCommit)) >= 2 })
	close(goes)
	for _, d := range append(many, alone) {
		d.is(t, true)
	}
}

// A transaction that fails the same way each time is not tried at once each
// time.
func TestRepeatedFailuresBackOff(t *testing.T) {
	const first = 20 * time.Millisecond
	r := newRig(t, rigConfig{change: func(c *Config) { c.RetryMin, c.RetryMax = first, time.Second }})
	r.intercept(func(c call) (kmsg.Response, error, bool) {
		if c.key == kEnd {
			return lose(c)
		}
		return nil, nil, false
	})
	began := time.Now()
	const failures = 4 // pauses of at least 3/4 of 20, 40, 80 and 160 ms follow
	for range failures {
		inc, src := r.fence.Open(0), r.source(0, 10)
		r.submit(inc, src, 0, "x").is(t, false)
		_ = r.hasFailed(ReasonNoAnswer)
		r.isReady()
	}
	if took, least := time.Since(began), first*(1+2+4+8)*3/4; took < least {
		t.Errorf("%d failures in a row in %v; with pauses they take at least %v", failures, took, least)
	}
}
