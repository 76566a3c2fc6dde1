package offsets

import (
	"errors"
	"math"
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
