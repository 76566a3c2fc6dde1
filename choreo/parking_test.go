package choreo_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/internal/txn"
	"github.com/choreography-go/choreography/choreo/operator"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// soon parks after the first attempt, and goes on for long.
var soon = choreo.Retry{Attempts: 100_000, InPlace: 1, First: time.Millisecond, Max: 2 * time.Millisecond}

func parks(s *choreo.Step[job, work]) { s.Retry = soon }

// outside says events of flow f to a worker that runs as a process, and hears
// what it says.
type outside struct {
	t   *testing.T
	cl  *kgo.Client
	svc *choreo.Service // any of the same declarations
}

func newOutside(t *testing.T, svc *choreo.Service, brokers []string) *outside {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics("work"), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return &outside{t, cl, svc}
}

func (o *outside) say(e choreo.Emission) {
	o.t.Helper()
	rec, err := o.svc.Encode("f", e)
	if err != nil {
		o.t.Fatal(err)
	}
	if err := o.cl.ProduceSync(o.t.Context(), rec).FirstErr(); err != nil {
		o.t.Fatal(err)
	}
}

// hear waits for so many events, and shows each.
func (o *outside) hear(n int, show func(choreo.Emission, cloudevent.Event) string) (said []string) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), 15*time.Second)
	defer cancel()
	for len(said) < n {
		fs := o.cl.PollFetches(ctx)
		if ctx.Err() != nil {
			o.t.Fatalf("said was only %v", said)
		}
		for _, rec := range fs.Records() {
			em, ev, err := o.svc.Decode(rec)
			if err != nil {
				o.t.Fatal(err)
			}
			said = append(said, show(em, ev))
		}
	}
	return said
}

// heal ends what fails from now on.
func (w *worker) heal(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.fail, what)
}

// count is how often a call was made.
func (w *worker) count(call string) (n int) {
	for _, c := range w.called() {
		if c == call {
			n++
		}
	}
	return n
}

// once is the calls without those that repeat the one before.
func (w *worker) once() []string { return slices.Compact(w.called()) }

func (w *worker) awaitCalls(t *testing.T, n int, call string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%q was called %d times", call, n), func() error {
		if got := w.count(call); got < n {
			return fmt.Errorf("%d times", got)
		}
		return nil
	})
}

func expectOnce(t *testing.T, w *worker, want ...string) {
	t.Helper()
	if got := w.once(); !slices.Equal(got, want) {
		t.Errorf("the domain was called with %q, want %q", got, want)
	}
}

// gauge reads one metric.
func gauge(t *testing.T, reg *prometheus.Registry, name, step string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (len(m.GetLabel()) == 0 || m.GetLabel()[0].GetValue() == step) {
				return m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

func awaitGauge(t *testing.T, reg *prometheus.Registry, name, step string, want float64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s{%s} is %v", name, step, want), func() error {
		if got := gauge(t, reg, name, step); got != want {
			return fmt.Errorf("it is %v", got)
		}
		return nil
	})
}

func startParking(t *testing.T, w *worker, reg *prometheus.Registry, change ...func(*choreo.Step[job, work])) *choreotest.Service {
	t.Helper()
	s := w.step()
	for _, c := range append([]func(*choreo.Step[job, work]){parks}, change...) {
		c(&s)
	}
	return choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(2), s), choreotest.With(func(c *choreo.Config) {
		c.Registerer = reg
		c.Logger = slog.New(slog.DiscardHandler)
	}))
}

func TestParkedEventsKeepTheOrderOfTheirKeyAndLetOthersPass(t *testing.T) {
	w := &worker{fail: map[string]int{"a": 1 << 30}}
	reg := prometheus.NewRegistry()
	s := startParking(t, w, reg)
	for _, what := range []string{"a", "b", "refuse", "c"} {
		s.Publish("f", jobGiven.New(job{"f", what}))
	}
	s.Publish("g", jobGiven.New(job{"g", "d"}))
	s.Expect("g", jobDone.New(work{"g", "d"}))
	awaitGauge(t, reg, "choreo_parked_events", "", 3)
	awaitGauge(t, reg, "choreo_parked_events", "work", 1)
	awaitGauge(t, reg, "choreo_in_flight_records", "", 0) // nothing of it waits in memory
	if n := gauge(t, reg, "choreo_parked_flows", ""); n != 1 {
		t.Errorf("events of %v flows are parked", n)
	}
	eventually(t, "the oldest is a second old", func() error {
		if gauge(t, reg, "choreo_parked_oldest_seconds", "") < 1 {
			return errors.New("it is not")
		}
		return nil
	})
	w.awaitCalls(t, 10, "do a")
	if n := w.count("do b") + w.count("do c"); n > 0 {
		t.Errorf("%d later events have not waited", n)
	}
	w.heal("a")
	s.Expect("f", jobDone.New(work{"f", "a"}), jobDone.New(work{"f", "b"}), jobRefused.New(note{"f", "not-mine"}), jobDone.New(work{"f", "c"}))
	s.ExpectNothingMore("f")
	for _, name := range []string{"choreo_parked_events", "choreo_parked_flows", "choreo_parked_oldest_seconds"} {
		if n := gauge(t, reg, name, ""); n != 0 {
			t.Errorf("%s is %v after all", name, n)
		}
	}
}

// Of the handlers of one event those before the failing one are done, and those
// after it have their turn when it has succeeded.
func TestAParkedEventGoesOnWithItsLaterHandlers(t *testing.T) {
	w := &worker{fail: map[string]int{"a": 20}}
	var reacted sync.Map
	react := func(name string) choreo.Reaction[job] {
		return choreo.Reaction[job]{Name: name, On: jobGiven, Do: func(_ context.Context, j job) (choreo.Emissions, error) {
			n, _ := reacted.LoadOrStore(name+" "+j.What, 0)
			reacted.Store(name+" "+j.What, n.(int)+1)
			return nil, nil
		}}
	}
	st := &choreo.State[tally]{Name: "tally", When: []choreo.Transition[tally]{choreo.When(jobGiven, func(v *tally, _ job) { v.Given++ })}}
	step := w.step()
	parks(&step)
	s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(1), react("before"), step, react("after"), st))
	for _, what := range []string{"a", "b"} {
		s.Publish("f", jobGiven.New(job{"f", what}))
	}
	s.Expect("f", jobDone.New(work{"f", "a"}), jobDone.New(work{"f", "b"}))
	s.ExpectNothingMore("f")
	for _, name := range []string{"before a", "after a", "before b", "after b"} {
		if n, _ := reacted.Load(name); n != 1 {
			t.Errorf("%q has run %v times", name, n)
		}
	}
	if v, err := st.Get(t.Context(), "f"); err != nil || v.Given != 2 {
		t.Errorf("the state has counted %+v, %v", v, err)
	}
}

func TestAParkedReactionKeepsTheOrderOfItsKey(t *testing.T) {
	var mu sync.Mutex
	fails := 20
	s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(1), choreo.Reaction[job]{
		Name: "echo", On: jobGiven, Emits: choreo.Events{jobDone}, Retry: soon,
		Do: func(_ context.Context, j job) (choreo.Emissions, error) {
			mu.Lock()
			defer mu.Unlock()
			if fails--; j.What == "a" && fails > 0 {
				return nil, errNotYet
			}
			return choreo.Emit(jobDone.New(work{j.ID, j.What})), nil
		},
	}))
	for _, what := range []string{"a", "b", "c"} {
		rec := s.Record("f", jobGiven.New(job{"f", what}))
		rec.Key = []byte("key of another kind")
		s.PublishRecord(rec)
	}
	s.Expect("f", jobDone.New(work{"f", "a"}), jobDone.New(work{"f", "b"}), jobDone.New(work{"f", "c"}))
	s.ExpectNothingMore("f")
}

func TestAParkedEventIsGivenUpAfterAllItsAttempts(t *testing.T) {
	w := &worker{fail: map[string]int{"a": 1 << 30}}
	s := startParking(t, w, nil, func(s *choreo.Step[job, work]) { s.Retry.Attempts = 7; s.Retry.InPlace = 2 })
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	s.Publish("f", jobGiven.New(job{"f", "b"}))
	s.Expect("f", jobGivenUp.New(note{"f", "gave up"}), jobDone.New(work{"f", "b"}))
	s.ExpectNothingMore("f")
	if n := w.count("do a"); n != 7 {
		t.Errorf("%d attempts, want 7", n)
	}
	// used up, without GiveUp, it is a dead letter that tells where it came from
	w = &worker{fail: map[string]int{"a": 1 << 30}}
	s = startParking(t, w, nil, func(s *choreo.Step[job, work]) {
		s.Retry.Attempts = 4
		s.GiveUp, s.Compensate, s.Cancel = choreo.Failure[job]{}, choreo.Compensation[job, work]{}, nil
	})
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	d := s.ExpectDeadLetter("f")
	if d.Header("choreo-dlq-attempts") != "4" || !strings.HasPrefix(d.Header("choreo-dlq-origin"), "jobs/") || !strings.HasSuffix(d.Header("choreo-dlq-origin"), "/0") {
		t.Errorf("dead letter after %s attempts from %s", d.Header("choreo-dlq-attempts"), d.Header("choreo-dlq-origin"))
	}
	s.ExpectNothingMore("f")
}

// plug is the network of one process: pulled, it ends as if the process did.
type plug struct {
	mu     sync.Mutex
	conns  []net.Conn
	pulled bool
}

func (p *plug) dial(ctx context.Context, network, host string) (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pulled {
		return nil, errors.New("pulled")
	}
	c, err := new(net.Dialer).DialContext(ctx, network, host)
	if err == nil {
		p.conns = append(p.conns, c)
	}
	return c, err
}

func (p *plug) pull() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pulled = true
	for _, c := range p.conns {
		_ = c.Close()
	}
}

// process is one that can be killed.
type process struct {
	*instance
	plug plug
	reg  *prometheus.Registry
}

func runProcess(t *testing.T, svc *choreo.Service, brokers []string, change ...func(*choreo.Config)) *process {
	t.Helper()
	p := &process{reg: prometheus.NewRegistry()}
	cfg := configFor(brokers, "a")
	cfg.ClientOptions = []kgo.Opt{kgo.Dialer(p.plug.dial)}
	cfg.Registerer, cfg.StopTimeout = p.reg, time.Second
	for _, c := range change {
		c(&cfg)
	}
	p.instance = runInstance(t, svc, cfg)
	p.awaitReady(t, svc)
	return p
}

func TestAttemptsAreCountedOnOverAKill(t *testing.T) {
	brokers := broker(t)
	var mu sync.Mutex
	var attempts [2][]int // of each process
	service := func(process int) *choreo.Service {
		w := &worker{}
		s := w.step()
		s.Retry = choreo.Retry{Attempts: 9, InPlace: 2, First: time.Millisecond, Max: 20 * time.Millisecond}
		s.Do = func(ctx context.Context, j job) (work, error) {
			if j.What == "b" {
				return work{j.ID, j.What}, nil
			}
			n := choreo.Meta(ctx).Attempt
			mu.Lock()
			attempts[process] = append(attempts[process], n)
			mu.Unlock()
			if process == 0 && n >= 5 {
				<-ctx.Done() // it is killed meanwhile
			}
			return work{}, errNotYet
		}
		return choreo.NewService("worker", choreo.Tasks(1), s)
	}
	svc := service(0)
	createTopics(t, svc, configFor(brokers, "x"))
	first := runProcess(t, svc, brokers)
	outside := newOutside(t, svc, brokers)
	outside.say(jobGiven.New(job{"f", "a"}))
	outside.say(jobGiven.New(job{"f", "b"}))
	eventually(t, "four attempts are committed", func() error {
		var j operator.Journal
		for _, rec := range readToEnd(t, brokers, "worker.journal") {
			j.Apply(rec)
		}
		if stuck := j.Stuck(time.Now()); len(stuck) != 1 || stuck[0].Attempts != 4 {
			return fmt.Errorf("stuck are %+v", stuck)
		}
		return nil
	})
	first.plug.pull()
	runProcess(t, service(1), brokers)
	said := outside.hear(2, func(em choreo.Emission, ev cloudevent.Event) string { return fmt.Sprintf("%s %d", em.Type, ev.Attempt) })
	if got := fmt.Sprint(said); got != "[test.job.givenup 9 test.job.done 1]" {
		t.Errorf("said was %s", got)
	}
	mu.Lock()
	defer mu.Unlock()
	// The fifth attempt of the first process was never committed, so it is made again.
	if !slices.Equal(attempts[1], []int{5, 6, 7, 8, 9}) {
		t.Errorf("after the attempts %v, of which four were committed, the second process made %v", attempts[0], attempts[1])
	}
}

// Case 4: the compensation comes while the step's attempts are parked.
func TestBarrierCase4(t *testing.T) {
	given := func(f, what string) choreo.Emission { return jobGiven.New(job{f, what}) }
	for name, c := range map[string]struct {
		change func(*worker, *choreo.Step[job, work])
		fails  map[string]int
		off    choreo.Emission
		says   []choreo.Emission
		calls  []string
	}{
		"Unknown runs, then Cancel's event": {
			off:   calledOff.New(calloff{"f", "rain"}),
			says:  []choreo.Emission{jobDropped.New(note{"f", "dropped: rain"})},
			calls: []string{"do a", "unknown a", "unknown b"},
		},
		"no Unknown": {
			change: func(w *worker, s *choreo.Step[job, work]) {
				s.GiveUp, s.Compensate = choreo.Failure[job]{}, choreo.Undo(w.Undo, jobUndone, calledOff)
			},
			off:   calledOff.New(calloff{"f", "rain"}),
			says:  []choreo.Emission{jobDropped.New(note{"f", "dropped: rain"})},
			calls: []string{"do a"},
		},
		"no Cancel is declared for it": {
			off:   calledOff2.New(calloff{"f", "snow"}),
			calls: []string{"do a", "unknown a", "unknown b"},
		},
		"Unknown fails": {
			fails: map[string]int{"unknown a": 20},
			off:   calledOff.New(calloff{"f", "rain"}),
			says:  []choreo.Emission{jobDropped.New(note{"f", "dropped: rain"})},
			calls: []string{"do a", "unknown a", "unknown b"},
		},
		"a trigger that only cancels": {
			change: func(w *worker, s *choreo.Step[job, work]) {
				s.Compensate = choreo.Undo(w.Undo, jobUndone, calledOff2).Unknown(w.Unknown)
			},
			off:   calledOff.New(calloff{"f", "rain"}),
			says:  []choreo.Emission{jobDropped.New(note{"f", "dropped: rain"})},
			calls: []string{"do a", "unknown a", "unknown b"},
		},
		"a pivot whose attempts are found out about": {
			change: func(w *worker, s *choreo.Step[job, work]) {
				s.Pivot, s.GiveUp, s.Compensate = true, choreo.Failure[job]{}, choreo.Compensation[job, work]{}.Unknown(w.Unknown)
			},
			off:   calledOff.New(calloff{"f", "rain"}),
			says:  []choreo.Emission{jobDropped.New(note{"f", "dropped: rain"})},
			calls: []string{"do a", "unknown a", "unknown b"},
		},
		"a pivot": {
			change: func(_ *worker, s *choreo.Step[job, work]) {
				s.Pivot, s.GiveUp, s.Compensate = true, choreo.Failure[job]{}, choreo.Compensation[job, work]{}
			},
			off:   calledOff.New(calloff{"f", "rain"}),
			says:  []choreo.Emission{jobDropped.New(note{"f", "dropped: rain"})},
			calls: []string{"do a"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := &worker{fail: map[string]int{"a": 1 << 30}}
			for what, n := range c.fails {
				w.fail[what] = n
			}
			reg := prometheus.NewRegistry()
			s := startParking(t, w, reg, func(s *choreo.Step[job, work]) {
				if c.change != nil {
					c.change(w, s)
				}
			})
			s.Publish("f", given("f", "a"))
			s.Publish("f", given("f", "b"))
			awaitGauge(t, reg, "choreo_parked_events", "", 1)
			awaitGauge(t, reg, "choreo_parked_events", "work", 1)
			s.Publish("f", c.off)
			s.Publish("f", c.off) // another one, which comes too late
			s.Expect("f", c.says...)
			s.ExpectNothingMore("f")
			expectOnce(t, w, c.calls...)
			if n := gauge(t, reg, "choreo_stuck_compensations", ""); n != 0 {
				t.Errorf("%v compensations are stuck after all", n)
			}
		})
	}
}

// behindEcho has a reaction hear what sets the step off before it. It fails as often as
// the worker says.
func behindEcho(w *worker, step choreo.Step[job, work]) *choreo.Service {
	return choreo.NewService("worker", choreo.Tasks(2),
		choreo.Reaction[job]{Name: "echo", On: jobGiven, Retry: soon, Do: func(context.Context, job) (choreo.Emissions, error) {
			if w.fails("echo") {
				return nil, errNotYet
			}
			return nil, nil
		}}, step)
}

// The compensation waits behind another handler's failure when the attempts of its
// step begin to fail: it overtakes them all the same, and the first one is answered,
// also if it fails itself.
func TestBarrierCase4OfWhatWasQueuedBefore(t *testing.T) {
	for name, c := range map[string]struct {
		retry choreo.Retry
		fails int // attempts of the compensation
	}{
		"at once":                 {retry: choreo.Retry{First: time.Hour, Max: time.Hour, Attempts: 20}}, // nobody waits for the next one
		"as often as it needs to": {retry: soon, fails: 3},
	} {
		t.Run(name, func(t *testing.T) {
			w := &worker{fail: map[string]int{"echo": 1 << 30, "a": 1 << 30, "unknown a": c.fails}}
			reg := prometheus.NewRegistry()
			step := w.step()
			step.Retry = c.retry
			s := choreotest.Start(t, behindEcho(w, step), choreotest.With(func(c *choreo.Config) {
				c.Registerer = reg
				c.Logger = slog.New(slog.DiscardHandler)
			}))
			s.Publish("f", jobGiven.New(job{"f", "a"}))
			awaitGauge(t, reg, "choreo_parked_events", "echo", 1)
			s.Publish("f", calledOff.New(calloff{"f", "rain"}))
			s.Publish("f", calledOff.New(calloff{"f", "snow"}))
			awaitGauge(t, reg, "choreo_parked_events", "", 2)
			w.heal("echo")
			s.Expect("f", jobDropped.New(note{"f", "dropped: rain"}))
			s.ExpectNothingMore("f")
			expectOnce(t, w, "do a", "unknown a")
			awaitGauge(t, reg, "choreo_parked_events", "", 0)
		})
	}
}

// The second one comes while the step is at work, or is held, since the queue is full:
// the first one, which is queued, is answered all the same.
func TestBarrierCase4ByWhatComesSecond(t *testing.T) {
	for name, bound := range map[string]int{"and waits for the key": 0, "and is held": 2} {
		t.Run(name, func(t *testing.T) { case4ByWhatComesSecond(t, bound) })
	}
}

func case4ByWhatComesSecond(t *testing.T, bound int) {
	w := &worker{fail: map[string]int{"echo": 1 << 30, "a": 1 << 30}}
	reg := prometheus.NewRegistry()
	begun, release := make(chan struct{}, 20), make(chan struct{})
	step := w.step()
	step.Retry = choreo.Retry{First: time.Hour, Max: time.Hour, Attempts: 20}
	step.Do = func(ctx context.Context, j job) (work, error) {
		begun <- struct{}{}
		<-release
		return w.Do(ctx, j)
	}
	s := choreotest.Start(t, behindEcho(w, step), choreotest.With(func(c *choreo.Config) {
		c.Registerer, c.MaxParkedPerFlow = reg, bound
		c.Logger = slog.New(slog.DiscardHandler)
	}))
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	awaitGauge(t, reg, "choreo_parked_events", "echo", 1)
	s.Publish("f", calledOff.New(calloff{"f", "rain"}))
	awaitGauge(t, reg, "choreo_parked_events", "", 1)
	awaitGauge(t, reg, "choreo_in_flight_records", "", 0)
	second := func() {
		s.Publish("f", calledOff.New(calloff{"f", "snow"}))
		awaitGauge(t, reg, "choreo_in_flight_records", "", 1)
	}
	if bound > 0 {
		second()
	}
	w.heal("echo")
	<-begun
	if bound == 0 {
		second()
	}
	close(release)
	s.Expect("f", jobDropped.New(note{"f", "dropped: rain"}))
	s.ExpectNothingMore("f")
}

// Runs of the step that were made before are undone with what is parked, the
// newest first.
func TestBarrierCase4UndoesEarlierRunsToo(t *testing.T) {
	w := &worker{fail: map[string]int{"b": 1 << 30, "undo a": 20}}
	reg := prometheus.NewRegistry()
	s := startParking(t, w, reg)
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	s.Publish("f", jobGiven.New(job{"f", "b"}))
	awaitGauge(t, reg, "choreo_parked_events", "work", 1)
	s.Publish("f", calledOff.New(calloff{"f", "rain"}))
	s.Expect("f", jobDone.New(work{"f", "a"}), jobUndone.New(note{"f", "undone: a"}))
	s.ExpectNothingMore("f")
	expectOnce(t, w, "do a", "do b", "unknown b", "undo a")
}

// An event that only cancels leaves a step alone that ran; its later event stays
// parked.
func TestBarrierCase4NotForWhatRan(t *testing.T) {
	w := &worker{fail: map[string]int{"b": 1 << 30}}
	reg := prometheus.NewRegistry()
	s := startParking(t, w, reg, func(s *choreo.Step[job, work]) {
		s.Compensate = choreo.Undo(w.Undo, jobUndone, calledOff2).Unknown(w.Unknown)
	})
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	s.Publish("f", jobGiven.New(job{"f", "b"}))
	awaitGauge(t, reg, "choreo_parked_events", "work", 1)
	s.Publish("f", calledOff.New(calloff{"f", "rain"}))
	s.Publish("g", jobGiven.New(job{"g", "c"}))
	s.Expect("g", jobDone.New(work{"g", "c"}))
	w.heal("b")
	s.Expect("f", jobDone.New(work{"f", "a"}), jobDone.New(work{"f", "b"}))
	s.ExpectNothingMore("f")
}

// The compensation overtakes for its step alone: for all other handlers its
// event, and the parked one, keep their places.
func TestBarrierCase4KeepsTheOrderOfOtherHandlers(t *testing.T) {
	for _, unknownFails := range []int{0, 20} {
		t.Run(fmt.Sprint(unknownFails), func(t *testing.T) {
			w := &worker{fail: map[string]int{"a": 1 << 30, "unknown a": unknownFails}}
			type seen struct{ Events []string }
			st := &choreo.State[seen]{Name: "seen", When: []choreo.Transition[seen]{
				choreo.When(jobGiven, func(v *seen, j job) { v.Events = append(v.Events, j.What) }),
				choreo.When(calledOff, func(v *seen, c calloff) { v.Events = append(v.Events, c.Why) }),
			}}
			step := w.step()
			parks(&step)
			reg := prometheus.NewRegistry()
			s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(1), step, st), choreotest.With(func(c *choreo.Config) { c.Registerer = reg }))
			s.Publish("f", jobGiven.New(job{"f", "a"}))
			s.Publish("f", jobGiven.New(job{"f", "b"}))
			awaitGauge(t, reg, "choreo_parked_events", "", 1)
			s.Publish("f", calledOff.New(calloff{"f", "rain"}))
			s.Expect("f", jobDropped.New(note{"f", "dropped: rain"}))
			s.Publish("f", jobGiven.New(job{"f", "c"}))
			s.ExpectNothingMore("f")
			if v, err := st.Get(t.Context(), "f"); err != nil || !slices.Equal(v.Events, []string{"a", "b", "rain", "c"}) {
				t.Errorf("the state has seen %v, %v", v.Events, err)
			}
		})
	}
}

func TestAnUndoThatFailsIsParkedForEver(t *testing.T) {
	brokers := broker(t)
	w := &worker{fail: map[string]int{"undo b": 1 << 30}}
	service := func() *choreo.Service {
		s := w.step()
		s.Retry = choreo.Retry{Attempts: 2, InPlace: 1, First: time.Millisecond, Max: 5 * time.Millisecond}
		return choreo.NewService("worker", choreo.Tasks(1), s)
	}
	svc := service()
	createTopics(t, svc, configFor(brokers, "x"))
	first := runProcess(t, svc, brokers)
	outside := newOutside(t, svc, brokers)
	for _, what := range []string{"a", "b", "c"} {
		outside.say(jobGiven.New(job{"f", what}))
	}
	w.awaitCalls(t, 1, "do c") // topics have no order among each other
	outside.say(calledOff.New(calloff{"f", "rain"}))
	w.awaitCalls(t, 20, "undo b") // far more than Attempts
	awaitGauge(t, first.reg, "choreo_parked_events", "work", 1)
	awaitGauge(t, first.reg, "choreo_stuck_compensations", "", 1)
	first.plug.pull()
	second := service()
	p := runProcess(t, second, brokers)
	awaitGauge(t, p.reg, "choreo_stuck_compensations", "", 1)
	w.awaitCalls(t, w.count("undo b")+5, "undo b")
	w.heal("undo b")
	said := outside.hear(6, func(em choreo.Emission, _ cloudevent.Event) string { return fmt.Sprint(em.Data) })
	if got := fmt.Sprint(said); got != "[{f a} {f b} {f c} {f undone: c} {f undone: b} {f undone: a}]" {
		t.Errorf("said was %s", got)
	}
	awaitGauge(t, p.reg, "choreo_stuck_compensations", "", 0)
}

// otherTask is a flow of another task than f, of two.
func otherTask(t *testing.T) string {
	t.Helper()
	for n := range 100 {
		if g := fmt.Sprint("g", n); txn.Partition([]byte(g), 2) != txn.Partition([]byte("f"), 2) {
			return g
		}
	}
	t.Fatal("all flows are of one task")
	return ""
}

func TestAtTheBoundOfParkedEventsReadingWaitsAndNothingIsLost(t *testing.T) {
	for name, c := range map[string]struct {
		perFlow, perTask int
		says             string
	}{
		"of a flow": {2, 100, "MAX_PARKED_PER_FLOW allows, 2"},
		"of a task": {3, 3, "3 events of 1 flows are parked, the limit is MAX_PARKED_PER_TASK, 3"},
	} {
		t.Run(name, func(t *testing.T) {
			w := &worker{fail: map[string]int{"0": 1 << 30}}
			step := w.step()
			parks(&step)
			reg := prometheus.NewRegistry()
			svc := choreo.NewService("worker", choreo.Tasks(2), step)
			s := choreotest.Start(t, svc, choreotest.With(func(cfg *choreo.Config) {
				cfg.MaxParkedPerFlow, cfg.MaxParkedPerTask, cfg.MaxInFlight, cfg.Registerer = c.perFlow, c.perTask, 32, reg
				cfg.Logger = slog.New(slog.DiscardHandler)
			}))
			var want []choreo.Emission
			publish := func(events int) {
				for range events {
					what := fmt.Sprint(len(want))
					s.Publish("f", jobGiven.New(job{"f", what}))
					want = append(want, jobDone.New(work{"f", what}))
				}
			}
			publish(c.perFlow + 1)
			eventually(t, "it says that it is not ready", func() error {
				if err := svc.Ready(); err == nil || !strings.Contains(err.Error(), c.says) {
					return fmt.Errorf("it says %w, want %q", err, c.says)
				}
				if n := gauge(t, reg, "choreo_in_flight_records", ""); n != 1 {
					return fmt.Errorf("%v events wait in memory", n)
				}
				return nil
			})
			publish(50) // more than there is room for
			awaitGauge(t, reg, "choreo_in_flight_records", "", 32/8)
			g := otherTask(t)
			s.Publish(g, jobGiven.New(job{g, "b"}))
			s.Expect(g, jobDone.New(work{g, "b"}))
			if n := gauge(t, reg, "choreo_parked_events", ""); n != float64(c.perFlow-1) {
				t.Errorf("%v events are parked behind the first", n)
			}
			tried := w.count("do 0")
			w.awaitCalls(t, tried+5, "do 0")
			w.heal("0")
			s.Expect("f", want...)
			s.ExpectNothingMore("f")
			if err := svc.Ready(); err != nil {
				t.Errorf("it is not ready after all: %v", err)
			}
		})
	}
}

// At the bound of a task the failing event of another flow waits in place, and
// goes on there.
func TestAtTheBoundOfATaskAttemptsGoOnInPlace(t *testing.T) {
	w := &worker{fail: map[string]int{"a": 1 << 30, "b": 1 << 30}}
	step := w.step()
	parks(&step)
	reg := prometheus.NewRegistry()
	s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(1), step), choreotest.With(func(cfg *choreo.Config) {
		cfg.MaxParkedPerFlow, cfg.MaxParkedPerTask, cfg.Registerer = 1, 1, reg
		cfg.Logger = slog.New(slog.DiscardHandler)
	}))
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	awaitGauge(t, reg, "choreo_parked_events", "work", 1)
	s.Publish("g", jobGiven.New(job{"g", "b"}))
	s.Publish("g", jobGiven.New(job{"g", "c"}))
	w.awaitCalls(t, 10, "do b")
	if n := gauge(t, reg, "choreo_parked_flows", ""); n != 1 {
		t.Errorf("events of %v flows are parked, the limit is one event", n)
	}
	w.heal("b")
	s.Expect("g", jobDone.New(work{"g", "b"}), jobDone.New(work{"g", "c"}))
	w.heal("a")
	s.Expect("f", jobDone.New(work{"f", "a"}))
	s.ExpectNothingMore("f")
}

// At the bound of a task a compensation is parked all the same: it may have to be
// skipped, and must show.
func TestACompensationIsParkedBeyondTheBoundOfATask(t *testing.T) {
	w := &worker{fail: map[string]int{"a": 1 << 30, "undo b": 1 << 30}}
	reg := prometheus.NewRegistry()
	s := startBounded(t, reg, 1, w.step(), rarely)
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	awaitGauge(t, reg, "choreo_parked_events", "work", 1)
	s.Publish("g", jobGiven.New(job{"g", "b"}))
	s.Expect("g", jobDone.New(work{"g", "b"}))
	s.Publish("g", calledOff.New(calloff{"g", "rain"}))
	expectAudit(t, s.Tell(asked(operator.Skip, s.ExpectStuck("g", "work"), "")), "skip done")
}

// At the bound of a flow, with an event held, a trigger overtakes what is parked.
func TestBarrierCase4AtTheBoundOfAFlow(t *testing.T) {
	w := &worker{fail: map[string]int{"a": 1 << 30}}
	reg := prometheus.NewRegistry()
	s := startBounded(t, reg, 100, w.step(), rarely)
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	s.ExpectStuck("f", "work")
	s.Publish("f", jobGiven.New(job{"f", "b"}))
	awaitGauge(t, reg, "choreo_in_flight_records", "", 1)
	s.Publish("f", calledOff.New(calloff{"f", "rain"}))
	s.Expect("f", jobDropped.New(note{"f", "dropped: rain"}))
	s.ExpectNothingMore("f")
}

// At the bound of a task attempts go on in memory, and a trigger waits for them.
func TestACompensationWaitsForAttemptsInMemory(t *testing.T) {
	w := &worker{fail: map[string]int{"a": 1 << 30, "b": 1 << 30}}
	reg := prometheus.NewRegistry()
	s := startBounded(t, reg, 1, w.step(), parks)
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	awaitGauge(t, reg, "choreo_parked_events", "work", 1)
	s.Publish("g", jobGiven.New(job{"g", "b"}))
	w.awaitCalls(t, 5, "do b")
	s.Publish("g", calledOff.New(calloff{"g", "rain"}))
	awaitGauge(t, reg, "choreo_in_flight_records", "", 2)
	w.awaitCalls(t, w.count("do b")+20, "do b")
	if n := w.count("unknown b"); n > 0 {
		t.Errorf("it was found out %d times what came of attempts that go on", n)
	}
	w.heal("b")
	s.Expect("g", jobDone.New(work{"g", "b"}), jobUndone.New(note{"g", "undone: b"}))
	w.heal("a")
	s.Expect("f", jobDone.New(work{"f", "a"}))
	s.ExpectNothingMore("g")
}

// startBounded starts a worker that parks one event of a flow.
func startBounded(t *testing.T, reg *prometheus.Registry, perTask int, step choreo.Step[job, work], change func(*choreo.Step[job, work]), more ...choreo.Declaration) *choreotest.Service {
	t.Helper()
	change(&step)
	return choreotest.Start(t, choreo.NewService("worker", append(more, choreo.Tasks(1), step)...), choreotest.With(func(c *choreo.Config) {
		c.MaxParkedPerFlow, c.MaxParkedPerTask, c.Registerer = 1, perTask, reg
		c.Logger = slog.New(slog.DiscardHandler)
	}))
}

// parked leaves a service with an event of flow f parked at its step.
func parked(t *testing.T, brokers []string, svc *choreo.Service) {
	t.Helper()
	createTopics(t, svc, configFor(brokers, "x"))
	p := runProcess(t, svc, brokers)
	newOutside(t, svc, brokers).say(jobGiven.New(job{"f", "a"}))
	awaitGauge(t, p.reg, "choreo_parked_events", "work", 1)
	awaitGauge(t, p.reg, "choreo_in_flight_records", "", 0)
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
}

func TestAParkedEventOfARenamedStep(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*choreo.Step[job, work])
		says   string // why the task is not open; "": the event is done
		dead   bool
	}{
		"renamed":            {change: func(s *choreo.Step[job, work]) { s.Name, s.Formerly = "toil", []string{"work"} }},
		"gone":               {change: func(s *choreo.Step[job, work]) { s.Name = "toil" }, says: `declares no handler "work"`},
		"hears other events": {change: func(s *choreo.Step[job, work]) { s.On = jobGivenAgain }, dead: true},
	} {
		t.Run(name, func(t *testing.T) {
			brokers := broker(t)
			w := &worker{fail: map[string]int{"a": 1 << 30}}
			step := w.step()
			parks(&step)
			parked(t, brokers, choreo.NewService("worker", choreo.Tasks(1), step))
			w.heal("a")
			c.change(&step)
			// The event is still heard, by another handler.
			svc := choreo.NewService("worker", choreo.Tasks(1), step, choreo.Reaction[job]{
				Name: "see", On: jobGiven, Do: func(context.Context, job) (choreo.Emissions, error) { return nil, nil },
			})
			if c.says != "" {
				p := runInstance(t, svc, configFor(brokers, "a"))
				eventually(t, "readiness says what is wrong", func() error {
					if err := svc.Ready(); err == nil || !strings.Contains(err.Error(), c.says) {
						return fmt.Errorf("it says %w", err)
					}
					return nil
				})
				_ = p.stop()
				return
			}
			p := runProcess(t, svc, brokers)
			awaitGauge(t, p.reg, "choreo_parked_flows", "", 0)
			letters := 0.0
			if c.dead {
				letters = 1
			}
			if n := metric(t, p.reg, "choreo_dead_letters_total", "not_heard"); n != letters {
				t.Errorf("%v dead letters, want %v", n, letters)
			}
		})
	}
}

var jobGivenAgain = choreo.Event[job]{Type: "test.job.given.again", Topic: "jobs"}

// What does not fit into the journal waits in memory, as long as it takes.
func TestWhatIsTooLargeToBeParkedWaitsInPlace(t *testing.T) {
	w := &worker{fail: map[string]int{"a": 10}}
	step := w.step()
	parks(&step)
	s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(1), step), choreotest.With(func(cfg *choreo.Config) {
		cfg.MaxEventBytes = 1 << 10
		cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}))
	rec := s.Record("f", jobGiven.New(job{"f", "a"}))
	rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: "x", Value: make([]byte, 200<<10)})
	s.PublishRecord(rec)
	s.Publish("f", jobGiven.New(job{"f", "b"}))
	s.Expect("f", jobDone.New(work{"f", "a"}), jobDone.New(work{"f", "b"}))
	s.ExpectNothingMore("f")
}

// Random attempts fail, random processes are killed, and the next one may park
// more or less: every event is worked on once, in the order of its flow.
func TestTheOrderOfAKeyIsKept(t *testing.T) {
	t.Parallel()
	const budget, least = 2 * time.Second, 5 // sequences, on however slow a machine
	brokers := broker(t)
	var mu sync.Mutex
	failing := map[string]int{}
	service := func() *choreo.Service {
		return choreo.NewService("worker", choreo.Tasks(2), choreo.Step[job, work]{
			Name: "work", On: jobGiven, Emit: jobDone, Retry: choreo.Retry{Attempts: 1000, InPlace: 1, First: time.Millisecond, Max: 3 * time.Millisecond},
			Do: func(_ context.Context, j job) (work, error) {
				mu.Lock()
				defer mu.Unlock()
				if name := j.ID + "/" + j.What; failing[name] > 0 {
					failing[name]--
					return work{}, errNotYet
				}
				return work{j.ID, j.What}, nil
			},
		})
	}
	svc := service()
	createTopics(t, svc, configFor(brokers, "x"))
	p := runProcess(t, svc, brokers)
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ProducerLinger(0), kgo.ConsumeTopics("work"),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	began, sequences, kills := time.Now(), 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		if sequences >= least && time.Since(began) > budget {
			return
		}
		sequences++
		want, got, left := map[string][]string{}, map[string][]string{}, 0
		for n := range rapid.IntRange(1, 40).Draw(rt, "events") {
			if rapid.IntRange(0, 30).Draw(rt, "kill") == 0 {
				kills++
				p.plug.pull()
				svc = service()
				bound := rapid.SampledFrom([]int{1, 3, 1000}).Draw(rt, "bound")
				p = runProcess(t, svc, brokers, func(c *choreo.Config) { c.MaxParkedPerFlow, c.MaxParkedPerTask = bound, 2*bound })
			}
			flow, what := fmt.Sprintf("s%d-f%d", sequences, rapid.IntRange(0, 3).Draw(rt, "flow")), fmt.Sprint(n)
			mu.Lock()
			failing[flow+"/"+what] = rapid.SampledFrom([]int{0, 0, 1, 2, 5}).Draw(rt, "fails")
			mu.Unlock()
			rec, err := svc.Encode(flow, jobGiven.New(job{flow, what}))
			if err != nil {
				rt.Fatal(err)
			}
			if err := cl.ProduceSync(t.Context(), rec).FirstErr(); err != nil {
				rt.Fatal(err)
			}
			want[flow] = append(want[flow], what)
			left++
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		for left > 0 && ctx.Err() == nil {
			for _, rec := range cl.PollFetches(ctx).Records() {
				em, _, err := svc.Decode(rec)
				if err != nil {
					rt.Fatal(err)
				}
				done := em.Data.(work)
				got[done.ID] = append(got[done.ID], done.By)
				left--
			}
		}
		for flow := range want {
			if !slices.Equal(got[flow], want[flow]) {
				rt.Fatalf("of flow %s was done %v, want %v", flow, got[flow], want[flow])
			}
		}
	})
	t.Logf("%d sequences, %d kills", sequences, kills)
}
