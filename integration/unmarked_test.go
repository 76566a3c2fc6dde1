package integration

import (
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// A coordinator may complete a transaction without its marker in the group's
// partition of __consumer_offsets (KAFKA-20734): offsets of the group are
// pending then that nobody knows of any more. The same is made here by writing
// them without telling the coordinator, which a broker allows that does not
// verify transactions.
func TestPendingOffsetsWithoutTransactionAreEndedNeedsDocker(t *testing.T) {
	const unread = 1 << 20 // an offset that nobody has come to
	w := newWorld(t, containers(t, 1))
	work, ship := w.begin()
	w.feeder.during(load{rate: 100, flows: 50, fail: 10}, func() { time.Sleep(time.Second) })
	work.kill()

	verify := "transaction.partition.verification.enable"
	w.setBrokers(kadm.AlterConfig{Name: verify, Value: kadm.StringPtr("false")})
	ids := []string{w.prefix + "work/work-0/0", w.prefix + "work/work-0/3", w.prefix + "work/work-0/offsets"}
	for _, id := range ids {
		w.leavePending("work", id, unread)
	}
	w.setBrokers(kadm.AlterConfig{Op: kadm.DeleteConfig, Name: verify})
	if open := w.openTransactions("work"); slices.ContainsFunc(ids, func(id string) bool { return slices.Contains(open, id) }) {
		t.Fatalf("the coordinator knows of %v", open)
	}
	if !w.unstable("work") {
		t.Fatal("the offsets of the group are stable: the test shows nothing")
	}

	work = w.start("work", "work-0")
	work.awaitReady(30 * time.Second)
	ship.awaitReady(30 * time.Second)
	w.feeder.during(load{rate: 100, flows: 50, fail: 10}, func() { time.Sleep(time.Second) })
	w.check(60 * time.Second)
}

// setBrokers sets a configuration of all brokers.
func (w *world) setBrokers(c kadm.AlterConfig) {
	w.t.Helper()
	ctx := timeout(w.t, 10*time.Second)
	if _, err := w.admin.AlterBrokerConfigs(ctx, []kadm.AlterConfig{c}); err != nil {
		w.t.Fatalf("set %s: %v", c.Name, err)
	}
}

// oldClient makes one of the time before KIP-890, when committing offsets did
// not add the group to the transaction, and topics went by their names.
func (w *world) oldClient() *kgo.Client {
	w.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.cluster.brokers...), kgo.MaxVersions(kversion.V3_5_0()))
	if err != nil {
		w.t.Fatal(err)
	}
	return cl
}

// leavePending writes an offset for every partition of the service's jobs under
// a transactional id, without the coordinator's knowing.
func (w *world) leavePending(service, id string, at int64) {
	w.t.Helper()
	ctx := timeout(w.t, 20*time.Second)
	old := w.oldClient()
	defer old.Close()
	init := kmsg.NewPtrInitProducerIDRequest()
	init.TransactionalID, init.TransactionTimeoutMillis, init.ProducerID, init.ProducerEpoch = &id, 10_000, -1, -1
	var who *kmsg.InitProducerIDResponse
	within(w.t, 20*time.Second, id+" is initialized", func() bool {
		var err error
		who, err = init.RequestWith(ctx, w.client)
		return err == nil && who.ErrorCode == 0
	})
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = id, who.ProducerID, who.ProducerEpoch
	req.Group, req.Generation = w.topic(service), -1
	jobs := kmsg.NewTxnOffsetCommitRequestTopic()
	jobs.Topic = w.topic(topicJobs)
	for n := range int32(tasks) {
		p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset = n, at
		jobs.Partitions = append(jobs.Partitions, p)
	}
	req.Topics = append(req.Topics, jobs)
	within(w.t, 20*time.Second, "the broker takes offsets without verification", func() bool {
		resp, err := req.RequestWith(ctx, old)
		return err == nil && resp.Topics[0].Partitions[0].ErrorCode == 0
	})
}

// unstable reports whether offsets of the group are pending.
func (w *world) unstable(service string) bool {
	w.t.Helper()
	req := kmsg.NewPtrOffsetFetchRequest()
	req.RequireStable = true
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = w.topic(service)
	jobs := kmsg.NewOffsetFetchRequestGroupTopic()
	jobs.Topic, jobs.Partitions = w.topic(topicJobs), []int32{0}
	g.Topics = append(g.Topics, jobs)
	req.Groups = append(req.Groups, g)
	old := w.oldClient()
	defer old.Close()
	resp, err := req.RequestWith(timeout(w.t, 10*time.Second), old)
	if err != nil {
		w.t.Fatalf("fetch offsets: %v", err)
	}
	return resp.Groups[0].Topics[0].Partitions[0].ErrorCode == kerr.UnstableOffsetCommit.Code
}
