package choreo

import (
	"errors"
	"fmt"
)

// decodeError is an event's payload that is not what its declaration says. No
// retry mends it.
type decodeError struct {
	typ string
	err error
}

func (e *decodeError) Error() string {
	return fmt.Sprintf("decode the payload of %s: %v", e.typ, e.err)
}
func (e *decodeError) Unwrap() error { return e.err }

// panicError is a panic of a handler, as an error that is retried.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// ErrTimeout is the cause of a context that ended because an attempt took
// longer than the Timeout of its step.
var ErrTimeout = errors.New("choreo: the attempt took longer than the step's Timeout")

// ErrStopping is what the cause of a handler's context wraps (see errors.Is)
// when it ended because the service stops, or no longer owns the flow; the event
// is handled again, here or elsewhere.
var ErrStopping = errors.New("choreo: the service stops or no longer owns the flow")
