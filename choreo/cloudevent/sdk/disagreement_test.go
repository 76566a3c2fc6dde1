package sdk_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"

	"github.com/choreography-go/choreography/choreo/cloudevent"
)

// quirk is something odd about a record. If why is empty both readers must make the same of it; otherwise they must differ,
// and why says why ours is right.
type quirk struct {
	name   string
	why    string
	change func(*kgo.Record)
}

// header appends headers; a later one overrides an earlier one.
func header(pairs ...string) func(*kgo.Record) {
	return func(r *kgo.Record) {
		for pair := range slices.Chunk(pairs, 2) {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: pair[0], Value: []byte(pair[1])})
		}
	}
}

func without(key string) func(*kgo.Record) {
	return func(r *kgo.Record) {
		r.Headers = slices.DeleteFunc(r.Headers, func(h kgo.RecordHeader) bool { return strings.EqualFold(h.Key, key) })
	}
}

// members appends members to the document of a record in structured mode.
func members(more string) func(*kgo.Record) {
	return func(r *kgo.Record) {
		r.Value = []byte(strings.TrimSuffix(string(r.Value), "}") + "," + more + "}")
	}
}

const (
	whyForeign  = "a name outside [a-z0-9]+ is no attribute: what others put there must not make an event unreadable"
	whyText     = "CloudEvents forbids these characters in a String; let through they forge log lines and break keys"
	whyBlank    = "blanks are characters of a String; source and id identify an event, so changing them makes another event of it"
	whyURI      = "an attribute is passed on as it was written; rewriting a source makes another event of it"
	whyLiberal  = "not ours to judge: nothing in routing or decoding depends on it"
	whyClaim    = "a record with CloudEvents headers claims to be an event, and the broken claim must be seen, not ignored"
	whyLimit    = "limits of this package bound what untrusted input costs"
	whyInteger  = "the type Integer has no fraction; truncating it makes another event"
	whyRFC3339  = "RFC 3339, section 5.6"
	whyNull     = "null is unset (Kafka header, JSON format section 2.2)"
	whyOurs     = "an extension of ours, which must be a number wherever it is read"
	whyMember   = "JSON members are case-sensitive: this one is foreign"
	whyImplied  = "JSON format section 3.1.2: data without a content type implies application/json, to be made explicit"
	whyMayLast  = "JSON leaves duplicate members open; the last counts for every attribute alike"
	whyTomb     = "an empty value and a null one differ on Kafka"
	whyOneData  = "JSON format section 3.1.1: data and data_base64 exclude each other"
	whyFormat   = "the binding says structured; taking it for binary would hand the format's bytes to a decoder of data"
	whyCase     = "media types are compared in any letter case (datacontenttype, RFC 2045)"
	whySuffix   = "a subtype that ends in +json declares JSON (JSON format section 3.1.1)"
	whyVersion  = "only CloudEvents 1.0 is bound by this package"
	whyPosition = "the SDK overwrites extensions with the record's position; we read what the event says"
)

var binaryQuirks = []quirk{
	{"header keys in upper case", "", header("CE_ID", "other", "Content-Type", "text/plain")},
	{"duplicated headers", "", header("ce_type", "second", "ce_type", "third", "ce_xa", "1", "CE_XA", "2")},
	{"unrelated headers", "", header("id", "9", "ce-id", "9", "traceparent", "\xff", "ce", "")},
	{"time with offset", "", header("ce_time", "2020-01-01T00:00:00.5+05:30")},
	{"time without fraction", "", header("ce_time", "2020-01-01T00:00:00Z")},
	{"time is none", "", header("ce_time", "noon")},
	{"no id", "", without("ce_id")},
	{"no source", "", without("ce_source")},
	{"no type", "", without("ce_type")},
	{"empty type", "", header("ce_type", "")},
	{"empty subject", "", header("ce_subject", "")},
	{"empty extension", "", header("ce_xempty", "")},
	{"percent signs", "", header("ce_subject", "%41%zz", "ce_source", "/%41")},
	{"structured in another letter case, not JSON", "", header("content-type", "APPLICATION/CloudEvents+JSON;charset=UTF-8")},
	{"batch", "", header("content-type", "application/cloudevents-batch+json")},
	{"null value", "", func(r *kgo.Record) { r.Value = nil }},
	{"no CloudEvent at all", "", func(r *kgo.Record) { r.Headers = nil }},
	{"key of its own", "", func(r *kgo.Record) { r.Key = []byte("k") }},

	{"empty value", whyTomb, func(r *kgo.Record) { r.Value = []byte{} }},
	{"no specversion", whyClaim, without("ce_specversion")},
	{"unknown specversion", whyClaim, header("ce_specversion", "2.0")},
	{"specversion 0.3", whyVersion, func(r *kgo.Record) {
		// In 0.3 dataschema is none, which the SDK notices or not, by the order of its map of headers.
		without("ce_dataschema")(r)
		header("ce_specversion", "0.3")(r)
	}},
	{"header ce_my_ext", whyForeign, header("ce_my_ext", "x")},
	{"header ce_my-ext", whyForeign, header("ce_my-ext", "x")},
	{"header ce_", whyForeign, header("ce_", "x")},
	{"header ce_data", whyForeign, header("ce_data", "x")},
	{"subject of blanks", whyBlank, header("ce_subject", " ")},
	{"blanks around the id", whyBlank, header("ce_id", " 1 ")},
	{"blanks around the type", whyBlank, header("ce_type", " t")},
	{"source in IRI form", whyURI, header("ce_source", "/é")},
	{"scheme in upper case", whyURI, header("ce_source", "HTTP://a/")},
	{"empty fragment", whyURI, header("ce_source", "/a#")},
	{"percent-encoded host", whyURI, header("ce_source", "http://a%41/")},
	{"source with a space", "RFC 3986 has no spaces; escaping it would make another source", header("ce_source", "a b")},
	{"line break in an extension", whyText, header("ce_xa", "a\nb")},
	{"line break in the correlation id", whyText, header("ce_correlationid", "a\nb")},
	{"noncharacter", whyText, header("ce_subject", "a\ufffe")},
	{"not UTF-8", whyText, header("ce_subject", "a\xff")},
	{"correlation id of 10 kB", whyLimit, header("ce_correlationid", strings.Repeat("x", 10_000))},
	{"long type", whyLimit, header("ce_type", strings.Repeat("x", 300))},
	{"content type that is none", whyLiberal, header("content-type", "no media type")},
	{"relative dataschema", whyLiberal, header("ce_dataschema", "schema.json")},
	{"time in lower case", whyRFC3339, header("ce_time", "2020-01-01t00:00:00z")},
	{"time with a comma", whyRFC3339, header("ce_time", "2020-01-01T00:00:00,5Z")},
	{"hour of one digit", whyRFC3339, header("ce_time", "2020-01-01T1:00:00Z")},
	{"null header", whyNull, func(r *kgo.Record) { r.Headers = append(r.Headers, kgo.RecordHeader{Key: "ce_xnull"}) }},
	{"hop count is no number", whyOurs, header("ce_choreohops", "many")},
	{"unknown event format", whyFormat, header("content-type", "application/cloudevents+avro")},
	{"extension kafkaoffset", whyPosition, header("ce_kafkaoffset", "7")},
	{"header ce_datacontenttype", "the binding maps datacontenttype to content-type alone", func(r *kgo.Record) {
		without("content-type")(r)
		header("ce_datacontenttype", "text/plain")(r)
	}},
}

var structuredQuirks = []quirk{
	{"charset", "", func(r *kgo.Record) { r.Headers[0].Value = []byte("application/cloudevents+json; charset=UTF-8") }},
	{"another letter case", "", func(r *kgo.Record) { r.Headers[0].Value = []byte("APPLICATION/CloudEvents+Json;a=b") }},
	{"headers of the binary mode", "", header("ce_id", "9", "ce_xa", "9", "ce_my_ext", "9")},
	{"null attributes", "", members(`"subject":null,"xnull":null,"dataschema":null`)},
	{"integer and boolean extensions", "", members(`"xint":-7,"xbool":true`)},
	{"integer beyond 32 bits", "", members(`"xint":2147483648`)},
	{"extension is an object", "", members(`"xobj":{"a":1}`)},
	{"id is a number", "", members(`"id":7`)},
	{"null id", "", members(`"id":null`)},
	{"wrong time", "", members(`"time":"noon"`)},
	{"wrong base64", "", members(`"data_base64":"?"`)},
	{"escapes", "", members(`"\u0078a":"\u00e9\ud83d\ude00\/"`)},
	{"duplicated id", "", members(`"id":"a","id":"b"`)},
	{"duplicated extension", "", members(`"xa":"a","xa":"b"`)},
	{"broken JSON", "", members(`"xa"`)},
	{"white space", "", func(r *kgo.Record) {
		r.Value = []byte(" \n" + strings.TrimSuffix(string(r.Value), "}") + "\t } ")
	}},
	{"an array", "", func(r *kgo.Record) { r.Value = []byte("[" + string(r.Value) + "]") }},
	{"null value", "", func(r *kgo.Record) { r.Value = nil }},
	{"empty value", "", func(r *kgo.Record) { r.Value = []byte{} }},

	{"foreign member", whyForeign, members(`"my_ext":"x"`)},
	{"foreign member that is an object", whyForeign, members(`"my_ext":{"a":[]}`)},
	{"member in upper case", whyMember, members(`"ID":"x"`)},
	{"fraction", whyInteger, members(`"xint":1.5`)},
	{"control character by escape", whyText, members(`"xa":"a\nb"`)},
	{"unpaired surrogate", whyText, members(`"xa":"\ud83d"`)},
	{"noncharacter", whyText, members(`"xa":"\uffff"`)},
	{"source in IRI form", whyURI, members(`"source":"/é"`)},
	{"correlation id of 10 kB", whyLimit, members(`"correlationid":"` + strings.Repeat("x", 10_000) + `"`)},
	{"hop count is no number", whyOurs, members(`"choreohops":"many"`)},
	{"duplicated specversion", whyMayLast, members(`"specversion":"1.0"`)},
	{"data twice", whyOneData, members(`"datacontenttype":"application/json","data":1,"data_base64":"YQ=="`)},
	{"null data_base64", whyNull, members(`"data_base64":null`)},
	{"data without content type", whyImplied, members(`"data":{"a":1}`)},
	{"JSON content type in upper case", whyCase, members(`"datacontenttype":"Application/JSON","data":{"a":1}`)},
	{"JSON string of a content type in upper case", whyCase, members(`"datacontenttype":"application/JSON","data":"a"`)},
	{"content type that ends in +json", whySuffix, members(`"datacontenttype":"application/problem+json","data":{"a":1}`)},
	{"relative dataschema", whyLiberal, members(`"dataschema":"schema.json"`)},
}

// The two readers differ exactly where the tables say, on generated events.
func TestReadersDifferOnlyAsListed(t *testing.T) {
	for _, mode := range []struct {
		name   string
		quirks []quirk
		write  func(cloudevent.Event) (*kgo.Record, error)
	}{
		{"binary", binaryQuirks, func(e cloudevent.Event) (*kgo.Record, error) { return e.Record("t") }},
		{"structured", structuredQuirks, func(e cloudevent.Event) (*kgo.Record, error) {
			// The quirks bring their own data, with or without content type.
			e.Data, e.DataContentType = nil, ""
			return e.Structured("t")
		}},
	} {
		for _, quirk := range mode.quirks {
			t.Run(mode.name+"/"+quirk.name, func(t *testing.T) {
				rapid.Check(t, func(t *rapid.T) {
					r, err := mode.write(events().Draw(t, "event"))
					if err != nil {
						t.Fatal(err)
					}
					quirk.change(r)
					mine, mineErr := ours(r)
					other, otherErr := theirs(r)
					if mine == other && quirk.why != "" {
						t.Fatalf("both say %s (%v, %v): take it off the list of disagreements", mine, mineErr, otherErr)
					}
					if mine != other && quirk.why == "" {
						t.Fatalf("we say\n%s (%v), the SDK says\n%s (%v)", mine, mineErr, other, otherErr)
					}
				})
			})
		}
	}
}

// The two write differently without data: the SDK writes a null value, which is a tombstone. In structured mode they agree on it.
func TestTheSDKWritesTombstones(t *testing.T) {
	for name, data := range map[string][]byte{"no data": nil, "empty data": {}} {
		event := cloudevent.Event{ID: "1", Source: "/order", Type: "t", DataContentType: "text/plain", Data: data}
		mine, other := bothWrite(t, event, false)
		if mine.Value == nil || other.Value != nil {
			t.Errorf("%s: our value is %#v, the SDK's %#v; want an empty and a null one", name, mine.Value, other.Value)
		}
		mine, other = bothWrite(t, event, true)
		for _, r := range []*kgo.Record{mine, other} {
			if got, err := ours(r); got != describe(event) {
				t.Errorf("%s: we read %s (%v)", name, got, err)
			}
			if got, err := theirs(r); got != describe(event) {
				t.Errorf("%s: the SDK reads %s (%v)", name, got, err)
			}
		}
	}
}

// In structured mode the SDK rewrites JSON data: it drops white space and escapes what HTML minds. We keep every byte, since data
// may be signed or hashed.
func TestTheSDKRewritesJSONData(t *testing.T) {
	event := cloudevent.Event{ID: "1", Source: "/order", Type: "t", DataContentType: "application/json", Data: []byte(`{"a": "<b>"}`)}
	mine, other := bothWrite(t, event, true)
	for _, read := range []func(*kgo.Record) (string, error){ours, theirs} {
		if got, err := read(mine); got != describe(event) {
			t.Errorf("our record is read as %s (%v)", got, err)
		}
		rewritten := event
		rewritten.Data = []byte(`{"a":"\u003cb\u003e"}`)
		if got, err := read(other); got != describe(rewritten) {
			t.Errorf("the SDK's record is read as %s (%v)", got, err)
		}
	}
}

// In structured mode the SDK takes JSON of a +json content type for text and makes a JSON string of it (see whySuffix).
func TestTheSDKTakesJSONForText(t *testing.T) {
	event := cloudevent.Event{ID: "1", Source: "/order", Type: "t", DataContentType: "application/problem+json", Data: []byte(`{"a":1}`)}
	mine, other := bothWrite(t, event, true)
	if !strings.Contains(string(mine.Value), `"data":{"a":1}`) || !strings.Contains(string(other.Value), `"data":"{\"a\":1}"`) {
		t.Errorf("we write %s, the SDK %s", mine.Value, other.Value)
	}
}

// An event whose data is an event turns the SDK's binary record into a structured one; we refuse to write it so.
func TestTheSDKWritesRecordsThatChangeTheirMode(t *testing.T) {
	event := cloudevent.Event{ID: "1", Source: "/dlq", Type: "dead", DataContentType: "application/cloudevents+json", Data: []byte(`{}`)}
	if _, err := event.Record("t"); err == nil {
		t.Error("Record wrote the event")
	}
	other, err := written(event, false)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := theirs(other); got != invalid {
		t.Errorf("the SDK reads what it wrote as %s (%v)", got, err)
	}
}

func bothWrite(t *testing.T, event cloudevent.Event, structured bool) (mine, other *kgo.Record) {
	t.Helper()
	write := event.Record
	if structured {
		write = event.Structured
	}
	mine, err := write("t")
	if err != nil {
		t.Fatal(err)
	}
	if other, err = written(event, structured); err != nil {
		t.Fatal(err)
	}
	return mine, other
}
