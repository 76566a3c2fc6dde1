package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// JoinStatus says how far a step that joins events has come in a flow.
type JoinStatus uint8

// The numbers are part of the format: never change one, add at the end.
const (
	JoinWaiting   JoinStatus = iota + 1 // some halves have come
	JoinDone                            // the step has run, or will on no other events
	JoinCancelled                       // the step was cancelled before it ran
	joinStatuses
)

// String is the status as logs have it.
func (s JoinStatus) String() string {
	switch s {
	case JoinWaiting:
		return "waiting"
	case JoinDone:
		return "done"
	case JoinCancelled:
		return "cancelled"
	}
	return "unknown"
}

// Join is what a step has heard of the events that it joins, of one flow, in the
// order in which they came.
type Join struct {
	Step   string
	Status JoinStatus
	Halves []Half
}

// Half is one of the events that a step joins. Its data is nil if nothing needs it
// any more.
type Half struct {
	Event
	Topic                   string // where it was read
	Partition               int32
	Offset                  int64
	Heard                   time.Time // to the millisecond
	Hops                    int
	Time, Started           time.Time // zero: not known
	TraceParent, TraceState string
}

// Hash names the half among events.
func (h Half) Hash() Hash { return HashOf(h.Source, h.ID) }

// Hash names the run on the halves, in whatever order they came: SHA-256 over their
// sorted hashes.
func (j Join) Hash() Hash {
	all := make([]Hash, len(j.Halves))
	for i, h := range j.Halves {
		all[i] = h.Hash()
	}
	slices.SortFunc(all, func(a, b Hash) int { return bytes.Compare(a[:], b[:]) })
	b := make([]byte, 0, len(all)*len(Hash{}))
	for _, h := range all {
		b = append(b, h[:]...)
	}
	sum := sha256.Sum256(b)
	return Hash(sum[:])
}

// Find is the place of an event among the halves, -1 if it is none of them.
func (j Join) Find(event Hash) int {
	return slices.IndexFunc(j.Halves, func(h Half) bool { return h.Hash() == event })
}

// waitingJoin reports whether a slot is a join of which halves are missing.
func (s slot) waitingJoin() bool {
	return kind(s[0]) == kindJoin && JoinStatus(s.body().byte()) == JoinWaiting
}

// heard is the second in which the first half of a join came.
func (s slot) heard() uint32 {
	r := s.body()
	r.byte()
	return seconds(r.time())
}

// PutJoin remembers how a join stands. It fails only with a *TooLargeError, and
// then nothing has changed; it panics for a step that is not declared, a join
// without status and one without halves.
func (s *Store) PutJoin(flow string, j Join, at time.Time) (Change, error) {
	if j.Status == 0 || j.Status >= joinStatuses || len(j.Halves) == 0 {
		panic(fmt.Sprintf("journal: the join of step %q has no status, or no halves", j.Step))
	}
	i := s.names.stepID(kindJoin, j.Step, Hash{})
	size := 16
	for k := range j.Halves {
		h := &j.Halves[k]
		size += eventSize(&h.Event) + len(h.Topic) + len(h.TraceParent) + len(h.TraceState) + 48
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.begin(flow, i, size)
	return s.finish(len(flow), i, len(b), appendJoin(append(b, version), &j), at)
}

// Join is what a step has heard of what it joins; false: nothing.
func (s *Store) Join(flow, step string) (Join, bool) {
	own, texts := s.slotOf(flow, s.names.stepID(kindJoin, step, Hash{}))
	if own == "" {
		return Join{}, false
	}
	return s.readJoin(own, texts), true
}

// JoinsOf are the steps whose joins wait in a flow, unless the flow is known to
// have ended.
func (s *Store) JoinsOf(flow string) (steps []string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	f := s.flows[flow]
	if f == nil || f.ended > 0 {
		return nil
	}
	for _, own := range f.slots {
		if own.waitingJoin() {
			steps = append(steps, s.names.name(own.id()))
		}
	}
	return steps
}

// EachJoin calls do for every join of the task that waits.
func (s *Store) EachJoin(do func(flow string, j Join)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, f := range s.order {
		for _, own := range f.slots {
			if own.waitingJoin() {
				do(f.id, s.readJoin(own, s.table.texts))
			}
		}
	}
}

// Joining is how many joins of a step wait, and since when the first half of that
// which waits the longest is there.
type Joining struct {
	Flows int
	Since time.Time
}

// Joining is how many joins wait, by step; of steps without any there is none.
func (s *Store) Joining() map[string]Joining {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := map[string]Joining{}
	for number, counts := range s.joins {
		if len(counts) == 0 {
			continue
		}
		x := Joining{Since: time.Unix(int64(counts[0].second), 0)}
		for _, c := range counts {
			x.Flows += c.n
		}
		all[s.names.step[number]] = x
	}
	return all
}

// ReadJoin is how a join stands by a record of the journal, for whoever has no
// Store: its step, its status, and when its first half came. ok is false for other
// records, and for what cannot be read.
func ReadJoin(rec *kgo.Record) (flow, step string, status JoinStatus, since time.Time, ok bool) {
	flow, step, is := JoinSlot(rec)
	body, problem := checkVersion(rec.Value)
	if !is || problem != "" {
		return "", "", 0, time.Time{}, false
	}
	r := &reader[[]byte]{rest: body}
	status, since = JoinStatus(r.status(byte(joinStatuses))), r.time()
	return flow, step, status, since, !r.bad
}

// appendJoin writes first when the first half came, then the halves.
func appendJoin(b []byte, j *Join) []byte {
	b = append(b, byte(j.Status))
	first := j.Halves[0].Heard
	for _, h := range j.Halves {
		if h.Heard.Before(first) {
			first = h.Heard
		}
	}
	b = binary.AppendUvarint(b, uint64(max(0, first.UnixMilli())))
	b = binary.AppendUvarint(b, uint64(len(j.Halves)))
	for k := range j.Halves {
		h := &j.Halves[k]
		b = appendText(appendEvent(b, &h.Event), h.Topic)
		b = binary.AppendUvarint(b, uint64(uint32(h.Partition)))
		b = binary.AppendUvarint(b, uint64(h.Offset))
		b = binary.AppendUvarint(b, uint64(max(0, h.Heard.UnixMilli())))
		b = binary.AppendUvarint(b, uint64(h.Hops))
		b = appendTime(appendTime(b, h.Time), h.Started)
		b = appendText(appendTraceParent(b, h.TraceParent), h.TraceState)
	}
	return b
}

func copyJoin(b []byte, r *reader[[]byte], t *table) []byte {
	b = append(b, r.status(byte(joinStatuses)))
	b = binary.AppendUvarint(b, r.limit(maxMillis))
	n := r.limit(uint64(len(r.rest)))
	if n == 0 {
		r.fail()
	}
	b = binary.AppendUvarint(b, n)
	for ; n > 0 && !r.bad; n-- {
		b = copyText(copyEvent(b, r, t), r, t)
		b = binary.AppendUvarint(b, r.limit(1<<31-1))
		b = binary.AppendUvarint(b, r.limit(1<<63-1))
		b = binary.AppendUvarint(b, r.limit(maxMillis))
		b = binary.AppendUvarint(b, r.limit(maxHops))
		b = binary.AppendUvarint(b, r.uvarint())
		b = binary.AppendUvarint(b, r.uvarint())
		b = copyPlain(copyTraceParent(b, r), r)
	}
	return b
}

func (s *Store) readJoin(own slot, texts []string) Join {
	r := own.body()
	j := Join{Step: s.names.name(own.id()), Status: JoinStatus(r.byte())}
	r.time()
	j.Halves = make([]Half, r.uvarint())
	for k := range j.Halves {
		j.Halves[k] = Half{
			Event: readEvent(r, texts), Topic: r.text(texts), Partition: int32(r.uvarint()), Offset: int64(r.uvarint()), Heard: r.time(), Hops: int(r.uvarint()), Time: r.instant(), Started: r.instant(),
			TraceParent: r.traceParent(), TraceState: r.text(nil),
		}
	}
	return j
}
