package journal

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// However the lengths of names and events relate, a record is made of them and
// read again.
func TestRecordsAreMadeOfTextsOfAnyLength(t *testing.T) {
	long, flow, state := strings.Repeat("x", 500), "f", "state"
	for name, of := range map[string]Run{
		"a long id of the trigger":   {Step: "s", Status: Undone, By: Trigger{ID: long}},
		"a long type of the trigger": {Step: "s", Status: Undone, By: Trigger{Type: long}},
		"a long answer":              {Step: "s", Status: Did, Out: Event{ID: long, ContentType: long}},
		"a long name":                {Step: long, Status: Did},
		"no text at all":             {Step: "s", Status: Did},
	} {
		var l log
		step := of.Step
		c := Config{Steps: []string{step}, States: map[string]time.Duration{state: 0}}
		s := New(c)
		l.write(start, must(s.PutRun(flow, of, start)), must(s.PutState(flow, state, nil, Hash{1}, start)),
			must(s.PutCancelled(flow, Cancelled{Step: step, By: []Trigger{of.By}}, start)), must(s.PutSeen(flow, Hash{2}, 3, start)))
		s = restore(t, c, l.records)
		got, ok := s.Run(flow, step, Hash{})
		if !ok || got.By != of.By || got.Out.ID != of.Out.ID || got.Out.ContentType != of.Out.ContentType {
			t.Errorf("%s: %+v, %t", name, got, ok)
		}
		if !s.Applied(flow, state, Hash{1}) || s.Slots() != 4 {
			t.Errorf("%s: %d slots are restored", name, s.Slots())
		}
	}
}

// Names are told apart however many there are.
func TestNamesAreNumberedBeyondAByte(t *testing.T) {
	c := Config{}
	for n := range 300 {
		c.Steps = append(c.Steps, fmt.Sprintf("step-%d", n))
	}
	var l log
	s := New(c)
	for n, step := range c.Steps {
		run := Run{Step: step, Status: Did, Attempts: uint32(n)}
		l.write(start, must(s.PutRun("f", run, start)))
	}
	s = restore(t, c, l.records)
	if s.Slots() != len(c.Steps) {
		t.Errorf("%d slots for %d steps", s.Slots(), len(c.Steps))
	}
	for n, step := range c.Steps {
		if run, ok := s.Run("f", step, Hash{}); !ok || run.Step != step || run.Attempts != uint32(n) {
			t.Errorf("the run of %s is %+v, %t", step, run, ok)
		}
	}
}

// What a flow costs is its texts and something for itself and each slot, and goes
// with it.
func TestMemoryIsCountedByTexts(t *testing.T) {
	event := HashOf("shop", "1")
	bytesOf := func(flow string, payload int) int64 {
		s := New(config())
		must(s.PutState(flow, "order", make([]byte, payload), event, start))
		took := s.Bytes()
		s.Drop(flow, start.Add(48*time.Hour))
		if s.Flows() != 0 || s.Bytes() != 0 {
			t.Errorf("%d flows are left and take %d bytes", s.Flows(), s.Bytes())
		}
		return took
	}
	short := bytesOf("f", 1)
	if short < flowCost+slotCost {
		t.Errorf("a flow takes %d bytes", short)
	}
	if more := bytesOf(strings.Repeat("f", 101), 1) - short; more != 100 {
		t.Errorf("an id of 100 more bytes takes %d more", more)
	}
	if more := bytesOf("f", 101) - short; more != 100 {
		t.Errorf("a payload of 100 more bytes takes %d more", more)
	}
}

// Up to four slots take the space that they need, and more of them grow ahead.
func TestSmallFlowsTakeTheSpaceTheyNeed(t *testing.T) {
	s := New(config())
	for n := 1; n <= 5; n++ {
		must(s.PutRun("f", Run{Step: "ship", Hash: HashOf("shop", strconv.Itoa(n)), Status: Did}, start))
		slots := s.flows["f"].slots
		if len(slots) != n || n <= 4 && cap(slots) != n || n > 4 && cap(slots) == n {
			t.Errorf("%d slots have room for %d", n, cap(slots))
		}
	}
}

// A text is kept once if it has at most 128 bytes, and the buffer in which slots
// are made if it has at most a MiB.
func TestWhatIsKeptForLaterSlotsIsBounded(t *testing.T) {
	for length, want := range map[int]bool{0: false, 1: true, tableText: true, tableText + 1: false} {
		table := newTable(nil)
		n, ok := table.number([]byte(strings.Repeat("x", length)))
		if ok != want || ok && (len(table.texts) != 1 || n != 0) {
			t.Errorf("a text of %d bytes has number %d, %t", length, n, ok)
		}
	}
	for _, tc := range []struct {
		size int
		kept bool
	}{{1 << 20, true}, {1<<20 + 1, false}} {
		c := config()
		c.MaxRecord = 4 << 20
		s := New(c)
		s.scratch = make([]byte, 0, tc.size)
		must(s.PutSeen("f", Hash{1}, 2, start))
		if kept := s.scratch != nil; kept != tc.kept {
			t.Errorf("a buffer of %d bytes is kept: %t", tc.size, kept)
		}
	}
}

// An earlier name leads to the present one only where there is one, and never
// away from a name that is itself declared.
func TestFormerlyTakesNoNameAway(t *testing.T) {
	event := HashOf("shop", "1")
	c := config()
	c.Formerly = map[string]string{"ship": "authorize", "bill": "nowhere"}
	s := New(c)
	must(s.PutRun("f", Run{Step: "ship", Hash: event, Status: Did}, start))
	if _, ok := s.Run("f", "ship", event); !ok {
		t.Error("the run of a declared step is lost")
	}
	if _, ok := s.Run("f", "authorize", event); ok {
		t.Error("the run of a declared step is another one's")
	}
	s.Apply(record("f\x00run/bill/"+event.String(), []byte{1}, 1))
	var unknown *UnknownNameError
	if err := s.Restored(); !errors.As(err, &unknown) || unknown.Name != "bill" {
		t.Errorf("a step whose present name is not declared: %v", err)
	}
}

// Slots whose key or value is nearly right are faults of their own.
func TestNearlyRightSlotsAreRefused(t *testing.T) {
	event := HashOf("shop", "1").String()
	short := base64.RawURLEncoding.EncodeToString(make([]byte, 15))
	for name, tc := range map[string]struct {
		key   string
		value []byte
		says  string
	}{
		"a step without a name":          {"f\x00run//" + event, []byte{1}, `declares no step ""`},
		"a hash without a step":          {"f\x00run/" + event, []byte{1}, "names no event"},
		"a hash that is too short":       {"f\x00run/ship/" + short, []byte{1}, "names no event"},
		"a hash that is too long":        {"f\x00run/ship/" + event + "AAAA", []byte{1}, "names no event"},
		"a state with half a hash":       {"f\x00state/order", append([]byte{version, 1}, make([]byte, 15)...), "damaged"},
		"a state with a hash too few":    {"f\x00state/order", append([]byte{version, 2}, make([]byte, 31)...), "damaged"},
		"a state with far too few":       {"f\x00state/order", append([]byte{version, 100}, make([]byte, 31)...), "damaged"},
		"an input without a topic":       {"\x00input//1", make([]byte, 17), "names no input"},
		"an input of no partition":       {"\x00input/orders/-1", make([]byte, 17), "names no input"},
		"seen events with half an entry": {"f\x00seen", append([]byte{version}, make([]byte, seenSize+seenSize/2)...), "damaged"},
	} {
		s := New(config())
		s.Apply(record(tc.key, tc.value, 1))
		if err := s.Restored(); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want %q in it", name, err, tc.says)
		}
		if s.Flows() != 0 {
			t.Errorf("%s: it is in memory", name)
		}
	}
}

// Changes are committed together whatever is among them: what is no state, and
// what was committed before.
func TestStatesAreCommittedBesideOtherChanges(t *testing.T) {
	s := New(config())
	event := HashOf("shop", "1")
	run := must(s.PutRun("f", Run{Step: "ship", Hash: event, Status: Did}, start))
	order := must(s.PutState("f", "order", []byte("1"), event, start))
	s.Commit(order)
	basket := must(s.PutState("f", "basket", []byte("2"), event, start))
	s.Commit(run, order, basket)
	for state, want := range map[string]string{"order": "1", "basket": "2"} {
		if got, ok := s.Committed("f", state); !ok || string(got) != want {
			t.Errorf("committed as %s is %q, %t, want %q", state, got, ok, want)
		}
	}
}
