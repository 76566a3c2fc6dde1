package choreo_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
	"github.com/prometheus/client_golang/prometheus"
)

// A handler that ignores the end of its context blocks its flow, and no other: no
// attempt is made beside it, and it shows. When it returns it has failed like any
// other.
func TestAHandlerThatIgnoresItsContextBlocksItsFlowAlone(t *testing.T) {
	w := &worker{fail: map[string]int{"g": 2}}
	ended, free := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(free) })
	defer release()
	reg := prometheus.NewRegistry()
	step := w.step()
	step.Timeout = 50 * time.Millisecond
	step.Do = func(ctx context.Context, j job) (work, error) {
		done, err := w.Do(ctx, j)
		if j.What == "hangs" && w.count("do hangs") == 1 {
			<-ctx.Done()
			close(ended)
			<-free
			return work{}, ctx.Err()
		}
		return done, err
	}
	svc := choreo.NewService("worker", choreo.Tasks(1), step)
	s := choreotest.Start(t, svc, choreotest.With(func(c *choreo.Config) {
		c.Registerer, c.Logger = reg, slog.New(slog.NewTextHandler(io.Discard, nil))
	}))
	s.Publish("f", jobGiven.New(job{"f", "hangs"}))
	s.Publish("f", jobGiven.New(job{"f", "next"}))
	<-ended
	const says = `step "work": 1 attempts ignore their context and run on after their Timeout, blocking their flows`
	eventually(t, "it says that it is not ready", func() error {
		if err := svc.Ready(); err == nil || !strings.Contains(err.Error(), says) {
			return fmt.Errorf("it says %w, want %q", err, says)
		}
		return nil
	})
	if n := gauge(t, reg, "choreo_overdue_handlers", "work"); n != 1 {
		t.Errorf("%v handlers are overdue", n)
	}
	s.Publish("g", jobGiven.New(job{"g", "g"})) // of the same task, and retried with the same waits
	s.Expect("g", jobDone.New(work{"g", "g"}))
	if hangs, next := w.count("do hangs"), w.count("do next"); hangs != 1 || next != 0 {
		t.Errorf("while it hangs %d attempts were made, and %d at the next event of its flow", hangs, next)
	}
	release()
	s.Expect("f", jobDone.New(work{"f", "hangs"}), jobDone.New(work{"f", "next"}))
	s.ExpectNothingMore("f")
	expectCalls(t, w, "do hangs", "do g", "do g", "do g", "do hangs", "do next")
	if err := svc.Ready(); err != nil {
		t.Errorf("it is not ready after all: %v", err)
	}
	awaitGauge(t, reg, "choreo_overdue_handlers", "work", 0)
}
