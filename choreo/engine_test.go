package choreo

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/deadletter"
	"github.com/choreography-go/choreography/choreo/internal/journal"
	"github.com/choreography-go/choreography/choreo/internal/offsets"
	"github.com/choreography-go/choreography/choreo/internal/room"
	"github.com/choreography-go/choreography/choreo/internal/sched"
	"github.com/choreography-go/choreography/choreo/internal/task"
	"github.com/choreography-go/choreography/choreo/internal/txn"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
)

// bareEngine is an engine whose pipeline only gathers: nothing is committed.
func bareEngine(t *testing.T) (*engine, *input) {
	t.Helper()
	e := &engine{
		plan: samplePlan(t), cfg: Config{}.withDefaults(), names: namesOf("sample", ""), source: "/sample",
		log: slog.New(slog.DiscardHandler), fence: &txn.Fence{}, room: &room.Room{MaxRecords: 100, MaxBytes: 1 << 30}, sched: sched.New(4),
		owner: &task.Owner{}, owned: map[int32]*owned{}, failed: make(chan error, 1),
	}
	e.metrics, e.tracing = newMetrics(prometheus.NewRegistry(), e.plan), newTracing(nil, "sample")
	var err error
	e.pipe, err = txn.New(txn.Config{
		Fence: e.fence, Group: "sample", InstanceID: "0", TransactionalID: func(int) string { return "x" }, OffsetsID: "x/offsets",
		Membership: func() (string, int32) { return "m", 1 }, Failed: func(error) {}, Ready: func() {},
		BatchBytes: e.batchBytes, Logger: e.log,
	})
	if err != nil {
		t.Fatal(err)
	}
	e.fence.Reopen()
	o := e.newOwned(0, e.fence.Open(0), e.newStore())
	in := &input{owned: o, Source: &txn.Source{Topic: "orders"}}
	if in.Offsets, err = offsets.New(5, ""); err != nil {
		t.Fatal(err)
	}
	in.passed = func(bool) { e.gated(in) }
	o.inc.SetHome(in.Source)
	t.Cleanup(func() { o.inc.Close(nil); e.sched.Close(); _ = e.sched.Wait(context.Background()) })
	return e, in
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 5 s: %s", what)
		}
	}
}

// What is only sent on must be bounded like what is worked on, and a source
// that was full of it must be woken.
func TestARecordTakesRoomUntilItsResultIsDone(t *testing.T) {
	e, in := bareEngine(t)
	rec := &kgo.Record{Topic: "orders", Key: []byte("k"), Value: []byte("value"), Offset: 5}
	for name, result := range map[string]func() *txn.Result{
		"forwarded": func() *txn.Result { return e.forward(in, rec, "flow", 2) },
		"dead letter": func() *txn.Result {
			var b batch
			e.refuse(in, rec, e.plan.hears["test.placed.v1"], &refusal{reason: reasonInvalid, err: errors.New("x")}, &b)
			return b.results[0]
		},
		"replayed for nobody": func() *txn.Result {
			var b batch
			e.acceptReplayed(in, rec, &b)
			return b.results[0]
		},
		"published and unreadable": func() *txn.Result {
			var b batch
			e.acceptPublished(in, rec, &b)
			return b.results[0]
		},
	} {
		t.Run(name, func(t *testing.T) {
			if !e.room.Try(size(rec)) {
				t.Fatal("no room")
			}
			in.full.Store(true)
			r := result()
			if n, bytes := e.room.Used(); n != 1 || bytes == 0 {
				t.Errorf("%d records of %d bytes in the room before the result is committed, want 1", n, bytes)
			}
			if r.Done == nil {
				t.Fatal("nobody is told when the result is done")
			}
			r.Done.Done(true)
			if n, _ := e.room.Used(); n != 0 {
				t.Errorf("%d records in the room after it", n)
			}
			if in.full.Load() {
				t.Error("the source that was full was not woken")
			}
		})
	}
}

// A replay has another key than its record; what it takes and gives is the same.
func TestAReplayGivesTheRoomThatItTook(t *testing.T) {
	for _, flow := range []string{"f", "g", "h", "i", "j"} { // some are forwarded
		e, in := bareEngine(t)
		ev := cloudevent.Event{ID: "1", Source: "/x", Type: "test.placed.v1", CorrelationID: flow, Data: []byte("{}")}
		dead, err := ev.Record("sample.dlq")
		if err != nil {
			t.Fatal(err)
		}
		dead.Key = []byte("a key that is longer than the flow")
		dead.Headers = append(dead.Headers, kgo.RecordHeader{Key: deadletter.HeaderReason, Value: []byte("x")})
		l, _ := deadletter.ReadLetter(dead)
		rec, err := l.Replay(dead, "sample.inbox", false)
		if err != nil {
			t.Fatal(err)
		}
		if !e.room.Try(size(rec)) {
			t.Fatal("no room")
		}
		var b batch
		e.accept(&input{owned: in.owned, Source: &txn.Source{Topic: "sample.inbox", Offsets: in.Offsets}}, rec, &b)
		switch {
		case len(b.results) == 1:
			b.results[0].Done.Done(false)
		case len(b.work) == 1:
			b.work[0].Item.(*run).Done(false)
		default:
			t.Fatalf("%d results, %d runs", len(b.results), len(b.work))
		}
		if n, bytes := e.room.Used(); n != 0 || bytes != 0 {
			t.Errorf("flow %s: %d records of %d bytes are left in the room", flow, n, bytes)
		}
	}
}

// waits is a handler that is never done.
type waits struct{}

func (waits) handle(r *run) verdict { r.e.stuck.add(r); return verdict(time.Hour) }
func (waits) name() string          { return "pay" }
func (waits) settings() policy      { return policy{} }

func TestARunThatWaitsIsDroppedWithItsOwnership(t *testing.T) {
	e, in := bareEngine(t)
	rec := &kgo.Record{Topic: "orders", Offset: 5}
	r := &run{e: e, in: in, rec: rec, flow: "f", key: "f", hears: &hearing{handlers: []handler{waits{}}}}
	if !e.room.Try(size(rec)) {
		t.Fatal("no room")
	}
	e.sched.Submit(sched.Key{Task: 0, Name: "f"}, r)
	eventually(t, "the run waits", func() bool { return e.sched.Stats().Waiting == 1 })
	in.owned.inc.Close(nil)
	eventually(t, "its key is free", func() bool { return e.sched.Stats() == sched.Stats{} })
	if n, _ := e.room.Used(); n != 0 {
		t.Errorf("it still takes the room of %d records", n)
	}
	if n := e.stuck.count(); n != 0 {
		t.Errorf("%d runs show as stuck", n)
	}
}

func TestAFlowAtWorkHoldsUpNoOthersExpiry(t *testing.T) {
	e, in := bareEngine(t)
	o := in.owned
	long := time.Now().Add(-48 * time.Hour)
	seen := func(flow string) {
		if _, err := o.store.PutSeen(flow, journal.Hash{1}, 0, long); err != nil {
			t.Fatal(err)
		}
	}
	rec := &kgo.Record{Topic: "orders", Offset: 5}
	e.room.Try(size(rec))
	e.sched.Submit(sched.Key{Task: 0, Name: "stuck"}, &run{e: e, in: in, rec: rec, key: "stuck", hears: &hearing{handlers: []handler{waits{}}}})
	seen("stuck")
	seen("a")
	for range 3 {
		e.expire(o, 1000)
	}
	eventually(t, "a is dropped", func() bool { return o.store.Flows() == 1 })
	seen("b")
	seen("a") // again, after it was dropped
	eventually(t, "a and b are dropped", func() bool { e.expire(o, 1000); return o.store.Flows() == 1 })
	if n := e.sched.Stats().QueuedItems; n != 1 {
		t.Errorf("%d items wait behind the stuck run, want its expiry once", n)
	}
}

func TestATruncatedPartitionEndsTheRun(t *testing.T) {
	e, in := bareEngine(t)
	if n := e.Deliver(t.Context(), &task.Source{Handle: in}, []*kgo.Record{{Topic: "orders", Offset: 5}, {Topic: "orders", Offset: 4}}); n != 1 {
		t.Errorf("%d records were taken, want 1", n)
	}
	select {
	case err := <-e.failed:
		if want := "orders/0 delivers offset 4 after 5: the partition was truncated"; err == nil || err.Error()[:len(want)] != want {
			t.Errorf("the run ends with %v", err)
		}
	default:
		t.Error("the run goes on")
	}
	if in.owned.inc.Standing() {
		t.Error("the task is still worked on")
	}
}

// saysThenFails says and journals, and then journals something too large.
type saysThenFails struct{ first bool }

func (saysThenFails) name() string     { return "total" }
func (saysThenFails) settings() policy { return policy{} }
func (s saysThenFails) handle(r *run) verdict {
	r.ended = r.ended || !s.first
	r.records = append(r.records, &kgo.Record{Topic: "payments"})
	r.journal("total")(r.store().PutState(r.flow, "total", []byte{'1'}, journal.Hash{1}, r.now()))
	if !s.first {
		r.journal("total")(r.store().PutState(r.flow, "total", make([]byte, 10<<20), journal.Hash{2}, r.now()))
	}
	return done
}

func TestWhatIsTooLargeForTheJournalTakesBackItsHandlersWorkOnly(t *testing.T) {
	e, in := bareEngine(t)
	r := &run{e: e, in: in, rec: &kgo.Record{Topic: "orders", Offset: 5}, flow: "f", key: "f",
		hears: &hearing{event: &eventDecl{}, handlers: []handler{saysThenFails{first: true}, saysThenFails{}}}}
	r.Run()
	var topics []string
	for _, rec := range r.result.Records {
		topics = append(topics, rec.Topic)
	}
	if got := sprint(topics); got != sprint([]string{"payments", "sample.dlq", "sample.journal"}) {
		t.Fatalf("said on %s", got)
	}
	if letter, ok := deadletter.ReadLetter(r.result.Records[1]); !ok || letter.Reason != reasonTooBig {
		t.Errorf("it is a dead letter because of %q", letter.Reason)
	}
	if st, ok := in.owned.store.State("f", "total"); !ok || len(st.Applied) != 1 || string(st.Payload) != "1" {
		t.Errorf("in memory is %+v", st)
	}
	if r.ended {
		t.Error("the flow is taken to have ended by what was not said")
	}
}

// What a handler changed is shown when its transaction has committed, and not
// when it may not have.
func TestOnlyWhatIsCommittedIsShown(t *testing.T) {
	e, in := bareEngine(t)
	r := &run{e: e, in: in, rec: &kgo.Record{Topic: "orders", Offset: 5, Timestamp: time.Now()}, flow: "f", key: "f",
		hears: &hearing{event: &eventDecl{}, handlers: []handler{saysThenFails{first: true}}}}
	r.Run()
	for _, committed := range []bool{false, true} {
		r.Done(committed)
		if payload, ok := in.owned.store.Committed("f", "total"); ok != committed || committed && string(payload) != "1" {
			t.Errorf("committed %t: shown is %q, %t", committed, payload, ok)
		}
	}
}
