package simkafka

import (
	"github.com/twmb/franz-go/pkg/kmsg"
)

type groupPartition struct {
	group string
	partition
}

type commit struct {
	offset      int64
	leaderEpoch int32
	metadata    *string
}

// version is a commit and its place among all commits.
type version struct {
	commit
	at    uint64
	hides bool     // kfake has another commit in its place
	prev  *version // for when it turns out to be refused
}

// commitOrder knows which commit of an offset was received last. That one
// wins on Kafka; with kfake the one does whose transaction ends last.
type commitOrder struct {
	at   uint64
	last map[groupPartition]version // that took effect
}

// plain notes a commit outside transactions: it takes effect at once.
func (o *commitOrder) plain(g groupPartition, c commit) {
	o.at++
	v := version{commit: c, at: o.at}
	if prev, ok := o.last[g]; ok {
		prev.prev = nil
		v.prev = &prev
	}
	o.last[g] = v
}

// refused takes a plain commit back.
func (o *commitOrder) refused(g groupPartition, offset int64) {
	switch v, ok := o.last[g]; {
	case !ok || v.offset != offset:
	case v.prev != nil:
		o.last[g] = *v.prev
	default:
		delete(o.last, g)
	}
}

// received gives a commit inside a transaction its place.
func (o *commitOrder) received(c commit) version {
	o.at++
	return version{commit: c, at: o.at}
}

// ended notes that the transaction of a commit has been committed.
func (o *commitOrder) ended(g groupPartition, v version) {
	if winner, ok := o.last[g]; ok && winner.at > v.at {
		winner.hides = true
		o.last[g] = winner
		return
	}
	o.last[g] = v
}

// txnCommit notes the offsets of a TxnOffsetCommit.
func (ts *transactions) txnCommit(t *transaction, req *kmsg.TxnOffsetCommitRequest) {
	for _, rt := range req.Topics {
		for _, p := range rt.Partitions {
			g := groupPartition{req.Group, partition{ts.topic(rt.Topic, rt.TopicID), p.Partition}}
			t.offsets[g] = ts.order.received(commit{p.Offset, p.LeaderEpoch, p.Metadata})
		}
	}
}
