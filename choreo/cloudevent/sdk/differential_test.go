package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/IBM/sarama"
	"github.com/cloudevents/sdk-go/protocol/kafka_sarama/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/cloudevent/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// describe writes an event in canonical form.
func describe(e cloudevent.Event) string {
	var b strings.Builder
	for name, value := range e.Attributes() {
		fmt.Fprintf(&b, "%s=%q ", name, value)
	}
	if e.Data == nil {
		return b.String() + "no data"
	}
	return b.String() + fmt.Sprintf("data=%q", e.Data)
}

// What a reader says of a record that yields no event.
const (
	noEvent = "no event"
	invalid = "invalid"
)

// ours reads a record with package cloudevent.
func ours(r *kgo.Record) (string, error) {
	event, err := cloudevent.Read(r)
	switch {
	case errors.Is(err, cloudevent.ErrNotCloudEvent):
		return noEvent, nil
	case err != nil:
		return invalid, err
	}
	return describe(event), nil
}

// theirs reads a record with the SDK, validates it there, and converts it. The three extensions that the SDK adds to every
// record it reads (topic, partition, offset) are taken off.
func theirs(r *kgo.Record) (string, error) {
	message := kafka_sarama.NewMessageFromConsumerMessage(&sarama.ConsumerMessage{
		Topic: r.Topic, Key: r.Key, Value: r.Value, Headers: saramaHeaders(r.Headers),
	})
	if message.ReadEncoding() == binding.EncodingUnknown {
		return noEvent, nil
	}
	event, err := binding.ToEvent(context.Background(), message)
	if err == nil {
		err = event.Validate()
	}
	if err != nil {
		return invalid, err
	}
	for _, name := range []string{"kafkatopic", "kafkapartition", "kafkaoffset"} {
		event.SetExtension(name, nil)
	}
	converted, err := sdk.FromSDK(*event)
	if err != nil {
		return "an event that choreo refuses", err
	}
	return describe(converted), nil
}

func saramaHeaders(in []kgo.RecordHeader) []*sarama.RecordHeader {
	var out []*sarama.RecordHeader
	for _, h := range in {
		out = append(out, &sarama.RecordHeader{Key: []byte(h.Key), Value: h.Value})
	}
	return out
}

// written is a record as the SDK writes it.
func written(e cloudevent.Event, structured bool) (*kgo.Record, error) {
	event, err := sdk.ToSDK(e)
	if err != nil {
		return nil, err
	}
	ctx := binding.WithForceBinary(context.Background())
	if structured {
		ctx = binding.WithForceStructured(context.Background())
	}
	var message sarama.ProducerMessage
	if err := kafka_sarama.WriteProducerMessage(ctx, binding.ToMessage(&event), &message); err != nil {
		return nil, err
	}
	r := &kgo.Record{Topic: "t"}
	if message.Key != nil {
		if r.Key, err = message.Key.Encode(); err != nil {
			return nil, err
		}
	}
	if message.Value != nil {
		if r.Value, err = message.Value.Encode(); err != nil {
			return nil, err
		}
	}
	for _, h := range message.Headers {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: string(h.Key), Value: h.Value})
	}
	return r, nil
}

// plain draws text on which the two agree: no blanks at the ends, which the SDK trims, and no control characters.
func plain() *rapid.Generator[string] {
	inner := rapid.StringOfN(rapid.OneOf(rapid.RuneFrom([]rune(`aZ09 ,;:%"\/<>&=+é€`+"\u2028😀")), rapid.RuneFrom(nil, unicode.Letter)), 0, 8, -1)
	return rapid.Map(inner, func(s string) string { return "x" + s + "y" })
}

// events draws events on which the two agree.
func events() *rapid.Generator[cloudevent.Event] {
	return rapid.Custom(func(t *rapid.T) cloudevent.Event {
		optional := func(name string) string {
			if !rapid.Bool().Draw(t, "has "+name) {
				return ""
			}
			return plain().Draw(t, name)
		}
		e := cloudevent.Event{
			ID:            plain().Draw(t, "id"),
			Source:        rapid.SampledFrom([]string{"/order", "urn:x:y", "https://shop.example:80/a?b=c#d", "/%20", "1-2"}).Draw(t, "source"),
			Type:          plain().Draw(t, "type"),
			Subject:       optional("subject"),
			DataSchema:    rapid.SampledFrom([]string{"", "https://shop.example/schema.json", "urn:a:b"}).Draw(t, "schema"),
			CorrelationID: optional("correlation id"),
			CausationID:   optional("causation id"),
			CausationIDs:  rapid.SliceOfN(plain(), 0, 3).Draw(t, "causation ids"),
			TraceParent:   optional("traceparent"),
			PartitionKey:  optional("partition key"),
			Service:       optional("service"),
			Kind:          cloudevent.Kind(optional("kind")),
			Attempt:       rapid.IntRange(0, 1<<31-1).Draw(t, "attempt"),
			Hops:          rapid.IntRange(0, 100).Draw(t, "hops"),
			Extensions:    rapid.MapOfN(rapid.StringMatching(`x[a-z0-9]{0,24}`), rapid.OneOf(plain(), rapid.Just("")), 0, 4).Draw(t, "extensions"),
		}
		switch rapid.IntRange(0, 2).Draw(t, "data") {
		case 0:
			e.DataContentType = rapid.SampledFrom([]string{"application/json", "text/json; charset=utf-8"}).Draw(t, "type of data")
			e.Data = []byte(rapid.SampledFrom([]string{`{"a":[1.50,"}\u0041é"]}`, `"x"`, "1e5", "null", "{}"}).Draw(t, "json"))
		case 1:
			e.DataContentType = rapid.SampledFrom([]string{"text/plain", "application/xml", "application/avro"}).Draw(t, "type of data")
			e.Data = rapid.OneOf(rapid.SliceOfN(rapid.Byte(), 1, 20), rapid.Map(plain(), func(s string) []byte { return []byte(s) })).Draw(t, "bytes")
		case 2:
			e.Data = rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "bytes")
		}
		if rapid.Bool().Draw(t, "has time") {
			e.Time = time.Unix(rapid.Int64Range(-62_000_000_000, 253_000_000_000).Draw(t, "seconds"),
				rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")).UTC()
		}
		return e
	})
}

// The two write the same headers, key and value in binary mode.
func TestBothWriteTheSameBinaryRecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		event := events().Draw(t, "event")
		mine, err := event.Record("t")
		if err != nil {
			t.Fatal(err)
		}
		other, err := written(event, false)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := headerMap(t, mine), headerMap(t, other); !maps.Equal(got, want) {
			t.Fatalf("headers are\n%q, the SDK's are\n%q", got, want)
		}
		if string(mine.Key) != string(other.Key) || string(mine.Value) != string(other.Value) {
			t.Fatalf("key %q and value %q, the SDK's are %q and %q", mine.Key, mine.Value, other.Key, other.Value)
		}
	})
}

func headerMap(t *rapid.T, r *kgo.Record) map[string]string {
	out := make(map[string]string, len(r.Headers))
	for _, h := range r.Headers {
		if _, twice := out[h.Key]; twice {
			t.Fatalf("header %q is written twice", h.Key)
		}
		out[h.Key] = string(h.Value)
	}
	return out
}

// Whoever writes, in either mode, both read the event that was written.
func TestBothReadWhatEitherWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		event := events().Draw(t, "event")
		want := describe(event)
		for _, writer := range []struct {
			name  string
			write func() (*kgo.Record, error)
		}{
			{"our binary record", func() (*kgo.Record, error) { return event.Record("t") }},
			{"our structured record", func() (*kgo.Record, error) { return event.Structured("t") }},
			{"the SDK's binary record", func() (*kgo.Record, error) { return written(event, false) }},
			{"the SDK's structured record", func() (*kgo.Record, error) { return written(event, true) }},
		} {
			name := writer.name
			r, err := writer.write()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got, err := ours(r); got != want {
				t.Fatalf("we read %s as\n%s (%v), want\n%s", name, got, err, want)
			}
			if got, err := theirs(r); got != want {
				t.Fatalf("the SDK reads %s as\n%s (%v), want\n%s", name, got, err, want)
			}
		}
	})
}

func TestConversionIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		event := events().Draw(t, "event")
		event.Source = rapid.SampledFrom([]string{event.Source, "HTTP://Shop.example", "/é", "a#", "http://a%41/", "?", "urn:a?b#"}).Draw(t, "odd source")
		event.DataSchema = rapid.SampledFrom([]string{event.DataSchema, "HTTPS://Shop.example/é"}).Draw(t, "odd schema")
		event.ID = rapid.SampledFrom([]string{event.ID, " blank "}).Draw(t, "odd id")
		event.Data = rapid.SampledFrom([][]byte{event.Data, nil, {}}).Draw(t, "odd data")
		converted, err := sdk.ToSDK(event)
		if err != nil {
			t.Fatal(err)
		}
		if err := converted.Validate(); err != nil {
			t.Fatalf("the SDK refuses %+v: %v", converted, err)
		}
		back, err := sdk.FromSDK(converted)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := describe(back), describe(event); got != want {
			t.Fatalf("got\n%s, want\n%s", got, want)
		}
	})
}
