package journal

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"
)

// slotOf finds one slot; "" if there is none. The texts are for reading its body.
func (s *Store) slotOf(flowID string, i id) (slot, []string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.peek(flowID, i), s.table.texts
}

func (s *Store) peek(flowID string, i id) slot {
	if f := s.flows[flowID]; f != nil {
		if place, found := f.find(i); found {
			return f.slots[place]
		}
	}
	return ""
}

// Known reports whether anything is remembered of a flow. A compensation for an unknown
// one comes too late, or for a flow that never was here.
func (s *Store) Known(flow string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.flows[flow] != nil
}

// Run is the run of a step by the event with that hash.
func (s *Store) Run(flow, step string, event Hash) (Run, bool) {
	own, texts := s.slotOf(flow, s.names.stepID(kindRun, step, event))
	if own == "" {
		return Run{}, false
	}
	return s.readRun(own, texts), true
}

func (s *Store) readRun(own slot, texts []string) Run {
	i := own.id()
	run := readRun(own.body(), texts)
	run.Step, run.Hash, run.At = s.names.name(i), i.hash, time.Unix(int64(own.at()), 0)
	return run
}

// Runs are all runs of a step in a flow, the newest first.
func (s *Store) Runs(flow, step string) []Run {
	prefix := s.names.stepID(kindRun, step, Hash{})
	s.mu.RLock()
	var own []slot
	texts := s.table.texts
	if f := s.flows[flow]; f != nil {
		place, _ := f.find(prefix)
		for _, each := range f.slots[place:] {
			if i := each.id(); i.kind != prefix.kind || i.name != prefix.name {
				break
			}
			own = append(own, each)
		}
	}
	s.mu.RUnlock()
	if len(own) == 0 {
		return nil
	}
	runs := make([]Run, len(own))
	for k, each := range own {
		runs[k] = s.readRun(each, texts)
	}
	slices.SortStableFunc(runs, func(a, b Run) int { return cmp.Compare(b.Seq, a.Seq) })
	return runs
}

// Cancelled is whether and by what a step of a flow was cancelled.
func (s *Store) Cancelled(flow, step string) (Cancelled, bool) {
	own, texts := s.slotOf(flow, s.names.stepID(kindCancelled, step, Hash{}))
	if own == "" {
		return Cancelled{}, false
	}
	c := readCancelled(own.body(), texts)
	c.Step = step
	return c, true
}

// State is the state of a flow as handlers see it: the last put, committed or not yet.
func (s *Store) State(flow, name string) (State, bool) {
	own, _ := s.slotOf(flow, s.names.stateID(name))
	if own == "" {
		return State{}, false
	}
	applied, payload := readState(own.body())
	state := State{Payload: []byte(payload), Changed: time.Unix(int64(own.at()), 0)}
	for ; applied != ""; applied = applied[len(Hash{}):] {
		state.Applied = append(state.Applied, Hash([]byte(applied[:len(Hash{})])))
	}
	return state, true
}

// Applied reports whether an event has changed the state of a flow already.
func (s *Store) Applied(flow, name string, event Hash) bool {
	own, _ := s.slotOf(flow, s.names.stateID(name))
	if own == "" {
		return false
	}
	applied, _ := readState(own.body())
	return indexHash(applied, event, len(event)) >= 0
}

// Seen is the hash of the data that came with an event seen before.
func (s *Store) Seen(flow string, event Hash) (data uint64, ok bool) {
	own, _ := s.slotOf(flow, id{kind: kindSeen})
	if own == "" {
		return 0, false
	}
	entries := own.body().rest
	at := indexHash(entries, event, seenSize)
	if at < 0 {
		return 0, false
	}
	return binary.BigEndian.Uint64([]byte(entries[at+len(event) : at+seenSize])), true
}

// indexHash finds the entry that begins with a hash among entries of one size.
func indexHash(entries string, hash Hash, size int) int {
	for at := 0; at < len(entries); at += size {
		if entries[at:at+len(hash)] == string(hash[:]) {
			return at
		}
	}
	return -1
}

// Begun is the topic id under which an input's partition was begun.
func (s *Store) Begun(topic string, partition int32) (TopicID, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	id, ok := s.inputs[input{topic, partition}]
	return id, ok
}

// PutRun remembers a run. One that exists keeps its place in the order of the flow. Like
// every Put it fails only with a *TooLargeError, and then nothing has changed; it panics
// for a step or state that is not declared and for a run without status.
func (s *Store) PutRun(flow string, run Run, at time.Time) (Change, error) {
	i := s.names.stepID(kindRun, run.Step, run.Hash)
	if run.Status == 0 || run.Status >= statuses {
		panic(fmt.Sprintf("journal: a run of step %q has no status", run.Step))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if own := s.peek(flow, i); own != "" {
		body := own.body()
		body.byte()
		run.Seq = body.uvarint()
	} else {
		run.Seq = min(s.seq+1, maxSeq)
	}
	b := s.begin(flow, i, runSize(&run))
	return s.finish(len(flow), i, len(b), appendRun(append(b, version), &run), at)
}

// PutCancelled adds triggers to those that cancelled a step. One that is known already,
// by its hash, is replaced.
func (s *Store) PutCancelled(flow string, c Cancelled, at time.Time) (Change, error) {
	i := s.names.stepID(kindCancelled, c.Step, Hash{})
	s.mu.Lock()
	defer s.mu.Unlock()
	all := Cancelled{Step: c.Step}
	if own := s.peek(flow, i); own != "" {
		all = readCancelled(own.body(), s.table.texts)
	}
	for _, by := range c.By {
		if k := slices.IndexFunc(all.By, func(known Trigger) bool { return known.Hash == by.Hash }); k >= 0 {
			all.By[k] = by
		} else {
			all.By = append(all.By, by)
		}
	}
	b := s.begin(flow, i, 80*len(all.By))
	return s.finish(len(flow), i, len(b), appendCancelled(append(b, version), &all), at)
}

// PutSeen adds an event, and the hash of its data, to those seen; again: replaces the latter.
func (s *Store) PutSeen(flow string, event Hash, data uint64, at time.Time) (Change, error) {
	i := id{kind: kindSeen}
	s.mu.Lock()
	defer s.mu.Unlock()
	entries := ""
	if own := s.peek(flow, i); own != "" {
		entries = own.body().rest
	}
	b := s.begin(flow, i, len(entries)+seenSize)
	key := len(b)
	b = append(append(b, version), entries...)
	place := indexHash(entries, event, seenSize)
	if place < 0 {
		place = len(entries)
		b = append(append(b, event[:]...), 0, 0, 0, 0, 0, 0, 0, 0)
	}
	binary.BigEndian.PutUint64(b[key+1+place+len(event):], data)
	return s.finish(len(flow), i, key, b, at)
}

// PutState remembers a state and that an event has made it so. Get sees it from Commit on.
func (s *Store) PutState(flow, name string, payload []byte, event Hash, at time.Time) (Change, error) {
	i := s.names.stateID(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	applied := ""
	if own := s.peek(flow, i); own != "" {
		applied, _ = readState(own.body())
	}
	n := len(applied) / len(event)
	known := indexHash(applied, event, len(event)) >= 0
	if !known {
		n++
	}
	b := s.begin(flow, i, len(applied)+len(event)+len(payload)+8)
	key := len(b)
	b = binary.AppendUvarint(append(b, version), uint64(n))
	b = append(b, applied...)
	if !known {
		b = append(b, event[:]...)
	}
	change, err := s.finish(len(flow), i, key, append(b, payload...), at)
	if err == nil {
		s.stage(&change)
	}
	return change, err
}

// PutBegun remembers that an input's partition was begun, and the id of its topic.
func (s *Store) PutBegun(topic string, partition int32, id TopicID) Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := appendInputKey(make([]byte, 0, len(topic)+48), topic, partition)
	key := len(b)
	b = append(append(b, version), id[:]...)
	s.inputs[input{strings.Clone(topic), partition}] = id
	return Change{Key: b[:key:key], Value: b[key:]}
}

func (s *Store) foldInput(flowID []byte, name string, value []byte) (problem string) {
	topic, partition, ok := parseInput(name)
	if value == nil {
		delete(s.inputs, input{topic, partition})
		return ""
	}
	if !ok || len(flowID) > 0 {
		return "its slot names no input"
	}
	body, problem := checkVersion(value)
	if problem != "" {
		return problem
	}
	if len(body) != len(TopicID{}) {
		return "the value is damaged"
	}
	s.inputs[input{topic, partition}] = TopicID(body)
	return ""
}

// begin makes the key of a slot in a buffer with room for a value of about that size.
func (s *Store) begin(flow string, i id, room int) []byte {
	name := s.names.name(i)
	b := make([]byte, 0, len(flow)+len(name)+40+room)
	b = append(append(b, flow...), 0)
	return appendSlotName(b, i, name)
}

// finish folds the value that follows the key, and makes the change of both. A record
// over the limit changes nothing.
func (s *Store) finish(flow int, i id, key int, b []byte, at time.Time) (Change, error) {
	if len(b) > s.maxRecord && !s.mayExceed(string(b[:flow]), i) {
		return Change{}, &TooLargeError{Flow: string(b[:flow]), Slot: string(b[flow+1 : key]), Size: len(b), Limit: s.maxRecord}
	}
	f, before, problem := s.fold(b[:flow], i, false, seconds(at), b[key:])
	if problem != "" {
		panic("journal: " + problem) // what this package encodes it can decode
	}
	return Change{Key: b[:key:key], Value: b[key:], flow: f.id, id: i, before: before}, nil
}

// Revert takes back changes of one flow that are not going to be written, all that
// were made since the first of them, in the order they were made: for an event whose
// results turn out to be impossible. PutBegun cannot be taken back.
func (s *Store) Revert(changes ...Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := len(changes) - 1; k >= 0; k-- {
		c := &changes[k]
		if c.id.kind == 0 {
			continue
		}
		s.unstage(c)
		f := s.flows[c.flow]
		switch {
		case c.before != "":
			if f == nil {
				f = s.add(c.flow)
			}
			place, found := f.find(c.id)
			s.set(f, place, found, c.before)
		case f != nil:
			s.remove(f, c.id)
		}
	}
}
