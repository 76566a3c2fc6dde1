package journal

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"
)

// kind is the kind of a slot. States come first, so that they are the first slots of a flow.
type kind byte

const (
	kindState kind = iota + 1
	kindRun
	kindCancelled
	kindSeen
	kindParked
	kindRetry
	kindDeadline
	kindJoin
)

// id names a slot within its flow: the kind, the number of its step, state or deadline, and
// for a run the hash of its event, for a parked event its place in the queue. Slots
// are sorted by it.
type id struct {
	kind kind
	name uint16
	hash Hash
}

const (
	shortID = 3
	placeID = shortID + 8
	longID  = shortID + len(Hash{})
)

// idSize is how many bytes the id of a kind of slot takes.
func (k kind) idSize() int {
	switch k {
	case kindRun:
		return longID
	case kindParked:
		return placeID
	}
	return shortID
}

func (i id) append(b []byte) []byte {
	b = append(b, byte(i.kind), byte(i.name>>8), byte(i.name))
	return append(b, i.hash[:i.kind.idSize()-shortID]...)
}

// slot is one slot in memory: its id, a byte of flags, when it was put (Unix
// seconds), and the body. It never changes, so it may be read without a lock.
type slot string

// renamed marks a slot that has a record under an earlier name of its step or deadline.
const renamed = 1

func (s slot) idSize() int { return kind(s[0]).idSize() }

func (s slot) id() id {
	i := id{kind: kind(s[0]), name: uint16(s[1])<<8 | uint16(s[2])}
	copy(i.hash[:], s[shortID:i.kind.idSize()])
	return i
}

func (s slot) renamed() bool { return s[s.idSize()]&renamed != 0 }

func (s slot) at() uint32 {
	m := s[s.idSize()+1:]
	return uint32(m[0])<<24 | uint32(m[1])<<16 | uint32(m[2])<<8 | uint32(m[3])
}

func (s slot) body() *reader[string] {
	return &reader[string]{rest: string(s[s.idSize()+5:])}
}

func appendMeta(b []byte, flags byte, at uint32) []byte {
	return binary.BigEndian.AppendUint32(append(b, flags), at)
}

// find is where in the flow's slots an id stands, or belongs. No id is the beginning of
// another one, because the kind fixes the length.
func (f *flow) find(i id) (place int, found bool) {
	var space [longID]byte
	want := i.append(space[:0])
	low, high := 0, len(f.slots)
	for low < high {
		middle := int(uint(low+high) / 2)
		switch own := f.slots[middle]; own[:own.idSize()].compare(want) {
		case -1:
			low = middle + 1
		case 1:
			high = middle
		default:
			return middle, true
		}
	}
	return low, false
}

func (s slot) compare(b []byte) int {
	switch {
	case string(s) < string(b):
		return -1
	case string(s) > string(b):
		return 1
	}
	return 0
}

// Keys.

const (
	wordRun       = "run/"
	wordState     = "state/"
	wordCancelled = "cancelled/"
	wordSeen      = "seen"
	wordParked    = "parked/"
	wordRetry     = "retry"
	wordDeadline  = "deadline/"
	wordJoin      = "join/"
	wordInput     = "input/"
)

func appendSlotName(b []byte, i id, name string) []byte {
	switch i.kind {
	case kindRun:
		b = append(append(b, wordRun...), name...)
		return base64.RawURLEncoding.AppendEncode(append(b, '/'), i.hash[:])
	case kindState:
		return append(append(b, wordState...), name...)
	case kindCancelled:
		return append(append(b, wordCancelled...), name...)
	case kindParked:
		return hex.AppendEncode(append(b, wordParked...), i.hash[:placeID-shortID])
	case kindRetry:
		return append(b, wordRetry...)
	case kindDeadline:
		return append(append(b, wordDeadline...), name...)
	case kindJoin:
		return append(append(b, wordJoin...), name...)
	default:
		return append(b, wordSeen...)
	}
}

func appendInputKey(b []byte, topic string, partition int32) []byte {
	b = append(b, 0)
	b = append(append(b, wordInput...), topic...)
	return strconv.AppendInt(append(b, '/'), int64(partition), 10)
}

// parseInput takes "<topic>/<partition>" apart.
func parseInput(s string) (topic string, partition int32, ok bool) {
	cut := strings.LastIndexByte(s, '/')
	if cut <= 0 {
		return "", 0, false
	}
	n, err := strconv.ParseInt(s[cut+1:], 10, 32)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != s[cut+1:] {
		return "", 0, false // one partition has one key
	}
	return s[:cut], int32(n), true
}
