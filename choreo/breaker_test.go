package choreo_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/prometheus/client_golang/prometheus"
)

// line is the connection to a provider.
type line struct {
	mu    sync.Mutex
	down  bool
	calls int
}

func (l *line) set(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
}

func (l *line) call(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	if l.down {
		return errNotYet
	}
	return nil
}

// calling is a step that works by way of the line.
func (l *line) calling(b choreo.Breaker) choreo.Step[job, work] {
	w := &worker{}
	s := w.step()
	s.Do = func(ctx context.Context, j job) (work, error) { return work{j.ID, j.What}, l.call(ctx) }
	s.Retry, s.Breaker = choreo.Retry{First: time.Millisecond, Max: 2 * time.Millisecond}, b
	return s
}

// Before all of what may be parked in a task is, what the step hears is not read
// any more: the rest is for others, nothing is lost, and it is said.
func TestReadingPausesBeforeTheBoundWhileAProviderIsAway(t *testing.T) {
	l := &line{down: true}
	aside := 0
	reg := prometheus.NewRegistry()
	svc := choreo.NewService("worker", choreo.Tasks(1), l.calling(choreo.Breaker{Failures: 2, Open: 50 * time.Millisecond}),
		choreo.Reaction[calloff]{Name: "aside", On: calledOff2, Emits: choreo.Events{jobUndone}, Retry: soon, Do: func(_ context.Context, c calloff) (choreo.Emissions, error) {
			if aside++; aside < 10 { // so it must be parked
				return nil, errNotYet
			}
			return choreo.Emit(jobUndone.New(note{c.ID, "aside"})), nil
		}})
	s := choreotest.Start(t, svc, choreotest.With(func(cfg *choreo.Config) {
		cfg.MaxParkedPerFlow, cfg.MaxParkedPerTask, cfg.MaxInFlight, cfg.Registerer = 16, 16, 64, reg
		cfg.Logger = slog.New(slog.DiscardHandler)
	}))
	const flows = 60
	for n := range flows {
		s.Publish(fmt.Sprint("f", n), jobGiven.New(job{fmt.Sprint("f", n), "a"}))
		if n < 14 { // handlers at work at once may exceed a bound by as many
			awaitGauge(t, reg, "choreo_parked_events", "work", float64(n+1))
		}
	}
	eventually(t, "it says that reading pauses", func() error {
		err := svc.Ready()
		if err == nil || !strings.Contains(err.Error(), `14 events are parked, nearly MAX_PARKED_PER_TASK, 16: the reading of what sets it off pauses`) {
			return fmt.Errorf("it says %w", err)
		}
		return nil
	})
	awaitGauge(t, reg, "choreo_parked_events", "work", 14)
	before := gauge(t, reg, "choreo_in_flight_records", "")
	for n := range flows {
		s.Publish(fmt.Sprint("g", n), jobGiven.New(job{fmt.Sprint("g", n), "a"}))
	}
	s.Publish("aside", calledOff2.New(calloff{"aside", "x"}))
	s.Expect("aside", jobUndone.New(note{"aside", "aside"}))
	if n := gauge(t, reg, "choreo_in_flight_records", ""); n > before {
		t.Errorf("%v events are in memory, %v were before", n, before)
	}
	if n := gauge(t, reg, "choreo_parked_events", "work"); n != 14 {
		t.Errorf("%v events are parked", n)
	}
	l.set(false)
	for n := range flows {
		for _, f := range []string{fmt.Sprint("f", n), fmt.Sprint("g", n)} {
			s.Expect(f, jobDone.New(work{f, "a"}))
		}
	}
	if err := svc.Ready(); err != nil {
		t.Errorf("it is not ready after all: %v", err)
	}
	for _, name := range []string{"choreo_parked_events", "choreo_waiting_flows", "choreo_concurrent_attempts"} {
		awaitGauge(t, reg, name, "work", 0)
	}
}

// Those who wait for room at a step have a part of the memory only: what others
// hear is read, and the step's own events wait in Kafka.
func TestWaitersInMemoryLeaveRoomForOthers(t *testing.T) {
	free := make(chan struct{})
	reg := prometheus.NewRegistry()
	w := &worker{}
	step := w.step()
	step.MaxConcurrent, step.Timeout = 1, time.Minute
	step.Do = func(_ context.Context, j job) (work, error) { <-free; return work{j.ID, j.What}, nil }
	s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(1), step,
		choreo.Reaction[calloff]{Name: "aside", On: calledOff2, Emits: choreo.Events{jobUndone}, Do: func(_ context.Context, c calloff) (choreo.Emissions, error) {
			return choreo.Emit(jobUndone.New(note{c.ID, "aside"})), nil
		}}), choreotest.With(func(cfg *choreo.Config) { cfg.MaxInFlight, cfg.Registerer = 32, reg }))
	publish := func(from, to int) {
		for n := from; n < to; n++ {
			s.Publish(fmt.Sprint("f", n), jobGiven.New(job{fmt.Sprint("f", n), "a"}))
		}
	}
	publish(0, 5)
	awaitGauge(t, reg, "choreo_waiting_flows", "work", 4) // an eighth
	publish(5, 60)
	for n := range 5 {
		f := fmt.Sprint("aside", n)
		s.Publish(f, calledOff2.New(calloff{f, "x"}))
		s.Expect(f, jobUndone.New(note{f, "aside"}))
	}
	if n := gauge(t, reg, "choreo_in_flight_records", ""); n > 6 {
		t.Errorf("%v events are in memory", n)
	}
	if n := counter(t, reg, "choreo_turned_away_total", "full"); n < 4 {
		t.Errorf("%v were turned away", n)
	}
	close(free)
	for n := range 60 {
		f := fmt.Sprint("f", n)
		s.Expect(f, jobDone.New(work{f, "a"}))
	}
}

func TestABreakerShowsInMetrics(t *testing.T) {
	l := &line{down: true}
	reg := prometheus.NewRegistry()
	step := l.calling(choreo.Breaker{Failures: 2, Open: 20 * time.Millisecond})
	step.MaxConcurrent = 3
	s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(2), step), choreotest.With(func(cfg *choreo.Config) {
		cfg.Registerer, cfg.Logger = reg, slog.New(slog.DiscardHandler)
	}))
	for n := range 10 {
		s.Publish(fmt.Sprint("f", n), jobGiven.New(job{fmt.Sprint("f", n), "a"}))
	}
	awaitGauge(t, reg, "choreo_waiting_flows", "work", 10)
	awaitGauge(t, reg, "choreo_breaker_state", "open", 1)
	eventually(t, "it has opened again", func() error {
		if n := counter(t, reg, "choreo_breaker_opened_total", "work"); n < 3 {
			return fmt.Errorf("%v times", n)
		}
		return nil
	})
	l.set(false)
	for n := range 10 {
		s.Expect(fmt.Sprint("f", n), jobDone.New(work{fmt.Sprint("f", n), "a"}))
	}
	awaitGauge(t, reg, "choreo_breaker_state", "closed", 1)
	if n := gauge(t, reg, "choreo_breaker_state", "open"); n != 0 {
		t.Errorf("it shows as open after all")
	}
	if n := counter(t, reg, "choreo_turned_away_total", "open"); n < 5 {
		t.Errorf("%v were turned away", n)
	}
}

// A reaction has a breaker too. What its provider refuses is an answer, and a dead
// letter as ever.
func TestAReactionWithABreaker(t *testing.T) {
	l := &line{down: true}
	s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(2), choreo.Reaction[job]{
		Name: "echo", On: jobGiven, Emits: choreo.Events{jobDone}, Timeout: time.Second, Retry: choreo.Retry{Attempts: 3, First: time.Millisecond, Max: time.Millisecond},
		Breaker: choreo.Breaker{Failures: 3, Open: 10 * time.Millisecond}, MaxConcurrent: 1,
		Do: func(ctx context.Context, j job) (choreo.Emissions, error) {
			if j.What == "refuse" {
				return nil, errors.Join(l.call(ctx), notMyJob)
			}
			return choreo.Emit(jobDone.New(work{j.ID, j.What})), l.call(ctx)
		},
	}), choreotest.With(func(cfg *choreo.Config) { cfg.Logger = slog.New(slog.DiscardHandler) }))
	for n := range 5 {
		s.Publish(fmt.Sprint("f", n), jobGiven.New(job{fmt.Sprint("f", n), "a"}))
	}
	eventually(t, "probes were made", func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.calls < 8 {
			return fmt.Errorf("%d calls", l.calls)
		}
		return nil
	})
	l.set(false)
	for n := range 5 {
		s.Expect(fmt.Sprint("f", n), jobDone.New(work{fmt.Sprint("f", n), "a"}))
	}
	for n := range 5 { // more than would open it
		f := fmt.Sprint("r", n)
		s.Publish(f, jobGiven.New(job{f, "refuse"}))
		if d := s.ExpectDeadLetter(f); d.Header("choreo-dlq-reason") != "rejected" {
			t.Errorf("its reason is %q", d.Header("choreo-dlq-reason"))
		}
	}
	s.Publish("f0", jobGiven.New(job{"f0", "b"}))
	s.Expect("f0", jobDone.New(work{"f0", "b"}))
}

// A joined run that waits for its provider has its halves, and needs no others.
func TestAJoinedRunWaitsForItsProvider(t *testing.T) {
	w := &worker{fail: map[string]int{"opens+x": 1 << 30}}
	reg := prometheus.NewRegistry()
	s := startSending(t, w, reg, func(s *choreo.Step[parcel, work]) {
		s.Breaker = choreo.Breaker{Failures: 1, Open: 20 * time.Millisecond}
	})
	s.Publish("g", isReady("g", "x"))
	s.Publish("g", given("g", "opens"))
	awaitGauge(t, reg, "choreo_breaker_state", "closed", 0)
	s.Publish("f", isReady("f", "x"))
	s.Publish("f", given("f", "a"))
	s.ExpectJoin("f", "send", choreotest.JoinDone)
	awaitGauge(t, reg, "choreo_joins_waiting", "send", 0)
	s.Publish("f", isReady("f", "y"))
	s.Publish("f", given("f", "b"))
	w.heal("opens+x")
	s.Expect("g", jobDone.New(work{"g", "opens+x"}))
	s.Expect("f", jobDone.New(work{"f", "a+x"}))
	s.ExpectNothingMore("f")
	if n := w.count("do a+x"); n > 1 {
		t.Errorf("it was tried %d times", n)
	}
}

// Killed again and again while the provider is away, nothing is given up: the
// next process finds out first.
func TestKilledWhileAProviderIsAway(t *testing.T) {
	brokers := broker(t)
	l := &line{down: true}
	service := func() *choreo.Service {
		step := l.calling(choreo.Breaker{Failures: 2, Open: 20 * time.Millisecond})
		step.Retry.Attempts = 3
		return choreo.NewService("worker", choreo.Tasks(1), step)
	}
	svc := service()
	createTopics(t, svc, configFor(brokers, "x"))
	p := runProcess(t, svc, brokers)
	out := newOutside(t, svc, brokers)
	out.say(jobGiven.New(job{"f", "a"}))
	out.say(jobGiven.New(job{"f", "b"}))
	for range 4 {
		awaitGauge(t, p.reg, "choreo_waiting_flows", "work", 1)
		awaitGauge(t, p.reg, "choreo_in_flight_records", "", 0)
		p.plug.pull()
		p = runProcess(t, service(), brokers)
	}
	awaitGauge(t, p.reg, "choreo_waiting_flows", "work", 1)
	l.set(false)
	said := out.hear(2, func(em choreo.Emission, ev cloudevent.Event) string { return fmt.Sprintf("%s %v", em.Type, em.Data) })
	if got := fmt.Sprint(said); got != "[test.job.done {f a} test.job.done {f b}]" {
		t.Errorf("said was %s", got)
	}
}
