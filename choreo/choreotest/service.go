package choreotest

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/deadletter"
	"github.com/choreography-go/choreography/choreo/operator"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Patience is how long an expectation waits for events before it fails, unless
// [Within] says otherwise.
const Patience = 10 * time.Second

// Service is a service that runs for the length of a test. Its methods may be
// called from the test's goroutine only.
type Service struct {
	t        testing.TB
	svc      *choreo.Service
	patience time.Duration
	brokers  []string
	produce  *kgo.Client
	admin    *kadm.Client
	topics   []string // what is read and shown

	mu      sync.Mutex
	changed chan struct{}              // closed and replaced when something was read
	flows   map[string]*flow           // by correlation id
	read    map[string]map[int32]int64 // by topic and partition, the offset after the last one read
	marks   map[deadletter.Position][]deadletter.Outcome
	parked  parkedEvents
	stuck   operator.Journal
	audits  []operator.Audit
	told    int // commands
	waits   deadlines
	joins   joins
}

// flow is what was seen of one flow, in the order of the events' times.
type flow struct {
	events   []seen
	expected int // events said by the service that expectations have used up
	dead     []DeadLetter
	buried   int // dead letters that expectations have used up
}

type seen struct {
	cloudevent.Event
	emission choreo.Emission
	err      error // the payload could not be decoded
	topic    string
	own      bool // said by the service
}

// Option changes how [Start] runs the service.
type Option func(*setup)

type setup struct {
	choreo.Config
	patience time.Duration
}

// With changes the configuration of the run, for example its limits.
func With(change func(*choreo.Config)) Option { return func(s *setup) { change(&s.Config) } }

// Within changes how long an expectation waits before it fails; [Patience] else.
func Within(d time.Duration) Option { return func(s *setup) { s.patience = d } }

// Start runs the service against an in-memory broker of its own until the test
// ends. It returns when the service is ready.
func Start(t testing.TB, svc *choreo.Service, options ...Option) *Service {
	t.Helper()
	if err := svc.Validate(); err != nil {
		t.Fatal(err)
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatalf("start the in-memory broker: %v", err)
	}
	t.Cleanup(cluster.Close)
	own := setup{patience: Patience, Config: choreo.Config{
		Brokers: cluster.ListenAddrs(), InstanceID: "test-0", IdleCommit: 5 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}}
	for _, o := range options {
		o(&own)
	}
	cfg := own.Config
	ctx, stop := context.WithCancel(context.Background())
	if err := svc.CreateTopics(ctx, cfg); err != nil {
		stop()
		t.Fatal(err)
	}
	s := &Service{
		t: t, svc: svc, patience: own.patience, brokers: cfg.Brokers,
		changed: make(chan struct{}), flows: map[string]*flow{}, read: map[string]map[int32]int64{},
		marks: map[deadletter.Position][]deadletter.Outcome{}, parked: parkedEvents{}, waits: deadlines{}, joins: joins{},
	}
	contract, err := svc.Contract()
	if err != nil {
		stop()
		t.Fatal(err)
	}
	for _, h := range contract.Hears {
		s.topics = append(s.topics, h.Topic)
	}
	for _, h := range contract.Says {
		s.topics = append(s.topics, h.Topic)
	}
	s.topics = append(s.topics, svc.Name()+".dlq", svc.Name()+".journal")
	slices.Sort(s.topics)
	s.topics = slices.Compact(s.topics)
	s.connect()

	var ended error
	done := make(chan struct{})
	go func() {
		defer close(done)
		ended = svc.Run(ctx, cfg)
	}()
	t.Cleanup(func() {
		stop()
		<-done
		if ended != nil {
			t.Errorf("the service ended with an error: %v", ended)
		}
	})
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for {
		err := svc.Ready()
		if err == nil {
			return s
		}
		select {
		case <-done:
			t.Fatal("the service ended at its start")
		case <-deadline.C:
			t.Fatalf("the service is not ready after %v: %v", Patience, err)
		case <-look.C:
		}
	}
}

// connect makes the clients that publish and that read along.
func (s *Service) connect() {
	var err error
	if s.produce, err = kgo.NewClient(kgo.SeedBrokers(s.brokers...), kgo.ProducerLinger(0),
		kgo.ProducerBatchMaxBytes(16<<20)); err != nil {
		s.t.Fatal(err)
	}
	s.admin = kadm.NewClient(s.produce)
	reader, err := kgo.NewClient(kgo.SeedBrokers(s.brokers...), kgo.ConsumeTopics(s.topics...),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.FetchMaxWait(50*time.Millisecond))
	if err != nil {
		s.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			fs := reader.PollFetches(context.Background())
			if fs.IsClientClosed() {
				return
			}
			s.see(fs.Records())
		}
	}()
	s.t.Cleanup(func() {
		reader.Close()
		<-done
		s.produce.Close()
	})
}

func (s *Service) see(recs []*kgo.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, rec := range recs {
		if s.read[rec.Topic] == nil {
			s.read[rec.Topic] = map[int32]int64{}
		}
		s.read[rec.Topic][rec.Partition] = rec.Offset + 1
		if rec.Attrs.IsControl() {
			continue
		}
		if rec.Topic == s.svc.Name()+".journal" {
			s.stuck.Apply(rec)
			s.parked.take(rec)
			s.waits.take(rec)
			s.joins.take(rec)
			continue
		}
		if rec.Topic == s.svc.Name()+".dlq" {
			if mark, ok := deadletter.ReadMark(rec); ok {
				s.marks[mark.Letter] = append(s.marks[mark.Letter], mark.Outcome)
				continue
			}
			if audit, ok := operator.ReadAudit(rec); ok {
				s.audits = append(s.audits, audit)
				continue
			}
			f := s.flow(string(rec.Key))
			f.dead = append(f.dead, DeadLetter{rec})
			continue
		}
		em, ev, err := s.svc.Decode(rec)
		id := ev.CorrelationID
		if id == "" {
			id = string(rec.Key)
		}
		f := s.flow(id)
		f.events = append(f.events, seen{ev, em, err, rec.Topic, ev.Service == s.svc.Name()})
		// One reader of several topics sees each in order, but not all
		// together: the times of one process's clock put them right.
		slices.SortStableFunc(f.events, func(a, b seen) int { return a.Time.Compare(b.Time) })
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// flow returns what was seen of a flow. The caller holds the lock.
func (s *Service) flow(id string) *flow {
	f := s.flows[id]
	if f == nil {
		f = &flow{}
		s.flows[id] = f
	}
	return f
}

// Publish says an event as another service would, in a flow. The service under
// test must declare it. It returns when the broker has it.
func (s *Service) Publish(flow string, e choreo.Emission) {
	s.t.Helper()
	s.PublishRecord(s.Record(flow, e))
}

// Record makes the record that [Service.Publish] produces, to be changed or
// produced more than once.
func (s *Service) Record(flow string, e choreo.Emission) *kgo.Record {
	s.t.Helper()
	rec, err := s.svc.Encode(flow, e)
	if err != nil {
		s.t.Fatal(err)
	}
	return rec
}

// PublishRecord produces a record as it is, for input that no declaration
// makes: broken events, duplicates, foreign headers.
func (s *Service) PublishRecord(rec *kgo.Record) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), s.patience)
	defer cancel()
	again := *rec // the client fills in where it went
	if err := s.produce.ProduceSync(ctx, &again).FirstErr(); err != nil {
		s.t.Fatalf("publish to %s: %v", rec.Topic, err)
	}
}

// publishTo produces a record to its partition.
func (s *Service) publishTo(rec *kgo.Record) {
	s.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		s.t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), s.patience)
	defer cancel()
	if err := cl.ProduceSync(ctx, rec).FirstErr(); err != nil {
		s.t.Fatalf("publish to %s: %v", rec.Topic, err)
	}
}

// Replay sends a dead letter again, as choreo dlq replay does.
func (s *Service) Replay(d DeadLetter) {
	s.t.Helper()
	letter, ok := deadletter.ReadLetter(d.Record)
	if !ok {
		s.t.Fatalf("%v is no dead letter", deadletter.PositionOf(d.Record))
	}
	rec, err := letter.Replay(d.Record, s.svc.Name()+".inbox", false)
	if err != nil {
		s.t.Fatal(err)
	}
	s.PublishRecord(rec)
}

// Brokers returns the addresses of the in-memory broker, for clients of the
// test's own.
func (s *Service) Brokers() []string { return s.brokers }
