package sdk_test

import (
	"context"
	"testing"

	"github.com/IBM/sarama"
	"github.com/cloudevents/sdk-go/protocol/kafka_sarama/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/choreography-go/choreography/choreo/cloudevent"
)

func benchmarkRecord(b *testing.B) *kgo.Record {
	r, err := cloudevent.Event{
		ID: "6e8bc430-9c3a-11d9", Source: "https://shop.example/order", Type: "order.placed", CorrelationID: "flow-1", CausationID: "evt-0",
		PartitionKey: "flow-1", Service: "order", Step: "place", Attempt: 1, Hops: 1, DataContentType: "application/json", Data: []byte(`{"total":12}`),
	}.Record("t")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	return r
}

// BenchmarkRead reads one record with package cloudevent and with the SDK, both from the client's own record type.
func BenchmarkRead(b *testing.B) {
	b.Run("choreo", func(b *testing.B) {
		r := benchmarkRecord(b)
		for b.Loop() {
			if _, err := cloudevent.Read(r); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("sdk", func(b *testing.B) {
		r := benchmarkRecord(b)
		message := &sarama.ConsumerMessage{Topic: r.Topic, Key: r.Key, Value: r.Value, Headers: saramaHeaders(r.Headers)}
		for b.Loop() {
			event, err := binding.ToEvent(context.Background(), kafka_sarama.NewMessageFromConsumerMessage(message))
			if err == nil {
				err = event.Validate()
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}
