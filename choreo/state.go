package choreo

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// ErrNoFlow is returned by [State.Get] for a flow of which the service knows
// nothing, or no longer.
var ErrNoFlow = errors.New("choreo: no such flow")

// ErrNotRunning is returned by operations that need a running service.
var ErrNotRunning = errors.New("choreo: the service is not running")

// State is what a service keeps of one flow, its aggregate: a plain S that is
// changed by events only. It lives in the service's journal, as JSON unless
// Codec says otherwise.
type State[S any] struct {
	// Name is durable: it is part of the journal's keys.
	Name string
	// When lists the events that change the state. Each event is applied once.
	When []Transition[S]
	// Retain is how long the state is kept after its last change; zero: the
	// service's [Retention].Flow.
	Retain time.Duration
	// Codec encodes S in the journal; nil means JSON.
	Codec Codec

	reader atomic.Pointer[stateReader]
}

// stateReader finds the committed state of a flow; the running engine sets it.
type stateReader interface {
	state(ctx context.Context, name, flow string) ([]byte, error)
	awaitState(ctx context.Context, name, flow string, enough func([]byte) (bool, error)) error
}

// Transition is one event's effect on a State. Make it with [When], [Then] or
// [ThenAny]. A payload that cannot be decoded, an error and a panic leave the
// state as it was and make the event a dead letter; transitions are not retried.
type Transition[S any] struct {
	on    *eventDecl
	apply func(s *S, data []byte) (Emissions, error)
	emits []*eventDecl
}

// When changes the state by an event.
func When[S, In any](on Event[In], f func(*S, In)) Transition[S] {
	return transition(on, nil, func(s *S, in In) (Emissions, error) { f(s, in); return nil, nil })
}

// Then changes the state and may say one event: f returns false to say nothing.
func Then[S, In, Out any](on Event[In], f func(*S, In) (Out, bool), emit Event[Out]) Transition[S] {
	return transition(on, []*eventDecl{emit.decl()}, func(s *S, in In) (Emissions, error) {
		if out, ok := f(s, in); ok {
			return Emit(emit.New(out)), nil
		}
		return nil, nil
	})
}

// ThenAny changes the state and may say any of the declared events. When f
// returns an error the state is as before, and the event a dead letter.
func ThenAny[S, In any](on Event[In], f func(*S, In) (Emissions, error), emits ...AnyEvent) Transition[S] {
	var d []*eventDecl
	for _, e := range emits {
		d = append(d, e.decl())
	}
	return transition(on, d, f)
}

func transition[S, In any](on Event[In], emits []*eventDecl, f func(*S, In) (Emissions, error)) Transition[S] {
	d := on.decl()
	read := decoder[In](d.codec)
	return Transition[S]{on: d, emits: emits, apply: func(s *S, data []byte) (Emissions, error) {
		in, err := read(data)
		if err != nil {
			return nil, &decodeError{d.Type, err}
		}
		return f(s, in)
	}}
}

// Get returns the state of a flow as of the last commit, on any instance of
// the running service, whichever owns the flow. It returns [ErrNoFlow] for an
// unknown flow, and [ErrNotRunning] before the service runs.
func (s *State[S]) Get(ctx context.Context, flow string) (S, error) {
	var v S
	r := s.reader.Load()
	if r == nil {
		return v, ErrNotRunning
	}
	data, err := (*r).state(ctx, s.Name, flow)
	if err != nil {
		return v, err
	}
	return v, s.codec().Unmarshal(data, &v)
}

// Await returns the state of a flow as soon as enough returns true for it, or
// the state as it is with ctx's error when ctx ends first. It is the
// synchronous use of a choreography: say an event, then await what becomes of
// it.
func (s *State[S]) Await(ctx context.Context, flow string, enough func(S) bool) (S, error) {
	var v S
	r := s.reader.Load()
	if r == nil {
		return v, ErrNotRunning
	}
	err := (*r).awaitState(ctx, s.Name, flow, func(data []byte) (bool, error) {
		var now S
		if err := s.codec().Unmarshal(data, &now); err != nil {
			return false, err
		}
		v = now
		return enough(v), nil
	})
	return v, err
}

func (s *State[S]) codec() Codec {
	if s.Codec == nil {
		return JSON{}
	}
	return s.Codec
}
