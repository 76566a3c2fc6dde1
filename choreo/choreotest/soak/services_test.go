//go:build synctests

package main

import (
	"context"
	"errors"
	"time"

	"github.com/choreography-go/choreography/choreo"
)

// item is what every event carries: which one of its flow it is, from 1 on.
type item struct {
	Flow string
	N    int
	What string // what becomes of it: one of the constants below
	Seen []int  `json:",omitempty"` // a state, told
}

const (
	works   = ""
	refuses = "refuse"
	never   = "never"
)

var (
	begun   = choreo.Event[item]{Type: "soak.begun", Topic: "soak.begun"}
	greeted = choreo.Event[item]{Type: "soak.greeted", Topic: "soak.greeted"}

	sent     = choreo.Event[item]{Type: "soak.sent", Topic: "soak.in"}
	recalled = choreo.Event[item]{Type: "soak.recalled", Topic: "soak.in"}
	finished = choreo.Event[item]{Type: "soak.finished", Topic: "soak.in"}

	// Their key is not the flow: a step and a state hear them by way of the inbox.
	relayed       = choreo.Event[item]{Type: "soak.relayed", Topic: "soak.relay", Key: otherKey}
	relayedRecall = choreo.Event[item]{Type: "soak.relayed-recall", Topic: "soak.relay", Key: otherKey}
	relayedEnd    = choreo.Event[item]{Type: "soak.relayed-end", Topic: "soak.relay", Key: otherKey}

	tallied = choreo.Event[item]{Type: "soak.tallied", Topic: "soak.tally"}

	echoed = choreo.Event[item]{Type: "soak.echoed", Topic: "soak.echo"}

	did     = choreo.Event[item]{Type: "soak.did", Topic: "soak.work"}
	refused = choreo.Event[item]{Type: "soak.refused", Topic: "soak.work"}
	gaveUp  = choreo.Event[item]{Type: "soak.gave-up", Topic: "soak.work"}
	undone  = choreo.Event[item]{Type: "soak.undone", Topic: "soak.work"}
	dropped = choreo.Event[item]{Type: "soak.dropped", Topic: "soak.work"}
	counted = choreo.Event[item]{Type: "soak.counted", Topic: "soak.work"}

	lapsed = choreo.Event[item]{Type: "soak.lapsed", Topic: "soak.lapsed"}

	shipped   = choreo.Event[item]{Type: "soak.shipped", Topic: "soak.shipment"}
	unshipped = choreo.Event[item]{Type: "soak.unshipped", Topic: "soak.shipment"}
	paired    = choreo.Event[item]{Type: "soak.paired", Topic: "soak.pair"}
	unpaired  = choreo.Event[item]{Type: "soak.unpaired", Topic: "soak.pair"}

	balanced = choreo.Event[item]{Type: "soak.balanced", Topic: "soak.shipment"}
	ended    = choreo.Event[item]{Type: "soak.ended", Topic: "soak.shipment", Outcome: choreo.Succeeded}
)

func otherKey(x item) string { return "key of " + x.Flow }

const tasks = choreo.Tasks(2)

// patient is for what must not become a dead letter, however many of its
// attempts faults strike. It is parked after the first.
var patient = choreo.Retry{Attempts: 1000, InPlace: 1, First: 10 * time.Millisecond, Max: time.Second}

var errNotYet = errors.New("this works later")

// later makes every third item need a few attempts, so that it is parked and
// the others of its flow queue behind it.
func later[Out any](do func(context.Context, item) (Out, error)) func(context.Context, item) (Out, error) {
	return func(ctx context.Context, x item) (out Out, err error) {
		if x.N%3 == 0 && choreo.Meta(ctx).Attempt <= 1+x.N%4 {
			return out, errNotYet
		}
		return do(ctx, x)
	}
}

// away lets a provider be away for six seconds of every twenty.
func away[Out any](do func(context.Context, item) (Out, error)) func(context.Context, item) (Out, error) {
	return func(ctx context.Context, x item) (out Out, err error) {
		if time.Now().Unix()%20 < 6 {
			return out, errNotYet
		}
		return do(ctx, x)
	}
}

func same(_ context.Context, x item) (item, error) { return x, nil }

func as(e choreo.Event[item]) func(context.Context, item) (choreo.Emissions, error) {
	return func(_ context.Context, x item) (choreo.Emissions, error) { return choreo.Emit(e.New(x)), nil }
}

// front publishes, and forwards what it hears as it is.
func front() *choreo.Service {
	forward := func(name string, from, to choreo.Event[item]) choreo.Declaration {
		return choreo.Reaction[item]{Name: name, On: from, Emits: choreo.Events{to}, Do: later(as(to)), Retry: patient}
	}
	return choreo.NewService("front", tasks, choreo.Starts(begun),
		forward("forward", sent, relayed),
		forward("forward-recall", recalled, relayedRecall),
		forward("forward-end", finished, relayedEnd),
		choreo.Topic{Name: relayed.Topic, Partitions: 3})
}

var errNever = errors.New("this never works")

// worker answers each item, once, and undoes what it did when it is recalled.
func worker() *choreo.Service {
	return choreo.NewService("worker", tasks, choreo.Topic{Name: relayed.Topic, Partitions: 3, Inbox: true},
		choreo.Reaction[item]{Name: "greet", On: begun, Once: true, Emits: choreo.Events{greeted}, Do: as(greeted), Retry: patient},
		choreo.Reaction[item]{Name: "tally", On: relayed, Once: true, Emits: choreo.Events{tallied}, Do: later(as(tallied)), Retry: patient},
		choreo.Step[item, item]{
			Name: "work", On: relayed, Emit: did,
			Do: func(_ context.Context, x item) (item, error) {
				switch x.What {
				case refuses:
					return x, choreo.Reject("refused", "as it was asked to")
				case never:
					return x, errNever
				}
				return x, nil
			},
			Fail:   choreo.Failures[item]{choreo.FailWith(func(x item, _ *choreo.Rejection) item { return x }, refused)},
			GiveUp: choreo.GiveUpAs(func(x item, _ error) item { return x }, gaveUp),
			Compensate: choreo.Undo(func(ctx context.Context, x, _ item) (item, error) { return later(same)(ctx, x) }, undone, relayedRecall).
				Unknown(func(ctx context.Context, x item) error {
					_, err := later(same)(ctx, x)
					return err
				}),
			Cancel: []choreo.Cancellation{choreo.CancelOn(relayedRecall, func(x item) item { return x }, dropped)},
			Retry:  choreo.Retry{Attempts: 6, InPlace: 2, First: 50 * time.Millisecond, Max: time.Second},
		},
		choreo.Deadline[item, item]{
			Name: "wait", After: relayed, Unless: choreo.Events{relayedRecall, relayedEnd}, Emit: lapsed, Do: later(same), Retry: patient,
			Within: choreo.Per(func(x item) time.Duration { return time.Duration(1+x.N%20) * time.Second }),
		},
		&choreo.State[item]{Name: "ledger", When: []choreo.Transition[item]{
			choreo.When(relayed, func(s *item, x item) { s.Seen = append(s.Seen, x.N) }),
			choreo.Then(relayedEnd, func(s *item, x item) (item, bool) { x.Seen = s.Seen; return x, true }, counted),
		}})
}

func pairUp(tallied, did item) item {
	tallied.Seen = []int{did.N}
	return tallied
}

// shipper has the step after which there is no way back, and whose provider is
// often away. Its echo remembers
// nothing: what it would hear of a transaction that is aborted it would say.
func shipper() *choreo.Service {
	drop := func(x item) item { return x }
	return choreo.NewService("shipper", tasks,
		choreo.Reaction[item]{Name: "echo", On: tallied, Emits: choreo.Events{echoed}, Do: later(as(echoed)), Retry: patient},
		choreo.Step[item, item]{
			Name: "ship", On: did, Do: away(same), Emit: shipped, Pivot: true, Retry: patient,
			Breaker: choreo.Breaker{Failures: 2, Of: 3, Open: 500 * time.Millisecond, Probes: 2},
			Cancel:  []choreo.Cancellation{choreo.CancelOn(dropped, drop, unshipped), choreo.CancelOn(undone, drop, unshipped)},
		},
		&choreo.State[item]{Name: "balance", When: []choreo.Transition[item]{
			choreo.When(did, func(s *item, x item) { s.Seen = append(s.Seen, x.N) }),
			choreo.When(undone, func(s *item, x item) { s.Seen = append(s.Seen, -x.N) }),
			choreo.Then(counted, func(s *item, x item) (item, bool) { x.Seen = s.Seen; return x, true }, balanced),
		}},
		choreo.Step[item, item]{ // of each half the first one counts
			Name: "pair", On: choreo.Both(tallied, did, pairUp), Do: later(same), Emit: paired, Retry: patient, MaxConcurrent: 2,
			Compensate: choreo.Undo(func(ctx context.Context, x, _ item) (item, error) { return later(same)(ctx, x) }, unpaired, undone, dropped).
				Unknown(func(ctx context.Context, x item) error {
					_, err := later(same)(ctx, x)
					return err
				}),
			Cancel: []choreo.Cancellation{choreo.CancelOn(dropped, drop, unpaired), choreo.CancelOn(undone, drop, unpaired)},
		},
		choreo.Reaction[item]{Name: "end", On: counted, Once: true, Emits: choreo.Events{ended}, Do: as(ended), Retry: patient})
}
