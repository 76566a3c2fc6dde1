package choreo

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/internal/journal"
)

// In the life of a process the wall clock is set by an hour: what the process
// would take it to be, is off by as much the other way.
func jumped(o *owned, jump time.Duration) { o.clock.shown = o.clock.shown.Add(-jump) }

// A wall clock that is set ahead makes nothing be forgotten early that was
// remembered before; one that is set back, nothing that is remembered since.
func TestNothingIsForgottenEarlyHoweverTheWallClockJumps(t *testing.T) {
	for name, c := range map[string]struct {
		jump time.Duration // of the wall clock, before the bubble's time
		at   time.Duration // when it was remembered, by the wall clock then
		kept bool
	}{
		"no jump, young":                {0, -23 * time.Hour, true},
		"no jump, old":                  {0, -24 * time.Hour, false},
		"set ahead, noted before":       {time.Hour, -24 * time.Hour, true},
		"set ahead, noted before, old":  {time.Hour, -25 * time.Hour, false},
		"set ahead, noted since":        {time.Hour, -24 * time.Hour, true},
		"set back, noted before":        {-time.Hour, -23 * time.Hour, true},
		"set back, noted since, young":  {-time.Hour, -23 * time.Hour, true},
		"set back, noted since, as old": {-time.Hour, -24 * time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, in := bareEngine(t)
				o := in.owned
				now := time.Now()
				if _, err := o.store.PutSeen("f", journal.Hash{1}, 0, now.Add(c.at)); err != nil {
					t.Fatal(err)
				}
				jumped(o, c.jump)
				e.expire(o, 100)
				synctest.Wait()
				if kept := o.store.Known("f"); kept != c.kept {
					t.Errorf("it is kept: %t", kept)
				}
			})
		})
	}
}

// A compensation is not taken for one of a flow that never ran, because the wall
// clock says that the flow is younger than it is.
func TestWhatIsForgottenIsKnownToBeHoweverTheWallClockJumps(t *testing.T) {
	for _, c := range []struct {
		jump, age time.Duration
		want      bool
	}{
		{0, 23 * time.Hour, false}, {0, 25 * time.Hour, true}, {-2 * time.Hour, 23 * time.Hour, true}, {-2 * time.Hour, 21 * time.Hour, false}, {2 * time.Hour, 25 * time.Hour, true},
	} {
		_, in := bareEngine(t)
		jumped(in.owned, c.jump)
		r := &run{e: &engine{plan: samplePlan(t)}, in: in, event: cloudevent.Event{Started: time.Now().Add(-c.age)}}
		if got := r.forgotten(); got != c.want {
			t.Errorf("after a jump of %v a flow of %v is forgotten: %t", c.jump, c.age, got)
		}
	}
}

// What the wall clock shows is between what it is at least and at most.
func TestBoundsOfTheTime(t *testing.T) {
	for _, jump := range []time.Duration{0, time.Hour, -time.Hour} {
		t.Run(strconv.Itoa(int(jump.Hours())), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, in := bareEngine(t)
				o := in.owned
				jumped(o, jump)
				time.Sleep(time.Minute)
				now := time.Now()
				low, high := o.clock.atLeast(), o.clock.atMost()
				if want := min(0, -jump); low.Sub(now) != want {
					t.Errorf("at least it is %v later, want %v", low.Sub(now), want)
				}
				if want := max(0, -jump); high.Sub(now) != want {
					t.Errorf("at most it is %v later, want %v", high.Sub(now), want)
				}
			})
		})
	}
}
