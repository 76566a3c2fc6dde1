package txn

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// backoff is the pause between attempts: doubling, with jitter of a quarter.
type backoff struct{ now, max time.Duration }

func newBackoff(first, most time.Duration) backoff { return backoff{now: first, max: most} }

func (b *backoff) next() time.Duration {
	d := b.now
	b.now = min(2*b.now, b.max)
	return d - time.Duration(rand.Int64N(int64(d)/4+1))
}

// pause waits and returns nil; when ctx ends first, it returns what was waited
// for, so that it is the last answer that is reported and not the deadline
// alone.
func pause(ctx context.Context, d time.Duration, waitedFor error) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w (last answer: %w)", context.Cause(ctx), waitedFor)
	}
}
