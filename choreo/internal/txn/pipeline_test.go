package txn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestNewSaysAllThatIsWrong(t *testing.T) {
	_, err := New(Config{Lanes: 17, Timeout: time.Millisecond, MaxRecords: -1, RetryMin: time.Second, RetryMax: time.Millisecond})
	for _, want := range []string{"Fence", "Group", "Membership", "TransactionalID", "Lanes is 17", "Timeout is 1ms", "MaxRecords is -1", "RetryMax is 1ms: allowed is 1s"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
	_, err = New(Config{Fence: &Fence{}, Group: "g", Membership: func() (string, int32) { return "", 0 },
		TransactionalID: func(int) string { return "x" }, OffsetsID: "x/offsets", ClientOptions: []kgo.Opt{kgo.MetadataMaxAge(time.Microsecond)}})
	if err == nil || !strings.Contains(err.Error(), "options") {
		t.Errorf("wrong client options: %v", err)
	}
}

func TestSubmitRefusesWhatBelongsToNobody(t *testing.T) {
	r := newRig(t, rigConfig{idle: true})
	for name, res := range map[string]*Result{
		"no incarnation":     {Source: r.source(0, 1)},
		"no source, no home": {Inc: r.fence.Open(0)},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: accepted", name)
				}
			}()
			r.pipe.Submit(res)
		}()
	}
}

func TestDrainCommitsEverything(t *testing.T) {
	r := newRig(t, rigConfig{})
	inc, src := r.fence.Open(0), r.source(0, 100)
	for o := range 100 {
		if o%3 == 0 {
			r.submit(inc, src, int64(o), fmt.Sprint(o))
		} else {
			r.submit(inc, src, int64(o))
		}
	}
	if err := r.pipe.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.hasCommitted(0, 100)
	if err := r.pipe.Drain(t.Context()); err != nil { // nothing is left
		t.Fatal(err)
	}
}

func TestDrainEndsWithItsContext(t *testing.T) {
	r := newRig(t, rigConfig{})
	inc, src := r.fence.Open(0), r.source(0, 100)
	held, release := make(chan call, 1), make(chan struct{})
	defer close(release)
	r.intercept(once(kEnd, 1, r.hold(held, release)))
	r.submit(inc, src, 0, "x")
	receive(t, held, "the end")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := r.pipe.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "1 results are left") {
		t.Fatalf("got %v", err)
	}
}

func TestCloseStopsAtOnceAndCallsEveryDone(t *testing.T) {
	r := newRig(t, rigConfig{idle: true})
	go func() { r.ran <- r.pipe.Run(context.Background()) }()
	r.isReady()
	inc, src := r.fence.Open(0), r.source(0, 100)
	held, release := make(chan call, 1), make(chan struct{})
	r.intercept(once(kProduce, 1, r.hold(held, release)))
	flying := r.submit(inc, src, 0, "x")
	receive(t, held, "the records")
	silent := r.submit(inc, src, 1)
	began := time.Now()
	r.pipe.Close()
	if took := time.Since(began); took > patience/4 {
		t.Errorf("Close took %v", took)
	}
	close(release)
	if err := receive(t, r.ran, "the end of Run"); err != nil {
		t.Error(err)
	}
	flying.is(t, false)
	silent.is(t, false)
	r.submit(r.fence.Open(0), src, 2, "late").is(t, false)
	if err := r.pipe.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if inc.Standing() || !errors.Is(context.Cause(inc.Context()), ErrStopped) {
		t.Errorf("the incarnation's cause: %v", context.Cause(inc.Context()))
	}
	r.pipe.Close() // again
	select {
	case err := <-r.failed:
		t.Errorf("told of a failure: %v", err)
	default:
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	r := newRig(t, rigConfig{idle: true})
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() { r.ran <- r.pipe.Run(ctx) }()
	r.isReady()
	cause := errors.New("over")
	cancel(cause)
	if err := receive(t, r.ran, "the end of Run"); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
	if err := r.pipe.Run(t.Context()); err == nil {
		t.Error("Run ran twice")
	}
}

func TestCloseWithoutRun(t *testing.T) {
	r := newRig(t, rigConfig{idle: true})
	r.pipe.Close()
	if err := r.pipe.Run(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTheBrokerIsAway(t *testing.T) {
	// No broker at first; then one; then none again, with a transaction on its
	// way; Close does not wait for it.
	first, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	addr := first.ListenAddrs()[0]
	first.Close()
	var port int
	if _, err := fmt.Sscanf(addr[strings.LastIndex(addr, ":")+1:], "%d", &port); err != nil {
		t.Fatal(err)
	}
	ready, failed := make(chan struct{}, 10), make(chan error, 10)
	var fence Fence
	p, err := New(Config{Fence: &fence, Group: group, Membership: func() (string, int32) { return "m", 1 },
		TransactionalID: func(l int) string { return fmt.Sprint("lane", l) },
		OffsetsID:       "lane/offsets",
		ClientOptions:   []kgo.Opt{kgo.SeedBrokers(addr)}, Timeout: time.Second, RetryMin: time.Millisecond, RetryMax: 10 * time.Millisecond,
		Ready: func() { ready <- struct{}{} }, Failed: func(err error) { failed <- err }, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() { ran <- p.Run(context.Background()) }()
	if err := receive(t, failed, "Failed"); !isReason(err, ReasonOpen) {
		t.Errorf("failed with %v", err)
	}
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.SeedTopics(1, "out"))
	if err != nil {
		t.Fatal(err)
	}
	receive(t, ready, "Ready")
	inc := fence.Open(0)
	c.Close()
	d := make(told, 1)
	r := rig{t: t, ids: map[string][16]byte{"in": {1}}}
	p.Submit(&Result{Inc: inc, Source: r.source(0, 1), Records: []*kgo.Record{{Topic: "out", Value: []byte("x")}}, Done: DoneFunc(func(ok bool) { d <- ok })})
	d.is(t, false)
	if err := receive(t, failed, "Failed"); isReason(err, ReasonOpen) {
		t.Errorf("failed with %v", err)
	}
	began := time.Now()
	p.Close()
	if took := time.Since(began); took > patience/4 {
		t.Errorf("Close took %v while the broker is away", took)
	}
	if err := receive(t, ran, "the end of Run"); err != nil {
		t.Error(err)
	}
}

func isReason(err error, r Reason) bool {
	var e *Error
	return errors.As(err, &e) && e.Reason == r
}

func TestARecordThatIsTooLargeIsNamed(t *testing.T) {
	t.Run("for the client", func(t *testing.T) {
		r := newRig(t, rigConfig{change: func(c *Config) { c.BatchBytes = func(string) int32 { return 2000 } }})
		inc, src := r.fence.Open(0), r.source(0, 10)
		small := r.submit(inc, src, 0, strings.Repeat("s", 1500))
		small.is(t, true)
		huge, d := result(inc, src, 1, strings.Repeat("x", 3000))
		if err := r.pipe.Fits(huge.Records[0]); err == nil || !strings.Contains(err.Error(), `"out"`) {
			t.Errorf("Fits: %v", err)
		}
		if err := r.pipe.Fits(&kgo.Record{Topic: "out", Value: make([]byte, 1500)}); err != nil {
			t.Errorf("Fits: %v", err)
		}
		r.pipe.Submit(huge)
		d.is(t, false)
		tooLarge(t, r.hasFailed(ReasonTooLarge), huge, 3000)
	})
	t.Run("for the broker", func(t *testing.T) {
		r := newRig(t, rigConfig{})
		inc, src := r.fence.Open(0), r.source(0, 10)
		r.intercept(once(kProduce, 1, answer(kerr.MessageTooLarge)))
		small, d1 := result(inc, src, 0, "s")
		huge, d2 := result(inc, src, 1, "s", strings.Repeat("x", 3000))
		r.pipe.SubmitAll([]*Result{small, huge})
		d1.is(t, false)
		d2.is(t, false)
		tooLarge(t, r.hasFailed(ReasonTooLarge), huge, 3000)
	})
}

func tooLarge(t *testing.T, err error, culprit *Result, atLeast int) {
	t.Helper()
	var e *RecordTooLargeError
	if !errors.As(err, &e) || e.Topic != "out" || e.Bytes < atLeast || e.Result != culprit || len(e.Record.Value) != atLeast || !strings.Contains(e.Error(), "max.message.bytes") {
		t.Fatalf("got %v (%+v)", err, e)
	}
}

func TestSixteenMegabytesGoThrough(t *testing.T) {
	r := newRig(t, rigConfig{broker: map[string]string{"message.max.bytes": "20971520"}, change: func(c *Config) {
		c.BatchBytes = func(topic string) int32 { return 20 << 20 }
		c.ClientOptions = append(c.ClientOptions, kgo.ProducerBatchCompression(kgo.NoCompression()))
	}})
	inc, src := r.fence.Open(0), r.source(0, 10)
	r.submit(inc, src, 0, strings.Repeat("x", 16<<20)).is(t, true)
}

// counts is an Observer that counts.
type counts struct {
	committed, records, silent, failed, concurrent, busy, most atomic.Int64
}

func (c *counts) Committed(_ time.Duration, results, records, bytes int) {
	c.committed.Add(int64(results))
	c.records.Add(int64(records))
}
func (c *counts) CommittedSilently(_ time.Duration, results int) { c.silent.Add(int64(results)) }
func (c *counts) Failed(Reason)                                  { c.failed.Add(1) }
func (c *counts) Retried(r RetryReason) {
	if r == RetryConcurrent {
		c.concurrent.Add(1)
	}
}
func (c *counts) LanesBusy(n int) {
	c.busy.Store(int64(n))
	for m := c.most.Load(); int64(n) > m && !c.most.CompareAndSwap(m, int64(n)); m = c.most.Load() {
	}
}

func TestTheObserverSeesWhatHappens(t *testing.T) {
	seen := &counts{}
	r := newRig(t, rigConfig{change: func(c *Config) { c.Observer = seen }})
	inc, src := r.fence.Open(0), r.source(0, 10)
	r.intercept(once(kTxnCommit, 1, answer(kerr.ConcurrentTransactions)))
	r.submit(inc, src, 0, "a", "b").is(t, true)
	r.submit(inc, src, 1)
	if err := r.pipe.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.intercept(once(kProduce, 1, answer(kerr.InvalidRecord)))
	r.submit(inc, src, 2, "c").is(t, false)
	r.hasFailed(ReasonProduce)
	r.isReady()
	if seen.committed.Load() != 1 || seen.records.Load() != 2 || seen.silent.Load() != 1 || seen.failed.Load() != 1 || seen.concurrent.Load() != 1 ||
		seen.busy.Load() != 0 || seen.most.Load() < 1 {
		t.Errorf("saw %+v", seen)
	}
}
