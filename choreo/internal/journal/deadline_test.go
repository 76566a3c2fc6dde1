package journal

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// traceParents are some as they should be and some nearly so.
var traceParents = []string{
	"", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
	"00-0af7651916cd43dd8448eb211c8031-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319x-b7ad6b7169203331-01",
}

// pendingValue is the value of a pending deadline, in milliseconds.
func pendingValue(set, within uint64) []byte {
	b := binary.AppendUvarint([]byte{version, byte(Pending)}, set)
	b = appendEvent(binary.AppendUvarint(b, within), &Event{})
	return append(b, 0, 0, 0, 0, 0, 0)
}

// shownDeadline is all of a deadline; times in a form that does not depend on how they were made.
func shownDeadline(d Deadline) string {
	set, at, started := d.Set.UnixMilli(), d.Time.UnixNano(), d.Started.UnixNano()
	zero := fmt.Sprint(d.Time.IsZero(), d.Started.IsZero())
	d.Set, d.Time, d.Started = time.Time{}, time.Time{}, time.Time{}
	return fmt.Sprintf("%#v %d %d %d %s", d, set, at, started, zero)
}

// changeDeadline makes one change of a deadline of a flow.
func changeDeadline(t *rapid.T, s *Store, flow string, at time.Time) Change {
	name := rapid.SampledFrom(s.names.deadline).Draw(t, "deadline")
	want := Deadline{Name: name, Status: DeadlineStatus(rapid.IntRange(1, int(deadlineStatuses)-1).Draw(t, "deadline's status"))}
	d := want
	d.Set, d.Within = at.Truncate(time.Millisecond), time.Duration(rapid.Int64Range(0, maxWait).Draw(t, "within"))*time.Millisecond
	d.After, d.Hops = drawEvent(t), rapid.IntRange(0, 100).Draw(t, "hops")
	d.Time = rapid.SampledFrom([]time.Time{{}, at, time.Unix(0, 0)}).Draw(t, "time")
	d.Started = rapid.SampledFrom([]time.Time{{}, at.Add(1)}).Draw(t, "started")
	d.TraceParent, d.TraceState = rapid.SampledFrom(traceParents).Draw(t, "traceparent"), rapid.SampledFrom([]string{"", "x"}).Draw(t, "tracestate")
	if d.Status == Pending {
		want = d
	}
	made := must(s.PutDeadline(flow, d, at))
	got, ok := s.Deadline(flow, name)
	if !ok || shownDeadline(got) != shownDeadline(want) || s.DeadlineStatus(flow, name) != d.Status {
		t.Fatalf("put %s, got %s", shownDeadline(want), shownDeadline(got))
	}
	rec := made.Record("shop.journal", 0, at)
	readFlow, read, ok := ReadDeadline(rec)
	if !ok || readFlow != flow || read.Name != name || read.Status != want.Status || !read.Set.Equal(want.Set) || read.Within != want.Within {
		t.Fatalf("read %q %s %t", readFlow, shownDeadline(read), ok)
	}
	pending := slices.ContainsFunc(s.PendingOf(flow), func(d Deadline) bool { return d.Name == name })
	if pending != (d.Status == Pending) || pending && !s.IsPending(flow) {
		t.Fatalf("%s is among the pending ones: %t", d.Status, pending)
	}
	return made
}

func TestAFlowDoesNotExpireWhileADeadlineOfItIsPending(t *testing.T) {
	late := start.Add(1000 * time.Hour)
	for status, want := range map[DeadlineStatus]int{Pending: 0, Met: 2, Fired: 2} {
		s := New(config())
		must(s.PutRun("f", Run{Step: "ship", Hash: Hash{1}, Status: Did}, start))
		must(s.PutDeadline("f", Deadline{Name: "payment", Status: status}, start))
		s.Ended("f", start)
		if due, dropped := s.Expirable(late, 100), s.Drop("f", late); len(due) != min(1, want) || len(dropped) != want {
			t.Errorf("%s: %v may be dropped, %d slots are", status, due, len(dropped))
		}
	}
}

func TestThePendingDeadlinesOfAFlowAreInTheOrderOfTheirTimes(t *testing.T) {
	s := New(config())
	for k, within := range []time.Duration{time.Hour, time.Minute} {
		must(s.PutDeadline("f", Deadline{Name: s.names.deadline[k], Status: Pending, Set: start, Within: within}, start))
	}
	must(s.PutDeadline("g", Deadline{Name: "reply", Status: Met}, start))
	if all := s.PendingOf("f"); len(all) != 2 || all[0].Name != "reply" || !all[0].Due().Equal(start.Add(time.Minute)) {
		t.Errorf("pending are %+v", all)
	}
	if len(s.PendingOf("g")) != 0 || s.IsPending("g") || s.IsPending("nobody") {
		t.Error("one that is met is pending")
	}
	must(s.PutDeadline("h", Deadline{Name: "payment", Status: Pending, Set: start}, start))
	if n, want := s.Pending(), map[string]int{"payment": 2, "reply": 1}; !maps.Equal(n, want) {
		t.Errorf("pending are %v, want %v", n, want)
	}
	s.Fired("f", "payment", start)
	s.Fired("f", "reply", start)
	if n, want := s.Pending(), map[string]int{"payment": 1}; !maps.Equal(n, want) {
		t.Errorf("pending are %v, want %v", n, want)
	}
}

// A deadline that was renamed is the same one, and goes with both its records.
func TestADeadlineMayHaveBeenRenamed(t *testing.T) {
	s := New(config())
	s.Apply(record("f\x00deadline/answer", pendingValue(5, 7), 1))
	if err := s.Restored(); err != nil {
		t.Fatal(err)
	}
	if d, ok := s.Deadline("f", "reply"); !ok || d.Status != Pending || d.Due() != time.UnixMilli(12) {
		t.Errorf("it is %+v, %t", d, ok)
	}
	must(s.PutDeadline("f", Deadline{Name: "reply", Status: Fired}, start))
	var keys []string
	for _, c := range s.Drop("f", start.Add(1000*time.Hour)) {
		keys = append(keys, string(c.Key))
	}
	if want := []string{"f\x00deadline/reply", "f\x00deadline/answer"}; !slices.Equal(keys, want) {
		t.Errorf("deleted are %q, want %q", keys, want)
	}
}

// A pending deadline takes at most 150 bytes besides the flow and the event's
// payload; 50 are left for the time in the agenda.
func TestAPendingDeadlineTakesAtMost150Bytes(t *testing.T) {
	const flows, budget = 100_000, 150
	of := func(n int) (flow string, d Deadline) {
		flow, run := typicalRun(n)
		return flow, Deadline{
			Name: "payment", Status: Pending, Set: start, Within: time.Hour, After: run.In, Hops: 1, Time: start, Started: start,
			TraceParent: traceParents[1],
		}
	}
	// The flow has another deadline already, so that its entry is there.
	base := func() *Store {
		s := New(config())
		for n := range flows {
			flow, _ := of(n)
			must(s.PutDeadline(flow, Deadline{Name: "reply", Status: Met}, start))
		}
		return s
	}
	before := heap()
	s := base()
	alone := heap() - before
	payload := 0
	for n := range flows {
		flow, d := of(n)
		payload += len(d.After.Data)
		must(s.PutDeadline(flow, d, start))
	}
	both := heap() - before
	per := float64(both-alone-int64(payload)) / flows
	t.Logf("%.0f bytes per deadline besides %d of payload", per, payload/flows)
	if s.Slots() != 2*flows || per > budget {
		t.Errorf("%d slots take %.0f bytes for each deadline, want at most %d", s.Slots(), per, budget)
	}
}
