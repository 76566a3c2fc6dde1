package choreo

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"
	"weak"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A record that waits for another attempt does not hold on to what it was
// fetched with: a few flows that wait would else hold all that is read beside
// them.
func TestWhatWaitsHoldsNothingButItself(t *testing.T) {
	for _, structured := range []bool{false, true} {
		x := newBelt(t, "reaction")
		answer := fetched(t, x.recs[0], structured)
		tried := make(chan []byte, 1)
		x.e.plan.hears[costRaw.Type].handlers = []handler{&reactionRun{
			reactionPlan: &reactionPlan{reaction: "wait", policy: policy{retry: Retry{First: time.Hour, Max: time.Hour, Attempts: 2}}},
			react: func(_ context.Context, data []byte) (Emissions, error) {
				tried <- data
				return nil, errors.New("not now")
			},
		}}
		if n := x.e.Deliver(t.Context(), x.src, x.recs[:1]); n != 1 {
			t.Fatalf("%d records taken", n)
		}
		x.recs = nil
		data := <-tried
		for deadline := time.Now().Add(10 * time.Second); answer.Value() != nil; runtime.GC() {
			if time.Now().After(deadline) {
				t.Fatalf("structured %v: the event waits, and holds on to the whole answer that it came in", structured)
			}
		}
		if string(data) != "payload" {
			t.Errorf("structured %v: the handler got %q", structured, data)
		}
		x.e.sched.Close()
	}
}

// fetched lays the record's parts where the client lays them, into one answer.
func fetched(t *testing.T, rec *kgo.Record, structured bool) weak.Pointer[byte] {
	t.Helper()
	ev, err := cloudevent.Read(rec)
	if err != nil {
		t.Fatal(err)
	}
	ev.Data = []byte("payload")
	said, err := ev.Record("in")
	if structured {
		ev.DataContentType = "application/octet-stream"
		said, err = ev.Structured("in")
	}
	if err != nil {
		t.Fatal(err)
	}
	*rec = *said
	rec.Timestamp = time.Now()
	answer := make([]byte, 0, 1<<20)
	into := func(v []byte) []byte {
		start := len(answer)
		answer = append(answer, v...)
		return answer[start:]
	}
	rec.Key, rec.Value = into(rec.Key), into(rec.Value)
	for i := range rec.Headers {
		rec.Headers[i].Value = into(rec.Headers[i].Value)
	}
	return weak.Make(&answer[0])
}
