package journal

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// keys are the slots that some changes delete.
func keys(t *testing.T, changes []Change) string {
	t.Helper()
	var names []string
	for _, c := range changes {
		if c.Value != nil {
			t.Errorf("%q is no deletion", c.Key)
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(string(c.Key), "f\x00"), "/")
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func TestExpiry(t *testing.T) {
	const all = "cancelled run seen state state"
	// After start: when the flow ended (0: not), was touched again (0: not), is now; and what goes.
	for _, c := range []struct {
		name                string
		ended, touched, now time.Duration
		want                string
	}{
		{"fresh", 0, 0, time.Hour, ""},
		{"a second before retain", 0, 0, 24*time.Hour - time.Second, ""},
		{"retain is over, but for a state with its own", 0, 0, 24 * time.Hour, "cancelled run seen state"},
		{"the state's own retain is over", 0, 0, 48 * time.Hour, all},
		{"touched", 0, 10 * time.Hour, 24 * time.Hour, ""},
		{"a day after the touch", 0, 10 * time.Hour, 34 * time.Hour, "cancelled run seen state"},
		{"ended, in the grace", time.Hour, 0, time.Hour + 5*time.Minute - time.Second, ""},
		{"ended, after the grace", time.Hour, 0, time.Hour + 5*time.Minute, "cancelled run seen"},
		{"ended, touched in the grace", time.Hour, time.Hour + time.Minute, time.Hour + 5*time.Minute, ""},
		{"ended, a grace after the touch", time.Hour, time.Hour + time.Minute, time.Hour + 6*time.Minute, "cancelled run seen"},
		{"ended long ago", time.Hour, 0, 50 * time.Hour, all},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := New(config())
			event := HashOf("shop", "1")
			must(s.PutRun("f", Run{Step: "ship", Hash: event, Status: Did}, start))
			must(s.PutCancelled("f", Cancelled{Step: "ship"}, start))
			must(s.PutSeen("f", event, 1, start))
			must(s.PutState("f", "order", nil, event, start))  // 48 h
			must(s.PutState("f", "basket", nil, event, start)) // as Retain, 24 h
			if c.ended > 0 {
				s.Ended("f", start.Add(c.ended))
			}
			if c.touched > 0 {
				must(s.PutSeen("f", event, 2, start.Add(c.touched)))
			}
			now := start.Add(c.now)
			due := s.Expirable(now, 100)
			if (len(due) == 1) != (c.want != "") {
				t.Errorf("expirable are %q", due)
			}
			if got := keys(t, s.Drop("f", now)); got != c.want {
				t.Errorf("dropped %q, want %q", got, c.want)
			}
			if s.Known("f") == (c.want == all) {
				t.Errorf("known: %t", s.Known("f"))
			}
			if again := s.Drop("f", now); again != nil || len(s.Expirable(now, 100)) != 0 {
				t.Errorf("dropped twice: %q", keys(t, again))
			}
		})
	}
}

func TestAFlowTouchedSinceItWasFoundStays(t *testing.T) {
	s := New(config())
	must(s.PutSeen("f", Hash{1}, 1, start))
	now := start.Add(DefaultRetain)
	if due := s.Expirable(now, 100); !slices.Equal(due, []string{"f"}) {
		t.Fatalf("expirable are %q", due)
	}
	must(s.PutSeen("f", Hash{2}, 1, now))
	if gone := s.Drop("f", now); gone != nil {
		t.Errorf("dropped %q", keys(t, gone))
	}
	if s.Drop("nobody", now) != nil {
		t.Error("dropped a flow that never was")
	}
	s.Ended("nobody", now)
	if s.Known("nobody") {
		t.Error("an outcome made a flow")
	}
}

// The walk looks at a bounded number of slots at a time, meets every flow in one round,
// and goes on while flows come and go.
func TestWalkIsBoundedAndMeetsEveryFlow(t *testing.T) {
	s := New(config())
	const flows = 1000
	for n := range flows {
		must(s.PutSeen(fmt.Sprint(n), Hash{1}, 1, start))
		must(s.PutCancelled(fmt.Sprint(n), Cancelled{Step: "ship"}, start))
	}
	now := start.Add(DefaultRetain)
	met := make(map[string]bool)
	for range flows / 50 {
		due := s.Expirable(now, 100)
		if len(due) != 50 {
			t.Fatalf("%d flows in a walk over 100 slots of 2 a flow", len(due))
		}
		for _, flow := range due {
			met[flow] = true
		}
	}
	if len(met) != flows {
		t.Errorf("one round met %d flows of %d", len(met), flows)
	}
	if due := s.Expirable(now, 1_000_000); len(due) != flows {
		t.Errorf("one call met %d flows of %d", len(due), flows)
	}
	for calls := 0; s.Flows() > 0; calls++ {
		if calls > 10*flows {
			t.Fatalf("%d flows are never met", s.Flows())
		}
		for _, flow := range s.Expirable(now, 20) {
			s.Drop(flow, now)
		}
		if calls < 100 {
			must(s.PutSeen(fmt.Sprint("late", calls), Hash{1}, 1, start))
		}
	}
	if s.Slots() != 0 || s.Bytes() != 0 || s.Expirable(now, 10) != nil {
		t.Errorf("after all went: %d slots, %d bytes", s.Slots(), s.Bytes())
	}
}
