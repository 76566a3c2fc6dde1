package producer

import (
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// span is what a transaction wrote to one partition and has no end marker.
type span struct {
	topic     string
	partition int32
	epoch     int16
	from      int64 // offset of its first record
}

func (s span) String() string {
	return fmt.Sprintf("%s/%d from offset %d", s.topic, s.partition, s.from)
}

// openOf asks the leaders of all partitions of the topics what the producer id
// has open there. Topics that do not exist, or that we may not read, are left
// out. It waits for a leader: without one, no marker can be written.
func openOf(ctx context.Context, client kmsg.Requestor, id int64, topics []string) (open []span, err error) {
	if len(topics) == 0 {
		return nil, nil
	}
	err = repeat(ctx, func() (code int16, err error) {
		open = nil
		ask, code, err := partitionsOf(ctx, client, topics)
		if code != 0 || err != nil || len(ask.Topics) == 0 {
			return code, err
		}
		resp, err := ask.RequestWith(ctx, client)
		if err != nil {
			return 0, err
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if !outOfReach(p.ErrorCode) && p.ErrorCode != 0 {
					return p.ErrorCode, nil
				}
				for _, a := range p.ActiveProducers {
					if a.ProducerID == id && a.CurrentTxnStartOffset >= 0 {
						open = append(open, span{t.Topic, p.Partition, int16(a.ProducerEpoch), a.CurrentTxnStartOffset})
					}
				}
			}
		}
		return 0, nil
	})
	return open, err
}

// partitionsOf makes the request for all partitions of the topics.
func partitionsOf(ctx context.Context, client kmsg.Requestor, topics []string) (*kmsg.DescribeProducersRequest, int16, error) {
	meta := kmsg.NewPtrMetadataRequest()
	for _, name := range topics {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = &name
		meta.Topics = append(meta.Topics, t)
	}
	resp, err := meta.RequestWith(ctx, client)
	if err != nil {
		return nil, 0, err
	}
	ask := kmsg.NewPtrDescribeProducersRequest()
	for _, t := range resp.Topics {
		if outOfReach(t.ErrorCode) {
			continue
		}
		if t.ErrorCode != 0 {
			return nil, t.ErrorCode, nil
		}
		at := kmsg.NewDescribeProducersRequestTopic()
		at.Topic = *t.Topic
		for _, p := range t.Partitions {
			if p.ErrorCode != 0 {
				return nil, p.ErrorCode, nil
			}
			at.Partitions = append(at.Partitions, p.Partition)
		}
		ask.Topics = append(ask.Topics, at)
	}
	return ask, 0, nil
}

// outOfReach: of such a topic nothing can be said.
func outOfReach(code int16) bool {
	return code == kerr.TopicAuthorizationFailed.Code || code == kerr.UnknownTopicOrPartition.Code
}

// touch adds the partitions to a transaction.
func touch(ctx context.Context, client kmsg.Requestor, who Identity, spans []span) error {
	add := kmsg.NewPtrAddPartitionsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch = who.TransactionalID, who.ID, who.Epoch
	for _, s := range spans {
		i := slices.IndexFunc(add.Topics, func(t kmsg.AddPartitionsToTxnRequestTopic) bool { return t.Topic == s.topic })
		if i < 0 {
			i = len(add.Topics)
			t := kmsg.NewAddPartitionsToTxnRequestTopic()
			t.Topic = s.topic
			add.Topics = append(add.Topics, t)
		}
		add.Topics[i].Partitions = append(add.Topics[i].Partitions, s.partition)
	}
	err := repeat(ctx, func() (int16, error) {
		resp, err := add.RequestWith(ctx, client)
		if err != nil {
			return 0, err
		}
		return refusal(resp), nil
	})
	if err != nil {
		return fmt.Errorf("adding %s and %d more to an empty transaction of %s: %w", spans[0], len(spans)-1, who.TransactionalID, err)
	}
	return nil
}

// refusal is why partitions were not added, if they were not: one that is refused
// keeps out all.
func refusal(resp *kmsg.AddPartitionsToTxnResponse) (code int16) {
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if p.ErrorCode != 0 && (code == 0 || code == kerr.OperationNotAttempted.Code) {
				code = p.ErrorCode
			}
		}
	}
	return code
}
