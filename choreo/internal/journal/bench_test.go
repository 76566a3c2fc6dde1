package journal

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// typicalRun is a run as most flows have it: ids are UUIDs, data is a small JSON object.
func typicalRun(n int) (flow string, run Run) {
	flow = fmt.Sprintf("%08x-1111-4222-8333-%012x", n, n*7919)
	id := fmt.Sprintf("%08x-4444-4555-8666-%012x", n, n*104729)
	return flow, Run{
		Step: "authorize", Hash: HashOf("payments", id), Status: Did, Attempts: 1,
		In: Event{
			Source: "orders-1", ID: id, Type: "shop.order.placed.event.v1.json", ContentType: "application/json",
			Data: fmt.Appendf(nil, `{"orderId":"%s","customer":"c-%06d","amountCents":%06d,"currency":"EUR","country":"DE"}`, flow, n%1e6, n%1e6),
		},
		Out: Event{
			Source: "payments", ID: HashOf(id, "authorize").String(), Type: "shop.payment.authorized.v1.json", ContentType: "application/json",
			Data: fmt.Appendf(nil, `{"authorization":"auth-%012d","amountCents":%06d}`, n, n%1e6),
		},
	}
}

func typicalRecords(flows int) []*kgo.Record {
	records := make([]*kgo.Record, flows)
	s := New(config())
	for n := range records {
		flow, run := typicalRun(n)
		records[n] = must(s.PutRun(flow, run, start)).Record("payments.journal", 0, start)
		records[n].Offset = int64(n)
		if s.Flows() == 1000 {
			s = New(config())
		}
	}
	return records
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestAnIdleFlowTakesAtMost500Bytes(t *testing.T) {
	const flows, budget = 100_000, 500
	for _, c := range []struct {
		name string
		fill func(*Store)
	}{
		{"put", func(s *Store) {
			for n := range flows {
				flow, run := typicalRun(n)
				must(s.PutRun(flow, run, start))
			}
		}},
		{"restored", func(s *Store) {
			for part := range 10 {
				for n := part * flows / 10; n < (part+1)*flows/10; n++ {
					flow, run := typicalRun(n)
					s.Apply(must(New(Config{Steps: []string{"authorize"}}).PutRun(flow, run, start)).Record("", 0, start))
				}
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := heap()
			s := New(config())
			c.fill(s)
			grown := heap() - before
			per := float64(grown) / flows
			t.Logf("%.0f bytes per flow, Bytes says %.0f", per, float64(s.Bytes())/flows)
			if s.Flows() != flows || per > budget {
				t.Errorf("%d flows take %.0f bytes each, want at most %d", s.Flows(), per, budget)
			}
			if ratio := float64(s.Bytes()) / float64(grown); ratio < 0.85 || ratio > 1.15 {
				t.Errorf("Bytes says %d, the heap grew by %d", s.Bytes(), grown)
			}
			runtime.KeepAlive(s)
		})
	}
}

func TestAllocations(t *testing.T) {
	s := New(config())
	flow, run := typicalRun(1)
	put := must(s.PutRun(flow, run, start))
	rec := put.Record("payments.journal", 0, start)
	must(s.PutSeen(flow, run.Hash, 1, start))
	must(s.PutState(flow, "order", run.In.Data, run.Hash, start))
	for _, c := range []struct {
		name   string
		budget float64
		do     func()
	}{
		{"hash of an event", 0, func() { HashOf(run.In.Source, run.In.ID) }},
		{"look for a run that was never made", 0, func() { s.Run(flow, "ship", run.Hash) }},
		{"look for a cancellation that never was", 0, func() { s.Cancelled(flow, "ship") }},
		{"look whether an event was seen", 0, func() { s.Seen(flow, run.Hash) }},
		{"look whether a state has applied an event", 0, func() { s.Applied(flow, "order", run.Hash) }},
		{"read a run: the data of two events", 2, func() { s.Run(flow, "authorize", run.Hash) }},
		{"put a run again: the record, the slot", 2, func() { must(s.PutRun(flow, run, start)) }},
		{"restore a run again: the slot", 1, func() { s.Apply(rec) }},
		{"walk over flows that stay", 0, func() { s.Expirable(start, 100) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := testing.AllocsPerRun(100, c.do); got > c.budget {
				t.Errorf("%v allocations, want at most %v", got, c.budget)
			}
		})
	}
}

func BenchmarkApply(b *testing.B) {
	records := typicalRecords(200_000)
	b.ReportAllocs()
	b.ResetTimer()
	applied := 0
	for b.Loop() {
		s := New(config())
		for _, rec := range records {
			s.Apply(rec)
		}
		applied += len(records)
	}
	b.ReportMetric(float64(applied)/b.Elapsed().Seconds(), "records/s")
}

func BenchmarkPutRun(b *testing.B) {
	flows := make([]string, 10_000)
	runs := make([]Run, len(flows))
	for n := range flows {
		flows[n], runs[n] = typicalRun(n)
	}
	s := New(config())
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		must(s.PutRun(flows[n], runs[n], start))
		n = (n + 1) % len(flows)
	}
}

func BenchmarkExpirable(b *testing.B) {
	s := New(config())
	for n := range 100_000 {
		flow, run := typicalRun(n)
		must(s.PutRun(flow, run, start))
	}
	b.ReportAllocs()
	for b.Loop() {
		s.Expirable(start.Add(time.Minute), 1000)
	}
}
