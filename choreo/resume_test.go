package choreo

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/internal/journal"
	"github.com/choreography-go/choreography/choreo/internal/sched"
	"github.com/choreography-go/choreography/choreo/internal/txn"
	"github.com/choreography-go/choreography/choreo/operator"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The wall clock is read once in the life of a task. Another process may have
// seen another time, and an earlier version longer waits: then an attempt comes at
// once or after its longest wait, and its queue is not left to itself.
func TestNextAttemptsHoweverTheWallClockJumps(t *testing.T) {
	const longest = defaultMax
	for name, c := range map[string]struct {
		next time.Duration // from now, by the clock of who wrote it
		jump time.Duration // what the wall clock has gained until it is read here
		want time.Duration // from now, by this process
	}{
		"no jump":                             {10 * time.Second, 0, 10 * time.Second},
		"an hour ahead":                       {10 * time.Second, time.Hour, 0},
		"an hour back":                        {10 * time.Second, -time.Hour, longest},
		"back by little more than is awaited": {10 * time.Second, -longest, longest},
		"overdue":                             {-time.Minute, 0, 0},
		"never tried":                         {},
		"written by a damaged clock":          {1 << 62, 0, longest},
		"written before time's start":         {-1 << 62, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, in := bareEngine(t)
				o := in.owned
				began := time.Now()
				head, err := o.store.Park("f", journal.Parked{Record: &kgo.Record{Timestamp: began}}, began)
				if err != nil {
					t.Fatal(err)
				}
				if c != (struct{ next, jump, want time.Duration }{}) {
					o.store.PutRetry("f", journal.Retry{Seq: head.Seq(), Attempts: 1, Next: began.Add(c.next)}, began)
				}
				o.clock.shown = o.clock.shown.Add(c.jump)
				e.recall(o)
				var wake []time.Duration // when whatever comes up on the way is looked at
				for _, at := range []time.Duration{c.want / 2, c.want - time.Nanosecond, c.want} {
					if at >= 0 {
						wake = append(wake, at)
					}
				}
				for _, at := range wake {
					time.Sleep(at - time.Since(began))
					synctest.Wait()
					if done := o.store.Parked() == 0; done != (at == c.want) {
						t.Errorf("after %v of %v its attempt was made: %t", at, c.want, done)
					}
				}
			})
		})
	}
}

// What is made earlier than the journal says is one attempt, not the next ones.
func TestAParkedEventWaitsAgainAfterAnAttemptThatWasEarlier(t *testing.T) {
	_, in := bareEngine(t)
	o := in.owned
	now := time.Now()
	o.early = map[string]earlier{"f": {said: now.Add(time.Hour), at: now}}
	if wait := o.until("f", o.clock.wall(now.Add(time.Minute))); wait < time.Minute-time.Second {
		t.Errorf("the next attempt is due in %v", wait)
	}
	if wait := o.until("f", now.Add(time.Hour)); wait > 0 {
		t.Errorf("the earlier one is due in %v", wait)
	}
}

// The wall clock is set while a process runs: its attempts and deadlines come at their
// times all the same, which it goes on to note by the time that was shown before.
func TestTheWallClockMayJumpWhileAProcessRuns(t *testing.T) {
	for _, jump := range []time.Duration{0, time.Hour, -time.Hour} {
		t.Run(jump.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &shop{breaks: map[string]int{"a": 1}}
				step := s.step()
				step.Retry = Retry{Attempts: 20, InPlace: 1, First: 20 * time.Minute, Max: 20 * time.Minute}
				var fired []time.Time
				m := openMall(t, nil, step, Retention{Flow: 100 * time.Hour}, Deadline[string, string]{
					Name: "patient", After: wanted, Unless: Events{given}, Within: Fixed[string](30 * time.Minute), Emit: lapsed,
					Do: func(context.Context, string) (string, error) { fired = append(fired, time.Now()); return "", nil },
				})
				jumped(m.o, jump)
				began := time.Now()
				m.hear("f", wanted.New("a"))
				synctest.Wait()
				_, tried, parked := m.o.store.Head("f")
				if !parked || tried.Attempts != 1 {
					t.Fatalf("the first attempt is not parked: %+v", tried)
				}
				next := tried.Next.Add(jump)
				if wait := next.Sub(began); wait < -time.Millisecond || wait > 20*time.Minute {
					t.Errorf("the next attempt is %v away", wait)
				}
				time.Sleep(2 * time.Hour)
				synctest.Wait()
				made := s.visits("buy a")
				if len(made) != 2 || made[1].at.Before(next) || made[1].at.After(next.Add(2*time.Millisecond)) {
					t.Errorf("attempts were %v, the second was to be made at %v", made, next)
				}
				if len(fired) != 1 || fired[0].Before(began.Add(30*time.Minute)) || fired[0].After(began.Add(30*time.Minute+2*time.Millisecond)) {
					t.Errorf("the deadline of half an hour from %v has fired at %v", began, fired)
				}
			})
		})
	}
}

// calledOff leaves a mall with an event of flow f at the step, whose attempts fail
// and whose next one is an hour away, and a compensation that was queued before the
// first of them: it is at work when the process dies.
func calledOff(t *testing.T, s *shop) *mall {
	t.Helper()
	step := s.step()
	step.Retry = Retry{First: time.Hour, Max: time.Hour, Attempts: 20, InPlace: 1}
	var passes atomic.Bool
	m := openMall(t, nil, Retention{Flow: 100 * time.Hour}, Reaction[string]{
		Name: "echo", On: wanted, Retry: Retry{Attempts: 1000, InPlace: 1, First: time.Second, Max: time.Second},
		Do: func(context.Context, string) (Emissions, error) {
			if !passes.Load() {
				return nil, errShut
			}
			return nil, nil
		},
	}, step)
	m.hear("f", wanted.New("a"))
	synctest.Wait()
	m.hear("f", regret.New("x"))
	synctest.Wait()
	s.set(func() { s.took = 4 * time.Second })
	passes.Store(true)
	time.Sleep(7 * time.Second)
	if len(s.visits("buy a")) != 1 || len(s.visits("ask a")) != 1 || s.within != 1 {
		t.Fatalf("calls %v, %d under way", s.visits(""), s.within)
	}
	m.o.inc.Close(errors.New("killed"))
	synctest.Wait()
	s.set(func() { s.took = 0 })
	return m
}

// The journal has the event at its step and the compensation behind it: that does
// not wait for the event's next attempt.
func TestBarrierCase4OfWhatWasQueuedBeforeOverARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shop{breaks: map[string]int{"a": 1}}
		m := calledOff(t, s)
		m.restart(t, m.records())
		time.Sleep(time.Second)
		synctest.Wait()
		if said := m.answers(); !slices.Equal(said, []string{`dropped of f: "x"`}) || len(s.visits("buy a")) != 1 || m.o.store.Parked() != 0 {
			t.Errorf("said is %v after %v, %d are parked", said, s.visits(""), m.o.store.Parked())
		}
	})
}

// A command that comes before the compensation has its turn is for attempts that are
// called off: it is refused, and the compensation goes on.
func TestACommandForWhatIsCalledOffIsRefused(t *testing.T) {
	for _, do := range []operator.Do{operator.Retry, operator.Skip, operator.Resolve} {
		t.Run(string(do), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &shop{breaks: map[string]int{"a": 1}}
				m := calledOff(t, s)
				o := m.own(t, m.records(), 0) // and its queues are not recalled yet
				p, tried, _ := o.store.Head("f")
				d := &directive{e: m.engine, in: &input{owned: o, Source: &txn.Source{Topic: "in"}}, Command: operator.Command{
					Do: do, Target: operator.Target{Kind: operator.Step, Key: "f", Name: "buy", Seq: p.Seq, Began: tried.Began},
					Data: []byte(`"by hand"`),
				}}
				m.sched.Submit(sched.Key{Name: "f"}, d)
				time.Sleep(time.Second)
				synctest.Wait()
				if d.audit.Outcome != operator.Refused || !strings.Contains(d.audit.Error, "its compensation is queued") {
					t.Errorf("the audit tells %+v", d.audit)
				}
				if n := m.count(dropped1); n != 1 || len(s.visits("buy a")) != 1 || o.store.Parked() != 0 {
					t.Errorf("said is %v after %v, %d are parked", m.answers(), s.visits(""), o.store.Parked())
				}
			})
		})
	}
}

// version goes on with another version of the service.
func (m *mall) version(t *testing.T, d ...Declaration) {
	t.Helper()
	m.o.inc.Close(errors.New("killed"))
	synctest.Wait()
	m.plan = newPlan(NewService("mall", d...))
	if err := m.plan.err(); err != nil {
		t.Fatal(err)
	}
	m.metrics = newMetrics(prometheus.NewRegistry(), m.plan)
	m.restart(t, m.records())
	m.rejoin(m.o)
	synctest.Wait()
}

// onceJoined are a step that joins, and its later version that joins no more, with
// an hour between their attempts.
func onceJoined(s *shop) (joins, alone Step[string, string]) {
	joins = s.step()
	joins.Retry = Retry{First: time.Hour, Max: time.Hour, Attempts: 20, InPlace: 1}
	joins.GiveUp, joins.Fail = Failure[string]{}, nil
	alone = joins
	joins.On = Both(wanted, looked, func(what, _ string) string { return what })
	return joins, alone
}

// What has waited to be joined is tried alone, before a queue in which a compensation
// of its step waits: that goes first once an attempt has failed.
func TestBarrierCase4OfWhatWasQueuedBeforeAJoinedRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shop{breaks: map[string]int{"a": 1}}
		joins, alone := onceJoined(s)
		echo := Reaction[string]{Name: "echo", On: forsaken, Retry: joins.Retry, Do: func(context.Context, string) (Emissions, error) { return nil, errShut }}
		kept := Retention{Flow: 100 * time.Hour}
		m := openMall(t, nil, joins, echo, kept)
		m.hear("f", wanted.New("a"))
		synctest.Wait()
		m.hear("f", forsaken.New("x"))
		synctest.Wait()
		m.hear("f", regret.New("y"))
		synctest.Wait()
		if n := m.o.store.Waiting("f"); n != 2 {
			t.Fatalf("%d are parked", n)
		}
		m.version(t, alone, echo, kept)
		if said := m.answers(); !slices.Equal(said, []string{`dropped of f: "y"`}) || len(s.visits("buy a")) != 1 || len(s.visits("ask a")) != 1 {
			t.Errorf("said is %v after %v", said, s.visits(""))
		}
		if p, _, _ := m.o.store.Head("f"); p.At != "echo" {
			t.Errorf("the head stands at %q", p.At)
		}
	})
}

// A compensation goes before the whole queue. Of the attempts on its head it drops
// those that it has overtaken, not those at another step.
func TestACompensationLeavesTheAttemptsAtAnotherStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shop{breaks: map[string]int{"a": 1 << 30, "b": 1}}
		joins, alone := onceJoined(s)
		other := alone
		other.Name, other.On = "rent", denied
		for _, x := range []*Step[string, string]{&joins, &alone} {
			x.Compensate, x.Cancel = Compensation[string, string]{}, nil
		}
		kept := Retention{Flow: 100 * time.Hour}
		m := openMall(t, nil, joins, other, kept)
		m.hear("f", wanted.New("a"))
		synctest.Wait()
		m.hear("f", denied.New("b"))
		synctest.Wait()
		m.version(t, alone, other, kept)
		if p, tried, _ := m.o.store.Head("f"); p.At != "buy" || tried.Attempts != 1 || m.o.store.Waiting("f") != 2 {
			t.Fatalf("the head stands at %q with %+v", p.At, tried)
		}
		m.hear("f", regret.New("y"))
		synctest.Wait()
		if said := m.answers(); !slices.Equal(said, []string{`dropped of f: "y"`}) {
			t.Errorf("said is %v after %v", said, s.visits(""))
		}
		if p, tried, _ := m.o.store.Head("f"); p.At != "buy" || tried.Attempts != 1 || len(s.visits("buy a")) != 1 {
			t.Errorf("the head stands at %q with %+v after %v", p.At, tried, s.visits(""))
		}
	})
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

// placed is an event that the sample service's step hears.
func placed(t *testing.T, flow string) *kgo.Record {
	t.Helper()
	ev := cloudevent.Event{ID: "1", Source: "/x", Type: "test.placed.v1", CorrelationID: flow, Data: []byte("{}")}
	rec, err := ev.Record("orders")
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// An event that no step heard may be parked under another key than its flow, in
// another task. A step that a later version declares must not run there.
func TestAStepDoesNotRunInTheQueueOfAnotherKey(t *testing.T) {
	e, in := bareEngine(t)
	for key, want := range map[string]int{"flow": 1, "another key": 0} {
		r := e.resumed(in.owned, key, journal.Parked{Seq: 1, Record: placed(t, "flow")}, journal.Retry{})
		if got := len(r.hears.handlers); got != want {
			t.Errorf("in the queue of %q %d handlers hear it, want %d", key, got, want)
		}
	}
}

func TestTheLetterOfWhatIsNotHeardAnyMoreTellsHowOftenItWasTried(t *testing.T) {
	e, in := bareEngine(t)
	r := e.resumed(in.owned, "flow", journal.Parked{Seq: 1, At: "archive", Record: placed(t, "flow")}, journal.Retry{Seq: 1, Attempts: 3})
	if len(r.records) != 1 || string(header(r.records[0], "choreo-dlq-attempts")) != "3" {
		t.Errorf("letters %+v", r.records)
	}
	if r.attempt != 0 || len(r.hears.handlers) != 1 {
		t.Errorf("attempt %d of %d handlers follows", r.attempt, len(r.hears.handlers))
	}
}

func TestAQueueIsLeftAloneWhenItsTaskIsGoneOrTheServiceStops(t *testing.T) {
	e, in := bareEngine(t)
	o := in.owned
	if _, err := o.store.Park("f", journal.Parked{Record: &kgo.Record{Timestamp: time.Now()}}, time.Now()); err != nil {
		t.Fatal(err)
	}
	e.stopping.Store(true)
	x := &resumption{e: e, o: o, key: "f"}
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
