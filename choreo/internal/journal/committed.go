package journal

type stateKey struct {
	flow string
	name uint16
}

// pending are the versions of one state that are in transactions under way. Without
// them memory and the committed state are the same slot.
type pending struct {
	committed slot // "" if there was none
	versions  []stateVersion
}

type stateVersion struct {
	number uint64
	slot   slot // "" deletes
}

// stage notes that a change makes a state's slot what it is now.
func (s *Store) stage(c *Change, key stateKey, before, now slot) {
	p := s.pending[key]
	if p == nil {
		p = &pending{committed: before}
		s.pending[key] = p
	}
	s.versions++
	c.state, c.version = key, s.versions
	p.versions = append(p.versions, stateVersion{s.versions, now})
}

// Commit says that the transaction of these changes has succeeded: Committed shows
// their states from now on. Changes that are no states are passed over.
func (s *Store) Commit(changes ...Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range changes {
		c := &changes[i]
		p := s.pending[c.state]
		if c.version == 0 || p == nil {
			continue
		}
		done := 0
		for done < len(p.versions) && p.versions[done].number <= c.version {
			p.committed = p.versions[done].slot
			done++
		}
		if p.versions = p.versions[done:]; len(p.versions) == 0 {
			delete(s.pending, c.state)
		}
	}
}

// Committed is the payload of a state as of the last commit.
func (s *Store) Committed(flow, name string) (payload []byte, ok bool) {
	i := s.names.stateID(name)
	s.mu.RLock()
	var own slot
	if p := s.pending[stateKey{flow, i.name}]; p != nil {
		own = p.committed
	} else {
		own = s.peek(flow, i)
	}
	s.mu.RUnlock()
	if own == "" {
		return nil, false
	}
	_, text := readState(own.body())
	return []byte(text), true
}
