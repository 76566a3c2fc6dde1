package choreo

import (
	"context"
	"time"
)

// Reaction is the general form of a handler: on an event of In it says none,
// one or many of the events in Emits, as values that a unit test compares. It
// keeps no flow state: nothing is journalled and nothing is compensated. What
// it says is still committed exactly once with the event it heard.
type Reaction[In any] struct {
	// Name is durable: it is part of the ids of what the reaction says.
	Name string
	// On is what sets the reaction off.
	On Trigger[In]
	// Do is the domain's function; called in the order of the record keys.
	Do func(context.Context, In) (Emissions, error)
	// Emits declares what Do may say; saying anything else is an error.
	Emits Events
	// Once drops duplicates of an event (same source and id), which the
	// journal remembers for the time that flow state is kept.
	Once bool
	// Retry applies to every error; used up, the event is a dead letter.
	Retry Retry
	// Timeout cancels the context of one attempt. Zero: no timeout.
	Timeout time.Duration
	// Breaker keeps attempts from a provider that is away; it needs a Timeout.
	// Zero: there is none.
	Breaker Breaker
	// MaxConcurrent is how many attempts are made at once on an instance. Zero: as
	// many as [Config].MaxHandlers.
	MaxConcurrent int
}
