package watch

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/choreography-go/choreography/cmd/choreo/internal/check"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a broker with the topics of one service, and what was seen of them.
type world struct {
	t      *testing.T
	addrs  []string
	client *kgo.Client
	admin  *kadm.Client

	mu        sync.Mutex
	seen      []string
	malformed int
}

func newWorld(t *testing.T) *world {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "p.orders", "p.order.inbox", "other"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	w := &world{t: t, addrs: cluster.ListenAddrs()}
	w.client = w.newClient()
	w.admin = kadm.NewClient(w.client)
	return w
}

func (w *world) newClient(opts ...kgo.Opt) *kgo.Client {
	c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(w.addrs...), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Close)
	return c
}

func (w *world) config() Config {
	return Config{
		Brokers: w.addrs, Prefix: "p.", Topics: []string{"orders"}, Services: []string{"order"},
		Each: func(e check.Event, at time.Time) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if at.IsZero() || e.Topic != "orders" {
				w.t.Errorf("%+v at %v", e, at)
			}
			w.seen = append(w.seen, e.ID)
		},
		Malformed: func(error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.malformed++
		},
	}
}

func (w *world) watch() *Watcher {
	x, err := Start(w.t.Context(), w.config())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(x.Close)
	return x
}

func (w *world) say(c *kgo.Client, topic string, partition int32, id string) {
	r := &kgo.Record{Topic: topic, Partition: partition, Value: []byte("{}")}
	for k, v := range map[string]string{
		"ce_specversion": "1.0", "ce_id": id, "ce_source": "/s", "ce_type": "t", "ce_time": "2026-01-02T03:04:05Z", "ce_correlationid": "f",
	} {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: k, Value: []byte(v)})
	}
	if err := c.ProduceSync(w.t.Context(), r).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) commit(topic string, partition int32, at int64) {
	var o kadm.Offsets
	o.AddOffset(topic, partition, at, -1)
	if err := w.admin.CommitAllOffsets(w.t.Context(), "p.order", o); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) settle(x *Watcher, d time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(w.t.Context(), d, errLate)
	defer cancel()
	return x.Settle(ctx)
}

var errLate = errors.New("late")

const (
	long  = 10 * time.Second       // must not be reached
	short = 300 * time.Millisecond // is waited for
)

func TestSeesWhatIsSaidAfterTheStart(t *testing.T) {
	w := newWorld(t)
	w.say(w.client, "p.orders", 0, "before")
	x := w.watch()
	w.commit("other", 0, 0)
	w.say(w.client, "p.orders", 0, "a")
	w.say(w.client, "p.orders", 0, "b")
	w.say(w.client, "p.order.inbox", 1, "published")
	w.say(w.client, "other", 0, "of nobody")
	if err := w.client.ProduceSync(t.Context(), &kgo.Record{Topic: "p.orders", Value: []byte("no event")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := w.settle(x, long); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(w.seen, " "); got != "a b" || w.malformed != 1 {
		t.Errorf("saw %q and %d that are no events", got, w.malformed)
	}
}

func TestReadsCommittedOnly(t *testing.T) {
	w := newWorld(t)
	x := w.watch()
	w.commit("other", 0, 0)
	txn := w.newClient(kgo.TransactionalID("t"))
	for _, how := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit} {
		if err := txn.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		w.say(txn, "p.orders", 0, map[kgo.TransactionEndTry]string{kgo.TryAbort: "aborted", kgo.TryCommit: "committed"}[how])
		if err := w.settle(x, short); !errors.Is(err, errLate) || !strings.Contains(err.Error(), "p.orders/0") {
			t.Errorf("settled with an open transaction: %v", err)
		}
		if err := txn.EndTransaction(t.Context(), how); err != nil {
			t.Fatal(err)
		}
		if err := w.settle(x, long); err != nil {
			t.Error(err)
		}
	}
	if got := strings.Join(w.seen, " "); got != "committed" {
		t.Errorf("saw %q", got)
	}
}

// A service that has not committed what it hears may still say something.
func TestSettlesWhenTheServicesAreDone(t *testing.T) {
	w := newWorld(t)
	x := w.watch()
	w.say(w.client, "p.orders", 0, "first")
	if err := w.settle(x, short); !errors.Is(err, errLate) || !strings.Contains(err.Error(), "p.order") {
		t.Errorf("settled before the service has committed anything: %v", err)
	}
	w.commit("p.orders", 0, 1)
	for _, inbox := range []string{"p.orders", "p.order.inbox"} {
		w.commit(inbox, 1, 0)
		w.say(w.client, inbox, 1, "a")
		if err := w.settle(x, short); !errors.Is(err, errLate) || !strings.Contains(err.Error(), "group p.order has not committed offset 0 of "+inbox+"/1") {
			t.Errorf("settled before the service had worked on %s: %v", inbox, err)
		}
		w.commit(inbox, 1, 1)
		if err := w.settle(x, long); err != nil {
			t.Error(err)
		}
	}
	w.say(w.client, "p.orders", 0, "b")
	done := make(chan error)
	go func() { done <- w.settle(x, long) }()
	w.commit("p.orders", 0, 2)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestStartFails(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.Topics = []string{"orders", "parcels"}
	if x, err := Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "p.parcels") {
		t.Errorf("%v", err)
		x.Close()
	}
}

func TestRemoveTopics(t *testing.T) {
	w := newWorld(t)
	x := w.watch()
	w.commit("p.orders", 0, 0)
	if err := x.RemoveTopics(t.Context()); err != nil {
		t.Fatal(err)
	}
	left, err := w.admin.ListTopics(t.Context())
	if err != nil || len(left) != 1 || !left.Has("other") {
		t.Errorf("%v, %v", left.Names(), err)
	}
	groups, err := w.admin.ListGroups(t.Context())
	if err != nil || len(groups) != 0 {
		t.Errorf("%v, %v", groups.Groups(), err)
	}
	// another one: x still reads its configuration
	all := &Watcher{admin: w.admin}
	if err := all.RemoveTopics(t.Context()); err == nil {
		t.Error("would have removed everything")
	}
}
