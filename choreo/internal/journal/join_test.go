package journal

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// joinValue is the value of a join that claims so many halves and has one.
func joinValue(status byte, claims uint64) []byte {
	b := binary.AppendUvarint([]byte{version, status, 0}, claims)
	return append(appendEvent(b, &Event{}), make([]byte, 10)...)
}

// shownJoin is all of a join; times in a form that does not depend on how they were made.
func shownJoin(j Join) string {
	text := fmt.Sprintf("%s %s", j.Step, j.Status)
	for _, h := range j.Halves {
		heard, at, started := h.Heard.UnixMilli(), h.Time.UnixNano(), h.Started.UnixNano()
		zero := fmt.Sprint(h.Time.IsZero(), h.Started.IsZero())
		h.Heard, h.Time, h.Started = time.Time{}, time.Time{}, time.Time{}
		text += fmt.Sprintf("; %#v %d %d %d %s", h, heard, at, started, zero)
	}
	return text
}

// changeJoin makes one change of a join of a flow.
func changeJoin(t *rapid.T, s *Store, flow string, at time.Time) Change {
	want := Join{
		Step:   rapid.SampledFrom(s.names.step).Draw(t, "step that joins"),
		Status: JoinStatus(rapid.IntRange(1, int(joinStatuses)-1).Draw(t, "join's status")),
	}
	first := time.Time{}
	for range rapid.IntRange(1, 3).Draw(t, "halves") {
		h := Half{
			Event: drawEvent(t), Topic: rapid.SampledFrom([]string{"", "orders"}).Draw(t, "topic"),
			Partition: rapid.Int32Range(0, 1<<31-1).Draw(t, "partition"), Offset: rapid.Int64Range(0, 1<<63-1).Draw(t, "offset"), Heard: at.Add(time.Duration(rapid.IntRange(-90, 90).Draw(t, "heard")) * time.Minute).Truncate(time.Millisecond),
			Hops: rapid.IntRange(0, 100).Draw(t, "hops"), Time: rapid.SampledFrom([]time.Time{{}, at, time.Unix(0, 0)}).Draw(t, "time"),
			Started:     rapid.SampledFrom([]time.Time{{}, at.Add(1)}).Draw(t, "started"),
			TraceParent: rapid.SampledFrom(traceParents).Draw(t, "traceparent"), TraceState: rapid.SampledFrom([]string{"", "x"}).Draw(t, "tracestate"),
		}
		if first.IsZero() || h.Heard.Before(first) {
			first = h.Heard
		}
		want.Halves = append(want.Halves, h)
	}
	made := must(s.PutJoin(flow, want, at))
	got, ok := s.Join(flow, want.Step)
	if !ok || shownJoin(got) != shownJoin(want) {
		t.Fatalf("put %s, got %s", shownJoin(want), shownJoin(got))
	}
	rec := made.Record("shop.journal", 0, at)
	readFlow, step, status, since, ok := ReadJoin(rec)
	if !ok || readFlow != flow || step != want.Step || status != want.Status || since.UnixMilli() != first.UnixMilli() {
		t.Fatalf("read %q %q %s %v %t", readFlow, step, status, since, ok)
	}
	waits := slices.Contains(s.JoinsOf(flow), want.Step)
	if want.Status != JoinWaiting && waits || want.Status == JoinWaiting && !waits && s.flows[flow].ended == 0 {
		t.Fatalf("%s waits: %t", want.Status, waits)
	}
	return made
}

func TestWhichJoinWaitsTheLongestIsKnown(t *testing.T) {
	s := New(config())
	put := func(flow, step string, status JoinStatus, heard time.Duration) {
		must(s.PutJoin(flow, Join{Step: step, Status: status, Halves: []Half{{Heard: start.Add(heard + time.Second)}, {Heard: start.Add(heard)}}}, start))
	}
	put("f", "ship", JoinWaiting, 2*time.Minute)
	put("g", "ship", JoinWaiting, time.Minute)
	put("h", "ship", JoinDone, 0)
	put("h", "notify", JoinCancelled, 0)
	want := map[string]Joining{"ship": {2, start.Add(time.Minute)}}
	if got := s.Joining(); len(got) != 1 || got["ship"] != want["ship"] {
		t.Errorf("waiting are %v, want %v", got, want)
	}
	put("g", "ship", JoinDone, time.Minute)
	if got := s.Joining()["ship"]; got != (Joining{1, start.Add(2 * time.Minute)}) {
		t.Errorf("waiting are %v after one is done", got)
	}
	s.Drop("f", start.Add(1000*time.Hour))
	if got := s.Joining(); len(got) != 0 {
		t.Errorf("waiting are %v after the last one was dropped", got)
	}
}

// A half that waits is dropped with its flow, and who drops it can tell.
func TestAJoinGoesWithItsFlow(t *testing.T) {
	for name, ended := range map[string]bool{"retention": false, "outcome": true} {
		t.Run(name, func(t *testing.T) {
			s := New(config())
			must(s.PutJoin("f", Join{Step: "ship", Status: JoinWaiting, Halves: []Half{{Heard: start}}}, start))
			must(s.PutJoin("f", Join{Step: "notify", Status: JoinDone, Halves: []Half{{Heard: start}}}, start))
			late, want := start.Add(DefaultRetain), []string{"ship"}
			if ended {
				s.Ended("f", start)
				late, want = start.Add(DefaultGrace), nil // it is not missed
			}
			if got := s.JoinsOf("f"); !slices.Equal(got, want) {
				t.Errorf("waiting are %q, want %q", got, want)
			}
			if s.JoinsOf("nobody") != nil {
				t.Error("joins of an unknown flow wait")
			}
			if n := len(s.Drop("f", late.Add(-time.Second))); n != 0 {
				t.Errorf("%d slots are dropped early", n)
			}
			if n := len(s.Drop("f", late)); n != 2 || s.Flows() != 0 {
				t.Errorf("%d slots are dropped, %d flows stay", n, s.Flows())
			}
		})
	}
}

// The run's name does not depend on the order in which the halves came.
func TestAJoinedRunHasOneName(t *testing.T) {
	half := func(source, id string) Half { return Half{Event: Event{Source: source, ID: id}} }
	of := func(h ...Half) Hash { return Join{Halves: h}.Hash() }
	a, b := half("shop", "1"), half("bank", "2")
	if of(a, b) != of(b, a) {
		t.Error("it depends on the order")
	}
	if got, want := of(a, b).String(), "fXhttyQ5MWBQQ7Q2d_i58g"; got != want {
		t.Errorf("it is %s, and was %s: ids of events that are out would change", got, want)
	}
	for name, other := range map[string]Hash{
		"another half": of(a, half("bank", "3")), "another source": of(a, half("shop", "2")), "one half": of(a), "a third": of(a, b, b), "an event": a.Hash(),
	} {
		if other == of(a, b) {
			t.Errorf("%s makes no difference", name)
		}
	}
	j := Join{Halves: []Half{a, b}}
	if j.Find(b.Hash()) != 1 || j.Find(Hash{}) != -1 {
		t.Errorf("found at %d and %d", j.Find(b.Hash()), j.Find(Hash{}))
	}
}

func TestAJoinOfARenamedStepIsTheSame(t *testing.T) {
	s := New(config())
	s.Apply(record("f\x00join/pay", joinValue(byte(JoinWaiting), 1), 1))
	if err := s.Restored(); err != nil {
		t.Fatal(err)
	}
	if j, ok := s.Join("f", "authorize"); !ok || j.Step != "authorize" || len(j.Halves) != 1 {
		t.Errorf("it is %+v, %t", j, ok)
	}
	must(s.PutJoin("f", Join{Step: "authorize", Status: JoinDone, Halves: []Half{{}}}, start))
	var keys []string
	for _, c := range s.Drop("f", start.Add(1000*time.Hour)) {
		keys = append(keys, string(c.Key))
	}
	if want := []string{"f\x00join/authorize", "f\x00join/charge", "f\x00join/pay"}; !slices.Equal(keys, want) {
		t.Errorf("deleted are %q, want %q", keys, want)
	}
}
