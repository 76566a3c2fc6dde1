package sched

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// flow is the model of one key.
type flow struct {
	items   []*step // unfinished, in the order submitted
	running bool
	waiting bool
	due     time.Time // when waiting
	woken   bool      // while running
}

// step is an item with a plan: how long each run takes and what it returns.
type step struct {
	m     *model
	flow  *flow
	takes []time.Duration
	again []time.Duration // one for each of takes, the last is Done
	runs  int
}

type model struct {
	mu       sync.Mutex
	limit    int
	running  int
	finished int
	wrong    []string
}

func (m *model) check(ok bool, what string) {
	if !ok {
		m.wrong = append(m.wrong, what)
	}
}

func (s *step) Run() time.Duration {
	m, f := s.m, s.flow
	m.mu.Lock()
	m.running++
	m.check(m.running <= m.limit, "more items than the limit run")
	m.check(!f.running, "two items of a key run")
	m.check(len(f.items) > 0 && f.items[0] == s, "an item overtakes another of its key")
	m.check(s.runs < len(s.takes), "a finished item runs again")
	m.check(!f.waiting || !time.Now().Before(f.due), "a waiting item runs too early")
	f.running, f.waiting, f.woken = true, false, false
	i := min(s.runs, len(s.takes)-1)
	s.runs++
	m.mu.Unlock()

	time.Sleep(s.takes[i])

	m.mu.Lock()
	defer m.mu.Unlock()
	m.running--
	f.running = false
	if s.again[i] < 0 {
		f.items = f.items[1:]
		m.finished++
	} else {
		f.waiting, f.due = true, time.Now().Add(s.again[i])
		if f.woken {
			f.due = time.Now()
		}
	}
	return s.again[i]
}

// TestModel holds random work against the rules: order and exclusion within a
// key, all runs made, never early, never above the limit, and never a worker
// idle while there is anything to run.
func TestModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// A bubble refuses Deadline, for which rapid asks a plain *testing.T.
		rapid.Check(struct{ *testing.T }{t}, func(t *rapid.T) {
			m := &model{limit: rapid.IntRange(1, 5).Draw(t, "limit")}
			s := New(m.limit)
			flows := make([]flow, rapid.IntRange(1, 8).Draw(t, "keys"))
			// Few different times, so that many things happen at one moment.
			some := rapid.SampledFrom([]time.Duration{0, 0, ms, ms, 2 * ms, 5 * ms, 50 * ms})
			whichever := rapid.IntRange(0, len(flows)-1)
			submitted := 0
			item := func(t *rapid.T) Work {
				k := whichever.Draw(t, "key")
				it := &step{m: m, flow: &flows[k]}
				for range rapid.IntRange(0, 3).Draw(t, "again") {
					it.takes = append(it.takes, some.Draw(t, "takes"))
					it.again = append(it.again, some.Draw(t, "after"))
				}
				it.takes = append(it.takes, some.Draw(t, "takes"))
				it.again = append(it.again, Done)
				m.mu.Lock()
				flows[k].items = append(flows[k].items, it)
				m.mu.Unlock()
				submitted++
				return Work{key(k), it}
			}
			settled := func(t *rapid.T) {
				synctest.Wait()
				m.mu.Lock()
				defer m.mu.Unlock()
				if len(m.wrong) > 0 {
					t.Fatalf("%q", m.wrong)
				}
				var want Stats
				for i := range flows {
					f := &flows[i]
					queued := len(f.items)
					switch {
					case f.running:
						want.Running++
						queued--
					case f.waiting && time.Now().Before(f.due):
						want.Waiting++
						queued--
					case f.waiting: // due, but for the limit
						want.QueuedKeys++
						queued--
					case len(f.items) > 0:
						want.QueuedKeys++
					}
					want.QueuedItems += queued
				}
				if got := s.Stats(); got != want {
					t.Fatalf("%+v, want %+v", got, want)
				}
				if want.QueuedKeys > 0 && want.Running < m.limit {
					t.Fatalf("idle workers, limit %d: %+v", m.limit, want)
				}
			}
			t.Repeat(map[string]func(*rapid.T){
				"submit": func(t *rapid.T) {
					w := item(t)
					s.Submit(w.Key, w.Item)
				},
				"submit many": func(t *rapid.T) {
					var batch []Work
					for range rapid.IntRange(1, 100).Draw(t, "n") {
						batch = append(batch, item(t))
					}
					s.SubmitAll(batch)
				},
				"wake": func(t *rapid.T) {
					k := whichever.Draw(t, "key")
					m.mu.Lock()
					flows[k].due = time.Now()
					flows[k].woken = flows[k].running
					m.mu.Unlock()
					s.Wake(key(k))
				},
				"pass time": func(t *rapid.T) {
					time.Sleep(rapid.SampledFrom([]time.Duration{ms, 3 * ms, 100 * ms}).Draw(t, "time"))
				},
				"": settled,
			})
			for i := 0; i < 3000 && s.Stats() != (Stats{}); i++ {
				time.Sleep(100 * ms)
				settled(t)
			}
			settled(t)
			if m.finished != submitted {
				t.Fatalf("%d of %d items finished", m.finished, submitted)
			}
			if s.keys.n != 0 || s.workers != 0 {
				t.Fatalf("left behind: %d keys, %d workers", s.keys.n, s.workers)
			}
		})
	})
}
