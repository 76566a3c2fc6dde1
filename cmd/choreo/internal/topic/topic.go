// Package topic reads and writes the topics of a service for tools. It owns its
// clients, joins no group, and reads what is committed.
package topic

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

// Topic is a topic of a service.
type Topic struct {
	// Options connect clients to the brokers.
	Options []kgo.Opt
	// Service and Prefix were asked for, and made the Name.
	Service, Prefix, Name string
	// Patience is how long the brokers may say nothing.
	Patience time.Duration
}

// Span is a part of a partition: from Begin up to, and without, End.
type Span struct{ Begin, End int64 }

// Spans are those of the whole topic as it is now: what is committed. Empty
// partitions have none.
func (t *Topic) Spans(ctx context.Context) (map[int32]Span, error) {
	listed, err := t.list(ctx, (*kadm.Client).ListCommittedOffsets, (*kadm.Client).ListStartOffsets)
	if err != nil {
		return nil, err
	}
	ends, begins := listed[0], listed[1]
	all := map[int32]Span{}
	for p, end := range ends[t.Name] {
		if begin, ok := begins.Lookup(t.Name, p); ok && begin.Offset < end.Offset {
			all[p] = Span{begin.Offset, end.Offset}
		}
	}
	return all, nil
}

// Read hands every committed record of the spans to each, those of a partition
// in their order.
func (t *Topic) Read(ctx context.Context, spans map[int32]Span, each func(*kgo.Record)) error {
	if len(spans) == 0 {
		return nil
	}
	cl, err := t.reader(spans, kgo.FetchMaxWait(500*time.Millisecond))
	if err != nil {
		return err
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
				t.Name, t.Patience, len(left))
		}
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("read %s: %w", t.Name, err)
		}
		fetches.EachRecord(func(rec *kgo.Record) {
			s, open := left[rec.Partition]
			if !open {
				return
			}
			if rec.Offset < s.End && !rec.Attrs.IsControl() {
				each(rec)
			}
			if rec.Offset+1 >= s.End {
				delete(left, rec.Partition)
				cl.PauseFetchPartitions(map[string][]int32{t.Name: {rec.Partition}})
			}
		})
	}
	return nil
}

// Ends are where the partitions end now, as spans without an end.
func (t *Topic) Ends(ctx context.Context) (map[int32]Span, error) {
	listed, err := t.list(ctx, (*kadm.Client).ListCommittedOffsets)
	if err != nil {
		return nil, err
	}
	all := map[int32]Span{}
	for p, end := range listed[0][t.Name] {
		all[p] = Span{Begin: end.Offset}
	}
	return all, nil
}

// list asks the brokers for offsets of the topic, for one list after the other.
func (t *Topic) list(ctx context.Context, lists ...func(*kadm.Client, context.Context, ...string) (kadm.ListedOffsets, error)) ([]kadm.ListedOffsets, error) {
	cl, err := kgo.NewClient(t.Options...)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, t.Patience)
	defer cancel()
	admin := kadm.NewClient(cl)
	var all []kadm.ListedOffsets
	for _, list := range lists {
		offsets, err := list(admin, ctx, t.Name)
		if err == nil {
			err = offsets.Error()
		}
		if err != nil {
			return nil, t.explained(err)
		}
		all = append(all, offsets)
	}
	return all, nil
}

// Follow hands what is committed to the partitions from then on to each, until that
// has enough, or ctx ends.
func (t *Topic) Follow(ctx context.Context, from map[int32]Span, each func(*kgo.Record) (enough bool, err error)) error {
	cl, err := t.reader(from, kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		return err
	}
	defer cl.Close()
	for {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("read %s: %w", t.Name, err)
		}
		for _, rec := range fetches.Records() {
			if rec.Attrs.IsControl() {
				continue
			}
			if enough, err := each(rec); enough || err != nil {
				return err
			}
		}
	}
}

// reader is a client that reads partitions from the beginnings of their spans.
func (t *Topic) reader(spans map[int32]Span, more ...kgo.Opt) (*kgo.Client, error) {
	from := map[int32]kgo.Offset{}
	for p, s := range spans {
		from[p] = kgo.NewOffset().At(s.Begin)
	}
	cl, err := kgo.NewClient(slices.Concat(t.Options, []kgo.Opt{
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{t.Name: from}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // a position that counts markers reaches the end
		kgo.FetchMaxBytes(16 << 20), kgo.FetchMaxPartitionBytes(4 << 20), kgo.MaxConcurrentFetches(1),
	}, more)...)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	return cl, nil
}

// explained says what is wrong where the brokers do not tell of the topic.
func (t *Topic) explained(err error) error {
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return fmt.Errorf("there is no topic %q, or no right to see it (Read): are --service=%q and TOPIC_PREFIX=%q right?", t.Name, t.Service, t.Prefix)
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return fmt.Errorf("no right to read topic %q: allow Read on it: %w", t.Name, err)
	}
	return fmt.Errorf("ask the brokers where %s begins and ends: %w", t.Name, err)
}
