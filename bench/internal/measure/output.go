package measure

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/choreography-go/choreography/bench/internal/workload"
	"github.com/twmb/franz-go/pkg/kgo"
)

// output reads what is committed in a topic and notes it. It has a goroutine of
// its own only while it is called.
type output struct {
	rig    *Rig
	topic  string
	client *kgo.Client
	book   *workload.Book
	next   map[int32]int64 // where each partition is read on
}

// output begins at the beginning of a topic. Close it.
func (r *Rig) output(topic string, book *workload.Book) (*output, error) {
	from := map[int32]kgo.Offset{}
	for p := range int32(partitions) {
		from[p] = kgo.NewOffset().At(0)
	}
	// The log ends in markers, which must be seen to know that all was read.
	client, err := kgo.NewClient(kgo.SeedBrokers(r.brokers...), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}))
	if err != nil {
		return nil, fmt.Errorf("make the client that reads %s: %w", topic, err)
	}
	return &output{rig: r, topic: topic, client: client, book: book, next: map[int32]int64{}}, nil
}

func (o *output) close() { o.client.Close() }

// until reads until enough is noted, or ctx ends, which is an error.
func (o *output) until(ctx context.Context, enough func() bool) error {
	for !enough() {
		fetches := o.client.PollFetches(ctx)
		for _, e := range fetches.Errors() {
			return fmt.Errorf("read %s/%d: %w", e.Topic, e.Partition, errors.Join(e.Err, context.Cause(ctx)))
		}
		fetches.EachRecord(func(rec *kgo.Record) {
			if !rec.Attrs.IsControl() {
				o.book.Note(rec.Partition, rec.Offset, rec.Key, rec.Value, rec.Timestamp)
			}
			o.next[rec.Partition] = rec.Offset + 1
		})
	}
	return nil
}

// rest reads to the end of a topic to which nobody writes any more. What was
// written last may be committed only now: the coordinator answers a commit when
// it has written down its decision, and writes the markers into the partitions
// after that (KIP-98).
func (o *output) rest(ctx context.Context) error {
	ends, err := o.rig.settled(ctx, o.topic)
	if err != nil {
		return err
	}
	return o.until(ctx, func() bool {
		for p, end := range ends {
			if o.next[p] < end {
				return false
			}
		}
		return true
	})
}

// settled waits until no transaction is open in a topic and returns the end of
// each partition.
func (r *Rig) settled(ctx context.Context, topic string) (map[int32]int64, error) {
	for {
		committed, err := r.admin.ListCommittedOffsets(ctx, topic)
		if err == nil {
			err = committed.Error()
		}
		if err != nil {
			return nil, fmt.Errorf("ask what is committed in %s: %w", topic, err)
		}
		ends, err := r.admin.ListEndOffsets(ctx, topic)
		if err == nil {
			err = ends.Error()
		}
		if err != nil {
			return nil, fmt.Errorf("ask for the end of %s: %w", topic, err)
		}
		at, open := map[int32]int64{}, 0
		for _, end := range ends[topic] {
			at[end.Partition] = end.Offset
			if c, _ := committed.Lookup(topic, end.Partition); c.Offset < end.Offset {
				open++
			}
		}
		if open == 0 {
			return at, nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return nil, fmt.Errorf("%d partitions of %s have an open transaction: %w", open, topic, context.Cause(ctx))
		}
	}
}

// read notes all of a topic to which nobody writes any more.
func (r *Rig) read(ctx context.Context, topic string, book *workload.Book) error {
	o, err := r.output(topic, book)
	if err != nil {
		return err
	}
	defer o.close()
	return o.rest(ctx)
}
