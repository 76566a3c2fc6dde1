package topic

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Sender sends records and waits for them.
type Sender struct{ client *kgo.Client }

// Sender makes one. Without options it partitions records by their keys.
func (t *Topic) Sender(more ...kgo.Opt) (*Sender, error) {
	cl, err := kgo.NewClient(append(append(slices.Clone(t.Options), more...),
		kgo.ProducerBatchMaxBytes(20<<20), kgo.ProducerLinger(0), kgo.RecordDeliveryTimeout(t.Patience),
	)...)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	return &Sender{cl}, nil
}

// Close ends its client.
func (s *Sender) Close() { s.client.Close() }

// Send sends records of one topic, and waits for all of them.
func (s *Sender) Send(ctx context.Context, recs []*kgo.Record) error {
	err := s.client.ProduceSync(ctx, recs...).FirstErr()
	switch topic := recs[0].Topic; {
	case errors.Is(err, kerr.MessageTooLarge):
		return fmt.Errorf("topic %q takes no record as large as that: raise MAX_EVENT_BYTES of the service, and its max.message.bytes by topics --apply: %w", topic, err)
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed): // the latter if there is nothing it may write to
		return fmt.Errorf("no right to write to topic %q: allow Write on it: %w", topic, err)
	case err != nil:
		return fmt.Errorf("write to topic %q: %w", topic, err)
	}
	return nil
}
