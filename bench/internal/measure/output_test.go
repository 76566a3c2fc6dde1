package measure

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/choreography-go/choreography/bench/internal/workload"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A contender may have ended before the markers of its last transaction are
// written: what is read then is not all.
func TestReadingWaitsForTheMarkersOfTheLastTransaction(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	rig, err := NewRig(t.Context(), cluster.ListenAddrs(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer rig.client.Close()
	if err := rig.create(t.Context(), "out"); err != nil {
		t.Fatal(err)
	}
	producer, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.TransactionalID("t"), kgo.DefaultProduceTopic("out"))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	const n, flows = 10, 3
	if err := producer.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for seq := range int64(n) {
		rec := &kgo.Record{Key: []byte(workload.KeyOf(seq, flows)), Value: fmt.Appendf(nil, `{"seq":%d,"more":0}`, seq)}
		if err := producer.ProduceSync(t.Context(), rec).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}

	// What is committed and where the log ends is asked once, then again: only
	// then the transaction ends.
	var asked atomic.Int32
	again := make(chan struct{})
	cluster.ControlKey(int16(kmsg.ListOffsets), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if asked.Add(1) == 3 {
			close(again)
		}
		return nil, nil, false
	})
	ended := make(chan error, 1)
	go func() {
		<-again
		ended <- producer.EndTransaction(t.Context(), kgo.TryCommit)
	}()
	book := workload.NewBook(n, flows)
	if err := rig.read(t.Context(), "out", book); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if err := book.Complete(true); err != nil {
		t.Error(err)
	}
}
