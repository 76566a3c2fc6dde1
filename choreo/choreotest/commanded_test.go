//go:build synctests

package choreotest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/operator"
)

// Nothing works by itself: no seat can be paid, and none released. Two people
// skip the former and resolve the latter, over and over, while everything fails.
// Each command that is done has its effect once, and every other one is refused.
func TestSimulateCommands(t *testing.T) {
	seldom := choreo.Retry{Attempts: 1000, InPlace: 1, First: time.Second, Max: time.Minute, Over: 24 * time.Hour}
	away := errors.New("the provider is away")
	unavailable := choreo.Event[refusal]{Type: refused.Type, Topic: refused.Topic}
	bank := func() *choreo.Service {
		return choreo.NewService("bank", choreo.Tasks(2), choreo.Step[seat, seat]{
			Name: "charge", On: reserved, Emit: paid, Retry: seldom,
			Do:     func(context.Context, seat) (seat, error) { return seat{}, away },
			GiveUp: choreo.GiveUpAs(func(seat, error) refusal { return refusal{"given up"} }, unavailable),
		})
	}
	hall := func() *choreo.Service {
		return choreo.NewService("hall", choreo.Tasks(2), choreo.Step[booking, seat]{
			Name: "reserve", On: booked, Emit: reserved, Retry: seldom,
			Do:         func(_ context.Context, b booking) (seat, error) { return seat(b), nil },
			Compensate: choreo.Undo(func(context.Context, booking, seat) (seat, error) { return seat{}, away }, released, refused),
		})
	}
	var mu sync.Mutex
	told := 0
	Simulate(t, []Simulated{{New: hall}, {New: bank, Instances: 2}},
		Workload{Flows: 6, Begin: func(w *World, flow string) error {
			if err := w.Say(flow, booked.New(booking{flow, "full"})); err != nil {
				return err
			}
			for n := range 300 {
				if err := w.Sleep(2 * time.Second); err != nil {
					return err
				}
				if w.see.over(flow) {
					return nil
				}
				for service, do := range map[string]operator.Do{"bank": operator.Skip, "hall": operator.Resolve} {
					for _, i := range w.Stuck(service) {
						if i.Flow != flow {
							continue
						}
						for _, by := range []string{"ann", "bob"} {
							c := operator.Command{ID: fmt.Sprint(flow, service, n, by), Do: do, Target: i.Target, By: by, Why: "it does not work"}
							if do == operator.Resolve {
								c.Data = fmt.Appendf(nil, `{"Seat": %q, "Card": "by hand"}`, flow)
							}
							if err := w.Tell(service, c); err != nil {
								return err
							}
							mu.Lock()
							told++
							mu.Unlock()
						}
					}
				}
			}
			return errors.New("the seat is not released")
		}},
		[]Invariant{{Name: "every seat is released by hand, once", Check: func(f Flow) error {
			done := map[string]int{} // faults of handlers are resolved too
			for _, a := range f.Audits {
				if a.Outcome == operator.Done {
					done[a.Service+" "+string(a.Kind)]++
				}
			}
			if f.Count(refused.Type) != 1 || f.Count(released.Type) != 1 || f.Has(paid.Type) || done["bank step"] != 1 || done["hall undo"] != 1 {
				return fmt.Errorf("it was refused %d times, released %d times; done are %v", f.Count(refused.Type), f.Count(released.Type), done)
			}
			return nil
		}}},
		Options{Seeds: 3},
	)
	if told == 0 {
		t.Error("nothing was told")
	}
}
