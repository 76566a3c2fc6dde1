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
