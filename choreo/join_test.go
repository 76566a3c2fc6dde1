package choreo_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
)

// parcel is a job that was packed: what a step joins.
type parcel struct {
	Job    job
	Packed note
}

var (
	packed  = choreo.Event[note]{Type: "test.packed", Topic: "packed"}
	paidFor = choreo.Event[note]{Type: "test.paid.for", Topic: "paid"}

	given   = func(flow, what string) choreo.Emission { return jobGiven.New(job{flow, what}) }
	isReady = func(flow, text string) choreo.Emission { return packed.New(note{flow, text}) }
	offNow  = calledOff.New(calloff{"f", "rain"})
)

func joinUp(j job, n note) parcel { return parcel{j, n} }

// job is the job that the worker knows the parcel as.
func (p parcel) job() job { return job{p.Job.ID, p.Job.What + "+" + p.Packed.Text} }

// sends is a step of the worker's that joins.
func (w *worker) sends() choreo.Step[parcel, work] {
	return choreo.Step[parcel, work]{
		Name: "send", On: choreo.Both(jobGiven, packed, joinUp), Emit: jobDone,
		Do: func(ctx context.Context, p parcel) (work, error) { return w.Do(ctx, p.job()) },
		Compensate: choreo.Undo(func(ctx context.Context, p parcel, done work) (note, error) { return w.Undo(ctx, p.job(), done) }, jobUndone, calledOff, calledOff2).
			Unknown(func(ctx context.Context, p parcel) error { return w.Unknown(ctx, p.job()) }),
		Cancel: []choreo.Cancellation{choreo.CancelOn(calledOff, dropped, jobDropped)},
		Retry:  quickly,
	}
}

func startSending(t *testing.T, w *worker, reg *prometheus.Registry, change func(*choreo.Step[parcel, work]), d ...choreo.Declaration) *choreotest.Service {
	t.Helper()
	s := w.sends()
	if change != nil {
		change(&s)
	}
	return choreotest.Start(t, choreo.NewService("worker", append(d, s, choreo.Tasks(2))...), choreotest.With(func(c *choreo.Config) { c.Registerer = reg }))
}

// parksJoined parks after the first attempt, and goes on for long.
func parksJoined(s *choreo.Step[parcel, work]) { s.Retry = soon }

// with sets an attribute of an event that was said elsewhere.
func with(rec *kgo.Record, name, value string) *kgo.Record {
	rec.Headers = slices.DeleteFunc(rec.Headers, func(h kgo.RecordHeader) bool { return h.Key == "ce_"+name })
	rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: "ce_" + name, Value: []byte(value)})
	return rec
}

func TestAJoinRunsOnceWhenAllHasCome(t *testing.T) {
	ids := map[string]string{}
	for _, order := range []string{"given first", "packed first"} {
		t.Run(order, func(t *testing.T) {
			w := &worker{}
			reg := prometheus.NewRegistry()
			s := startSending(t, w, reg, nil)
			started := time.UnixMilli(1_700_000_000_000)
			halves := []*kgo.Record{
				with(with(with(s.Record("f", given("f", "a")), "id", "g"), "choreohops", "3"), "choreostarted", fmt.Sprint(started.UnixMilli()+5)),
				with(with(with(s.Record("f", isReady("f", "x")), "id", "p"), "choreohops", "7"), "choreostarted", fmt.Sprint(started.UnixMilli())),
			}
			names := []string{"g", "p"}
			if order == "packed first" {
				slices.Reverse(halves)
				slices.Reverse(names)
			}
			s.PublishRecord(halves[0])
			s.ExpectJoin("f", "send", choreotest.JoinWaiting)
			awaitGauge(t, reg, "choreo_joins_waiting", "send", 1)
			s.PublishRecord(halves[0])
			s.ExpectNothingMore("f")
			eventually(t, "its age shows", func() error {
				if age := gauge(t, reg, "choreo_joins_oldest_seconds", "send"); age <= 0 || age > 60 {
					return fmt.Errorf("it is %v s", age)
				}
				return nil
			})
			s.PublishRecord(halves[1])
			s.Expect("f", jobDone.New(work{"f", "a+x"}))
			s.ExpectJoin("f", "send", choreotest.JoinDone)
			for _, h := range halves {
				s.PublishRecord(h)
			}
			s.ExpectNothingMore("f")
			expectCalls(t, w, "do a+x")
			awaitGauge(t, reg, "choreo_joins_waiting", "send", 0)
			awaitGauge(t, reg, "choreo_joins_oldest_seconds", "send", 0)
			said, _ := listen(t, s.Brokers(), "work").hear(1)
			ev := said[0]
			if ev.CausationID != names[1] || !slices.Equal(ev.CausationIDs, names) || ev.Hops != 8 || !ev.Started.Equal(started) || ev.Step != "send" || ev.Kind != cloudevent.KindDid {
				t.Errorf("it has said %+v", ev)
			}
			ids[order] = ev.ID
			if n := counter(t, reg, "choreo_join_surplus_total", "send"); n != 0 {
				t.Errorf("%v duplicates count as further events", n)
			}
		})
	}
	if ids["given first"] != ids["packed first"] || ids["given first"] == "" {
		t.Errorf("the ids of what is said depend on the order of the halves: %v", ids)
	}
}

func TestAJoinOfThree(t *testing.T) {
	w := &worker{}
	type all struct{ Given, Packed, Paid string }
	s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(2), choreo.Step[all, work]{
		Name: "send", Emit: jobDone,
		On: choreo.All3(jobGiven, packed, paidFor, func(j job, p, m note) all { return all{j.What, p.Text, m.Text} }),
		Do: func(ctx context.Context, a all) (work, error) {
			return w.Do(ctx, job{"f", a.Given + "+" + a.Packed + "+" + a.Paid})
		},
	}))
	halves := func(flow string) []choreo.Emission {
		return []choreo.Emission{given(flow, "a"), isReady(flow, "x"), paidFor.New(note{flow, "m"})}
	}
	for n, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		flow := fmt.Sprint("f", n)
		for k, i := range order {
			s.Publish(flow, halves(flow)[i])
			if k < 2 {
				s.ExpectNothingMore(flow)
			}
		}
		s.Expect(flow, jobDone.New(work{"f", "a+x+m"}))
		s.ExpectNothingMore(flow)
	}
}

// Of each half the first event counts; further ones are passed over, also after
// the step ran.
func TestOfEachHalfTheFirstEventCounts(t *testing.T) {
	w := &worker{}
	reg := prometheus.NewRegistry()
	s := startSending(t, w, reg, nil)
	s.Publish("f", given("f", "a"))
	s.Publish("f", given("f", "b"))
	s.ExpectNothingMore("f")
	s.Publish("f", isReady("f", "x"))
	s.Expect("f", jobDone.New(work{"f", "a+x"}))
	s.Publish("f", isReady("f", "y"))
	s.Publish("f", given("f", "c"))
	s.ExpectNothingMore("f")
	expectCalls(t, w, "do a+x")
	if n := counter(t, reg, "choreo_join_surplus_total", "send"); n != 3 {
		t.Errorf("%v were counted", n)
	}
}

func TestAHalfMayHaveVersions(t *testing.T) {
	w := &worker{}
	s := startSending(t, w, nil, func(s *choreo.Step[parcel, work]) {
		s.On = choreo.Both(
			choreo.AnyOf(jobGiven, choreo.Upcast(jobGivenOld, func(what string) job { return job{"f", "old " + what} })), packed, joinUp)
	})
	s.Publish("f", jobGivenOld.New("a"))
	s.Publish("f", given("f", "b")) // the half has come
	s.Publish("f", isReady("f", "x"))
	s.Expect("f", jobDone.New(work{"f", "old a+x"}))
	s.Publish("f", offNow)
	s.Expect("f", jobUndone.New(note{"f", "undone: old a+x"}))
	s.ExpectNothingMore("f")
}

// Halves on topics of different numbers of partitions meet in the flow's task.
func TestHalvesFromAnyPartitionMeet(t *testing.T) {
	w := &worker{}
	s := startSending(t, w, nil, nil, choreo.Topic{Name: "packed", Partitions: 5})
	for n := range 8 {
		flow := fmt.Sprint("f", n)
		s.Publish(flow, isReady(flow, "x"))
		s.Publish(flow, given(flow, "a"))
		s.Expect(flow, jobDone.New(work{flow, "a+x"}))
		s.ExpectNothingMore(flow)
	}
}

// What has come outlives the process: halves that wait, and those of a run that is
// to be undone.
func TestJoinsOutliveAKill(t *testing.T) {
	brokers := broker(t)
	service := func() *choreo.Service {
		w := &worker{}
		return choreo.NewService("worker", choreo.Tasks(1), w.sends())
	}
	svc := service()
	createTopics(t, svc, configFor(brokers, "x"))
	first := runProcess(t, svc, brokers)
	l := listen(t, brokers, "work")
	for _, flow := range []string{"done", "waits"} {
		l.say(svc, flow, given(flow, "a"))
	}
	l.say(svc, "done", isReady("done", "x"))
	l.hear(1)
	awaitGauge(t, first.reg, "choreo_joins_waiting", "send", 1)
	first.plug.pull()
	second := runProcess(t, service(), brokers)
	awaitGauge(t, second.reg, "choreo_joins_waiting", "send", 1)
	l.say(svc, "waits", isReady("waits", "y"))
	l.say(svc, "done", calledOff.New(calloff{"done", "rain"}))
	var got []string
	said, _ := l.hear(2)
	for _, ev := range said {
		got = append(got, ev.CorrelationID+" "+string(ev.Data))
	}
	slices.Sort(got)
	if want := []string{`done {"ID":"done","Text":"undone: a+x"}`, `waits {"ID":"waits","By":"a+y"}`}; !slices.Equal(got, want) {
		t.Errorf("said is %q, want %q", got, want)
	}
	awaitGauge(t, second.reg, "choreo_joins_waiting", "send", 0)
}

// A version that hears one of the halves alone goes on with what has waited for the
// other one.
func TestAStepThatDoesNotJoinAnyMore(t *testing.T) {
	brokers := broker(t)
	svc := choreo.NewService("worker", choreo.Tasks(1), (&worker{}).sends())
	createTopics(t, svc, configFor(brokers, "x"))
	first := runProcess(t, svc, brokers)
	l := listen(t, brokers, "work")
	l.say(svc, "f", given("f", "a"))
	awaitGauge(t, first.reg, "choreo_joins_waiting", "send", 1)
	first.plug.pull()
	alone := (&worker{}).step()
	alone.Name = "send"
	runProcess(t, choreo.NewService("worker", choreo.Tasks(1), alone), brokers)
	said, _ := l.hear(1)
	if ev := said[0]; ev.Type != jobDone.Type || string(ev.Data) != `{"ID":"f","By":"a"}` || len(ev.CausationIDs) != 0 {
		t.Errorf("it has said %s %s", ev.Type, ev.Data)
	}
}

func TestAJoinedRunThatFailsIsParked(t *testing.T) {
	w := &worker{fail: map[string]int{"a+x": 1 << 30}}
	reg := prometheus.NewRegistry()
	s := startSending(t, w, reg, parksJoined)
	s.Publish("f", isReady("f", "x"))
	s.Publish("f", given("f", "a"))
	awaitGauge(t, reg, "choreo_parked_events", "send", 1)
	s.ExpectJoin("f", "send", choreotest.JoinDone)
	awaitGauge(t, reg, "choreo_joins_waiting", "send", 0) // it does not wait for another event
	s.Publish("f", isReady("f", "y"))
	s.Publish("f", given("f", "b"))
	awaitGauge(t, reg, "choreo_parked_events", "", 2)
	w.awaitCalls(t, 5, "do a+x")
	w.heal("a+x")
	s.Expect("f", jobDone.New(work{"f", "a+x"}))
	s.ExpectNothingMore("f")
	expectOnce(t, w, "do a+x")
	said, _ := listen(t, s.Brokers(), "work").hear(1)
	if ev := said[0]; len(ev.CausationIDs) != 2 || ev.CausationIDs[1] != ev.CausationID || ev.Attempt < 6 {
		t.Errorf("it has said %+v", ev)
	}
}

// A compensation comes before, between and after the halves, and while the
// attempts at the joined run are parked.
func TestBarrierOfAJoin(t *testing.T) {
	noUnknown := func(w *worker, s *choreo.Step[parcel, work]) {
		s.Compensate = choreo.Undo(func(ctx context.Context, p parcel, done work) (note, error) { return w.Undo(ctx, p.job(), done) }, jobUndone, calledOff)
	}
	pivot := func(_ *worker, s *choreo.Step[parcel, work]) {
		s.Pivot, s.Compensate = true, choreo.Compensation[parcel, work]{}
	}
	off2 := calledOff2.New(calloff{"f", "snow"})
	isDropped, isUndone := jobDropped.New(note{"f", "dropped: rain"}), jobUndone.New(note{"f", "undone: a+x"})
	isDone := jobDone.New(work{"f", "a+x"})
	a, x := given("f", "a"), isReady("f", "x")
	for name, c := range map[string]struct {
		change func(*worker, *choreo.Step[parcel, work])
		events []choreo.Emission
		says   []choreo.Emission
		calls  []string
		ends   choreotest.JoinStatus
	}{
		"before both":             {nil, []choreo.Emission{offNow, a, x}, []choreo.Emission{isDropped}, []string{"unknown a+x"}, choreotest.JoinCancelled},
		"between":                 {nil, []choreo.Emission{a, offNow, x}, []choreo.Emission{isDropped}, []string{"unknown a+x"}, choreotest.JoinCancelled},
		"between, other":          {nil, []choreo.Emission{x, offNow, a, a, x}, []choreo.Emission{isDropped}, []string{"unknown a+x"}, choreotest.JoinCancelled},
		"after both":              {nil, []choreo.Emission{a, x, offNow, offNow, isReady("f", "y")}, []choreo.Emission{isDone, isUndone}, []string{"do a+x", "undo a+x"}, choreotest.JoinCancelled},
		"before both, no Unknown": {noUnknown, []choreo.Emission{offNow, a, x}, []choreo.Emission{isDropped}, nil, ""},
		"between, no Unknown":     {noUnknown, []choreo.Emission{a, offNow, x}, []choreo.Emission{isDropped}, nil, choreotest.JoinCancelled},
		"after both, no Unknown":  {noUnknown, []choreo.Emission{a, x, offNow}, []choreo.Emission{isDone, isUndone}, []string{"do a+x", "undo a+x"}, choreotest.JoinCancelled},
		"in silence":              {nil, []choreo.Emission{a, off2, x}, nil, []string{"unknown a+x"}, choreotest.JoinCancelled},
		"a pivot before both":     {pivot, []choreo.Emission{offNow, a, x}, []choreo.Emission{isDropped}, nil, ""},
		"a pivot between":         {pivot, []choreo.Emission{a, offNow, x}, []choreo.Emission{isDropped}, nil, choreotest.JoinCancelled},
		"a pivot after both":      {pivot, []choreo.Emission{a, x, offNow}, []choreo.Emission{isDone}, []string{"do a+x"}, choreotest.JoinDone},
	} {
		t.Run(name, func(t *testing.T) {
			w := &worker{}
			reg := prometheus.NewRegistry()
			s := startSending(t, w, reg, func(s *choreo.Step[parcel, work]) {
				if c.change != nil {
					c.change(w, s)
				}
			})
			for _, e := range c.events {
				s.Publish("f", e)
				s.ExpectNothingMore("nobody") // it is worked on
			}
			s.Expect("f", c.says...)
			s.ExpectNothingMore("f")
			s.ExpectJoin("f", "send", c.ends)
			expectOnce(t, w, c.calls...)
			awaitGauge(t, reg, "choreo_joins_waiting", "send", 0)
		})
	}
}
