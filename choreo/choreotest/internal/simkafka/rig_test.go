//go:build synctests

package simkafka

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/choreography-go/choreography/choreo/choreotest/internal/simnet"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const group = "payment"

// rig is a cluster with topics in, out and journal, and one host.
type rig struct {
	*testing.T
	net     *simnet.Network
	cluster *Cluster
	host    *simnet.Host
	admin   *kgo.Client
	ids     map[string][16]byte
}

// run runs a test on a cluster in a bubble.
func run(t *testing.T, markers time.Duration, test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(simnet.Config{Seed: 1, Latency: time.Millisecond})
		c, err := Start(Config{Network: n, Seed: 1, Markers: markers, Topics: map[string]int32{"in": 3, "out": 3, "journal": 3}, Settings: map[string]string{"group.initial.rebalance.delay.ms": "0"}})
		if err != nil {
			t.Fatal(err)
		}
		r := &rig{T: t, net: n, cluster: c, host: n.Host("payment-0"), ids: map[string][16]byte{}}
		defer func() { // what the clients keep ends before the bubble does
			r.admin.Close()
			c.Close()
			n.Close()
			synctest.Wait()
		}()
		r.admin = r.client()
		meta, err := kmsg.NewPtrMetadataRequest().RequestWith(t.Context(), r.admin)
		if err != nil {
			t.Fatal(err)
		}
		for _, mt := range meta.Topics {
			r.ids[*mt.Topic] = mt.TopicID
		}
		test(r)
	})
}

func (r *rig) client(opts ...kgo.Opt) *kgo.Client {
	r.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(r.cluster.Addrs()...), kgo.Dialer(r.host.Dial),
		kgo.DisableClientMetrics(), kgo.MetadataMinAge(10 * time.Millisecond), kgo.RecordPartitioner(kgo.ManualPartitioner())}, opts...)...)
	if err != nil {
		r.Fatal(err)
	}
	return cl
}

// lane is one transactional producer, driven by hand.
type lane struct {
	*rig
	*kgo.Client
	id    string
	pid   int64
	epoch int16
}

func (r *rig) lane(id string) *lane {
	return &lane{rig: r, Client: r.client(kgo.TransactionalID(id), kgo.ProducerLinger(0), kgo.TransactionTimeout(10*time.Minute)), id: id}
}

func (l *lane) begin() {
	l.Helper()
	if err := l.BeginTransaction(); err != nil {
		l.Fatal(err)
	}
	var err error
	if l.pid, l.epoch, err = l.ProducerID(context.Background()); err != nil {
		l.Fatal(err)
	}
}

// produce has the record in the broker when it returns.
func (l *lane) produce(topic, value string) {
	l.Helper()
	if err := l.ProduceSync(context.Background(), &kgo.Record{Topic: topic, Value: []byte(value)}).FirstErr(); err != nil {
		l.Fatal(err)
	}
}

// commit sends one TxnOffsetCommit of in/p and returns its error code's error.
func (l *lane) commit(p int32, offset int64) error {
	l.Helper()
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.Group, req.ProducerID, req.ProducerEpoch, req.Generation = l.id, group, l.pid, l.epoch, -1
	rt := kmsg.NewTxnOffsetCommitRequestTopic()
	rt.Topic, rt.TopicID = "in", l.ids["in"]
	rp := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	rp.Partition, rp.Offset = p, offset
	metadata := fmt.Sprint("at ", offset)
	rp.Metadata = &metadata
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	br := l.Broker(int(l.cluster.CoordinatorFor(group)))
	kresp, err := br.Request(context.Background(), req)
	if err != nil {
		l.Fatal(err)
	}
	return kerr.ErrorForCode(kresp.(*kmsg.TxnOffsetCommitResponse).Topics[0].Partitions[0].ErrorCode)
}

// commits commits until it is not refused for the last transaction's markers.
func (l *lane) commits(p int32, offset int64) {
	l.Helper()
	for range 10000 {
		err := l.commit(p, offset)
		if err == nil {
			return
		}
		if !errors.Is(err, kerr.ConcurrentTransactions) {
			l.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	l.Fatal("the last transaction does not complete")
}

func (l *lane) end() {
	l.Helper()
	if err := l.EndTransaction(context.Background(), kgo.TryCommit); err != nil {
		l.Fatal(err)
	}
}

// committed is the group's stable offset of in/p.
func (r *rig) committed(p int32) (int64, string, error) {
	r.Helper()
	req := kmsg.NewPtrOffsetFetchRequest()
	req.RequireStable = true
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = group
	gt := kmsg.NewOffsetFetchRequestGroupTopic()
	gt.Topic, gt.TopicID, gt.Partitions = "in", r.ids["in"], []int32{p}
	g.Topics = append(g.Topics, gt)
	req.Groups = append(req.Groups, g)
	kresp, err := r.admin.Broker(int(r.cluster.CoordinatorFor(group))).Request(context.Background(), req)
	if err != nil {
		r.Fatal(err)
	}
	got := kresp.(*kmsg.OffsetFetchResponse).Groups[0]
	if err := kerr.ErrorForCode(got.ErrorCode); err != nil {
		return -1, "", err
	}
	at := got.Topics[0].Partitions[0]
	metadata := ""
	if at.Metadata != nil {
		metadata = *at.Metadata
	}
	return at.Offset, metadata, kerr.ErrorForCode(at.ErrorCode)
}

// end is where a partition's log ends for the isolation level.
func (r *rig) endOf(topic string, p int32, isolation int8) int64 {
	r.Helper()
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID, req.IsolationLevel = -1, isolation
	lt := kmsg.NewListOffsetsRequestTopic()
	lt.Topic = topic
	lp := kmsg.NewListOffsetsRequestTopicPartition()
	lp.Partition, lp.Timestamp = p, -1
	lt.Partitions = append(lt.Partitions, lp)
	req.Topics = append(req.Topics, lt)
	kresp, err := r.admin.Broker(int(r.cluster.LeaderFor(topic, p))).Request(context.Background(), req)
	if err != nil {
		r.Fatal(err)
	}
	got := kresp.(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(got.ErrorCode); err != nil {
		r.Fatal(err)
	}
	return got.Offset
}

// reader reads partition 0 of a topic from its start, read committed.
func (r *rig) reader(topic string) *kgo.Client {
	return r.client(kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(5*time.Second),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
}

// next is the value of the next record that the reader gets within d.
func (r *rig) next(cl *kgo.Client, d time.Duration) string {
	r.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	fs := cl.PollRecords(ctx, 1)
	for _, rec := range fs.Records() {
		return string(rec.Value)
	}
	return ""
}
