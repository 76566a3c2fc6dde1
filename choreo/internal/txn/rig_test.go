package txn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo/internal/offsets"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second // for what must come

// Keys of the requests that the tests watch.
const (
	kProduce   = 0
	kCommit    = 8 // which nobody sends
	kFind      = 10
	kInit      = 22
	kAdd       = 24
	kEnd       = 26
	kTxnCommit = 28
	kOpen      = 61 // DescribeProducers
	kLast      = 65 // DescribeTransactions
)

// call is one request as the broker got it.
type call struct {
	key   int16
	txn   string
	epoch int16
	req   kmsg.Request
	node  int32
}

// rig is an embedded cluster with topics in and out, one member of the group,
// and a pipeline.
type rig struct {
	t       testing.TB
	cluster *kfake.Cluster
	opts    []kgo.Opt
	real    bool   // the brokers are Kafka's
	prefix  string // of topics and the group; empty on the embedded cluster
	ids     map[string][16]byte
	member  *kgo.Client
	admin   *kgo.Client
	fence   *Fence
	pipe    *Pipeline
	ready   chan struct{}
	failed  chan error
	ran     chan error

	mu   sync.Mutex
	log  []call
	hook func(call) (kmsg.Response, error, bool)
}

type rigConfig struct {
	brokers    int
	partitions int32
	broker     map[string]string // configuration
	change     func(*Config)
	idle       bool // do not run the pipeline
}

const (
	group     = "payment"
	offsetsID = "payment/0/offsets"
)

func newRig(t testing.TB, rc rigConfig) *rig {
	t.Helper()
	rc.brokers, rc.partitions = max(rc.brokers, 1), max(rc.partitions, 4)
	broker := map[string]string{"group.initial.rebalance.delay.ms": "0"}
	maps.Copy(broker, rc.broker)
	// In order, a request that comes to a connection when the last delay there has
	// just ended may be waited for twice: a data race of kfake. Out of order it is
	// not, and a lane has one request under way at a time anyway.
	c, err := kfake.NewCluster(kfake.NumBrokers(rc.brokers), kfake.SeedTopics(rc.partitions, "in", "out", "journal"), kfake.BrokerConfigs(broker),
		kfake.SleepOutOfOrder())
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, cluster: c, fence: new(Fence), ids: map[string][16]byte{},
		opts: []kgo.Opt{kgo.SeedBrokers(c.ListenAddrs()...)}, ready: make(chan struct{}, 100), failed: make(chan error, 100), ran: make(chan error, 1)}
	t.Cleanup(c.Close)
	r.admin = r.client()
	meta, err := kmsg.NewPtrMetadataRequest().RequestWith(t.Context(), r.admin)
	if err != nil {
		t.Fatal(err)
	}
	for _, mt := range meta.Topics {
		r.ids[*mt.Topic] = mt.TopicID
	}
	r.join()
	for _, key := range []int16{kProduce, kFind, kInit, kAdd, kEnd, kTxnCommit, kOpen, kLast} {
		c.ControlKey(key, r.control)
	}

	cfg := Config{
		Fence: r.fence, Group: group, Membership: r.member.GroupMetadata,
		TransactionalID: func(lane int) string { return fmt.Sprintf("payment/0/%d", lane) },
		OffsetsID:       offsetsID,
		ClientOptions:   r.opts,
		Manual:          func(topic string) bool { return topic == "journal" },
		Timeout:         patience,
		SilentAfter:     time.Hour,
		RetryMin:        time.Millisecond,
		RetryMax:        10 * time.Millisecond,
		Ready:           func() { r.ready <- struct{}{} },
		Failed:          func(cause error) { r.failed <- cause },
		Logger:          slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	if os.Getenv("TXN_LOG") != "" {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	if rc.change != nil {
		rc.change(&cfg)
	}
	if r.pipe, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	if !rc.idle {
		r.start()
		r.isReady()
	}
	return r
}

func (r *rig) start() {
	go func() { r.ran <- r.pipe.Run(context.Background()) }()
	r.t.Cleanup(func() {
		r.intercept(nil)
		r.pipe.Close()
		if err := <-r.ran; err != nil {
			r.t.Errorf("Run returned %v after Close", err)
		}
	})
}

func (r *rig) client(opts ...kgo.Opt) *kgo.Client {
	cl, err := kgo.NewClient(append(append([]kgo.Opt{kgo.DisableClientMetrics(), kgo.MetadataMinAge(10 * time.Millisecond)}, r.opts...), opts...)...)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(cl.Close)
	return cl
}

// join makes the member of the group.
func (r *rig) join() {
	assigned := make(chan struct{}, 100)
	r.member = r.client(kgo.ConsumerGroup(r.prefix+group), kgo.ConsumeTopics(r.prefix+"in"), kgo.DisableAutoCommit(),
		kgo.HeartbeatInterval(50*time.Millisecond), kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.OnPartitionsAssigned(func(context.Context, *kgo.Client, map[string][]int32) { assigned <- struct{}{} }))
	r.member.PauseFetchTopics(r.prefix + "in")
	receive(r.t, assigned, "an assignment")
}

func (r *rig) isReady() { r.t.Helper(); receive(r.t, r.ready, "Ready") }

func (r *rig) hasFailed(want Reason) error {
	r.t.Helper()
	err := receive(r.t, r.failed, "Failed")
	if e, ok := errors.AsType[*Error](err); !ok || e.Reason != want {
		r.t.Fatalf("failed with %v, want reason %s", err, want)
	}
	return err
}

func receive[T any](t testing.TB, ch <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(patience):
		t.Fatalf("%s did not come", what)
	}
	return v
}

// control sees every watched request in the broker.
func (r *rig) control(req kmsg.Request) (kmsg.Response, error, bool) {
	r.cluster.KeepControl()
	c := call{key: req.Key(), req: req, epoch: -1, node: r.cluster.CurrentNode()}
	switch req := req.(type) {
	case *kmsg.ProduceRequest:
		if req.TransactionID == nil {
			return nil, nil, false
		}
		c.txn = *req.TransactionID
	case *kmsg.InitProducerIDRequest:
		if req.TransactionalID == nil {
			return nil, nil, false
		}
		c.txn = *req.TransactionalID
	case *kmsg.AddPartitionsToTxnRequest:
		c.txn, c.epoch = req.TransactionalID, req.ProducerEpoch
	case *kmsg.EndTxnRequest:
		c.txn, c.epoch = req.TransactionalID, req.ProducerEpoch
	case *kmsg.TxnOffsetCommitRequest:
		c.txn, c.epoch = req.TransactionalID, req.ProducerEpoch
	}
	r.mu.Lock()
	r.log = append(r.log, c)
	hook := r.hook
	r.mu.Unlock()
	if hook == nil {
		return nil, nil, false
	}
	return hook(c)
}

// intercept lets hook answer, or hold up with hold, what the broker gets.
func (r *rig) intercept(hook func(call) (kmsg.Response, error, bool)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hook = hook
}

// once makes a hook that treats the nth (from 1) request with the key, and all
// others as usual.
func once(key int16, nth int, treat func(call) (kmsg.Response, error, bool)) func(call) (kmsg.Response, error, bool) {
	var mu sync.Mutex
	n := 0
	return func(c call) (kmsg.Response, error, bool) {
		if c.key != key {
			return nil, nil, false
		}
		mu.Lock()
		n++
		hit := n == nth
		mu.Unlock()
		if !hit {
			return nil, nil, false
		}
		return treat(c)
	}
}

// silently makes a hook that is asked of the producer of silent offsets alone.
func silently(hook func(call) (kmsg.Response, error, bool)) func(call) (kmsg.Response, error, bool) {
	return func(c call) (kmsg.Response, error, bool) {
		if c.txn != offsetsID {
			return nil, nil, false
		}
		return hook(c)
	}
}

// lose loses the request: its connection breaks.
func lose(call) (kmsg.Response, error, bool) { return nil, io.ErrUnexpectedEOF, true }

// hold makes the broker keep a request until release is closed, and tells held.
func (r *rig) hold(held chan<- call, release <-chan struct{}) func(call) (kmsg.Response, error, bool) {
	return func(c call) (kmsg.Response, error, bool) {
		held <- c
		r.cluster.SleepControl(func() { <-release })
		return nil, nil, false
	}
}

// answer answers with an error code in place of the broker.
func answer(err *kerr.Error) func(call) (kmsg.Response, error, bool) {
	return func(c call) (kmsg.Response, error, bool) { return refusal(c.req, err), nil, true }
}

func refusal(req kmsg.Request, err *kerr.Error) kmsg.Response {
	switch req := req.(type) {
	case *kmsg.TxnOffsetCommitRequest:
		resp := req.ResponseKind().(*kmsg.TxnOffsetCommitResponse)
		for _, t := range req.Topics {
			rt := kmsg.NewTxnOffsetCommitResponseTopic()
			rt.Topic, rt.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				rp := kmsg.NewTxnOffsetCommitResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, err.Code
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp
	case *kmsg.ProduceRequest:
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
	case *kmsg.EndTxnRequest:
		resp := req.ResponseKind().(*kmsg.EndTxnResponse)
		resp.ErrorCode = err.Code
		return resp
	case *kmsg.InitProducerIDRequest:
		resp := req.ResponseKind().(*kmsg.InitProducerIDResponse)
		resp.ErrorCode = err.Code
		return resp
	}
	panic(fmt.Sprintf("no refusal of %T", req))
}

// calls are the requests with one of the keys so far, in order of arrival.
func (r *rig) calls(keys ...int16) []call {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []call
	for _, c := range r.log {
		if slices.Contains(keys, c.key) {
			out = append(out, c)
		}
	}
	return out
}

// silentCommits are those of offsets without outputs.
func (r *rig) silentCommits() (out []call) {
	for _, c := range r.calls(kTxnCommit) {
		if c.txn == offsetsID {
			out = append(out, c)
		}
	}
	return out
}

func (r *rig) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = nil
}

// source is input partition p with offsets 0 to begun-1 handed out.
func (r *rig) source(p int32, begun int) *Source {
	r.t.Helper()
	tr, err := offsets.New(0, "")
	if err != nil {
		r.t.Fatal(err)
	}
	for o := range begun {
		tr.Begin(int64(o), 7)
	}
	return &Source{Topic: r.prefix + "in", TopicID: r.ids[r.prefix+"in"], Partition: p, Offsets: tr}
}

// told is what Done was called with.
type told chan bool

func (d told) is(t testing.TB, want bool) {
	t.Helper()
	if got := receive(t, d, "Done"); got != want {
		t.Fatalf("Done(%v), want Done(%v)", got, want)
	}
}

func (d told) notYet(t testing.TB) {
	t.Helper()
	select {
	case got := <-d:
		t.Fatalf("Done(%v) came too early", got)
	default:
	}
}

// result finishes an offset with outputs of these values to topic out.
func result(inc *Incarnation, src *Source, offset int64, values ...string) (*Result, told) {
	d := make(told, 2)
	res := &Result{Inc: inc, Source: src, Offset: offset, Done: DoneFunc(func(ok bool) { d <- ok })}
	for _, v := range values {
		res.Records = append(res.Records, &kgo.Record{Topic: "out", Key: []byte("key"), Value: []byte(v)})
	}
	return res, d
}

func (r *rig) submit(inc *Incarnation, src *Source, offset int64, values ...string) told {
	res, d := result(inc, src, offset, values...)
	r.pipe.Submit(res)
	return d
}

// committed is what the group has committed for input partition p, stable.
func (r *rig) committed(p int32) (int64, string) {
	r.t.Helper()
	at, metadata, err := r.fetchStable(p)
	if err != nil {
		r.t.Fatal(err)
	}
	return at, metadata
}

func (r *rig) fetchStable(p int32) (int64, string, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.RequireStable = true
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = r.prefix + group
	gt := kmsg.NewOffsetFetchRequestGroupTopic()
	gt.Topic, gt.TopicID, gt.Partitions = r.prefix+"in", r.ids[r.prefix+"in"], []int32{p}
	g.Topics = append(g.Topics, gt)
	req.Groups = append(req.Groups, g)
	resp, err := req.RequestWith(r.t.Context(), r.admin)
	if err != nil {
		return -1, "", err
	}
	got := resp.Groups[0].Topics[0].Partitions[0]
	if got.Metadata == nil {
		got.Metadata = new(string)
	}
	return got.Offset, *got.Metadata, kerr.ErrorForCode(got.ErrorCode)
}

func (r *rig) hasCommitted(p int32, want int64) {
	r.t.Helper()
	if got, _ := r.committed(p); got != want {
		r.t.Fatalf("partition %d is committed at %d, want %d", p, got, want)
	}
}

// values are those of a topic that a read-committed reader sees, in order of
// partition and offset; it reads up to the last stable offset.
func (r *rig) values(topic string) []string {
	r.t.Helper()
	var out []string
	for _, rec := range r.records(topic) {
		out = append(out, string(rec.Value))
	}
	return out
}

func (r *rig) records(topic string) []*kgo.Record {
	r.t.Helper()
	ends := map[int32]int64{}
	starts := map[int32]kgo.Offset{}
	for p := range int32(64) {
		req := kmsg.NewPtrListOffsetsRequest()
		req.ReplicaID, req.IsolationLevel = -1, 1
		lt := kmsg.NewListOffsetsRequestTopic()
		lt.Topic = topic
		lp := kmsg.NewListOffsetsRequestTopicPartition()
		lp.Partition, lp.Timestamp = p, -1
		lt.Partitions = append(lt.Partitions, lp)
		req.Topics = append(req.Topics, lt)
		resp, err := req.RequestWith(r.t.Context(), r.admin)
		if err != nil || resp.Topics[0].Partitions[0].ErrorCode != 0 {
			break // no further partition
		}
		if end := resp.Topics[0].Partitions[0].Offset; end > 0 {
			ends[p], starts[p] = end, kgo.NewOffset().AtStart()
		}
	}
	if len(ends) == 0 {
		return nil
	}
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.DisableClientMetrics(), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: starts}), kgo.FetchMaxWait(50 * time.Millisecond)}, r.opts...)...)
	if err != nil {
		r.t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	var out []*kgo.Record
	for len(ends) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			r.t.Fatalf("reading %s, ends left %v: %v", topic, ends, err)
		}
		fetches.EachRecord(func(rec *kgo.Record) {
			if rec.Offset >= ends[rec.Partition]-1 {
				delete(ends, rec.Partition)
			}
			if !rec.Attrs.IsControl() {
				out = append(out, rec)
			}
		})
	}
	slices.SortStableFunc(out, func(a, b *kgo.Record) int {
		if a.Partition != b.Partition {
			return int(a.Partition - b.Partition)
		}
		return int(a.Offset - b.Offset)
	})
	return out
}

func equal[T comparable](t testing.TB, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

// stays checks that a condition holds for a moment: it shows what must not come.
func stays(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Millisecond); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if !holds() {
			t.Fatalf("%s: not so", what)
		}
	}
}
