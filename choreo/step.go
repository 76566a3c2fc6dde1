package choreo

import (
	"context"
	"errors"
	"time"
)

// Step is one local transaction of a saga: on an event of In it calls Do and
// says Emit. Each run is recorded in the service's journal in the transaction
// of its events, so an event that arrives twice runs once.
//
// Do is called at least once per event, never concurrently for one flow, in
// the order of the flow's events. Its effects outside Kafka must be idempotent
// under [Metadata].IdempotencyKey.
type Step[In, Out any] struct {
	// Name is durable: it is part of event ids and of the journal.
	Name string
	// Formerly lists earlier names of this step, whose runs are still its runs.
	Formerly []string
	// On is what sets the step off.
	On Trigger[In]
	// Do is the domain's function.
	Do func(context.Context, In) (Out, error)
	// Emit is said when Do succeeded.
	Emit Event[Out]

	// Fail turns errors of the domain into events, without a retry; the first
	// that matches wins.
	Fail Failures[In]
	// GiveUp is said when the retries are used up. Zero: the event becomes a
	// dead letter and the flow shows as stuck.
	GiveUp Failure[In]
	// Compensate undoes runs; see [Undo].
	Compensate Compensation[In, Out]
	// Cancel answers compensation triggers that arrive before the step ran: it
	// never runs in that flow, and the cancellation's event is said instead.
	Cancel []Cancellation
	// Pivot marks the step after which the flow can only go forward. Nothing undoes
	// it, so its Compensate has at most Unknown, without Undo; a cancellation that
	// arrives after it ran is ignored.
	Pivot bool

	// Retry applies to errors that Fail does not match. Zero: see [Retry].
	Retry Retry
	// Timeout cancels the context of one attempt of Do, undo or Unknown. Zero:
	// 30 s. A function that ignores its context blocks its flow, never another;
	// no second attempt starts before it has returned.
	Timeout time.Duration
	// Breaker keeps attempts of Do, undo and Unknown from a provider that is away.
	// Zero: there is none.
	Breaker Breaker
	// MaxConcurrent is how many attempts of the step are made at once on an
	// instance; others wait for that, and hold up none but their flow. Zero: as many
	// as [Config].MaxHandlers.
	MaxConcurrent int
}

// Retry says how often and how long a failing attempt is repeated. Later
// events of the flow wait meanwhile, other flows pass. Waits grow
// exponentially from First to Max with full jitter. Zero fields take the
// defaults: 5 attempts, 3 of them in place, First 100 ms, Max 30 s, no limit of
// time.
//
// After the attempts in place the event is parked: it waits in the service's
// journal, and those of its flow behind it, so that nothing else has to. The
// attempts are counted on over restarts, to the last one that was committed;
// those in place are counted anew.
//
// Compensations take InPlace, First and Max from it and are retried for ever.
type Retry struct {
	// Attempts is the number of attempts in all; 1 is no retry. With a [Breaker]
	// zero is 5 more than its Failures.
	Attempts int
	// InPlace is how many of them are made before the event is parked. As many
	// as Attempts: it never is, unless it is a compensation.
	InPlace int
	// First and Max bound the wait between two attempts.
	First, Max time.Duration
	// Over ends the retries when this much time has passed since the first
	// attempt, whatever Attempts says. Zero: no such end.
	Over time.Duration
}

// Failure turns an error into an event. Make it with [FailAs], [FailWith] or
// [GiveUpAs].
type Failure[In any] struct {
	event *eventDecl
	match func(error) (error, bool)
	make  func(In, error) any
}

// Failures are tried in order.
type Failures[In any] []Failure[In]

// FailAs says f when the step's error is, or wraps, an E (see errors.As).
func FailAs[In any, E error, F any](payload func(In, E) F, f Event[F]) Failure[In] {
	return Failure[In]{
		event: f.decl(),
		match: func(err error) (error, bool) {
			e, ok := errors.AsType[E](err)
			return e, ok
		},
		make: func(in In, err error) any {
			e, _ := errors.AsType[E](err)
			return payload(in, e)
		},
	}
}

// FailWith says f for errors made by [Reject].
func FailWith[In, F any](payload func(In, *Rejection) F, f Event[F]) Failure[In] {
	return FailAs(payload, f)
}

// GiveUpAs says f when the retries of a step are used up. It must not be the
// business rejection: a provider's outage is no reason to decline a customer,
// and after a timeout the effect may have happened.
func GiveUpAs[In, F any](payload func(In, error) F, f Event[F]) Failure[In] {
	return Failure[In]{
		event: f.decl(),
		match: func(err error) (error, bool) { return err, true },
		make:  func(in In, err error) any { return payload(in, err) },
	}
}

// Rejection is a domain's refusal for which no error type of its own is worth
// while. Make it with [Reject].
type Rejection struct{ Code, Message string }

func (r *Rejection) Error() string { return r.Code + ": " + r.Message }

// Reject returns a *[Rejection], which [FailWith] turns into an event.
func Reject(code, message string) error { return &Rejection{code, message} }

// Compensation undoes runs of a Step[In, Out]. Make it with [Undo].
type Compensation[In, Out any] struct {
	undo    func(context.Context, In, Out) (any, error)
	unknown func(context.Context, In) error
	event   *eventDecl
	on      []*eventDecl
}

// Undo compensates a step: when one of the events on arrives, undo is called
// for each of the flow's runs, newest first, and emit is said for each. It is
// retried until it succeeds. A trigger that arrives before the step ran
// cancels it; see [Step].Cancel.
func Undo[In, Out, R any](undo func(context.Context, In, Out) (R, error), emit Event[R], on ...AnyEvent) Compensation[In, Out] {
	c := Compensation[In, Out]{event: emit.decl()}
	if undo != nil {
		c.undo = func(ctx context.Context, in In, out Out) (any, error) { return undo(ctx, in, out) }
	}
	for _, e := range on {
		c.on = append(c.on, e.decl())
	}
	return c
}

// Unknown compensates a run of which the result was never learned: it timed
// out, was given up, or was lost with its process or transaction before the step
// was cancelled. undo finds out by the run's idempotency key ([Metadata].Undoes)
// whether there is anything to undo; often there is not. It is retried until it
// succeeds. Declare it where Do has effects outside Kafka. A pivot has it without
// Undo, as Compensation[In, Out]{}.Unknown(undo): for attempts that are called off
// before one has succeeded.
func (c Compensation[In, Out]) Unknown(undo func(context.Context, In) error) Compensation[In, Out] {
	c.unknown = undo
	return c
}

func (c Compensation[In, Out]) declared() bool { return c.event != nil }

// Cancellation answers a compensation trigger for a step that has not run.
// Make it with [CancelOn].
type Cancellation struct {
	on, emit *eventDecl
	answer   func(data []byte) (any, error)
}

// CancelOn says emit when the event on arrives before the step ran. On an event
// that is no trigger of [Undo] too, a step that ran stays as it is.
func CancelOn[C, F any](on Event[C], payload func(C) F, emit Event[F]) Cancellation {
	d := on.decl()
	read := decoder[C](d.codec)
	return Cancellation{on: d, emit: emit.decl(), answer: func(data []byte) (any, error) {
		c, err := read(data)
		if err != nil {
			return nil, err
		}
		return payload(c), nil
	}}
}
