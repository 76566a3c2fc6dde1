package journal

import (
	"crypto/sha256"
	"encoding/base64"
	"time"
)

// Hash names an event by source and id in a fixed size, whatever those hold.
type Hash [16]byte

// HashOf is the first 16 bytes of SHA-256 over source, NUL and id.
func HashOf(source, id string) Hash {
	var space [256]byte
	text := append(space[:0], source...)
	text = append(text, 0)
	text = append(text, id...)
	sum := sha256.Sum256(text)
	return Hash(sum[:16])
}

// String is the hash in unpadded base64url, as it stands in a record's key.
func (h Hash) String() string { return base64.RawURLEncoding.EncodeToString(h[:]) }

// Event is an event as it was heard or said: Data are its original bytes.
type Event struct {
	Source, ID, Type, ContentType string
	Data                          []byte
}

// Status is how a run ended.
type Status uint8

// The numbers are part of the format: never change one, add at the end.
const (
	Did    Status = iota + 1 // the step's event was said
	Failed                   // rejected: a failure event was said
	GaveUp                   // retries were used up: the GiveUp event was said
	Dead                     // the event went to the dead letters
	Undone                   // was Did or unknown, and is compensated
	Left                     // was Did or unknown, and is not to be compensated: a person has said so
	statuses
)

// String is the status in the words of the tracker's headers.
func (s Status) String() string {
	switch s {
	case Did:
		return "did"
	case Failed:
		return "failed"
	case GaveUp:
		return "gaveup"
	case Dead:
		return "dead"
	case Undone:
		return "undone"
	case Left:
		return "left"
	}
	return "unknown"
}

// Run is one execution of a step, named by step and causing event.
type Run struct {
	Step     string
	Hash     Hash // of the causing event
	Status   Status
	Attempts uint32
	In       Event // what caused it
	Out      Event // what it said
	By       Trigger
	// Set by the Store, whatever the caller of PutRun leaves here.
	Seq uint64    // order within the flow: a later run has a higher one
	At  time.Time // when it was last put, to the second
}

// Trigger is an event that cancels a step or undoes its runs. The zero Trigger is none.
type Trigger struct {
	Hash     Hash
	ID, Type string
	Answered bool // the step's answer to it was said, or none is declared
}

// Cancelled says that a step of a flow is cancelled, and by which triggers, in the
// order of their arrival.
type Cancelled struct {
	Step string
	By   []Trigger
}

// State is what a service keeps of one flow under one name.
type State struct {
	Payload []byte    // in the engine's encoding
	Applied []Hash    // events that changed it, in order
	Changed time.Time // to the second
}
