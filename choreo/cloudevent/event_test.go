package cloudevent_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo/cloudevent"
)

// full has every field set.
func full() cloudevent.Event {
	return cloudevent.Event{
		ID: "evt-1", Source: "https://shop.example/order", Type: "order.placed", Subject: "order/17",
		Time:            time.Date(2026, 3, 4, 5, 6, 7, 89, time.UTC),
		DataContentType: "application/json", DataSchema: "https://shop.example/order.placed.json",
		CorrelationID: "flow-1", CausationID: "evt-0", CausationIDs: []string{"evt-0", "a,b", "100%", "%2C"},
		TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", TraceState: "vendor=1",
		PartitionKey: "flow-1", Service: "order", Step: "place", Kind: cloudevent.KindDid, Attempt: 2, Hops: 3,
		Outcome: "confirmed", Started: time.UnixMilli(1772600767000).UTC(), Began: time.UnixMilli(1772600767001).UTC(), Undoes: "evt-x",
		Extensions: map[string]string{"tenant": "acme", "zone": "", "a1": "ä€😀"},
		Data:       []byte(`{"total": 12}`),
	}
}

func TestValidate(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	tests := []struct {
		name   string
		change func(*cloudevent.Event)
		want   []string
	}{
		{"all fields", func(*cloudevent.Event) {}, nil},
		{"only what is required", func(e *cloudevent.Event) { *e = cloudevent.Event{ID: "1", Source: "a", Type: "t"} }, nil},
		{"nothing", func(e *cloudevent.Event) { *e = cloudevent.Event{} }, []string{"id", "source", "type"}},
		{"longest type", func(e *cloudevent.Event) { e.Type = long(cloudevent.MaxTypeBytes) }, nil},
		{"long type", func(e *cloudevent.Event) { e.Type = long(cloudevent.MaxTypeBytes + 1) }, []string{"type"}},
		{"longest id", func(e *cloudevent.Event) { e.ID = long(cloudevent.MaxIDBytes) }, nil},
		{"long id", func(e *cloudevent.Event) { e.ID = long(cloudevent.MaxIDBytes + 1) }, []string{"id"}},
		{"longest source", func(e *cloudevent.Event) { e.Source = long(cloudevent.MaxSourceBytes) }, nil},
		{"long source", func(e *cloudevent.Event) { e.Source = long(cloudevent.MaxSourceBytes + 1) }, []string{"source"}},
		{"longest correlation id", func(e *cloudevent.Event) { e.CorrelationID = long(cloudevent.MaxCorrelationIDBytes) }, nil},
		{"long correlation id", func(e *cloudevent.Event) { e.CorrelationID = long(cloudevent.MaxCorrelationIDBytes + 1) }, []string{"correlationid"}},
		{"correlation id with a line break", func(e *cloudevent.Event) { e.CorrelationID = "a\nlevel=ERROR" }, []string{"correlationid"}},
		{"long causation id", func(e *cloudevent.Event) { e.CausationID = long(cloudevent.MaxIDBytes + 1) }, []string{"causationid"}},
		{"longest subject", func(e *cloudevent.Event) { e.Subject = long(cloudevent.MaxAttributeBytes) }, nil},
		{"long subject", func(e *cloudevent.Event) { e.Subject = long(cloudevent.MaxAttributeBytes + 1) }, []string{"subject"}},
		{"long extension", func(e *cloudevent.Event) {
			e.Extensions = map[string]string{"tenant": long(cloudevent.MaxAttributeBytes + 1)}
		}, []string{"tenant"}},
		{"too much in all", func(e *cloudevent.Event) {
			for i := range 5 {
				e.Extensions[fmt.Sprintf("x%d", i)] = long(cloudevent.MaxAttributeBytes)
			}
		}, []string{""}},
		{"source is no URI", func(e *cloudevent.Event) { e.Source = "two words" }, []string{"source"}},
		{"dataschema is no URI", func(e *cloudevent.Event) { e.DataSchema = "<schema>" }, []string{"dataschema"}},
		{"not UTF-8", func(e *cloudevent.Event) { e.Subject = "a\xff" }, []string{"subject"}},
		{"encoded surrogate", func(e *cloudevent.Event) { e.Subject = "\xed\xa0\x80" }, []string{"subject"}},
		{"C1 control character", func(e *cloudevent.Event) { e.Subject = "a\u0085" }, []string{"subject"}},
		{"DEL", func(e *cloudevent.Event) { e.Subject = "a\x7f" }, []string{"subject"}},
		{"noncharacter U+FFFE", func(e *cloudevent.Event) { e.Subject = "\ufffe" }, []string{"subject"}},
		{"noncharacter U+FDD0", func(e *cloudevent.Event) { e.Subject = "\ufdd0" }, []string{"subject"}},
		{"noncharacter U+10FFFF", func(e *cloudevent.Event) { e.Subject = "\U0010ffff" }, []string{"subject"}},
		{"replacement character is a character", func(e *cloudevent.Event) { e.Subject = "\ufffd" }, nil},
		{"year 10000", func(e *cloudevent.Event) { e.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, []string{"time"}},
		{"year 10000 in UTC only", func(e *cloudevent.Event) {
			e.Time = time.Date(9999, 12, 31, 23, 0, 0, 0, time.FixedZone("", -2*3600))
		}, []string{"time"}},
		{"year -1", func(e *cloudevent.Event) { e.Time = time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC) }, []string{"time"}},
		{"started before 1970", func(e *cloudevent.Event) { e.Started = time.UnixMilli(-1) }, []string{"choreostarted"}},
		{"began before 1970", func(e *cloudevent.Event) { e.Began = time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC) }, []string{"choreobegan"}},
		{"started at once", func(e *cloudevent.Event) { e.Started, e.Began = time.UnixMilli(0), time.UnixMilli(0) }, nil},
		{"long undone id", func(e *cloudevent.Event) { e.Undoes = long(cloudevent.MaxIDBytes + 1) }, []string{"choreoundoes"}},
		{"control character after eight bytes", func(e *cloudevent.Event) { e.Subject = "12345678\x1f" }, []string{"subject"}},
		{"control character within eight bytes", func(e *cloudevent.Event) { e.Subject = "1234\x1f678" }, []string{"subject"}},
		{"DEL within eight bytes", func(e *cloudevent.Event) { e.Subject = "12345678\x7f2345678" }, []string{"subject"}},
		{"broken UTF-8 within eight bytes", func(e *cloudevent.Event) { e.Subject = "12345678123\xff5678" }, []string{"subject"}},
		{"negative attempt", func(e *cloudevent.Event) { e.Attempt = -1 }, []string{"choreoattempt"}},
		{"huge hop count", func(e *cloudevent.Event) { e.Hops = math.MaxInt32 + 1 }, []string{"choreohops"}},
		{"empty causation id of several", func(e *cloudevent.Event) { e.CausationIDs = []string{"a", ""} }, []string{"causationids"}},
		{"causation id of several with a tab", func(e *cloudevent.Event) { e.CausationIDs = []string{"a\t"} }, []string{"causationids"}},
		{"many causation ids", func(e *cloudevent.Event) {
			e.CausationIDs = slices.Repeat([]string{long(100)}, 41)
		}, []string{"causationids"}},
		{"extension in upper case", func(e *cloudevent.Event) { e.Extensions = map[string]string{"Tenant": "a"} }, []string{`"Tenant"`}},
		{"extension with underscore", func(e *cloudevent.Event) { e.Extensions = map[string]string{"my_ext": "a"} }, []string{`"my_ext"`}},
		{"extension without name", func(e *cloudevent.Event) { e.Extensions = map[string]string{"": "a"} }, []string{`""`}},
		{"extension data", func(e *cloudevent.Event) { e.Extensions = map[string]string{"data": "a"} }, []string{`"data"`}},
		{"extension with a field", func(e *cloudevent.Event) { e.Extensions = map[string]string{"subject": "a"} }, []string{"subject"}},
		{"extension specversion", func(e *cloudevent.Event) { e.Extensions = map[string]string{"specversion": "1.0"} }, []string{"specversion"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			event := full()
			test.change(&event)
			err := event.Validate()
			if test.want == nil {
				if err != nil {
					t.Fatalf("Validate: %v", err)
				}
			} else if got := mistakes(t, err); !slices.Equal(got, test.want) {
				t.Fatalf("mistakes in %q, want %q (%v)", got, test.want, err)
			}
			// What Validate refuses is never written, in either mode.
			if _, recordErr := event.Record("t"); (recordErr == nil) != (err == nil) {
				t.Errorf("Record: %v", recordErr)
			}
			if _, structuredErr := event.Structured("t"); (structuredErr == nil) != (err == nil) {
				t.Errorf("Structured: %v", structuredErr)
			}
		})
	}
}

func TestSourceIsAURIReference(t *testing.T) {
	for source, want := range map[string]bool{
		"/order": true, "order": true, "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66": true, "1-555-123-4567": true,
		"mailto:lists@lists.example": true, "https://shop.example:8443/a?b=c#d": true, "//shop.example/a": true,
		"http://[::1]:80/": true, "/a%20b": true, "/bücher": true, "?q": true, "#f": true, "./a:b": true, "a/b:c": true,
		"svc+1.0-x:y": true, "a?b:c": true, "a?b?c": true, "/a@b;c,d=e!$&'()*+~_.": true,
		"http://user:pw@h:1/": true, "http://a%41bc/": true, "http:": true, "file:///etc": true, "http://": true, "http://a:": true,
		"http://[]/": false, "http://[a b]/": false, "http://a:1:2/": false, "http://u@v@w/": false, "http://a[b]/": false, "x://h?[": false,
		"": false, "two words": false, "/a%2": false, "/a%zz": false, "1a:b": false, ":a": false, "a_b:c": false,
		"http://[::1": false, "/[a]": false, "http://a:port/": false, "a#b#c": false, `a"b`: false, "<a>": false, `a\b`: false,
		"a^b": false, "a`b": false, "{a}": false, "a|b": false, "a\x00": false,
	} {
		err := cloudevent.Event{ID: "1", Source: source, Type: "t"}.Validate()
		if (err == nil) != want {
			t.Errorf("source %q: valid is %v, want %v (%v)", source, err == nil, want, err)
		}
	}
}

func TestAttributesAndSetAttributeMirrorEachOther(t *testing.T) {
	want := full()
	var got cloudevent.Event
	var names []string
	for name, value := range want.Attributes() {
		names = append(names, name)
		if err := got.SetAttribute(name, value); err != nil {
			t.Fatalf("SetAttribute(%q, %q): %v", name, value, err)
		}
	}
	got.Data = want.Data
	if diff := difference(got, want); diff != "" {
		t.Fatal(diff)
	}
	wantNames := []string{
		"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "correlationid", "causationid",
		"causationids", "traceparent", "tracestate", "partitionkey", "choreoservice", "choreostep", "choreokind", "choreoattempt",
		"choreohops", "choreooutcome", "choreostarted", "choreobegan", "choreoundoes", "a1", "tenant", "zone",
	}
	if !slices.Equal(names, wantNames) {
		t.Fatalf("attributes are\n%q, want\n%q", names, wantNames)
	}
	for range want.Attributes() {
		break // stopping early must not panic
	}
}

func TestSetAttributeRefusesAndKeepsWhatWasThere(t *testing.T) {
	for name, value := range map[string]string{
		"specversion": "0.3", "time": "yesterday", "source": "a b", "type": "a\n", "choreohops": "-1", "choreostarted": "soon", "choreobegan": "-1", "choreoattempt": "2147483648",
		"Upper": "x", "data": "x", "tenant": "\xff", "correlationid": strings.Repeat("x", 257),
	} {
		event := full()
		err := event.SetAttribute(name, value)
		if got := mistakes(t, err); len(got) != 1 {
			t.Errorf("SetAttribute(%q, %q): %v", name, value, err)
		}
		if diff := difference(event, full()); diff != "" {
			t.Errorf("SetAttribute(%q, %q) changed the event: %s", name, value, diff)
		}
	}
}

func TestSetAttributeRemovesByEmptyValue(t *testing.T) {
	event := full()
	for name := range full().Attributes() {
		if name == "specversion" || event.Extensions[name] != "" || name == "zone" {
			continue
		}
		if err := event.SetAttribute(name, ""); err != nil {
			t.Errorf("SetAttribute(%q, \"\"): %v", name, err)
		}
	}
	want := cloudevent.Event{Extensions: full().Extensions, Data: full().Data}
	if diff := difference(event, want); diff != "" {
		t.Error(diff)
	}
}

func TestErrorsAreOneBoundedLine(t *testing.T) {
	event := full()
	hostile := strings.Repeat("\n\x1b[31mlevel=ERROR\u2028\xff", 300)
	event.ID, event.Type, event.CorrelationID = hostile, hostile, hostile
	event.Extensions = map[string]string{hostile: hostile, "tenant": hostile}
	message := event.Validate().Error()
	if i := strings.IndexFunc(message, func(r rune) bool { return r < ' ' || r == '\u2028' || r == 0x7f || r == '\ufffd' }); i >= 0 {
		t.Errorf("message has a raw control character at byte %d: %q", i, message)
	}
	if limit := 5 * 600; len(message) > limit {
		t.Errorf("message has %d bytes, want at most %d", len(message), limit)
	}
}

// difference describes how two events differ, or returns "".
func difference(got, want cloudevent.Event) string {
	var out []string
	compare := func(field string, equal bool, got, want any) {
		if !equal {
			out = append(out, fmt.Sprintf("%s is %.100q, want %.100q", field, got, want))
		}
	}
	attributes := func(e cloudevent.Event) map[string]string { return maps.Collect(e.Attributes()) }
	compare("attributes", maps.Equal(attributes(got), attributes(want)), attributes(got), attributes(want))
	compare("causation ids", slices.Equal(got.CausationIDs, want.CausationIDs), got.CausationIDs, want.CausationIDs)
	compare("time", got.Time.Equal(want.Time), got.Time, want.Time)
	compare("data", string(got.Data) == string(want.Data) && (got.Data == nil) == (want.Data == nil), got.Data, want.Data)
	return strings.Join(out, "; ")
}
