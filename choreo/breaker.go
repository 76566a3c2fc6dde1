package choreo

import (
	"errors"
	"slices"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
)

// Breaker is a circuit breaker: it keeps a step's attempts from a provider that
// is away, and finds out when it is back. It is one for all flows of an instance.
//
// While it is open no attempt is made: events are parked, and wait. After Open it
// is half-open and lets a few attempts through, the probes. If all of them succeed
// it is closed, and what waits has its turn; if one fails it is open again.
//
// An attempt has failed if its error is none that Fail matches, and none made by
// [Reject]: those are answers. Undo and Unknown pass the same breaker as Do.
//
// An attempt that fails is not counted if it was a probe, or if the breaker has
// opened since it began, and the time of waiting is no part of Retry.Over: nothing
// is given up because the provider is away. For that Retry.Attempts must not be
// less than Failures. Zero, it is 5 more than Failures.
type Breaker struct {
	// Failures opens the breaker when so many of the last attempts, Of, have
	// failed. Zero: there is no breaker.
	Failures int
	// Of is how many of the last attempts are looked at. Zero: as many as
	// Failures, which then must follow one another.
	Of int
	// Open is how long the breaker stays open until it is half-open. Zero: 10 s.
	Open time.Duration
	// Probes is how many attempts are made at once while it is half-open, and how
	// many must succeed to close it. Zero: 1.
	Probes int
}

const (
	defaultOpen   = 10 * time.Second
	defaultProbes = 1

	mostAttempts   = 1_000_000 // that a breaker looks at
	mostProbes     = 1_000
	mostConcurrent = 1_000_000
)

// limits are what a door keeps for a step or reaction.
type limits struct {
	breaker       Breaker
	maxConcurrent int
	// answered reports whether an error is the provider's answer.
	answered func(error) bool
}

// answered reports whether an error of the step is the provider's answer.
func (s *stepPlan) answered(err error) bool {
	return rejected(err) || slices.ContainsFunc(s.fail, func(f failurePlan) bool {
		_, matches := f.match(err)
		return matches
	})
}

func rejected(err error) bool {
	_, is := errors.AsType[*Rejection](err)
	return is
}

// limitsOf are nil for a handler that declares none.
func limitsOf(b Breaker, maxConcurrent int, answered func(error) bool) *limits {
	if b == (Breaker{}) && maxConcurrent == 0 {
		return nil
	}
	return &limits{b, maxConcurrent, answered}
}

// attempts lets an event have more attempts than it takes to open the breaker.
func (b Breaker) attempts(r Retry) Retry {
	if r.Attempts == 0 && b.Failures > 0 {
		r.Attempts = defaultAttempts + min(b.Failures, mostAttempts)
	}
	return r
}

func (b Breaker) withDefaults() Breaker {
	if b.Of == 0 {
		b.Of = b.Failures
	}
	if b.Open == 0 {
		b.Open = defaultOpen
	}
	if b.Probes == 0 {
		b.Probes = defaultProbes
	}
	return b
}

func (p *plan) validateLimits(kind, name string, x policy) {
	if x.limits == nil {
		return
	}
	if n := x.limits.maxConcurrent; n < 0 || n > mostConcurrent {
		p.mistake("%s %q: MaxConcurrent is %d; it must be 1 to %d, or 0 for no limit", kind, name, n, mostConcurrent)
	}
	b := x.limits.breaker
	if b == (Breaker{}) {
		return
	}
	if b.Failures == 0 {
		p.mistake("%s %q: Breaker.Failures is 0, which is no breaker, but it has other fields; say how many failures open it", kind, name)
	} else if b.Failures < 0 || b.Failures > mostAttempts {
		p.mistake("%s %q: Breaker.Failures is %d; it must be 1 to %d", kind, name, b.Failures, mostAttempts)
	} else if attempts := x.retry.withDefaults().Attempts; attempts > 0 && attempts < b.Failures {
		p.mistake("%s %q: Retry.Attempts is %d, less than Breaker.Failures, %d: while the provider is away an event could be given up before the breaker opens; make them at least as many",
			kind, name, attempts, b.Failures)
	}
	if b.Of < 0 || b.Of > mostAttempts || b.Of > 0 && b.Of < b.Failures {
		p.mistake("%s %q: Breaker.Of is %d; it must be Breaker.Failures, %d, to %d, or 0 for as many as Failures", kind, name, b.Of, b.Failures, mostAttempts)
	}
	if b.Open < 0 || b.Open > longestWait {
		p.mistake("%s %q: Breaker.Open is %v; it must be more than 0 and at most %v, or 0 for the default of %v", kind, name, b.Open, longestWait, defaultOpen)
	}
	if b.Probes < 0 || b.Probes > mostProbes {
		p.mistake("%s %q: Breaker.Probes is %d; it must be 1 to %d, or 0 for the default of %d", kind, name, b.Probes, mostProbes, defaultProbes)
	}
	if x.timeout == 0 {
		p.mistake("%s %q: Breaker without Timeout: a probe that hangs would keep it half-open; say how long an attempt may take", kind, name)
	}
}

// circuit is the breaker of a door, which guards it.
type circuit struct {
	circuitbreaker.CircuitBreaker[any]
	probes int
	// round is grown by each change of state. What an attempt of an earlier round
	// has come to tells nothing of this one.
	round   uint64
	probing int // probes under way in this round
}

func newCircuit(b Breaker) *circuit {
	b = b.withDefaults()
	c := &circuit{probes: b.Probes}
	c.CircuitBreaker = circuitbreaker.NewBuilder[any]().
		WithFailureThresholdRatio(uint(b.Failures), uint(b.Of)).
		WithSuccessThreshold(uint(b.Probes)).
		WithDelay(b.Open).
		OnStateChanged(func(circuitbreaker.StateChangedEvent) { c.round, c.probing = c.round+1, 0 }).
		Build()
	return c
}

// lets reports whether another attempt may be made, when so many were promised to
// others. That the time of being open is over, a door says.
func (c *circuit) lets(promised int) bool {
	switch c.State() {
	case circuitbreaker.ClosedState:
		return true
	case circuitbreaker.HalfOpenState:
		return c.probing+promised < c.probes
	}
	return false
}
