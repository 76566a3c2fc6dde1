package choreo_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/deadletter"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
)

var (
	jobLate  = choreo.Event[note]{Type: "test.job.late", Topic: "work"}
	retained = choreo.Retention{Flow: 48 * time.Hour}
)

// Late makes what a deadline of the worker's says.
func (w *worker) Late(ctx context.Context, j job) (note, error) {
	w.note("late %s", j.What)
	if w.fails("late") {
		return note{}, errNotYet
	}
	return note{j.ID, "late: " + j.What}, nil
}

// waits is a deadline of the worker's: a job is to be called off in time.
func (w *worker) waits(within time.Duration) choreo.Deadline[job, note] {
	return choreo.Deadline[job, note]{
		Name: "in-time", After: jobGiven, Within: choreo.Fixed[job](within), Unless: choreo.Events{calledOff, calledOff2},
		Do: w.Late, Emit: jobLate, Retry: soon,
	}
}

func startWaiting(t *testing.T, reg *prometheus.Registry, d ...choreo.Declaration) *choreotest.Service {
	t.Helper()
	return choreotest.Start(t, choreo.NewService("worker", append(d, choreo.Tasks(2), retained)...), choreotest.With(func(c *choreo.Config) {
		c.Registerer = reg
		c.Logger = slog.New(slog.DiscardHandler)
	}))
}

func TestADeadlineFiresOnce(t *testing.T) {
	w := &worker{}
	reg := prometheus.NewRegistry()
	another := w.waits(24 * time.Hour) // of the same flow, which waits on
	another.Name, another.Unless = "another", choreo.Events{jobDone}
	s := startWaiting(t, reg, w.waits(300*time.Millisecond), another)
	began := time.Now()
	given := s.Record("f", jobGiven.New(job{"f", "a"}))
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	given.Headers = append(given.Headers, kgo.RecordHeader{Key: "ce_traceparent", Value: []byte(parent)}, kgo.RecordHeader{Key: "ce_tracestate", Value: []byte("a=b")})
	cause, err := cloudevent.Read(given)
	if err != nil {
		t.Fatal(err)
	}
	s.PublishRecord(given)
	s.ExpectDeadline("f", "in-time", choreotest.DeadlinePending)
	awaitGauge(t, reg, "choreo_deadlines_pending", "in-time", 1)
	s.Publish("f", jobGiven.New(job{"f", "b"})) // leaves it as it is
	s.PublishRecord(given)
	s.Expect("f", jobLate.New(note{"f", "late: a"}))
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("it has fired after %v", took)
	}
	s.ExpectDeadline("f", "in-time", choreotest.DeadlineFired)
	s.Publish("f", jobGiven.New(job{"f", "c"}))
	s.Publish("f", calledOff.New(calloff{"f", "too late"}))
	s.ExpectNothingMore("f")
	s.ExpectDeadline("f", "in-time", choreotest.DeadlineFired)
	s.ExpectDeadline("f", "another", choreotest.DeadlinePending)
	said, _ := listen(t, s.Brokers(), "work").hear(1)
	ev := said[0]
	if ev.CausationID != cause.ID || ev.Hops != cause.Hops+1 || ev.Kind != cloudevent.KindExpired || ev.Step != "in-time" || ev.Attempt != 1 || ev.CorrelationID != "f" ||
		ev.TraceParent != parent || ev.TraceState != "a=b" || !ev.Started.Equal(cause.Time.Truncate(time.Millisecond)) || ev.Source != "/worker" {
		t.Errorf("it has said %+v, caused by %+v", ev, cause)
	}
	expectOnce(t, w, "late a")
	awaitGauge(t, reg, "choreo_deadlines_pending", "in-time", 0)
	for name, want := range map[string]float64{"choreo_deadlines_fired_total": 1, "choreo_deadlines_met_total": 0} {
		if n := counter(t, reg, name, "in-time"); n != want {
			t.Errorf("%s is %v, want %v", name, n, want)
		}
	}
}

func TestADeadlineFiresAtTheBoundOfAFlow(t *testing.T) {
	w := &worker{fail: map[string]int{"a": 1 << 30}}
	reg := prometheus.NewRegistry()
	s := startBounded(t, reg, 100, w.step(), rarely, w.waits(time.Second), retained)
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	s.ExpectStuck("f", "work")
	s.Publish("f", jobGiven.New(job{"f", "b"}))
	awaitGauge(t, reg, "choreo_in_flight_records", "", 1)
	s.Expect("f", jobLate.New(note{"f", "late: a"}))
}

func TestADeadlineThatIsMetDoesNotFire(t *testing.T) {
	for name, meet := range map[string]choreo.Emission{
		"by one":     calledOff.New(calloff{"f", "x"}),
		"by another": calledOff2.New(calloff{"f", "x"}),
	} {
		t.Run(name, func(t *testing.T) {
			w := &worker{}
			reg := prometheus.NewRegistry()
			second := w.waits(400 * time.Millisecond)
			second.Name = "fires-beside"
			second.Unless = choreo.Events{jobDone}
			s := startWaiting(t, reg, w.waits(200*time.Millisecond), second)
			s.Publish("f", jobGiven.New(job{"f", "a"}))
			s.Publish("f", meet)
			s.ExpectDeadline("f", "in-time", choreotest.DeadlineMet)
			s.Publish("f", jobGiven.New(job{"f", "b"}))
			s.Publish("f", meet)
			s.Expect("f", jobLate.New(note{"f", "late: a"})) // of the one beside it, which is due later
			s.ExpectNothingMore("f")
			if n := counter(t, reg, "choreo_deadlines_met_total", "in-time"); n != 1 {
				t.Errorf("met %v times", n)
			}
		})
	}
}

func TestADeadlineIsMetBeforeItIsSet(t *testing.T) {
	w := &worker{}
	s := startWaiting(t, nil, w.waits(time.Millisecond))
	s.Publish("f", calledOff.New(calloff{"f", "x"}))
	s.ExpectDeadline("f", "in-time", choreotest.DeadlineMet)
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	s.Publish("g", jobGiven.New(job{"g", "b"}))
	s.Expect("g", jobLate.New(note{"g", "late: b"}))
	s.ExpectNothingMore("f")
	s.ExpectDeadline("f", "in-time", choreotest.DeadlineMet)
	expectOnce(t, w, "late b")
}

// What has been heard and waits behind parked events has followed.
func TestADeadlineIsMetByWhatIsParked(t *testing.T) {
	w := &worker{fail: map[string]int{"a": 1 << 30}}
	reg := prometheus.NewRegistry()
	step := w.step()
	step.Compensate, step.Cancel, step.GiveUp = choreo.Compensation[job, work]{}, nil, choreo.Failure[job]{}
	parks(&step)
	s := startWaiting(t, reg, step, w.waits(700*time.Millisecond))
	for _, f := range []string{"f", "g"} {
		s.Publish(f, jobGiven.New(job{f, "a"}))
		s.ExpectDeadline(f, "in-time", choreotest.DeadlinePending) // though the step fails on the same event
	}
	s.Publish("f", calledOff.New(calloff{"f", "x"}))
	s.Publish("g", jobGiven.New(job{"g", "b"}))
	awaitGauge(t, reg, "choreo_parked_events", "", 2)
	s.Expect("g", jobLate.New(note{"g", "late: a"}))
	s.ExpectDeadline("f", "in-time", choreotest.DeadlineMet)
	w.heal("a")
	s.Expect("f", jobDone.New(work{"f", "a"}))
	s.Expect("g", jobDone.New(work{"g", "a"}), jobDone.New(work{"g", "b"}))
	s.ExpectNothingMore("f")
	if n := counter(t, reg, "choreo_deadlines_met_total", "in-time"); n != 1 {
		t.Errorf("met %v times", n)
	}
}

// A failing Do is tried again, and its flow goes on meanwhile: it may be met.
func TestADeadlineThatFailsIsRepeatedUntilItIsMet(t *testing.T) {
	w := &worker{fail: map[string]int{"late": 1 << 30}}
	reg := prometheus.NewRegistry()
	s := startWaiting(t, reg, w.waits(time.Millisecond), w.step())
	for _, f := range []string{"f", "g"} {
		s.Publish(f, jobGiven.New(job{f, f}))
		s.Expect(f, jobDone.New(work{f, f}))
	}
	w.awaitCalls(t, 5, "late f")
	w.awaitCalls(t, 5, "late g")
	awaitGauge(t, reg, "choreo_deadlines_failing", "", 2)
	eventually(t, "the oldest is overdue", func() error {
		if late := gauge(t, reg, "choreo_deadlines_overdue_seconds", ""); late < 0.1 {
			return fmt.Errorf("for %v s", late)
		}
		return nil
	})
	s.Publish("f", calledOff.New(calloff{"f", "x"}))
	s.Expect("f", jobUndone.New(note{"f", "undone: f"}))
	s.ExpectDeadline("f", "in-time", choreotest.DeadlineMet)
	awaitGauge(t, reg, "choreo_deadlines_failing", "", 1)
	w.heal("late")
	s.Expect("g", jobLate.New(note{"g", "late: g"}))
	s.ExpectNothingMore("f")
	s.ExpectNothingMore("g")
	said, _ := listen(t, s.Brokers(), "work").hear(4)
	if ev := said[3]; ev.Type != jobLate.Type || ev.Attempt < 6 || ev.Began.IsZero() || !ev.Time.After(ev.Began) {
		t.Errorf("said at attempt %d, from %v to %v", ev.Attempt, ev.Began, ev.Time)
	}
	for _, name := range []string{"choreo_deadlines_failing", "choreo_deadlines_overdue_seconds"} {
		awaitGauge(t, reg, name, "", 0)
	}
}

func TestADeadlineThatCannotBeSetIsADeadLetter(t *testing.T) {
	for name, within := range map[string]func(job) time.Duration{
		"zero":     func(job) time.Duration { return 0 },
		"negative": func(job) time.Duration { return -time.Second },
		"overflow": func(job) time.Duration { return 1<<63 - 1 },
		"panic":    func(job) time.Duration { panic("no") },
	} {
		t.Run(name, func(t *testing.T) {
			w := &worker{}
			d := w.waits(0)
			d.Within = choreo.Per(func(j job) time.Duration {
				if j.What == "good" {
					return time.Millisecond
				}
				return within(j)
			})
			s := startWaiting(t, nil, d)
			s.Publish("f", jobGiven.New(job{"f", "bad"}))
			letter := s.ExpectDeadLetter("f")
			if letter.Header(deadletter.HeaderReason) != "bad_deadline" || letter.Header(deadletter.HeaderStep) != "in-time" {
				t.Errorf("dead letter of %q because of %q", letter.Header(deadletter.HeaderStep), letter.Header(deadletter.HeaderReason))
			}
			s.Publish("f", jobGiven.New(job{"f", "good"})) // is the first that sets it
			s.Expect("f", jobLate.New(note{"f", "late: good"}))
			s.ExpectNothingMore("f")
		})
	}
	w := &worker{}
	s := startWaiting(t, nil, w.waits(time.Millisecond))
	rec := s.Record("f", jobGiven.New(job{"f", "a"}))
	rec.Value = []byte("{")
	s.PublishRecord(rec)
	if letter := s.ExpectDeadLetter("f"); letter.Header(deadletter.HeaderReason) != "undecodable" {
		t.Errorf("dead letter because of %q", letter.Header(deadletter.HeaderReason))
	}
	s.ExpectNothingMore("f")
}

// listener hears what a topic says from its start.
type listener struct {
	t  *testing.T
	cl *kgo.Client
}

func listen(t *testing.T, brokers []string, topic string) *listener {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return &listener{t, cl}
}

func (l *listener) say(svc *choreo.Service, flow string, em choreo.Emission) {
	l.t.Helper()
	rec, err := svc.Encode(flow, em)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := l.cl.ProduceSync(l.t.Context(), rec).FirstErr(); err != nil {
		l.t.Fatal(err)
	}
}

// hear returns n events, and the times at which they came.
func (l *listener) hear(n int) (events []cloudevent.Event, at []time.Time) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 15*time.Second)
	defer cancel()
	for len(events) < n {
		fs := l.cl.PollFetches(ctx)
		if ctx.Err() != nil {
			l.t.Fatalf("heard only %d of %d", len(events), n)
		}
		for _, rec := range fs.Records() {
			ev, err := cloudevent.Read(rec)
			if err != nil {
				l.t.Fatal(err)
			}
			events, at = append(events, ev), append(at, time.Now())
		}
	}
	return events, at
}

// Deadlines outlive the process that has set them. Those that were due meanwhile
// fire at once, the others at their time, and none twice.
func TestDeadlinesOutliveAKill(t *testing.T) {
	brokers := broker(t)
	service := func() *choreo.Service {
		w := &worker{}
		d := w.waits(0)
		d.Within = choreo.Per(func(j job) time.Duration {
			in, err := time.ParseDuration(j.What)
			if err != nil {
				panic(err)
			}
			return in
		})
		return choreo.NewService("worker", choreo.Tasks(1), d)
	}
	svc := service()
	createTopics(t, svc, configFor(brokers, "x"))
	first := runProcess(t, svc, brokers)
	l := listen(t, brokers, "work")
	began := time.Now()
	for flow, in := range map[string]string{"fired": "1ms", "overdue": "1500ms", "later": "4s", "met": "1500ms"} {
		l.say(svc, flow, jobGiven.New(job{flow, in}))
	}
	if said, _ := l.hear(1); said[0].CorrelationID != "fired" {
		t.Errorf("%s was the first", said[0].CorrelationID)
	}
	awaitGauge(t, first.reg, "choreo_deadlines_pending", "in-time", 3)
	l.say(svc, "met", calledOff.New(calloff{"met", "x"}))
	awaitGauge(t, first.reg, "choreo_deadlines_pending", "in-time", 2)
	awaitGauge(t, first.reg, "choreo_in_flight_records", "", 0) // that it was met is committed
	first.plug.pull()
	<-time.After(time.Until(began.Add(1700 * time.Millisecond))) // the time of a deadline passes while nobody runs
	runProcess(t, service(), brokers)
	ready := time.Now()
	said, at := l.hear(2)
	if said[0].CorrelationID != "overdue" || said[1].CorrelationID != "later" {
		t.Errorf("%s and %s have fired", said[0].CorrelationID, said[1].CorrelationID)
	}
	// A busy machine may take longer than the second that is promised, which
	// TestDeadlinesComeInTimeAfterAKill asks for.
	if late := at[0].Sub(ready); late > 5*time.Second {
		t.Errorf("what was overdue has fired %v after the recovery", late)
	}
	if after := at[1].Sub(began); after < 4*time.Second || after > 9*time.Second {
		t.Errorf("what was due after 4 s has fired after %v", after)
	}
	l.say(svc, "last", jobGiven.New(job{"last", "1ms"}))
	if said, _ := l.hear(1); said[0].CorrelationID != "last" {
		t.Errorf("%s has fired again", said[0].CorrelationID)
	}
}

// Whatever the timing, a deadline and what it waits for come to one end: met and
// silent, or fired and said.
func TestADeadlineAndWhatMeetsItRace(t *testing.T) {
	const rounds = 60
	w := &worker{}
	reg := prometheus.NewRegistry()
	s := startWaiting(t, reg, w.waits(20*time.Millisecond))
	given := func(flow string) { s.Publish(flow, jobGiven.New(job{flow, "a"})) }
	off := func(flow string) { s.Publish(flow, calledOff.New(calloff{flow, "x"})) }
	ended := func(flow string) (status choreotest.DeadlineStatus) {
		eventually(t, "it has ended", func() error {
			if status = s.Deadline(flow, "in-time"); status != choreotest.DeadlineFired && status != choreotest.DeadlineMet {
				return errNotYet
			}
			return nil
		})
		return status
	}
	count := map[choreotest.DeadlineStatus]int{}
	wait := 20 * time.Millisecond // is led to where the two meet
	for k := range rounds {
		flow := fmt.Sprint("f", k)
		var want choreotest.DeadlineStatus
		switch k % 6 {
		case 0:
			want = choreotest.DeadlineFired
			given(flow)
			ended(flow)
			off(flow)
		case 3:
			want = choreotest.DeadlineMet
			off(flow)
			ended(flow)
			given(flow)
		default:
			race := time.After(wait)
			given(flow)
			<-race
			off(flow)
			if want = ended(flow); want == choreotest.DeadlineFired {
				wait = max(0, wait-time.Millisecond)
			} else {
				wait += time.Millisecond
			}
		}
		s.ExpectDeadline(flow, "in-time", want)
		count[want]++
	}
	for k := range rounds {
		flow := fmt.Sprint("f", k)
		if s.Deadline(flow, "in-time") == choreotest.DeadlineFired {
			s.ExpectTypes(flow, jobLate.Type)
		}
		s.ExpectNothingMore(flow)
	}
	fired, met := count[choreotest.DeadlineFired], count[choreotest.DeadlineMet]
	t.Logf("%d fired, %d met", fired, met)
	if fired < rounds/6 || met < rounds/6 || fired+met != rounds {
		t.Errorf("of %d deadlines %d have fired and %d were met", rounds, fired, met)
	}
	if a, b := counter(t, reg, "choreo_deadlines_fired_total", "in-time"), counter(t, reg, "choreo_deadlines_met_total", "in-time"); int(a) != fired || int(b) != met {
		t.Errorf("counted are %v and %v", a, b)
	}
}

// counter reads one metric that counts.
func counter(t *testing.T, reg *prometheus.Registry, name, step string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (len(m.GetLabel()) == 0 || m.GetLabel()[0].GetValue() == step) {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}
