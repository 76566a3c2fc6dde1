package choreo

import (
	"context"
	"time"
)

// Metadata tells a handler which event it works on and in which flow.
type Metadata struct {
	// Flow is the correlation id.
	Flow string
	// EventID, Source, Type and Time are the event's.
	EventID, Source, Type string
	Time                  time.Time
	// Cause is the id of the event that caused this one.
	Cause string
	// Step is the name of the step, reaction, state or deadline.
	Step string
	// IdempotencyKey is the same for every attempt at this run, and another for
	// its undo: hash(event, service, step, do|undo).
	IdempotencyKey string
	// Undoes is, in a compensation, the IdempotencyKey of the run it undoes.
	Undoes string
	// Attempt counts from 1.
	Attempt int
}

// Meta returns the metadata of the run that ctx belongs to; the zero value
// outside a handler.
func Meta(ctx context.Context) Metadata {
	if r, ok := ctx.Value(runKey{}).(*run); ok {
		return r.metadata()
	}
	return Metadata{}
}

// Cause returns the event that set a compensation off, if it is an e. Outside
// an undo and an Unknown there is none.
func Cause[T any](ctx context.Context, e Event[T]) (T, bool) {
	var v T
	r, ok := ctx.Value(runKey{}).(*run)
	if !ok || r.trigger == nil || r.trigger.Type != e.Type {
		return v, false
	}
	if err := e.decl().codec.Unmarshal(r.trigger.Data, &v); err != nil {
		return v, false
	}
	return v, true
}

type runKey struct{}

// Middleware wraps every attempt at a run: of Do, of an undo, of a
// transition. It sees the context, with [Meta], and the error.
type Middleware func(next func(context.Context) error) func(context.Context) error

// Use adds middleware; the first is the outermost.
func (s *Service) Use(m ...Middleware) { s.middleware = append(s.middleware, m...) }
