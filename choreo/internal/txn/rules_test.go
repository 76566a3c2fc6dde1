package txn

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// partitionsOf are the offsets that a commit carries.
func partitionsOf(c call) map[int32]int64 {
	out := map[int32]int64{}
	for _, t := range c.req.(*kmsg.TxnOffsetCommitRequest).Topics {
		for _, p := range t.Partitions {
			out[p.Partition] = p.Offset
		}
	}
	return out
}

func TestRule1LanesAreTakenInTurnAndResultsGatherWhileAllAreBusy(t *testing.T) {
	r := newRig(t, rigConfig{change: func(c *Config) { c.Lanes = 3 }})
	inc := r.fence.Open(0)
	src := r.source(0, 100)
	held, release := make(chan call, 10), make(chan struct{})
	r.intercept(once(kEnd, 1, r.hold(held, release))) // the first cannot end: all lanes fill

	var dones []told
	for k := range 3 {
		dones = append(dones, r.submit(inc, src, int64(k), fmt.Sprint(k)))
		waitFor(t, "the transaction to begin", func() bool { return len(r.calls(kTxnCommit)) == k+1 })
	}
	for k := 3; k < 100; k++ {
		dones = append(dones, r.submit(inc, src, int64(k), fmt.Sprint(k)))
	}
	stays(t, "nothing begins while all lanes are busy", func() bool { return len(r.calls(kTxnCommit)) == 3 })
	close(release)
	for _, d := range dones {
		d.is(t, true)
	}
	commits := r.calls(kTxnCommit)
	var lanes []string
	var sizes []int64
	for _, c := range commits {
		lanes = append(lanes, c.txn)
		sizes = append(sizes, partitionsOf(c)[0])
	}
	equal(t, "lanes", lanes, []string{"payment/0/0", "payment/0/1", "payment/0/2", "payment/0/0"})
	equal(t, "offsets, the gathered ones in one transaction", sizes, []int64{1, 2, 3, 100})
	if got := r.values("out"); len(got) != 100 {
		t.Fatalf("%d outputs", len(got))
	}
	r.hasCommitted(0, 100)
}

func TestRule1ATransactionTakesNoMoreThanItsBounds(t *testing.T) {
	for _, bound := range []struct {
		name   string
		change func(*Config)
	}{
		{"records", func(c *Config) { c.MaxRecords = 10 }},
		{"bytes", func(c *Config) { c.MaxBytes = 10 * (recordOverhead + len("key") + 2) }},
	} {
		t.Run(bound.name, func(t *testing.T) {
			r := newRig(t, rigConfig{change: func(c *Config) { c.Lanes = 1; bound.change(c) }})
			inc, src := r.fence.Open(0), r.source(0, 25)
			var rs []*Result
			var dones []told
			for k := range 25 {
				res, d := result(inc, src, int64(k), fmt.Sprintf("%02d", k))
				rs, dones = append(rs, res), append(dones, d)
			}
			r.pipe.SubmitAll(rs)
			for _, d := range dones {
				d.is(t, true)
			}
			var sizes []int64
			for _, c := range r.calls(kTxnCommit) {
				sizes = append(sizes, partitionsOf(c)[0])
			}
			equal(t, "offsets", sizes, []int64{10, 20, 25})
		})
	}
}

func TestRule2StagesRunInInputOrderAndSeveralAreInFlight(t *testing.T) {
	r := newRig(t, rigConfig{})
	inc, src := r.fence.Open(0), r.source(0, 40)
	// Every request is delayed by another time; the later ones in a round are
	// the faster, so that whatever may overtake does.
	n := 0
	r.intercept(func(c call) (kmsg.Response, error, bool) {
		if c.key == kTxnCommit || c.key == kProduce || c.key == kEnd {
			n++
			delay := time.Duration(4-n%5) * time.Millisecond
			r.cluster.SleepControl(func() { time.Sleep(delay) })
		}
		return nil, nil, false
	})
	var dones []told
	var order []int
	for k := range 40 {
		res, d := result(inc, src, int64(k), fmt.Sprint(k))
		done := res.Done
		res.Done = DoneFunc(func(ok bool) { order = append(order, k); done.Done(ok) }) // calls are in turn
		r.pipe.Submit(res)
		dones = append(dones, d)
		waitFor(t, "it to be taken", func() bool { return r.pipe.gatheredNow() == 0 })
	}
	for _, d := range dones {
		d.is(t, true)
	}
	overlap := 0
	for _, key := range []int16{kTxnCommit, kProduce, kEnd} {
		for i, c := range r.calls(key) {
			if want := fmt.Sprintf("payment/0/%d", i%4); c.txn != want {
				t.Fatalf("%s number %d is of lane %s, want %s", kmsg.NameForKey(key), i, c.txn, want)
			}
		}
	}
	ends := 0
	for i, c := range r.calls(kTxnCommit, kProduce, kEnd) {
		if c.key == kEnd {
			ends++
		}
		if c.key == kTxnCommit && ends < len(filter(r.calls(kTxnCommit, kProduce, kEnd)[:i], kTxnCommit)) {
			overlap++
		}
	}
	if overlap < 20 {
		t.Fatalf("only %d of 40 transactions began while another one was in flight", overlap)
	}
	for i, k := range order {
		if i != k {
			t.Fatalf("Done came in the order %v", order)
		}
	}
	var want []string
	for k := range 40 {
		want = append(want, fmt.Sprint(k))
	}
	equal(t, "outputs", r.values("out"), want)
	r.hasCommitted(0, 40)
}

func filter(cs []call, key int16) (out []call) {
	for _, c := range cs {
		if c.key == key {
			out = append(out, c)
		}
	}
	return out
}

func waitFor(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(200 * time.Microsecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func (p *Pipeline) gatheredNow() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gathered.len()
}

func TestRule3OnlyAnAnswerIsRetried(t *testing.T) {
	for _, tc := range []struct {
		name   string
		treat  func(call) (kmsg.Response, error, bool)
		sends  int    // of the first transaction's commit
		finds  int    // coordinator look-ups
		reason Reason // of the failure, if it fails
	}{
		{"the last transaction of the lane is not through", answer(kerr.ConcurrentTransactions), 2, 1, ""},
		{"the coordinator moved", answer(kerr.NotCoordinator), 2, 2, ""},
		{"the coordinator loads", answer(kerr.CoordinatorLoadInProgress), 2, 2, ""},
		{"the coordinator is not available", answer(kerr.CoordinatorNotAvailable), 2, 2, ""},
		{"the answer is lost", lose, 1, 1, ReasonNoAnswer},
		{"fenced", answer(kerr.ProducerFenced), 1, 1, ReasonFenced},
		{"stale epoch", answer(kerr.InvalidProducerEpoch), 1, 1, ReasonFenced},
		{"to be aborted", answer(kerr.TransactionAbortable), 1, 1, ReasonFenced},
		{"unknown member", answer(kerr.UnknownMemberID), 1, 1, ReasonMembership},
		{"instance id in use", answer(kerr.FencedInstanceID), 1, 1, ReasonMembership},
		{"metadata too large", answer(kerr.OffsetMetadataTooLarge), 1, 1, ReasonRefused},
		{"topic recreated", answer(kerr.UnknownTopicID), 1, 1, ReasonRefused},
		{"unknown error", answer(kerr.UnknownServerError), 1, 1, ReasonRefused},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, rigConfig{})
			inc, src := r.fence.Open(0), r.source(0, 10)
			r.forget()
			r.intercept(once(kTxnCommit, 1, tc.treat))
			d := r.submit(inc, src, 0, "a")
			d.is(t, tc.reason == "")
			sent, found := r.calls(kTxnCommit), groupFinds(r.calls(kFind))
			if tc.reason == "" {
				r.hasCommitted(0, 1)
			} else {
				r.hasFailed(tc.reason)
				r.isReady()
				r.hasCommitted(0, -1)
				equal(t, "outputs", r.values("out"), nil)
			}
			if len(sent) != tc.sends || len(found) != tc.finds {
				t.Errorf("TxnOffsetCommit was sent %d times and the coordinator looked up %d times, want %d and %d", len(sent), len(found), tc.sends, tc.finds)
			}
		})
	}
}

func groupFinds(cs []call) (out []call) {
	for _, c := range cs {
		if c.req.(*kmsg.FindCoordinatorRequest).CoordinatorType == 0 {
			out = append(out, c)
		}
	}
	return out
}

func TestRule3TheCommitCarriesWhatTheGateFound(t *testing.T) {
	r := newRig(t, rigConfig{change: func(c *Config) { c.InstanceID = "" }})
	inc := r.fence.Open(0)
	src := r.source(0, 10)
	late, d1 := result(inc, src, 5, "five")
	early, d2 := result(inc, src, 0, "zero")
	r.pipe.SubmitAll([]*Result{late, early})
	d1.is(t, true)
	d2.is(t, true)
	c := r.calls(kTxnCommit)[0]
	req := c.req.(*kmsg.TxnOffsetCommitRequest)
	member, generation := r.member.GroupMetadata()
	if req.MemberID != member || req.Generation != generation || req.Group != group || member == "" {
		t.Errorf("committed as member %q, generation %d of %q; the member is %q, %d", req.MemberID, req.Generation, req.Group, member, generation)
	}
	if req.Version >= 6 && req.Topics[0].TopicID != r.ids["in"] {
		t.Errorf("version %d names topic id %x", req.Version, req.Topics[0].TopicID)
	}
	if got := req.Topics[0].Partitions[0]; got.Offset != 1 || got.LeaderEpoch != 7 || got.Metadata == nil || *got.Metadata == "" {
		t.Errorf("committed %+v: want offset 1 with metadata that tells of 5", got)
	}
	if end := r.calls(kEnd)[0]; end.epoch != c.epoch {
		t.Errorf("ended with epoch %d, the offsets were committed with %d", end.epoch, c.epoch)
	}
	r.submit(inc, src, 1, "one").is(t, true)
	if next := r.calls(kTxnCommit)[1]; partitionsOf(next)[0] != 2 {
		t.Errorf("the next commit is at %v", partitionsOf(next))
	}
}

func TestRule3AnOffsetIsNotFinishedBeforeItsGate(t *testing.T) {
	r := newRig(t, rigConfig{change: func(c *Config) { c.Lanes = 2 }})
	inc, src := r.fence.Open(0), r.source(0, 3)
	held, release := make(chan call, 1), make(chan struct{})
	r.intercept(once(kTxnCommit, 1, r.hold(held, release)))
	a := r.submit(inc, src, 0, "a")
	receive(t, held, "the first commit")
	b := r.submit(inc, src, 1, "b")
	if got := src.Offsets.Commit().Offset; got != 1 {
		t.Fatalf("at the gate of the first, up to %d counts as finished", got)
	}
	close(release)
	a.is(t, true)
	b.is(t, true)
	var at []int64
	for _, c := range r.calls(kTxnCommit) {
		at = append(at, partitionsOf(c)[0])
	}
	equal(t, "commits", at, []int64{1, 2})
}

func TestRule4SeveralLeadersAreAnnounced(t *testing.T) {
	r := newRig(t, rigConfig{brokers: 3, partitions: 6})
	inc, src := r.fence.Open(0), r.source(0, 10)
	spread := func(offset int64) told {
		res, d := result(inc, src, offset)
		for p := range int32(6) {
			res.Records = append(res.Records, &kgo.Record{Topic: "journal", Partition: p, Value: []byte("x")})
		}
		r.pipe.Submit(res)
		return d
	}
	for k := range 4 { // each lane learns the topic
		spread(int64(k)).is(t, true)
	}
	r.forget()
	spread(4).is(t, true)
	seen := r.calls(kTxnCommit, kAdd, kProduce)
	adds := r.calls(kAdd)
	if len(adds) != 1 || seen[0].key != kTxnCommit || seen[1].key != kAdd || len(r.calls(kProduce)) < 2 {
		t.Fatalf("requests: %v", seen)
	}
	req := adds[0].req.(*kmsg.AddPartitionsToTxnRequest)
	if req.Version > 3 || len(req.Topics) != 1 || req.Topics[0].Topic != "journal" || len(req.Topics[0].Partitions) != 6 {
		t.Errorf("announced %+v in version %d", req.Topics, req.Version)
	}

	r.forget()
	one, d := result(inc, src, 5)
	one.Records = []*kgo.Record{{Topic: "journal", Partition: 2, Value: []byte("y")}}
	r.pipe.Submit(one)
	d.is(t, true)
	if got := r.calls(kAdd); len(got) != 0 {
		t.Errorf("one leader was announced: %v", got)
	}
	r.hasCommitted(0, 6)
}

func TestRule5AFailureEndsItAndAllAfterItAndNothingBefore(t *testing.T) {
	for _, tc := range []struct {
		name   string
		key    int16
		treat  func(call) (kmsg.Response, error, bool)
		reason Reason
	}{
		{"offsets: no answer", kTxnCommit, lose, ReasonNoAnswer},
		{"offsets: fenced", kTxnCommit, answer(kerr.ProducerFenced), ReasonFenced},
		{"records: stale epoch", kProduce, answer(kerr.InvalidProducerEpoch), ReasonFenced},
		{"records: out of order", kProduce, answer(kerr.OutOfOrderSequenceNumber), ReasonFenced},
		{"records: refused", kProduce, answer(kerr.InvalidRecord), ReasonProduce},
		{"records: not authorized", kProduce, answer(kerr.TopicAuthorizationFailed), ReasonProduce},
		{"end: fenced", kEnd, answer(kerr.ProducerFenced), ReasonFenced},
		{"end: not in a transaction", kEnd, answer(kerr.InvalidTxnState), ReasonFenced},
		{"end: unknown error", kEnd, answer(kerr.UnknownServerError), ReasonRefused},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, rigConfig{})
			inc, src := r.fence.Open(0), r.source(0, 10)
			// The first is held in its last stage until the failing second one has
			// reached its own, and a third and a fourth have followed.
			held, release := make(chan call, 1), make(chan struct{})
			second := once(tc.key, 2, tc.treat)
			first := once(kEnd, 1, r.hold(held, release))
			r.intercept(func(c call) (kmsg.Response, error, bool) {
				if resp, err, done := first(c); done || c.key == kEnd && c.txn == "payment/0/0" {
					return resp, err, done
				}
				return second(c)
			})
			if tc.key == kEnd {
				second = once(tc.key, 1, tc.treat)
			}
			r.forget()
			d1 := r.submit(inc, src, 0, "1")
			receive(t, held, "the end of the first")
			rest := []told{r.submit(inc, src, 1, "2")}
			if tc.key == kEnd { // it cannot get there before the first one has left
				waitFor(t, "the second to begin", func() bool { return len(r.calls(kProduce)) == 2 })
			} else {
				waitFor(t, "the second to fail", func() bool { return inc.Context().Err() != nil })
			}
			rest = append(rest, r.submit(inc, src, 2, "3"), r.submit(inc, src, 3, "4"))
			close(release)

			d1.is(t, true)
			for _, d := range rest {
				d.is(t, false)
			}
			cause := r.hasFailed(tc.reason)
			if inc.Standing() || !errors.Is(context.Cause(inc.Context()), cause) {
				t.Errorf("the incarnation stands, or is closed for another cause: %v", context.Cause(inc.Context()))
			}
			r.isReady()
			anew := map[string]bool{}
			for _, c := range r.calls(kInit) {
				anew[c.txn] = true
			}
			if len(anew) != 5 || !anew[offsetsID] {
				t.Errorf("%v were initialized anew, want all 4 lanes and %s", anew, offsetsID)
			}
			for _, c := range r.calls(kEnd) {
				if !c.req.(*kmsg.EndTxnRequest).Commit {
					t.Errorf("an abort was sent: %s", c.txn)
				}
			}
			equal(t, "outputs after the failure", r.values("out"), []string{"1"})
			r.hasCommitted(0, 1)

			// The runtime opens anew from what the broker says.
			inc2, src2 := r.fence.Open(0), r.source(0, 10)
			src2.Offsets.Finish(0)
			var again []told
			for o := 1; o < 4; o++ {
				again = append(again, r.submit(inc2, src2, int64(o), fmt.Sprint(o+1)))
			}
			for _, d := range again {
				d.is(t, true)
			}
			equal(t, "outputs at last", r.values("out"), []string{"1", "2", "3", "4"})
			r.hasCommitted(0, 4)
		})
	}
}

func TestRule5StagesHaveADeadline(t *testing.T) {
	for _, key := range []int16{kTxnCommit, kProduce, kEnd} {
		t.Run(kmsg.NameForKey(key), func(t *testing.T) {
			r := newRig(t, rigConfig{change: func(c *Config) { c.Timeout = time.Second }})
			inc, src := r.fence.Open(0), r.source(0, 10)
			held, release := make(chan call, 100), make(chan struct{})
			var again sync.Once
			r.intercept(func(c call) (kmsg.Response, error, bool) {
				if c.key == kInit { // the lanes are made anew
					again.Do(func() { close(release) })
				}
				if c.key == key {
					return r.hold(held, release)(c)
				}
				return nil, nil, false
			})
			began := time.Now()
			d := r.submit(inc, src, 0, "a")
			receive(t, held, "the request")
			d.is(t, false)
			if err := r.hasFailed(ReasonNoAnswer); !errors.Is(err, context.DeadlineExceeded) && key == kProduce {
				t.Errorf("the transaction failed because of %v, want what the client said when the time was over", err)
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("the transaction failed after %v: the broker aborts it after 1s", took)
			}
			r.isReady()
			// An end whose answer is missing may have been carried out: then all of it.
			outputs := r.values("out")
			if at, _ := r.committed(0); (at == 1) != (len(outputs) == 1) || key != kEnd && at != -1 {
				t.Errorf("committed at %d with outputs %v", at, outputs)
			}
		})
	}
}

func TestRule5ALostRequestOfAnotherStageIsSentAgainByTheClientHarmlessly(t *testing.T) {
	for _, key := range []int16{kProduce, kEnd} {
		t.Run(kmsg.NameForKey(key), func(t *testing.T) {
			r := newRig(t, rigConfig{})
			inc, src := r.fence.Open(0), r.source(0, 10)
			r.intercept(once(key, 1, lose))
			r.submit(inc, src, 0, "a").is(t, true)
			equal(t, "outputs", r.values("out"), []string{"a"})
			r.hasCommitted(0, 1)
		})
	}
}

func TestRule5LanesAreMadeAgainUntilItWorks(t *testing.T) {
	r := newRig(t, rigConfig{idle: true})
	refusals := 0
	r.intercept(func(c call) (kmsg.Response, error, bool) {
		if c.key == kInit && refusals < 7 {
			refusals++
			return refusal(c.req, kerr.TransactionalIDAuthorizationFailed), nil, true
		}
		return nil, nil, false
	})
	r.start()
	r.hasFailed(ReasonOpen)
	if inc := r.fence.Open(0); inc.Standing() {
		t.Error("an incarnation stands before the lanes are made")
	} else {
		r.submit(inc, r.source(0, 1), 0, "early").is(t, false)
	}
	r.isReady()
	select {
	case err := <-r.failed:
		t.Errorf("told twice of one outage: %v", err)
	default:
	}
	r.submit(r.fence.Open(0), r.source(0, 1), 0, "a").is(t, true)
	equal(t, "outputs", r.values("out"), []string{"a"})
}

func TestRule9TransactionVersion2IsRequired(t *testing.T) {
	r := newRig(t, rigConfig{idle: true})
	if err := CheckCluster(t.Context(), r.admin); err != nil {
		t.Fatal(err)
	}
	up := kmsg.NewPtrUpdateFeaturesRequest()
	up.TimeoutMillis = 1000
	f := kmsg.NewUpdateFeaturesRequestFeatureUpdate()
	f.Feature, f.MaxVersionLevel, f.AllowDowngrade, f.UpgradeType = "transaction.version", 1, true, 2
	up.FeatureUpdates = append(up.FeatureUpdates, f)
	resp, err := up.RequestWith(t.Context(), r.admin)
	if err != nil || resp.ErrorCode != 0 {
		t.Fatal(err, resp)
	}
	err = CheckCluster(t.Context(), r.client())
	var old *ClusterError
	if !errors.As(err, &old) || old.TransactionVersion != 1 {
		t.Fatalf("got %v", err)
	}
	if want := "kafka-features.sh --bootstrap-server <broker> upgrade --feature transaction.version=2"; !strings.Contains(err.Error(), want) {
		t.Errorf("%q does not name the remedy %q", err, want)
	}
}

func TestRule5ALaneWithoutAnswerDoesNotHoldUpTheOthers(t *testing.T) {
	r := newRig(t, rigConfig{idle: true})
	held, release := make(chan call, 100), make(chan struct{})
	var refused atomic.Int64
	r.intercept(func(c call) (kmsg.Response, error, bool) {
		if c.key == kInit && c.txn == "payment/0/2" && refused.Add(1) <= 3 {
			return refusal(c.req, kerr.TransactionalIDAuthorizationFailed), nil, true
		}
		if c.key == kInit && c.txn == "payment/0/1" {
			return r.hold(held, release)(c)
		}
		return nil, nil, false
	})
	r.start()
	receive(t, held, "the initialization of the second lane")
	r.hasFailed(ReasonOpen)
	waitFor(t, "the third lane to be tried until it works", func() bool { return refused.Load() >= 4 })
	close(release)
	r.isReady()
	asked := map[string]int{}
	for _, c := range r.calls(kInit) {
		asked[c.txn]++
	}
	for id, n := range map[string]int{"payment/0/0": 1, "payment/0/1": 1, "payment/0/2": 4, "payment/0/3": 1} {
		if asked[id] != n {
			t.Errorf("%s was initialized %d times, want %d", id, asked[id], n)
		}
	}
	r.submit(r.fence.Open(0), r.source(0, 1), 0, "a").is(t, true)
}
