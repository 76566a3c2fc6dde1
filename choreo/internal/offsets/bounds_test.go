package offsets

import (
	"errors"
	"math"
	"strings"
	"testing"
)

// The whole offset is in the checksum, the upper half as well.
func TestMetadataOfAnOffsetFarAwayIsRefused(t *testing.T) {
	e := newEncoder(nil, 5)
	e.finished(span{7, 8})
	metadata := e.end()
	if _, err := decode(5, metadata); err != nil {
		t.Fatal(err)
	}
	for _, other := range []int64{6, 5 + 1<<32, 5 + 1<<33, 5 + 1<<48} {
		if _, err := decode(other, metadata); !errors.Is(err, ErrMetadata) {
			t.Errorf("metadata of offset 5 is read for %d: %v", other, err)
		}
	}
}

// The longest metadata that a commit can hold is read.
func TestTheLongestMetadataIsRead(t *testing.T) {
	ranges := (math.MaxUint16 - headerLen) * digitsPerChar / 2
	e := newEncoder(nil, 0)
	for i := range int64(ranges) {
		e.finished(span{2*i + 1, 2*i + 2})
	}
	metadata := e.end()
	if len(metadata) != math.MaxUint16 {
		t.Fatalf("%d bytes", len(metadata))
	}
	if spans, err := decode(0, metadata); err != nil || len(spans) != ranges {
		t.Errorf("%d of %d ranges: %v", len(spans), ranges, err)
	}
}

// resealed is a body of metadata with the checksum of another offset.
func resealed(offset int64, body string) string {
	sum := checksum(offset, []byte(body))
	return string(version) + string(sum[:]) + body
}

func TestMetadataThatNoCommitWritesIsRefused(t *testing.T) {
	far := newEncoder(nil, 0)
	far.finished(span{math.MaxInt64 - 5, math.MaxInt64 - 1})
	beyond := far.end()[headerLen:]
	if _, err := decode(0, resealed(0, beyond)); err != nil {
		t.Fatal(err)
	}
	near := newEncoder(nil, 0)
	near.finished(span{1, 2})
	plain := near.end()[headerLen:]
	blank := string(alphabet[spare|spare<<2|spare<<4])
	for name, metadata := range map[string]string{
		"beyond the last offset":       resealed(100, beyond),
		"a character with no digit":    resealed(0, plain+blank),
		"nothing but spare characters": resealed(0, blank),
	} {
		offset := int64(0)
		if name == "beyond the last offset" {
			offset = 100
		}
		if spans, err := decode(offset, metadata); !errors.Is(err, ErrMetadata) {
			t.Errorf("%s: %v, %v", name, spans, err)
		}
	}
}

// Without options a commit has no epoch before a record was seen, and its
// metadata uses Kafka's default limit and no more.
func TestDefaults(t *testing.T) {
	tr, err := New(0, "")
	if err != nil {
		t.Fatal(err)
	}
	if c := tr.Commit(); c.LeaderEpoch != -1 {
		t.Errorf("the first commit has epoch %d", c.LeaderEpoch)
	}
	o := int64(0)
	for ; tr.Room(); o += 1 << 20 {
		tr.Begin(o, 0)
	}
	for f := int64(1 << 20); f < o; f += 2 << 20 {
		tr.Finish(f)
	}
	if n := len(tr.Commit().Metadata); n > MaxMetadata || n < MaxMetadata*9/10 {
		t.Errorf("metadata of %d bytes, the limit is %d", n, MaxMetadata)
	}
}

// Misuse names the call and what was handed out last.
func TestMisuseIsNamed(t *testing.T) {
	tr, err := New(5, "")
	if err != nil {
		t.Fatal(err)
	}
	says := func(want string, misuse func()) {
		t.Helper()
		defer func() {
			if p, _ := recover().(string); !strings.HasPrefix(p, want) {
				t.Errorf("panics with %q, want %q", p, want)
			}
		}()
		misuse()
	}
	says("offsets: Finish(5): handed out were only offsets up to 4", func() { tr.Finish(5) })
	says("offsets: Begin(4) after offset 4 was handed out", func() { tr.Begin(4, 0) })
	says("offsets: Begin(9223372036854775807) after offset 4 was handed out", func() { tr.Begin(math.MaxInt64, 0) })
	tr.Begin(5, 0)
	says("offsets: Begin(5) after offset 5 was handed out", func() { tr.Begin(5, 0) })
	says("offsets: Finish(6): handed out were only offsets up to 5", func() { tr.Finish(6) })
}

// The epoch committed is that of the record before, also if the predecessor had
// finished it.
func TestTheEpochIsOfTheLastRecordAlsoOfAnInheritedOne(t *testing.T) {
	e := newEncoder(nil, 5)
	e.finished(span{6, 7})
	tr, err := New(5, e.end())
	if err != nil {
		t.Fatal(err)
	}
	tr.Begin(5, 1)
	tr.Finish(5)
	if tr.Begin(6, 2) {
		t.Error("what the predecessor finished is handed out")
	}
	if c := tr.Commit(); c.Offset != 7 || c.LeaderEpoch != 2 || c.Metadata != "" {
		t.Errorf("commit %+v, want offset 7 of epoch 2", c)
	}
}

// Room lasts until one more record could exceed the default limit, and no longer:
// here one does come that costs as much as a record can.
func TestRoomEndsJustBeforeTheDefaultLimit(t *testing.T) {
	begun := func(n int64) *Tracker {
		tr, err := New(0, "")
		if err != nil {
			t.Fatal(err)
		}
		for o := range n {
			tr.Begin(o, 0)
		}
		return tr
	}
	n := int64((MaxMetadata-headerLen)*digitsPerChar - maxStep)
	if !begun(n).Room() || begun(n+1).Room() {
		t.Fatalf("room after %d records: %v, after one more: %v", n, begun(n).Room(), begun(n+1).Room())
	}
	tr := begun(n)
	tr.Begin(math.MaxInt64-1, 0)
	for o := n - 1; o > 0; o -= 2 { // and with that neither the last but one
		tr.Finish(o - 1)
	}
	tr.Finish(math.MaxInt64 - 1)
	if c := tr.Commit(); c.Offset > 1 || len(c.Metadata) > MaxMetadata || len(c.Metadata) < MaxMetadata-2 {
		t.Errorf("commit of offset %d with %d bytes of metadata, the limit is %d", c.Offset, len(c.Metadata), MaxMetadata)
	}
}

// The memory for records is doubled when more than half of it is needed.
func TestRecordsAreJoinedBeforeMemoryGrows(t *testing.T) {
	for _, tc := range []struct {
		name   string
		blocks int64
		size   int
	}{
		{"half of it is needed", 8, 16},
		{"more than half of it is needed", 9, 32},
	} {
		tr, err := New(0, "")
		if err != nil {
			t.Fatal(err)
		}
		for o := range int64(16) {
			tr.Begin(o, 0)
			if o >= tc.blocks-1 {
				tr.Finish(o) // all from there on are one block
			}
		}
		tr.Begin(16, 0)
		if len(tr.ring) != tc.size {
			t.Errorf("%s: room for %d records, want %d", tc.name, len(tr.ring), tc.size)
		}
		if c := tr.Commit(); c.Offset != 0 || tr.InFlight() != int(tc.blocks) {
			t.Errorf("%s: offset %d, %d in flight", tc.name, c.Offset, tr.InFlight())
		}
	}
}

// The error shows what was committed: all of it, or where it begins.
func TestRefusedMetadataIsShown(t *testing.T) {
	text := strings.Repeat("x", 24)
	for metadata, shown := range map[string]string{text: `"` + text + `"`, text + "y": `"` + text + `..."`} {
		if _, err := decode(0, metadata); err == nil || !strings.Contains(err.Error(), shown) {
			t.Errorf("%d bytes: %v, want %s in it", len(metadata), err, shown)
		}
	}
}
