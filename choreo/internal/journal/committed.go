package journal

// stateKey names one state of one flow.
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
	slot   slot // "" if this one deletes the state
}

// stage notes that a change, the last one of its state, is not yet committed.
func (s *Store) stage(c *Change) {
	key := stateKey{c.flow, c.id.name}
	p := s.pending[key]
	if p == nil {
		p = &pending{committed: c.before}
		s.pending[key] = p
	}
	s.versions++
	c.version = s.versions
	p.versions = append(p.versions, stateVersion{c.version, s.peek(c.flow, c.id)})
}

// unstage forgets a change, the last one of its state.
func (s *Store) unstage(c *Change) {
	key := stateKey{c.flow, c.id.name}
	p := s.pending[key]
	if c.version == 0 || p == nil {
		return
	}
	if p.versions = p.versions[:len(p.versions)-1]; len(p.versions) == 0 {
		delete(s.pending, key)
	}
}

// Commit says that the transaction of these changes has succeeded: Committed shows
// their states from now on. Changes that are no states are passed over.
func (s *Store) Commit(changes ...Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range changes {
		c := &changes[i]
		if c.version == 0 {
			continue
		}
		key := stateKey{c.flow, c.id.name}
		p := s.pending[key]
		if p == nil {
			continue
		}
		for len(p.versions) > 0 && p.versions[0].number <= c.version {
			p.committed = p.versions[0].slot
			p.versions = p.versions[1:]
		}
		if len(p.versions) == 0 {
			delete(s.pending, key)
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
