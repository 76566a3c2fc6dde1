package journal

import (
	"testing"
	"time"
)

// Erased, a flow is gone from memory and, by the records, from the journal, under
// all names that its slots have had; other flows are as they were.
func TestErase(t *testing.T) {
	old := config()
	old.Steps, old.Formerly = []string{"charge"}, nil
	var l log
	was := New(old)
	l.write(start, must(was.PutRun("f", Run{Step: "charge", Hash: Hash{1}, Status: Did}, start)))
	s := restore(t, config(), l.records)
	empty := New(config()).Bytes()
	l.write(start,
		must(s.PutRun("f", Run{Step: "authorize", Hash: Hash{1}, Status: Undone}, start)),
		must(s.PutState("f", "order", []byte("secret"), Hash{1}, start)),
		must(s.PutSeen("f", Hash{1}, 2, start)),
		must(s.PutCancelled("f", Cancelled{Step: "authorize", By: []Trigger{{ID: "t"}}}, start)))
	if s.Erase("unknown") != nil {
		t.Error("of an unknown flow something is erased")
	}
	changes := s.Erase("f")
	if s.Known("f") || s.Flows() != 0 || s.Slots() != 0 || s.Bytes() != empty {
		t.Errorf("%d flows, %d slots, %d bytes are left", s.Flows(), s.Slots(), s.Bytes())
	}
	if len(changes) != 6 {
		t.Errorf("%d records, want 6: two for earlier names of the run's step, none for those of what was never put under them", len(changes))
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
	must(s.PutSeen("g", Hash{1}, 2, start))
	l.write(start.Add(time.Second), changes...)
	if again := restore(t, config(), l.records); again.Flows() != 0 {
		t.Errorf("%d flows are restored", again.Flows())
	}
}
