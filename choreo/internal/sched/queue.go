package sched

import "time"

// queue holds what is to be run of one key. It is in the scheduler's map as
// long as there is anything, and in its ready list while it neither runs nor
// waits.
type queue struct {
	key     Key
	hash    uint64 // of key
	chain   *queue // in the table
	current Item   // begun and not finished: runs, waits, or is about to run again
	items   fifo   // behind it
	timer   *time.Timer
	running bool
	woken   bool // while running
	next    *queue
}

// list is a first-in first-out list of queues, linked through them.
type list struct {
	first, last *queue
	n           int
}

func (l *list) push(q *queue) {
	if l.last == nil {
		l.first = q
	} else {
		l.last.next = q
	}
	l.last = q
	l.n++
}

// pop returns nil if the list is empty.
func (l *list) pop() *queue {
	q := l.first
	if q == nil {
		return nil
	}
	if l.first = q.next; l.first == nil {
		l.last = nil
	}
	q.next = nil
	l.n--
	return q
}

// fifo is a first-in first-out queue of items in a ring.
type fifo struct {
	ring    []Item // length zero or a power of two
	head, n int
}

func (f *fifo) push(it Item) {
	if f.n == len(f.ring) {
		ring := make([]Item, max(1, 2*len(f.ring)))
		k := copy(ring, f.ring[f.head:])
		copy(ring[k:], f.ring[:f.head])
		f.ring, f.head = ring, 0
	}
	f.ring[(f.head+f.n)&(len(f.ring)-1)] = it
	f.n++
}

// pop must not be called on an empty one.
func (f *fifo) pop() Item {
	it := f.ring[f.head]
	f.ring[f.head] = nil
	f.head = (f.head + 1) & (len(f.ring) - 1)
	f.n--
	return it
}
