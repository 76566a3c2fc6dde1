package deadletter

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/twmb/franz-go/pkg/kgo"
)

var at = time.Date(2026, 3, 1, 12, 0, 0, 5000, time.UTC)

// usual is a letter as the runtime writes it.
func usual(t testing.TB) *kgo.Record {
	t.Helper()
	rec, err := cloudevent.Event{ID: "e1", Source: "/shop", Type: "shop.order.placed.v1", CorrelationID: "flow-1", Data: []byte(`{"id":1}`)}.Record("payment.dlq")
	if err != nil {
		t.Fatal(err)
	}
	rec.Key, rec.Partition, rec.Offset = []byte("customer"), 2, 17
	for _, h := range [][2]string{
		{HeaderReason, "retries_exhausted"}, {HeaderStep, "authorize"}, {HeaderAttempts, "5"}, {HeaderError, "provider away"},
		{HeaderFingerprint, "0123456789abcdef"}, {HeaderOrigin, "orders/2/5"}, {HeaderTime, at.Format(time.RFC3339Nano)},
	} {
		rec.Headers = append(rec.Headers, header(h[0], h[1]))
	}
	return rec
}

func TestALetterReadsAsItWasWritten(t *testing.T) {
	rec := usual(t)
	l, ok := ReadLetter(rec)
	want := Letter{
		At: Position{"payment.dlq", 2, 17}, Time: at, Reason: "retries_exhausted", Step: "authorize", Attempts: 5, Error: "provider away",
		Fingerprint: "0123456789abcdef", Origin: "orders/2/5", Flow: "flow-1", Type: "shop.order.placed.v1", Source: "/shop", ID: "e1", Size: l.Size,
	}
	if !ok || !reflect.DeepEqual(l, want) {
		t.Errorf("%+v, want\n%+v", l, want)
	}
	if IsMark(rec) {
		t.Error("it is taken for a mark")
	}
}

func TestAMarkReadsAsItWasWritten(t *testing.T) {
	m := Mark{Letter: Position{"payment.dlq", 2, 17}, Outcome: Discarded, Time: at, By: "ann", Why: "test data\nof\tno use"}
	rec := m.Record("payment.dlq", []byte("customer"))
	got, ok := ReadMark(rec)
	m.Why = "test data of no use"
	if !ok || got != m {
		t.Errorf("%+v, want %+v", got, m)
	}
	if _, ok := ReadLetter(rec); ok || rec.Value != nil || string(rec.Key) != "customer" {
		t.Errorf("it is taken for a letter, or does not lie behind its letter: %q", rec.Key)
	}
}

func TestAReplayIsTheOriginalAndNamesItsLetter(t *testing.T) {
	for _, key := range [][]byte{nil, {}, []byte("customer")} {
		for _, forgotten := range []bool{false, true} {
			rec := usual(t)
			rec.Key = key
			l, _ := ReadLetter(rec)
			out, err := l.Replay(rec, "payment.inbox", forgotten)
			if err != nil {
				t.Fatal(err)
			}
			if out.Topic != "payment.inbox" || string(out.Key) != "flow-1" || string(out.Value) != `{"id":1}` {
				t.Errorf("it goes to %s as %q: %s", out.Topic, out.Key, out.Value)
			}
			ev, err := cloudevent.Read(out)
			if err != nil || ev.ID != "e1" {
				t.Errorf("its event: %+v, %v", ev, err)
			}
			got, err := ReadReplay(out)
			want := Replay{Letter: l.At, Step: "authorize", Origin: "orders/2/5", Key: key, Forgotten: forgotten}
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%+v, %v; want %+v", got, err, want)
			}
			if _, ok := ReadLetter(out); ok {
				t.Error("it is a letter still")
			}
		}
	}
}

func TestWhatIsNotTheOriginalIsNotReplayed(t *testing.T) {
	for key, want := range map[string]string{HeaderTruncated: "it was truncated (40 MB)", HeaderRedacted: "its payload was redacted"} {
		rec := usual(t)
		rec.Headers = append(rec.Headers, header(key, "40 MB"))
		l, ok := ReadLetter(rec)
		out, err := l.Replay(rec, "payment.inbox", true)
		e, is := errors.AsType[*NotReplayable](err)
		if !ok || out != nil || !is || !strings.Contains(e.Error(), want) || !strings.Contains(e.Error(), "orders/2/5") {
			t.Errorf("%s: %v, %v", key, out, err)
		}
		rec.Headers[len(rec.Headers)-1].Value = nil // set, though empty
		if l, _ := ReadLetter(rec); l.Truncated == "" && l.Redacted == "" {
			t.Errorf("an empty %s is overlooked", key)
		}
	}
}

func TestAFlowIsFoundAsTheRuntimeFindsIt(t *testing.T) {
	long := strings.Repeat("x", cloudevent.MaxCorrelationIDBytes+1)
	for _, c := range []struct{ name, correlation, key, id, want string }{
		{"correlation id", "f", "k", "i", "f"},
		{"key", "", "k", "i", "k"},
		{"id", "", "", "i", "i"},
		{"a key that cannot name one", "", "a\nb", "i", "i"},
		{"a key too long to name one", "", long, "i", "i"},
		{"a correlation id too long", long, "k", "i", "k"},
		{"an event without id", "f", "k", "", "f"},
		{"nothing", "", "", "", ""},
	} {
		rec := &kgo.Record{Key: []byte(c.key), Headers: []kgo.RecordHeader{
			header(HeaderReason, "x"), header("ce_specversion", "1.0"), header("ce_type", "t"), header("ce_source", "/s"),
			header("ce_id", c.id), header("ce_correlationid", c.correlation),
		}}
		if l, ok := ReadLetter(rec); !ok || l.Flow != c.want {
			t.Errorf("%s: flow %q, want %q", c.name, l.Flow, c.want)
		}
	}
	l := Letter{At: Position{"d", 1, 2}}
	if out, err := l.Replay(&kgo.Record{}, "inbox", false); err != nil || string(out.Key) != "d/1/2" {
		t.Errorf("what belongs to no flow is sent by key %q, %v", out.Key, err)
	}
}

func TestPositions(t *testing.T) {
	for _, p := range []Position{{"payment.dlq", 0, 0}, {"a", math.MaxInt32, math.MaxInt64}} {
		if got, err := ParsePosition(p.String()); err != nil || got != p {
			t.Errorf("%v reads as %v, %v", p, got, err)
		}
		if text, err := p.MarshalText(); err != nil || string(text) != p.String() {
			t.Errorf("%v is written as %s, %v", p, text, err)
		}
	}
	for _, s := range []string{"", "a", "a/0", "/0/0", "a/-1/0", "a/0/-1", "a/+1/0", "a/01/0", "a/0/0/0", "a/b/0/0", "a/2147483648/0", "a/0/9223372036854775808", "a/ 1/0"} {
		if p, err := ParsePosition(s); err == nil {
			t.Errorf("%q reads as %v", s, p)
		}
	}
}

// FuzzRead reads garbage: whatever it is, texts are bounded, printable and on one
// line, and a record is not both letter and mark.
func FuzzRead(f *testing.F) {
	f.Add(HeaderReason, []byte("x"), HeaderTime, []byte("yesterday"), []byte("key"), []byte("value"))
	f.Add(headerMark, []byte("a/0/1"), headerWhy, []byte("\x1b[31m\xff\n"), []byte(nil), []byte(nil))
	f.Add(HeaderReplay, []byte("a/0/1"), HeaderAttempts, []byte("-1"), []byte(nil), []byte{})
	f.Add(HeaderReason, []byte(strings.Repeat("\u202e", 4000)), "ce_correlationid", []byte("a\x00b"), []byte("\xff"), []byte("{"))
	f.Add(HeaderReason, []byte(nil), "content-type", []byte("application/cloudevents+json"), []byte("k"), []byte(`{"specversion":"1.0","id":7}`))
	f.Fuzz(func(t *testing.T, key1 string, value1 []byte, key2 string, value2, key, value []byte) {
		rec := &kgo.Record{Topic: "d", Key: key, Value: value, Headers: []kgo.RecordHeader{{Key: key1, Value: value1}, {Key: key2, Value: value2}}}
		l, isLetter := ReadLetter(rec)
		m, isMark := ReadMark(rec)
		if isLetter && isMark {
			t.Error("it is both a letter and a mark")
		}
		texts := []string{l.Reason, l.Step, l.Error, l.Fingerprint, l.Origin, l.Truncated, l.Redacted, l.Previous, l.Flow, l.Type, l.Source, l.ID, string(m.Outcome), m.By, m.Why}
		r, err := ReadReplay(rec)
		if err == nil {
			texts = append(texts, r.Step, r.Origin)
		}
		for _, s := range texts {
			if len(s) > 3*maxError || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
				t.Errorf("a text of %d bytes: %q", len(s), s)
			}
		}
		if l.Attempts < 0 {
			t.Errorf("%d attempts", l.Attempts)
		}
		if !isLetter {
			return
		}
		out, err := l.Replay(rec, "inbox", false)
		if err != nil {
			return
		}
		again, err := ReadReplay(out)
		if err != nil || again.Letter != l.At || again.Step != l.Step {
			t.Errorf("its replay reads as %+v, %v", again, err)
		}
	})
}
