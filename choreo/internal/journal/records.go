package journal

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

// What follows reads single records of the journal for whoever has no Store.
// Names are as they were written: nothing is known of what the service declares.

// ReadParked reads a record of a parked event: under which key, at which place,
// and the event. The event is nil if the record deletes it. ok is false for
// records of other slots, and err tells of one that cannot be read.
func ReadParked(rec *kgo.Record) (key string, seq uint64, p *Parked, ok bool, err error) {
	key, name, is := cutKey(rec.Key)
	place, is2 := strings.CutPrefix(name, wordParked)
	seq, is3 := placeOf(place)
	if !is || !is2 || !is3 {
		return "", 0, nil, false, nil
	}
	if rec.Value == nil {
		return key, seq, nil, true, nil
	}
	body, err := bodyOf(rec, key, name, func(r *reader[[]byte]) {
		t := newTable(nil)
		copyParked(nil, r, &t)
	})
	if err != nil {
		return key, seq, nil, true, err
	}
	var none Store // which knows no other names than those that are written
	own := slot(appendMeta(parkedID(seq).append(nil), 0, 0)) + slot(body)
	read := none.readParked(own, nil)
	return key, seq, &read, true, nil
}

// placeOf reads a place in a queue, as keys have it.
func placeOf(s string) (seq uint64, ok bool) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != placeID-shortID {
		return 0, false
	}
	return binary.BigEndian.Uint64(b), true
}

// ReadRetry reads a record of how far the attempts on the head of a queue have
// come; nil if it deletes that.
func ReadRetry(rec *kgo.Record) (key string, t *Retry, ok bool, err error) {
	key, name, is := cutKey(rec.Key)
	if !is || name != wordRetry {
		return "", nil, false, nil
	}
	if rec.Value == nil {
		return key, nil, true, nil
	}
	body, err := bodyOf(rec, key, name, func(r *reader[[]byte]) { copyRetry(nil, r) })
	if err != nil {
		return key, nil, true, err
	}
	read := readRetry(&reader[string]{rest: string(body)})
	return key, &read, true, nil
}

// cutKey takes the key of a record apart.
func cutKey(b []byte) (key, name string, ok bool) {
	cut := bytes.LastIndexByte(b, 0)
	if cut < 0 {
		return "", "", false
	}
	return string(b[:cut]), string(b[cut+1:]), true
}

// bodyOf is the value of a record without its version, if check reads all of it
// without a fault.
func bodyOf(rec *kgo.Record, key, name string, check func(*reader[[]byte])) ([]byte, error) {
	fault := func(problem string) error {
		return &FormatError{Place: Place{Flow: key, Slot: name, Partition: rec.Partition, Offset: rec.Offset}, Problem: problem}
	}
	body, problem := checkVersion(rec.Value)
	if problem != "" {
		return nil, fault(problem)
	}
	r := &reader[[]byte]{rest: body}
	if check(r); r.bad || len(r.rest) > 0 {
		return nil, fault("the value is damaged")
	}
	return body, nil
}

// DeadlineSlot reports whether a record is of a deadline, whatever its value.
func DeadlineSlot(rec *kgo.Record) (flow, name string, ok bool) { return slotIn(rec, wordDeadline) }

// JoinSlot reports whether a record is of a join, whatever its value.
func JoinSlot(rec *kgo.Record) (flow, step string, ok bool) { return slotIn(rec, wordJoin) }

func slotIn(rec *kgo.Record, word string) (flow, name string, ok bool) {
	flow, slot, ok := cutKey(rec.Key)
	name, is := strings.CutPrefix(slot, word)
	return flow, name, ok && is
}
