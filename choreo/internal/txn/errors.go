package txn

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Error is the failure of the pipeline as told to Config.Failed and as the
// cause of the incarnations that it closed.
type Error struct {
	// Reason is one of a fixed small set, fit for a metric's label.
	Reason Reason
	// Err says what was attempted and what came of it.
	Err error
}

// Error says what happened.
func (e *Error) Error() string { return fmt.Sprintf("transaction failed (%s): %v", e.Reason, e.Err) }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Reason says in one word why a transaction failed or lanes could not be made.
type Reason string

// The reasons. There are no others.
const (
	// ReasonFenced: another producer took the transactional id, or the broker
	// ended the transaction (time-out, or at another instance's wish).
	ReasonFenced Reason = "fenced"
	// ReasonMembership: the group does not know us as the owner any more.
	ReasonMembership Reason = "membership"
	// ReasonRevoked: the generation changed while a task of the transaction was
	// given up or lost.
	ReasonRevoked Reason = "revoked"
	// ReasonNoAnswer: a request got no answer in time or its connection broke.
	// Whether the transaction committed is unknown.
	ReasonNoAnswer Reason = "no_answer"
	// ReasonCoordinator: the coordinator moved or loaded for too long.
	ReasonCoordinator Reason = "coordinator"
	// ReasonTooLarge: the broker or the client refused a record for its size
	// (see RecordTooLargeError).
	ReasonTooLarge Reason = "too_large"
	// ReasonProduce: the broker refused a record for another reason.
	ReasonProduce Reason = "produce"
	// ReasonRefused: the broker refused the offsets or the end of the
	// transaction for another reason.
	ReasonRefused Reason = "refused"
	// ReasonOpen: a lane could not be made.
	ReasonOpen Reason = "open"
)

// ErrStopped is the cause given to incarnations when Run returns.
var ErrStopped = errors.New("the transaction pipeline has stopped")

// ErrNotReady is the cause given to incarnations opened before Ready.
var ErrNotReady = errors.New("the transaction pipeline is not ready yet")

// RecordTooLargeError says that a record is too large to be produced. Producing
// it again fails again.
type RecordTooLargeError struct {
	// Topic is where the record was to go.
	Topic string
	// Bytes is the record's size and Limit that of a batch of its topic as
	// this client knows it; the broker's may be smaller.
	Bytes, Limit int
	// Result is the one that the record is an output of: the largest of its
	// topic in the transaction, if the broker refused a batch as a whole. Nil
	// from Pipeline.Fits.
	Result *Result
	// Record is that output. Nil without a Result.
	Record *kgo.Record
}

// Error names topic, size and remedy.
func (e *RecordTooLargeError) Error() string {
	if e.Bytes > e.Limit {
		return fmt.Sprintf("a record of %d bytes for topic %q exceeds the limit of %d bytes: make it smaller, or raise the topic's max.message.bytes and the limit",
			e.Bytes, e.Topic, e.Limit)
	}
	return fmt.Sprintf("the broker refused a record of %d bytes for topic %q as too large: raise the topic's max.message.bytes above %d, which this client's batches may reach",
		e.Bytes, e.Topic, e.Limit)
}
