package cloudevent_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/choreography-go/choreography/choreo/cloudevent"
)

// usual is an event as a step publishes it.
func usual() cloudevent.Event {
	event := full()
	event.CausationIDs, event.Extensions, event.Subject, event.TraceState, event.Outcome, event.DataSchema = nil, nil, "", "", "", ""
	return event
}

// An outgoing event costs the record, its headers and the buffer of their values, which the key shares.
func TestRecordAllocatesLittle(t *testing.T) {
	event := usual()
	for name, test := range map[string]struct {
		change func(*cloudevent.Event)
		want   float64
	}{
		"usual":                {func(*cloudevent.Event) {}, 3},
		"without key":          {func(e *cloudevent.Event) { e.PartitionKey = "" }, 3},
		"with causation ids":   {func(e *cloudevent.Event) { e.CausationIDs = []string{"a,b", "c"} }, 3},
		"with two extensions":  {func(e *cloudevent.Event) { e.Extensions = map[string]string{"xa": "1", "xb": "2"} }, 6},
		"with every attribute": {func(e *cloudevent.Event) { *e = full(); e.Extensions = nil }, 3},
	} {
		event := event
		test.change(&event)
		if got := testing.AllocsPerRun(100, func() {
			if _, err := event.Record("t"); err != nil {
				t.Error(err)
			}
		}); got > test.want {
			t.Errorf("%s: %v allocations, want at most %v", name, got, test.want)
		}
	}
}

// A usual event read costs one allocation for all its attributes.
func TestReadAllocatesLittle(t *testing.T) {
	r, err := usual().Record("t")
	if err != nil {
		t.Fatal(err)
	}
	if got := testing.AllocsPerRun(100, func() {
		if _, err := cloudevent.Read(r); err != nil {
			t.Error(err)
		}
	}); got > 1 {
		t.Errorf("%v allocations, want at most 1", got)
	}
}

func BenchmarkView(b *testing.B) {
	r, err := usual().Record("t")
	if err != nil {
		b.Fatal(err)
	}
	routes := map[string]int{"order.placed": 1}
	sum := 0
	b.ReportAllocs()
	for b.Loop() {
		view := cloudevent.ViewOf(r)
		sum += routes[string(view.Type())] + len(view.CorrelationID())
	}
}

func benchmarkRead(b *testing.B, r *kgo.Record, err error) {
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := cloudevent.Read(r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadBinary(b *testing.B) {
	r, err := usual().Record("t")
	benchmarkRead(b, r, err)
}

func BenchmarkReadStructured(b *testing.B) {
	r, err := usual().Structured("t")
	benchmarkRead(b, r, err)
}

func BenchmarkRecord(b *testing.B) {
	event := usual()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := event.Record("t"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStructured(b *testing.B) {
	event := usual()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := event.Structured("t"); err != nil {
			b.Fatal(err)
		}
	}
}
