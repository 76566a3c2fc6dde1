package measure

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/choreography-go/choreography/bench/internal/workload"
	"github.com/choreography-go/choreography/internal/contender"
	"github.com/twmb/franz-go/pkg/kgo"
)

// unmeasured orders go ahead of those whose latency counts.
const unmeasured = 100

// Latency sends n orders through a contender, each when the one before it has
// come out, and returns how long each took, from before it was sent until a
// read-committed reader had it.
func (r *Rig) Latency(ctx context.Context, c Contender, n int) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, runTimeout, fmt.Errorf("not all of %d orders came out within %v", n, runTimeout))
	defer cancel()
	took, err := r.latency(ctx, c, n)
	if err != nil {
		return nil, fmt.Errorf("%s, %d orders one at a time: %w", c, n, err)
	}
	return took, nil
}

func (r *Rig) latency(ctx context.Context, c Contender, n int) (_ []time.Duration, err error) {
	name := r.name(c)
	in, out := name+"-in", name+"-out"
	for _, t := range []string{in, out} {
		if err := r.create(ctx, t); err != nil {
			return nil, err
		}
	}
	all := int64(n + unmeasured)
	flows := c.flows(all)
	feeder, err := workload.NewFeeder(r.brokers, in, flows, kgo.ProducerLinger(0))
	if err != nil {
		return nil, err
	}
	defer feeder.Close()
	reader, err := kgo.NewClient(kgo.SeedBrokers(r.brokers...), kgo.ConsumeTopics(out), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		return nil, fmt.Errorf("make the client that reads %s: %w", out, err)
	}
	defer reader.Close()
	p, err := r.start(ctx, c, contender.Setup{Name: name, In: in, Out: out, Prompt: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()

	book := workload.NewBook(all, flows)
	took := make([]time.Duration, 0, n)
	for i := range all {
		began := time.Now()
		if err := feeder.One(ctx); err != nil {
			return nil, err
		}
		for book.Noted() <= i {
			fetches := reader.PollFetches(ctx)
			for _, e := range fetches.Errors() {
				return nil, fmt.Errorf("read %s/%d: %w", e.Topic, e.Partition, errors.Join(e.Err, context.Cause(ctx)))
			}
			fetches.EachRecord(func(rec *kgo.Record) {
				book.Note(rec.Partition, rec.Offset, rec.Key, rec.Value, rec.Timestamp)
			})
		}
		if i >= unmeasured {
			took = append(took, time.Since(began))
		}
	}
	if err := p.stop(); err != nil {
		return nil, err
	}
	again := workload.NewBook(all, flows) // also what came after
	if err := r.read(ctx, out, again); err != nil {
		return nil, err
	}
	if err := again.Complete(c.exactlyOnce()); err != nil {
		return nil, fmt.Errorf("the output is wrong: %w", err)
	}
	return took, r.forget(ctx, name)
}
