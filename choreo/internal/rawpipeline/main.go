// Command rawpipeline is a contender of module bench: it forwards records by
// the lanes and stages of package txn and nothing of the framework above them.
// What choreo costs beyond it is the price of the framework.
//
// It is a program here, and not a part of bench, because txn is internal to
// choreo. It may not use anything of choreo but txn and offsets.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/choreography-go/choreography/choreo/internal/offsets"
	"github.com/choreography-go/choreography/choreo/internal/txn"
	"github.com/choreography-go/choreography/internal/contender"
	"github.com/twmb/franz-go/pkg/kgo"
)

func main() { contender.Main(run) }

// Defaults. So much is read and not committed in choreo, too.
const (
	inFlight = 20_000
	perPoll  = 1_000
)

func run(ctx context.Context, s contender.Setup, m *contender.Meter) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	void := func(why error) { fail(fmt.Errorf("the run is void: %w", why)) }

	var stopping atomic.Bool
	lost := func(context.Context, *kgo.Client, map[string][]int32) {
		if !stopping.Load() {
			void(errors.New("the group has taken partitions away"))
		}
	}
	member, err := kgo.NewClient(kgo.SeedBrokers(s.Brokers...), kgo.ConsumerGroup(s.Name), kgo.ConsumeTopics(s.In), kgo.DisableAutoCommit(),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.OnPartitionsRevoked(lost), kgo.OnPartitionsLost(lost))
	if err != nil {
		return fmt.Errorf("make the group client: %w", err)
	}
	defer member.Close()
	defer stopping.Store(true)

	tally := new(tally)
	m.Commits = tally.told
	ready := make(chan struct{})
	broken := func(why error) {
		select {
		case <-ready:
			void(why)
		default: // it tries again, as with brokers that have just been started
		}
	}
	fence := new(txn.Fence)
	pipe, err := txn.New(txn.Config{
		Fence: fence, Group: s.Name, Membership: member.GroupMetadata,
		TransactionalID: func(lane int) string { return fmt.Sprintf("%s/%d", s.Name, lane) },
		OffsetsID:       s.Name + "/offsets",
		Lanes:           s.Lanes, MaxRecords: s.PerCommit, ClientOptions: []kgo.Opt{kgo.SeedBrokers(s.Brokers...)},
		Ready:    sync.OnceFunc(func() { close(ready) }),
		Failed:   broken,
		Observer: tally, Logger: log,
	})
	if err != nil {
		return fmt.Errorf("make the pipeline: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := pipe.Run(context.WithoutCancel(ctx)); err != nil {
			void(err)
		}
	}()
	defer func() { pipe.Close(); <-ended }()
	select {
	case <-ready:
	case <-ctx.Done():
		return context.Cause(ctx)
	}

	f := &forwarder{out: s.Out, pipe: pipe, fence: fence, sources: map[int32]*source{}, room: make(chan struct{}, 1)}
	atOnce := min(cmp.Or(s.PerCommit, perPoll), perPoll)
	f.most = int64(max(cmp.Or(s.InFlight, inFlight)-atOnce, 0))
	for f.waitForRoom(ctx) {
		fetches := member.PollRecords(ctx, atOnce)
		for _, e := range fetches.Errors() {
			if ctx.Err() == nil {
				return fmt.Errorf("read %s/%d: %w", e.Topic, e.Partition, e.Err)
			}
		}
		if err := f.forward(fetches); err != nil {
			return err
		}
		m.Add(fetches.NumRecords())
	}
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return pipe.Drain(context.WithoutCancel(ctx))
}

// forwarder turns what was polled into results. It is used by one goroutine.
type forwarder struct {
	out     string
	pipe    *txn.Pipeline
	fence   *txn.Fence
	sources map[int32]*source
	most    int64 // in flight, when there is room for what is polled

	flying atomic.Int64
	room   chan struct{} // something was committed; holds one
}

type source struct {
	txn.Source
	inc *txn.Incarnation
}

// waitForRoom waits until a poll may add to what is in flight.
func (f *forwarder) waitForRoom(ctx context.Context) bool {
	for f.flying.Load() > f.most {
		select {
		case <-f.room:
		case <-ctx.Done():
			return false
		}
	}
	return ctx.Err() == nil
}

func (f *forwarder) committed(bool) { // if it failed, the run is void
	if f.flying.Add(-1) == f.most {
		select {
		case f.room <- struct{}{}:
		default:
		}
	}
}

func (f *forwarder) forward(fetches kgo.Fetches) error {
	n := fetches.NumRecords()
	if n == 0 {
		return nil
	}
	f.flying.Add(int64(n))
	results, batch := make([]txn.Result, n), make([]*txn.Result, 0, n)
	outputs := make([]*kgo.Record, n)
	committed := txn.DoneFunc(f.committed) // one value for all
	var failed error
	fetches.EachTopic(func(t kgo.FetchTopic) {
		t.EachPartition(func(p kgo.FetchPartition) {
			if len(p.Records) == 0 {
				return
			}
			src, err := f.source(t, p.Partition)
			if err != nil {
				failed = err
				return
			}
			for _, rec := range p.Records {
				i := len(batch)
				src.Offsets.Begin(rec.Offset, rec.LeaderEpoch)
				outputs[i] = &kgo.Record{Topic: f.out, Key: rec.Key, Value: rec.Value, Headers: rec.Headers}
				results[i] = txn.Result{Inc: src.inc, Source: &src.Source, Offset: rec.Offset, Records: outputs[i : i+1 : i+1], Done: committed}
				batch = append(batch, &results[i])
			}
		})
	})
	if failed != nil {
		return failed
	}
	f.pipe.SubmitAll(batch)
	return nil
}

// source is that of a partition; the group is new, so each is read from its
// start.
func (f *forwarder) source(t kgo.FetchTopic, partition int32) (*source, error) {
	if src := f.sources[partition]; src != nil {
		return src, nil
	}
	tracker, err := offsets.New(0, "")
	if err != nil {
		return nil, fmt.Errorf("follow %s/%d: %w", t.Topic, partition, err)
	}
	src := &source{txn.Source{Topic: t.Topic, TopicID: t.TopicID, Partition: partition, Offsets: tracker}, f.fence.Open(partition)}
	f.sources[partition] = src
	return src, nil
}
