package txn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo/internal/producer"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// spreadRig is a client that has produced to a topic whose partitions 0 to 3 lie
// with the brokers 0, 1, 1 and 2, as far as there are so many.
func spreadRig(t *testing.T, brokers int) (*kfake.Cluster, *kgo.Client) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(brokers), kfake.SeedTopics(4, "out"), kfake.SeedTopics(1, "unheard"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	for p, leader := range []int32{0, 1, 1, 2} {
		if err := cluster.MoveTopicPartition("out", int32(p), min(leader, int32(brokers-1))); err != nil {
			t.Fatal(err)
		}
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "out"}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return cluster, client
}

func TestSpreadIsOfNoConcernToASingleBroker(t *testing.T) {
	for brokers, off := range map[int]bool{1: true, 2: false, 3: false} {
		_, client := spreadRig(t, brokers)
		s := spreadOf(client)
		if s.off != off || s.known("out") == off || s.known("unheard") || s.many {
			t.Errorf("%d brokers: %+v", brokers, s)
		}
	}
}

func TestSpreadFindsSeveralLeaders(t *testing.T) {
	_, client := spreadRig(t, 3)
	out := func(numbers ...int32) (all []partition) {
		for _, n := range numbers {
			all = append(all, partition{"out", n})
		}
		return all
	}
	unheard := partition{"unheard", 0}
	for _, c := range []struct {
		name    string
		outputs []partition
		many    bool
	}{
		{"one", out(3), false},
		{"the same again", out(3, 3), false},
		{"two with one leader", out(1, 2), false},
		{"two leaders, the first is broker 0", out(0, 3), true},
		{"two leaders, the last is broker 0", out(3, 0), true},
		{"three leaders", out(0, 1, 2, 3), true},
		{"one whose leader is not known", append(out(1), unheard), false},
		{"two leaders after one that is not known", append([]partition{unheard}, out(1, 3)...), true},
	} {
		s := spreadOf(client)
		for _, p := range c.outputs {
			s.add(p.topic, p.number)
		}
		if s.many != c.many {
			t.Errorf("%s: many leaders: %v, want %v", c.name, s.many, c.many)
		}
	}
}

// addAnswer answers a request to add the partitions 1 and 3 of out to a
// transaction; nil: it is added.
func addAnswer(r kmsg.Request, first, third *kerr.Error) kmsg.Response {
	at := kmsg.NewAddPartitionsToTxnResponseTopic()
	at.Topic = "out"
	for i, err := range []*kerr.Error{first, third} {
		p := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
		p.Partition = []int32{1, 3}[i]
		if err != nil {
			p.ErrorCode = err.Code
		}
		at.Partitions = append(at.Partitions, p)
	}
	resp := r.ResponseKind().(*kmsg.AddPartitionsToTxnResponse)
	resp.Topics = append(resp.Topics, at)
	return resp
}

func TestSpreadIsAnnouncedUntilItIsAccepted(t *testing.T) {
	busy, denied := kerr.ConcurrentTransactions, kerr.TopicAuthorizationFailed
	for _, c := range []struct {
		name    string
		answers [][]*kerr.Error // of the partitions 1 and 3 to each request
		want    error
	}{
		{"at once", [][]*kerr.Error{{nil, nil}}, nil},
		{"when the transaction before it has ended", [][]*kerr.Error{{busy, kerr.OperationNotAttempted}, {nil, busy}, {nil, nil}}, nil},
		{"never", [][]*kerr.Error{{kerr.OperationNotAttempted, denied}}, denied},
	} {
		t.Run(c.name, func(t *testing.T) {
			cluster, client := spreadRig(t, 3)
			var asked [][]int32
			cluster.ControlKey(int16(kmsg.AddPartitionsToTxn), func(r kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				answers := c.answers[min(len(asked), len(c.answers)-1)]
				asked = append(asked, r.(*kmsg.AddPartitionsToTxnRequest).Topics[0].Partitions)
				return addAnswer(r, answers[0], answers[1]), nil, true
			})
			s := spreadOf(client)
			s.add("out", 1)
			s.add("out", 3)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if err := s.announce(ctx, &producer.Identity{TransactionalID: "t", ID: 7}); !errors.Is(err, c.want) {
				t.Errorf("announce returned %v, want %v", err, c.want)
			}
			if len(asked) != len(c.answers) {
				t.Errorf("asked %d times, want %d", len(asked), len(c.answers))
			}
			for _, partitions := range asked {
				if slices.Sort(partitions); !slices.Equal(partitions, []int32{1, 3}) {
					t.Errorf("asked for %v", partitions)
				}
			}
		})
	}
}

// A lane that is closed does not wait for a transaction that never ends.
func TestSpreadIsNotAnnouncedForEver(t *testing.T) {
	cluster, client := spreadRig(t, 3)
	ctx, cancel := context.WithCancelCause(t.Context())
	closed := errors.New("closed")
	cluster.ControlKey(int16(kmsg.AddPartitionsToTxn), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		cancel(closed)
		return addAnswer(r, kerr.ConcurrentTransactions, kerr.ConcurrentTransactions), nil, true
	})
	s := spreadOf(client)
	s.add("out", 1)
	s.add("out", 3)
	if err := s.announce(ctx, &producer.Identity{TransactionalID: "t", ID: 7}); err == nil {
		t.Error("announced, though the lane was closed")
	}
}

// The group's coordinator is whoever the brokers say, wherever the group lies.
func TestTheGroupsCoordinatorIsFound(t *testing.T) {
	r := newRig(t, rigConfig{brokers: 3, idle: true})
	client, found := r.client(), map[int32]bool{}
	for n := range 50 {
		name := fmt.Sprint("group-", n)
		want := r.cluster.CoordinatorFor(name)
		p := &Pipeline{cfg: Config{Group: name}}
		p.coord.Store(-1)
		if got, err := p.coordinator(t.Context(), client); got != want || err != nil {
			t.Errorf("the coordinator of %s is %d (%v), want %d", name, got, err, want)
		}
		found[want] = true
	}
	if len(found) != 3 {
		t.Errorf("all groups lie on the brokers %v", found)
	}
}
