package view

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo/internal/journal"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestViewWaitsForWhatMayBeCommitted asks for a state while a transaction that
// changes it is open: when it commits in time the answer has it; when it stays
// open, as a dead instance leaves it, the answer is that of the last commit.
func TestViewWaitsForWhatMayBeCommitted(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "j"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	seeds := kgo.SeedBrokers(cluster.ListenAddrs()...)
	producer, err := kgo.NewClient(seeds, kgo.TransactionalID("t"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	newStore := func() *journal.Store {
		return journal.New(journal.Config{Steps: []string{"step"}, States: map[string]time.Duration{"s": time.Hour}})
	}
	owner := newStore()
	write := func(payload, event string) {
		t.Helper()
		now := time.Now()
		c, err := owner.PutState("f", "s", []byte(payload), journal.HashOf("/", event), now)
		if err != nil {
			t.Fatal(err)
		}
		if err := producer.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		run, err := owner.PutRun("g", journal.Run{Step: "step", Hash: journal.HashOf("/", event), Status: journal.Did}, now)
		if err != nil {
			t.Fatal(err)
		}
		if err := producer.ProduceSync(t.Context(), run.Record("j", 0, now), c.Record("j", 0, now)).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	commit := func() {
		t.Helper()
		if err := producer.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
	}

	woken := make(chan string, 10)
	v := New(Config{Journal: "j", NewStore: newStore, Options: []kgo.Opt{seeds}, Changed: func(flow string) { woken <- flow }})
	defer v.Close()
	if _, known, err := v.State(t.Context(), 0, "s", "f"); known || err != nil {
		t.Fatalf("before the flow began: %t, %v; it is not known", known, err)
	}
	write("one", "1")
	commit()
	if got, known, err := v.State(t.Context(), 0, "s", "f"); err != nil || !known || string(got) != "one" {
		t.Fatalf("after the commit: %q, %t, %v", got, known, err)
	}
	if flow := <-woken; flow != "f" {
		t.Errorf("woken for %q", flow)
	}

	write("two", "2")
	type answer struct {
		got []byte
		err error
	}
	asked := make(chan answer)
	go func() {
		got, _, err := v.State(context.Background(), 0, "s", "f")
		asked <- answer{got, err}
	}()
	commit() // within the patience of the one who asks, whichever comes first
	if a := <-asked; a.err != nil || string(a.got) != "two" {
		t.Errorf("asked before the commit was through: %q, %v; want two", a.got, a.err)
	}

	write("three", "3") // and left open
	began := time.Now()
	if got, _, err := v.State(t.Context(), 0, "s", "f"); err != nil || string(got) != "two" {
		t.Errorf("beside an open transaction: %q, %v; want two", got, err)
	}
	if took := time.Since(began); took < openPatience || took > 10*openPatience {
		t.Errorf("it took %v; transactions may be open for %v before they are passed over", took, openPatience)
	}
	commit()
	if got, _, err := v.State(t.Context(), 0, "s", "f"); err != nil || string(got) != "three" {
		t.Errorf("after its commit: %q, %v; want three", got, err)
	}
}

// TestViewIsClosedWhileItBeginsToRead closes a view while the metadata request
// is under way that begins the reading of one more partition, and answers that
// request when kgo has ended its fetches: kgo would begin another, and races
// with itself.
func TestViewIsClosedWhileItBeginsToRead(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "j"), kfake.SleepOutOfOrder())
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	seeds := kgo.SeedBrokers(cluster.ListenAddrs()...)
	producer, err := kgo.NewClient(seeds, kgo.DefaultProduceTopic("j"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	if err := producer.ProduceSync(t.Context(), &kgo.Record{Value: []byte("read before")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	newStore := func() *journal.Store {
		return journal.New(journal.Config{States: map[string]time.Duration{"s": time.Hour}})
	}
	v := New(Config{Journal: "j", NewStore: newStore, Options: []kgo.Opt{seeds, kgo.DisableClientMetrics()}, Changed: func(string) {}})
	if _, known, err := v.State(t.Context(), 0, "s", "f"); known || err != nil {
		t.Fatal(known, err)
	}

	asked, ended, answered := make(chan struct{}), make(chan struct{}), make(chan struct{})
	over := make(chan struct{}) // kfake forgets who sleeps for a connection that breaks
	defer close(over)
	cluster.ControlKey(int16(kmsg.Metadata), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.SleepControl(func() {
			close(asked)
			select {
			case <-ended:
			case <-over:
			}
		})
		close(answered)
		return nil, nil, false
	})
	late := make(chan struct{}, 100)
	cluster.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		fetch := req.(*kmsg.FetchRequest)
		for _, topic := range fetch.Topics {
			for _, p := range topic.Partitions {
				if p.Partition == 1 {
					late <- struct{}{}
				}
			}
		}
		if fetch.SessionEpoch == -1 && len(late) == 0 {
			close(ended)
			cluster.SleepControl(func() {
				select {
				case <-answered:
				case <-over:
				}
				select { // kgo waits for this answer for a second
				case <-late:
					late <- struct{}{}
				case <-time.After(200 * time.Millisecond):
				}
			})
		}
		return nil, nil, false
	})
	if _, _, err := v.follow(1); err != nil {
		t.Fatal(err)
	}
	<-asked
	v.Close()
	if _, _, err := v.State(t.Context(), 0, "s", "f"); !errors.Is(err, ErrClosed) {
		t.Errorf("of a closed view: %v, want ErrClosed", err)
	}
	if len(late) > 0 {
		t.Error("the partition was read while the client was closed")
	}
}

// Only records of states tell of states, and only their flows are woken.
func TestAStateSlotIsKnownByItsKey(t *testing.T) {
	for key, want := range map[string]string{
		"f\x00state/s": "f", "a\x00b\x00state/s": "a\x00b", "\x00state/s": "", "state/s": "-", "f\x00run/s/1": "-", "f\x00stat": "-", "": "-",
	} {
		flow, ok := stateSlot([]byte(key))
		if got := string(flow); ok != (want != "-") || ok && got != want {
			t.Errorf("%q is a state of flow %q: %t", key, got, ok)
		}
	}
}

// A partition without leader is asked for again, less and less often.
func TestTheEndOfAPartitionIsAskedForAgain(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "j"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.DisableClientMetrics())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var asked atomic.Int32
	cluster.ControlKey(int16(kmsg.ListOffsets), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		asked.Add(1)
		resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
		resp.Topics = []kmsg.ListOffsetsResponseTopic{{Topic: "j", Partitions: []kmsg.ListOffsetsResponseTopicPartition{{ErrorCode: kerr.OffsetNotAvailable.Code}}}}
		return resp, nil, true
	})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := lastOffset(ctx, client, "j", 0, readCommitted); err == nil {
		t.Error("the end of a partition without leader is known")
	}
	// 10 ms after the first time, and then 20, 40, 80, 160.
	if n := asked.Load(); n > 6 {
		t.Errorf("within 300 ms it was asked for %d times", n)
	}
}
