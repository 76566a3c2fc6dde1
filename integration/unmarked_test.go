package integration

import (
	"hash/crc32"
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

// The same may happen in partitions of the journal and of outputs: a transaction
// is open there that the coordinator takes for ended, and nobody who reads what
// is committed gets past it. It is made here by producing without adding the
// partition to the transaction.
func TestOpenTransactionsThatTheCoordinatorTakesForEndedAreEndedNeedsDocker(t *testing.T) {
	w := newSilentWorld(t, containers(t, 1), "keep")
	verify := "transaction.partition.verification.enable"
	w.setBrokers(kadm.AlterConfig{Name: verify, Value: kadm.StringPtr("false")})
	id := func(lane string) string { return w.prefix + "keep/keep-0/" + lane }
	var committed, aborted []int32 // partitions, each with one record in the journal and one in an output

	// Committed.
	u := w.unmarked("keep", id("0"))
	u.leaveOpen(0, true)
	u.commit()
	committed = append(committed, 0)

	// Not ended: going to be aborted.
	u = w.unmarked("keep", id("1"))
	u.leaveOpen(1, false)
	aborted = append(aborted, 1)

	// Aborted, as the coordinator does at the timeout and when it fences.
	u = w.unmarked("keep", id("2"))
	u.leaveOpen(2, false)
	u.fence()
	aborted = append(aborted, 2)

	// Committed, and the one after it was aborted.
	u = w.unmarked("keep", id("3"))
	u.leaveOpen(3, true)
	u.commit()
	w.beginTransaction(id("3"), 4)
	u.fence()
	committed = append(committed, 3)
	aborted = append(aborted, 4)

	// Committed, and the one after it has left something open, too.
	u = w.unmarked("keep", id("offsets"))
	u.leaveOpen(5, true)
	u.commit()
	u.leaveOpen(6, false)
	committed = append(committed, 5)
	aborted = append(aborted, 6)

	w.setBrokers(kadm.AlterConfig{Op: kadm.DeleteConfig, Name: verify})
	for _, topic := range []string{"keep.journal", topicDone} {
		if open := w.blocked(topic); len(open) < len(committed)+len(aborted)-1 {
			t.Fatalf("readers of %s are blocked in partitions %v only: the test shows nothing", topic, open)
		}
	}

	keep := w.start("keep", "keep-0")
	keep.awaitReady(30 * time.Second)
	for _, topic := range []string{"keep.journal", topicDone} {
		within(t, 20*time.Second, "nothing is open in "+topic, func() bool { return len(w.blocked(topic)) == 0 })
		if got := w.readOpened(topic); !slices.Equal(got, committed) {
			t.Errorf("%s: committed in the partitions %v, want %v; aborted in %v", topic, got, committed, aborted)
		}
	}
}

// Keys of what is written by unmarked producers: a journal's, and none that a
// journal can be restored from.
const (
	goodKey = "unmarked\x00seen"
	badKey  = "unmarked"
)

// unmarked is a producer whose transactions the coordinator ends without their
// markers where it writes to.
type unmarked struct {
	w     *world
	group string
	id    string
	pid   int64
	epoch int16
}

func (w *world) unmarked(service, id string) *unmarked {
	w.t.Helper()
	u := &unmarked{w: w, group: w.topic(service), id: id}
	within(w.t, 20*time.Second, id+" is initialized", func() bool { return u.initialize() == 0 })
	return u
}

func (u *unmarked) initialize() int16 {
	u.w.t.Helper()
	init := kmsg.NewPtrInitProducerIDRequest()
	init.TransactionalID, init.TransactionTimeoutMillis, init.ProducerID, init.ProducerEpoch = &u.id, 60_000, -1, -1
	resp, err := init.RequestWith(timeout(u.w.t, 20*time.Second), u.w.client)
	if err != nil {
		u.w.t.Fatalf("initialize %s: %v", u.id, err)
	}
	u.pid, u.epoch = resp.ProducerID, resp.ProducerEpoch
	return resp.ErrorCode
}

// leaveOpen begins a transaction of which the coordinator knows the group alone,
// and writes a record to a partition of the journal and of an output: one that
// the journal can be restored from only if that is good.
func (u *unmarked) leaveOpen(partition int32, good bool) {
	u.w.t.Helper()
	ctx := timeout(u.w.t, 20*time.Second)
	add := kmsg.NewPtrAddOffsetsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = u.id, u.pid, u.epoch, u.group
	within(u.w.t, 20*time.Second, u.id+" begins a transaction", func() bool {
		resp, err := add.RequestWith(ctx, u.w.client)
		return err == nil && resp.ErrorCode == 0
	})
	key := goodKey
	if !good {
		key = badKey
	}
	old := u.w.oldClient()
	defer old.Close()
	for _, topic := range []string{"keep.journal", topicDone} {
		req := kmsg.NewPtrProduceRequest()
		req.TransactionID, req.Acks, req.TimeoutMillis = &u.id, -1, 10_000
		p := kmsg.NewProduceRequestTopicPartition()
		p.Partition, p.Records = partition, u.batch(key)
		rt := kmsg.NewProduceRequestTopic()
		rt.Topic = u.w.topic(topic)
		rt.Partitions = append(rt.Partitions, p)
		req.Topics = append(req.Topics, rt)
		within(u.w.t, 20*time.Second, "the broker takes records without verification", func() bool {
			resp, err := req.RequestWith(ctx, old)
			return err == nil && resp.Topics[0].Partitions[0].ErrorCode == 0
		})
	}
}

// batch is one record without value, in a transaction.
func (u *unmarked) batch(key string) []byte {
	record := kmsg.Record{Key: []byte(key)}
	record.Length = int32(len(record.AppendTo(nil)) - 1)
	now := time.Now().UnixMilli()
	b := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, Attributes: 1 << 4, FirstTimestamp: now, MaxTimestamp: now,
		ProducerID: u.pid, ProducerEpoch: u.epoch, NumRecords: 1, Records: record.AppendTo(nil),
	}
	const beforeLength, beforeAttributes = 8 + 4, 8 + 4 + 4 + 1 + 4
	raw := b.AppendTo(nil)
	b.Length = int32(len(raw) - beforeLength)
	b.CRC = int32(crc32.Checksum(raw[beforeAttributes:], crc32.MakeTable(crc32.Castagnoli)))
	return b.AppendTo(nil)
}

func (u *unmarked) commit() {
	u.w.t.Helper()
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = u.id, u.pid, u.epoch, true
	resp, err := req.RequestWith(timeout(u.w.t, 20*time.Second), u.w.client)
	if err != nil || resp.ErrorCode != 0 {
		u.w.t.Fatalf("commit %s: %v, %v", u.id, err, kerr.ErrorForCode(resp.ErrorCode))
	}
	u.pid, u.epoch = resp.ProducerID, resp.ProducerEpoch
	u.ends("CompleteCommit")
}

// fence makes the coordinator abort what is open.
func (u *unmarked) fence() {
	u.w.t.Helper()
	if code := u.initialize(); code != kerr.ConcurrentTransactions.Code {
		u.w.t.Fatalf("initialize %s, which has a transaction open: %v", u.id, kerr.ErrorForCode(code))
	}
	u.ends("CompleteAbort")
}

// ends waits until the coordinator takes the transaction for ended.
func (u *unmarked) ends(state string) {
	u.w.t.Helper()
	ctx := timeout(u.w.t, 20*time.Second)
	within(u.w.t, 20*time.Second, u.id+" is in state "+state, func() bool {
		all, err := u.w.admin.DescribeTransactions(ctx, u.id)
		return err == nil && all[u.id].State == state
	})
}

// beginTransaction writes to a partition of the output in a transaction that
// stays open, as the services' own are.
func (w *world) beginTransaction(id string, partition int32) {
	w.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.cluster.brokers...), kgo.TransactionalID(id), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		w.t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.BeginTransaction(); err != nil {
		w.t.Fatal(err)
	}
	record := &kgo.Record{Topic: w.topic(topicDone), Partition: partition, Key: []byte(badKey)}
	if err := cl.ProduceSync(timeout(w.t, 20*time.Second), record).FirstErr(); err != nil {
		w.t.Fatalf("write in a transaction of %s: %v", id, err)
	}
}

// blocked lists the partitions in which not all can be read that was written.
func (w *world) blocked(topic string) (partitions []int32) {
	w.t.Helper()
	ctx := timeout(w.t, 10*time.Second)
	ends, err := w.admin.ListEndOffsets(ctx, w.topic(topic))
	if err != nil {
		w.t.Fatalf("ask for the last offsets: %v", err)
	}
	stable, err := w.admin.ListCommittedOffsets(ctx, w.topic(topic))
	if err != nil {
		w.t.Fatalf("ask for the last stable offsets: %v", err)
	}
	ends.Each(func(o kadm.ListedOffset) {
		if s, ok := stable.Lookup(o.Topic, o.Partition); !ok || s.Offset < o.Offset {
			partitions = append(partitions, o.Partition)
		}
	})
	return partitions
}

// readOpened lists the partitions in which a record of leaveOpen or
// beginTransaction is committed.
func (w *world) readOpened(topic string) (partitions []int32) {
	w.t.Helper()
	ctx := timeout(w.t, 20*time.Second)
	ends, err := w.admin.ListCommittedOffsets(ctx, w.topic(topic))
	if err != nil {
		w.t.Fatalf("ask for the last stable offsets: %v", err)
	}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.cluster.brokers...), kgo.ConsumeTopics(w.topic(topic)), kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		w.t.Fatal(err)
	}
	defer cl.Close()
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			w.t.Fatalf("read %s: %v; left to read: %v", topic, err, left)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
			if key := string(r.Key); key == goodKey || key == badKey {
				partitions = append(partitions, r.Partition)
			}
		})
	}
	slices.Sort(partitions)
	return partitions
}
