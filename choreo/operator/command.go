package operator

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/choreography-go/choreography/choreo/deadletter"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Do is what a command asks for.
type Do string

// What can be asked for.
const (
	Retry   Do = "retry"   // make the next attempt now
	Skip    Do = "skip"    // give it up, and let what waits behind it go on
	Resolve Do = "resolve" // a person has done what the handler should have done
	Erase   Do = "erase"   // forget all that is remembered of a flow
)

// Dos are all there are.
var Dos = []Do{Retry, Skip, Resolve, Erase}

// Prefix begins the headers of commands. They count on the inbox alone, whose
// writers are trusted.
const Prefix = "choreo-operator-"

const (
	headerDo    = Prefix + "do"
	headerID    = Prefix + "id"
	headerKind  = Prefix + "kind"
	headerName  = Prefix + "name"
	headerSeq   = Prefix + "seq"
	headerBegan = Prefix + "began"
	headerBy    = Prefix + "by"
	headerWhy   = Prefix + "why"
)

// Bounds of what a command holds, in bytes.
const (
	MaxID   = 64
	MaxBy   = 128
	MaxWhy  = 512
	MaxData = 8 << 20 // the most that MAX_EVENT_BYTES may be
)

// Command is what a person asks a service for.
type Command struct {
	ID string // unique
	Do Do
	Target
	By  string // who
	Why string
	// Data is the payload of what is to be said, as JSON; nil: nothing is said. For
	// Resolve alone.
	Data []byte
}

// Validate says all that is wrong with a command.
func (c *Command) Validate() error {
	var all []error
	wrong := func(format string, a ...any) { all = append(all, fmt.Errorf(format, a...)) }
	if !slices.Contains(Dos, c.Do) {
		wrong("it asks for %.32q, which is none of %v", c.Do, Dos)
	}
	if c.ID == "" || len(c.ID) > MaxID {
		wrong("its id has %d bytes, allowed are 1 to %d", len(c.ID), MaxID)
	}
	if c.Do != Erase && !slices.Contains(Kinds, c.Kind) {
		wrong("it is about %.32q, which is none of %v", c.Kind, Kinds)
	}
	if c.Task < 0 || c.Key == "" {
		wrong("it names no flow")
	}
	for _, text := range []struct {
		what, is string
		most     int
	}{{"who asks", c.By, MaxBy}, {"why", c.Why, MaxWhy}} {
		if n := len(text.is); strings.TrimSpace(text.is) == "" || n > text.most || !utf8.ValidString(text.is) {
			wrong("%s must be told in 1 to %d bytes of text, and is in %d", text.what, text.most, n)
		}
	}
	switch {
	case c.Data == nil:
	case c.Do != Resolve:
		wrong("%s takes no payload", c.Do)
	case len(c.Data) > MaxData:
		wrong("its payload has %d bytes, allowed are %d", len(c.Data), MaxData)
	case !json.Valid(c.Data):
		wrong("its payload is not JSON")
	}
	return errors.Join(all...)
}

// Record makes the command's record for the inbox. It is to be produced to its
// partition.
func (c *Command) Record(inbox string) *kgo.Record {
	rec := &kgo.Record{Topic: inbox, Partition: c.Task, Key: []byte(c.Key), Value: c.Data}
	if rec.Value == nil {
		rec.Value = []byte{}
	}
	for _, h := range [][2]string{
		{headerDo, string(c.Do)}, {headerID, c.ID}, {headerKind, string(c.Kind)}, {headerName, c.Name},
		{headerSeq, strconv.FormatUint(c.Seq, 10)}, {headerBegan, strconv.FormatInt(c.Began.UnixMilli(), 10)},
		{headerBy, c.By}, {headerWhy, c.Why},
	} {
		rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: h[0], Value: []byte(h[1])})
	}
	return rec
}

// IsCommand reports whether a record of the inbox is a command.
func IsCommand(rec *kgo.Record) bool {
	return slices.ContainsFunc(rec.Headers, func(h kgo.RecordHeader) bool { return h.Key == headerDo })
}

// ReadCommand reads a command. It holds on to nothing of its record.
func ReadCommand(rec *kgo.Record) (Command, error) {
	c := Command{Target: Target{Task: rec.Partition, Key: string(rec.Key)}}
	if len(rec.Value) > 0 {
		c.Data = slices.Clone(rec.Value)
	}
	var errs []error
	number := func(h kgo.RecordHeader, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("header %s is %.32q, no number", h.Key, h.Value))
		}
	}
	for _, h := range rec.Headers {
		var err error
		switch h.Key {
		case headerDo:
			c.Do = Do(h.Value)
		case headerID:
			c.ID = string(h.Value)
		case headerKind:
			c.Kind = Kind(h.Value)
		case headerName:
			c.Name = deadletter.Line(h.Value, maxText)
		case headerSeq:
			c.Seq, err = strconv.ParseUint(string(h.Value), 10, 64)
			number(h, err)
		case headerBegan:
			var ms int64
			ms, err = strconv.ParseInt(string(h.Value), 10, 64)
			number(h, err)
			c.Began = time.UnixMilli(ms)
		case headerBy:
			c.By = string(h.Value)
		case headerWhy:
			c.Why = string(h.Value)
		}
	}
	if err := errors.Join(append(errs, c.Validate())...); err != nil {
		return Command{}, fmt.Errorf("a command that is none: %w", err)
	}
	c.ID, c.By, c.Why = line(c.ID, MaxID), line(c.By, MaxBy), line(c.Why, MaxWhy)
	return c, nil
}

func line(s string, limit int) string { return deadletter.Line([]byte(s), limit) }
