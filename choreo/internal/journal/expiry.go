package journal

import (
	"slices"
	"time"
)

// Ended says that an outcome of the flow was heard. The flow goes after the grace,
// counted from its last change or from here, but for its states, which have their own time. It
// is not written: after a restart the flow stays until Retain.
func (s *Store) Ended(flow string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.flows[flow]; f != nil {
		f.ended = max(1, seconds(at))
	}
}

// Expirable walks on from where it stopped, through about max slots, and gives the flows
// of which something may be dropped now. The caller drops each when none of its events
// is being handled.
func (s *Store) Expirable(now time.Time, max int) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var due []string
	for flows := len(s.order); flows > 0 && max > 0; flows-- {
		if s.walk >= len(s.order) {
			s.walk = 0
		}
		f := s.order[s.walk]
		s.walk++
		max -= len(f.slots)
		if s.due(f, now).any {
			due = append(due, f.id)
		}
	}
	return due
}

// Drop forgets what of a flow has expired, and gives the records that delete it, to be
// written and handed to Commit like every change. The flow may have changed since
// Expirable: then there are none.
func (s *Store) Drop(flow string, now time.Time) []Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.flows[flow]
	if f == nil {
		return nil
	}
	due := s.due(f, now)
	if !due.any {
		return nil
	}
	var changes []Change
	for _, own := range slices.Backward(slices.Clone(f.slots)) { // deleting the last slot moves none
		if due.slot(s, own.id()) {
			changes = s.expel(changes, f, own)
		}
	}
	return changes
}

// dueSlots says which slots of a flow have expired.
type dueSlots struct {
	any  bool
	rest bool          // all that are not states
	idle time.Duration // since the flow's last change
}

func (d dueSlots) slot(s *Store, i id) bool {
	if i.kind == kindState {
		return d.idle >= s.names.retain[i.name]
	}
	return d.rest
}

func (s *Store) due(f *flow, now time.Time) dueSlots {
	if len(s.queues) > 0 && s.queues[f] > 0 {
		return dueSlots{} // what is parked needs what is remembered
	}
	var last uint32
	for _, own := range f.slots {
		if own.pendingDeadline() {
			return dueSlots{} // it is not over
		}
		last = max(last, own.at())
	}
	since := func(at uint32) time.Duration { return now.Sub(time.Unix(int64(at), 0)) }
	d := dueSlots{idle: since(last)}
	d.rest = d.idle >= s.retain || f.ended > 0 && since(max(last, f.ended)) >= s.grace
	for _, own := range f.slots {
		if d.any = d.slot(s, own.id()); d.any {
			break
		}
	}
	return d
}
