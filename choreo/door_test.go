package choreo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/internal/journal"
	"github.com/choreography-go/choreography/choreo/internal/sched"
)

// The life of a breaker: it opens, lets one probe at a time find out, and closes.
// What is turned away meanwhile waits in its order, and none of it is given up.
func TestABreakerOpensProbesAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shop{shut: true, took: 100 * time.Millisecond}
		step := s.step()
		step.Breaker = Breaker{Failures: 5, Open: 10 * time.Second}
		m := openMall(t, nil, step)
		began := time.Now()
		for f := range 20 {
			m.hear(fmt.Sprint("f", f), wanted.New("a"))
			m.hear(fmt.Sprint("f", f), wanted.New("b"))
		}
		time.Sleep(time.Second)
		if got := m.state("buy"); got != (doorStatus{"buy", "open", 0, 20}) {
			t.Errorf("after a second: %+v", got)
		}
		if n := len(s.visits("")); n != 20 { // those that were under way when it opened
			t.Errorf("%d calls were made", n)
		}
		if n := m.o.store.Parked(); n != 40 {
			t.Errorf("%d events are parked", n)
		}
		time.Sleep(34 * time.Second)
		if got := seconds(s.visits("")[20:], began); !slices.Equal(got, []int{10, 20, 30}) {
			t.Errorf("probes were made after %v seconds", got)
		}
		s.set(func() { s.shut = false })
		time.Sleep(time.Until(began.Add(40*time.Second + 450*time.Millisecond)))
		if got := m.state("buy"); got != (doorStatus{"buy", "half-open", 1, 19}) {
			t.Errorf("with the fourth probe under way: %+v", got)
		}
		time.Sleep(3 * time.Second)
		if got := m.state("buy"); got != (doorStatus{"buy", "closed", 0, 0}) {
			t.Errorf("after all: %+v", got)
		}
		m.settled(t)
		said := m.answers()
		if len(said) != 40 || m.count(bought) != 40 {
			t.Errorf("said was %v", said)
		}
		for f := range 20 {
			a, b := slices.Index(said, fmt.Sprintf(`bought of f%d: "a"`, f)), slices.Index(said, fmt.Sprintf(`bought of f%d: "b"`, f))
			if a < 0 || b < a {
				t.Errorf("of f%d a is at %d and b at %d", f, a, b)
			}
		}
		for _, v := range s.visits("") { // those that began in time were counted, the fifth failure was not
			if v.try > 2 {
				t.Errorf("%s was attempt %d", v.what, v.try)
			}
		}
	})
}

// A provider is away for ten minutes, for customers who come all the while, under
// every kind of breaker: nobody is declined, no attempt but those before it has
// opened is counted, and each gets what it wanted, in its order.
func TestNobodyIsDeclinedWhileTheProviderIsAway(t *testing.T) {
	for name, b := range map[string]Breaker{
		"in a row":       {Failures: 5},
		"two of four":    {Failures: 2, Of: 4, Open: 5 * time.Second},
		"many probes":    {Failures: 10, Of: 20, Open: 2 * time.Second, Probes: 3},
		"the first time": {Failures: 1, Open: time.Minute},
	} {
		for _, customers := range []int{1, 300} {
			t.Run(fmt.Sprintf("%s, %d customers", name, customers), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := &shop{took: 20 * time.Millisecond}
					step := s.step()
					step.Breaker = b
					step.Retry = Retry{Attempts: max(2, b.Failures), First: 10 * time.Millisecond, Over: time.Minute}
					m := openMall(t, nil, step)
					want := map[string][]string{}
					come := func(customer, wish int) {
						f, what := fmt.Sprint("c", customer), fmt.Sprint("w", wish)
						m.hear(f, wanted.New(what))
						want[f] = append(want[f], what)
					}
					for c := range customers {
						come(c, 0)
					}
					time.Sleep(5 * time.Second)
					s.set(func() { s.shut = true })
					for wish := range 10 {
						for c := range customers {
							come(c, wish+1)
						}
						time.Sleep(time.Minute)
					}
					calls := len(s.visits(""))
					s.set(func() { s.shut = false })
					time.Sleep(5 * time.Minute)
					if m.count(forsaken) > 0 || m.count(bought) != 11*customers {
						t.Errorf("%d are given up and %d done of %d", m.count(forsaken), m.count(bought), 11*customers)
					}
					got := map[string][]string{}
					for _, a := range m.answers() {
						var f, what string
						if _, err := fmt.Sscanf(a, "bought of %s %q", &f, &what); err != nil {
							t.Fatal(a)
						}
						f = strings.TrimSuffix(f, ":")
						got[f] = append(got[f], what)
					}
					for f := range want {
						if !slices.Equal(got[f], want[f]) {
							t.Errorf("%s wanted %v and got %v", f, want[f], got[f])
						}
					}
					m.settled(t)
					for _, v := range s.visits("") {
						if v.try > step.Retry.Attempts {
							t.Errorf("%+v", v)
						}
					}
					if probes := 10 * time.Minute / b.withDefaults().Open; calls > customers+64+b.Failures+int(probes+1)*b.withDefaults().Probes {
						t.Errorf("%d calls were made until the provider was back", calls)
					}
				})
			})
		}
	}
}

// What fails by itself does not open the breaker for long, nor does it keep it
// open: waiters are probes in turn.
func TestOneThatFailsForEverKeepsNobodyWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shop{shut: true, breaks: map[string]int{"poison": 1 << 30}}
		step := s.step()
		step.Breaker = Breaker{Failures: 3, Open: 10 * time.Second}
		m := openMall(t, nil, step)
		m.hear("p", wanted.New("poison"))
		time.Sleep(time.Second)
		for f := range 5 {
			m.hear(fmt.Sprint("f", f), wanted.New("good"))
		}
		s.set(func() { s.shut = false })
		time.Sleep(21 * time.Second) // the first probe is the poison, the second is not
		if n := m.count(bought); n < 1 {
			t.Error("nothing is done: the poison has kept the breaker open")
		}
		time.Sleep(10 * time.Second) // if the poison failed often enough between two others
		if n := m.count(bought); n != 5 {
			t.Errorf("%d are done", n)
		}
		for range 12 { // with others done in between, it is given up
			m.hear("f0", wanted.New("good"))
			time.Sleep(10 * time.Second)
		}
		if n := m.count(forsaken); n != 1 {
			t.Errorf("the poison is given up %d times, its attempts %v", n, s.visits("buy poison"))
		}
		m.settled(t)
	})
}

// What the provider refuses, it has answered.
func TestARefusalIsAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shop{}
		step := s.step()
		step.Breaker = Breaker{Failures: 2}
		m := openMall(t, nil, step)
		for f := range 10 {
			m.hear(fmt.Sprint("f", f), wanted.New("nonsense"))
			time.Sleep(time.Second)
		}
		if got := m.state("buy"); m.count(denied) != 10 || got.Breaker != "closed" {
			t.Errorf("%d are denied, %+v", m.count(denied), got)
		}
		s.set(func() { s.shut = true })
		m.hear("g", wanted.New("a"))
		time.Sleep(time.Second)
		if got := m.state("buy"); got.Breaker != "open" {
			t.Errorf("%+v", got)
		}
		s.set(func() { s.shut = false })
		m.hear("h", wanted.New("nonsense"))
		time.Sleep(time.Minute)
		if got := m.state("buy"); m.count(denied) != 11 || m.count(bought) != 1 || got.Breaker != "closed" {
			t.Errorf("%v, %+v", m.answers(), got)
		}
	})
}

// Undo and Unknown call the same provider: they pass the same breaker, and are not
// shown as stuck for that.
func TestCompensationsPassTheBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shop{}
		step := s.step()
		step.Breaker = Breaker{Failures: 2, Open: 10 * time.Second}
		m := openMall(t, nil, step)
		m.hear("ran", wanted.New("a"))
		time.Sleep(time.Second)
		s.set(func() { s.shut = true })
		m.hear("opens", wanted.New("b"))
		time.Sleep(time.Second)
		m.hear("waits", wanted.New("c"))
		synctest.Wait()
		for _, f := range []string{"ran", "opens", "waits"} {
			m.hear(f, regret.New("d"))
		}
		m.hear("never", regret.New("e"))
		time.Sleep(time.Second)
		if got := m.state("buy"); got.Waiting != 3 || len(s.visits("return")) > 0 || len(s.visits("ask")) > 0 {
			t.Errorf("%+v, calls %v", got, s.visits(""))
		}
		if said := m.answers(); !slices.Equal(said, []string{`bought of ran: "a"`, `dropped of never: "e"`}) {
			t.Errorf("said is %v", said)
		}
		time.Sleep(40 * time.Second) // each is a probe
		if len(s.visits("return")) == 0 || len(s.visits("ask")) == 0 {
			t.Errorf("calls %v", s.visits(""))
		}
		if p := m.o.store.Parking(); p.Undo != 0 || m.stuck.count() != 0 {
			t.Errorf("%d and %d compensations show as failing", p.Undo, m.stuck.count())
		}
		s.set(func() { s.shut = false })
		time.Sleep(time.Minute)
		said := m.answers()
		slices.Sort(said)
		if want := []string{`bought of ran: "a"`, `dropped of never: "e"`, `dropped of opens: "d"`, `dropped of waits: "d"`, `returned of ran: "a"`}; !slices.Equal(said, want) {
			t.Errorf("said is %v", said)
		}
		if n := len(s.visits("buy c")); n > 0 {
			t.Errorf("what was called off was tried %d times", n)
		}
		m.settled(t)
	})
}

// At most so many attempts at once. Who waits holds up no other, burns no attempt,
// and comes in its turn.
func TestABulkheadHoldsUpNoOther(t *testing.T) {
	for _, workers := range []int{1, 3, 64} {
		t.Run(fmt.Sprint(workers, " workers"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &shop{took: time.Second}
				step := s.step()
				step.MaxConcurrent = 2
				seen := 0
				m := openMall(t, nil, step, Reaction[string]{Name: "look", On: looked, Do: func(context.Context, string) (Emissions, error) { seen++; return nil, nil }})
				m.sched.Close()
				m.sched = sched.New(workers)
				for f := range 20 {
					m.hear(fmt.Sprint("f", f), wanted.New("a"))
					synctest.Wait() // workers are not in the order of their items
				}
				if workers > 2 {
					m.hear("other", looked.New("x"))
					synctest.Wait()
					if seen != 1 {
						t.Error("another step waits, though there are workers")
					}
					if got := m.state("buy"); got != (doorStatus{"buy", "", 2, 18}) {
						t.Errorf("%+v", got)
					}
				}
				began := time.Now()
				time.Sleep(time.Duration(20/min(2, workers))*time.Second + time.Second)
				var order []string
				for _, v := range s.visits("") {
					if v.try != 1 {
						t.Errorf("%+v", v)
					}
				}
				for _, a := range m.answers() {
					order = append(order, strings.Fields(a)[2])
				}
				if m.count(bought) != 20 || s.most != min(2, workers) {
					t.Errorf("%d are done, %d at once", m.count(bought), s.most)
				}
				for i, f := range order {
					var n int
					if _, err := fmt.Sscanf(f, "f%d:", &n); err != nil || workers > 2 && (n < i-1 || n > i+1) {
						t.Errorf("the order is %v", order)
						break
					}
				}
				if last := s.visits("")[19].at.Sub(began); last > time.Duration(20/min(2, workers)-1)*time.Second {
					t.Errorf("the last has begun after %v", last)
				}
				m.settled(t)
			})
		})
	}
}

// Attempts that ignore their contexts go on: probes among them must not keep the
// breaker half-open, and they still take their places in the bulkhead.
func TestAProbeThatHangsHasFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shop{shut: true}
		step := s.step()
		step.Breaker, step.MaxConcurrent = Breaker{Failures: 1, Open: 10 * time.Second}, 2
		m := openMall(t, nil, step)
		m.hear("a", wanted.New("a"))
		m.hear("b", wanted.New("b"))
		m.hear("c", wanted.New("c"))
		time.Sleep(time.Second)
		s.set(func() { s.hangs = true })
		time.Sleep(10 * time.Second)
		if got := m.state("buy"); got != (doorStatus{"buy", "half-open", 1, 2}) {
			t.Errorf("with a probe that hangs: %+v", got)
		}
		time.Sleep(5 * time.Second)
		if got := m.state("buy"); got != (doorStatus{"buy", "open", 1, 2}) {
			t.Errorf("after its timeout: %+v", got)
		}
		time.Sleep(time.Minute)
		if got := m.state("buy"); got.Concurrent != 2 || got.Waiting != 1 || got.Breaker != "half-open" {
			t.Errorf("with as many that hang as may be under way: %+v", got)
		}
		s.set(func() { s.hangs, s.shut = false, false })
		time.Sleep(3 * time.Hour)
		if m.count(bought) != 3 {
			t.Errorf("%v, %+v", m.answers(), m.state("buy"))
		}
		m.settled(t)
	})
}

// Attempts that were begun before the breaker has opened tell nothing of the
// provider when they end after it was half-open, and are not counted.
func TestLateResultsTellNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shop{shut: true, took: 4 * time.Second}
		step := s.step()
		step.Breaker = Breaker{Failures: 2, Open: time.Second}
		step.Retry.Attempts = 2
		m := openMall(t, nil, step)
		m.hear("late0", wanted.New("a"))
		m.hear("late1", wanted.New("a"))
		synctest.Wait()
		s.set(func() { s.took = 0 })
		m.hear("opens", wanted.New("a"))
		time.Sleep(100 * time.Millisecond)
		s.set(func() { s.shut = false })
		time.Sleep(2 * time.Second)
		if got := m.state("buy"); got.Breaker != "closed" || m.count(bought) != 1 {
			t.Fatalf("it did not close: %+v", got)
		}
		s.set(func() { s.shut = true })
		time.Sleep(3 * time.Second)
		if got := m.state("buy"); got.Breaker == "closed" {
			t.Fatalf("attempts that were repeated do not tell: %+v", got)
		}
		s.set(func() { s.shut = false })
		time.Sleep(10 * time.Second)
		if m.count(bought) != 3 || m.count(forsaken) != 0 {
			t.Errorf("%v", m.answers())
		}
		m.settled(t)
	})
}

// A probe that is lost with its task does not keep the next one out, and what is
// parked goes on with the next owner, who finds out first.
func TestAfterARestartTheProviderIsProbedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shop{shut: true}
		step := s.step()
		step.Breaker = Breaker{Failures: 3, Open: 10 * time.Second}
		m := openMall(t, nil, step)
		for f := range 30 {
			m.hear(fmt.Sprint("f", f), wanted.New("a"))
		}
		time.Sleep(time.Second)
		s.set(func() { s.took = 2 * time.Second })
		time.Sleep(10 * time.Second) // a probe is under way
		if got := m.state("buy"); got != (doorStatus{"buy", "half-open", 1, 29}) {
			t.Errorf("%+v", got)
		}
		m.o.inc.Close(errors.New("moved"))
		m.doors["buy"].leftTask(m.o)
		m.restart(t, m.records()) // to this instance again
		time.Sleep(time.Second)
		if got := m.state("buy"); got != (doorStatus{"buy", "half-open", 1, 30}) && got != (doorStatus{"buy", "half-open", 1, 29}) {
			t.Errorf("with the task back: %+v", got)
		}
		time.Sleep(30 * time.Second)
		for _, d := range m.doors {
			d.close()
		}
		m.o.inc.Close(errors.New("killed"))
		m.doors = m.newDoors() // of another process
		calls := len(s.visits(""))
		m.restart(t, m.records())
		time.Sleep(time.Second)
		if got := m.state("buy"); got != (doorStatus{"buy", "half-open", 1, 29}) || len(s.visits("")) != calls+1 {
			t.Errorf("after the start of a process: %+v, %d calls", got, len(s.visits(""))-calls)
		}
		s.set(func() { s.shut = false })
		time.Sleep(2 * time.Minute)
		if m.count(bought) != 30 {
			t.Errorf("%d are done, %+v", m.count(bought), m.state("buy"))
		}
		m.settled(t)
	})
}

// Nothing else waits for the end of an outage in memory while it can be parked,
// and what is parked already is not written again and again.
func TestWaitingIsCheap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shop{shut: true}
		step := s.step()
		step.Breaker = Breaker{Failures: 1, Open: time.Second}
		m := openMall(t, nil, step)
		for f := range 50 {
			m.hear(fmt.Sprint("f", f), wanted.New("a"))
		}
		time.Sleep(500 * time.Millisecond)
		if st := m.sched.Stats(); st.Waiting != 0 || m.doors["buy"].inMemory.Load() != 0 {
			t.Errorf("in memory there are %+v", st)
		}
		written := len(m.records())
		time.Sleep(time.Minute)
		if more := len(m.records()) - written; more > 70 { // one for each probe
			t.Errorf("%d more journal records were written in a minute", more)
		}
		m.o.inc.Close(errors.New("moved"))
		m.doors["buy"].leftTask(m.o)
		written = len(m.records())
		m.restart(t, m.records())
		time.Sleep(100 * time.Millisecond)
		if more := len(m.records()) - written; more > 2 || m.state("buy").Waiting != 50 {
			t.Errorf("%d more journal records were written when the task was opened, %+v", more, m.state("buy"))
		}
	})
}

// Retry.Over bounds the time of attempts, not that of waiting for the provider.
func TestTimeAtTheDoorIsNoPartOfTheRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shop{shut: true}
		step := s.step()
		step.Breaker = Breaker{Failures: 3, Open: 10 * time.Second}
		step.Retry = Retry{First: time.Millisecond, Max: time.Second, Over: time.Minute}
		m := openMall(t, nil, step)
		m.hear("f", wanted.New("a"))
		time.Sleep(10 * time.Second / 2)
		m.hear("g", wanted.New("b"))
		time.Sleep(10 * time.Minute)
		s.set(func() { s.shut, s.breaks = false, map[string]int{"a": 2} })
		time.Sleep(time.Minute)
		if m.count(bought) != 2 || m.count(forsaken) != 0 {
			t.Errorf("%v after %v", m.answers(), s.visits("buy a"))
		}
		last := s.visits("buy a")
		if n := last[len(last)-1].try; n < 3 {
			t.Errorf("no attempt has failed that was counted: the last was attempt %d", n)
		}
	})
}

// The same over restarts: neither the time at the door before them, nor that without
// an owner.
func TestTimeAtTheDoorIsNoPartOfTheRetriesOverRestarts(t *testing.T) {
	for _, restarts := range []int{1, 3} {
		t.Run(fmt.Sprint(restarts), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &shop{shut: true}
				step := s.step()
				step.Breaker = Breaker{Failures: 3, Open: 10 * time.Second}
				step.Retry = Retry{First: time.Millisecond, Max: time.Second, Over: time.Minute}
				m := openMall(t, nil, step)
				m.hear("f", wanted.New("a"))
				time.Sleep(5 * time.Second)
				for n := range 100 { // so that it is a probe once in a thousand seconds
					m.hear(fmt.Sprint("g", n), wanted.New("b"))
				}
				for range restarts {
					time.Sleep(9 * time.Minute)
					for _, d := range m.doors {
						d.close()
					}
					m.o.inc.Close(errors.New("killed"))
					time.Sleep(5 * time.Minute)
					synctest.Wait()
					m.doors = m.newDoors()
					m.restart(t, m.records())
				}
				time.Sleep(time.Minute)
				calls := len(s.visits("buy a"))
				s.set(func() { s.shut, s.breaks = false, map[string]int{"a": 2} })
				time.Sleep(5 * time.Minute)
				if m.count(bought) != 101 || m.count(forsaken) != 0 {
					t.Errorf("%d are done, %d given up, after %v", m.count(bought), m.count(forsaken), s.visits("buy a"))
				}
				if last := s.visits("buy a"); len(last)-calls != 3 || last[len(last)-1].try < 4 {
					t.Errorf("no attempt has failed that was counted: they were %v", last)
				}
			})
		})
	}
}

// Attempts that count are part of it, also over restarts.
func TestTheBudgetOfTimeIsUsedUpBehindADoor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shop{breaks: map[string]int{"a": 1 << 30}}
		step := s.step()
		step.Breaker = Breaker{Failures: 9}
		step.Retry = Retry{Attempts: 1000, InPlace: 1, First: 40 * time.Second, Max: 40 * time.Second, Over: 5 * time.Minute}
		m := openMall(t, nil, step)
		began := time.Now()
		m.hear("f", wanted.New("a"))
		for n := range 20 {
			time.Sleep(30 * time.Second)
			m.hear(fmt.Sprint("g", n), wanted.New("b")) // succeeds, so that the breaker stays closed
			if n == 3 {
				m.o.inc.Close(errors.New("moved"))
				m.doors["buy"].leftTask(m.o)
				m.restart(t, m.records())
			}
		}
		last := s.visits("buy a")
		if took := last[len(last)-1].at.Sub(began); m.count(forsaken) != 1 || took < 5*time.Minute || took > 6*time.Minute {
			t.Errorf("%d are given up, the last attempt was made after %v", m.count(forsaken), took)
		}
	})
}

// A compensation that fails is not younger after a restart: nothing bounds its time.
func TestACompensationIsAsOldBehindADoorAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		step := (&shop{}).step()
		step.Breaker = Breaker{Failures: 3}
		m := openMall(t, nil, step)
		ev := cloudevent.Event{ID: "1", Source: "/test", Type: regret.Type, CorrelationID: "f", Data: []byte(`"x"`)}
		rec, err := ev.Record("in")
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now().Add(-time.Hour)
		r := m.resumed(m.o, "f", journal.Parked{Seq: 1, At: "buy", Record: rec}, journal.Retry{Seq: 1, Attempts: 2, Undo: true, Began: began, Next: began.Add(time.Minute)})
		if !r.began.Equal(began) {
			t.Errorf("it seems to have failed since %v, not %v", r.began, began)
		}
	})
}

// An attempt that is not counted takes nothing of the time for those that are.
func TestTheTimeOfProbesIsNoPartOfTheRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shop{shut: true}
		step := s.step()
		step.Breaker, step.Timeout = Breaker{Failures: 3, Open: time.Second}, 30*time.Second
		step.Retry = Retry{First: time.Millisecond, Max: time.Second, Over: time.Minute}
		m := openMall(t, nil, step)
		m.hear("f", wanted.New("a"))
		time.Sleep(time.Second / 2)
		s.set(func() { s.took = time.Hour }) // each probe takes all of its timeout
		m.hear("g", wanted.New("b"))
		time.Sleep(10 * time.Minute)
		s.set(func() { s.shut, s.took, s.breaks = false, 0, map[string]int{"a": 2} })
		time.Sleep(5 * time.Minute)
		if m.count(bought) != 2 || m.count(forsaken) != 0 {
			t.Errorf("%v after %v", m.answers(), s.visits("buy a"))
		}
	})
}

// After an outage those who wait come ever faster, so that neither the provider nor
// the other flows are overrun.
func TestAfterAnOutageTheyComeEverFaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shop{shut: true}
		step := s.step()
		step.Breaker = Breaker{Failures: 1, Open: time.Second}
		m := openMall(t, nil, step)
		m.sched.Close()
		m.sched = sched.New(1000)
		const n = 500
		for f := range n {
			m.hear(fmt.Sprint("f", f), wanted.New("a"))
		}
		time.Sleep(time.Second / 2)
		s.set(func() { s.shut, s.took = false, 100*time.Millisecond })
		before := len(s.visits(""))
		time.Sleep(time.Second / 2) // a probe
		for _, want := range []int{1, 3, 7, 15, 31, 63, 127, 255, n, n} {
			time.Sleep(time.Millisecond)
			if got := len(s.visits("")) - before; got != want {
				t.Errorf("%d calls were made, want %d", got, want)
			}
			time.Sleep(99 * time.Millisecond)
		}
		if m.count(bought) != n {
			t.Errorf("%d are done", m.count(bought))
		}
		m.settled(t)
	})
}

// Who was called and has no need of its place any more gives it on.
func TestWhoDoesNotComeGivesItsPlaceOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shop{shut: true}
		step := s.step()
		step.GiveUp, step.Compensate = Failure[string]{}, Compensation[string, string]{} // so that calling off needs no provider
		step.Breaker, step.MaxConcurrent = Breaker{Failures: 1, Open: 10 * time.Second}, 1
		m := openMall(t, nil, step)
		for _, f := range []string{"a", "b", "c", "d"} {
			m.hear(f, wanted.New(f))
			synctest.Wait()
		}
		m.hear("a", regret.New("x")) // the first two in the line
		m.hear("b", regret.New("x"))
		synctest.Wait()
		if n := m.count(dropped1); n != 2 {
			t.Fatalf("%v", m.answers())
		}
		s.set(func() { s.shut = false })
		time.Sleep(11 * time.Second)
		if m.count(bought) != 2 {
			t.Errorf("%v, %+v", m.answers(), m.state("buy"))
		}
		m.settled(t)
	})
}

// A place is kept for who was called, whoever comes meanwhile.
func TestWhoWasCalledFindsItsPlaceFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		step := (&shop{}).step()
		step.MaxConcurrent = 1
		m := openMall(t, nil, step)
		d := m.doors["buy"]
		d.summon = func(sched.Key, *owned, bool) {}
		enter := func(key string) error {
			_, err := d.enter(&run{in: m.in, key: key}, time.Second)
			return err
		}
		first := &run{in: m.in, key: "first"}
		passage, err := d.enter(first, time.Second)
		if err != nil || enter("second") == nil {
			t.Fatal("not one is within")
		}
		if err := d.leave(first, passage, nil); err != nil { // the second is called
			t.Fatal(err)
		}
		if enter("third") == nil {
			t.Error("the third has taken the place of the second")
		}
		if err := enter("second"); err != nil {
			t.Errorf("the second is not let in: %v", err)
		}
	})
}

// Who is called while it is being parked is called once more, as what it has become.
func TestWhoIsCalledWhileItIsParked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		step := (&shop{}).step()
		step.MaxConcurrent = 1
		m := openMall(t, nil, step)
		var called []string
		d := m.doors["buy"]
		d.summon = func(key sched.Key, o *owned, parked bool) { called = append(called, fmt.Sprint(key.Name, " ", parked)) }
		first := &run{in: m.in, key: "first"}
		passage, err := d.enter(first, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		second := &run{in: m.in, key: "second"}
		if _, err := d.enter(second, time.Second); err == nil {
			t.Fatal("two are within")
		}
		if err := d.leave(first, passage, nil); err != nil {
			t.Fatal(err)
		}
		d.park(second.schedKey())
		if want := []string{"second false", "second true"}; !slices.Equal(called, want) {
			t.Errorf("called were %v", called)
		}
		d.forget(second.schedKey())
		m.settled(t)
	})
}
