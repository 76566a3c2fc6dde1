package txn

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo/internal/offsets"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The worst answer of any partition decides, and of equally bad ones the first
// is reported.
func TestTheWorstAnswerCounts(t *testing.T) {
	var (
		ok     = int16(0)
		again  = kerr.ConcurrentTransactions
		moved  = kerr.NotCoordinator
		loads  = kerr.CoordinatorLoadInProgress
		later  = kerr.RebalanceInProgress
		anew   = kerr.IllegalGeneration
		member = kerr.UnknownMemberID
	)
	for _, tc := range []struct {
		name  string
		codes []int16
		asked int
		want  verdict
		cause error
	}{
		{"all accepted", []int16{ok, ok}, 2, accepted, nil},
		{"one refused first", []int16{member.Code, ok}, 2, refused, member},
		{"one refused last", []int16{ok, member.Code}, 2, refused, member},
		{"refused among others", []int16{again.Code, member.Code, moved.Code}, 3, refused, member},
		{"a new generation and a move", []int16{moved.Code, anew.Code}, 2, askAnew, anew},
		{"a rebalance and a move", []int16{later.Code, moved.Code}, 2, askLater, later},
		{"equally bad", []int16{moved.Code, loads.Code}, 2, askOther, moved},
		{"one left out, one to be repeated", []int16{again.Code}, 2, askAgain, again},
	} {
		got, cause := judge(tc.codes, tc.asked)
		if got != tc.want || !errors.Is(cause, tc.cause) {
			t.Errorf("%s: verdict %d because of %v, want %d because of %v", tc.name, got, cause, tc.want, tc.cause)
		}
	}
	for _, codes := range [][]int16{nil, {ok}, {ok, ok, ok}} {
		if got, cause := judge(codes, 2); got != refused || cause == nil {
			t.Errorf("an answer with %d partitions of 2 is verdict %d because of %v", len(codes), got, cause)
		}
	}
}

func TestAFailedCommitNamesAFewOfItsPartitions(t *testing.T) {
	c := &committer{}
	for i, want := range []string{
		"",
		"in-0 at 10",
		"in-0 at 10, in-1 at 11",
		"in-0 at 10, in-1 at 11, in-2 at 12",
		"in-0 at 10, in-1 at 11, in-2 at 12 and 1 more",
		"in-0 at 10, in-1 at 11, in-2 at 12 and 2 more",
	} {
		if got := c.topics(); got != want {
			t.Errorf("%d partitions are told as %q, want %q", i, got, want)
		}
		c.commits = append(c.commits, commit{source: &Source{Topic: "in", Partition: int32(i)}, Commit: offsets.Commit{Offset: int64(10 + i)}})
	}
}

// One commit of several topics holds each of them once, with all its
// partitions.
func TestTheCommitGroupsPartitionsByTopic(t *testing.T) {
	for _, silent := range []bool{false, true} {
		r := newRig(t, rigConfig{change: func(c *Config) { c.SilentAfter = time.Millisecond }})
		inc := r.fence.Open(0)
		var all []*Result
		var done []told
		for _, s := range []struct {
			topic string
			p     int32
		}{{"in", 0}, {"journal", 0}, {"in", 1}, {"journal", 1}} {
			src := r.source(s.p, 1)
			src.Topic, src.TopicID = s.topic, r.ids[s.topic]
			res, d := result(inc, src, 0)
			if !silent {
				res, d = result(inc, src, 0, "x")
			}
			all, done = append(all, res), append(done, d)
		}
		r.pipe.SubmitAll(all)
		for _, d := range done {
			d.is(t, true)
		}
		got := map[string][]int32{}
		topics := 0
		for _, c := range r.calls(kTxnCommit) {
			for _, t := range c.req.(*kmsg.TxnOffsetCommitRequest).Topics {
				topics++
				for _, p := range t.Partitions {
					got[t.Topic] = append(got[t.Topic], p.Partition)
				}
			}
		}
		partitions := 0
		for _, ps := range got {
			partitions += len(ps)
		}
		if commits := len(r.calls(kTxnCommit)); commits != 1 || topics != 2 || partitions != 4 {
			t.Errorf("silent %v: %d commits name %d topics with partitions %v, want one with 2 of 2 partitions each", silent, commits, topics, got)
		}
	}
}

// What the coordinator refuses for now is not asked again at once: the pauses
// double, from 5 ms to 100 ms, with jitter of a quarter. A pause is never
// shorter, however busy the machine.
func TestRepeatedAnswersBackOff(t *testing.T) {
	const refusals = 4
	least := (5 + 10 + 20 + 40) * time.Millisecond * 3 / 4
	for _, tc := range []struct {
		name string
		key  int16
	}{{"of the commit", kTxnCommit}, {"of the look-up", kFind}} {
		r := newRig(t, rigConfig{})
		inc, src := r.fence.Open(0), r.source(0, 10)
		r.submit(inc, src, 0, "first").is(t, true) // what lanes look up for themselves is done
		n := 0
		var at []time.Time
		r.intercept(func(c call) (kmsg.Response, error, bool) {
			if c.key != tc.key || tc.key == kFind && c.req.(*kmsg.FindCoordinatorRequest).CoordinatorType != 0 {
				return nil, nil, false
			}
			n++
			at = append(at, time.Now())
			if n > refusals {
				return nil, nil, false
			}
			return notCoordinator(c.req), nil, true
		})
		r.pipe.coord.Store(-1)
		r.submit(inc, src, 1, "second").is(t, true)
		r.intercept(nil)
		r.hasCommitted(0, 2)
		if len(at) != refusals+1 {
			t.Fatalf("%s: asked %d times, want %d", tc.name, len(at), refusals+1)
		}
		if took := at[refusals].Sub(at[0]); took < least {
			t.Errorf("%s: asked %d times within %v, want at least %v", tc.name, len(at), took, least)
		}
	}
}

func notCoordinator(req kmsg.Request) kmsg.Response {
	find, ok := req.(*kmsg.FindCoordinatorRequest)
	if !ok {
		return refusal(req, kerr.NotCoordinator)
	}
	resp := find.ResponseKind().(*kmsg.FindCoordinatorResponse)
	for _, key := range find.CoordinatorKeys {
		c := kmsg.NewFindCoordinatorResponseCoordinator()
		c.Key, c.NodeID, c.ErrorCode = key, -1, kerr.CoordinatorLoadInProgress.Code
		resp.Coordinators = append(resp.Coordinators, c)
	}
	return resp
}

// The coordinator of the group is one broker of many, and not always the first.
func TestTheCoordinatorMayBeAnyBroker(t *testing.T) {
	for brokers := 2; brokers < 10; brokers++ {
		r := newRig(t, rigConfig{brokers: brokers, idle: true})
		coordinator := r.cluster.CoordinatorFor(group)
		if coordinator == 0 {
			continue
		}
		r.start()
		r.isReady()
		inc, src := r.fence.Open(0), r.source(0, 10)
		r.forget()
		r.submit(inc, src, 0, "a").is(t, true)
		for _, c := range r.calls(kTxnCommit) {
			if c.node != coordinator {
				t.Errorf("of %d brokers %d is the coordinator, and the commit was sent to %d", brokers, coordinator, c.node)
			}
		}
		return
	}
	t.Fatal("the first broker is the coordinator in every cluster")
}

// An error in the answer is no statement about transaction.version.
func TestTheClusterIsNotJudgedWithoutAnAnswer(t *testing.T) {
	r := newRig(t, rigConfig{idle: true})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var old *ClusterError
	if err := CheckCluster(ctx, r.client()); err == nil || errors.As(err, &old) || !errors.Is(err, context.Canceled) {
		t.Errorf("without an answer: %v", err)
	}
}

func TestTooLargeSaysWhoseLimitItIs(t *testing.T) {
	for _, tc := range []struct {
		bytes, limit int
		brokers      bool
	}{{9, 10, true}, {10, 10, true}, {11, 10, false}} {
		text := (&RecordTooLargeError{Topic: "out", Bytes: tc.bytes, Limit: tc.limit}).Error()
		if got := strings.HasPrefix(text, "the broker refused"); got != tc.brokers {
			t.Errorf("%d bytes, limit %d: %s", tc.bytes, tc.limit, text)
		}
	}
}
