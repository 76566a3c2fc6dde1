package choreo

import (
	"context"
	"errors"
	"sync"
	"time"
)

// limited is the context of an attempt with a timeout. Most attempts are over
// long before and never ask whether they are to end: for those that do ask, a
// context that ends and its timer are made then.
type limited struct {
	context.Context // what it is made of
	step            string
	due             time.Time
	before, after   *limited // guarded by overdue.mu

	mu    sync.Mutex
	ends  context.Context // nil: nobody has asked
	end   context.CancelCauseFunc
	timer *time.Timer
	over  bool // the attempt is
}

func (l *limited) asked() context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ends == nil {
		l.ends, l.end = context.WithCancelCause(l.Context)
		switch left := time.Until(l.due); {
		case l.over: // what the handler has started asks
			l.end(nil)
		case left <= 0:
			l.end(ErrTimeout)
		default:
			l.timer = time.AfterFunc(left, func() { l.end(ErrTimeout) })
		}
	}
	return l.ends
}

func (l *limited) Deadline() (time.Time, bool) { return l.asked().Deadline() }
func (l *limited) Done() <-chan struct{}       { return l.asked().Done() }
func (l *limited) Err() error                  { return l.asked().Err() }
func (l *limited) Value(key any) any           { return l.asked().Value(key) }

// finish ends the context with its attempt, and reports whether the attempt took
// too long, at a time.
func (l *limited) finish(at time.Time) (late bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	if l.ends == nil {
		return !at.Before(l.due) && l.Context.Err() == nil
	}
	if l.timer != nil {
		l.timer.Stop()
	}
	late = errors.Is(context.Cause(l.ends), ErrTimeout)
	l.end(nil)
	return late
}

// overdue knows the attempts under way that have a timeout. One that has outlived
// it blocks its flow until it returns.
type overdue struct {
	mu    sync.Mutex
	first *limited
}

// begin makes the context of an attempt that may take so long.
func (o *overdue) begin(ctx context.Context, step string, from time.Time, timeout time.Duration) *limited {
	l := &limited{Context: ctx, step: step, due: from.Add(timeout)}
	o.mu.Lock()
	defer o.mu.Unlock()
	if l.after = o.first; l.after != nil {
		l.after.before = l
	}
	o.first = l
	return l
}

// end forgets an attempt that has returned.
func (o *overdue) end(l *limited) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if l.before != nil {
		l.before.after = l.after
	} else {
		o.first = l.after
	}
	if l.after != nil {
		l.after.before = l.before
	}
	l.before, l.after = nil, nil
}

// byStep counts overdue attempts.
func (o *overdue) byStep() map[string]int {
	o.mu.Lock()
	defer o.mu.Unlock()
	now, n := time.Now(), map[string]int{}
	for l := o.first; l != nil; l = l.after {
		if now.After(l.due) {
			n[l.step]++
		}
	}
	return n
}
