//go:build synctests

package choreotest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/twmb/franz-go/pkg/kgo"
)

// hasSaid reports whether an event of a flow lies on a topic.
func (o *observer) hasSaid(topic, flow string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.ContainsFunc(o.records, func(rec *kgo.Record) bool { return rec.Topic == topic && flowOfRecord(rec) == flow })
}

// A provider is away for longer than the retries last, so that its events are
// dead letters. They are replayed, over and over, while everything fails, until
// it is back: then every seat is paid, once.
func TestSimulateReplays(t *testing.T) {
	t.Run("tried in place", func(t *testing.T) { simulateReplays(t, 2) })
	t.Run("parked", func(t *testing.T) { simulateReplays(t, 1) })
}

func simulateReplays(t *testing.T, inPlace int) {
	var mu sync.Mutex
	var back time.Time
	done := map[string]map[string]bool{} // by seat, the keys under which it was paid
	pay := func(ctx context.Context, s seat) (seat, error) {
		mu.Lock()
		defer mu.Unlock()
		if time.Now().Before(back) {
			return seat{}, errors.New("the provider is away")
		}
		if done[s.Seat] == nil {
			done[s.Seat] = map[string]bool{}
		}
		done[s.Seat][choreo.Meta(ctx).IdempotencyKey] = true
		return s, nil
	}
	replayed := 0
	paidOnce := func(seat string) bool {
		mu.Lock()
		defer mu.Unlock()
		return len(done[seat]) == 1
	}
	bank := func() *choreo.Service {
		return choreo.NewService("bank", choreo.Tasks(2), choreo.Step[seat, seat]{
			Name: "charge", On: reserved, Emit: paid, Do: pay, Retry: choreo.Retry{Attempts: 2, InPlace: inPlace, First: 10 * time.Millisecond},
		})
	}
	Simulate(t, []Simulated{{New: hall}, {New: bank, Instances: 2}},
		Workload{Flows: 10, Begin: func(w *World, flow string) error {
			mu.Lock()
			if back.IsZero() {
				back = time.Now().Add(20 * time.Second)
			}
			mu.Unlock()
			if err := w.Say(flow, booked.New(booking{flow, "full"})); err != nil {
				return err
			}
			for range 200 {
				if err := w.Sleep(2 * time.Second); err != nil {
					return err
				}
				for range 2 { // the second time the first may be on its way still
					n, err := w.Replay("bank", flow)
					if err != nil {
						return err
					}
					mu.Lock()
					replayed += n
					mu.Unlock()
				}
				if w.see.hasSaid(paid.Topic, flow) {
					return nil
				}
			}
			return errors.New("the seat is not paid")
		}},
		[]Invariant{{Name: "every seat is paid once", Check: func(f Flow) error {
			if n := f.Count(paid.Type); n != 1 || !paidOnce(f.ID) {
				return fmt.Errorf("it was paid %d times, %v", n, paidOnce(f.ID))
			}
			return nil
		}}},
		Options{Seeds: 3, Reset: func() {
			mu.Lock()
			defer mu.Unlock()
			clear(done)
			back = time.Time{}
		}},
	)
	if replayed == 0 {
		t.Error("no dead letter was replayed")
	}
}
