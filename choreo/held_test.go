package choreo

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/choreography-go/choreography/choreo/internal/sched"
	"github.com/choreography-go/choreography/choreo/operator"
	"pgregory.net/rapid"
)

// haltingMall has a step that fails for ever on what begins with "bad", and whose
// undo of what begins with "sticky" does, until the shop is mended. Reactions note
// what is heard, but for what begins with "stuck"; and a deadline is met by regret.
type haltingMall struct {
	*mall
	shop    *shop
	seen    map[string][]string // by flow
	arrived map[string][]string // the same, as it was heard
	told    []func()            // that hear again what is not finished
	audits  int
	lost    bool // it is not to be found out what came of an attempt
}

func openHaltingMall(t *testing.T, perFlow, perTask int) *haltingMall {
	t.Helper()
	h := &haltingMall{shop: &shop{shut: true}, seen: map[string][]string{}, arrived: map[string][]string{}}
	fails := func(prefix, what string) error {
		h.shop.mu.Lock()
		defer h.shop.mu.Unlock()
		if h.shop.shut && strings.HasPrefix(what, prefix) {
			return errShut
		}
		return nil
	}
	step := h.shop.step()
	step.Do = func(_ context.Context, what string) (string, error) { return what, fails("bad", what) }
	step.Compensate = Undo(func(_ context.Context, what, _ string) (string, error) { return what, fails("sticky", what) }, returned, regret).
		Unknown(func(context.Context, string) error {
			h.shop.mu.Lock()
			defer h.shop.mu.Unlock()
			if h.lost {
				return errShut
			}
			return nil
		})
	step.Retry = Retry{Attempts: 1_000_000, InPlace: 1, First: 30 * time.Second, Max: 30 * time.Second, Over: 99 * time.Hour}
	see := func(name string, on Event[string]) Declaration {
		return Reaction[string]{Name: name, On: on, Retry: step.Retry, Do: func(ctx context.Context, what string) (Emissions, error) {
			if err := fails("stuck", what); err != nil {
				return nil, err
			}
			h.shop.set(func() { h.seen[Meta(ctx).Flow] = append(h.seen[Meta(ctx).Flow], what) })
			return nil, nil
		}}
	}
	h.mall = openMall(t, func(c *Config) { c.MaxParkedPerFlow, c.MaxParkedPerTask = perFlow, perTask }, step, see("see", wanted), see("see-regret", regret), Retention{Flow: 240 * time.Hour},
		Deadline[string, string]{Name: "patience", After: wanted, Within: Fixed[string](5 * time.Minute), Unless: Events{regret}, Emit: looked,
			Do: func(_ context.Context, what string) (string, error) { return what, nil }})
	return h
}

// tell lets an event arrive, and remembers it.
func (h *haltingMall) tell(flow string, em Emission) {
	h.arrived[flow] = append(h.arrived[flow], em.Data.(string))
	h.hear(flow, em)
	at := h.seq
	h.told = append(h.told, func() {
		h.till.mu.Lock()
		finished := slices.Contains(h.offsets, int64(at))
		h.till.mu.Unlock()
		if !finished {
			h.hearAt(at, flow, em)
		}
	})
}

// settle lets an event arrive, and awaits what comes of it.
func (h *haltingMall) settle(flow string, em Emission) {
	h.tell(flow, em)
	synctest.Wait()
}

// skip gives up what fails in a flow, if anything does.
func (h *haltingMall) skip(flow string) {
	p, tried, ok := h.o.store.Head(flow)
	if !ok || tried.Attempts == 0 {
		return
	}
	kind := operator.Step
	if tried.Undo {
		kind = operator.Undo
	}
	h.audits++
	if !h.room.Try(0) {
		panic("no room")
	}
	h.sched.Submit(sched.Key{Name: flow}, &directive{e: h.engine, in: h.in, offset: -1, Command: operator.Command{
		Do: operator.Skip, ID: fmt.Sprint(h.audits), By: "tester", Why: "test", Target: operator.Target{Kind: kind, Key: flow, Name: p.At, Seq: p.Seq, Began: tried.Began},
	}})
}

func (h *haltingMall) audited() (n int) {
	for _, a := range h.answers() {
		if strings.HasPrefix(a, "dead "+operator.AuditType) {
			n++
		}
	}
	return n
}

// lose ends the ownership, and the same process takes it up again.
func (h *haltingMall) lose(t *testing.T) {
	t.Helper()
	h.o.inc.Close(nil)
	synctest.Wait()
	if n := h.o.held.Load(); n != 0 {
		t.Errorf("%d events of a task that is gone are held", n)
	}
	if n, _ := h.room.Used(); n != 0 {
		t.Errorf("%d events of a task that is gone have room", n)
	}
	h.restart(t, h.records())
	for _, again := range h.told {
		again()
	}
}

// said is how often an event was said in a flow.
func (h *haltingMall) said(flow string, e AnyEvent) (n int) {
	for _, a := range h.answers() {
		if strings.HasPrefix(a, strings.TrimPrefix(e.decl().Type, "test.")+" of "+flow+":") {
			n++
		}
	}
	return n
}

// While something fails for ever, at whatever bounds, compensations overtake,
// commands are obeyed and deadlines fire; and every event is handled once, in the
// order of its flow, also after the ownership was lost.
func TestTheOrderIsKeptAtTheBoundsWhileOthersPass(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		perFlow := rapid.IntRange(1, 3).Draw(rt, "per flow")
		perTask := rapid.SampledFrom([]int{3, 4, 1000}).Draw(rt, "per task")
		events := rapid.SliceOfN(rapid.IntRange(0, 11), 1, 50).Draw(rt, "events")
		pauses := rapid.SliceOfN(rapid.IntRange(0, 5), len(events), len(events)).Draw(rt, "pauses")
		flows := rapid.IntRange(1, 3).Draw(rt, "flows")
		synctest.Test(t, func(t *testing.T) {
			h := openHaltingMall(t, perFlow, perTask)
			free := perTask == 1000 // else attempts at the bound of a task go on in place
			for i, x := range events {
				f := fmt.Sprint("f", (i*7+x)%flows)
				switch x {
				case 0:
					h.lose(t)
				case 1, 2:
					h.tell(f, regret.New(fmt.Sprint("regret ", i)))
				case 3:
					h.skip(f)
				case 4, 5:
					h.tell(f, wanted.New(fmt.Sprint("bad ", i)))
				case 6, 7:
					h.tell(f, wanted.New(fmt.Sprint("sticky ", i)))
				default:
					h.tell(f, wanted.New(fmt.Sprint("good ", i)))
				}
				if pauses[i] > 0 {
					synctest.Wait()
					if n := h.audited(); free && n != h.audits {
						rt.Errorf("%d commands are answered, of %d", n, h.audits)
					}
					time.Sleep(time.Duration(pauses[i]-1) * time.Second)
				} else {
					synctest.Wait()
				}
			}
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			for f, all := range h.arrived {
				due := 1
				for _, what := range all {
					if strings.HasPrefix(what, "regret") {
						due = 0
					}
				}
				if n := h.said(f, looked); free && n != due {
					rt.Errorf("the deadline of %s has fired %d times, want %d, on %q", f, n, due, all)
				}
				failing, tried, _ := h.o.store.Head(f)
				if free && due == 0 && tried.Attempts > 0 && !tried.Undo && h.said(f, returned)+h.said(f, dropped1) == 0 {
					rt.Errorf("%s was regretted, and still %q fails: %q", f, failing.Record.Value, all)
				}
			}
			h.shop.set(func() { h.shop.shut = false })
			time.Sleep(time.Hour)
			synctest.Wait()
			for f, all := range h.arrived {
				if !slices.Equal(h.seen[f], all) {
					rt.Errorf("of %s was seen %q, want %q", f, h.seen[f], all)
				}
			}
			if n, parked := h.o.held.Load(), h.o.store.Parked(); n != 0 || parked != 0 {
				rt.Errorf("in the end %d events are held, %d parked", n, parked)
			}
			if n, _ := h.room.Used(); n != 0 {
				rt.Errorf("in the end %d events have room", n)
			}
			if t.Failed() {
				rt.Errorf("what is held must end with the ownership")
			}
		})
	})
}

// However long an event fails, nothing piles up in the scheduler behind its key.
func TestWakeUpsDoNotPileUpAtTheBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := openHaltingMall(t, 1, 1000)
		h.tell("f", wanted.New("bad a"))
		time.Sleep(time.Second)
		h.tell("f", wanted.New("b"))
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if s := h.sched.Stats(); s.QueuedItems+s.Waiting+s.QueuedKeys > 0 {
			t.Errorf("the scheduler has %+v", s)
		}
		if n := h.o.agenda.Len(); n > 2 {
			t.Errorf("the agenda has %d entries of one flow", n)
		}
	})
}

// What is too large for the journal is held though there is room, and others behind
// it.
func TestWhatIsHeldKeepsItsOrderIfItIsTooLargeToBeQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := openHaltingMall(t, 10, 1000)
		h.settle("f", wanted.New("bad a"))
		h.settle("f", wanted.New(strings.Repeat("b", 4<<20)))
		h.settle("f", wanted.New("c"))
		if n := h.o.held.Load(); n != 2 {
			t.Errorf("%d events are held", n)
		}
		h.skip("f")
		synctest.Wait()
		if !slices.Equal(h.seen["f"], h.arrived["f"]) {
			t.Errorf("%d events were seen, of %d, in another order", len(h.seen["f"]), len(h.arrived["f"]))
		}
	})
}

// Room that another key has made in the task is used, though nothing happens to
// the queue of this one.
func TestWhatIsHeldIsQueuedWhenOthersMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := openHaltingMall(t, 2, 2)
		h.tell("f", wanted.New("bad a"))
		h.settle("g", wanted.New("bad b"))
		h.settle("f", wanted.New("c"))
		if n := h.o.held.Load(); n != 1 {
			t.Fatalf("%d events are held", n)
		}
		h.skip("g")
		time.Sleep(lookInterval)
		synctest.Wait()
		if n, waiting := h.o.held.Load(), h.o.store.Waiting("f"); n != 0 || waiting != 2 {
			t.Errorf("%d events are held, %d queued", n, waiting)
		}
	})
}

// A compensation that was held before its step began to fail goes before the attempts
// as well.
func TestACompensationThatIsHeldGoesBeforeTheAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := openHaltingMall(t, 1, 1000)
		for _, em := range []Emission{wanted.New("stuck"), wanted.New("bad a"), wanted.New("b"), regret.New("r")} {
			h.settle("f", em)
		}
		if n := h.o.held.Load(); n != 3 {
			t.Fatalf("%d events are held", n)
		}
		h.skip("f") // a reaction's dead letter
		synctest.Wait()
		if n := h.said("f", returned); n != 1 {
			t.Errorf("it was answered %d times", n)
		}
		if got := h.seen["f"]; !slices.Equal(got, []string{"bad a", "b", "r"}) {
			t.Errorf("was seen %q", got)
		}
	})
}

// A deadline does not fire if what meets it was heard before, and is held.
func TestADeadlineIsMetByWhatIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := openHaltingMall(t, 1, 1000)
		h.settle("f", wanted.New("stuck"))
		h.settle("f", regret.New("regret"))
		if n := h.o.held.Load(); n != 1 {
			t.Fatalf("%d events are held", n)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := h.said("f", looked); n != 0 {
			t.Errorf("the deadline has fired %d times", n)
		}
	})
}

// While the service stops a queue may be left empty with events held behind it: what
// comes then must not pass them.
func TestNothingPassesWhatIsHeldWhileTheServiceStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := openHaltingMall(t, 1, 1000)
		h.settle("f", wanted.New("bad a"))
		h.settle("f", wanted.New("b"))
		h.shop.set(func() { h.shop.shut = false })
		h.stopping.Store(true)
		p, tried, _ := h.o.store.Head("f")
		h.resumed(h.o, "f", p, tried).Run()
		h.settle("f", wanted.New("c"))
		if got := h.seen["f"]; !slices.Equal(got, []string{"bad a"}) {
			t.Errorf("was seen %q", got)
		}
		h.stopping.Store(false)
		h.lose(t)
		synctest.Wait()
		if got := h.seen["f"]; !slices.Equal(got, h.arrived["f"]) {
			t.Errorf("in the end was seen %q", got)
		}
	})
}

// What is held when the ownership has ended already, is not.
func TestNothingIsHeldOfATaskThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := openHaltingMall(t, 1, 1000)
		h.settle("f", wanted.New("bad a"))
		h.o.inc.Close(nil)
		synctest.Wait()
		h.settle("f", wanted.New("b"))
		if n, _ := h.room.Used(); n != 0 || h.o.held.Load() != 0 {
			t.Errorf("%d events have room, %d are held", n, h.o.held.Load())
		}
	})
}

// A compensation that overtakes does so for its step alone: its other handlers hear
// it behind what is held.
func TestACompensationOvertakesWhatIsHeldForItsStepAlone(t *testing.T) {
	for name, fails := range map[string]bool{"at once": false, "after attempts": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := openHaltingMall(t, 1, 1000)
				h.settle("f", wanted.New("bad a"))
				h.settle("f", wanted.New("b"))
				h.shop.set(func() { h.lost = fails })
				h.settle("f", regret.New("r"))
				if fails {
					if _, tried, _ := h.o.store.Head("f"); !tried.Undo || len(h.seen["f"]) > 0 {
						t.Fatalf("the compensation has not failed: %+v, was seen %q", tried, h.seen["f"])
					}
					h.lose(t)
					h.shop.set(func() { h.lost = false })
					time.Sleep(time.Minute)
					synctest.Wait()
				}
				if n := h.said("f", dropped1); n != 1 {
					t.Errorf("it was answered %d times", n)
				}
				if got := h.seen["f"]; !slices.Equal(got, []string{"bad a", "b", "r"}) {
					t.Errorf("was seen %q", got)
				}
			})
		})
	}
}
