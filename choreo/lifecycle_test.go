package choreo_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// broker starts an in-memory broker.
func broker(t *testing.T, opts ...kfake.Opt) []string {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c.ListenAddrs()
}

func configFor(brokers []string, instance string) choreo.Config {
	return choreo.Config{
		Brokers: brokers, InstanceID: instance, IdleCommit: 5 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Registerer: prometheus.NewRegistry(),
	}
}

// instance is a service that runs beside others on one broker.
type instance struct {
	cancel context.CancelFunc
	ended  chan struct{}
	err    error
}

func runInstance(t *testing.T, svc *choreo.Service, cfg choreo.Config) *instance {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	i := &instance{cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(i.ended)
		i.err = svc.Run(ctx, cfg)
	}()
	t.Cleanup(func() { _ = i.stop() })
	return i
}

// stop ends the run and returns what it returned.
func (i *instance) stop() error {
	i.cancel()
	<-i.ended
	return i.err
}

func (i *instance) awaitReady(t *testing.T, svc *choreo.Service) {
	t.Helper()
	eventually(t, "the service is ready", func() error {
		select {
		case <-i.ended:
			t.Fatalf("the service has ended: %v", i.err)
		default:
		}
		return svc.Ready()
	})
}

func eventually(t *testing.T, what string, is func() error) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for {
		err := is()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within 15 s: %s: %v", what, err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func createTopics(t *testing.T, svc *choreo.Service, cfg choreo.Config) {
	t.Helper()
	if err := svc.CreateTopics(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
}

func TestAPanicWhileDecodingIsADeadLetter(t *testing.T) {
	w := &worker{}
	s := start(t, w, func(s *choreo.Step[job, work]) {
		s.On = choreo.AnyOf(s.On, choreo.Upcast(jobGivenOld, func(what string) job { panic("cannot upcast " + what) }))
	})
	s.Publish("f", jobGivenOld.New("a"))
	if d := s.ExpectDeadLetter("f"); d.Header("choreo-dlq-reason") != "undecodable" {
		t.Errorf("dead letter because of %q: %s", d.Header("choreo-dlq-reason"), d.Header("choreo-dlq-error"))
	}
	s.Publish("f", jobGiven.New(job{"f", "b"}))
	s.Expect("f", jobDone.New(work{"f", "b"}))
}

func TestASecondRunLeavesTheFirstAlone(t *testing.T) {
	svc, st := tallyService()
	s := choreotest.Start(t, svc)
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	s.ExpectNothingMore("f")
	if err := svc.Run(t.Context(), choreo.Config{Brokers: s.Brokers(), InstanceID: "other"}); err == nil {
		t.Fatal("the second run was not refused")
	}
	if v, err := st.Get(t.Context(), "f"); err != nil || v.Given != 1 {
		t.Errorf("Get after it: %+v, %v", v, err)
	}
}

func incompressible(n int) string {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n/2)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return hex.EncodeToString(b)
}

// What a topic does not take must not stop the service, whichever way it came.
func TestWhatTheBrokerRefusesForItsSizeIsADeadLetter(t *testing.T) {
	large := incompressible(3000)
	t.Run("published", func(t *testing.T) {
		svc, _ := tallyService()
		svc.Add(choreo.Topic{Name: "jobs", Config: map[string]string{"max.message.bytes": "2000"}})
		s := choreotest.Start(t, svc)
		flow, err := svc.Publish(t.Context(), jobGiven.New(job{"x", large}))
		if err != nil {
			t.Fatal(err)
		}
		if d := s.ExpectDeadLetter(flow); d.Header("choreo-dlq-reason") != "unsayable" {
			t.Errorf("dead letter because of %q", d.Header("choreo-dlq-reason"))
		}
		if flow, err = svc.Publish(t.Context(), jobGiven.New(job{"x", "small"})); err != nil {
			t.Fatal(err)
		}
		s.Expect(flow, jobGiven.New(job{"x", "small"}))
	})
	t.Run("said on a structured event", func(t *testing.T) {
		w := &worker{}
		svc := choreo.NewService("worker", choreo.Tasks(1), w.step(),
			choreo.Topic{Name: "work", Config: map[string]string{"max.message.bytes": "2000"}})
		s := choreotest.Start(t, svc)
		s.PublishRecord(&kgo.Record{Topic: "jobs", Key: []byte("f"),
			Headers: []kgo.RecordHeader{{Key: "content-type", Value: []byte("application/cloudevents+json")}},
			Value: fmt.Appendf(nil, `{"specversion":"1.0","id":"1","source":"/x","type":%q,"correlationid":"f","data":{"ID":"f","What":%q}}`,
				jobGiven.Type, large)})
		if d := s.ExpectDeadLetter("f"); d.Header("choreo-dlq-reason") != "unsayable" {
			t.Errorf("dead letter because of %q", d.Header("choreo-dlq-reason"))
		}
		s.Publish("f", jobGiven.New(job{"f", "small"}))
		s.Expect("f", jobDone.New(work{"f", "small"}))
	})
}

// A stop cuts off what outlasts its limit, waits for it, and the same value runs
// again and does the rest.
func TestStopAndRunAgain(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var causes []error
	attempts, returned := make(chan int, 10), 0
	svc := choreo.NewService("worker", choreo.Tasks(1), choreo.Step[job, work]{
		Name: "work", On: jobGiven, Emit: jobDone,
		Do: func(ctx context.Context, j job) (work, error) {
			mu.Lock()
			n := len(causes)
			causes = append(causes, nil)
			mu.Unlock()
			attempts <- n
			if n == 0 {
				<-ctx.Done()
				time.Sleep(20 * time.Millisecond)
				mu.Lock()
				causes[n], returned = context.Cause(ctx), returned+1
				mu.Unlock()
				return work{}, ctx.Err()
			}
			return work{j.ID, j.What}, nil
		},
	}, choreo.Starts(jobGiven))
	cfg := configFor(broker(t), "a")
	cfg.StopTimeout = time.Second
	createTopics(t, svc, cfg)
	first := runInstance(t, svc, cfg)
	first.awaitReady(t, svc)
	if _, err := svc.Publish(t.Context(), jobGiven.New(job{"f", "a"}), choreo.Flow("f")); err != nil {
		t.Fatal(err)
	}
	<-attempts
	if err := first.stop(); err != nil {
		t.Errorf("the first run ended with %v", err)
	}
	mu.Lock()
	if returned != 1 || !errors.Is(causes[0], choreo.ErrStopping) {
		t.Errorf("after the run %d attempts have returned, of cause %v; want one, of ErrStopping", returned, causes[0])
	}
	mu.Unlock()
	if err := svc.Ready(); !errors.Is(err, choreo.ErrNotRunning) {
		t.Errorf("after the run Ready says %v", err)
	}
	second := runInstance(t, svc, cfg)
	second.awaitReady(t, svc)
	if n := <-attempts; n != 1 {
		t.Errorf("attempt %d", n)
	}
	if got := readAll(t, cfg.Brokers, 1, "work"); len(got) != 1 {
		t.Errorf("%d events were said, want 1", len(got))
	}
	if err := second.stop(); err != nil {
		t.Errorf("the second run ended with %v", err)
	}
}

// readAll reads, committed only, until there are n records.
func readAll(t *testing.T, brokers []string, n int, topics ...string) []*kgo.Record {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topics...), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxWait(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	var all []*kgo.Record
	for len(all) < n && ctx.Err() == nil {
		all = append(all, cl.PollFetches(ctx).Records()...)
	}
	return all
}

// readToEnd reads, committed only, all that lies on a topic now.
func readToEnd(t *testing.T, brokers []string, topic string) []*kgo.Record {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), kgo.FetchMaxWait(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	var all []*kgo.Record
	for len(left) > 0 {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%s is not read to its end: partitions and ends %v are left", topic, left)
		}
		for _, rec := range fs.Records() {
			if !rec.Attrs.IsControl() {
				all = append(all, rec)
			}
			if rec.Offset+1 >= left[rec.Partition] {
				delete(left, rec.Partition)
			}
		}
	}
	return all
}

func TestStateIsReadOnEveryInstanceAndAfterATakeover(t *testing.T) {
	t.Parallel() // members take seconds to notice each other
	cfg := configFor(broker(t), "a")
	svcA, stateA := tallyService()
	svcB, stateB := tallyService()
	createTopics(t, svcA, cfg)
	a := runInstance(t, svcA, cfg)
	a.awaitReady(t, svcA)
	flows := make([]string, 8)
	get := func(n int, states ...*choreo.State[tally]) {
		t.Helper()
		for _, st := range states {
			for _, flow := range flows {
				v, err := st.Await(t.Context(), flow, func(v tally) bool { return v.Given >= n })
				if err != nil || v.Given != n {
					t.Fatalf("%d jobs of %s, want %d: %v", v.Given, flow, n, err)
				}
			}
		}
		// once one instance has seen it every other one has to
		for _, st := range slices.Backward(states) {
			for _, flow := range flows {
				if v, err := st.Get(t.Context(), flow); err != nil || v.Given != n {
					t.Errorf("%d jobs of %s, want %d: %v", v.Given, flow, n, err)
				}
			}
		}
	}
	say := func(svc *choreo.Service) {
		t.Helper()
		for i := range flows {
			flows[i] = "flow-" + strconv.Itoa(i)
			if _, err := svc.Publish(t.Context(), jobGiven.New(job{"x", "y"}), choreo.Flow(flows[i])); err != nil {
				t.Fatal(err)
			}
		}
	}
	say(svcA)
	get(1, stateA)
	b := runInstance(t, svcB, configFor(cfg.Brokers, "b")) // takes a task over
	b.awaitReady(t, svcB)
	get(1, stateB, stateA)
	say(svcB)
	get(2, stateA, stateB)
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := stateA.Get(t.Context(), flows[0]); !errors.Is(err, choreo.ErrNotRunning) {
		t.Errorf("on an instance that has stopped Get returns %v", err)
	}
	get(2, stateB) // also what nobody owns now
	cfg.Registerer = prometheus.NewRegistry()
	a = runInstance(t, svcA, cfg)
	a.awaitReady(t, svcA)
	say(svcB)
	get(3, stateB, stateA)
}

func TestStartWaitsForTheBroker(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.DataDir(dir))
	if err != nil {
		t.Fatal(err)
	}
	svc, st := tallyService()
	cfg := configFor(c.ListenAddrs(), "a")
	createTopics(t, svc, cfg)
	c.Close()
	_, port, err := net.SplitHostPort(cfg.Brokers[0])
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	tried := make(chan string, 100)
	cfg.Logger = slog.New(warnings(tried))
	i := runInstance(t, svc, cfg)
	<-tried
	if err := svc.Ready(); !errors.Is(err, choreo.ErrNotRunning) {
		t.Errorf("while the broker is away Ready says %v", err)
	}
	select {
	case <-i.ended:
		t.Fatalf("it did not wait: %v", i.err)
	default:
	}
	broker(t, kfake.Ports(number), kfake.DataDir(dir))
	i.awaitReady(t, svc)
	if _, err := svc.Publish(t.Context(), jobGiven.New(job{"x", "y"}), choreo.Flow("f")); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Await(t.Context(), "f", func(v tally) bool { return v.Given == 1 }); err != nil {
		t.Error(err)
	}
	if err := i.stop(); err != nil {
		t.Error(err)
	}
}

// warnings is a log handler that passes on the messages of warnings.
type warnings chan<- string

func (warnings) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }
func (w warnings) WithAttrs([]slog.Attr) slog.Handler         { return w }
func (w warnings) WithGroup(string) slog.Handler              { return w }
func (w warnings) Handle(_ context.Context, r slog.Record) error {
	select {
	case w <- r.Message:
	default:
	}
	return nil
}

func TestStopWhileTheBrokerIsAway(t *testing.T) {
	t.Parallel()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	svc, _ := tallyService()
	cfg := configFor(c.ListenAddrs(), "a")
	cfg.StopTimeout = time.Second
	createTopics(t, svc, cfg)
	i := runInstance(t, svc, cfg)
	i.awaitReady(t, svc)
	c.Close()
	began := time.Now()
	if err := i.stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("the stop took %v, the limit is %v", took, cfg.StopTimeout)
	}
}

func TestAnInstanceIDInUseEndsTheRun(t *testing.T) {
	t.Parallel()
	svcA, _ := tallyService()
	svcB, _ := tallyService()
	cfg := configFor(broker(t), "same")
	createTopics(t, svcA, cfg)
	a := runInstance(t, svcA, cfg)
	a.awaitReady(t, svcA)
	b := runInstance(t, svcB, configFor(cfg.Brokers, "same"))
	eventually(t, "one of them has ended", func() error {
		select {
		case <-a.ended:
			return nil
		case <-b.ended:
			return nil
		default:
			return errNotYet
		}
	})
	err := b.stop()
	if err == nil {
		err = a.stop()
	}
	if err == nil || !contains(err.Error(), `"same"`) {
		t.Errorf("it ended with %v, which does not name the instance id", err)
	}
}
