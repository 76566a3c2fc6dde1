package task

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const deadline = 15 * time.Second

// eventually waits for a condition that another process, the broker, brings
// about.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %v still not: %s", deadline, what)
		}
	}
}

// rig is a broker with the topics of one service.
type rig struct {
	t       *testing.T
	brokers []string
	group   string
	cl      *kgo.Client // produces where records say, without transaction
	adm     *kadm.Client
}

// newRig makes the topics, each with that many partitions.
func newRig(t *testing.T, topics map[string]int32) *rig {
	t.Helper()
	return newRigOn(t, startBroker(t), groupName(t), topics)
}

// newRigOn makes them on brokers that run already.
func newRigOn(t *testing.T, brokers []string, group string, topics map[string]int32) *rig {
	t.Helper()
	r := &rig{t: t, brokers: brokers, group: group}
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
		kgo.MetadataMinAge(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	r.cl, r.adm = cl, kadm.NewClient(cl)
	for name, n := range topics {
		r.create(name, n)
	}
	return r
}

// topic is a topic's name on the broker.
func (r *rig) topic(name string) string { return r.group + "." + name }

func (r *rig) create(name string, n int32) {
	r.t.Helper()
	if _, err := r.adm.CreateTopic(r.t.Context(), n, 1, nil, r.topic(name)); err != nil {
		r.t.Fatal(err)
	}
	eventually(r.t, "topic "+name+" created", func() bool {
		td, err := r.adm.ListTopics(r.t.Context(), r.topic(name))
		return err == nil && len(td[r.topic(name)].Partitions) == int(n) && td[r.topic(name)].Err == nil
	})
}

func (r *rig) remove(name string) {
	r.t.Helper()
	if _, err := r.adm.DeleteTopic(r.t.Context(), r.topic(name)); err != nil {
		r.t.Fatal(err)
	}
	eventually(r.t, "topic "+name+" deleted", func() bool {
		td, err := r.adm.ListTopics(r.t.Context(), r.topic(name))
		return err == nil && errors.Is(td[r.topic(name)].Err, kerr.UnknownTopicOrPartition)
	})
}

// produce appends values to a partition.
func (r *rig) produce(name string, p int32, values ...string) {
	r.t.Helper()
	var recs []*kgo.Record
	for _, v := range values {
		recs = append(recs, &kgo.Record{Topic: r.topic(name), Partition: p, Key: []byte(v), Value: []byte(v)})
	}
	if err := r.cl.ProduceSync(r.t.Context(), recs...).FirstErr(); err != nil {
		r.t.Fatal(err)
	}
}

// commit sets a committed offset from outside the group, which must be empty.
func (r *rig) commit(name string, p int32, at int64) {
	r.t.Helper()
	var os kadm.Offsets
	os.AddOffset(r.topic(name), p, at, -1)
	if err := r.adm.CommitAllOffsets(r.t.Context(), r.group, os); err != nil {
		r.t.Fatal(err)
	}
}

// begun writes the journal record that a partition was begun.
func (r *rig) begun(name string, p int32, id [16]byte, task int32) {
	r.t.Helper()
	rec := begunRecord(r.topic("journal"), task, r.topic(name), p, id)
	if err := r.cl.ProduceSync(r.t.Context(), rec).FirstErr(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) id(name string) [16]byte {
	r.t.Helper()
	td, err := r.adm.ListTopics(r.t.Context(), r.topic(name))
	if err != nil {
		r.t.Fatal(err)
	}
	return td[r.topic(name)].ID
}

// committed is the group's committed offset, -1 if none.
func (r *rig) committed(name string, p int32) int64 {
	r.t.Helper()
	os, err := r.adm.FetchOffsets(r.t.Context(), r.group)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return -1
	}
	if err != nil {
		r.t.Fatal(err)
	}
	if o, ok := os.Lookup(r.topic(name), p); ok {
		return o.At
	}
	return -1
}

// lane begins a transaction under a transactional id, as an instance would.
func (r *rig) lane(id string) *kgo.Client {
	r.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.brokers...), kgo.TransactionalID(id), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0), kgo.TransactionTimeout(60*time.Second))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(cl.Close)
	return cl
}

func (r *rig) begin(cl *kgo.Client) {
	r.t.Helper()
	if err := cl.BeginTransaction(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) end(cl *kgo.Client, how kgo.TransactionEndTry) {
	r.t.Helper()
	if err := cl.EndTransaction(r.t.Context(), how); err != nil {
		r.t.Fatal(err)
	}
}

// write produces in the open transaction of a lane.
func (r *rig) write(cl *kgo.Client, name string, p int32, values ...string) {
	r.t.Helper()
	for _, v := range values {
		if err := cl.ProduceSync(r.t.Context(), &kgo.Record{Topic: r.topic(name), Partition: p, Key: []byte(v), Value: []byte(v)}).FirstErr(); err != nil {
			r.t.Fatal(err)
		}
	}
}

// commitIn commits an offset in the open transaction of a lane.
func (r *rig) commitIn(cl *kgo.Client, id, name string, p int32, at int64) {
	r.t.Helper()
	pid, epoch, err := cl.ProducerID(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.Group, req.ProducerID, req.ProducerEpoch, req.Generation = id, r.group, pid, epoch, -1
	rt := kmsg.NewTxnOffsetCommitRequestTopic()
	rt.Topic, rt.TopicID = r.topic(name), r.id(name)
	rp := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	rp.Partition, rp.Offset = p, at
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(r.t.Context(), cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

const begunPrefix = "begun "

func begunRecord(journal string, task int32, topic string, p int32, id [16]byte) *kgo.Record {
	return &kgo.Record{Topic: journal, Partition: task, Key: fmt.Appendf(nil, "%s%s/%d", begunPrefix, topic, p), Value: slices.Clone(id[:])}
}

// store keeps what was applied.
type store struct {
	mu      sync.Mutex
	applied []string
	begun   map[string][16]byte
	refuse  string
	fault   error
}

func (s *store) Restored() error { return s.fault }

func (s *store) Apply(rec *kgo.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := string(rec.Key)
	if key == s.refuse {
		s.fault = fmt.Errorf("offset %d: unknown format version 9", rec.Offset)
		return
	}
	if at, ok := strings.CutPrefix(key, begunPrefix); ok {
		s.begun[at] = [16]byte(rec.Value)
		return
	}
	s.applied = append(s.applied, key)
}

func (s *store) Begun(topic string, p int32) ([16]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, ok := s.begun[fmt.Sprintf("%s/%d", topic, p)]
	return id, ok
}

// incarnation is held by its engine's hold.
type incarnation struct {
	task int32
	ctx  context.Context
	end  context.CancelCauseFunc
	hold func(ctx context.Context) error
}

func (i *incarnation) Close(cause error)              { i.end(cause) }
func (i *incarnation) Context() context.Context       { return i.ctx }
func (i *incarnation) Wait(ctx context.Context) error { return i.hold(ctx) }

// instance is a process of the service: an Owner and an engine that keeps what
// it is given. Begin and commit write without transactions.
type instance struct {
	r     *rig
	id    string
	owner *Owner
	ran   chan error
	stop  context.CancelFunc

	// Set before it starts.
	hold    func(ctx context.Context) error // until transactions have ended
	deliver func(ctx context.Context, src *Source, recs []*kgo.Record) int
	refuse  string // a journal key that cannot be read
	closing func() // while the engine drops a task
	early   bool   // PipelineReady is left to the test

	mu         sync.Mutex
	claims     map[int32]int
	open       map[int32]*Task
	got        map[partition][]string // values per source, over all incarnations
	next       map[partition]int64    // offset after what was delivered last, markers too
	late       []string               // calls that broke the order of Engine
	recommits  []*Source
	beginnings map[partition]int64
}

func (r *rig) instance(id string) *instance {
	return &instance{
		r: r, id: id, hold: func(context.Context) error { return nil },
		claims: map[int32]int{}, open: map[int32]*Task{}, got: map[partition][]string{},
		next: map[partition]int64{}, beginnings: map[partition]int64{},
	}
}

func (r *rig) config(id string) Config {
	return Config{
		Command: "pay", Group: r.group, InstanceID: id, Inbox: r.topic("inbox"), Journal: r.topic("journal"),
		TransactionalPrefix: r.group + "/", OwnPrefix: r.group + "/" + id + "/",
		Options:        []kgo.Opt{kgo.SeedBrokers(r.brokers...)},
		Heartbeat:      50 * time.Millisecond,
		SessionTimeout: 6 * time.Second, RebalanceTimeout: 8 * time.Second,
		Patience: 200 * time.Millisecond,
		Logger:   slog.New(slog.DiscardHandler),
	}
}

// start runs the instance until the test ends, if it is not closed before.
func (i *instance) start(change ...func(*Config)) *instance {
	i.r.t.Helper()
	cfg := i.r.config(i.id)
	cfg.Engine = i
	for _, c := range change {
		c(&cfg)
	}
	o, err := New(cfg)
	if err != nil {
		i.r.t.Fatal(err)
	}
	i.owner, i.ran = o, make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	i.stop = cancel
	if !i.early {
		o.PipelineReady()
	}
	go func() { i.ran <- o.Run(ctx) }()
	i.r.t.Cleanup(func() {
		cancel()
		<-o.closed
		i.mu.Lock()
		defer i.mu.Unlock()
		if len(i.late) > 0 {
			i.r.t.Errorf("instance %s: %q", i.id, i.late)
		}
	})
	return i
}

// kill ends the instance as if the process were gone: a static member does not
// leave, nothing is waited for.
func (i *instance) kill() {
	i.stop()
	<-i.owner.closed
}

func inputs(r *rig, names ...string) func(*Config) {
	return func(c *Config) {
		for _, n := range names {
			c.Inputs = append(c.Inputs, Input{Topic: r.topic(n)})
		}
	}
}

func (i *instance) Claim(task int32) Incarnation {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.claims[task]++
	ctx, end := context.WithCancelCause(context.Background())
	return &incarnation{task: task, ctx: ctx, end: end, hold: i.hold}
}

func (i *instance) NewStore(int32) Store {
	return &store{begun: map[string][16]byte{}, refuse: i.refuse}
}

func (i *instance) Opened(t *Task) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.open[t.Partition] != nil {
		i.late = append(i.late, fmt.Sprintf("task %d opened twice", t.Partition))
	}
	i.open[t.Partition] = t
	return nil
}

func (i *instance) Closed(t *Task) {
	if i.closing != nil {
		i.closing()
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.open[t.Partition] != t {
		i.late = append(i.late, fmt.Sprintf("task %d closed and not open", t.Partition))
	}
	delete(i.open, t.Partition)
}

func (i *instance) Begin(ctx context.Context, t *Task, fresh []*Source) error {
	for _, s := range fresh {
		// Not in one transaction: in this order a task that moves in between is begun again.
		if err := i.commit(ctx, s, s.Offset); err != nil {
			return err
		}
		if err := i.r.cl.ProduceSync(ctx, begunRecord(i.r.topic("journal"), t.Partition, s.Topic, s.Partition, s.TopicID)).FirstErr(); err != nil {
			return err
		}
		i.mu.Lock()
		i.beginnings[partition{s.Topic, s.Partition}] = s.Offset
		i.mu.Unlock()
	}
	return nil
}

// commit commits under the membership, retrying what a rebalance refuses.
func (i *instance) commit(ctx context.Context, s *Source, at int64) error {
	for {
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Group = i.r.group
		req.MemberID, req.Generation = i.owner.Membership()
		if i.id != "" {
			req.InstanceID = &i.id
		}
		rt := kmsg.NewOffsetCommitRequestTopic()
		rt.Topic, rt.TopicID = s.Topic, s.TopicID
		rp := kmsg.NewOffsetCommitRequestTopicPartition()
		rp.Partition, rp.Offset = s.Partition, at
		rt.Partitions = append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
		resp, err := req.RequestWith(ctx, i.r.cl)
		if err != nil {
			return err
		}
		switch err := kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode); {
		case err == nil:
			return nil
		case errors.Is(err, kerr.RebalanceInProgress), errors.Is(err, kerr.IllegalGeneration):
			if err := pause(ctx, 5*time.Millisecond); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

func (i *instance) Deliver(ctx context.Context, src *Source, recs []*kgo.Record) int {
	n := len(recs)
	if i.deliver != nil {
		n = i.deliver(ctx, src, recs)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.open[src.Task.Partition] != src.Task {
		i.late = append(i.late, fmt.Sprintf("records of task %d that is not open", src.Task.Partition))
	}
	p := partition{src.Topic, src.Partition}
	for _, rec := range recs[:n] {
		i.next[p] = rec.Offset + 1
		if rec.Attrs.IsControl() {
			continue
		}
		i.got[p] = append(i.got[p], string(rec.Value))
	}
	return n
}

func (i *instance) Recommit(src *Source) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.recommits = append(i.recommits, src)
}

// values are those delivered of one partition.
func (i *instance) values(name string, p int32) []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.got[partition{i.r.topic(name), p}])
}

// owns are the partition numbers of the open tasks.
func (i *instance) owns() []int32 {
	var nums []int32
	for _, t := range i.owner.Status().Tasks {
		if t.Phase == Open {
			nums = append(nums, t.Partition)
		}
	}
	return nums
}

func (i *instance) task(num int32) *Task {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.open[num]
}

func (i *instance) waitOpen(n int) {
	i.r.t.Helper()
	for end := time.Now().Add(deadline); len(i.owns()) != n; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			s := i.owner.Status()
			i.r.t.Fatalf("after %v instance %q has not %d open tasks: %+v: %v", deadline, i.id, n, s, s.Ready())
		}
	}
}

// waitStopped waits until a task is stopped and returns why.
func (i *instance) waitStopped(num int32) error {
	i.r.t.Helper()
	var why error
	eventually(i.r.t, fmt.Sprintf("task %d stopped", num), func() bool {
		for _, t := range i.owner.Status().Tasks {
			if t.Partition == num && t.Phase == Stopped {
				why = t.Err
				return true
			}
		}
		return false
	})
	return why
}

// claimed counts the ownerships begun per task.
func (i *instance) claimed() map[int32]int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return maps.Clone(i.claims)
}

func seq(prefix string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return list
}
