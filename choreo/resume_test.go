package choreo

import (
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo/internal/journal"
	"github.com/choreography-go/choreography/choreo/internal/sched"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The wall clock is read once in the life of a task here. Another process may
// have seen another time: then a retry comes at once or after its longest wait,
// and none before the last one's wait is over in this process.
func TestNextAttemptsHoweverTheWallClockJumps(t *testing.T) {
	e, in := bareEngine(t)
	o := in.owned
	const longest = defaultMax
	for name, c := range map[string]struct {
		next      time.Duration // from now, by the clock of who wrote it
		jump      time.Duration // what the wall clock has gained until it was read here
		low, high time.Duration
	}{
		"no jump":                     {10 * time.Second, 0, 9 * time.Second, 10 * time.Second},
		"an hour ahead":               {10 * time.Second, time.Hour, -2 * time.Hour, 0},
		"an hour back":                {10 * time.Second, -time.Hour, longest, longest},
		"overdue":                     {-time.Minute, 0, -2 * time.Minute, 0},
		"never tried":                 {},
		"written by a damaged clock":  {1 << 62, 0, longest, longest},
		"written before time's start": {-1 << 62, 0, -1 << 63, 0},
	} {
		o.clock = newClock()
		var next time.Time
		if c.high != 0 || c.next != 0 {
			next = o.clock.wall(time.Now().Add(c.next))
		}
		o.clock.shown = o.clock.shown.Add(c.jump)
		if wait := e.until(o, "", next); wait < c.low || wait > c.high {
			t.Errorf("%s: the next attempt is due in %v, want %v to %v", name, wait, c.low, c.high)
		}
	}
	// In the process that wrote it, a jump is not seen: both ways lead back.
	o.clock = newClock()
	for _, jump := range []time.Duration{0, time.Hour, -time.Hour} {
		o.clock.shown = o.clock.shown.Add(jump)
		at := time.Now().Add(time.Minute)
		if back := o.clock.local(o.clock.wall(at)); !back.Equal(at) {
			t.Errorf("%v became %v", at, back)
		}
	}
}

// The budget of time counts from the first attempt, also of another process.
func TestTheBudgetOfTimeIsCountedOnAfterARestart(t *testing.T) {
	e, in := bareEngine(t)
	o := in.owned
	rec := costRecord(t, "step", 0)
	for _, c := range []struct {
		began time.Duration
		again bool
	}{{time.Minute, true}, {2 * time.Hour, false}} {
		r := e.resumed(o, "f", journal.Parked{Seq: 1, Record: rec}, journal.Retry{Seq: 1, Attempts: 2, Began: time.Now().Add(-c.began).Round(0)})
		if _, again := r.again(Retry{Attempts: 1000, Over: time.Hour}, errNotAllowed, false); again != c.again {
			t.Errorf("%v after the first attempt there is another one: %t", c.began, again)
		}
		if r.attempt != 2 {
			t.Errorf("%d attempts", r.attempt)
		}
	}
}

// noted is a handler that notes its name.
type noted struct {
	handler
	as string
}

func (n noted) name() string { return n.as }

// A later version may have ordered its handlers anew, and have more of them.
func TestWhatIsLeftToDoOnAParkedEvent(t *testing.T) {
	h := &hearing{handlers: []handler{noted{as: "a"}, noted{as: "b"}, noted{as: "c"}, noted{as: "d"}}}
	for _, c := range []struct {
		p      journal.Parked
		want   string
		stands bool
	}{
		{journal.Parked{}, "abcd", true},
		{journal.Parked{At: "b", Done: []string{"a"}}, "bcd", true},
		{journal.Parked{At: "c", Done: []string{"d"}}, "cab", true},
		{journal.Parked{Done: []string{"b"}}, "acd", true},
		{journal.Parked{At: "c", Alone: true}, "c", true},
		{journal.Parked{At: "gone", Done: []string{"a"}}, "bcd", false},
		{journal.Parked{At: "gone", Alone: true}, "", false},
	} {
		left, stands := h.from(c.p)
		got := ""
		for _, x := range left.handlers {
			got += x.name()
		}
		if got != c.want || stands != c.stands {
			t.Errorf("of %+v there is left %q, %t; want %q, %t", c.p, got, stands, c.want, c.stands)
		}
	}
}

func TestAQueueIsLeftAloneWhenItsTaskIsGoneOrTheServiceStops(t *testing.T) {
	e, in := bareEngine(t)
	o := in.owned
	if _, err := o.store.Park("f", journal.Parked{Record: &kgo.Record{Timestamp: time.Now()}}, time.Now()); err != nil {
		t.Fatal(err)
	}
	e.stopping.Store(true)
	x := &resumption{e, o, "f"}
	if again := x.Run(); again != sched.Done || o.store.Parked() != 1 {
		t.Errorf("while the service stops it asks to run again after %v, %d are parked", again, o.store.Parked())
	}
	e.stopping.Store(false)
	if again := x.Run(); again != 0 || o.store.Parked() != 0 {
		t.Errorf("an event that nobody hears is parked still; run again after %v", again)
	}
	if again := x.Run(); again != sched.Done {
		t.Errorf("without a queue it asks to run again after %v", again)
	}
	if _, err := o.store.Park("f", journal.Parked{Record: &kgo.Record{Timestamp: time.Now()}}, time.Now()); err != nil {
		t.Fatal(err)
	}
	o.inc.Close(nil)
	if again := x.Run(); again != sched.Done || o.store.Parked() != 1 {
		t.Errorf("for a task that is gone it asks to run again after %v, %d are parked", again, o.store.Parked())
	}
}
