package cloudevent_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"

	"github.com/choreography-go/choreography/choreo/cloudevent"
)

// text draws attribute values: printable, with everything that a format has to escape.
func text(min, max int) *rapid.Generator[string] {
	return rapid.StringOfN(rapid.OneOf(
		rapid.RuneFrom([]rune(`abzAZ09 ,;:%"\/<>&=+é€`+"\u2028\u00a0\ufffd😀")), rapid.RuneFrom(nil, unicode.Letter)), min, max, -1)
}

var contentTypes = []string{"", "application/json", "application/problem+json; charset=utf-8", "text/plain", "text/html; charset=latin1",
	"application/xml", "application/octet-stream", "application/avro", "nonsense"}

// events draws valid events, among them such with all and with few attributes.
func events() *rapid.Generator[cloudevent.Event] {
	return rapid.Custom(func(t *rapid.T) cloudevent.Event {
		optional := func(name string) string {
			if !rapid.Bool().Draw(t, "has "+name) {
				return ""
			}
			return text(1, 12).Draw(t, name)
		}
		e := cloudevent.Event{
			ID:              text(1, 12).Draw(t, "id"),
			Source:          rapid.SampledFrom([]string{"/order", "urn:x:y", "https://shop.example/a?b#c", "/é%20", "1-2"}).Draw(t, "source"),
			Type:            text(1, 12).Draw(t, "type"),
			Subject:         optional("subject"),
			DataContentType: rapid.SampledFrom(contentTypes).Draw(t, "content type"),
			DataSchema:      rapid.SampledFrom([]string{"", "https://shop.example/schema.json"}).Draw(t, "schema"),
			CorrelationID:   optional("correlation id"),
			CausationID:     optional("causation id"),
			CausationIDs:    rapid.SliceOfN(text(1, 6), 0, 3).Draw(t, "causation ids"),
			TraceParent:     optional("traceparent"),
			TraceState:      optional("tracestate"),
			PartitionKey:    optional("partition key"),
			Service:         optional("service"),
			Step:            optional("step"),
			Kind:            cloudevent.Kind(optional("kind")),
			Undoes:          optional("undoes"),
			Attempt:         rapid.IntRange(0, 1<<31-1).Draw(t, "attempt"),
			Hops:            rapid.IntRange(0, 100).Draw(t, "hops"),
			Outcome:         optional("outcome"),
			Extensions:      rapid.MapOfN(rapid.StringMatching(`x[a-z0-9]{0,24}`), text(0, 12), 0, 4).Draw(t, "extensions"),
			Data: rapid.OneOf(rapid.Just([]byte(nil)), rapid.SliceOfN(rapid.Byte(), 0, 20),
				rapid.SampledFrom([][]byte{[]byte(`{"a":[1,"}"]}`), []byte(`"x"`), []byte("null"), []byte("é\n\x00")})).Draw(t, "data"),
		}
		for _, at := range []*time.Time{&e.Started, &e.Began} {
			if rapid.Bool().Draw(t, "has milliseconds") {
				*at = time.UnixMilli(rapid.Int64Range(0, 1<<53).Draw(t, "milliseconds")).UTC()
			}
		}
		if rapid.Bool().Draw(t, "has time") {
			zone := time.FixedZone("", rapid.IntRange(-12*3600, 14*3600).Draw(t, "offset"))
			e.Time = time.Unix(rapid.Int64Range(-62_000_000_000, 253_000_000_000).Draw(t, "seconds"),
				rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")).In(zone)
		}
		return e
	})
}

func TestWrittenEventsAreReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		event := events().Draw(t, "event")
		for name, write := range map[string]func(string) (*kgo.Record, error){"binary": event.Record, "structured": event.Structured} {
			r, err := write("t")
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if r.Value == nil {
				t.Fatalf("%s: null value", name)
			}
			got, err := cloudevent.Read(r)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			want := event
			if name == "binary" && want.Data == nil {
				want.Data = []byte{} // a null value is never written
			}
			if diff := difference(got, want); diff != "" {
				t.Fatalf("%s: %s\n%s", name, diff, r.Value)
			}
		}
	})
}

// Whatever the headers are, the view and Read agree on mode and attributes, and errors stay short and on one line.
func TestViewAgreesWithRead(t *testing.T) {
	keys := []string{"ce_specversion", "ce_id", "ce_source", "ce_type", "CE_ID", "Ce_Type", "ce_correlationid", "ce_choreohops", "ce_time",
		"content-type", "Content-Type", "ce_my_ext", "ce_tenant", "CE_Tenant", "ce_data", "ce_datacontenttype", "other", "ce_", ""}
	values := []string{"1.0", "1.0", "1.0", "a", "b", "7", "", "\xff", "a\n", "application/json", "application/cloudevents+json", "0.3"}
	value := rapid.OneOf(rapid.SampledFrom(values), rapid.Just("1.0"))
	rapid.Check(t, func(t *rapid.T) {
		r := &kgo.Record{Value: rapid.SliceOf(rapid.Byte()).Draw(t, "value")}
		if rapid.Bool().Draw(t, "mostly valid") {
			r.Headers = binary(nil).Headers
		}
		for range rapid.IntRange(0, 6).Draw(t, "headers") {
			h := kgo.RecordHeader{Key: rapid.SampledFrom(keys).Draw(t, "key")}
			if rapid.IntRange(0, 9).Draw(t, "null") > 0 {
				h.Value = []byte(value.Draw(t, "header"))
			}
			r.Headers = append(r.Headers, h)
		}
		view := cloudevent.ViewOf(r)
		event, err := cloudevent.Read(r)
		if notOne := errors.Is(err, cloudevent.ErrNotCloudEvent); notOne != (view.Mode() == cloudevent.NotCloudEvent) {
			t.Fatalf("mode is %v, Read says %v", view.Mode(), err)
		}
		if err != nil {
			if message := err.Error(); len(message) > 1000 || strings.ContainsAny(message, "\n\r") || !utf8.ValidString(message) {
				t.Fatalf("error is %q", message)
			}
			return
		}
		if view.Mode() == cloudevent.Structured {
			t.Fatal("random bytes were read as a structured event")
		}
		for _, pair := range [][2]string{
			{string(view.ID()), event.ID}, {string(view.Source()), event.Source}, {string(view.Type()), event.Type},
			{string(view.CorrelationID()), event.CorrelationID}, {string(view.ContentType()), event.DataContentType},
		} {
			if pair[0] != pair[1] {
				t.Fatalf("view says %q, Read %q", pair[0], pair[1])
			}
		}
		if view.Hops() != event.Hops {
			t.Fatalf("view says %d hops, Read %d", view.Hops(), event.Hops)
		}
		// What is read can be written again, and is then the same.
		again, err := event.Record("t")
		if err != nil {
			t.Fatalf("an event that was read cannot be written: %v", err)
		}
		if diff := difference(read2(t, again), event); diff != "" {
			t.Fatal(diff)
		}
	})
}

func read2(t *rapid.T, r *kgo.Record) cloudevent.Event {
	event, err := cloudevent.Read(r)
	if err != nil {
		t.Fatal(err)
	}
	return event
}

func FuzzReadStructured(f *testing.F) {
	r, err := full().Structured("t")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(r.Value)
	f.Add(structured(`"data":{"a":[{"b":"}\\\""}]}`, `"my_ext":{}`, `"n":-1`).Value)
	f.Add(structured(`"data_base64":"YQ=="`, `"subject":"\ud83d\ude00"`).Value)
	f.Add([]byte(" { } "))
	f.Fuzz(func(t *testing.T, document []byte) {
		before := slices.Clone(document)
		event, err := cloudevent.Read(&kgo.Record{Value: document, Headers: headers("content-type", "application/cloudevents+json")})
		if !slices.Equal(before, document) {
			t.Fatal("Read changed the record")
		}
		if err != nil {
			if len(err.Error()) > 20_000 {
				t.Fatalf("error has %d bytes", len(err.Error()))
			}
			return
		}
		again, err := event.Structured("t")
		if err != nil {
			t.Fatalf("an event that was read cannot be written: %v", err)
		}
		got, err := cloudevent.Read(again)
		if err != nil {
			t.Fatalf("an event that was written cannot be read: %v\n%s", err, again.Value)
		}
		if !maps.Equal(maps.Collect(got.Attributes()), maps.Collect(event.Attributes())) || string(got.Data) != string(event.Data) {
			t.Fatalf("got %+v, want %+v", got, event)
		}
	})
}
