// Package timelimit ends the contexts of attempts that take too long, and knows the
// attempts that go on nevertheless.
//
// It owns the contexts and their timers. It may not end an attempt, nobody can: what
// an attempt is, and what its lateness means, is for whoever makes it.
package timelimit

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Attempts are those under way that have a time limit. One that has outlived it
// blocks its flow until it returns.
type Attempts struct {
	// Late is the cause of a context that ends because its attempt takes too long.
	// Nil: context.DeadlineExceeded.
	Late error

	mu    sync.Mutex
	first *Context
}

// Begin makes the context of an attempt that may take so long.
func (a *Attempts) Begin(ctx context.Context, step string, from time.Time, limit time.Duration) *Context {
	c := &Context{Context: ctx, attempts: a, step: step, due: from.Add(limit)}
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.after = a.first; c.after != nil {
		c.after.before = c
	}
	a.first = c
	return c
}

// forget takes out an attempt that has returned.
func (a *Attempts) forget(c *Context) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.before != nil {
		c.before.after = c.after
	} else {
		a.first = c.after
	}
	if c.after != nil {
		c.after.before = c.before
	}
	c.before, c.after = nil, nil
}

// Overdue counts the attempts that have outlived their limit, by step.
func (a *Attempts) Overdue() map[string]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	now, n := time.Now(), map[string]int{}
	for c := a.first; c != nil; c = c.after {
		if now.After(c.due) {
			n[c.step]++
		}
	}
	return n
}

func (a *Attempts) late() error {
	if a.Late == nil {
		return context.DeadlineExceeded
	}
	return a.Late
}

// Context is that of one attempt. Most attempts are over long before their limit and
// never ask whether they are to end: for those that do ask, a context that ends and
// its timer are made then.
type Context struct {
	context.Context // what it is made of
	attempts        *Attempts
	step            string
	due             time.Time
	before, after   *Context // guarded by attempts.mu

	mu    sync.Mutex
	ends  context.Context // nil: nobody has asked
	end   context.CancelCauseFunc
	timer *time.Timer
	over  bool // the attempt is
}

func (c *Context) asked() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ends == nil {
		c.ends, c.end = context.WithCancelCause(c.Context)
		switch left := time.Until(c.due); {
		case c.over: // what the handler has started asks
			c.end(nil)
		case left <= 0:
			c.end(c.attempts.late())
		default:
			c.timer = time.AfterFunc(left, func() { c.end(c.attempts.late()) })
		}
	}
	return c.ends
}

// Deadline implements context.Context.
func (c *Context) Deadline() (time.Time, bool) { return c.asked().Deadline() }

// Done implements context.Context.
func (c *Context) Done() <-chan struct{} { return c.asked().Done() }

// Err implements context.Context.
func (c *Context) Err() error { return c.asked().Err() }

// Value implements context.Context.
func (c *Context) Value(key any) any { return c.asked().Value(key) }

// End ends the context with its attempt, and reports whether the attempt took too
// long, at a time.
func (c *Context) End(at time.Time) (late bool) {
	c.attempts.forget(c)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	if c.ends == nil {
		return !at.Before(c.due) && c.Context.Err() == nil
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	late = errors.Is(context.Cause(c.ends), c.attempts.late())
	c.end(nil)
	return late
}
