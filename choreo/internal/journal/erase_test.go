package journal

import (
	"strings"
	"testing"
	"time"
)

// Erased, a flow is gone from memory and, by the records, from the journal, under
// all names that its slots have had; other flows are as they were.
func TestErase(t *testing.T) {
	old := config()
	old.Steps, old.Deadlines, old.Formerly = []string{"charge"}, []string{"answer"}, nil
	half := Half{Event: Event{Source: "/shop", ID: "1", Type: "shop.paid", Data: []byte("secret")}, Topic: "payments", Heard: start}
	var l log
	was := New(old)
	l.write(start,
		must(was.PutRun("f", Run{Step: "charge", Hash: Hash{1}, Status: Did}, start)),
		must(was.PutDeadline("f", Deadline{Name: "answer", Status: Pending, Set: start, Within: time.Minute}, start)))
	s := restore(t, config(), l.records)
	empty := New(config()).Bytes()
	l.write(start,
		must(s.PutRun("f", Run{Step: "authorize", Hash: Hash{1}, Status: Undone}, start)),
		must(s.PutState("f", "order", []byte("secret"), Hash{1}, start)),
		must(s.PutSeen("f", Hash{1}, 2, start)),
		must(s.PutCancelled("f", Cancelled{Step: "authorize", By: []Trigger{{ID: "t"}}}, start)),
		must(s.PutJoin("f", Join{Step: "ship", Status: JoinWaiting, Halves: []Half{half}}, start)),
		must(s.PutJoin("f", Join{Step: "notify", Status: JoinDone, Halves: []Half{half}}, start)),
		must(s.PutDeadline("f", Deadline{Name: "payment", Status: Met}, start)),
		s.Fired("f", "reply", start))
	if s.Erase("unknown") != nil {
		t.Error("of an unknown flow something is erased")
	}
	changes := s.Erase("f")
	if s.Known("f") || s.Flows() != 0 || s.Slots() != 0 || s.Bytes() != empty {
		t.Errorf("%d flows, %d slots, %d bytes are left, %d are none", s.Flows(), s.Slots(), s.Bytes(), empty)
	}
	if len(s.JoinsOf("f"))+len(s.Joining()) != 0 {
		t.Errorf("joins wait: %v of the flow, %v of all", s.JoinsOf("f"), s.Joining())
	}
	for _, name := range []string{"payment", "reply"} {
		if d, ok := s.Deadline("f", name); ok {
			t.Errorf("deadline %q is %v", name, d.Status)
		}
	}
	if len(changes) != 11 {
		t.Errorf("%d records, want 11: two for earlier names of the run's step and one for that of a deadline, none for those of what was never put under them", len(changes))
	}
	for _, c := range changes {
		if c.Value != nil {
			t.Errorf("%q is not deleted", c.Key)
		}
	}
	s.Commit(changes...)
	if _, ok := s.Committed("f", "order"); ok {
		t.Error("its state is shown still")
	}
	l.write(start, must(s.PutSeen("g", Hash{1}, 2, start)))
	l.write(start.Add(time.Second), changes...)
	last := map[string][]byte{} // as compaction leaves it
	for _, rec := range l.records {
		last[string(rec.Key)] = rec.Value
	}
	for key, value := range last {
		if of := strings.HasPrefix(key, "f\x00"); of != (value == nil) {
			t.Errorf("%q is in the journal: %t", key, value != nil)
		}
	}
	if again := restore(t, config(), l.records); again.Known("f") || !again.Known("g") || again.Flows() != 1 {
		t.Errorf("%d flows are restored", again.Flows())
	}
}
