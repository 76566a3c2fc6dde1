// Package contenders are the programs that are compared, each as its users
// would write it, and none tuned beyond what its documentation says. (One more,
// the raw pipeline, is choreo/internal/rawpipeline.) Package measure runs each
// as a process.
package contenders

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/choreography-go/choreography/internal/contender"
	"github.com/twmb/franz-go/pkg/kgo"
)

// clientOptions are those of a client that forwards from one topic to another.
func clientOptions(s contender.Setup) []kgo.Opt {
	o := []kgo.Opt{
		kgo.SeedBrokers(s.Brokers...), kgo.ConsumerGroup(s.Name), kgo.ConsumeTopics(s.In), kgo.DefaultProduceTopic(s.Out),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
	}
	if s.Prompt {
		o = append(o, kgo.ProducerLinger(0))
	}
	return o
}

// perPoll is the argument of PollRecords; 0 takes all there is.
func perPoll(s contender.Setup) int { return s.PerCommit }

// commits counts them.
type commits struct{ n, records atomic.Int64 }

func (c *commits) add(records int) {
	c.n.Add(1)
	c.records.Add(int64(records))
}

func (c *commits) told() (commits, records int64) { return c.n.Load(), c.records.Load() }

// pollError is what a poll met, or nil when the run is over.
func pollError(ctx context.Context, fetches kgo.Fetches) error {
	select {
	case <-ctx.Done():
		return nil
	default:
	}
	for _, e := range fetches.Errors() {
		return fmt.Errorf("read %s/%d: %w", e.Topic, e.Partition, e.Err)
	}
	return nil
}

// Loop forwards at least once: poll, produce, flush, commit.
func Loop(ctx context.Context, s contender.Setup, m *contender.Meter) error {
	client, err := kgo.NewClient(append(clientOptions(s), kgo.DisableAutoCommit())...)
	if err != nil {
		return fmt.Errorf("make the client: %w", err)
	}
	defer client.Close()
	var done commits
	m.Commits = done.told
	// What was polled is finished, whatever ctx says meanwhile.
	whole := context.WithoutCancel(ctx)
	var refused atomic.Pointer[error]
	for ctx.Err() == nil {
		fetches := client.PollRecords(ctx, perPoll(s))
		if err := pollError(ctx, fetches); err != nil {
			return err
		}
		n := fetches.NumRecords()
		if n == 0 {
			continue
		}
		fetches.EachRecord(func(r *kgo.Record) {
			client.Produce(whole, &kgo.Record{Key: r.Key, Value: r.Value, Headers: r.Headers}, func(_ *kgo.Record, err error) {
				if err != nil {
					refused.CompareAndSwap(nil, &err)
				}
			})
		})
		if err := client.Flush(whole); err != nil {
			return fmt.Errorf("flush: %w", err)
		}
		if err := refused.Load(); err != nil {
			return fmt.Errorf("produce: %w", *err)
		}
		if err := client.CommitUncommittedOffsets(whole); err != nil {
			return fmt.Errorf("commit: %w", err)
		}
		done.add(n)
		m.Add(n)
	}
	return nil
}

// Session forwards exactly once by kgo's GroupTransactSession.
func Session(ctx context.Context, s contender.Setup, m *contender.Meter) error {
	session, err := kgo.NewGroupTransactSession(append(clientOptions(s), kgo.TransactionalID(s.Name))...)
	if err != nil {
		return fmt.Errorf("make the session: %w", err)
	}
	defer session.Close()
	var done commits
	m.Commits = done.told
	whole := context.WithoutCancel(ctx)
	for ctx.Err() == nil {
		fetches := session.PollRecords(ctx, perPoll(s))
		if err := pollError(ctx, fetches); err != nil {
			return err
		}
		n := fetches.NumRecords()
		if n == 0 {
			continue
		}
		if err := session.Begin(); err != nil {
			return fmt.Errorf("begin a transaction: %w", err)
		}
		first := kgo.AbortingFirstErrPromise(session.Client())
		fetches.EachRecord(func(r *kgo.Record) {
			session.Produce(whole, &kgo.Record{Key: r.Key, Value: r.Value, Headers: r.Headers}, first.Promise())
		})
		// Err waits for the records, which linger for 10 ms unless they are flushed.
		flushed := session.Client().Flush(whole)
		committed, err := session.End(whole, kgo.TransactionEndTry(flushed == nil && first.Err() == nil))
		if err != nil {
			return fmt.Errorf("end a transaction: %w", err)
		}
		if committed { // else it is polled again
			done.add(n)
			m.Add(n)
		}
	}
	return nil
}
