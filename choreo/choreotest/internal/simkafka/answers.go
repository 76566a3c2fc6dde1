package simkafka

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/choreography-go/choreography/choreo/choreotest/internal/simnet"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// filter sees all answers of the brokers.
func (ts *transactions) filter(x *simnet.Exchange, answer []byte) ([]byte, time.Time) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	var (
		resp kmsg.Response // in place of the answer
		at   time.Time
		err  error
	)
	switch kmsg.Key(x.Key) {
	case kmsg.Produce:
		err = ts.produced(x, answer)
	case kmsg.Fetch:
		if ts.holding() {
			resp, at, err = ts.fetched(x, answer)
		}
	case kmsg.ListOffsets:
		if ts.holding() {
			resp, err = ts.listed(x, answer)
		}
	case kmsg.Metadata:
		err = ts.named(x, answer)
	case kmsg.OffsetCommit:
		err = ts.plainCommitted(x, answer)
	case kmsg.OffsetFetch:
		resp, err = ts.offsetsFetched(x, answer)
	case kmsg.InitProducerID:
		resp, err = ts.initialized(x, answer)
	case kmsg.EndTxn:
		err = ts.endAnswered(x, answer)
	case kmsg.TxnOffsetCommit:
		err = ts.txnCommitted(x, answer)
	}
	if err != nil { // kfake and kmsg do not agree
		panic(fmt.Sprintf("simkafka: %v", err))
	}
	if resp == nil {
		return answer, at
	}
	return frame(x.Correlation, resp), at
}

func (ts *transactions) named(x *simnet.Exchange, answer []byte) error {
	_, resp, err := parse[*kmsg.MetadataRequest, *kmsg.MetadataResponse](x, answer)
	if err != nil {
		return err
	}
	for _, t := range resp.Topics {
		if t.Topic != nil && t.TopicID != [16]byte{} {
			ts.names[*t.Topic] = topicID(t.TopicID[:])
		}
	}
	return nil
}

// produced notes where a transaction's records begin.
func (ts *transactions) produced(x *simnet.Exchange, answer []byte) error {
	req, resp, err := parse[*kmsg.ProduceRequest, *kmsg.ProduceResponse](x, answer)
	if err != nil || req.TransactionID == nil {
		return err
	}
	pid, epoch, _ := producer(req)
	t := ts.of(*req.TransactionID)
	if !t.open || pid != t.pid || epoch != t.epoch {
		return nil
	}
	for _, rt := range resp.Topics {
		for _, rp := range rt.Partitions {
			p := partition{ts.topic(rt.Topic, rt.TopicID), rp.Partition}
			if first, ok := t.first[p]; rp.ErrorCode == 0 && (!ok || rp.BaseOffset < first) {
				t.first[p] = rp.BaseOffset
			}
		}
	}
	return nil
}

// fetched ends what a read-committed reader gets at the first record that is
// held. If nothing is left, the answer waits for the marker, or for as long as
// the request may.
func (ts *transactions) fetched(x *simnet.Exchange, answer []byte) (kmsg.Response, time.Time, error) {
	req, resp, err := parse[*kmsg.FetchRequest, *kmsg.FetchResponse](x, answer)
	if err != nil || req.IsolationLevel != 1 || resp.ErrorCode != 0 {
		return nil, time.Time{}, err
	}
	var changed, cut, left bool
	wake := time.Now().Add(time.Duration(req.MaxWaitMillis) * time.Millisecond)
	for i := range resp.Topics {
		rt := &resp.Topics[i]
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			end, h, ok := ts.stable(partition{ts.topic(rt.Topic, rt.TopicID), rp.Partition}, rp.LastStableOffset)
			if ok && rp.ErrorCode == 0 {
				rp.LastStableOffset, changed = end, true
				if n := before(rp.RecordBatches, end); n < len(rp.RecordBatches) {
					rp.RecordBatches, cut = rp.RecordBatches[:n], true
					if h.until.Before(wake) {
						wake = h.until
					}
				}
			}
			left = left || len(rp.RecordBatches) > 0 || rp.ErrorCode != 0
		}
	}
	switch {
	case !changed:
		return nil, time.Time{}, nil
	case cut && !left:
		return resp, wake, nil
	}
	return resp, time.Time{}, nil
}

// before is how many bytes the batches take that begin before the offset.
func before(batches []byte, offset int64) int {
	n := 0
	for n+12 <= len(batches) && int64(binary.BigEndian.Uint64(batches[n:])) < offset {
		n += 12 + int(binary.BigEndian.Uint32(batches[n+8:]))
	}
	return min(n, len(batches))
}

func (ts *transactions) listed(x *simnet.Exchange, answer []byte) (kmsg.Response, error) {
	req, resp, err := parse[*kmsg.ListOffsetsRequest, *kmsg.ListOffsetsResponse](x, answer)
	if err != nil || req.IsolationLevel != 1 {
		return nil, err
	}
	latest := map[partition]bool{}
	for _, rt := range req.Topics {
		for _, rp := range rt.Partitions {
			latest[partition{ts.topic(rt.Topic, [16]byte{}), rp.Partition}] = rp.Timestamp == -1
		}
	}
	for i := range resp.Topics {
		rt := &resp.Topics[i]
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			if p := (partition{ts.topic(rt.Topic, [16]byte{}), rp.Partition}); latest[p] && rp.ErrorCode == 0 {
				rp.Offset, _, _ = ts.stable(p, rp.Offset)
			}
		}
	}
	return resp, nil
}

// offsetsFetched refuses, where it has to be stable, what waits for its
// marker, and shows the commit that was received last.
func (ts *transactions) offsetsFetched(x *simnet.Exchange, answer []byte) (kmsg.Response, error) {
	holding := ts.holding()
	if !holding && len(ts.order.last) == 0 {
		return nil, nil
	}
	req, resp, err := parse[*kmsg.OffsetFetchRequest, *kmsg.OffsetFetchResponse](x, answer)
	if err != nil {
		return nil, err
	}
	changed := false
	show := func(g groupPartition, code *int16, offset *int64, epoch *int32, metadata **string) {
		if *code != 0 {
			return
		}
		if _, ok := held(ts.offsets[g]); ok && req.RequireStable {
			*code, *offset, *epoch, *metadata, changed = kerr.UnstableOffsetCommit.Code, -1, -1, nil, true
		} else if v, ok := ts.order.last[g]; ok && v.hides {
			*offset, *epoch, *metadata, changed = v.offset, v.leaderEpoch, v.metadata, true
		}
	}
	for i := range resp.Topics { // before several groups could be asked for
		rt := &resp.Topics[i]
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			show(groupPartition{req.Group, partition{ts.topic(rt.Topic, [16]byte{}), rp.Partition}}, &rp.ErrorCode, &rp.Offset, &rp.LeaderEpoch, &rp.Metadata)
		}
	}
	for i := range resp.Groups {
		rg := &resp.Groups[i]
		for j := range rg.Topics {
			rt := &rg.Topics[j]
			for k := range rt.Partitions {
				rp := &rt.Partitions[k]
				show(groupPartition{rg.Group, partition{ts.topic(rt.Topic, rt.TopicID), rp.Partition}}, &rp.ErrorCode, &rp.Offset, &rp.LeaderEpoch, &rp.Metadata)
			}
		}
	}
	if !changed {
		return nil, nil
	}
	return resp, nil
}

func (ts *transactions) plainCommitted(x *simnet.Exchange, answer []byte) error {
	req, resp, err := parse[*kmsg.OffsetCommitRequest, *kmsg.OffsetCommitResponse](x, answer)
	if err != nil {
		return err
	}
	offsets := map[partition]int64{}
	for _, rt := range req.Topics {
		for _, rp := range rt.Partitions {
			offsets[partition{ts.topic(rt.Topic, rt.TopicID), rp.Partition}] = rp.Offset
		}
	}
	for _, rt := range resp.Topics {
		for _, rp := range rt.Partitions {
			if p := (partition{ts.topic(rt.Topic, rt.TopicID), rp.Partition}); rp.ErrorCode != 0 && rp.ErrorCode != kerr.RequestTimedOut.Code {
				ts.order.refused(groupPartition{req.Group, p}, offsets[p])
			}
		}
	}
	return nil
}

func (ts *transactions) txnCommitted(x *simnet.Exchange, answer []byte) error {
	req, resp, err := parse[*kmsg.TxnOffsetCommitRequest, *kmsg.TxnOffsetCommitResponse](x, answer)
	if err != nil {
		return err
	}
	t := ts.of(req.TransactionalID)
	if !t.open || req.ProducerID != t.pid || req.ProducerEpoch != t.epoch {
		return nil
	}
	for _, rt := range resp.Topics {
		for _, rp := range rt.Partitions {
			if rp.ErrorCode != 0 && rp.ErrorCode != kerr.RequestTimedOut.Code { // that is one which was executed
				delete(t.offsets, groupPartition{req.Group, partition{ts.topic(rt.Topic, rt.TopicID), rp.Partition}})
			}
		}
	}
	return nil
}

func (ts *transactions) endAnswered(x *simnet.Exchange, answer []byte) error {
	req, resp, err := parse[*kmsg.EndTxnRequest, *kmsg.EndTxnResponse](x, answer)
	if err != nil {
		return err
	}
	t := ts.of(req.TransactionalID)
	if e := t.ending; e != nil && !e.answered && !e.fence && e.epoch == req.ProducerEpoch {
		if resp.ErrorCode == 0 && req.Version >= 5 {
			e.nextPID, e.nextEpoch = resp.ProducerID, resp.ProducerEpoch
		}
		ts.ended(t, e, resp.ErrorCode == 0)
	} else if resp.ErrorCode == 0 && t.open && req.ProducerID == t.pid && req.ProducerEpoch == t.epoch {
		ts.done(t, req.Commit)
	}
	if resp.ErrorCode == 0 && req.Version >= 5 {
		t.pid, t.epoch = resp.ProducerID, resp.ProducerEpoch
	}
	return nil
}

// initialized refuses an InitProducerID that has aborted a transaction.
func (ts *transactions) initialized(x *simnet.Exchange, answer []byte) (kmsg.Response, error) {
	req, resp, err := parse[*kmsg.InitProducerIDRequest, *kmsg.InitProducerIDResponse](x, answer)
	if err != nil || req.TransactionalID == nil {
		return nil, err
	}
	t := ts.of(*req.TransactionalID)
	if resp.ErrorCode == 0 {
		t.timeout = time.Duration(req.TransactionTimeoutMillis) * time.Millisecond
		t.pid, t.epoch = resp.ProducerID, resp.ProducerEpoch
	}
	e := t.ending
	if e == nil || e.answered || !e.fence {
		if resp.ErrorCode == 0 {
			ts.done(t, false)
		}
		return nil, nil
	}
	ts.ended(t, e, resp.ErrorCode == 0)
	if resp.ErrorCode != 0 {
		return nil, nil
	}
	resp.ErrorCode, resp.ProducerID, resp.ProducerEpoch = kerr.ConcurrentTransactions.Code, -1, -1
	return resp, nil
}
