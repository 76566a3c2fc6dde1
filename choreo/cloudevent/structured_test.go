package cloudevent_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/choreography-go/choreography/choreo/cloudevent"
)

// Section 6: the content type of structured mode counts in any letter case and with any parameters.
func TestStructuredContentTypeInAnyLetterCase(t *testing.T) {
	for _, contentType := range []string{
		"application/cloudevents+json", "application/cloudevents+json; charset=UTF-8", "Application/CloudEvents+JSON;charset=utf-8",
		"APPLICATION/CLOUDEVENTS+JSON ; CHARSET=\"utf-8\"", " application/cloudevents+json\t",
	} {
		r := structured()
		r.Headers = headers("Content-Type", contentType)
		if event := read(t, r); event.Type != "order.placed" {
			t.Errorf("%q: event is %+v", contentType, event)
		}
		if view := cloudevent.ViewOf(r); view.Mode() != cloudevent.Structured || string(view.ContentType()) != contentType || view.Type() != nil {
			t.Errorf("%q: mode is %v", contentType, view.Mode())
		}
	}
}

func TestBatchAndUnknownFormatsAreRefused(t *testing.T) {
	for contentType, want := range map[string]error{
		"application/cloudevents-batch+json":                cloudevent.ErrBatch,
		"application/CloudEvents-Batch+JSON; charset=UTF-8": cloudevent.ErrBatch,
		"application/cloudevents+avro":                      cloudevent.ErrFormat,
		"application/cloudevents+protobuf":                  cloudevent.ErrFormat,
		"application/cloudevents":                           cloudevent.ErrFormat,
		"application/cloudeventsx":                          cloudevent.ErrFormat,
	} {
		r := structured()
		// Headers of the binary mode may be there as well (section 3.3.3) and do not change the mode.
		r.Headers = append(binary(nil).Headers, headers("content-type", contentType)...)
		_, err := cloudevent.Read(r)
		if !errors.Is(err, want) || !slices.Equal(mistakes(t, err), []string{"content-type"}) {
			t.Errorf("%s: error is %v, want %v", contentType, err, want)
		}
		if !strings.Contains(err.Error(), contentType) {
			t.Errorf("%s: error does not name the content type: %v", contentType, err)
		}
	}
}

func TestHeadersOfStructuredEventsAreNotTrusted(t *testing.T) {
	r := structured(`"correlationid":"inner"`)
	r.Headers = append(r.Headers, headers("ce_type", "other", "ce_correlationid", "other", "ce_tenant", "other")...)
	event := read(t, r)
	if event.Type != "order.placed" || event.CorrelationID != "inner" || event.Extensions != nil {
		t.Errorf("event is %+v", event)
	}
}

func TestReadStructured(t *testing.T) {
	base := cloudevent.Event{ID: "1", Source: "/order", Type: "order.placed"}
	tests := []struct {
		name    string
		members []string
		want    func(*cloudevent.Event)
	}{
		{"required only", nil, func(*cloudevent.Event) {}},
		{"no content type implies JSON", []string{`"data":"text"`}, func(e *cloudevent.Event) {
			e.DataContentType, e.Data = "application/json", []byte(`"text"`)
		}},
		{"JSON data byte for byte", []string{`"datacontenttype":"application/json"`, `"data": { "b" : 1.50, "a":[ "\u0041}" ,{}]  }`}, func(e *cloudevent.Event) {
			e.DataContentType, e.Data = "application/json", []byte(`{ "b" : 1.50, "a":[ "\u0041}" ,{}]  }`)
		}},
		{"data before its content type", []string{`"data":{"a":1}`, `"datacontenttype":"a/b+JSON; x=y"`}, func(e *cloudevent.Event) {
			e.DataContentType, e.Data = "a/b+JSON; x=y", []byte(`{"a":1}`)
		}},
		{"JSON data null", []string{`"datacontenttype":"application/json"`, `"data":null`}, func(e *cloudevent.Event) {
			e.DataContentType, e.Data = "application/json", []byte("null")
		}},
		{"JSON number", []string{`"data":-1.5e3`}, func(e *cloudevent.Event) {
			e.DataContentType, e.Data = "application/json", []byte("-1.5e3")
		}},
		{"XML data", []string{`"datacontenttype":"application/xml"`, `"data":"<a b=\"ä\\\u00e4\n\"/>"`}, func(e *cloudevent.Event) {
			e.DataContentType, e.Data = "application/xml", []byte("<a b=\"ä\\ä\n\"/>")
		}},
		{"XML data null", []string{`"datacontenttype":"application/xml"`, `"data":null`}, func(e *cloudevent.Event) {
			e.DataContentType = "application/xml"
		}},
		{"binary data", []string{`"datacontenttype":"application/octet-stream"`, `"data_base64":"AP\u002b\/"`}, func(e *cloudevent.Event) {
			e.DataContentType, e.Data = "application/octet-stream", []byte{0, 0xff, 0xbf}
		}},
		{"binary data without content type implies nothing", []string{`"data_base64":"eyB9"`}, func(e *cloudevent.Event) {
			e.Data = []byte("{ }")
		}},
		{"empty binary data", []string{`"data_base64":""`}, func(e *cloudevent.Event) { e.Data = []byte{} }},
		{"binary data null", []string{`"data_base64":null`}, func(*cloudevent.Event) {}},
		{"one of two data is null", []string{`"data":null`, `"data_base64":"YQ=="`}, func(e *cloudevent.Event) { e.Data = []byte("a") }},
		{"null attributes are absent", []string{`"subject":null`, `"time":null`, `"tenant":null`, `"choreohops":null`, `"datacontenttype":null`}, func(*cloudevent.Event) {}},
		{"empty optional attributes are absent", []string{`"subject":""`, `"time":""`, `"choreohops":""`}, func(*cloudevent.Event) {}},
		{"integers and booleans", []string{`"choreohops":3`, `"choreoattempt":"2"`, `"n":-2147483648`, `"t":true`, `"f":false`, `"s":"x"`}, func(e *cloudevent.Event) {
			e.Hops, e.Attempt = 3, 2
			e.Extensions = map[string]string{"n": "-2147483648", "t": "true", "f": "false", "s": "x"}
		}},
		{"last of duplicated members", []string{`"id":"2"`, `"tenant":"a"`, `"tenant":"b"`, `"data":1`, `"data":2`}, func(e *cloudevent.Event) {
			e.ID, e.Extensions = "2", map[string]string{"tenant": "b"}
			e.DataContentType, e.Data = "application/json", []byte("2")
		}},
		{"member names are case-sensitive", []string{`"ID":{}`, `"Subject":7`}, func(*cloudevent.Event) {}},
		{"foreign members", []string{`"my_ext":{"a":[1]}`, `"":1`, `"\ud800":1`, `"é":"x"`}, func(*cloudevent.Event) {}},
		{"escaped names and values", []string{`"\u0073ubject":"\ud83d\ude00 \u00e9\\u\"\/"`}, func(e *cloudevent.Event) { e.Subject = `😀 é\u"/` }},
		{"replacement characters are characters", []string{`"subject":"\uFFFD"`, `"tenant":"\n\ufffd"`}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := structured(test.members...)
			if test.want == nil {
				_, err := cloudevent.Read(r)
				if got := mistakes(t, err); !slices.Equal(got, []string{"tenant"}) {
					t.Fatalf("mistakes in %q (%v)", got, err)
				}
				return
			}
			want := base
			test.want(&want)
			if diff := difference(read(t, r), want); diff != "" {
				t.Error(diff)
			}
			r.Value = []byte("\r\n\t " + strings.ReplaceAll(string(r.Value), `,"`, " ,\n\"") + " ")
			if diff := difference(read(t, r), want); diff != "" {
				t.Errorf("with white space: %s", diff)
			}
		})
	}
}

func TestBrokenStructuredEvent(t *testing.T) {
	whole := func(value string) *kgo.Record {
		r := structured()
		r.Value = []byte(value)
		return r
	}
	null := structured()
	null.Value = nil
	tests := []struct {
		name   string
		record *kgo.Record
		want   []string
	}{
		{"null value", null, []string{""}},
		{"empty value", whole(""), []string{""}},
		{"broken JSON", whole(`{"id":"1",`), []string{""}},
		{"rubbish behind", whole(`{} {}`), []string{""}},
		{"not UTF-8", whole("{\"id\":\"\xff\"}"), []string{""}},
		{"an array", whole(`[]`), []string{""}},
		{"a batch under the content type of one", whole(`[{"specversion":"1.0","id":"1","source":"a","type":"t"}]`), []string{""}},
		{"a string", whole(`"{}"`), []string{""}},
		{"null", whole(`null`), []string{""}},
		{"nested beyond measure", whole(strings.Repeat("[", 1<<20)), []string{""}},
		{"nothing", whole(`{}`), []string{"specversion", "id", "source", "type"}},
		{"null id", structured(`"id":null`), []string{"id"}},
		{"empty id", structured(`"id":""`), []string{"id"}},
		{"id is a number", structured(`"id":1`), []string{"id"}},
		{"type is an object", structured(`"type":{}`), []string{"type"}},
		{"specversion is a number", structured(`"specversion":1.0`), []string{"specversion"}},
		{"wrong specversion", structured(`"specversion":"0.3"`), []string{"specversion"}},
		{"time is a number", structured(`"time":1522949460`), []string{"time"}},
		{"hop count is no integer", structured(`"choreohops":1.5`), []string{"choreohops"}},
		{"hop count is a boolean", structured(`"choreohops":true`), []string{"choreohops"}},
		{"extension is an object", structured(`"tenant":{"a":1}`), []string{"tenant"}},
		{"extension is an array", structured(`"tenant":[]`), []string{"tenant"}},
		{"extension is a fraction", structured(`"tenant":1.0`), []string{"tenant"}},
		{"extension beyond 32 bits", structured(`"tenant":2147483648`), []string{"tenant"}},
		{"control character by escape", structured(`"correlationid":"a\u000ab"`), []string{"correlationid"}},
		{"high surrogate alone", structured(`"subject":"\ud83d"`), []string{"subject"}},
		{"high surrogate before text", structured(`"subject":"\ud83dx"`), []string{"subject"}},
		{"high surrogate before escape", structured(`"subject":"\ud83d\n"`), []string{"subject"}},
		{"two high surrogates", structured(`"subject":"\ud83d\ud83d"`), []string{"subject"}},
		{"low surrogate alone", structured(`"subject":"\\\ude00"`), []string{"subject"}},
		{"surrogate in text data", structured(`"datacontenttype":"text/plain"`, `"data":"\ud83d"`), []string{"data"}},
		{"both kinds of data", structured(`"data":1`, `"data_base64":"YQ=="`), []string{"data"}},
		{"broken base64", structured(`"data_base64":"a"`), []string{"data_base64"}},
		{"base64 for URLs", structured(`"data_base64":"-_-_"`), []string{"data_base64"}},
		{"base64 is no string", structured(`"data_base64":1234`), []string{"data_base64"}},
		{"text data is an object", structured(`"datacontenttype":"text/plain"`, `"data":{}`), []string{"data"}},
		{"huge extension", structured(`"tenant":"` + strings.Repeat("x", 1<<20) + `"`), []string{""}},
		{"correlation id of 10 kB", structured(`"correlationid":"` + strings.Repeat("x", 10_000) + `"`), []string{"correlationid"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			event, err := cloudevent.Read(test.record)
			if got := mistakes(t, err); !slices.Equal(got, test.want) {
				t.Errorf("mistakes in %q, want %q (%v)", got, test.want, err)
			}
			if len(err.Error()) > 1000 {
				t.Errorf("error has %d bytes", len(err.Error()))
			}
			if diff := difference(event, cloudevent.Event{}); diff != "" {
				t.Errorf("Read returned an event with its error: %s", diff)
			}
		})
	}
}

func TestHowStructuredModeWritesData(t *testing.T) {
	tests := []struct {
		name, contentType string
		data              string
		want              string
	}{
		{"JSON", "application/json", ` { "a":1.0 }`, `"data": { "a":1.0 }}`},
		{"JSON of another type", "application/problem+JSON; x=y", `[]`, `"data":[]}`},
		{"JSON null", "application/json", `null`, `"data":null}`},
		{"broken JSON", "application/json", `{"a`, `"data_base64":"eyJh"}`},
		{"JSON that is not UTF-8", "application/json", "\"\xff\"", `"data_base64":"Iv8i"}`},
		{"empty JSON", "application/json", ``, `"data_base64":""}`},
		{"no content type", "", `{}`, `"data_base64":"e30="}`},
		{"text", "text/plain", "a\"\\\n\x00ä", `"data":"a\"\\\u000a\u0000ä"}`},
		{"text in UTF-8", `text/plain; format=flowed; CharSet="UTF-8"`, "ä", `"data":"ä"}`},
		{"text in another charset", "text/plain;charset=iso-8859-1", "a", `"data_base64":"YQ=="}`},
		{"text that is not UTF-8", "text/plain", "\xff", `"data_base64":"/w=="}`},
		{"XML", "application/atom+xml", "<a/>", `"data":"<a/>"}`},
		{"anything else", "application/avro", "abc", `"data_base64":"YWJj"}`},
		{"no media type", "json", "{}", `"data_base64":"e30="}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			event := cloudevent.Event{ID: "1", Source: "a", Type: "t", DataContentType: test.contentType, Data: []byte(test.data)}
			r, err := event.Structured("t")
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(string(r.Value), ","+test.want) || !json.Valid(r.Value) {
				t.Errorf("document is %s, want it to end in %s", r.Value, test.want)
			}
			got := read(t, r)
			event.Data = []byte(strings.TrimSpace(test.data))
			if diff := difference(got, event); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestStructuredDocumentIsTheFormatsExample(t *testing.T) {
	r, err := full().Structured("t")
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if err := json.Unmarshal(r.Value, &members); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"specversion": "1.0", "time": "2026-03-04T05:06:07.000000089Z", "choreohops": 3.0, "choreoattempt": 2.0, "choreokind": "did",
		"causationids": "evt-0,a%2Cb,100%25,%252C", "a1": "ä€😀", "zone": "",
	} {
		if members[name] != want {
			t.Errorf("member %s is %#v, want %#v", name, members[name], want)
		}
	}
	if len(members) != 27 {
		t.Errorf("%d members, want 26 attributes and data", len(members))
	}
	if diff := difference(read(t, r), full()); diff != "" {
		t.Error(diff)
	}
}

func TestIsJSON(t *testing.T) {
	for contentType, want := range map[string]bool{
		"application/json": true, "Application/JSON; charset=utf-8": true, "text/json": true, "a/b+json": true, "A/B+Json ;x": true,
		"application/cloudevents+json": true,
		"":                             false, "json": false, "+json": false, "application/jsonl": false, "application/xml; a=/json": false, "a/json+xml": false,
	} {
		if got := cloudevent.IsJSON(contentType); got != want {
			t.Errorf("IsJSON(%q) is %v", contentType, got)
		}
	}
}
