package txn

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Who drains waits for the last result, and not for less: others may be submitted
// meanwhile.
func TestDrainWaitsForAllThatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := &Pipeline{wake: make(chan struct{}, 1), left: 1}
		done := make(chan error, 1)
		go func() { done <- p.Drain(ctx) }()
		synctest.Wait()
		p.mu.Lock()
		close(p.idle)
		p.idle = nil // the last one is done, and another one there before Drain looks
		p.mu.Unlock()
		synctest.Wait()
		select {
		case err := <-done:
			t.Errorf("it has drained what is left: %v", err)
		default:
		}
		p.mu.Lock()
		close(p.idle)
		p.idle, p.left = nil, 0
		cancel() // too late to matter
		p.mu.Unlock()
		if err := <-done; err != nil {
			t.Errorf("nothing was left: %v", err)
		}
		if p.draining != 0 {
			t.Errorf("%d still drain", p.draining)
		}
	})
}

// A wait that is over to the nanosecond is over: nobody would wake who waits on.
func TestWhatHasWaitedLongEnoughIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pipeline{cfg: Config{Gather: 2 * time.Millisecond, MaxRecords: 100}, since: time.Now()}
		p.gathered.push(&Result{Records: []*kgo.Record{{}}})
		if what, left := p.pending(1); what != nothing || left != p.cfg.Gather {
			t.Errorf("at once there is %v to commit, and %v to wait", what, left)
		}
		time.Sleep(p.cfg.Gather)
		if what, left := p.pending(1); what != transactional || left != 0 {
			t.Errorf("after the wait there is %v to commit, and %v to wait", what, left)
		}
	})
}
