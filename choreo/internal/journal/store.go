package journal

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// What a zero Config means.
const (
	DefaultRetain    = 24 * time.Hour
	DefaultGrace     = 5 * time.Minute
	DefaultMaxRecord = 1_000_000 // below the 1 MiB that brokers and topics allow by default
)

// Config is what a Store must know of its service.
type Config struct {
	// Steps and States are the names that the service declares; States with how long
	// each is retained after its flow's last change (0: Retain). Names hold no NUL.
	Steps  []string
	States map[string]time.Duration
	// Deadlines are the names of the deadlines that the service declares.
	Deadlines []string
	// Reactions are the names of further handlers at which an event may be parked.
	Reactions []string
	// Formerly leads from earlier names of steps and deadlines to the present ones.
	Formerly map[string]string
	// Common are texts that many events share: types, sources, content types. They are
	// kept once. The Store finds more by itself, but a bounded number.
	Common []string
	// Retain is how long a flow is kept after its last change, Grace how long when it has
	// ended. 0 means DefaultRetain and DefaultGrace.
	Retain, Grace time.Duration
	// MaxParked is how many events a queue may have before it counts as full. 0 means
	// that none ever does.
	MaxParked int
	// MaxRecord is the most bytes that key and value of a record may have together: one
	// that the broker refuses would fail its transaction again and again. 0 means DefaultMaxRecord.
	MaxRecord int
}

// Store is the memory of one task. All methods may be called concurrently; what
// belongs to one flow (reading, deciding, putting) is not one step, so the caller keeps
// the events of one flow in order. Commit of one flow's changes in the order they were put.
type Store struct {
	mu        sync.RWMutex
	names     names
	retain    time.Duration
	grace     time.Duration
	maxRecord int
	maxParked int
	table     table
	flows     map[string]*flow
	order     []*flow // for the walk of Expirable
	walk      int
	inputs    map[input]TopicID
	pending   map[stateKey]*pending
	versions  uint64
	seq       uint64 // the highest run number
	slots     int
	bytes     int64
	faults    map[string]fault
	scratch   []byte

	parked   atomic.Int64   // events
	queues   map[*flow]int  // how many of them each flow has
	standing map[string]int // how many stand at a handler
	parkedAt secondCounts   // how many were put when
	full     int            // flows that have maxParked of them, or more
	undo     int            // flows whose head is a compensation that fails

	undoSince secondCounts // how many of those have begun to fail when

	deadlines []int          // that are pending, by number
	joins     []secondCounts // that wait, by number of the step: how many first halves came when
}

// flow is what a task remembers of one flow. It has at least one slot.
type flow struct {
	id    string
	slots []slot // sorted by id
	ended uint32 // Unix seconds, 0: not known to have ended
	place uint32 // in Store.order
}

// TopicID is Kafka's id of a topic.
type TopicID [16]byte

type input struct {
	topic     string
	partition int32
}

// Change is one record to write: with the results of the event that made it, in
// their transaction. A nil Value deletes the slot.
type Change struct {
	Key, Value []byte
	flow       string
	id         id
	before     slot   // what the slot was; "" if there was none
	version    uint64 // 0: not a state
}

// Record makes the record of a change. The time must be the one given with the change.
func (c Change) Record(topic string, partition int32, at time.Time) *kgo.Record {
	return &kgo.Record{Topic: topic, Partition: partition, Key: c.Key, Value: c.Value, Timestamp: at}
}

// New makes an empty Store: restore it by Apply and Restored, or use it as it is for a
// task that has no journal yet.
func New(c Config) *Store {
	s := &Store{
		names:     newNames(c),
		retain:    c.Retain,
		grace:     c.Grace,
		maxRecord: c.MaxRecord,
		maxParked: c.MaxParked,
		table:     newTable(c.Common),
		flows:     make(map[string]*flow),
		inputs:    make(map[input]TopicID),
		pending:   make(map[stateKey]*pending),
		faults:    make(map[string]fault),
		queues:    make(map[*flow]int),
		standing:  make(map[string]int),
	}
	s.deadlines = make([]int, len(s.names.deadline))
	s.joins = make([]secondCounts, len(s.names.step))
	if s.retain == 0 {
		s.retain = DefaultRetain
	}
	if s.grace == 0 {
		s.grace = DefaultGrace
	}
	if s.maxRecord == 0 {
		s.maxRecord = DefaultMaxRecord
	}
	return s
}

// fault is a record that could not be read and is the last one of its key so far.
type fault struct {
	offset int64
	err    error
}

// Apply folds one committed record of the journal's partition, in the order of
// offsets. What it cannot read it keeps as a fault until a later record of the same key
// replaces it, so that the outcome does not depend on what compaction has already removed.
// Restored tells. The record is not kept.
func (s *Store) Apply(rec *kgo.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.apply(rec)
	if err == nil {
		if len(s.faults) > 0 {
			delete(s.faults, string(rec.Key))
		}
		return
	}
	s.faults[string(rec.Key)] = fault{offset: rec.Offset, err: err}
}

// Restored is called when the last record was applied: nil, or a *RestoreError with a
// *FormatError, *UnknownSlotError or *UnknownNameError for slots that this service
// cannot read. The task must not run then: what the slots say would be lost.
func (s *Store) Restored() error {
	const most = 10
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.faults) == 0 {
		return nil
	}
	sorted := slices.SortedFunc(maps.Values(s.faults), func(a, b fault) int { return cmp.Compare(a.offset, b.offset) })
	e := &RestoreError{Total: len(sorted)}
	for _, f := range sorted[:min(most, len(sorted))] {
		e.Faults = append(e.Faults, f.err)
	}
	return e
}

// errors of apply that Apply's caller sees with their place.
var (
	errSlot = errors.New("unknown slot")
	errName = errors.New("unknown name")
)

func (s *Store) apply(rec *kgo.Record) error {
	cut := bytes.LastIndexByte(rec.Key, 0)
	if cut < 0 {
		if rec.Value == nil {
			return nil
		}
		return &FormatError{Place: Place{Slot: string(rec.Key), Partition: rec.Partition, Offset: rec.Offset}, Problem: "its key names no slot"}
	}
	flowID, name := rec.Key[:cut], rec.Key[cut+1:]
	where := func() Place {
		return Place{Flow: string(flowID), Slot: string(name), Partition: rec.Partition, Offset: rec.Offset}
	}
	if rest, ok := bytes.CutPrefix(name, []byte(wordInput)); ok {
		if problem := s.foldInput(flowID, string(rest), rec.Value); problem != "" {
			return &FormatError{Place: where(), Problem: problem}
		}
		return nil
	}
	i, renamed, err := s.names.parse(name)
	switch {
	case err == nil:
	case rec.Value == nil:
		return nil // deleted, so that nothing is lost
	case errors.Is(err, errSlot):
		return &UnknownSlotError{Place: where()}
	case errors.Is(err, errName):
		kind, rest, _ := strings.Cut(string(name), "/")
		switch kind {
		case "state", "deadline":
		default:
			if kind == "run" {
				rest = rest[:strings.LastIndexByte(rest, '/')]
			}
			kind = "step"
		}
		return &UnknownNameError{Place: where(), Kind: kind, Name: rest}
	default:
		return &FormatError{Place: where(), Problem: err.Error()}
	}
	if i.kind == kindParked && rec.Value != nil {
		if handler, unknown := s.names.unknownHandler(rec.Value); unknown {
			return &UnknownNameError{Place: where(), Kind: "handler", Name: handler}
		}
	}
	if rec.Value == nil {
		if f := s.flows[string(flowID)]; f != nil {
			s.remove(f, i)
		}
		return nil
	}
	if _, _, problem := s.fold(flowID, i, renamed, seconds(rec.Timestamp), rec.Value); problem != "" {
		return &FormatError{Place: where(), Problem: problem}
	}
	return nil
}

// seconds is the time as slots hold it.
func seconds(t time.Time) uint32 {
	return uint32(min(max(t.Unix(), 0), math.MaxUint32))
}

// checkVersion takes the version off a value.
func checkVersion(value []byte) (body []byte, problem string) {
	switch {
	case len(value) == 0:
		return nil, "the value is empty"
	case value[0] == 0:
		return nil, "format version 0 was never written"
	case value[0] > version:
		return nil, fmt.Sprintf("format version %d is newer than %d", value[0], version)
	}
	return value[1:], ""
}

// fold is the one way by which a slot comes into memory, put or restored: from its
// record's value. It returns the flow and what the slot was before.
func (s *Store) fold(flowID []byte, i id, former bool, at uint32, value []byte) (f *flow, before slot, problem string) {
	body, problem := checkVersion(value)
	if problem != "" {
		return nil, "", problem
	}
	f = s.flows[string(flowID)]
	place, found := 0, false
	if f != nil {
		if place, found = f.find(i); found {
			before = f.slots[place]
		}
	}
	var flags byte
	if former || found && before.renamed() {
		flags = renamed
	}
	b := appendMeta(i.append(s.scratch[:0]), flags, at)
	r := reader[[]byte]{rest: body}
	var seq uint64
	switch i.kind {
	case kindRun:
		b, seq = copyRun(b, &r, &s.table)
	case kindCancelled:
		b = copyCancelled(b, &r, &s.table)
	case kindState:
		b = copyState(b, &r)
	case kindSeen:
		b = copySeen(b, &r)
	case kindParked:
		b = copyParked(b, &r, &s.table)
	case kindRetry:
		b = copyRetry(b, &r)
	case kindDeadline:
		b = copyDeadline(b, &r, &s.table)
	case kindJoin:
		b = copyJoin(b, &r, &s.table)
	}
	if s.scratch = b; cap(b) > 1<<20 {
		s.scratch = nil // one large slot must not cost its size for ever
	}
	if r.bad || len(r.rest) > 0 {
		return nil, "", "the value is damaged"
	}
	s.seq = max(s.seq, seq)
	if f == nil {
		f = s.add(string(flowID))
	}
	s.set(f, place, found, slot(b))
	return f, before, ""
}

// set puts a slot at its place in the flow, over another one or between two.
func (s *Store) set(f *flow, place int, found bool, own slot) {
	if found {
		s.bytes -= slotBytes(f.slots[place])
		s.count(f, f.slots[place], -1)
		f.slots[place] = own
	} else {
		s.slots++
		f.slots = insert(f.slots, place, own)
	}
	s.bytes += slotBytes(own)
	s.count(f, own, 1)
}

// insert keeps small flows in exactly the space that they need.
func insert(slots []slot, place int, own slot) []slot {
	if len(slots) < 4 {
		grown := make([]slot, len(slots)+1)
		copy(grown, slots[:place])
		grown[place] = own
		copy(grown[place+1:], slots[place:])
		return grown
	}
	return slices.Insert(slots, place, own)
}

func (s *Store) add(flowID string) *flow {
	f := &flow{id: flowID, place: uint32(len(s.order))}
	s.flows[flowID] = f
	s.order = append(s.order, f)
	s.bytes += flowBytes(flowID)
	return f
}

// take removes a slot of a flow, and gives the record that deletes it.
func (s *Store) take(f *flow, own slot) Change {
	i := own.id()
	c := Change{Key: s.begin(f.id, i, 0), flow: f.id, id: i, before: own}
	s.remove(f, i)
	return c
}

// remove deletes a slot, and the flow with its last one.
func (s *Store) remove(f *flow, i id) {
	if place, found := f.find(i); found {
		s.bytes -= slotBytes(f.slots[place])
		s.count(f, f.slots[place], -1)
		s.slots--
		f.slots = slices.Delete(f.slots, place, place+1)
		if len(f.slots) == 0 {
			s.forget(f)
		}
	}
}

func (s *Store) forget(f *flow) {
	s.bytes -= flowBytes(f.id)
	delete(s.flows, f.id)
	last := len(s.order) - 1
	moved := s.order[last]
	s.order[f.place], moved.place = moved, f.place
	s.order[last] = nil
	s.order = s.order[:last]
}

// What a flow and a slot cost besides their text, as measured: map, order, struct, and
// the allocator's rounding.
const (
	flowCost = 120
	slotCost = 32
)

func flowBytes(id string) int64 { return int64(flowCost + len(id)) }

func slotBytes(s slot) int64 { return int64(slotCost + len(s)) }

// Flows is how many flows are remembered.
func (s *Store) Flows() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.flows)
}

// Slots is how many slots the flows have together.
func (s *Store) Slots() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.slots
}

// Bytes is about how much memory the flows take. States of transactions under way are
// not in it: they are bounded by what is in flight.
func (s *Store) Bytes() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.bytes
}

// names numbers the names of steps, deadlines and states and knows which kinds of
// slots there are.
type names struct {
	steps     map[string]number // earlier names too
	deadlines map[string]number // the same
	states    map[string]uint16
	step      []string // by number
	deadline  []string
	state     []string
	retain    []time.Duration // by number of the state

	formerSteps, formerDeadlines [][]string // by number

	reactions map[string]bool
}

type number struct {
	number uint16
	former bool
}

// numbered gives names their numbers, and earlier ones those of the present names
// to which they lead.
func numbered(present []string, formerly map[string]string) (numbers map[string]number, former [][]string) {
	numbers, former = make(map[string]number), make([][]string, len(present))
	for n, name := range present {
		numbers[name] = number{number: uint16(n)}
	}
	for _, earlier := range slices.Sorted(maps.Keys(formerly)) {
		now, ok := numbers[formerly[earlier]]
		if _, taken := numbers[earlier]; ok && !taken {
			numbers[earlier] = number{number: now.number, former: true}
			former[now.number] = append(former[now.number], earlier)
		}
	}
	return numbers, former
}

func newNames(c Config) names {
	n := names{step: c.Steps, deadline: c.Deadlines, states: make(map[string]uint16), reactions: make(map[string]bool)}
	for _, name := range c.Reactions {
		n.reactions[name] = true
	}
	n.steps, n.formerSteps = numbered(c.Steps, c.Formerly)
	n.deadlines, n.formerDeadlines = numbered(c.Deadlines, c.Formerly)
	for _, name := range slices.Sorted(maps.Keys(c.States)) {
		n.states[name] = uint16(len(n.state))
		n.state = append(n.state, name)
		retain := c.States[name]
		if retain == 0 {
			retain = c.Retain
		}
		if retain == 0 {
			retain = DefaultRetain
		}
		n.retain = append(n.retain, retain)
	}
	return n
}

// parse takes a slot's name apart, but for inputs.
func (n *names) parse(slot []byte) (i id, former bool, err error) {
	switch {
	case bytes.HasPrefix(slot, []byte(wordRun)):
		rest := slot[len(wordRun):]
		cut := bytes.LastIndexByte(rest, '/')
		if cut < 0 || len(rest)-cut-1 != base64.RawURLEncoding.EncodedLen(len(i.hash)) {
			return i, false, errors.New("its slot names no event")
		}
		var space [len(i.hash)]byte
		if _, err := base64.RawURLEncoding.Strict().Decode(space[:], rest[cut+1:]); err != nil {
			return i, false, errors.New("its slot names no event")
		}
		i.kind, i.hash = kindRun, space
		step, ok := n.steps[string(rest[:cut])]
		if !ok {
			return i, false, errName
		}
		i.name = step.number
		return i, step.former, nil
	case bytes.HasPrefix(slot, []byte(wordCancelled)):
		step, ok := n.steps[string(slot[len(wordCancelled):])]
		if !ok {
			return i, false, errName
		}
		return id{kind: kindCancelled, name: step.number}, step.former, nil
	case bytes.HasPrefix(slot, []byte(wordState)):
		number, ok := n.states[string(slot[len(wordState):])]
		if !ok {
			return i, false, errName
		}
		return id{kind: kindState, name: number}, false, nil
	case bytes.HasPrefix(slot, []byte(wordDeadline)):
		deadline, ok := n.deadlines[string(slot[len(wordDeadline):])]
		if !ok {
			return i, false, errName
		}
		return id{kind: kindDeadline, name: deadline.number}, deadline.former, nil
	case bytes.HasPrefix(slot, []byte(wordJoin)):
		step, ok := n.steps[string(slot[len(wordJoin):])]
		if !ok {
			return i, false, errName
		}
		return id{kind: kindJoin, name: step.number}, step.former, nil
	case string(slot) == wordSeen:
		return id{kind: kindSeen}, false, nil
	case string(slot) == wordRetry:
		return id{kind: kindRetry}, false, nil
	case bytes.HasPrefix(slot, []byte(wordParked)):
		i.kind = kindParked
		place := slot[len(wordParked):]
		if _, err := hex.Decode(i.hash[:placeID-shortID], place[:min(len(place), 2*(placeID-shortID))]); err != nil ||
			string(hex.AppendEncode(nil, i.hash[:placeID-shortID])) != string(place) {
			return i, false, errors.New("its slot names no place in a queue")
		}
		return i, false, nil
	}
	return i, false, errSlot
}

// name is the present name of what a slot is about.
func (n *names) name(i id) string {
	switch i.kind {
	case kindRun, kindCancelled, kindJoin:
		return n.step[i.name]
	case kindDeadline:
		return n.deadline[i.name]
	case kindState:
		return n.state[i.name]
	}
	return ""
}

// earlier are the former names of what a slot is about.
func (n *names) earlier(i id) []string {
	switch i.kind {
	case kindRun, kindCancelled, kindJoin:
		return n.formerSteps[i.name]
	case kindDeadline:
		return n.formerDeadlines[i.name]
	}
	return nil
}

// stepID and stateID panic for a name that is not declared: a record written under it
// would stop the task for ever at its next restore.
func (n *names) stepID(k kind, step string, hash Hash) id {
	number, ok := n.steps[step]
	if !ok || number.former {
		panic(fmt.Sprintf("journal: step %q is not declared", step))
	}
	return id{kind: k, name: number.number, hash: hash}
}

func (n *names) stateID(state string) id {
	number, ok := n.states[state]
	if !ok {
		panic(fmt.Sprintf("journal: state %q is not declared", state))
	}
	return id{kind: kindState, name: number}
}
