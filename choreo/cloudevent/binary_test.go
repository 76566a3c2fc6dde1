package cloudevent_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/choreography-go/choreography/choreo/cloudevent"
)

func TestRecordThatIsNoCloudEvent(t *testing.T) {
	for name, r := range map[string]*kgo.Record{
		"empty":                         {},
		"no headers":                    {Value: []byte(`{"specversion":"1.0"}`)},
		"other headers":                 {Headers: headers("id", "1", "ce-id", "1", "type", "t", "ce_", "x", "c", "x", "content-type", "application/json")},
		"only an extension":             {Headers: headers("ce_correlationid", "1")},
		"content type of another thing": {Headers: headers("content-type", "application/cloudevent+json")},
		"null headers":                  {Headers: []kgo.RecordHeader{{}, {Key: "content-type"}}},
	} {
		if event, err := cloudevent.Read(r); !errors.Is(err, cloudevent.ErrNotCloudEvent) {
			t.Errorf("%s: Read returns %+v, %v", name, event, err)
		}
		if view := cloudevent.ViewOf(r); view.Mode() != cloudevent.NotCloudEvent || view.Type() != nil {
			t.Errorf("%s: mode is %v", name, view.Mode())
		}
	}
}

func TestBrokenBinaryEvent(t *testing.T) {
	without := func(key string) *kgo.Record {
		r := binary([]byte("{}"))
		r.Headers = slices.DeleteFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == key })
		return r
	}
	nullHeader := binary(nil)
	nullHeader.Headers[1].Value = nil
	tests := []struct {
		name   string
		record *kgo.Record
		want   []string
	}{
		{"no id", without("ce_id"), []string{"id"}},
		{"no source", without("ce_source"), []string{"source"}},
		{"no type", without("ce_type"), []string{"type"}},
		{"no specversion", without("ce_specversion"), []string{"specversion"}},
		{"only a type", &kgo.Record{Headers: headers("ce_type", "t")}, []string{"specversion", "id", "source"}},
		{"empty id", binary(nil, "ce_id", ""), []string{"id"}},
		{"null id", nullHeader, []string{"id"}},
		{"wrong specversion", binary(nil, "ce_specversion", "0.3"), []string{"specversion"}},
		{"newer specversion", binary(nil, "ce_specversion", "1.1"), []string{"specversion"}},
		{"two mistakes", binary(nil, "ce_specversion", "2", "ce_time", "noon"), []string{"specversion", "time"}},
		{"header not UTF-8", binary(nil, "ce_subject", "a\xff"), []string{"subject"}},
		{"extension not UTF-8", binary(nil, "ce_tenant", "a\xff"), []string{"tenant"}},
		{"content type not UTF-8", binary(nil, "content-type", "a\xff"), []string{"datacontenttype"}},
		{"correlation id of 10 kB", binary(nil, "ce_correlationid", strings.Repeat("x", 10_000)), []string{"correlationid"}},
		{"correlation id with line breaks", binary(nil, "ce_correlationid", "a\r\nb"), []string{"correlationid"}},
		{"long type", binary(nil, "ce_type", strings.Repeat("x", 256)), []string{"type"}},
		{"source is no URI", binary(nil, "ce_source", "a b"), []string{"source"}},
		{"hop count is no number", binary(nil, "ce_choreohops", "many"), []string{"choreohops"}},
		{"hop count is negative", binary(nil, "ce_choreohops", "-1"), []string{"choreohops"}},
		{"hop count with a plus", binary(nil, "ce_choreohops", "+1"), []string{"choreohops"}},
		{"attempt beyond 32 bits", binary(nil, "ce_choreoattempt", "2147483648"), []string{"choreoattempt"}},
		{"huge extension", binary(nil, "ce_x", strings.Repeat("x", 1<<20)), []string{""}},
		{"many extensions", binary(nil, slices.Repeat([]string{"ce_x", strings.Repeat("x", 100)}, 200)...), []string{""}},
		{"huge content type", binary(nil, "content-type", strings.Repeat("x", 1<<20)), []string{""}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			event, err := cloudevent.Read(test.record)
			if got := mistakes(t, err); !slices.Equal(got, test.want) {
				t.Errorf("mistakes in %q, want %q (%v)", got, test.want, err)
			}
			if errors.Is(err, cloudevent.ErrNotCloudEvent) {
				t.Error("the error is ErrNotCloudEvent, though the record claims to be one")
			}
			if diff := difference(event, cloudevent.Event{}); diff != "" {
				t.Errorf("Read returned an event with its error: %s", diff)
			}
			if view := cloudevent.ViewOf(test.record); view.Mode() != cloudevent.Binary {
				t.Errorf("mode is %v", view.Mode())
			}
		})
	}
}

func TestReadTime(t *testing.T) {
	want := time.Date(2018, 4, 5, 17, 31, 0, 0, time.UTC)
	for value, ok := range map[string]bool{
		"2018-04-05T17:31:00Z": true, "2018-04-05T19:31:00+02:00": true, "2018-04-05T17:31:00.000000000Z": true,
		"2018-04-05t17:31:00z": true, "2018-04-05T17:31:00-00:00": true,
		"2018-04-05 17:31:00Z": false, "2018-04-05T17:31:00": false, "2018-04-05": false, "1522949460": false,
		"2018-02-30T00:00:00Z": false, "2018-04-05T17:31:00,0Z": false, "2018-04-05T17:31:00+24:00": false, "2018-04-05T7:31:00Z": false,
	} {
		event, err := cloudevent.Read(binary(nil, "ce_time", value))
		if (err == nil) != ok || ok && !event.Time.Equal(want) {
			t.Errorf("%s: time is %v, error %v", value, event.Time, err)
		}
		if ok && event.Time.Location() != time.UTC {
			t.Errorf("%s: location is %v, want UTC", value, event.Time.Location())
		}
	}
}

// Section 6: an empty data must not become a null value, which is a tombstone on a compacted topic.
func TestEmptyDataIsNoTombstone(t *testing.T) {
	for name, data := range map[string][]byte{"no data": nil, "empty data": {}} {
		event := cloudevent.Event{ID: "1", Source: "/order", Type: "t", DataContentType: "text/plain", Data: data}
		r, err := event.Record("t")
		if err != nil {
			t.Fatal(err)
		}
		if r.Value == nil || len(r.Value) != 0 {
			t.Errorf("%s: binary value is %#v, want empty and not nil", name, r.Value)
		}
		if got := read(t, r); got.Data == nil || len(got.Data) != 0 {
			t.Errorf("%s: data read is %#v", name, got.Data)
		}
		r, err = event.Structured("t")
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, r); (got.Data == nil) != (data == nil) || len(got.Data) != 0 {
			t.Errorf("%s: data read from structured mode is %#v, want %#v", name, got.Data, data)
		}
	}
}

func TestNullValueIsAnEventWithoutData(t *testing.T) {
	if event := read(t, binary(nil)); event.Data != nil {
		t.Errorf("data is %#v, want nil", event.Data)
	}
}

// Section 6: foreign headers such as ce_my_ext must not make an event unreadable.
func TestForeignHeadersAreNoAttributes(t *testing.T) {
	event := read(t, binary([]byte("{}"),
		"ce_my_ext", "\xff", "ce_", "x", "ce_data", "x", "ce_data_base64", "x", "ce_ä", "x", "ce_my-ext", "x", "ce", "x",
		"traceparent", "00-x", "ce-id", "other", "id", "other", "x-any", "\x00\xff", "ce_datacontenttype", "text/xml",
		"CE_DATACONTENTTYPE", "text/xml", "ce_a.very.long.foreign.name.with.dots", "x", "ce_averylongextensionname", "kept"))
	want := cloudevent.Event{ID: "1", Source: "/order", Type: "order.placed", Data: []byte("{}"),
		Extensions: map[string]string{"averylongextensionname": "kept"}}
	if diff := difference(event, want); diff != "" {
		t.Error(diff)
	}
}

func TestHeaderKeysMatchInAnyLetterCase(t *testing.T) {
	event := read(t, &kgo.Record{Headers: headers("CE_SpecVersion", "1.0", "Ce_Id", "1", "cE_source", "/order", "ce_TYPE", "t",
		"Content-Type", "text/plain", "CE_CorrelationID", "c", "CE_ChoreoOutcome", "confirmed", "Ce_Tenant", "acme")})
	want := cloudevent.Event{ID: "1", Source: "/order", Type: "t", DataContentType: "text/plain", CorrelationID: "c",
		Outcome: "confirmed", Extensions: map[string]string{"tenant": "acme"}}
	if diff := difference(event, want); diff != "" {
		t.Error(diff)
	}
}

func TestLastOfDuplicatedHeadersWins(t *testing.T) {
	r := binary(nil, "ce_type", "second", "ce_tenant", "first", "content-type", "application/cloudevents+json",
		"Ce_Type", "third", "ce_TENANT", "last", "Content-Type", "text/plain", "ce_gone", "x")
	r.Headers = append(r.Headers, kgo.RecordHeader{Key: "ce_gone"})
	event := read(t, r)
	want := cloudevent.Event{ID: "1", Source: "/order", Type: "third", DataContentType: "text/plain",
		Extensions: map[string]string{"tenant": "last"}}
	if diff := difference(event, want); diff != "" {
		t.Error(diff)
	}
	if view := cloudevent.ViewOf(r); string(view.Type()) != "third" {
		t.Errorf("view has type %q", view.Type())
	}
}

// Section 3.2.3 of the binding: values are UTF-8 strings; unlike HTTP, Kafka has no percent-encoding.
func TestHeaderValuesAreNotPercentEncoded(t *testing.T) {
	event := cloudevent.Event{ID: "100% \"é€😀\"", Source: "/a%20b", Type: "t"}
	r, err := event.Record("t")
	if err != nil {
		t.Fatal(err)
	}
	if got := string(r.Headers[1].Value); got != event.ID {
		t.Errorf("ce_id is %q", got)
	}
	if diff := difference(read(t, r), cloudevent.Event{ID: event.ID, Source: "/a%20b", Type: "t", Data: []byte{}}); diff != "" {
		t.Error(diff)
	}
}

// Section 3.1 of the binding: the key is filled from partitionkey, which stays, and never changes the event.
func TestPartitionKeyIsTheRecordsKey(t *testing.T) {
	event := cloudevent.Event{ID: "1", Source: "/order", Type: "t", PartitionKey: "customer-7"}
	for name, write := range map[string]func(string) (*kgo.Record, error){"binary": event.Record, "structured": event.Structured} {
		r, err := write("orders")
		if err != nil {
			t.Fatal(err)
		}
		if string(r.Key) != "customer-7" || r.Topic != "orders" {
			t.Errorf("%s: key is %q, topic %q", name, r.Key, r.Topic)
		}
		r.Key = []byte("another")
		if got := read(t, r); got.PartitionKey != "customer-7" {
			t.Errorf("%s: partition key read is %q", name, got.PartitionKey)
		}
	}
	event.PartitionKey = ""
	r, err := event.Record("orders")
	if err != nil || r.Key != nil {
		t.Errorf("without partition key: key is %#v, error %v", r.Key, err)
	}
}

func TestBinaryDataIsNotCopied(t *testing.T) {
	r := binary([]byte("abc"))
	event := read(t, r)
	if &event.Data[0] != &r.Value[0] {
		t.Error("Read copied the data")
	}
	written, err := event.Record("t")
	if err != nil || &written.Value[0] != &r.Value[0] {
		t.Errorf("Record copied the data (%v)", err)
	}
}

func TestAttributesDoNotShareTheRecordsMemory(t *testing.T) {
	r := binary(nil, "ce_correlationid", "flow", "ce_tenant", "acme")
	event := read(t, r)
	for _, h := range r.Headers {
		clear(h.Value)
	}
	if event.CorrelationID != "flow" || event.Extensions["tenant"] != "acme" || event.ID != "1" {
		t.Errorf("event changed with the record: %+v", event)
	}
}

// A binary record's content type decides its mode, so data that is itself a CloudEvent needs structured mode.
func TestEventAboutACloudEventIsWrittenStructured(t *testing.T) {
	event := cloudevent.Event{ID: "1", Source: "/dlq", Type: "dead", DataContentType: "Application/CloudEvents+JSON", Data: []byte(`{"id":"2"}`)}
	_, err := event.Record("t")
	if got := mistakes(t, err); !slices.Equal(got, []string{"datacontenttype"}) {
		t.Errorf("Record: %v", err)
	}
	r, err := event.Structured("t")
	if err != nil {
		t.Fatal(err)
	}
	if diff := difference(read(t, r), event); diff != "" {
		t.Error(diff)
	}
}

func TestCausationIDsKeepCommas(t *testing.T) {
	r, err := full().Record("t")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == "ce_causationids" })
	if got := string(r.Headers[i].Value); got != "evt-0,a%2Cb,100%25,%252C" {
		t.Errorf("ce_causationids is %q", got)
	}
	for value, want := range map[string][]string{
		"a,b": {"a", "b"}, ",a,,b,": {"a", "b"}, "50%": {"50%"}, "%zz,%2c": {"%zz", "%2c"}, "%252C": {"%2C"}, "%25": {"%"},
	} {
		if got := read(t, binary(nil, "ce_causationids", value)).CausationIDs; !slices.Equal(got, want) {
			t.Errorf("causation ids of %q are %q, want %q", value, got, want)
		}
	}
}
