// Package room bounds what is in memory: records, and their bytes, that were read
// and are not yet committed.
//
// It owns the two counts, and who waits for room. It knows nothing of what a record
// is or why it stays: whoever has taken room for one gives back as much, once.
package room

import (
	"context"
	"sync"
	"time"
)

// Room lets in so many records, and bytes of them. A record larger than all of it is let
// in when there is nothing else in it.
type Room struct {
	MaxRecords int
	MaxBytes   int64
	// Closed is another reason to let nothing in, such as a limit of memory. When it
	// may be over, Changed is to be called. Nil: there is none.
	Closed func() bool

	mu      sync.Mutex
	records int // in it
	bytes   int64
	freed   chan struct{} // closed to tell those who wait; nil: nobody does
	waking  bool          // in a moment, by a timer
}

// gathering is how long little room that was given back waits for more before
// whoever waits for it is told.
const gathering = time.Millisecond

// Try takes room for a record of n bytes if there is some.
func (r *Room) Try(n int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.take(n)
}

func (r *Room) take(n int64) bool {
	if r.records > 0 && (r.records >= r.MaxRecords || r.bytes+n > r.MaxBytes) {
		return false
	}
	if r.Closed != nil && r.Closed() {
		return false
	}
	r.records++
	r.bytes += n
	return true
}

// Wait takes room for a record of n bytes as soon as there is some, or returns false
// when one of the contexts ends.
func (r *Room) Wait(a, b context.Context, n int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for !r.take(n) {
		if r.freed == nil {
			r.freed = make(chan struct{})
		}
		freed := r.freed
		r.mu.Unlock()
		select {
		case <-freed:
		case <-a.Done():
		case <-b.Done():
		}
		r.mu.Lock()
		if a.Err() != nil || b.Err() != nil {
			return false
		}
	}
	return true
}

// Give returns the room of a record of n bytes. What was committed together is
// given back one by one: whoever waits is told once there is a good piece of
// room, or in a moment. Told of each record, the reader would wake up, and hand
// on, for each alone.
func (r *Room) Give(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records--
	r.bytes -= n
	switch {
	case r.freed == nil:
	case r.records <= r.MaxRecords-max(1, r.MaxRecords/16) && r.bytes <= r.MaxBytes-r.MaxBytes/16:
		r.wake()
	case !r.waking:
		r.waking = true
		time.AfterFunc(gathering, func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.waking = false
			r.wake()
		})
	}
}

// Changed lets waiters look again, after Closed may have changed.
func (r *Room) Changed() {
	r.mu.Lock()
	r.wake()
	r.mu.Unlock()
}

func (r *Room) wake() {
	if r.freed != nil {
		close(r.freed)
		r.freed = nil
	}
}

// Used is what is in it.
func (r *Room) Used() (records int, bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.records, r.bytes
}
