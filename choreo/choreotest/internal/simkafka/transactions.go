package simkafka

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	produceLook = 20 * time.Millisecond  // Kafka's add.partitions.to.txn.retry.backoff.ms
	produceMost = 100 * time.Millisecond // add.partitions.to.txn.retry.backoff.max.ms
)

// topicID is a topic's id where requests have it, else its name.
type topicID string

type partition struct {
	topic topicID
	num   int32
}

// transactions is what the brokers' answers say of transactions. Requests are
// seen in the order in which kfake executes them, by observing faults; answers
// on their way out, by filter.
type transactions struct {
	mu      sync.Mutex
	seed    uint64
	markers time.Duration
	most    time.Duration // markers come late by that
	mostTil time.Time

	names map[string]topicID
	byID  map[string]*transaction
	order commitOrder

	// What the markers that are not written yet keep back, and until when at most.
	records     map[partition][]hold
	offsets     map[groupPartition][]hold
	holdingTill time.Time

	// The verdict on the request that is being executed: it is asked for more
	// than once.
	last    kmsg.Request
	verdict *kerr.Error
}

// transaction is the last one of a transactional id.
type transaction struct {
	random  *rand.Rand
	timeout time.Duration
	pid     int64
	epoch   int16
	open    bool
	since   time.Time
	first   map[partition]int64 // offsets of the first record
	offsets map[groupPartition]version
	ending  *ending
}

// ending is the time from the decision on a transaction until it is complete.
type ending struct {
	req       kmsg.Request // that asked for it
	answered  bool
	fence     bool // by an InitProducerID
	commit    bool
	epoch     int16 // of the transaction
	nextPID   int64 // of the producer's next one
	nextEpoch int16
	until     time.Time
}

// hold keeps back what comes from offset first on.
type hold struct {
	by    *ending
	first int64
	until time.Time
}

func newTransactions(seed uint64, markers time.Duration) *transactions {
	return &transactions{
		seed: seed, markers: markers, names: map[string]topicID{}, byID: map[string]*transaction{},
		order:   commitOrder{last: map[groupPartition]version{}},
		records: map[partition][]hold{}, offsets: map[groupPartition][]hold{},
	}
}

func (ts *transactions) late(most time.Duration, until time.Time) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.most, ts.mostTil = most, until
}

// watch sees and refuses the requests of c.
func (ts *transactions) watch(c *kfake.Cluster) {
	keys := []kmsg.Key{kmsg.TxnOffsetCommit, kmsg.AddPartitionsToTxn, kmsg.AddOffsetsToTxn, kmsg.InitProducerID, kmsg.EndTxn, kmsg.OffsetCommit}
	refuse := func(err *kerr.Error) kfake.Fault {
		return kfake.Fault{Keys: keys, Err: err, Count: -1, When: func(req kmsg.Request) bool { return ts.judge(req) == err }}
	}
	c.Fault(refuse(kerr.ConcurrentTransactions), refuse(kerr.ProducerFenced))
	c.ControlKey(int16(kmsg.Produce), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := kreq.(*kmsg.ProduceRequest)
		wait := ts.produceWait(req)
		if wait == 0 {
			return nil, nil, false
		}
		c.SleepControl(func() { time.Sleep(wait) })
		if ts.produceWait(req) > 0 {
			return refuseProduce(req, kerr.NotEnoughReplicas), nil, true
		}
		return nil, nil, false
	})
}

// of is the transaction of an id.
func (ts *transactions) of(id string) *transaction {
	t := ts.byID[id]
	if t == nil {
		h := fnv.New64a()
		_, _ = h.Write([]byte(id))
		t = &transaction{random: rand.New(rand.NewPCG(ts.seed, h.Sum64())), timeout: time.Minute, pid: -1}
		ts.byID[id] = t
	}
	return t
}

func (ts *transactions) topic(name string, id [16]byte) topicID {
	if id != [16]byte{} {
		return topicID(id[:])
	}
	if id, ok := ts.names[name]; ok {
		return id
	}
	return topicID(name)
}

// judge sees a request before it is executed, and says with what it is
// refused.
func (ts *transactions) judge(req kmsg.Request) *kerr.Error {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.last == req {
		return ts.verdict
	}
	ts.last, ts.verdict = req, nil
	switch req := req.(type) {
	case *kmsg.TxnOffsetCommitRequest:
		if t := ts.of(req.TransactionalID); t.busy(req.ProducerID, req.ProducerEpoch) {
			ts.verdict = kerr.ConcurrentTransactions
		} else if t.begin(req.ProducerID, req.ProducerEpoch) {
			ts.txnCommit(t, req)
		}
	case *kmsg.AddPartitionsToTxnRequest:
		if t := ts.of(req.TransactionalID); t.busy(req.ProducerID, req.ProducerEpoch) {
			ts.verdict = kerr.ConcurrentTransactions
		} else {
			t.begin(req.ProducerID, req.ProducerEpoch)
		}
	case *kmsg.AddOffsetsToTxnRequest:
		if t := ts.of(req.TransactionalID); t.busy(req.ProducerID, req.ProducerEpoch) {
			ts.verdict = kerr.ConcurrentTransactions
		} else {
			t.begin(req.ProducerID, req.ProducerEpoch)
		}
	case *kmsg.InitProducerIDRequest:
		if req.TransactionalID == nil || ts.markers < 0 {
			break
		}
		switch t := ts.of(*req.TransactionalID); {
		case t.ends():
			ts.verdict = kerr.ConcurrentTransactions
		case t.open && time.Since(t.since) < t.timeout:
			ts.end(t, &ending{req: req, fence: true, epoch: t.epoch, nextPID: -1, nextEpoch: -1})
		}
	case *kmsg.EndTxnRequest:
		if ts.markers < 0 {
			break
		}
		switch t := ts.of(req.TransactionalID); {
		case t.ends() && req.Version >= 5 && req.ProducerEpoch == t.ending.nextEpoch && req.ProducerID == t.ending.nextPID:
			ts.verdict = kerr.ProducerFenced
		case t.ends() && req.ProducerEpoch == t.ending.epoch && req.Commit == t.ending.commit && !t.ending.fence:
			ts.verdict = kerr.ConcurrentTransactions
		case !t.ends() && t.open && req.ProducerID == t.pid && req.ProducerEpoch == t.epoch:
			e := &ending{req: req, commit: req.Commit, epoch: req.ProducerEpoch, nextPID: req.ProducerID, nextEpoch: req.ProducerEpoch}
			if req.Version >= 5 {
				e.nextEpoch++
			}
			ts.end(t, e)
		}
	case *kmsg.OffsetCommitRequest:
		for _, rt := range req.Topics {
			for _, p := range rt.Partitions {
				ts.order.plain(groupPartition{req.Group, partition{ts.topic(rt.Topic, rt.TopicID), p.Partition}}, commit{p.Offset, p.LeaderEpoch, p.Metadata})
			}
		}
	}
	return ts.verdict
}

// ends says whether the last transaction is decided and not complete.
func (t *transaction) ends() bool { return t.ending != nil && time.Now().Before(t.ending.until) }

// busy says whether a request of the producer's next transaction comes before
// the last one is complete. Other epochs are for kfake to fence.
func (t *transaction) busy(pid int64, epoch int16) bool {
	return t.ends() && pid == t.ending.nextPID && epoch == t.ending.nextEpoch
}

// begin notes that the producer has a transaction open, if it is not one that
// has been fenced.
func (t *transaction) begin(pid int64, epoch int16) bool {
	if pid == t.pid && epoch < t.epoch || t.ends() {
		return false
	}
	if t.open && pid == t.pid && epoch == t.epoch {
		return true
	}
	t.pid, t.epoch, t.open, t.since = pid, epoch, true, time.Now()
	t.first, t.offsets = map[partition]int64{}, map[groupPartition]version{}
	return true
}

// end draws when which marker is written, and holds back what waits for it.
func (ts *transactions) end(t *transaction, e *ending) {
	now := time.Now()
	after := func() time.Time {
		most := 2 * ts.markers
		if now.Before(ts.mostTil) {
			most = ts.most
		}
		at := now.Add(time.Duration(t.random.Int64N(int64(most) + 1)))
		if at.After(e.until) {
			e.until = at
		}
		return at
	}
	e.until = now
	for _, p := range sortedPartitions(t.first) {
		ts.records[p] = append(ts.records[p], hold{by: e, first: t.first[p], until: after()})
	}
	groups := map[string]time.Time{}
	for _, g := range sortedGroups(t.offsets) {
		at, ok := groups[g.group]
		if !ok { // one partition of __consumer_offsets, one marker
			at = after()
			groups[g.group] = at
		}
		ts.offsets[g] = append(ts.offsets[g], hold{by: e, until: at})
	}
	t.ending = e
	if e.until.After(ts.holdingTill) {
		ts.holdingTill = e.until
	}
}

// ended notes the answer to what began an ending.
func (ts *transactions) ended(t *transaction, e *ending, ok bool) {
	e.answered = true
	if !ok { // it was not executed
		t.ending = nil
		for p := range ts.records {
			ts.records[p] = slices.DeleteFunc(ts.records[p], func(h hold) bool { return h.by == e })
		}
		for g := range ts.offsets {
			ts.offsets[g] = slices.DeleteFunc(ts.offsets[g], func(h hold) bool { return h.by == e })
		}
		return
	}
	ts.done(t, e.commit)
}

// done closes a transaction that was ended.
func (ts *transactions) done(t *transaction, commit bool) {
	if commit {
		for g, v := range t.offsets {
			ts.order.ended(g, v)
		}
	}
	t.open, t.first, t.offsets = false, nil, nil
}

// holding says whether anything is kept back, and forgets what no longer is.
func (ts *transactions) holding() bool {
	if time.Now().Before(ts.holdingTill) {
		return true
	}
	clear(ts.records)
	clear(ts.offsets)
	return false
}

// held is the first of the holds that are still on, if any.
func held(holds []hold) (first hold, ok bool) {
	now := time.Now()
	for _, h := range holds {
		if h.until.After(now) && (!ok || h.first < first.first) {
			first, ok = h, true
		}
	}
	return first, ok
}

// produceWait is how long a Produce waits in the broker. It notes the
// transaction as open if it does not wait.
func (ts *transactions) produceWait(req *kmsg.ProduceRequest) time.Duration {
	if req.TransactionID == nil {
		return 0
	}
	pid, epoch, ok := producer(req)
	if !ok {
		return 0
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.of(*req.TransactionID)
	if !t.busy(pid, epoch) {
		t.begin(pid, epoch)
		return 0
	}
	wait := time.Until(t.ending.until) + produceLook - 1
	return min(wait-wait%produceLook, produceMost) // it looks at each produceLook
}

// producer is the producer of the first batch.
func producer(req *kmsg.ProduceRequest) (pid int64, epoch int16, ok bool) {
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			if len(p.Records) >= 61 {
				return int64(binary.BigEndian.Uint64(p.Records[43:])), int16(binary.BigEndian.Uint16(p.Records[51:])), true
			}
		}
	}
	return 0, 0, false
}

func refuseProduce(req *kmsg.ProduceRequest, err *kerr.Error) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.ProduceResponse)
	for _, t := range req.Topics {
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, err.Code
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func (p partition) compare(o partition) int {
	return cmp.Or(cmp.Compare(p.topic, o.topic), cmp.Compare(p.num, o.num))
}

func sortedPartitions(m map[partition]int64) []partition {
	ps := make([]partition, 0, len(m))
	for p := range m {
		ps = append(ps, p)
	}
	slices.SortFunc(ps, partition.compare)
	return ps
}

func sortedGroups(m map[groupPartition]version) []groupPartition {
	gs := make([]groupPartition, 0, len(m))
	for g := range m {
		gs = append(gs, g)
	}
	slices.SortFunc(gs, func(a, b groupPartition) int {
		return cmp.Or(cmp.Compare(a.group, b.group), a.compare(b.partition))
	})
	return gs
}

// stable is what a read-committed reader may see of a partition that ends at
// end, and until when it is not more.
func (ts *transactions) stable(p partition, end int64) (int64, hold, bool) {
	h, ok := held(ts.records[p])
	if !ok || h.first >= end {
		return end, hold{first: math.MaxInt64}, false
	}
	return h.first, h, true
}
