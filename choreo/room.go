package choreo

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// room bounds the records, and their bytes, that were read and are not yet
// committed. A record larger than all of the room is let in when there is
// nothing else in it.
type room struct {
	mu            sync.Mutex
	records       int
	bytes         int64
	maxRecords    int
	maxBytes      int64
	closedBecause func() bool   // another reason to let nothing in, such as the memory limit
	freed         chan struct{} // closed and replaced when room was given back to a waiter
	waiters       int
	waking        bool // in a moment, by a timer
}

// gathering is how long little room that was given back waits for more before
// whoever waits for it is told.
const gathering = time.Millisecond

func newRoom(records int, bytes int64) *room {
	return &room{maxRecords: records, maxBytes: bytes, freed: make(chan struct{})}
}

func size(rec *kgo.Record) int64 {
	n := len(rec.Key) + len(rec.Value)
	for i := range rec.Headers {
		n += len(rec.Headers[i].Key) + len(rec.Headers[i].Value)
	}
	return int64(n)
}

// try takes room for a record if there is some.
func (r *room) try(rec *kgo.Record) bool {
	n := size(rec)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.take(n)
}

func (r *room) take(n int64) bool {
	if r.records > 0 && (r.records >= r.maxRecords || r.bytes+n > r.maxBytes) {
		return false
	}
	if r.closedBecause != nil && r.closedBecause() {
		return false
	}
	r.records++
	r.bytes += n
	return true
}

// wait takes room for a record as soon as there is some, or returns false when
// one of the contexts ends.
func (r *room) wait(a, b context.Context, rec *kgo.Record) bool {
	n := size(rec)
	r.mu.Lock()
	defer r.mu.Unlock()
	for !r.take(n) {
		freed := r.freed
		r.waiters++
		r.mu.Unlock()
		select {
		case <-freed:
		case <-a.Done():
		case <-b.Done():
		}
		r.mu.Lock()
		r.waiters--
		if a.Err() != nil || b.Err() != nil {
			return false
		}
	}
	return true
}

// give returns the room of a record of size n. What was committed together is
// given back one by one: whoever waits is told once there is a good piece of
// room, or in a moment. Told of each record, the reader would wake up, and hand
// on, for each alone.
func (r *room) give(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records--
	r.bytes -= n
	switch {
	case r.waiters == 0:
	case r.records <= r.maxRecords-max(1, r.maxRecords/16) && r.bytes <= r.maxBytes-r.maxBytes/16:
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

// changed lets waiters look again after closedBecause may have changed.
func (r *room) changed() {
	r.mu.Lock()
	r.wake()
	r.mu.Unlock()
}

func (r *room) wake() {
	if r.waiters > 0 {
		close(r.freed)
		r.freed = make(chan struct{})
	}
}

func (r *room) used() (records int, bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.records, r.bytes
}
