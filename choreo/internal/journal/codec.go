package journal

import (
	"encoding/binary"
)

// version is the format that this package writes, the first byte of each value.
//
// A text is a varint and bytes: the varint's lowest bit is clear and the rest is the
// length. In memory the bit may be set: then the rest is a number in the table and no bytes follow.
// The data of an event begins with its length and 1 more, or 0 if there is none. Hashes
// have their 16 bytes and no length.
const version = 1

// maxSeq keeps a damaged record from exhausting the run numbers.
const maxSeq = 1 << 53

func appendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s))<<1)
	return append(b, s...)
}

func appendEvent(b []byte, e *Event) []byte {
	b = appendText(b, e.Source)
	b = appendText(b, e.ID)
	b = appendText(b, e.Type)
	b = appendText(b, e.ContentType)
	if e.Data == nil {
		return append(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(e.Data))+1)
	return append(b, e.Data...)
}

// runSize is about how many bytes a run's value takes.
func runSize(r *Run) int {
	return eventSize(&r.In) + eventSize(&r.Out) + len(r.By.ID) + len(r.By.Type) + 48
}

func eventSize(e *Event) int {
	return len(e.Source) + len(e.ID) + len(e.Type) + len(e.ContentType) + len(e.Data) + 12
}

func appendTrigger(b []byte, t *Trigger) []byte {
	b = append(b, t.Hash[:]...)
	b = appendText(b, t.ID)
	b = appendText(b, t.Type)
	return append(b, flag(t.Answered))
}

func flag(set bool) byte {
	if set {
		return 1
	}
	return 0
}

func appendRun(b []byte, r *Run) []byte {
	b = append(b, byte(r.Status))
	b = binary.AppendUvarint(b, r.Seq)
	b = binary.AppendUvarint(b, uint64(r.Attempts))
	b = appendEvent(b, &r.In)
	b = appendEvent(b, &r.Out)
	if r.By == (Trigger{}) {
		return append(b, 0)
	}
	return appendTrigger(append(b, 1), &r.By)
}

func appendCancelled(b []byte, c *Cancelled) []byte {
	b = binary.AppendUvarint(b, uint64(len(c.By)))
	for i := range c.By {
		b = appendTrigger(b, &c.By[i])
	}
	return b
}

// reader takes a value or a slot apart. After the first fault it yields zeros;
// what it yields are parts of its input, nothing is copied.
type reader[T ~string | ~[]byte] struct {
	rest T
	bad  bool
}

func (r *reader[T]) fail() { r.bad, r.rest = true, r.rest[:0] }

func (r *reader[T]) byte() byte {
	if len(r.rest) == 0 {
		r.fail()
		return 0
	}
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

func (r *reader[T]) flag() bool {
	b := r.byte()
	if b > 1 {
		r.fail()
	}
	return b == 1
}

// status reads a status that is less than end; 0 is none.
func (r *reader[T]) status(end byte) byte {
	b := r.byte()
	if b == 0 || b >= end {
		r.fail()
	}
	return b
}

func (r *reader[T]) uvarint() uint64 {
	var n uint64
	for shift := uint(0); shift < 64; shift += 7 {
		if len(r.rest) == 0 {
			break
		}
		b := r.rest[0]
		r.rest = r.rest[1:]
		if shift == 63 && b > 1 {
			break
		}
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return n
		}
	}
	r.fail()
	return 0
}

func (r *reader[T]) take(n uint64) T {
	if n > uint64(len(r.rest)) {
		r.fail()
		return r.rest
	}
	part := r.rest[:n]
	r.rest = r.rest[n:]
	return part
}

func (r *reader[T]) hash() (h Hash) {
	copy(h[:], r.take(uint64(len(h))))
	return h
}

// limit reads a number that may be at most max.
func (r *reader[T]) limit(max uint64) uint64 {
	n := r.uvarint()
	if n > max {
		r.fail()
		return 0
	}
	return n
}

// Of a value: the text stands there in full.
func copyText(b []byte, r *reader[[]byte], t *table) []byte {
	n := r.uvarint()
	if n&1 == 1 {
		r.fail()
		return b
	}
	text := r.take(n >> 1)
	if number, ok := t.number(text); ok {
		return binary.AppendUvarint(b, uint64(number)<<1|1)
	}
	return append(binary.AppendUvarint(b, n), text...)
}

// copyPlain copies a text that is never worth a place in the table.
func copyPlain(b []byte, r *reader[[]byte]) []byte {
	n := r.uvarint()
	if n&1 == 1 {
		r.fail()
		return b
	}
	return append(binary.AppendUvarint(b, n), r.take(n>>1)...)
}

func copyEvent(b []byte, r *reader[[]byte], t *table) []byte {
	b = copyText(b, r, t)
	b = copyPlain(b, r)
	b = copyText(b, r, t)
	b = copyText(b, r, t)
	n := r.uvarint()
	if b = binary.AppendUvarint(b, n); n == 0 {
		return b
	}
	return append(b, r.take(n-1)...)
}

func copyTrigger(b []byte, r *reader[[]byte], t *table) []byte {
	b = append(b, r.take(uint64(len(Hash{})))...)
	b = copyPlain(b, r)
	b = copyText(b, r, t)
	return append(b, flag(r.flag()))
}

func copyRun(b []byte, r *reader[[]byte], t *table) (slot []byte, seq uint64) {
	status := r.status(byte(statuses))
	seq = r.limit(maxSeq)
	b = append(b, status)
	b = binary.AppendUvarint(b, seq)
	b = binary.AppendUvarint(b, r.limit(1<<32-1))
	b = copyEvent(b, r, t)
	b = copyEvent(b, r, t)
	if !r.flag() {
		return append(b, 0), seq
	}
	return copyTrigger(append(b, 1), r, t), seq
}

func copyCancelled(b []byte, r *reader[[]byte], t *table) []byte {
	n := r.limit(uint64(len(r.rest)))
	b = binary.AppendUvarint(b, n)
	for ; n > 0 && !r.bad; n-- {
		b = copyTrigger(b, r, t)
	}
	return b
}

// copyState checks a state's value: a count, that many hashes, the payload.
func copyState(b []byte, r *reader[[]byte]) []byte {
	all := r.rest
	n := r.limit(uint64(len(r.rest) / len(Hash{})))
	r.take(n * uint64(len(Hash{})))
	r.take(uint64(len(r.rest)))
	return append(b, all...)
}

// seenSize is one entry of the slot of seen events: the event's hash and that of its data.
const seenSize = len(Hash{}) + 8

func copySeen(b []byte, r *reader[[]byte]) []byte {
	if len(r.rest)%seenSize != 0 {
		r.fail()
	}
	return append(b, r.take(uint64(len(r.rest)))...)
}

// The rest reads what is in memory, where no fault is possible.

func (r *reader[T]) text(texts []string) string {
	n := r.uvarint()
	if n&1 == 1 {
		return texts[n>>1]
	}
	return string(r.take(n >> 1))
}

func readEvent(r *reader[string], texts []string) Event {
	e := Event{Source: r.text(texts), ID: r.text(texts), Type: r.text(texts), ContentType: r.text(texts)}
	if n := r.uvarint(); n > 0 {
		e.Data = []byte(r.take(n - 1))
	}
	return e
}

func readTrigger(r *reader[string], texts []string) Trigger {
	return Trigger{Hash: r.hash(), ID: r.text(texts), Type: r.text(texts), Answered: r.flag()}
}

func readRun(r *reader[string], texts []string) Run {
	run := Run{
		Status:   Status(r.byte()),
		Seq:      r.uvarint(),
		Attempts: uint32(r.uvarint()),
		In:       readEvent(r, texts),
		Out:      readEvent(r, texts),
	}
	if r.flag() {
		run.By = readTrigger(r, texts)
	}
	return run
}

func readCancelled(r *reader[string], texts []string) Cancelled {
	c := Cancelled{By: make([]Trigger, r.uvarint())}
	for i := range c.By {
		c.By[i] = readTrigger(r, texts)
	}
	return c
}

// readState leaves applied as it stands: hashes in a row.
func readState(r *reader[string]) (applied, payload string) {
	applied = r.take(r.uvarint() * uint64(len(Hash{})))
	return applied, r.rest
}
