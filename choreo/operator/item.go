package operator

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"time"
)

// Kind says what of a flow is stuck.
type Kind string

// The kinds.
const (
	Step     Kind = "step"     // an event of a step or reaction, whose attempts fail
	Undo     Kind = "undo"     // a compensation that fails
	Deadline Kind = "deadline" // a deadline that has passed and has neither fired nor been met

	// Join is a step that has heard some of the events that it joins. That is no
	// failure: it is shown, and nothing can be asked for it.
	Join Kind = "join"
)

// Kinds are those for which something can be asked.
var Kinds = []Kind{Step, Undo, Deadline}

// Item is what of a flow is stuck, and how.
type Item struct {
	Target
	Since    time.Time // the first attempt that failed; of a deadline, when it was due
	Attempts int       // 0: not known, of deadlines; of others, none was made, because their provider is away
	Next     time.Time // when the next attempt is due; zero: not known
	Error    string    // of the last attempt; "": not known
	Waiting  int       // events that wait behind it

	// Of the event at which it stands; of a deadline only the flow.
	Flow, Type, Source, ID string
}

// Target names what is stuck, so that a command for it is never taken for what
// is stuck there later.
type Target struct {
	Kind  Kind
	Task  int32     // the partition of the journal in which it lies
	Key   string    // under which the scheduler orders it: the flow, but for reactions to other keys
	Name  string    // of the step, reaction or deadline
	Seq   uint64    // the event's place in the queue of its key; 0 for deadlines
	Began time.Time // the first attempt at what fails, zero if there was none; of a deadline, when it was set. To the millisecond
}

// Hash names the target in a few characters, for people.
func (t Target) Hash() string {
	var b []byte
	for _, s := range []string{string(t.Kind), t.Key, t.Name} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	b = binary.AppendVarint(b, int64(t.Task))
	b = binary.AppendUvarint(b, t.Seq)
	b = binary.AppendVarint(b, t.Began.UnixMilli())
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:6])
}
