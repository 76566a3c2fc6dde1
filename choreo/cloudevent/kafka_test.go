package cloudevent_test

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/choreography-go/choreography/choreo/cloudevent"
)

// Through a broker and back: above all, the client must keep an empty value apart from a null one, and an empty header from an
// absent one.
func TestEventsSurviveABroker(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "events"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	survive(t, cluster.ListenAddrs(), "events")
}

func survive(t *testing.T, brokers []string, topic string) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	empty := full()
	empty.Data = []byte{}
	var sent []cloudevent.Event
	for _, event := range []cloudevent.Event{full(), empty} {
		for _, write := range []func(string) (*kgo.Record, error){event.Record, event.Structured} {
			r, err := write(topic)
			if err != nil {
				t.Fatal(err)
			}
			if err := client.ProduceSync(ctx, r).FirstErr(); err != nil {
				t.Fatal(err)
			}
			sent = append(sent, event)
		}
	}
	for len(sent) > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		for _, r := range fetches.Records() {
			if diff := difference(read(t, r), sent[0]); diff != "" {
				t.Error(diff)
			}
			if string(r.Key) != sent[0].PartitionKey || r.Value == nil {
				t.Errorf("key is %q, value %#v", r.Key, r.Value)
			}
			sent = sent[1:]
		}
	}
}
