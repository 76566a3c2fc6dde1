package choreo

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/choreography-go/choreography/choreo/internal/sched"
	"pgregory.net/rapid"
)

// However providers come and go, tasks move and compensations overtake, at most so
// many attempts are made at once, and in the end nobody is left at the door.
func TestNobodyIsForgottenAtTheDoor(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := Breaker{Failures: rapid.IntRange(0, 4).Draw(rt, "failures")}
		if b.Failures > 0 {
			b.Of = b.Failures + rapid.IntRange(0, 3).Draw(rt, "more")
			b.Open = time.Duration(rapid.IntRange(1, 4000).Draw(rt, "open")) * time.Millisecond
			b.Probes = rapid.IntRange(0, 3).Draw(rt, "probes")
		}
		most := rapid.IntRange(0, 3).Draw(rt, "concurrent")
		workers := rapid.SampledFrom([]int{1, 2, 5, 64}).Draw(rt, "workers")
		perTask := rapid.SampledFrom([]int{3, 1000}).Draw(rt, "parked")
		events := rapid.SliceOfN(rapid.IntRange(0, 13), 1, 60).Draw(rt, "events")
		pauses := rapid.SliceOfN(rapid.IntRange(0, 3000), len(events), len(events)).Draw(rt, "pauses")
		synctest.Test(t, func(t *testing.T) {
			s := &shop{took: 30 * time.Millisecond, breaks: map[string]int{}}
			step := s.step()
			step.Breaker, step.MaxConcurrent = b, most
			step.Retry = Retry{Attempts: 50, First: 10 * time.Millisecond, Max: time.Second}
			m := openMall(t, func(c *Config) { c.MaxParkedPerTask, c.MaxParkedPerFlow = perTask, perTask }, step)
			m.sched.Close()
			m.sched = sched.New(workers)
			asked, off := map[string]int{}, map[string]bool{}
			for i, x := range events {
				f := fmt.Sprint("f", x%5)
				switch x {
				case 10, 11:
					s.set(func() { s.shut = x == 10 })
				case 12:
					s.set(func() { s.breaks["a"] += 2 })
				case 13:
					if !off[f] {
						m.hear(f, regret.New("r"))
					}
					off[f] = true
				default:
					if !off[f] {
						asked[f]++
					}
					m.hear(f, wanted.New("a"))
				}
				if pauses[i] > 1000 {
					time.Sleep(time.Duration(pauses[i]-1000) * time.Millisecond)
				}
			}
			s.set(func() { s.shut = false })
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			m.settled(t)
			if p := m.o.store.Parked(); p != 0 {
				rt.Errorf("%d events are parked", p)
			}
			if most > 0 && s.most > most {
				rt.Errorf("%d attempts at once, of %d", s.most, most)
			}
			if m.count(forsaken) > 0 {
				rt.Errorf("%d are given up", m.count(forsaken))
			}
			got := map[string]int{}
			for _, a := range m.answers() {
				typ, rest, _ := strings.Cut(a, " of ")
				f, _, _ := strings.Cut(rest, ":")
				if typ == "bought" {
					got[f]++
				}
			}
			for f, n := range asked {
				if got[f] != n && !off[f] || got[f] > n {
					rt.Errorf("%s has asked for %d and got %d", f, n, got[f])
				}
			}
			if t.Failed() {
				rt.Errorf("nobody may be left at the door")
			}
		})
	})
}
