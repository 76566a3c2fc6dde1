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
