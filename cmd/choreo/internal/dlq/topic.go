// Package dlq looks through a service's dead-letter topic, and replays or
// discards what lies there. Of a letter it keeps where it lies and which group it
// belongs to; headers and payloads are read again where they are asked for, a few
// at a time.
package dlq

import (
	"context"
	"time"

	"github.com/choreography-go/choreography/cmd/choreo/internal/topic"
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

// topic is it, to be read and written.
func (t *Topic) topic() *topic.Topic {
	return &topic.Topic{Options: t.Options, Service: t.Service, Prefix: t.Prefix, Name: t.Name(), Patience: t.Patience}
}

// place is where a record lies in the topic.
type place struct {
	partition int32
	offset    int64
}

// fetch reads single records again. One that is gone meanwhile is left out.
func (t *Topic) fetch(ctx context.Context, places []place) (map[place]*kgo.Record, error) {
	want := map[place]bool{}
	spans := map[int32]topic.Span{}
	for _, p := range places {
		want[p] = true
		s, ok := spans[p.partition]
		if !ok {
			s = topic.Span{Begin: p.offset, End: p.offset + 1}
		}
		spans[p.partition] = topic.Span{Begin: min(s.Begin, p.offset), End: max(s.End, p.offset+1)}
	}
	got := map[place]*kgo.Record{}
	err := t.topic().Read(ctx, spans, func(rec *kgo.Record) {
		if p := (place{rec.Partition, rec.Offset}); want[p] {
			got[p] = rec
		}
	})
	return got, err
}
