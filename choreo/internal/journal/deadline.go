package journal

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// DeadlineStatus says how a deadline of a flow stands.
type DeadlineStatus uint8

// The numbers are part of the format: never change one, add at the end.
const (
	Pending DeadlineStatus = iota + 1 // set, and neither met nor fired
	Met                               // what it waits for was heard, maybe before it was set
	Fired                             // its time has passed, and its event was said
	deadlineStatuses
)

// String is the status as logs have it.
func (s DeadlineStatus) String() string {
	switch s {
	case Pending:
		return "pending"
	case Met:
		return "met"
	case Fired:
		return "fired"
	}
	return "unknown"
}

// Deadline is a deadline of a flow. Of one that is not pending only the status is
// kept.
type Deadline struct {
	Name   string
	Status DeadlineStatus
	// Set is when it was set, to the millisecond, and Within how long after that it
	// is due, in whole milliseconds.
	Set    time.Time
	Within time.Duration
	// After is the event that has set it, with what is told of it when it is due.
	After                   Event
	Hops                    int
	Time, Started           time.Time // zero: not known
	TraceParent, TraceState string
}

// Due is when a pending deadline fires.
func (d Deadline) Due() time.Time { return d.Set.Add(d.Within) }

// Bounds of what a value may hold: no later time than this, no longer wait than a
// time.Duration holds.
const (
	maxMillis = 1 << 48 // beyond the year 10,000
	maxWait   = 1 << 43
	maxHops   = 1 << 31
)

func (n *names) deadlineID(name string) id {
	number, ok := n.deadlines[name]
	if !ok || number.former {
		panic(fmt.Sprintf("journal: deadline %q is not declared", name))
	}
	return id{kind: kindDeadline, name: number.number}
}

// pendingDeadline reports whether a slot is a deadline that is pending.
func (s slot) pendingDeadline() bool {
	return kind(s[0]) == kindDeadline && DeadlineStatus(s.body().byte()) == Pending
}

// PutDeadline remembers how a deadline stands. It fails only with a
// *TooLargeError, and then nothing has changed; it panics for a deadline that is
// not declared or has no status.
func (s *Store) PutDeadline(flow string, d Deadline, at time.Time) (Change, error) {
	if d.Status == 0 || d.Status >= deadlineStatuses {
		panic(fmt.Sprintf("journal: deadline %q has no status", d.Name))
	}
	i := s.names.deadlineID(d.Name)
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.begin(flow, i, eventSize(&d.After)+len(d.TraceParent)+len(d.TraceState)+48)
	return s.finish(len(flow), i, len(b), appendDeadline(append(b, version), &d), at)
}

// Fired remembers that a deadline has fired. It is small, and takes the place of a
// pending one, so it never fails.
func (s *Store) Fired(flow, name string, at time.Time) Change {
	i := s.names.deadlineID(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.begin(flow, i, 2)
	c, _ := s.finish(len(flow), i, len(b), appendDeadline(append(b, version), &Deadline{Status: Fired}), at)
	return c
}

// Deadline is how a deadline of a flow stands; false: it was neither set nor met.
func (s *Store) Deadline(flow, name string) (Deadline, bool) {
	own, texts := s.slotOf(flow, s.names.deadlineID(name))
	if own == "" {
		return Deadline{}, false
	}
	return s.readDeadline(own, texts), true
}

// DeadlineStatus is the status of a deadline alone: 0 if it was neither set nor met.
func (s *Store) DeadlineStatus(flow, name string) DeadlineStatus {
	own, _ := s.slotOf(flow, s.names.deadlineID(name))
	if own == "" {
		return 0
	}
	return DeadlineStatus(own.body().byte())
}

// PendingOf are the pending deadlines of a flow, the one that is due first first.
func (s *Store) PendingOf(flow string) (all []Deadline) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if f := s.flows[flow]; f != nil {
		for _, own := range f.slots {
			if own.pendingDeadline() {
				all = append(all, s.readDeadline(own, s.table.texts))
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Deadline) int { return a.Due().Compare(b.Due()) })
	return all
}

// IsPending reports whether any deadline of a flow is pending.
func (s *Store) IsPending(flow string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	f := s.flows[flow]
	return f != nil && slices.ContainsFunc(f.slots, slot.pendingDeadline)
}

// EachPending calls do for every pending deadline of the task. The text of the
// flow is the Store's own.
func (s *Store) EachPending(do func(flow string, set time.Time, within time.Duration)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, f := range s.order {
		for _, own := range f.slots {
			if own.pendingDeadline() {
				r := own.body()
				r.byte()
				do(f.id, r.time(), r.wait())
			}
		}
	}
}

// Pending is how many deadlines are pending, by name; of names without any there
// is none.
func (s *Store) Pending() map[string]int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make(map[string]int, len(s.names.deadline))
	for number, n := range s.deadlines {
		if n > 0 {
			all[s.names.deadline[number]] = n
		}
	}
	return all
}

// Flow is the flow of a change, in the Store's own text: for whoever keeps it.
func (c Change) Flow() string { return c.flow }

// ReadDeadline is how a deadline stands by a record of the journal, for whoever has
// no Store. Of a pending one it has the times alone. ok is false for other records,
// and for what cannot be read.
func ReadDeadline(rec *kgo.Record) (flow string, d Deadline, ok bool) {
	flow, name, is := DeadlineSlot(rec)
	body, problem := checkVersion(rec.Value)
	if !is || problem != "" {
		return "", d, false
	}
	r := &reader[[]byte]{rest: body}
	d.Name, d.Status = name, DeadlineStatus(r.status(byte(deadlineStatuses)))
	if d.Status == Pending {
		d.Set, d.Within = r.time(), r.wait()
	}
	return flow, d, !r.bad
}

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, 0)
	}
	return binary.AppendUvarint(b, uint64(t.UnixNano())+1)
}

func appendDeadline(b []byte, d *Deadline) []byte {
	b = append(b, byte(d.Status))
	if d.Status != Pending {
		return b
	}
	b = binary.AppendUvarint(b, uint64(max(0, d.Set.UnixMilli())))
	b = binary.AppendUvarint(b, uint64(d.Within/time.Millisecond))
	b = appendEvent(b, &d.After)
	b = binary.AppendUvarint(b, uint64(d.Hops))
	b = appendTime(appendTime(b, d.Time), d.Started)
	return appendText(appendTraceParent(b, d.TraceParent), d.TraceState)
}

// A traceparent as W3C has it, 55 characters, is kept as the bytes that it spells;
// any other as text.
const (
	traceText  = 0
	traceBytes = 1
	traceSize  = 1 + 16 + 8 + 1
)

var traceParts = [...]int{1, 16, 8, 1}

func appendTraceParent(b []byte, s string) []byte {
	spelled := append(b, traceBytes)
	rest := s
	for k, n := range traceParts {
		part, after, more := strings.Cut(rest, "-")
		decoded, err := hex.DecodeString(part)
		if err != nil || len(decoded) != n || more == (k == len(traceParts)-1) || part != strings.ToLower(part) {
			return appendText(append(b, traceText), s)
		}
		spelled, rest = append(spelled, decoded...), after
	}
	return spelled
}

func copyTraceParent(b []byte, r *reader[[]byte]) []byte {
	switch how := r.byte(); how {
	case traceText:
		return copyPlain(append(b, how), r)
	case traceBytes:
		return append(append(b, how), r.take(traceSize)...)
	}
	r.fail()
	return b
}

func (r *reader[T]) traceParent() string {
	if r.byte() == traceText {
		return r.text(nil)
	}
	var b []byte
	for _, n := range traceParts {
		if len(b) > 0 {
			b = append(b, '-')
		}
		b = hex.AppendEncode(b, []byte(r.take(uint64(n))))
	}
	return string(b)
}

func copyDeadline(b []byte, r *reader[[]byte], t *table) []byte {
	status := r.status(byte(deadlineStatuses))
	if b = append(b, status); DeadlineStatus(status) != Pending {
		return b
	}
	b = binary.AppendUvarint(b, r.limit(maxMillis))
	b = binary.AppendUvarint(b, r.limit(maxWait))
	b = copyEvent(b, r, t)
	b = binary.AppendUvarint(b, r.limit(maxHops))
	b = binary.AppendUvarint(b, r.uvarint())
	b = binary.AppendUvarint(b, r.uvarint())
	return copyPlain(copyTraceParent(b, r), r)
}

func (r *reader[T]) wait() time.Duration { return time.Duration(r.uvarint()) * time.Millisecond }

func (r *reader[T]) instant() time.Time {
	n := r.uvarint()
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(n-1))
}

func (s *Store) readDeadline(own slot, texts []string) Deadline {
	r := own.body()
	d := Deadline{Name: s.names.name(own.id()), Status: DeadlineStatus(r.byte())}
	if d.Status != Pending {
		return d
	}
	d.Set, d.Within, d.After, d.Hops = r.time(), r.wait(), readEvent(r, texts), int(r.uvarint())
	d.Time, d.Started, d.TraceParent, d.TraceState = r.instant(), r.instant(), r.traceParent(), r.text(nil)
	return d
}
