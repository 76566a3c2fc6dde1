package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// feeder puts jobs on the topics as some other system would: a plain producer
// that writes the headers of CloudEvents by itself. It remembers what the
// broker acknowledged, and that is what must have its effect.
type feeder struct {
	w      *world
	client *kgo.Client

	mu     sync.Mutex
	fed    []fed
	extras []fed
	last   map[string]int // n by flow
	errs   []error
	flows  int
}

// fed is an acknowledged job.
type fed struct {
	job
	id string
	at time.Time // when it was handed to the producer
}

func newFeeder(w *world) *feeder {
	w.t.Helper()
	f := &feeder{w: w, last: map[string]int{}}
	f.connect()
	return f
}

// connect makes the producer, or makes it anew.
func (f *feeder) connect() {
	f.w.t.Helper()
	if f.client != nil {
		f.client.Close()
	}
	var err error
	f.client, err = kgo.NewClient(kgo.SeedBrokers(f.w.cluster.brokers...), kgo.ProducerLinger(0), kgo.MetadataMinAge(100*time.Millisecond),
		kgo.MaxBufferedRecords(1_000_000), kgo.UnknownTopicRetries(-1), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	if err != nil {
		f.w.t.Fatal(err)
	}
}

// put hands a job to the producer; jobs of a flow are written in this order.
func (f *feeder) put(topic, typ string, j job) {
	data, err := json.Marshal(j)
	if err != nil {
		panic(err)
	}
	x := fed{job: j, id: fmt.Sprintf("%s-%s-%d", topic, j.Flow, j.N), at: time.Now()}
	rec := &kgo.Record{Topic: f.w.topic(topic), Key: []byte(j.Flow), Value: data, Headers: []kgo.RecordHeader{
		{Key: "ce_specversion", Value: []byte("1.0")},
		{Key: "ce_id", Value: []byte(x.id)},
		{Key: "ce_source", Value: []byte("/feeder")},
		{Key: "ce_type", Value: []byte(typ)},
		{Key: "ce_time", Value: []byte(x.at.UTC().Format(time.RFC3339Nano))},
		{Key: "ce_correlationid", Value: []byte(j.Flow)},
		{Key: "content-type", Value: []byte("application/json")},
	}}
	f.client.Produce(context.Background(), rec, func(_ *kgo.Record, err error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		switch {
		case err != nil:
			f.errs = append(f.errs, err)
		case topic == topicExtras:
			f.extras = append(f.extras, x)
		default:
			f.fed = append(f.fed, x)
		}
	})
}

// next puts the next job of a flow.
func (f *feeder) next(j job) {
	f.mu.Lock()
	f.last[j.Flow]++
	j.N = f.last[j.Flow]
	f.mu.Unlock()
	f.put(topicJobs, typeJob, j)
}

// failing puts a new flow of 1 to 3 jobs that fails at the last of them.
func (f *feeder) failing() {
	f.mu.Lock()
	f.flows++
	i := f.flows
	f.mu.Unlock()
	flow := fmt.Sprintf("failing-%d", i)
	for n := range 1 + i%3 {
		j := job{Flow: flow}
		if n == i%3 {
			j.Fail = failFitting
			if i%2 == 0 {
				j.Fail = failMisfit
			}
		}
		f.next(j)
	}
}

// load is what is fed while something happens to the services.
type load struct {
	rate  int // jobs per second
	flows int // that go on for ever, in turn
	fail  int // every so many jobs, a flow that fails; 0: none
	extra bool
}

// run feeds until ctx ends, open loop: what is late is caught up with.
func (f *feeder) run(ctx context.Context, l load) {
	began := time.Now()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; {
		for due := int(time.Since(began).Seconds() * float64(l.rate)); i < due; i++ {
			if l.fail > 0 && i%l.fail == l.fail-1 {
				f.failing()
				continue
			}
			f.next(job{Flow: fmt.Sprintf("steady-%d", i%l.flows)})
			if l.extra {
				f.put(topicExtras, typeExtra, job{Flow: fmt.Sprintf("steady-%d", i%l.flows), N: i/l.flows + 1})
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// during feeds while do runs, and waits for the acknowledgements.
func (f *feeder) during(l load, do func()) {
	f.w.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		f.run(ctx, l)
	}()
	defer func() {
		stop()
		<-fed
		f.flush()
	}()
	do()
}

// flush waits for the acknowledgements; every job must be acknowledged.
func (f *feeder) flush() {
	f.w.t.Helper()
	if err := f.client.Flush(timeout(f.w.t, time.Minute)); err != nil {
		f.w.t.Fatalf("feed: %v", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.errs) > 0 {
		f.w.t.Fatalf("feed: %d records were not acknowledged, the first: %v", len(f.errs), f.errs[0])
	}
}

// all returns the acknowledged jobs.
func (f *feeder) all() (jobs, extras []fed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]fed(nil), f.fed...), append([]fed(nil), f.extras...)
}
