package choreo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/internal/journal"
	"github.com/choreography-go/choreography/choreo/internal/sched"
	"github.com/choreography-go/choreography/choreo/internal/txn"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// commits is a pipeline that commits whatever it is given, at once or when told.
type commits struct {
	pipeline
	mu      sync.Mutex
	records []*kgo.Record
	held    bool // until release
	waiting []*txn.Result
}

func (c *commits) Submit(r *txn.Result) {
	c.mu.Lock()
	for _, rec := range r.Records {
		kept := *rec // it is used again
		c.records = append(c.records, &kept)
	}
	if c.held {
		c.waiting = append(c.waiting, r)
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	r.Done.Done(true)
}

func (c *commits) release() {
	c.mu.Lock()
	all := c.waiting
	c.held, c.waiting = false, nil
	c.mu.Unlock()
	for _, r := range all {
		r.Done.Done(true)
	}
}

// hold lets what comes wait until release.
func (c *commits) hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = true
}

// take is the only result that waits, which is not committed any more.
func (c *commits) take(t *testing.T) *txn.Result {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) != 1 {
		t.Fatalf("%d are under way", len(c.waiting))
	}
	r := c.waiting[0]
	c.waiting = nil
	return r
}

func (c *commits) under() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting)
}

var (
	asked  = Event[string]{Type: "test.asked", Topic: "asked"}
	given  = Event[string]{Type: "test.given", Topic: "given"}
	lapsed = Event[string]{Type: "test.lapsed", Topic: "lapsed"}
)

// patient waits as its event says.
func patient(do func(context.Context, string) (string, error)) Deadline[string, string] {
	return Deadline[string, string]{
		Name: "patient", After: asked, Unless: Events{given}, Do: do, Emit: lapsed,
		Within: Per(func(s string) time.Duration {
			d, err := time.ParseDuration(s)
			if err != nil {
				panic(err)
			}
			return d
		}),
	}
}

// waitingEngine is an engine of that deadline, whose pipeline commits.
func waitingEngine(t *testing.T, d Declaration, change func(*Config)) (*engine, *commits) {
	t.Helper()
	e, in := bareEngine(t)
	in.owned.inc.Close(nil)
	c := &commits{pipeline: e.pipe}
	e.plan, e.pipe = newPlan(NewService("patient", d)), c
	if err := e.plan.err(); err != nil {
		t.Fatal(err)
	}
	e.metrics = newMetrics(prometheus.NewRegistry(), e.plan)
	if change != nil {
		change(&e.cfg)
	}
	e.lapses = newLapses(e.cfg)
	return e, c
}

// own begins an ownership of a journal, with a wall clock that is off by so much.
func (e *engine) own(t *testing.T, records []*kgo.Record, off time.Duration) *owned {
	t.Helper()
	o := e.newOwned(0, e.fence.Open(0), e.newStore())
	for _, rec := range records {
		o.store.Apply(rec)
	}
	if err := o.store.Restored(); err != nil {
		t.Fatal(err)
	}
	o.clock.shown = o.clock.shown.Add(off)
	o.seeTimes()
	o.recallDeadlines()
	t.Cleanup(func() { o.inc.Close(nil) })
	return o
}

// hears handles an event of the flow.
func (o *owned) hears(t *testing.T, e *engine, flow string, em Emission) {
	t.Helper()
	data, err := json.Marshal(em.Data)
	if err != nil {
		t.Fatal(err)
	}
	r := &run{event: cloudevent.Event{ID: em.Type, Source: "/" + flow, Type: em.Type, CorrelationID: flow, Time: time.Now(), Data: data}}
	in := &input{owned: o, Source: &txn.Source{Topic: "in"}}
	r.begin(e, in, &kgo.Record{Topic: "in"}, e.plan.hears[em.Type])
	if !e.room.Try(size(r.rec)) {
		t.Fatal("no room")
	}
	e.sched.Submit(sched.Key{Name: r.key}, r)
	synctest.Wait()
}

// journalOf are the records of the journal.
func (c *commits) journalOf() (all []*kgo.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rec := range c.records {
		if strings.HasSuffix(rec.Topic, ".journal") {
			all = append(all, rec)
		}
	}
	return all
}

// said is how many events were said, dead letters aside.
func (c *commits) said() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rec := range c.records {
		if rec.Topic == lapsed.Topic {
			n++
		}
	}
	return n
}

// No deadline fires early, or more than 2 ms late, however its time compares with
// the milliseconds of the journal.
func TestADeadlineFiresAtItsTime(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		lead := time.Duration(rapid.Int64Range(0, int64(3*time.Millisecond)).Draw(rt, "lead"))
		within := time.Duration(rapid.Int64Range(1, int64(10*time.Millisecond)).Draw(rt, "within"))
		off := time.Duration(rapid.SampledFrom([]int{-3600, 0, 1, 3600}).Draw(rt, "clock")) * time.Second
		synctest.Test(t, func(t *testing.T) {
			fired := make(chan time.Time, 1)
			e, _ := waitingEngine(t, patient(func(context.Context, string) (string, error) { fired <- time.Now(); return "", nil }), nil)
			o := e.own(t, nil, off)
			time.Sleep(lead)
			set := time.Now()
			o.hears(t, e, "f", asked.New(within.String()))
			if took := (<-fired).Sub(set); took < within || took > within+2*time.Millisecond {
				rt.Errorf("it has fired after %v, not %v", took, within)
			}
		})
	})
}

// The wall clock is read once in the life of a task. Read ahead of that of the
// task's last owner, it makes deadlines fire by as much early; read behind the
// time at which the last one was set, it counts from that.
func TestDeadlinesHoweverTheWallClockJumps(t *testing.T) {
	for name, c := range map[string]struct {
		jump time.Duration
		want map[string]time.Duration // by flow, after the restart
	}{
		"no jump":           {0, map[string]time.Duration{"a": 20 * time.Minute, "b": 28 * time.Minute}},
		"an hour ahead":     {time.Hour, map[string]time.Duration{"a": 0, "b": 0}},
		"a little ahead":    {25 * time.Minute, map[string]time.Duration{"a": 0, "b": 3 * time.Minute}},
		"an hour back":      {-time.Hour, map[string]time.Duration{"a": 22 * time.Minute, "b": 30 * time.Minute}},
		"a little back":     {-time.Minute, map[string]time.Duration{"a": 21 * time.Minute, "b": 29 * time.Minute}},
		"back to its start": {-30 * 365 * 24 * time.Hour, map[string]time.Duration{"a": 22 * time.Minute, "b": 30 * time.Minute}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				fired := map[string]time.Time{}
				e, c2 := waitingEngine(t, patient(func(ctx context.Context, _ string) (string, error) {
					mu.Lock()
					defer mu.Unlock()
					fired[Meta(ctx).Flow] = time.Now()
					return "", nil
				}), nil)
				first := e.own(t, nil, 0)
				first.hears(t, e, "a", asked.New("30m"))
				time.Sleep(8 * time.Minute)
				first.hears(t, e, "b", asked.New("30m"))
				time.Sleep(2 * time.Minute)
				first.inc.Close(errors.New("killed"))
				restarted := time.Now()
				second := e.own(t, c2.journalOf(), c.jump)
				second.hears(t, e, "new", asked.New("30m")) // is not touched by what was
				time.Sleep(2 * time.Hour)
				synctest.Wait()
				for flow, want := range c.want {
					if after := fired[flow].Sub(restarted); after < want || after > want+2*time.Millisecond {
						t.Errorf("%s has fired %v after the restart, want %v", flow, after, want)
					}
				}
				if after := fired["new"].Sub(restarted); after < 30*time.Minute || after > 30*time.Minute+2*time.Millisecond {
					t.Errorf("what was set since has fired after %v", after)
				}
				if c2.said() != 3 {
					t.Errorf("%d have fired", c2.said())
				}
			})
		})
	}
}

// After a kill what was due meanwhile fires within a second of the recovery, the rest
// within a second of its time, however many there are.
func TestDeadlinesComeInTimeAfterAKill(t *testing.T) {
	for _, n := range []int{1, 1000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				fired := map[string][]time.Time{}
				e, c := waitingEngine(t, patient(func(ctx context.Context, _ string) (string, error) {
					mu.Lock()
					defer mu.Unlock()
					fired[Meta(ctx).Flow] = append(fired[Meta(ctx).Flow], time.Now())
					return "", nil
				}), nil)
				o := e.own(t, nil, 0)
				began := time.Now()
				within := []time.Duration{time.Second, time.Minute, time.Hour, 24 * time.Hour}
				for k := range n {
					for _, d := range within {
						o.hears(t, e, fmt.Sprint(d, k), asked.New(d.String()))
					}
				}
				time.Sleep(30 * time.Second)
				o.inc.Close(errors.New("killed"))
				time.Sleep(10 * time.Minute)
				recovered := time.Now()
				e.own(t, c.journalOf(), 0)
				time.Sleep(25 * time.Hour)
				synctest.Wait()
				for k := range n {
					for _, d := range within {
						due := began.Add(d)
						if d == time.Minute { // of which nobody knew then
							due = recovered
						}
						at := fired[fmt.Sprint(d, k)]
						if len(at) != 1 || at[0].Before(due) || at[0].After(due.Add(time.Second)) {
							t.Errorf("what was due %v after the start has fired at %v", d, at)
						}
					}
				}
			})
		})
	}
}

// However many deadlines are overdue, they have a part of the handlers and of the
// memory at once, the oldest first, and everything else goes on beside them.
func TestOverdueDeadlinesLeaveRoomForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 1000
		var running, most, done atomic.Int64
		gate := make(chan struct{})
		e, c := waitingEngine(t, patient(func(context.Context, string) (string, error) {
			most.Store(max(most.Load(), running.Add(1)))
			<-gate
			running.Add(-1)
			done.Add(1)
			return "", nil
		}), func(c *Config) { c.MaxHandlers, c.MaxInFlight = 4, 40 })
		first := e.own(t, nil, 0)
		for k := range n {
			first.hears(t, e, fmt.Sprint(k), asked.New("1s"))
		}
		first.inc.Close(errors.New("killed"))
		time.Sleep(time.Minute)
		c.hold()
		e.own(t, c.journalOf(), 0)
		synctest.Wait()
		if running.Load() != 1 {
			t.Errorf("%d are at work at once", running.Load())
		}
		passed := make(chan struct{})
		e.sched.Submit(sched.Key{Name: "another flow"}, itemFunc(func() { close(passed) }))
		<-passed
		close(gate)
		synctest.Wait()
		if done.Load() != 8 || c.under() != 8 { // told again when there is room for a quarter of 10
			t.Errorf("%d have fired and %d are under way though nothing is committed", done.Load(), c.under())
		}
		c.release()
		synctest.Wait()
		if done.Load() != n || c.said() != n || most.Load() != 1 {
			t.Errorf("%d of %d have fired, %d at once", done.Load(), n, most.Load())
		}
		if e.lapses.queued != 0 || e.lapses.unsettled != 0 {
			t.Errorf("%d and %d are counted after all", e.lapses.queued, e.lapses.unsettled)
		}
	})
}

type itemFunc func()

func (f itemFunc) Run() time.Duration { f(); return sched.Done }

func TestWhatDeadlinesHaveAtWorkIsBounded(t *testing.T) {
	over, end := context.WithCancel(t.Context())
	end() // so that nobody waits
	for _, c := range []struct{ most, queued, unsettled, want int }{
		{9, 0, 0, 4}, {3, 0, 0, 3}, {9, 3, 0, 1}, {9, 4, 0, 0}, {9, 0, 6, 2}, {9, 0, 8, 0}, {9, 0, 9, 0}, {9, 4, 8, 0},
	} {
		l := newLapses(Config{MaxHandlers: 16, MaxInFlight: 32})
		l.change(c.queued, c.unsettled)
		if n := l.begin(over, c.most); n != c.want || l.queued != c.queued+n {
			t.Errorf("with %d queued and %d unsettled %d of %d may begin, want %d", c.queued, c.unsettled, n, c.most, c.want)
		}
	}
	if l := newLapses(Config{MaxHandlers: 1, MaxInFlight: 1}); l.begin(over, 1) != 1 {
		t.Error("with the least limits none may begin")
	}
}

// Deadlines that are met leave nothing behind, and the others fire.
func TestTheAgendaForgetsDeadlinesThatAreMet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, c := waitingEngine(t, patient(func(context.Context, string) (string, error) { return "", nil }), nil)
		o := e.own(t, nil, 0)
		const n = 2000
		for k := range n {
			o.hears(t, e, fmt.Sprint(k), asked.New("1h"))
		}
		o.sweepDeadlines()
		if o.deadlines.Len() != n {
			t.Errorf("%d of %d are left while all are pending", o.deadlines.Len(), n)
		}
		for k := range n - 3 {
			o.hears(t, e, fmt.Sprint(k), given.New(""))
		}
		o.sweepDeadlines()
		if o.deadlines.Len() != 3 {
			t.Errorf("%d are left though 3 are pending", o.deadlines.Len())
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if c.said() != 3 {
			t.Errorf("%d have fired", c.said())
		}
	})
}

// A deadline of a task that is no longer ours is not ours to fire, and what waits
// for room goes with the task.
func TestDeadlinesEndWithTheirTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate, begun := make(chan struct{}), make(chan struct{}, 100)
		e, c := waitingEngine(t, patient(func(ctx context.Context, _ string) (string, error) {
			begun <- struct{}{}
			<-gate
			return "", ctx.Err()
		}), func(c *Config) { c.MaxHandlers, c.MaxInFlight = 4, 8 })
		o := e.own(t, nil, 0)
		for k := range 50 {
			o.hears(t, e, fmt.Sprint(k), asked.New("1s"))
		}
		<-begun
		o.inc.Close(errors.New("revoked"))
		close(gate)
		synctest.Wait()
		if len(begun) > 0 || e.lapses.queued != 0 || e.lapses.unsettled != 0 {
			t.Errorf("%d have begun since, %d and %d are counted", len(begun), e.lapses.queued, e.lapses.unsettled)
		}
		for k := range 50 {
			if d, _ := o.store.Deadline(fmt.Sprint(k), "patient"); d.Status == journal.Met {
				t.Errorf("deadline %d is %s", k, d.Status)
			}
		}
		if failing, _ := o.late.shown(); failing > 0 {
			t.Errorf("%d count as failed", failing)
		}
		// Its next owner fires all of them.
		e.own(t, c.journalOf(), 0)
		synctest.Wait()
		if c.said() < 50 {
			t.Errorf("%d have fired", c.said())
		}
	})
}

// What the broker refuses for its size is not sent again, and shows as failing.
func TestADeadlineWhoseEventIsTooLargeFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		e, c := waitingEngine(t, patient(func(context.Context, string) (string, error) { calls.Add(1); return "", nil }), nil)
		o := e.own(t, nil, 0)
		o.hears(t, e, "f", asked.New("1s"))
		records := c.journalOf()
		c.hold()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		result := c.take(t)
		if calls.Load() != 1 {
			t.Fatalf("Do was called %d times", calls.Load())
		}
		o.inc.Close(errors.New("the pipeline has failed"))
		e.refusedForSize(&txn.RecordTooLargeError{Topic: result.Records[0].Topic, Result: result, Record: result.Records[0]})
		second := e.own(t, records, 0)
		time.Sleep(time.Hour)
		synctest.Wait()
		if failing, _ := second.lateness(); failing != 1 || calls.Load() != 1 || c.under() != 0 {
			t.Errorf("%d fail, after %d calls, %d are under way", failing, calls.Load(), c.under())
		}
		second.hears(t, e, "f", given.New(""))
		if failing, late := second.lateness(); failing != 0 || late != 0 {
			t.Errorf("met, %d fail, the oldest for %v", failing, late)
		}
	})
}
