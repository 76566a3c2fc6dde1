package choreo

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/internal/offsets"
	"github.com/choreography-go/choreography/choreo/internal/room"
	"github.com/choreography-go/choreography/choreo/internal/sched"
	"github.com/choreography-go/choreography/choreo/internal/task"
	"github.com/choreography-go/choreography/choreo/internal/txn"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
)

// What the runtime costs per record is measured without a broker: everything
// runs from Deliver to the pipeline, and the pipeline is one that commits at
// once. The same records, forwarded by hand to the same pipeline, are what it
// is compared with; the difference is the runtime's.

// atOnce is a pipeline that takes every result for committed.
type atOnce struct {
	pipeline
	left   atomic.Int64 // results to come
	idle   chan struct{}
	loud   atomic.Int64 // records said and journalled
	silent atomic.Int64 // results without any
}

func (p *atOnce) Submit(r *txn.Result) {
	if len(r.Records) == 0 {
		p.silent.Add(1)
	}
	p.loud.Add(int64(len(r.Records)))
	r.Source.Offsets.Finish(r.Offset)
	if r.Done != nil {
		r.Done.Done(true)
	}
	if p.left.Add(-1) == 0 {
		p.idle <- struct{}{}
	}
}

func (p *atOnce) SubmitAll(rs []*txn.Result) {
	for _, r := range rs {
		p.Submit(r)
	}
}

type costOrder struct {
	ID       string   `json:"id"`
	Customer string   `json:"customer"`
	Amount   int64    `json:"amount"`
	Items    []string `json:"items"`
}

type costReceipt struct {
	Order  string `json:"order"`
	Amount int64  `json:"amount"`
}

var (
	costRaw      = Event[[]byte]{Type: "com.example.scan.taken.v1", Topic: "scans", Codec: Bytes{}}
	costRawSaid  = Event[[]byte]{Type: "com.example.scan.filed.v1", Topic: "files", Codec: Bytes{}}
	costJSON     = Event[costOrder]{Type: "com.example.order.placed.v1", Topic: "orders"}
	costJSONSaid = Event[costReceipt]{Type: "com.example.order.paid.v1", Topic: "payments"}
	costStep     = Step[costOrder, costReceipt]{
		Name: "pay", On: costJSON, Emit: costJSONSaid,
		Do: func(_ context.Context, o costOrder) (costReceipt, error) { return costReceipt{o.ID, o.Amount}, nil },
		Compensate: Undo(func(_ context.Context, _ costOrder, r costReceipt) (costReceipt, error) {
			return r, nil
		}, Event[costReceipt]{Type: "com.example.order.refunded.v1", Topic: "payments"},
			Event[costReceipt]{Type: "com.example.order.lost.v1", Topic: "shipments"}),
	}
	costHandlers = map[string]Declaration{
		"reaction": Reaction[[]byte]{
			Name: "file", On: costRaw, Emits: Events{costRawSaid},
			Do: func(_ context.Context, data []byte) (Emissions, error) { return Emit(costRawSaid.New(data)), nil },
		},
		"step": costStep,
		"step with a door": func() Declaration {
			s := costStep
			s.Breaker, s.MaxConcurrent = Breaker{Failures: 10, Of: 20}, 1000
			return s
		}(),
	}
)

// belt delivers the same batch of records again and again, as if they were new.
type belt struct {
	e    *engine
	pipe *atOnce
	in   *input
	src  *task.Source
	recs []*kgo.Record
	next int64
}

const beltBatch = 1000

func newBelt(tb testing.TB, what string) *belt {
	tb.Helper()
	e := &engine{
		plan: newPlan(NewService("sample", costHandlers[what], Tasks(1))), cfg: Config{}.withDefaults(), names: namesOf("sample", ""), source: "/sample",
		log: slog.New(slog.DiscardHandler), fence: &txn.Fence{}, room: &room.Room{MaxRecords: 1 << 20, MaxBytes: 1 << 30}, sched: sched.New(4),
		owner: &task.Owner{}, owned: map[int32]*owned{}, failed: make(chan error, 1),
	}
	if err := e.plan.err(); err != nil {
		tb.Fatal(err)
	}
	e.metrics, e.tracing = newMetrics(prometheus.NewRegistry(), e.plan), newTracing(nil, "sample")
	e.doors = e.newDoors()
	x := &belt{e: e, pipe: &atOnce{idle: make(chan struct{}, 1)}}
	e.pipe = x.pipe
	tr, err := offsets.New(0, "")
	if err != nil {
		tb.Fatal(err)
	}
	o := e.newOwned(0, e.fence.Open(0), e.newStore())
	x.in = &input{owned: o, Source: &txn.Source{Topic: "in", Offsets: tr}}
	x.in.passed = func(bool) { e.gated(x.in) }
	x.src = &task.Source{Handle: x.in}
	for i := range beltBatch {
		x.recs = append(x.recs, costRecord(tb, what, i))
	}
	tb.Cleanup(func() { o.inc.Close(nil); e.sched.Close(); _ = e.sched.Wait(context.Background()) })
	return x
}

// costRecord is an event as another service of choreo says it.
func costRecord(tb testing.TB, what string, i int) *kgo.Record {
	ev := cloudevent.Event{
		ID: fmt.Sprintf("Jm1yZW5kZXIgb2YgdGhl%02d", i), Source: "/orders", Type: costRaw.Type, Time: time.Now(),
		DataContentType: "application/octet-stream", CorrelationID: fmt.Sprintf("0199a6c2-5b7e-7d11-9c52-%012d", i),
		CausationID: "c29tZXRoaW5nIGVsc2UxMg", PartitionKey: fmt.Sprintf("0199a6c2-5b7e-7d11-9c52-%012d", i),
		Service: "orders", Step: "take", Kind: cloudevent.KindDid, Attempt: 1, Hops: 1,
		Started: time.Now(), Began: time.Now(), Data: make([]byte, 200),
	}
	if what != "reaction" {
		ev.Type, ev.DataContentType = costJSON.Type, "application/json"
		var err error
		if ev.Data, err = json.Marshal(costOrder{ev.CorrelationID, "customer-1", 4200, []string{"a", "b", "c"}}); err != nil {
			tb.Fatal(err)
		}
	}
	rec, err := ev.Record("in")
	if err != nil {
		tb.Fatal(err)
	}
	rec.Timestamp = time.Now()
	return rec
}

// turn hands the batch on and waits until all of it is committed.
func (x *belt) turn(tb testing.TB, deliver func([]*kgo.Record) int) {
	for _, rec := range x.recs {
		rec.Offset = x.next
		x.next++
	}
	x.pipe.left.Store(beltBatch)
	if n := deliver(x.recs); n != beltBatch {
		tb.Fatalf("%d records taken of %d", n, beltBatch)
	}
	<-x.pipe.idle
}

// framework takes the records through the runtime. The flows are new ones in
// every turn: a journal would otherwise know the events.
func (x *belt) framework(recs []*kgo.Record) int {
	x.in.owned.store = x.e.newStore()
	return x.e.Deliver(context.Background(), x.src, recs)
}

// byHand forwards the records as they are: what the pipeline asks of whoever
// uses it, and nothing else, with as few allocations as there can be.
func (x *belt) byHand(recs []*kgo.Record) int {
	results, batch := make([]txn.Result, len(recs)), make([]*txn.Result, len(recs))
	outputs := make([]*kgo.Record, len(recs))
	for i, rec := range recs {
		x.in.Offsets.Begin(rec.Offset, rec.LeaderEpoch)
		outputs[i] = &kgo.Record{Topic: costRawSaid.Topic, Key: rec.Key, Value: rec.Value, Headers: rec.Headers}
		results[i] = txn.Result{Inc: x.in.owned.inc, Source: x.in.Source, Offset: rec.Offset, Records: outputs[i : i+1 : i+1]}
		batch[i] = &results[i]
	}
	x.pipe.SubmitAll(batch)
	return len(recs)
}

// check tells that every record came to what it should have.
func (x *belt) check(tb testing.TB, perRecord int) {
	if said, silent := x.pipe.loud.Load(), x.pipe.silent.Load(); said != x.next*int64(perRecord) || silent > 0 {
		tb.Fatalf("%d records said on %d, %d in silence, want %d on each", said, x.next, silent, perRecord)
	}
}

// mallocs is how many objects each record allocates.
func (x *belt) mallocs(tb testing.TB, deliver func([]*kgo.Record) int) float64 {
	const turns = 50
	for range 3 {
		x.turn(tb, deliver)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range turns {
		x.turn(tb, deliver)
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / (turns * beltBatch)
}

// TestCostPerRecord is the budget of the hot path: what the runtime allocates
// per record over what the pipeline asks of whoever uses it. A reaction's own
// share of it is the list of its emissions and the payload in it.
func TestCostPerRecord(t *testing.T) {
	for what, budget := range map[string]struct {
		records int // said and journalled
		over    float64
	}{
		"reaction": {1, 4},
		"step":     {2, 24},

		"step with a door": {2, 25},
	} {
		t.Run(what, func(t *testing.T) {
			byHand, choreo := newBelt(t, what), newBelt(t, what)
			base, all := byHand.mallocs(t, byHand.byHand), choreo.mallocs(t, choreo.framework)
			byHand.check(t, 1)
			choreo.check(t, budget.records)
			t.Logf("by hand %.2f allocations per record, with the runtime %.2f", base, all)
			if raced { // then pools forget on purpose
				return
			}
			if over := all - base; over > budget.over {
				t.Errorf("%.2f allocations per record over the pipeline's, the budget is %.0f", over, budget.over)
			}
		})
	}
}
