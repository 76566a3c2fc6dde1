package offsets

import (
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"math/bits"
	"strings"
)

// The metadata, version 1:
//
//	"1", 4 characters of checksum, characters of 6 bits (the URL alphabet of base64)
//
// Each character holds three digits, the lowest bits first. The digits are the
// lengths of alternating ranges of offsets, from the committed one on:
// unfinished, finished, unfinished, ... and last a finished one. A length n is
// written as n-1, one bit per digit, lowest first; the second bit of a digit
// says that another follows. So a range of one or two records costs a third of a
// character: 12,273 such ranges fit into Kafka's default limit, and a range of a
// million costs seven characters. Digits that the last character has to spare
// say "another follows" and hold a zero.
//
// The checksum is over the committed offset and the digits. It is there for
// programs that translate offsets and carry metadata along, such as the ones that
// mirror clusters: lengths counted from another offset would skip events.

const (
	// MaxMetadata is the default of Kafka's offset.metadata.max.bytes.
	MaxMetadata = 4096
	// MinMetadata is the smallest limit that a Tracker works with.
	MinMetadata = 64

	version       = '1'
	checkLen      = 4
	headerLen     = 1 + checkLen
	digitsPerChar = 3
	alphabet      = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

	bit   = 1 // of the length
	more  = 2 // digits of this length follow
	spare = more

	// maxStep is the most that one more record adds to the digits: the block
	// before it grows from one digit to 63, and it begins one of its own.
	maxStep = 62 + 1
)

// ErrMetadata says that the metadata of a committed offset cannot be read, so
// that it is not known which events after that offset were handled.
var ErrMetadata = errors.New("metadata of the committed offset cannot be read")

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// digits is the number of digits of a range of length n >= 1. It is
// subadditive, digits(a+b) <= digits(a)+digits(b): joining ranges never costs
// more, which is what makes the bound behind Room hold.
func digits(n int64) int {
	return max(1, bits.Len64(uint64(n-1)))
}

// checksum is the 4 characters for the text after them: 24 bits of a CRC-32C
// that starts from the offset.
func checksum(offset int64, body []byte) [checkLen]byte {
	sum := crc32.Update(uint32(offset^offset>>32), crcTable, body)
	var out [checkLen]byte
	for i := range out {
		out[i] = alphabet[sum>>(6*i)&63]
	}
	return out
}

// encoder writes metadata from finished spans in rising order.
type encoder struct {
	text    []byte
	char    byte // digits of the character begun
	filled  int  // how many
	offset  int64
	written int64 // ranges are written up to this offset
	last    span  // not yet written, as it may grow; empty at first
}

// newEncoder begins metadata for a committed offset in the memory of buf.
func newEncoder(buf []byte, offset int64) encoder {
	return encoder{
		text:    append(buf[:0], version, 0, 0, 0, 0),
		offset:  offset,
		written: offset,
		last:    span{offset, offset},
	}
}

func (e *encoder) finished(s span) {
	if s.from == e.last.to {
		e.last.to = s.to
		return
	}
	e.flush()
	e.last = s
}

func (e *encoder) flush() {
	if e.last.from == e.last.to {
		return
	}
	e.length(e.last.from - e.written)
	e.length(e.last.to - e.last.from)
	e.written = e.last.to
}

func (e *encoder) length(n int64) {
	for v := uint64(n - 1); ; v >>= 1 {
		if v < 2 {
			e.digit(byte(v))
			return
		}
		e.digit(byte(v&bit) | more)
	}
}

func (e *encoder) digit(d byte) {
	e.char |= d << (2 * e.filled)
	if e.filled++; e.filled == digitsPerChar {
		e.text = append(e.text, alphabet[e.char])
		e.char, e.filled = 0, 0
	}
}

// end is the metadata; empty if nothing was finished.
func (e *encoder) end() string {
	e.flush()
	if e.written == e.offset {
		return ""
	}
	for e.filled > 0 {
		e.digit(spare)
	}
	sum := checksum(e.offset, e.text[headerLen:])
	copy(e.text[1:], sum[:])
	return string(e.text)
}

// decode returns the finished spans that metadata tells, in rising order. It
// accepts exactly what an encoder writes for this offset, and allocates at
// most 64 bytes for each byte of metadata, which may have at most 64 KiB.
func decode(offset int64, metadata string) ([]span, error) {
	if metadata == "" {
		return nil, nil
	}
	refuse := func(why string) ([]span, error) {
		shown := metadata
		if len(shown) > 24 {
			shown = shown[:24] + "..."
		}
		return nil, fmt.Errorf("%w: %s (%d bytes, %q): run the version of the service that committed it; "+
			"or decide to handle again what was finished beyond the offset, by committing the offset without metadata", ErrMetadata, why, len(metadata), shown)
	}
	if metadata[0] != version {
		return refuse("it is of a newer version or of another program")
	}
	if len(metadata) <= headerLen || len(metadata) > math.MaxUint16 {
		return refuse("its length cannot be right")
	}
	body := []byte(metadata[headerLen:])
	if sum := checksum(offset, body); metadata[1:headerLen] != string(sum[:]) {
		return refuse("its checksum does not fit: it is damaged, or was committed with another offset")
	}
	var (
		spans  []span
		value  uint64 // of the length begun
		length int    // its digits
		from   int64
		half   bool // an unfinished range was read, its finished one not
		at     = offset
	)
	for i := range len(body) {
		char := strings.IndexByte(alphabet, body[i])
		if char < 0 {
			return refuse("it holds a character that is never written")
		}
		for range digitsPerChar {
			d := uint64(char & 3)
			char >>= 2
			if length == 63 {
				return refuse("it holds a range that is too long")
			}
			value |= d & bit << length
			length++
			if d&more != 0 {
				continue
			}
			if length > 1 && d&bit == 0 {
				return refuse("it holds a range written in a way that is never used")
			}
			if value >= uint64(math.MaxInt64-at) {
				return refuse("it reaches beyond the last possible offset")
			}
			from, at = at, at+int64(value)+1
			value, length = 0, 0
			if half {
				spans = append(spans, span{from, at})
			}
			half = !half
		}
	}
	if half || value != 0 || length >= digitsPerChar {
		return refuse("it ends in the middle")
	}
	return spans, nil
}
