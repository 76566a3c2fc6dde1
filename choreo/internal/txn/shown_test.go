package txn

import (
	"context"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo/internal/producer"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The client ends a transaction by what it shows of the partitions that were
// produced to. Where it shows none it aborts, or does nothing, and says nil; and
// it may show none for a moment after a topic's first records are acknowledged.
func TestNothingIsTakenForCommittedThatTheClientDoesNotShow(t *testing.T) {
	r := newRig(t, rigConfig{idle: true})
	client, err := r.pipe.newClient("payment/0/0")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	id, epoch, err := client.ProducerID(t.Context())
	if err == nil {
		err = client.BeginTransaction()
	}
	if err != nil {
		t.Fatal(err)
	}
	tx := &transaction{
		ctx: ctx, l: &lane{id: "payment/0/0", client: client},
		who:  producer.Identity{TransactionalID: "payment/0/0", ID: id, Epoch: epoch},
		load: load{records: 1, results: []*Result{{Records: []*kgo.Record{{Topic: "out"}}}}},
	}
	if err := tx.end(); err == nil {
		t.Fatal("it is taken for committed")
	}
}
