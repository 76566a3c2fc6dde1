//go:build synctests

package choreotest

import (
	"bytes"
	"context"
	cryptorand "crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest/internal/schedule"
	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A small choreography: a seat is reserved and then paid; where it is not paid,
// it is released.
type (
	booking struct{ Seat, Card string }
	seat    struct{ Seat, Card string }
	refusal struct{ Why string }
	tally   struct{ Released, Paid int }
	broke   struct{}
)

func (broke) Error() string { return "no money" }

var (
	booked   = choreo.Event[booking]{Type: "booked", Topic: "bookings"}
	reserved = choreo.Event[seat]{Type: "reserved", Topic: "seats"}
	released = choreo.Event[seat]{Type: "released", Topic: "seats", Outcome: choreo.Failed}
	dropped  = choreo.Event[refusal]{Type: "dropped", Topic: "seats", Outcome: choreo.Failed}
	paid     = choreo.Event[seat]{Type: "paid", Topic: "payments", Outcome: choreo.Succeeded}
	refused  = choreo.Event[refusal]{Type: "refused", Topic: "payments"}
	thanked  = choreo.Event[seat]{Type: "thanked", Topic: "mails"}
)

func hall() *choreo.Service {
	return choreo.NewService("hall", choreo.Tasks(2),
		choreo.Step[booking, seat]{
			Name: "reserve", On: booked, Emit: reserved,
			Do:         func(_ context.Context, b booking) (seat, error) { return seat(b), nil },
			Compensate: choreo.Undo(func(_ context.Context, _ booking, s seat) (seat, error) { return s, nil }, released, refused),
			Cancel:     []choreo.Cancellation{choreo.CancelOn(refused, func(r refusal) refusal { return r }, dropped)},
		},
		&choreo.State[tally]{Name: "tally", When: []choreo.Transition[tally]{
			choreo.When(paid, func(t *tally, _ seat) { t.Paid++ }),
			choreo.When(refused, func(t *tally, _ refusal) { t.Released++ }),
		}},
		choreo.Reaction[seat]{Name: "thank", On: paid, Emits: choreo.Events{thanked},
			Do: func(_ context.Context, s seat) (choreo.Emissions, error) { return choreo.Emit(thanked.New(s)), nil }},
	)
}

func bank(do func(context.Context, seat) (seat, error)) func() *choreo.Service {
	return func() *choreo.Service {
		return choreo.NewService("bank", choreo.Tasks(2), choreo.Step[seat, seat]{
			Name: "charge", On: reserved, Emit: paid, Do: do, Pivot: true, Retry: choreo.Retry{Attempts: 50, Max: 5 * time.Second},
			Fail: choreo.Failures[seat]{choreo.FailAs(func(_ seat, b broke) refusal { return refusal{b.Error()} }, refused)},
		})
	}
}

func charge(_ context.Context, s seat) (seat, error) {
	if s.Card == "empty" {
		return seat{}, broke{}
	}
	return s, nil
}

// book books two seats in each flow; in every other one the card is empty.
func book(w *World, flow string) error {
	card := "full"
	if strings.ContainsAny(flow[len(flow)-1:], "13579") {
		card = "empty"
	}
	return errors.Join(w.Say(flow, booked.New(booking{"A1", card})), w.Say(flow, booked.New(booking{"A2", card})))
}

// simulated makes a simulation of hall and bank without faults.
func simulated(t *testing.T, do func(context.Context, seat) (seat, error), o Options, invariants ...Invariant) *simulation {
	t.Helper()
	if o.Faults == nil {
		o.Faults = []FaultKind{}
	}
	if o.For == 0 {
		o.For = 10 * time.Second
	}
	if o.Settle == 0 {
		o.Settle = 40 * time.Second
	}
	s, err := newSimulation([]Simulated{{New: hall}, {New: bank(do)}}, Workload{Flows: 4, Begin: book}, invariants, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// wantViolations fails the test unless these invariants are violated, and no others.
func wantViolations(t *testing.T, got []violation, want ...string) {
	t.Helper()
	names := map[string]bool{}
	for _, v := range got {
		names[v.invariant] = true
	}
	slices.Sort(want)
	if have := slices.Sorted(maps.Keys(names)); !slices.Equal(have, want) {
		t.Errorf("violated are %q, want %q", have, want)
		for _, v := range got {
			t.Log(v)
		}
	}
}

// What faults have published again is there as often, and what a Reaction has
// said about it, too; that may itself have been published again.
func TestCopiesThatFaultsExplain(t *testing.T) {
	s := simulated(t, charge, Options{})
	event := func(id, cause, service, step string) FlowEvent {
		return FlowEvent{Event: cloudevent.Event{ID: id, Source: "/" + service, Type: id, CausationID: cause, Service: service, Step: step, Kind: cloudevent.KindDid}}
	}
	paid, thanked := event("paid", "", "bank", "charge"), event("thanked", "paid", "hall", "thank")
	for _, c := range []struct {
		name                          string
		paid, thanked                 int // how often they stand there
		againPaid, againThanked, told int
	}{
		{"nothing again", 1, 1, 0, 0, 0},
		{"a step says it twice", 2, 1, 0, 0, 1},
		{"what a step has said is published again", 2, 1, 1, 0, 0},
		{"a reaction says it for each copy", 2, 2, 1, 0, 0},
		{"a reaction says it once too often", 1, 2, 0, 0, 1},
		{"one of three is published again", 2, 3, 1, 1, 0},
		{"one of four comes from nowhere", 2, 4, 1, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := history{
				all:   map[string][]FlowEvent{"flow": append(slices.Repeat([]FlowEvent{paid}, c.paid), slices.Repeat([]FlowEvent{thanked}, c.thanked)...)},
				extra: map[eventName]int{{paid.Source, paid.ID}: c.againPaid, {thanked.Source, thanked.ID}: c.againThanked},
			}
			if got := h.saidOnce(Flow{ID: "flow", Events: []FlowEvent{paid, thanked}}, s); len(got) != c.told {
				t.Errorf("%v, want %d violations", got, c.told)
			}
		})
	}
}

// What was committed is changed behind the simulation's back; the invariant
// that it breaks must be found, and no other.
func TestBrokenHistoriesAreFound(t *testing.T) {
	s := simulated(t, charge, Options{})
	good := s.run(t, 1, nil)
	wantViolations(t, good.violations)
	if len(good.flows) != 4 {
		t.Fatalf("%d flows", len(good.flows))
	}
	// of the first flow, which was refused, and the second one, which was paid
	refusedFlow, paidFlow := good.flows[0].ID, good.flows[1].ID
	said := func(h *history, flow, eventType string) *FlowEvent {
		for i := range h.flows {
			for k := range h.flows[i].Events {
				if e := &h.flows[i].Events[k]; h.flows[i].ID == flow && e.Type == eventType {
					return e
				}
			}
		}
		t.Fatalf("flow %q has no %s", flow, eventType)
		return nil
	}
	add := func(h *history, flow string, e FlowEvent) {
		h.all[flow] = append(h.all[flow], e)
		for i := range h.flows {
			if h.flows[i].ID == flow {
				h.flows[i].Events = append(h.flows[i].Events, e)
			}
		}
	}
	remove := func(h *history, flow, eventType string) {
		is := func(e FlowEvent) bool { return e.Type == eventType }
		h.all[flow] = slices.DeleteFunc(h.all[flow], is)
		for i := range h.flows {
			if h.flows[i].ID == flow {
				h.flows[i].Events = slices.DeleteFunc(h.flows[i].Events, is)
			}
		}
	}
	forget := func(h *history, service, flow, slot string) {
		n := len(h.journals[service])
		h.journals[service] = slices.DeleteFunc(h.journals[service], func(rec *kgo.Record) bool {
			f, s, _ := slotOf(rec.Key)
			return f == flow && strings.HasPrefix(s, slot)
		})
		if len(h.journals[service]) == n {
			t.Fatalf("the journal of %s has no %s of flow %q", service, slot, flow)
		}
	}
	for _, c := range []struct {
		name  string
		want  string
		spoil func(h *history)
	}{
		{"an event is said twice", sayOnce, func(h *history) { add(h, paidFlow, *said(h, paidFlow, "paid")) }},
		{"two events stand the wrong way round", inOrder, func(h *history) {
			var both []int
			for i, e := range h.all[paidFlow] {
				if e.Type == "paid" {
					both = append(both, i)
				}
			}
			all := h.all[paidFlow]
			a, b := &all[both[0]], &all[both[1]]
			a.Offset, b.Offset = b.Offset, a.Offset
			*a, *b = *b, *a
		}},
		{"a step has not answered", nothingLost, func(h *history) {
			remove(h, paidFlow, "paid")
			remove(h, paidFlow, "thanked")
			forget(h, "bank", paidFlow, "run/charge")
			forget(h, "hall", paidFlow, "state/tally")
		}},
		{"a trigger was not heard", nothingLost, func(h *history) {
			remove(h, refusedFlow, "released")
			remove(h, refusedFlow, "dropped")
			remove(h, refusedFlow, "reserved")
			forget(h, "hall", refusedFlow, "run/reserve")
			forget(h, "hall", refusedFlow, "cancelled/reserve")
			forget(h, "bank", refusedFlow, "run/charge")
			for i := range h.flows { // as if it had come from outside
				for k := range h.flows[i].Events {
					if e := &h.flows[i].Events[k]; e.Type == "refused" {
						e.Service = ""
					}
				}
			}
		}},
		{"a state missed an event", nothingLost, func(h *history) { forget(h, "hall", paidFlow, "state/tally") }},
		{"the journal lacks a run", journalTold, func(h *history) { forget(h, "hall", paidFlow, "run/reserve") }},
		{"the journal has a run that nobody tells of", journalTold, func(h *history) { remove(h, refusedFlow, "released") }},
		{"a step has undone a run twice", answerOnce, func(h *history) {
			e := *said(h, refusedFlow, "released")
			e.ID, e.Offset = "another", e.Offset+1000
			add(h, refusedFlow, e)
		}},
		{"a step is undone and cancelled", answerOnce, func(h *history) {
			e := *said(h, refusedFlow, "released")
			e.ID, e.Type, e.Kind, e.Offset = "another", "dropped", cloudevent.KindCancelled, e.Offset+1000
			add(h, refusedFlow, e)
		}},
		{"a step has run after it was cancelled", answerOnce, func(h *history) {
			var first, rest []*kgo.Record
			for _, rec := range h.journals["hall"] {
				if f, slot, _ := slotOf(rec.Key); f == refusedFlow && slot == "cancelled/reserve" {
					first = append(first, rec)
				} else {
					rest = append(rest, rec)
				}
			}
			h.journals["hall"] = append(first, rest...)
		}},
		{"a journal cannot be read", journalTold, func(h *history) {
			h.journals["hall"] = append(h.journals["hall"], &kgo.Record{Topic: "hall.journal", Key: []byte("flow\x00run/nobody/AAAAAAAAAAAAAAAAAAAAAA"), Value: []byte{1}})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := good.history
			h.all, h.journals = map[string][]FlowEvent{}, map[string][]*kgo.Record{}
			for id, events := range good.history.all {
				h.all[id] = slices.Clone(events)
			}
			for name, recs := range good.history.journals {
				h.journals[name] = slices.Clone(recs)
			}
			h.flows = slices.Clone(good.history.flows)
			for i := range h.flows {
				h.flows[i].Events = slices.Clone(h.flows[i].Events)
			}
			c.spoil(&h)
			got := h.check(s)
			found := slices.ContainsFunc(got, func(v violation) bool { return v.invariant == c.want })
			if !found {
				t.Errorf("found %v, want %q", got, c.want)
			}
		})
	}
}

// blockForever leaves a goroutine behind, which [TestMain] knows of.
func blockForever() { <-make(chan struct{}) }

// Services that do what no service may: each breaks one invariant.
func TestBrokenServicesAreFound(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(context.Context, seat) (seat, error)
		want []string
	}{
		{"a handler that never returns", func(ctx context.Context, s seat) (seat, error) {
			blockForever()
			return s, nil
		}, []string{nothingLost, allEnd, allStops}},
		{"a handler that leaves a goroutine behind", func(ctx context.Context, s seat) (seat, error) {
			go blockForever()
			return charge(ctx, s)
		}, []string{allStops}},
		{"a handler that is stuck for an hour", func(ctx context.Context, s seat) (seat, error) {
			select {
			case <-time.After(time.Hour):
			case <-ctx.Done():
			}
			return charge(ctx, s)
		}, []string{nothingLost}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := simulated(t, c.do, Options{}).run(t, 1, nil)
			found := map[string]bool{}
			for _, v := range r.violations {
				found[v.invariant] = true
			}
			for _, want := range c.want {
				if !found[want] {
					t.Errorf("%q is not found to be violated; found are %v", want, slices.Collect(maps.Keys(found)))
				}
			}
		})
	}
}

func TestAServiceThatEndsByItselfIsFound(t *testing.T) {
	s := simulated(t, charge, Options{Configure: func(c *choreo.Config) {
		if strings.HasPrefix(c.InstanceID, "bank-1") {
			c.Lanes = 99
		}
	}})
	r := s.run(t, 1, nil)
	if !slices.ContainsFunc(r.violations, func(v violation) bool {
		return v.invariant == "no service ends by itself" && strings.Contains(v.text, "LANES")
	}) {
		t.Errorf("%v", r.violations)
	}
}

func TestAnEventThatIsPublishedTwiceIsFound(t *testing.T) {
	s := simulated(t, charge, Options{})
	s.workload.Begin = func(w *World, flow string) error {
		rec, err := hall().Encode(flow, booked.New(booking{"A1", "full"}))
		if err != nil {
			return err
		}
		w.Began(flow)
		again := *rec
		return errors.Join(w.produce(rec), w.produce(&again))
	}
	wantViolations(t, s.run(t, 1, nil).violations, sayOnce)
}

// The report of a failing seed says everything that is needed to see why.
func TestAFailingSeedIsReported(t *testing.T) {
	s := simulated(t, charge, Options{Faults: []FaultKind{SlowHandlers, Cuts}, For: 20 * time.Second, Minimize: 30}, Invariant{
		Name: "nobody waits", Check: func(f Flow) error {
			for _, e := range f.Events {
				if cause := f.find(e.CausationID); cause != nil && e.Time.Sub(cause.Time) > 2*time.Second {
					return fmt.Errorf("%s came %v after its cause", e.Type, e.Time.Sub(cause.Time))
				}
			}
			return nil
		},
	})
	faults, err := schedule.Parse("3.5s cut hall-0; 4s handler-slow bank count=2 for=5s; 5s cut bank-0; 6s cut bank-1; 12s cut hall-0")
	if err != nil {
		t.Fatal(err)
	}
	r := s.run(t, 7, faults)
	wantViolations(t, r.violations, "nobody waits")
	text := s.report(t, 7, r)
	for _, want := range []string{
		`nobody waits: flow "flow-`, "came 5", "CHOREO_SEED=7 go test -tags synctests -count=1 -run '^TestAFailingSeedIsReported$' .",
		"seed 7 violates 1 invariant, in ", "of its 5 faults this one suffices", "failed again in 5 of 5",
		"CHOREO_SCHEDULE='4s handler-slow bank count=2 for=5s'", "booked  [published]", "      reserved  [hall reserve did]", "service runs",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// A seed that failed after others must fail when it is run alone.
func TestASeedIsTheSameAfterOthers(t *testing.T) {
	var drawn [][]byte
	s := simulated(t, charge, Options{})
	s.workload.Begin = func(w *World, flow string) error {
		b := make([]byte, 8)
		_, err := cryptorand.Read(b)
		drawn[len(drawn)-1] = append(drawn[len(drawn)-1], b...)
		return errors.Join(err, book(w, flow))
	}
	for range 20 { // kfake's stock lasts for some
		drawn = append(drawn, nil)
		if r := s.run(t, 7, nil); len(r.violations) > 0 {
			t.Fatal(r.violations)
		}
		if !bytes.Equal(drawn[0], drawn[len(drawn)-1]) {
			t.Fatalf("run %d draws %x, the first one drew %x", len(drawn), drawn[len(drawn)-1], drawn[0])
		}
	}
}

func TestAScheduleThatCannotBeFollowedIsFound(t *testing.T) {
	s := simulated(t, charge, Options{})
	faults, err := schedule.Parse("4s cut nobody-0; 5s error request=Nothing err=NOT_LEADER_FOR_PARTITION; 6s error request=Fetch err=NONSENSE")
	if err != nil {
		t.Fatal(err)
	}
	r := s.run(t, 1, faults)
	wantViolations(t, r.violations, "the schedule can be followed")
	if len(r.violations) != 3 {
		t.Errorf("%v", r.violations)
	}
}

// The small choreography holds under all faults.
func TestSimulateUnderAllFaults(t *testing.T) {
	seeds := 3
	if testing.Short() {
		seeds = 1
	}
	Simulate(t, []Simulated{{New: hall, Next: []func() *choreo.Service{hall}}, {New: bank(charge)}},
		Workload{Begin: book}, []Invariant{{Name: "every booking ends", Check: func(f Flow) error {
			if f.Count("paid") != 2 && f.Count("released")+f.Count("dropped") == 0 {
				return errors.New("it is neither paid nor released")
			}
			return nil
		}}}, Options{Seeds: seeds})
}

func TestTheSameSeedMakesTheSameFaults(t *testing.T) {
	s := simulated(t, charge, Options{Faults: []FaultKind{Kills, Cuts, BrokerErrors}})
	if a, b := s.schedule(3), s.schedule(3); len(a) == 0 || a.String() != b.String() {
		t.Errorf("%v\n%v", a, b)
	}
}
