package task

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// partition names one partition of a topic.
type partition struct {
	topic string
	num   int32
}

// errUnstable says that a transaction with offsets of the group is open.
var errUnstable = errors.New("a transaction with offsets of the group is open")

// fetchCommitted sets Offset (-1: none), Metadata and LeaderEpoch of the
// sources to what the group committed. The fetch is stable (KIP-447): while a
// transaction with offsets of a source is open it returns errUnstable at once,
// where kgo's own would sleep for a second.
func fetchCommitted(ctx context.Context, cl kmsg.Requestor, group string, sources []*Source) error {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.RequireStable = true
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = group
	wanted := make(map[partition]*Source, len(sources))
	at := make(map[string]int)
	ids := make(map[[16]byte]string)
	for _, s := range sources {
		i, ok := at[s.Topic]
		if !ok {
			t := kmsg.NewOffsetFetchRequestGroupTopic()
			t.Topic, t.TopicID = s.Topic, s.TopicID
			i = len(g.Topics)
			at[s.Topic] = i
			ids[s.TopicID] = s.Topic
			g.Topics = append(g.Topics, t)
		}
		g.Topics[i].Partitions = append(g.Topics[i].Partitions, s.Partition)
		wanted[partition{s.Topic, s.Partition}] = s
	}
	req.Groups = append(req.Groups, g)
	fail := func(err error) error {
		return fmt.Errorf("fetching the committed offsets of group %q: %w", group, err)
	}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return fail(err)
	}
	if len(resp.Groups) != 1 {
		return fail(fmt.Errorf("the answer is of %d groups", len(resp.Groups)))
	}
	if err := kerr.ErrorForCode(resp.Groups[0].ErrorCode); err != nil {
		return fail(err)
	}
	for _, t := range resp.Groups[0].Topics {
		name := t.Topic
		if name == "" {
			name = ids[t.TopicID]
		}
		for _, p := range t.Partitions {
			switch err := kerr.ErrorForCode(p.ErrorCode); {
			case errors.Is(err, kerr.UnstableOffsetCommit):
				return errUnstable
			case err != nil:
				return fail(fmt.Errorf("topic %q, partition %d: %w", name, p.Partition, err))
			}
			s := wanted[partition{name, p.Partition}]
			if s == nil {
				continue
			}
			delete(wanted, partition{name, p.Partition})
			s.Offset, s.LeaderEpoch, s.Metadata = p.Offset, p.LeaderEpoch, ""
			if p.Metadata != nil {
				s.Metadata = *p.Metadata
			}
			if s.Offset < 0 {
				s.Offset = -1
			}
		}
	}
	for p := range wanted {
		return fail(fmt.Errorf("the answer leaves out topic %q, partition %d", p.topic, p.num))
	}
	return nil
}

// bound is which end of a partition's log to ask for.
type bound struct {
	timestamp int64
	isolation int8
}

var (
	logStart      = bound{timestamp: -2}
	highWatermark = bound{timestamp: -1, isolation: 0} // read uncommitted: behind open transactions, too
	lastStable    = bound{timestamp: -1, isolation: 1} // read committed: before the first open transaction
)

// listOffsets asks the leaders of the partitions for one end of their logs.
func listOffsets(ctx context.Context, cl kmsg.Requestor, parts []partition, b bound) (map[partition]int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID, req.IsolationLevel = -1, b.isolation
	at := make(map[string]int)
	for _, p := range parts {
		i, ok := at[p.topic]
		if !ok {
			t := kmsg.NewListOffsetsRequestTopic()
			t.Topic = p.topic
			i = len(req.Topics)
			at[p.topic] = i
			req.Topics = append(req.Topics, t)
		}
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition, rp.Timestamp = p.num, b.timestamp
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, rp)
	}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, fmt.Errorf("asking for the ends of the log of %s: %w", describeParts(parts), err)
	}
	ends := make(map[partition]int64, len(parts))
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return nil, fmt.Errorf("asking for the ends of the log of topic %q, partition %d: %w", t.Topic, p.Partition, err)
			}
			ends[partition{t.Topic, p.Partition}] = p.Offset
		}
	}
	for _, p := range parts {
		if _, ok := ends[p]; !ok {
			return nil, fmt.Errorf("asking for the ends of the log: the answer leaves out topic %q, partition %d", p.topic, p.num)
		}
	}
	return ends, nil
}

func describeParts(parts []partition) string {
	if len(parts) == 1 {
		return fmt.Sprintf("topic %q, partition %d", parts[0].topic, parts[0].num)
	}
	return fmt.Sprintf("%d partitions", len(parts))
}
