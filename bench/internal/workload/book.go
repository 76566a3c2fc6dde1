package workload

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Book keeps what came out of one run. Note every record of the output, each
// partition in the order of its offsets; then ask whether it is Complete. A
// Book is used by one goroutine.
type Book struct {
	n     int64
	flows int
	seen  []bool
	times []int64 // milliseconds, of the first of each order
	last  map[string]place
	wrong []error

	// Doubled counts the orders that came out again.
	Doubled int64
}

// place is where a flow's last order came out.
type place struct {
	partition int32
	seq       int64
}

// NewBook is for the orders 0 to n-1 of so many flows.
func NewBook(n int64, flows int) *Book {
	return &Book{n: n, flows: flows, seen: make([]bool, n), last: map[string]place{}}
}

var seqField = []byte(`{"seq":`)

// Note takes down one record of the output.
func (b *Book) Note(partition int32, offset int64, key, value []byte, at time.Time) {
	seq, ok := seqOf(value)
	flow := string(key)
	switch {
	case !ok || seq < 0 || seq >= b.n:
		b.complain("record %d/%d is no order that was fed: %.80q", partition, offset, value)
		return
	case flow != KeyOf(seq, b.flows):
		b.complain("order %d came out with key %q, want %q", seq, flow, KeyOf(seq, b.flows))
	}
	if b.seen[seq] {
		b.Doubled++
		return // a repetition says nothing about the order of the others
	}
	b.seen[seq] = true
	b.times = append(b.times, at.UnixMilli())
	last, known := b.last[flow]
	if known && last.partition != partition {
		b.complain("key %q came out on partitions %d and %d", flow, last.partition, partition)
	} else if known && last.seq > seq {
		b.complain("key %q: order %d came out after %d", flow, seq, last.seq)
	}
	b.last[flow] = place{partition, max(seq, last.seq)}
}

func seqOf(value []byte) (int64, bool) {
	rest, ok := bytes.CutPrefix(value, seqField)
	end := bytes.IndexByte(rest, ',')
	if !ok || end < 0 {
		return 0, false
	}
	seq, err := strconv.ParseInt(string(rest[:end]), 10, 64)
	return seq, err == nil
}

func (b *Book) complain(format string, args ...any) {
	const most = 5
	if len(b.wrong) < most {
		b.wrong = append(b.wrong, fmt.Errorf(format, args...))
	}
}

// Noted is the number of orders that came out.
func (b *Book) Noted() int64 { return int64(len(b.times)) }

// Full reports whether every order came out.
func (b *Book) Full() bool { return b.Noted() == b.n }

// Complete says what is wrong with the output: orders that are missing, out of
// order or, if each was to come out exactly once, doubled.
func (b *Book) Complete(exactlyOnce bool) error {
	var wrong []error
	if missing := b.n - b.Noted(); missing > 0 {
		wrong = append(wrong, fmt.Errorf("%d of %d orders did not come out, the first is %d", missing, b.n, slices.Index(b.seen, false)))
	}
	return errors.Join(append(wrong, b.sound(exactlyOnce))...)
}

// Sound says what is wrong with the orders that came out, each exactly once;
// others may be missing.
func (b *Book) Sound() error { return b.sound(true) }

func (b *Book) sound(exactlyOnce bool) error {
	wrong := slices.Clone(b.wrong)
	if exactlyOnce && b.Doubled > 0 {
		wrong = append(wrong, fmt.Errorf("%d orders came out more than once", b.Doubled))
	}
	return errors.Join(wrong...)
}

// Rate is how many orders came out each second, as the broker timed them, from
// the time at which a tenth was out to the last.
func (b *Book) Rate() (float64, error) {
	times := slices.Sorted(slices.Values(b.times))
	if len(times) == 0 {
		return 0, errors.New("nothing came out")
	}
	from, to := times[len(times)/10], times[len(times)-1]
	after, _ := slices.BinarySearch(times, from+1)
	if to == from {
		return 0, fmt.Errorf("all of %d orders came out within a millisecond: too few to be timed", len(times))
	}
	return float64(len(times)-after) / (float64(to-from) / 1000), nil
}
