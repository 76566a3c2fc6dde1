package txn

import (
	"context"
	"errors"
	"time"

	"github.com/choreography-go/choreography/choreo/internal/producer"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// spread is over which partition leaders a transaction's outputs go.
//
// Every leader that is produced to adds its partitions to the transaction on
// its own, and the coordinator lets them wait for one another, 20 ms a try:
// where there are several, the lane adds all of them beforehand, in one request.
// The offsets' partition is never among them: it was added with the offsets.
type spread struct {
	client *kgo.Client
	off    bool // a single broker
	topics map[string]bool
	parts  map[partition]struct{}
	leader int32
	many   bool
}

type partition struct {
	topic  string
	number int32
}

func spreadOf(client *kgo.Client) *spread {
	s := &spread{client: client, leader: -1}
	if s.off = len(client.DiscoveredBrokers()) < 2; !s.off {
		s.topics, s.parts = make(map[string]bool), make(map[partition]struct{})
	}
	return s
}

// known reports whether the client knows the topic, and so a record's partition
// as soon as it is given one. A topic that was never produced to is not: its
// first transaction goes without the remedy.
func (s *spread) known(topic string) bool {
	if s.off {
		return false
	}
	known, asked := s.topics[topic]
	if !asked {
		leader, _, err := s.client.PartitionLeader(topic, 0)
		known = err == nil && leader >= 0
		s.topics[topic] = known
	}
	return known
}

// add takes note of an output's partition.
func (s *spread) add(topic string, number int32) {
	p := partition{topic, number}
	if _, seen := s.parts[p]; seen {
		return
	}
	s.parts[p] = struct{}{}
	leader, _, err := s.client.PartitionLeader(topic, number)
	switch {
	case err != nil || leader < 0:
	case s.leader < 0:
		s.leader = leader
	case s.leader != leader:
		s.many = true
	}
}

// announce adds the partitions to the transaction if they have several leaders.
// The request may be sent as often as it takes: it does the same again, and is
// refused once the transaction has ended, for the epoch has changed then.
func (s *spread) announce(ctx context.Context, who *producer.Identity) error {
	if !s.many {
		return nil
	}
	req := kmsg.NewPtrAddPartitionsToTxnRequest() // the client sends version 3: later ones are for brokers
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = who.TransactionalID, who.ID, who.Epoch
	at := make(map[string]int, len(s.topics))
	for p := range s.parts {
		i, ok := at[p.topic]
		if !ok {
			t := kmsg.NewAddPartitionsToTxnRequestTopic()
			t.Topic = p.topic
			i = len(req.Topics)
			at[p.topic] = i
			req.Topics = append(req.Topics, t)
		}
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p.number)
	}
	for {
		resp, err := req.RequestWith(ctx, s.client)
		if err != nil {
			return err
		}
		again := false
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				e := kerr.ErrorForCode(p.ErrorCode)
				switch {
				case e == nil, errors.Is(e, kerr.OperationNotAttempted): // for the sake of another partition of the request
				case errors.Is(e, kerr.ConcurrentTransactions):
					again, err = true, e
				default:
					return e
				}
			}
		}
		if !again {
			return nil
		}
		if err := pause(ctx, time.Millisecond, err); err != nil {
			return err
		}
	}
}
