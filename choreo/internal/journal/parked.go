package journal

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Parked is an event in the queue of its key: its attempts have failed, or it
// waits behind one whose attempts have. The key is that of the scheduler, the
// flow for most events; it has the queue's slots as a flow has the others.
type Parked struct {
	// Seq is its place in the queue: the event with the lowest one is the head,
	// the only one that is tried. 0 is for Park to give it one.
	Seq uint64
	// At is the handler that has failed on it; "": none was tried since it is parked.
	At string
	// Done are the handlers that are through with it. Those of them which came
	// before At need no other record: a later version may order them otherwise.
	Done []string
	// Alone says that it is parked for At only.
	Alone bool
	// Answered says that its compensation has been answered already.
	Answered bool
	// Failed and Cancelled are what a replay has come to so far: a handler has
	// made another dead letter of it, or its step is cancelled.
	Failed, Cancelled bool
	// Record is the event as it was read: topic, partition, offset, timestamp to
	// the millisecond, key, headers, value.
	Record *kgo.Record
}

// Retry is how far the attempts on the head of a queue have come. It is a slot
// of its own, so that a failed attempt does not write the event again.
type Retry struct {
	Seq         uint64 // of the event
	Attempts    uint32
	Began, Next time.Time // the first attempt, and the next one, to the millisecond
	Undo        bool      // it is a compensation that fails
	Error       string
}

// Parking is how much of a task is parked.
type Parking struct {
	Events, Flows int
	Full          int            // flows that have Config.MaxParked of them, or more
	Undo          int            // flows whose head is a compensation that fails
	UndoSince     time.Time      // the first attempt of the compensation that has failed the longest; zero: none does
	Oldest        time.Time      // since when the event is parked that has been so the longest; zero: none is
	At            map[string]int // events by the handler at which they stand, "" for those that wait behind others
}

// firstSeq leaves as much room before the first event of a queue as behind it.
const firstSeq = 1 << 32

const (
	parkedAlone     = 1
	parkedAnswered  = 2
	parkedFailed    = 4
	parkedCancelled = 8
	retryUndo       = 1
)

func parkedID(seq uint64) id {
	i := id{kind: kindParked}
	binary.BigEndian.PutUint64(i.hash[:], seq)
	return i
}

func (i id) seq() uint64 { return binary.BigEndian.Uint64(i.hash[:]) }

// queue are the slots of a flow's parked events, in order.
func (f *flow) queue() []slot {
	from, _ := f.find(id{kind: kindParked})
	to, _ := f.find(id{kind: kindParked + 1})
	return f.slots[from:to]
}

// head is the first of them; there must be one.
func (f *flow) head() slot {
	place, _ := f.find(id{kind: kindParked})
	return f.slots[place]
}

// Waiting is how many events are parked under a key.
func (s *Store) Waiting(flow string) int {
	if s.parked.Load() == 0 {
		return 0 // the usual case, asked of every event
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.queues[s.flows[flow]]
}

// Parked is how many events of the task are parked.
func (s *Store) Parked() int { return int(s.parked.Load()) }

// Park puts an event into its key's queue: one without a place at the end, or
// before all others if it is parked alone; one that has a place stays there, and
// may grow beyond the limit for records by the names of handlers.
func (s *Store) Park(flow string, p Parked, at time.Time) (Change, error) {
	if present, ok := s.names.handler(p.At); !ok || present != p.At {
		panic(fmt.Sprintf("journal: handler %q is not declared", p.At))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.Seq == 0 {
		p.Seq = firstSeq
		if f := s.flows[flow]; f != nil {
			if q := f.queue(); len(q) > 0 && p.Alone {
				p.Seq = q[0].id().seq() - 1
			} else if len(q) > 0 {
				p.Seq = q[len(q)-1].id().seq() + 1
			}
		}
	}
	i := parkedID(p.Seq)
	b := s.begin(flow, i, parkedSize(&p))
	return s.finish(len(flow), i, len(b), appendParked(append(b, version), &p), at)
}

// Seq is the place of a parked event that was changed.
func (c Change) Seq() uint64 { return c.id.seq() }

// PutRetry remembers an attempt on the head of a queue. It is small whatever
// the event is, so it never fails.
func (s *Store) PutRetry(flow string, r Retry, at time.Time) Change {
	i := id{kind: kindRetry}
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.begin(flow, i, len(r.Error)+48)
	c, _ := s.finish(len(flow), i, len(b), appendRetry(append(b, version), &r), at)
	return c
}

// Head is the first event of a key's queue, and how far its attempts have come:
// the zero Retry if there were none.
func (s *Store) Head(flow string) (Parked, Retry, bool) {
	s.mu.RLock()
	f, texts := s.flows[flow], s.table.texts
	if s.queues[f] == 0 {
		s.mu.RUnlock()
		return Parked{}, Retry{}, false
	}
	head := f.head()
	retry, _ := s.retryOf(flow, head.id().seq())
	s.mu.RUnlock()
	return s.readParked(head, texts), retry, true
}

// retryOf is how far the attempts on the event at that place have come, if it is
// the one that is tried.
func (s *Store) retryOf(flow string, seq uint64) (Retry, bool) {
	if own := s.peek(flow, id{kind: kindRetry}); own != "" {
		if r := readRetry(own.body()); r.Seq == seq {
			return r, true
		}
	}
	return Retry{}, false
}

// Standing are the events of a key's queue that stand at a handler, in order.
func (s *Store) Standing(flow, handler string) (all []Parked) {
	if s.parked.Load() == 0 {
		return nil
	}
	s.mu.RLock()
	f, texts := s.flows[flow], s.table.texts
	var own []slot
	if s.queues[f] > 0 {
		for _, each := range f.queue() {
			if s.standsAt(each) == handler {
				own = append(own, each)
			}
		}
	}
	s.mu.RUnlock()
	for _, each := range own {
		all = append(all, s.readParked(each, texts))
	}
	return all
}

// Queue are all events of a key's queue, in order.
func (s *Store) Queue(flow string) (all []Parked) {
	if s.parked.Load() == 0 {
		return nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if f := s.flows[flow]; s.queues[f] > 0 {
		for _, own := range f.queue() {
			all = append(all, s.readParked(own, s.table.texts))
		}
	}
	return all
}

// Unpark takes an event out of its key's queue, and forgets its attempts.
func (s *Store) Unpark(flow string, seq uint64) []Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropRetry(s.drop(nil, flow, parkedID(seq)), flow, seq)
}

// DropRetry forgets the attempts on a parked event, so that it is due when it is
// the head of its queue. Those on another one are left.
func (s *Store) DropRetry(flow string, seq uint64) []Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropRetry(nil, flow, seq)
}

func (s *Store) dropRetry(changes []Change, flow string, seq uint64) []Change {
	if _, tried := s.retryOf(flow, seq); tried {
		changes = s.drop(changes, flow, id{kind: kindRetry})
	}
	return changes
}

// drop deletes a slot, if it is there.
func (s *Store) drop(changes []Change, flow string, i id) []Change {
	own := s.peek(flow, i)
	if own == "" {
		return changes
	}
	return append(changes, s.take(s.flows[flow], own))
}

// Heads calls do for every key that has a queue, with the handler at which its
// head stands, how many events wait behind that, and the time of its next attempt:
// zero if none was made.
func (s *Store) Heads(do func(flow, at string, behind int, next time.Time)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for f, n := range s.queues {
		head := f.head()
		retry, _ := s.retryOf(f.id, head.id().seq())
		do(f.id, s.standsAt(head), n-1, retry.Next)
	}
}

// Parking tells how much is parked, at once however much that is.
func (s *Store) Parking() Parking {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p := Parking{Events: s.Parked(), Flows: len(s.queues), Full: s.full, Undo: s.undo, At: maps.Clone(s.standing)}
	if len(s.parkedAt) > 0 {
		p.Oldest = time.Unix(int64(s.parkedAt[0].second), 0)
	}
	if len(s.undoSince) > 0 {
		p.UndoSince = time.Unix(int64(s.undoSince[0].second), 0)
	}
	return p
}

// mayExceed reports whether a slot is written whatever its size: it is small, or
// it is there already and grows by little.
func (s *Store) mayExceed(flow string, i id) bool {
	return i.kind == kindRetry || (i.kind == kindParked || i.kind == kindDeadline) && s.peek(flow, i) != ""
}

// count notes that a slot has come (1) or goes (-1).
func (s *Store) count(f *flow, own slot, n int) {
	switch kind(own[0]) {
	case kindParked:
		s.parked.Add(int64(n))
		if before := s.queues[f]; before == s.maxParked-1 && n > 0 {
			s.full++
		} else if before == s.maxParked && n < 0 {
			s.full--
		}
		addTo(s.queues, f, n)
		addTo(s.standing, s.standsAt(own), n)
		s.parkedAt.add(own.at(), n)
	case kindRetry:
		if r := own.body(); r.byte()&retryUndo != 0 {
			s.undo += n
			_, _ = r.uvarint(), r.uvarint() // which event, and how many attempts
			s.undoSince.add(seconds(r.time()), n)
		}
	case kindDeadline:
		if own.pendingDeadline() {
			s.deadlines[own.id().name] += n
		}
	case kindJoin:
		if own.waitingJoin() {
			s.joins[own.id().name].add(own.heard(), n)
		}
	}
}

func addTo[K comparable](counts map[K]int, key K, n int) {
	if counts[key] += n; counts[key] == 0 {
		delete(counts, key)
	}
}

// secondCounts is how much has happened in each second, the earliest first.
type secondCounts []secondCount

type secondCount struct {
	second uint32 // Unix
	n      int
}

func (c *secondCounts) add(second uint32, n int) {
	i, found := slices.BinarySearchFunc(*c, second, func(x secondCount, second uint32) int { return cmp.Compare(x.second, second) })
	if !found {
		*c = slices.Insert(*c, i, secondCount{second: second})
	}
	if (*c)[i].n += n; (*c)[i].n == 0 {
		*c = slices.Delete(*c, i, i+1)
	}
}

// standsAt is the present name of the handler at which a parked event stands.
func (s *Store) standsAt(own slot) string {
	body := own.body()
	body.byte()
	present, _ := s.names.handler(body.text(s.table.texts))
	return present
}

// handler is the present name of a step or reaction. The handler without a name
// is known: it is none.
func (n *names) handler(name string) (present string, ok bool) {
	if step, ok := n.steps[name]; ok {
		return n.step[step.number], true
	}
	return name, name == "" || n.reactions[name]
}

// unknownHandler is the handler at which a parked event stands, by its record's
// value, if the service declares no such handler. What else may be wrong with
// the value, fold will find.
func (n *names) unknownHandler(value []byte) (name string, unknown bool) {
	body, problem := checkVersion(value)
	if problem != "" {
		return "", false
	}
	r := reader[[]byte]{rest: body}
	r.byte()
	length := r.uvarint()
	name = string(r.take(length >> 1))
	_, known := n.handler(name)
	return name, !known && length&1 == 0 && !r.bad
}

func parkedSize(p *Parked) int {
	n := 64 + len(p.At) + len(p.Record.Topic) + len(p.Record.Key) + len(p.Record.Value)
	for _, done := range p.Done {
		n += len(done) + 2
	}
	for i := range p.Record.Headers {
		n += len(p.Record.Headers[i].Key) + len(p.Record.Headers[i].Value) + 6
	}
	return n
}

// appendBytes keeps nil apart from empty.
func appendBytes(b, data []byte) []byte {
	if data == nil {
		return append(b, 0)
	}
	return append(binary.AppendUvarint(b, uint64(len(data))+1), data...)
}

func appendParked(b []byte, p *Parked) []byte {
	b = append(b, flag(p.Alone)*parkedAlone|flag(p.Answered)*parkedAnswered|flag(p.Failed)*parkedFailed|flag(p.Cancelled)*parkedCancelled)
	b = appendText(b, p.At)
	b = binary.AppendUvarint(b, uint64(len(p.Done)))
	for _, done := range p.Done {
		b = appendText(b, done)
	}
	rec := p.Record
	b = appendText(b, rec.Topic)
	b = binary.AppendUvarint(b, uint64(uint32(rec.Partition)))
	b = binary.AppendUvarint(b, uint64(rec.Offset))
	b = binary.AppendUvarint(b, uint64(rec.Timestamp.UnixMilli()))
	b = binary.AppendUvarint(b, uint64(len(rec.Headers)))
	for i := range rec.Headers {
		b = appendText(b, rec.Headers[i].Key)
		b = appendBytes(b, rec.Headers[i].Value)
	}
	b = appendBytes(b, rec.Key)
	return appendBytes(b, rec.Value)
}

func appendRetry(b []byte, r *Retry) []byte {
	b = append(b, flag(r.Undo)*retryUndo)
	b = binary.AppendUvarint(b, r.Seq)
	b = binary.AppendUvarint(b, uint64(r.Attempts))
	b = binary.AppendUvarint(b, uint64(r.Began.UnixMilli()))
	b = binary.AppendUvarint(b, uint64(r.Next.UnixMilli()))
	return appendText(b, r.Error)
}

// flags reads a byte of which only the lowest bits may be set.
func (r *reader[T]) flags(most byte) byte {
	b := r.byte()
	if b > most {
		r.fail()
	}
	return b
}

func copyBytes(b []byte, r *reader[[]byte]) []byte {
	n := r.uvarint()
	if b = binary.AppendUvarint(b, n); n == 0 {
		return b
	}
	return append(b, r.take(n-1)...)
}

func copyParked(b []byte, r *reader[[]byte], t *table) []byte {
	b = append(b, r.flags(parkedAlone|parkedAnswered|parkedFailed|parkedCancelled))
	b = copyText(b, r, t)
	n := r.limit(uint64(len(r.rest)))
	b = binary.AppendUvarint(b, n)
	for ; n > 0 && !r.bad; n-- {
		b = copyText(b, r, t)
	}
	b = copyText(b, r, t)
	b = binary.AppendUvarint(b, r.limit(1<<31-1))
	b = binary.AppendUvarint(b, r.limit(1<<63-1))
	b = binary.AppendUvarint(b, r.uvarint())
	n = r.limit(uint64(len(r.rest)))
	b = binary.AppendUvarint(b, n)
	for ; n > 0 && !r.bad; n-- {
		b = copyBytes(copyText(b, r, t), r)
	}
	return copyBytes(copyBytes(b, r), r)
}

func copyRetry(b []byte, r *reader[[]byte]) []byte {
	b = append(b, r.flags(retryUndo))
	b = binary.AppendUvarint(b, r.uvarint())
	b = binary.AppendUvarint(b, r.limit(1<<32-1))
	b = binary.AppendUvarint(b, r.uvarint())
	b = binary.AppendUvarint(b, r.uvarint())
	return copyPlain(b, r)
}

func (r *reader[T]) bytes() []byte {
	n := r.uvarint()
	if n == 0 {
		return nil
	}
	return append([]byte{}, r.take(n-1)...)
}

func (r *reader[T]) time() time.Time { return time.UnixMilli(int64(r.uvarint())) }

func (s *Store) readParked(own slot, texts []string) Parked {
	r := own.body()
	flags := r.byte()
	p := Parked{
		Seq: own.id().seq(), Alone: flags&parkedAlone != 0, Answered: flags&parkedAnswered != 0,
		Failed: flags&parkedFailed != 0, Cancelled: flags&parkedCancelled != 0,
	}
	p.At, _ = s.names.handler(r.text(texts))
	if n := r.uvarint(); n > 0 {
		p.Done = make([]string, n)
	}
	for i := range p.Done {
		p.Done[i], _ = s.names.handler(r.text(texts))
	}
	p.Record = &kgo.Record{Topic: r.text(texts), Partition: int32(r.uvarint()), Offset: int64(r.uvarint()), Timestamp: r.time()}
	if n := r.uvarint(); n > 0 {
		p.Record.Headers = make([]kgo.RecordHeader, n)
	}
	for i := range p.Record.Headers {
		p.Record.Headers[i] = kgo.RecordHeader{Key: r.text(texts), Value: r.bytes()}
	}
	p.Record.Key, p.Record.Value = r.bytes(), r.bytes()
	return p
}

func readRetry(r *reader[string]) Retry {
	return Retry{
		Undo: r.byte()&retryUndo != 0, Seq: r.uvarint(), Attempts: uint32(r.uvarint()),
		Began: r.time(), Next: r.time(), Error: r.text(nil),
	}
}
