package choreo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/choreography-go/choreography/choreo/internal/journal"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// begun reads what the journal says of begun inputs, read committed.
func begun(t *testing.T, cfg Config, adm *kadm.Client, partition int32) *journal.Store {
	t.Helper()
	ctx := sampleContext(t)
	ends, err := adm.ListCommittedOffsets(ctx, "it.sample.journal")
	if err != nil {
		t.Fatal(err)
	}
	end, _ := ends.Lookup("it.sample.journal", partition)
	cl, err := kgo.NewClient(cfg.kafka(kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"it.sample.journal": {partition: kgo.NewOffset().AtStart()}}))...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	store := journal.New(journal.Config{})
	for next := int64(0); next < end.Offset; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if next = r.Offset + 1; !r.Attrs.IsControl() {
				store.Apply(r)
			}
		})
	}
	return store
}

func TestResetDecidesWhereToGoOn(t *testing.T) {
	for _, c := range []struct {
		topic string
		from  From
		want  int64
	}{{"orders", Earliest, 0}, {"it.orders", Latest, 2}, {"sample.inbox", Earliest, 0}} {
		t.Run(fmt.Sprintf("%s from %d", c.topic, c.from), func(t *testing.T) {
			cfg, adm := sampleBroker(t)
			ctx := sampleContext(t)
			p := samplePlan(t)
			if err := sampleService().CreateTopics(ctx, cfg); err != nil {
				t.Fatal(err)
			}
			full := "it." + strings.TrimPrefix(c.topic, "it.")
			produceTo(t, cfg, "it.orders", 3, 2)
			var stale kadm.Offsets
			stale.Add(kadm.Offset{Topic: full, Partition: 0, At: 77, Metadata: "stale"})
			if err := adm.CommitAllOffsets(ctx, "it.sample", stale); err != nil {
				t.Fatal(err)
			}
			var done []string
			if err := resetTopic(ctx, cfg, p, c.topic, c.from, func(f string, a ...any) { done = append(done, fmt.Sprintf(f, a...)) }); err != nil {
				t.Fatal(err)
			}
			details, err := adm.ListTopics(ctx, full)
			if err != nil {
				t.Fatal(err)
			}
			if len(done) != len(details[full].Partitions) {
				t.Errorf("it said %q", done)
			}
			offsets, err := adm.FetchOffsets(ctx, "it.sample")
			if err != nil {
				t.Fatal(err)
			}
			for partition := range int32(len(details[full].Partitions)) {
				o, ok := offsets.Lookup(full, partition)
				want := int64(0)
				if partition == 3 {
					want = c.want
				}
				if !ok || o.At != want || o.Metadata != "" {
					t.Errorf("partition %d: committed %+v, want %d", partition, o, want)
				}
				if id, ok := begun(t, cfg, adm, partition%3).Begun(full, partition); !ok || id != journal.TopicID(details[full].ID) {
					t.Errorf("partition %d: the journal says begun %v with id %x, want %x", partition, ok, id, details[full].ID)
				}
			}
		})
	}
}

// produceTo puts records on a partition.
func produceTo(t *testing.T, cfg Config, topic string, partition int32, n int) {
	t.Helper()
	cl, err := kgo.NewClient(cfg.kafka(kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for range n {
		if err := cl.ProduceSync(sampleContext(t), &kgo.Record{Topic: topic, Partition: partition, Value: []byte("x")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestResetRefuses(t *testing.T) {
	cfg, adm := sampleBroker(t)
	ctx := sampleContext(t)
	p := samplePlan(t)
	none := func(string, ...any) { t.Error("it did something") }

	err := resetTopic(ctx, cfg, p, "orders", Earliest, none)
	if err == nil || !strings.Contains(err.Error(), "sample topics --apply") {
		t.Errorf("without topics: %v", err)
	}
	if err := sampleService().CreateTopics(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	err = resetTopic(ctx, cfg, p, "elsewhere", Earliest, none)
	if _, ok := errors.AsType[*usageError](err); !ok || !strings.Contains(err.Error(), "it.orders") {
		t.Errorf("a topic that is not heard: %v", err)
	}

	member, err := kgo.NewClient(cfg.kafka(kgo.ConsumerGroup("it.sample"), kgo.ConsumeTopics("it.sample.inbox"), kgo.InstanceID("sample-7"), kgo.DisableAutoCommit())...)
	if err != nil {
		t.Fatal(err)
	}
	defer member.Close()
	for {
		if id, _ := member.GroupMetadata(); id != "" {
			break
		}
		poll, cancel := context.WithCancel(ctx)
		cancel()
		member.PollFetches(poll)
		if ctx.Err() != nil {
			t.Fatal("the member did not join")
		}
	}
	err = resetTopic(ctx, cfg, p, "orders", Earliest, none)
	if err == nil || !strings.Contains(err.Error(), `"sample-7"`) || !strings.Contains(err.Error(), "stop all instances") {
		t.Errorf("with a member: %v", err)
	}
	if offsets, err := adm.FetchOffsets(ctx, "it.sample"); err != nil || len(offsets["it.orders"]) > 0 {
		t.Errorf("offsets were committed: %v %v", offsets, err)
	}
}
