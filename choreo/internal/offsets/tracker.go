// Package offsets follows one partition that is read: which offsets were
// handed out, which of them are finished, and what to commit so that a
// successor is handed exactly the unfinished ones.
//
// What is committed is the finished prefix, and with it, in the commit's
// metadata, the finished offsets beyond the prefix. A slow record therefore
// holds back neither the records after it nor their commits.
//
// The package is a data structure: it knows no client, no group and no
// network, starts no goroutine and reads no clock. It owns the format of the
// metadata (see metadata.go) and may not interpret anything else of a commit.
package offsets

import (
	"fmt"
	"math"
	"sync"
)

// Commit is what to commit for the partition, to be sent as one unit: the
// metadata is meaningless with any other offset.
type Commit struct {
	// Offset is the first offset that is not known to be finished: the smallest
	// one handed out and unfinished, else the one after the last handed out.
	Offset int64
	// LeaderEpoch is the epoch of a record at Offset or directly before it, so
	// that validation by KIP-320 sees truncation and never imagines it; -1 where
	// no such record was seen.
	LeaderEpoch int32
	// Metadata tells the finished offsets beyond Offset; empty when there are
	// none. ASCII, no longer than the limit as long as Room was respected.
	Metadata string
}

// Tracker follows one partition during one incarnation. It is safe for
// concurrent use: typically one goroutine calls Room and Begin, others Finish
// and Commit. Make one with New.
//
// Begin, Finish and Room cost amortized O(log n), n being the number of
// unfinished records and of gaps between them; memory is O(n) as well, however
// far the unfinished records lie apart and however many were finished since.
type Tracker struct {
	mu sync.Mutex

	// ring[i&mask] for head <= i < tail are the records handed out from the
	// prefix on, by offset. The first of them is always unfinished. Records
	// inside a finished block are dropped when room is needed (see compact).
	ring       []record
	mask       uint64
	head, tail uint64

	// inherited are the offsets from next on that the predecessor finished;
	// end is where the last of them ended.
	inherited []span

	next     int64 // the smallest offset that may be handed out
	epoch    int32 // of the record at next-1; -1: not known
	inFlight int
	beyond   int64 // offsets in the finished blocks of the ring
	cost     int   // bound on the digits of Commit's metadata for the ring
	budget   int   // digits that fit into the limit
	scratch  []byte
}

// record is one handed-out offset.
type record struct {
	offset int64
	mate   uint64 // in the first record of a finished block the last one's index, in the last one's the first's
	epoch  int32
	done   bool
}

// span is a range of offsets: from <= offset < to.
type span struct{ from, to int64 }

// Option changes a Tracker that New makes.
type Option func(*Tracker)

// Limit sets the greatest length of the metadata in bytes, which the broker's
// offset.metadata.max.bytes must allow. Default MaxMetadata, at least
// MinMetadata.
func Limit(bytes int) Option {
	return func(t *Tracker) { t.budget = (bytes - headerLen) * digitsPerChar }
}

// LeaderEpoch says with which leader epoch start was committed, so that it can
// be committed again unchanged. Default -1: not known.
func LeaderEpoch(epoch int32) Option {
	return func(t *Tracker) { t.epoch = epoch }
}

// New follows a partition from start on, an offset that was committed with
// metadata (or a position without a commit: then metadata is empty). The error
// wraps ErrMetadata if the metadata was not written by this version's format
// for this offset; nothing may then be handed out, because it could be handled
// twice. It is another error if start is negative or the limit too small.
func New(start int64, metadata string, options ...Option) (*Tracker, error) {
	t := &Tracker{next: start, epoch: -1, budget: (MaxMetadata - headerLen) * digitsPerChar}
	for _, option := range options {
		option(t)
	}
	if start < 0 {
		return nil, fmt.Errorf("follow a partition from offset %d: an offset is not negative: resolve earliest and latest first", start)
	}
	if t.budget < (MinMetadata-headerLen)*digitsPerChar {
		return nil, fmt.Errorf("limit the metadata of a commit to %d bytes: at least %d are needed: raise the broker's offset.metadata.max.bytes",
			t.budget/digitsPerChar+headerLen, MinMetadata)
	}
	var err error
	if t.inherited, err = decode(start, metadata); err != nil {
		return nil, fmt.Errorf("read what is finished beyond committed offset %d: %w", start, err)
	}
	return t, nil
}

// Next is the smallest offset that Begin accepts: the one after the last
// handed out. A record before it, delivered again, is the sign of a truncated
// log: the reader must stop instead of calling Begin.
func (t *Tracker) Next() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.next
}

// Room reports whether the next record may be handed out: whatever of all
// that is handed out, it included, finishes first, Commit's metadata will not
// exceed the limit. After false it becomes true again when enough has finished,
// at the latest when all has. A successor has room for all that its predecessor
// handed out, if its limit is not lower.
func (t *Tracker) Room() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	// The blocks of the ring bound the metadata, as joining blocks never costs
	// more. Inherited spans need no count: with the blocks before them they are
	// blocks of the predecessor, or joined ones, and so within its bound.
	return t.cost+maxStep <= t.budget
}

// Begin takes note that the record at offset, written under leaderEpoch, is
// handed out. It returns false if the predecessor finished it: skip it, and do
// not call Finish. Every record read must be begun, in the order of offsets,
// also one that is ignored (Finish it at once); offsets never begun between two
// that were are holes (control records, aborted, compacted) and count as
// whatever is convenient. Begin panics if offset is below Next.
func (t *Tracker) Begin(offset int64, leaderEpoch int32) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if offset < t.next || offset == math.MaxInt64 {
		panic(fmt.Sprintf("offsets: Begin(%d) after offset %d was handed out: a record is handed out once, in order; after a truncation of the log start from a new Tracker",
			offset, t.next-1))
	}
	if t.head < t.tail { // the last block now reaches up to this record
		last := t.first(t.tail - 1)
		t.count(last, -1)
		t.next = offset
		t.count(last, +1)
	}
	finished := t.pass(offset)
	t.push(record{offset: offset, epoch: leaderEpoch})
	t.next, t.epoch = offset+1, leaderEpoch
	t.count(t.tail-1, +1)
	t.inFlight++
	if finished {
		t.finish(t.tail - 1)
	}
	return !finished
}

// Finish takes note that the record at offset needs no further work: its
// output is in the transaction that commits the next Commit, or in an earlier
// one. Finishing it again changes nothing. It panics for an offset that was
// never handed out, as far as that is still known: a wrong offset would lose
// an event.
func (t *Tracker) Finish(offset int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if offset >= t.next {
		panic(fmt.Sprintf("offsets: Finish(%d): handed out were only offsets up to %d", offset, t.next-1))
	}
	if t.head == t.tail || offset < t.at(t.head).offset {
		return // the prefix has passed it
	}
	i := t.find(offset)
	switch r := t.at(i); {
	case r.done:
	case r.offset != offset:
		panic(fmt.Sprintf("offsets: Finish(%d): never handed out; the one before it is %d", offset, r.offset))
	default:
		t.finish(i)
	}
}

// Commit is what to commit now. It covers exactly what is finished now; the
// caller orders it against Finish. It allocates only when metadata is needed.
func (t *Tracker) Commit() Commit {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.head == t.tail && len(t.inherited) == 0 {
		return Commit{Offset: t.next, LeaderEpoch: t.epoch}
	}
	c := Commit{Offset: t.next, LeaderEpoch: t.epoch}
	inherited := t.inherited
	if t.head < t.tail {
		first := t.at(t.head)
		c.Offset, c.LeaderEpoch = first.offset, first.epoch
	} else if inherited[0].from == t.next {
		c.Offset, c.LeaderEpoch = inherited[0].to, -1
		inherited = inherited[1:]
	}
	e := newEncoder(t.scratch, c.Offset)
	for i := t.head; i < t.tail; i = t.after(i) {
		if r := t.at(i); r.done {
			e.finished(span{r.offset, t.until(i)})
		}
	}
	for _, s := range inherited {
		e.finished(s)
	}
	c.Metadata = e.end()
	t.scratch = e.text
	return c
}

// InFlight is the number of records handed out and not finished.
func (t *Tracker) InFlight() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.inFlight
}

// Beyond is the number of finished offsets beyond the prefix, holes between
// them included.
func (t *Tracker) Beyond() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.beyond
	for i, s := range t.inherited {
		if i == 0 && t.head == t.tail && s.from == t.next {
			continue // belongs to the prefix
		}
		n += s.to - s.from
	}
	return int(n)
}

// pass drops the inherited spans up to offset, and reports whether offset is
// in one of them.
func (t *Tracker) pass(offset int64) bool {
	for len(t.inherited) > 0 {
		s := &t.inherited[0]
		if offset < s.from {
			return false
		}
		if offset < s.to-1 {
			s.from = offset + 1
			return true
		}
		last := s.to - 1
		t.inherited = t.inherited[1:]
		if offset == last {
			return true
		}
	}
	t.inherited = nil
	return false
}

// finish marks record i, merges it with finished neighbours, and moves the
// prefix.
func (t *Tracker) finish(i uint64) {
	from, to := i, i
	t.count(i, -1)
	if i > t.head && t.at(i-1).done {
		from = t.at(i - 1).mate
		t.count(from, -1)
	}
	if i+1 < t.tail && t.at(i+1).done {
		t.count(i+1, -1)
		to = t.at(i + 1).mate
	}
	t.inFlight--
	t.at(i).done = true
	t.at(from).mate, t.at(to).mate = to, from
	if from == t.head {
		t.head = to + 1
		return
	}
	t.count(from, +1)
}

// count adds the block that begins with record i to the sums, or takes it away.
func (t *Tracker) count(i uint64, sign int) {
	length := t.until(i) - t.at(i).offset
	t.cost += sign * digits(length)
	if t.at(i).done {
		t.beyond += int64(sign) * length
	}
}

// A block is one unfinished record or a longest row of finished ones, with the
// holes after it. at, first, after and until walk over blocks.

func (t *Tracker) at(i uint64) *record { return &t.ring[i&t.mask] }

// first is the first record of the block that ends with record i.
func (t *Tracker) first(i uint64) uint64 {
	if r := t.at(i); r.done {
		return r.mate
	}
	return i
}

// after is the first record of the block after the one that begins with i.
func (t *Tracker) after(i uint64) uint64 {
	if r := t.at(i); r.done {
		return r.mate + 1
	}
	return i + 1
}

// until is the offset at which the block that begins with record i ends.
func (t *Tracker) until(i uint64) int64 {
	if j := t.after(i); j < t.tail {
		return t.at(j).offset
	}
	return t.next
}

// find is the last record at or before offset, which is not before the first.
func (t *Tracker) find(offset int64) uint64 {
	lo, hi := t.head, t.tail // at(lo).offset <= offset < at(hi).offset
	if d := uint64(offset - t.at(lo).offset); d < hi-lo {
		hi = lo + d + 1 // offsets grow at least as fast as indexes
	}
	if t.at(hi-1).offset <= offset {
		return hi - 1 // no holes
	}
	for hi-lo > 1 {
		if mid := lo + (hi-lo)/2; t.at(mid).offset <= offset {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo
}

// push appends a record; the caller counts it.
func (t *Tracker) push(r record) {
	if t.tail-t.head == uint64(len(t.ring)) {
		t.compact()
	}
	*t.at(t.tail) = r
	t.tail++
}

// compact makes room at the end: it keeps one record of each block and, if
// that leaves the ring more than half full, doubles it. Either way at least
// half of the ring's length is pushed before the next time.
func (t *Tracker) compact() {
	blocks := 0
	for i := t.head; i < t.tail; i = t.after(i) {
		blocks++
	}
	size := max(len(t.ring), 16)
	if blocks > size/2 {
		size *= 2
	}
	ring := t.ring
	if size != len(ring) {
		ring = make([]record, size)
	}
	// Copying towards the head of the same ring overwrites only what was read.
	to := t.head
	for i := t.head; i < t.tail; {
		r, after := *t.at(i), t.after(i)
		r.mate = to
		ring[to&uint64(size-1)] = r
		to++
		i = after
	}
	t.ring, t.mask, t.tail = ring, uint64(size-1), to
}
