//go:build unix

package choreo

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo/internal/journal"
	"github.com/choreography-go/choreography/choreo/internal/offsets"
	"github.com/choreography-go/choreography/choreo/internal/room"
	"github.com/choreography-go/choreography/choreo/internal/sched"
	"github.com/choreography-go/choreography/choreo/internal/task"
	"github.com/choreography-go/choreography/choreo/internal/txn"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
)

// What deadlines cost is measured without a broker, as in cost_test.go: the
// pipeline commits at once. It is CPU time, since a busy machine has no speed: a
// rate is what one processor does in a second. The tests are of smaller size.

// counting is a pipeline that takes every result for committed.
type counting struct {
	pipeline
	results atomic.Int64
	want    int64
	done    chan struct{} // has a value when there are so many
}

func (p *counting) Submit(r *txn.Result) {
	if r.Source != nil {
		r.Source.Offsets.Finish(r.Offset)
	}
	if r.Done != nil {
		r.Done.Done(true)
	}
	if p.results.Add(1) == p.want {
		p.done <- struct{}{}
	}
}

func (p *counting) await(n int) {
	p.results.Store(0)
	p.want = int64(n)
}

// waiting is an engine with a step and a deadline, and one task.
type waiting struct {
	e    *engine
	o    *owned
	pipe *counting
	src  *task.Source
	next int64
}

func newWaiting(tb testing.TB) *waiting {
	tb.Helper()
	plan := newPlan(NewService("sample", costHandlers["step"], Tasks(1), Deadline[costOrder, costReceipt]{
		Name: "in-time", After: Event[costOrder]{Type: "com.example.order.asked.v1", Topic: "orders"}, Within: Fixed[costOrder](time.Hour),
		Unless: Events{Event[costReceipt]{Type: "com.example.order.answered.v1", Topic: "orders"}},
		Emit:   Event[costReceipt]{Type: "com.example.order.late.v1", Topic: "orders"},
		Do:     func(_ context.Context, o costOrder) (costReceipt, error) { return costReceipt{o.ID, o.Amount}, nil },
	}))
	if err := plan.err(); err != nil {
		tb.Fatal(err)
	}
	x := &waiting{pipe: &counting{done: make(chan struct{}, 1)}}
	x.e = &engine{
		plan: plan, cfg: Config{MaxHandlers: 64}.withDefaults(), names: namesOf("sample", ""), source: "/sample", log: slog.New(slog.DiscardHandler),
		fence: &txn.Fence{}, room: &room.Room{MaxRecords: 1 << 20, MaxBytes: 1 << 30}, sched: sched.New(64), pipe: x.pipe, owner: &task.Owner{}, owned: map[int32]*owned{}, failed: make(chan error, 1),
	}
	x.e.metrics, x.e.tracing, x.e.lapses = newMetrics(prometheus.NewRegistry(), plan), newTracing(nil, "sample"), newLapses(x.e.cfg)
	tr, err := offsets.New(0, "")
	if err != nil {
		tb.Fatal(err)
	}
	x.o = x.e.newOwned(0, x.e.fence.Open(0), x.e.newStore())
	x.e.owned[0] = x.o
	in := &input{owned: x.o, Source: &txn.Source{Topic: "in", Offsets: tr}}
	in.passed = func(bool) { x.e.gated(in) }
	x.src = &task.Source{Handle: in}
	tb.Cleanup(func() { x.o.inc.Close(nil); x.e.sched.Close(); _ = x.e.sched.Wait(context.Background()) })
	return x
}

// set puts n deadlines into the journal, due in a time, and returns how many bytes
// their payloads have.
func (x *waiting) set(tb testing.TB, n int, within time.Duration) (payload int64) {
	tb.Helper()
	for i := range n {
		flow := waitingFlow(i)
		data := fmt.Appendf(nil, `{"id":"%s","customer":"customer-1","amount":4200,"items":["a","b","c"]}`, flow)
		payload += int64(len(data))
		d := journal.Deadline{
			Name: "in-time", Status: journal.Pending, Set: x.o.clock.wall(time.Now()), Within: within, Hops: 1, Time: time.Now(), Started: time.Now(),
			After: journal.Event{
				Source: "/orders", ID: fmt.Sprintf("Jm1yZW5kZXIgb2Yg%06d", i), Type: "com.example.order.asked.v1", ContentType: "application/json", Data: data,
			},
			TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		}
		c, err := x.o.store.PutDeadline(flow, d, time.Now())
		if err != nil {
			tb.Fatal(err)
		}
		x.o.deadlines.Add(c.Flow(), x.o.remaining(d))
	}
	return payload
}

func waitingFlow(i int) string { return fmt.Sprintf("0199a6c2-5b7e-7d11-9c52-%012d", i) }

// bytesEach is what a deadline takes besides its flow, which has another one, and
// its payload: its slot and its place in the agenda.
func bytesEach(tb testing.TB, n int) float64 {
	x := newWaiting(tb)
	for i := range n {
		if _, err := x.o.store.PutSeen(waitingFlow(i), journal.Hash{}, 0, time.Now()); err != nil {
			tb.Fatal(err)
		}
	}
	before := liveHeap()
	payload := x.set(tb, n, time.Hour)
	each := float64(liveHeap()-before-payload) / float64(n)
	if x.o.deadlines.Len() != n || x.o.store.Pending()["in-time"] != n {
		tb.Fatalf("%d are on the agenda, %v are pending", x.o.deadlines.Len(), x.o.store.Pending())
	}
	return each
}

func liveHeap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// firing is how many fire in a second of CPU time of those that are due at once,
// their setting included.
func firing(tb testing.TB, n int) float64 {
	x := newWaiting(tb)
	x.pipe.await(n)
	began := cpuTime(tb)
	x.set(tb, n, 0)
	<-x.pipe.done
	return float64(n) / (cpuTime(tb) - began).Seconds()
}

// stepping is how many events a step works on in a second of CPU time, each of a
// new flow, the best of some rounds, while house is kept.
func (x *waiting) stepping(tb testing.TB, rounds int) float64 {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go x.e.keepHouse(ctx)
	const each = 20_000
	best := 0.0
	for range rounds {
		recs := make([]*kgo.Record, each)
		for i := range recs {
			recs[i] = costRecord(tb, "step", int(x.next)+i)
			recs[i].Offset = x.next + int64(i)
		}
		x.next += each
		runtime.GC()
		x.pipe.await(each)
		began := cpuTime(tb)
		for at := 0; at < each; {
			n := x.e.Deliver(ctx, x.src, recs[at:min(at+beltBatch, each)])
			if at += n; n == 0 {
				runtime.Gosched() // too many are finished beyond one that is not
			}
		}
		<-x.pipe.done
		best = max(best, each/(cpuTime(tb)-began).Seconds())
	}
	return best
}

func TestAPendingDeadlineTakesAtMost200Bytes(t *testing.T) {
	each := bytesEach(t, 50_000)
	t.Logf("%.0f bytes each", each)
	if each > 200 && !raced { // which takes memory of its own
		t.Errorf("%.0f bytes each besides flow and payload, want at most 200", each)
	}
}

func TestDeadlinesFireFast(t *testing.T) {
	rate := firing(t, 20_000)
	t.Logf("%.0f a second", rate)
	if rate < 20_000 && !raced {
		t.Errorf("%.0f fire in a second, want 20,000", rate)
	}
}

// A pending deadline costs steps nothing: what is done for each event, and
// twice a second, does not grow with their number. Half of the speed is far below
// what a machine that does other things leaves, and far above what a walk over all
// would leave.
func TestPendingDeadlinesDoNotSlowSteps(t *testing.T) {
	x := newWaiting(t)
	alone := x.stepping(t, 3)
	x.set(t, 100_000, time.Hour)
	beside := x.stepping(t, 3)
	t.Logf("%.0f events a second alone, %.0f beside: %.2f", alone, beside, beside/alone)
	if beside < alone/2 {
		t.Errorf("steps work on %.0f events a second while deadlines are pending, alone on %.0f", beside, alone)
	}
}

// BenchmarkPendingDeadlines is of a million: bytes each, how many fire in a
// second, and the speed of steps beside them as a share of that without.
func BenchmarkPendingDeadlines(b *testing.B) {
	const n = 1_000_000
	for b.Loop() {
		b.ReportMetric(bytesEach(b, n), "bytes/deadline")
		b.ReportMetric(firing(b, n), "fired/s")
		x := newWaiting(b)
		alone := x.stepping(b, 10)
		x.set(b, n, time.Hour)
		beside := x.stepping(b, 10)
		b.ReportMetric(alone, "alone/s")
		b.ReportMetric(beside, "beside/s")
		b.ReportMetric(beside/alone, "share")
	}
	b.ReportMetric(0, "ns/op")
}
