package workload

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Feeder puts orders onto one topic. Make it with NewFeeder. Its methods must
// be called by one goroutine at a time.
type Feeder struct {
	client *kgo.Client
	topic  string
	flows  int
	next   int64

	mu  sync.Mutex
	err error // the first that a record met
}

// NewFeeder makes a feeder; the orders belong to so many flows in turn. They are
// not compressed: as alike as they are, one fetch would else hold 50,000 of them,
// and what is read ahead would be a good part of a whole input.
func NewFeeder(brokers []string, topic string, flows int, options ...kgo.Opt) (*Feeder, error) {
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(brokers...), kgo.MaxBufferedRecords(1 << 17), kgo.ProducerBatchCompression(kgo.NoCompression())}, options...)...)
	if err != nil {
		return nil, fmt.Errorf("make the client that feeds %s: %w", topic, err)
	}
	return &Feeder{client: client, topic: topic, flows: flows}, nil
}

// Close closes the client.
func (f *Feeder) Close() { f.client.Close() }

// Fed is the number of orders fed.
func (f *Feeder) Fed() int64 { return f.next }

// Feed puts n orders and waits until the broker has them.
func (f *Feeder) Feed(ctx context.Context, n int64) error {
	for range n {
		if err := f.put(ctx); err != nil {
			return err
		}
	}
	return f.flush(ctx)
}

// One puts one order and waits until the broker has it.
func (f *Feeder) One(ctx context.Context) error {
	rec, err := record(f.topic, f.topic, f.next, f.flows)
	if err != nil {
		return err
	}
	f.next++
	if err := f.client.ProduceSync(ctx, rec).FirstErr(); err != nil {
		return fmt.Errorf("feed %s: %w", f.topic, err)
	}
	return nil
}

// FeedAt puts orders at a steady rate for a time, whatever becomes of them.
func (f *Feeder) FeedAt(ctx context.Context, rate float64, d time.Duration) error {
	const every = 5 * time.Millisecond
	began := time.Now()
	from := f.next
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		elapsed := min(time.Since(began), d)
		for due := from + int64(rate*elapsed.Seconds()); f.next < due; {
			if err := f.put(ctx); err != nil {
				return err
			}
		}
		if elapsed == d {
			return f.flush(ctx)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (f *Feeder) put(ctx context.Context) error {
	rec, err := record(f.topic, f.topic, f.next, f.flows)
	if err != nil {
		return err
	}
	f.next++
	f.client.Produce(ctx, rec, func(_ *kgo.Record, err error) {
		if err == nil {
			return
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.err == nil {
			f.err = err
		}
	})
	return nil
}

func (f *Feeder) flush(ctx context.Context) error {
	err := f.client.Flush(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		err = f.err
	}
	if err != nil {
		return fmt.Errorf("feed %s: %w", f.topic, err)
	}
	return nil
}
