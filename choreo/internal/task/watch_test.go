package task

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// A topic that changes while the service runs stops every task, with an error
// that says what was, what is, and what to do.
func TestChangedTopicStopsTasks(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(r *rig)
		says   []string
	}{
		{"partitions added to an input", func(r *rig) { r.grow("orders", 3) }, []string{`orders" had 2 partitions and now has 3`, "restart every instance"}},
		{"partitions added to the journal", func(r *rig) { r.grow("journal", 3) }, []string{`journal" had 2 partitions and now has 3`}},
		{"partitions added to the inbox", func(r *rig) { r.grow("inbox", 4) }, []string{`inbox" had 2 partitions and now has 4`}},
		{"input deleted", func(r *rig) { r.remove("orders") }, []string{`orders" was deleted while the service ran`, "pay topics --apply", "pay topics --reset"}},
		{"input recreated", func(r *rig) { r.remove("orders"); r.create("orders", 2) }, []string{`orders" was deleted`, "pay topics --reset"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, map[string]int32{"inbox": 2, "journal": 2, "orders": 2})
			a := r.instance("a").start(inputs(r, "orders"), func(cfg *Config) { cfg.WatchInterval = 20 * time.Millisecond })
			a.waitOpen(2)
			c.change(r)
			for p := range int32(2) {
				err := a.waitStopped(p)
				var te *TopicError
				if !errors.As(err, &te) {
					t.Fatalf("task %d stopped with %v", p, err)
				}
				for _, want := range c.says {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("the error does not say %q: %v", want, err)
					}
				}
			}
			eventually(t, "the engine has dropped the tasks", func() bool { return a.task(0) == nil && a.task(1) == nil })
			if a.owner.Status().Ready() == nil {
				t.Error("ready with stopped tasks")
			}
		})
	}
}

func (r *rig) grow(name string, n int) {
	r.t.Helper()
	resps, err := r.adm.UpdatePartitions(r.t.Context(), n, r.topic(name))
	if err == nil {
		err = resps.Error()
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// An error that hints at a changed topic makes the watch look at once.
func TestUnknownTopicMakesTheWatchLook(t *testing.T) {
	r := newRig(t, map[string]int32{"inbox": 1, "journal": 1, "orders": 1})
	a := r.instance("a").start(inputs(r, "orders"), func(cfg *Config) { cfg.WatchInterval = time.Hour })
	a.waitOpen(1)
	r.remove("orders")
	var te *TopicError
	if err := a.waitStopped(0); !errors.As(err, &te) {
		t.Errorf("stopped with %v", err)
	}
}

// A source of which nothing was delivered for RecommitAfter is committed again,
// once per that time; one that was read lately is not.
func TestIdleSourcesAreRecommitted(t *testing.T) {
	r := newRig(t, map[string]int32{"inbox": 2, "journal": 2, "orders": 2})
	a := r.instance("a").start(inputs(r, "orders"))
	a.waitOpen(2)
	now := time.Now()
	a.owner.recommitIdle(now.Add(time.Hour))
	if len(a.recommits) != 0 {
		t.Errorf("recommitted after an hour: %d", len(a.recommits))
	}
	a.task(1).Home().last.Store(now.Add(20 * time.Hour).UnixNano())
	a.owner.recommitIdle(now.Add(25 * time.Hour))
	if len(a.recommits) != 3 {
		t.Errorf("recommitted after 25 hours: %d sources, want 3", len(a.recommits))
	}
	a.owner.recommitIdle(now.Add(26 * time.Hour))
	if len(a.recommits) != 3 {
		t.Error("recommitted again within the hour")
	}
	a.task(1).Home().last.Store(now.Add(27 * time.Hour).UnixNano())
	a.owner.recommitIdle(now.Add(49*time.Hour - 1))
	if len(a.recommits) != 3 {
		t.Error("recommitted again within the day")
	}
	a.owner.recommitIdle(now.Add(49 * time.Hour))
	if len(a.recommits) != 6 {
		t.Errorf("recommitted after a day: %d sources, want 3 more", len(a.recommits)-3)
	}
}

// Retention that removes what is being read stops the task: it is said, and
// not skipped.
func TestRetentionUnderAReaderStopsTheTask(t *testing.T) {
	r := newRig(t, map[string]int32{"inbox": 1, "journal": 1})
	r.produce("inbox", 0, seq("v", 10)...)
	a := r.instance("a").start()
	a.waitOpen(1)
	eventually(t, "all delivered", func() bool { return len(a.values("inbox", 0)) == 10 })
	os := make(kadm.Offsets)
	os.AddOffset(r.topic("inbox"), 0, 10, -1)
	if _, err := r.adm.DeleteRecords(t.Context(), os); err != nil {
		t.Fatal(err)
	}
	a.owner.reopen(a.task(0), kerr.OffsetOutOfRange) // as the reader says it
	err := a.waitStopped(0)
	var oe *OffsetsError
	if !errors.As(err, &oe) || !strings.Contains(err.Error(), "10 offsets were removed before they were read") {
		t.Errorf("stopped with %v", err)
	}
}

// Nobody is warned of what a stop cuts off.
func TestTheWatchWarnsOfWhatItCannotSee(t *testing.T) {
	x := newBare(t)
	x.unreachable(t)
	x.compareTopics()
	if n := x.logged.times("as they were failed"); n != 1 {
		t.Errorf("%d warnings, want 1", n)
	}
	x.cancel(errClosed)
	x.compareTopics()
	if n := x.logged.times("as they were failed"); n != 0 {
		t.Errorf("%d warnings after the stop", n)
	}
}

// Topics that are as they were stop nothing, and a service that stops needs no
// telling that they are not.
func TestTheWatchStopsTasksForAChangeOnly(t *testing.T) {
	r := newRig(t, map[string]int32{"inbox": 1, "journal": 1})
	a := r.instance("a").start(func(cfg *Config) { cfg.WatchInterval = time.Hour })
	a.waitOpen(1)
	a.owner.compareTopics()
	if s := a.owner.Status().Tasks; len(s) != 1 || s[0].Phase != Open {
		t.Errorf("%+v", s)
	}
	closing := func(is bool) {
		a.owner.mu.Lock()
		defer a.owner.mu.Unlock()
		a.owner.closing = is
	}
	closing(true)
	r.remove("inbox")
	a.owner.compareTopics()
	if s := a.owner.Status().Tasks; len(s) != 1 || s[0].Phase == Stopped {
		t.Errorf("%+v, while the service stops", s)
	}
	closing(false)
	eventually(t, "the change is seen", func() bool {
		a.owner.compareTopics()
		s := a.owner.Status().Tasks
		return len(s) == 1 && s[0].Phase == Stopped
	})
}

// Tried again is what is stopped and still ours.
func TestStoppedTasksAreTriedAgain(t *testing.T) {
	oops := errors.New("oops")
	for name, c := range map[string]struct {
		set   func(*bare, *tenure)
		again bool
	}{
		"stopped":                 {func(*bare, *tenure) {}, true},
		"the pipeline is down":    {func(x *bare, _ *tenure) { x.down = true }, false},
		"the service stops":       {func(x *bare, _ *tenure) { x.closing = true }, false},
		"not ours any more":       {func(x *bare, _ *tenure) { delete(x.assigned, 0) }, false},
		"open, and just revoked":  {func(_ *bare, y *tenure) { y.phase = Open }, false},
		"stopped by this instant": {func(x *bare, y *tenure) { y.ctx, y.cancel = context.WithCancel(x.ctx) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			x := newBare(t)
			y := x.tenure(0)
			y.phase, y.err = Stopped, oops
			y.cancel()
			x.assigned[0] = true
			c.set(x, y)
			x.retryStopped()
			x.mu.Lock()
			again := x.tenures[0] != y
			x.mu.Unlock()
			if again != c.again {
				t.Errorf("tried again: %v", again)
			}
			x.background.Wait()
			y.cancel()
		})
	}
}

// An attempt that fails for a reason that may pass is made again, less and less
// often.
func TestOpeningIsTriedAgainLessAndLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBare(t)
		x.cfg.Engine.(*claiming).claim = func() {}
		x.unreachable(t)
		y := x.tenure(0)
		go func() {
			time.Sleep(20 * time.Second)
			y.cancel()
		}()
		began := time.Now()
		x.open(y)
		if took := time.Since(began); took != 20*time.Second {
			t.Errorf("it gave up after %v", took)
		}
		x.backedOff(t)
	})
}
