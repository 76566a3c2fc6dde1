package journal

import "slices"

// Erase forgets all that is remembered of a flow, whatever its retention, and
// gives the records that delete it, to be written and handed to Commit like every
// change. The caller sees to it that nothing of the flow is parked or pending.
func (s *Store) Erase(flow string) []Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.flows[flow]
	if f == nil {
		return nil
	}
	var changes []Change
	for _, own := range slices.Backward(slices.Clone(f.slots)) { // deleting the last slot moves none
		changes = s.expel(changes, f, own)
	}
	return changes
}

// expel removes a slot for good, under all the names that it has had.
func (s *Store) expel(changes []Change, f *flow, own slot) []Change {
	i := own.id()
	change := s.take(f, own)
	if i.kind == kindState {
		s.stage(&change)
	}
	changes = append(changes, change)
	if own.renamed() {
		for _, earlier := range s.names.earlier(i) {
			changes = append(changes, Change{Key: appendSlotName(append([]byte(f.id), 0), i, earlier)})
		}
	}
	return changes
}
