// Package dlq looks through a service's dead-letter topic, and replays or
// discards what lies there. It owns its clients and joins no group. Of a letter
// it keeps where it lies and which group it belongs to; headers and payloads are
// read again where they are asked for, a few at a time.
package dlq

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Topic is the dead-letter topic of a service.
type Topic struct {
	// Options connect clients to the brokers.
	Options []kgo.Opt
	// Service and Prefix make the names of its topics.
	Service, Prefix string
	// Patience is how long the brokers may say nothing.
	Patience time.Duration
}

// Name is the topic's name, Inbox that of the topic to which letters are sent
// again.
func (t *Topic) Name() string { return t.Prefix + t.Service + ".dlq" }

// Inbox is the topic to which letters are sent again.
func (t *Topic) Inbox() string { return t.Prefix + t.Service + ".inbox" }

// place is where a record lies in the topic.
type place struct {
	partition int32
	offset    int64
}

// span is a part of a partition: from begin up to, and without, end.
type span struct{ begin, end int64 }

// spans are those of the whole topic as it is now: what is committed.
func (t *Topic) spans(ctx context.Context) (map[int32]span, error) {
	cl, err := kgo.NewClient(t.Options...)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, t.Patience)
	defer cancel()
	adm := kadm.NewClient(cl)
	ends, err := adm.ListCommittedOffsets(ctx, t.Name())
	if err == nil {
		err = ends.Error()
	}
	var begins kadm.ListedOffsets
	if err == nil {
		begins, err = adm.ListStartOffsets(ctx, t.Name())
	}
	if err == nil {
		err = begins.Error()
	}
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return nil, fmt.Errorf("there is no topic %q, or no right to see it (Read): are --service=%q and TOPIC_PREFIX=%q right?", t.Name(), t.Service, t.Prefix)
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return nil, fmt.Errorf("no right to read topic %q: allow Read on it: %w", t.Name(), err)
	case err != nil:
		return nil, fmt.Errorf("ask the brokers where %s begins and ends: %w", t.Name(), err)
	}
	all := map[int32]span{}
	for p, end := range ends[t.Name()] {
		if begin, ok := begins.Lookup(t.Name(), p); ok && begin.Offset < end.Offset {
			all[p] = span{begin.Offset, end.Offset}
		}
	}
	return all, nil
}

// read hands every committed record of the spans to each, those of a partition
// in their order.
func (t *Topic) read(ctx context.Context, spans map[int32]span, each func(*kgo.Record)) error {
	if len(spans) == 0 {
		return nil
	}
	from := map[int32]kgo.Offset{}
	for p, s := range spans {
		from[p] = kgo.NewOffset().At(s.begin)
	}
	cl, err := kgo.NewClient(append(slices.Clone(t.Options),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{t.Name(): from}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // a position that counts markers reaches the end
		kgo.FetchMaxBytes(16<<20), kgo.FetchMaxPartitionBytes(4<<20), kgo.MaxConcurrentFetches(1),
		kgo.FetchMaxWait(500*time.Millisecond),
	)...)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	defer cl.Close()
	left := maps.Clone(spans)
	for len(left) > 0 {
		poll, cancel := context.WithTimeout(ctx, t.Patience)
		fetches := cl.PollFetches(poll)
		timedOut := poll.Err() != nil
		cancel()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if timedOut {
			return fmt.Errorf("read %s: nothing has come for %v, and %d partitions are not read to their end: are the brokers well, and is an old transaction open?",
				t.Name(), t.Patience, len(left))
		}
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("read %s: %w", t.Name(), err)
		}
		fetches.EachRecord(func(rec *kgo.Record) {
			s, open := left[rec.Partition]
			if !open {
				return
			}
			if rec.Offset < s.end && !rec.Attrs.IsControl() {
				each(rec)
			}
			if rec.Offset+1 >= s.end {
				delete(left, rec.Partition)
				cl.PauseFetchPartitions(map[string][]int32{t.Name(): {rec.Partition}})
			}
		})
	}
	return nil
}

// fetch reads single records again. One that is gone meanwhile is left out.
func (t *Topic) fetch(ctx context.Context, places []place) (map[place]*kgo.Record, error) {
	want := map[place]bool{}
	spans := map[int32]span{}
	for _, p := range places {
		want[p] = true
		s, ok := spans[p.partition]
		if !ok {
			s = span{p.offset, p.offset + 1}
		}
		spans[p.partition] = span{min(s.begin, p.offset), max(s.end, p.offset+1)}
	}
	got := map[place]*kgo.Record{}
	err := t.read(ctx, spans, func(rec *kgo.Record) {
		if p := (place{rec.Partition, rec.Offset}); want[p] {
			got[p] = rec
		}
	})
	return got, err
}
