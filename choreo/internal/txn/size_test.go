package txn

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// All that a record holds counts, each of its headers as well, and all records of
// a result.
func TestASizeIsOfAllThatIsSent(t *testing.T) {
	text := func(n int) []byte { return []byte(strings.Repeat("x", n)) }
	header := func(key, value int) kgo.RecordHeader {
		return kgo.RecordHeader{Key: string(text(key)), Value: text(value)}
	}
	plain := &kgo.Record{Key: text(3), Value: text(50)}
	for _, tc := range []struct {
		name string
		rec  *kgo.Record
		want int
	}{
		{"empty", &kgo.Record{}, recordOverhead},
		{"key and value", plain, recordOverhead + 53},
		{"a header", &kgo.Record{Value: text(50), Headers: []kgo.RecordHeader{header(7, 20)}}, recordOverhead + 50 + headerOverhead + 27},
		{"several headers", &kgo.Record{Headers: []kgo.RecordHeader{header(7, 20), header(300, 0), header(1, 500)}}, recordOverhead + 3*headerOverhead + 828},
	} {
		if got := RecordSize(tc.rec); got != tc.want {
			t.Errorf("%s: %d bytes, want %d", tc.name, got, tc.want)
		}
	}
	other := &kgo.Record{Value: text(1000)}
	if got, want := (&Result{Records: []*kgo.Record{plain, other, plain}}).size(), 2*RecordSize(plain)+RecordSize(other); got != want {
		t.Errorf("a result of three records has %d bytes, want %d", got, want)
	}
}

// What is as large as a batch may be fits, and not one byte more.
func TestARecordFitsThatFillsABatch(t *testing.T) {
	rec := &kgo.Record{Topic: "out", Value: []byte(strings.Repeat("x", 100))}
	for more, fits := range map[int]bool{1: true, 0: true, -1: false} {
		p := &Pipeline{cfg: Config{BatchBytes: func(string) int32 { return int32(RecordSize(rec) + batchOverhead + more) }}}
		if err := p.Fits(rec); (err == nil) != fits {
			t.Errorf("with room for %d bytes more: %v", more, err)
		}
	}
}
