package choreo

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

type in struct{ ID string }
type out struct{ ID string }
type other struct{ N int }

var (
	heard   = Event[in]{Type: "test.heard", Topic: "a"}
	said    = Event[out]{Type: "test.said", Topic: "b"}
	undone  = Event[out]{Type: "test.undone", Topic: "b"}
	refused = Event[out]{Type: "test.refused", Topic: "b"}
	trouble = Event[in]{Type: "test.trouble", Topic: "c"}
)

func do(context.Context, in) (out, error)        { return out{}, nil }
func undo(context.Context, in, out) (out, error) { return out{}, nil }
func unknown(context.Context, in) error          { return nil }

func step() Step[in, out] {
	return Step[in, out]{Name: "act", On: heard, Do: do, Emit: said}
}

func deadline(change ...func(*Deadline[in, out])) Deadline[in, out] {
	d := Deadline[in, out]{Name: "d", After: heard, Within: Fixed[in](time.Hour), Unless: Events{trouble}, Do: do, Emit: said}
	for _, c := range change {
		c(&d)
	}
	return d
}

var (
	more = Event[in]{Type: "test.more", Topic: "m"}
	last = Event[in]{Type: "test.last", Topic: "m"}
	old  = Event[other]{Type: "test.old", Topic: "m"}
)

func pair(a, _ in) in { return a }

func joins(on Trigger[in], change ...func(*Step[in, out])) Step[in, out] {
	s := step()
	s.On = on
	for _, c := range change {
		c(&s)
	}
	return s
}

func TestValidateNamesEveryMistakeWithItsPlace(t *testing.T) {
	with := func(change func(*Step[in, out])) Declaration {
		s := step()
		change(&s)
		return s
	}
	for _, c := range []struct {
		name  string
		decls []Declaration
		want  []string // each in one mistake
	}{
		{"a good step", []Declaration{step()}, nil},
		{"everything a step can have", []Declaration{with(func(s *Step[in, out]) {
			s.Compensate = Undo(undo, undone, trouble).Unknown(unknown)
			s.Cancel = []Cancellation{CancelOn(trouble, func(in) out { return out{} }, refused)}
			s.Fail = Failures[in]{FailWith(func(in, *Rejection) out { return out{} }, refused)}
			s.GiveUp = GiveUpAs(func(in, error) out { return out{} }, Event[out]{Type: "test.unavailable", Topic: "b"})
		})}, nil},
		{"nothing", nil, []string{"nothing is declared"}},
		{"a nil state", []Declaration{step(), (*State[in])(nil)}, []string{"declaration 2 is nil"}},
		{"no name", []Declaration{with(func(s *Step[in, out]) { s.Name = "" })}, []string{"Name is missing"}},
		{"a name that is none", []Declaration{with(func(s *Step[in, out]) { s.Name = "Pay Now" })}, []string{`"Pay Now"`}},
		{"one name twice", []Declaration{step(), Reaction[in]{Name: "act", On: heard, Do: func(context.Context, in) (Emissions, error) { return nil, nil }}},
			[]string{`"act": Name is already used`}},
		{"a former name that is in use", []Declaration{step(), with(func(s *Step[in, out]) { s.Name, s.Formerly = "act2", []string{"act"} })},
			[]string{"Formerly is already used"}},
		{"no trigger", []Declaration{with(func(s *Step[in, out]) { s.On = nil })}, []string{`"act": On is missing`}},
		{"no function", []Declaration{with(func(s *Step[in, out]) { s.Do = nil })}, []string{`"act": Do is missing`}},
		{"no type", []Declaration{with(func(s *Step[in, out]) { s.Emit = Event[out]{Topic: "b"} })}, []string{"Type is missing"}},
		{"no topic", []Declaration{with(func(s *Step[in, out]) { s.Emit = Event[out]{Type: "x"} })}, []string{"Topic is missing"}},
		{"a topic that is none", []Declaration{with(func(s *Step[in, out]) { s.Emit.Topic = "b c" })}, []string{"not a Kafka topic name"}},
		{"the runtime's topic", []Declaration{with(func(s *Step[in, out]) { s.Emit.Topic = "svc.journal" })}, []string{"belongs to the runtime"}},
		{"one type on two topics", []Declaration{step(), Starts(Event[out]{Type: "test.said", Topic: "elsewhere"})}, []string{`Topic is "b" in one place and "elsewhere"`}},
		{"one type with two payloads", []Declaration{step(), Starts(Event[other]{Type: "test.said", Topic: "b"})}, []string{"one view of an event"}},
		{"one type with two codecs", []Declaration{step(), Starts(Event[out]{Type: "test.said", Topic: "b", Codec: Bytes{}})}, []string{"Codec is"}},
		{"one type with two outcomes", []Declaration{step(), Starts(Event[out]{Type: "test.said", Topic: "b", Outcome: Failed})}, []string{"Outcome is"}},
		{"a key that is not the correlation id", []Declaration{with(func(s *Step[in, out]) {
			s.On = Event[in]{Type: "test.heard", Topic: "a", Key: func(i in) string { return i.ID }}
		})}, []string{"Key is not the correlation id"}},
		{"the same by way of the inbox", []Declaration{Topic{Name: "a", Inbox: true}, with(func(s *Step[in, out]) {
			s.On = Event[in]{Type: "test.heard", Topic: "a", Key: func(i in) string { return i.ID }}
		})}, nil},
		{"a pivot with compensation", []Declaration{with(func(s *Step[in, out]) { s.Pivot, s.Compensate = true, Undo(undo, undone, trouble) })}, []string{"a Pivot has no Compensate"}},
		{"give up and compensate without unknown", []Declaration{with(func(s *Step[in, out]) {
			s.Compensate = Undo(undo, undone, trouble)
			s.GiveUp = GiveUpAs(func(in, error) out { return out{} }, refused)
		})}, []string{"GiveUp and Compensate without Unknown"}},
		{"unknown without undo", []Declaration{with(func(s *Step[in, out]) { s.Compensate = Compensation[in, out]{}.Unknown(unknown) })}, []string{"Unknown without Undo"}},
		{"a pivot that finds out", []Declaration{with(func(s *Step[in, out]) { s.Pivot, s.Compensate = true, Compensation[in, out]{}.Unknown(unknown) })}, nil},
		{"undo on nothing", []Declaration{with(func(s *Step[in, out]) { s.Compensate = Undo(undo, undone) })}, []string{"names no event that sets it off"}},
		{"undo without function", []Declaration{with(func(s *Step[in, out]) { s.Compensate = Undo[in, out, out](nil, undone, trouble) })}, []string{"no undo function"}},
		{"give up is the refusal", []Declaration{with(func(s *Step[in, out]) {
			s.Fail = Failures[in]{FailWith(func(in, *Rejection) out { return out{} }, refused)}
			s.GiveUp = GiveUpAs(func(in, error) out { return out{} }, refused)
		})}, []string{"an outage must not be taken for a refusal"}},
		{"its trigger compensates it", []Declaration{with(func(s *Step[in, out]) { s.Compensate = Undo(undo, undone, heard) })}, []string{"it can only do one"}},
		{"its own event compensates it", []Declaration{with(func(s *Step[in, out]) { s.Compensate = Undo(undo, undone, said) })}, []string{"would compensate it at once"}},
		{"the same alternative twice", []Declaration{with(func(s *Step[in, out]) { s.On = AnyOf[in](heard, heard) })}, []string{"On has event"}},
		{"an empty failure", []Declaration{with(func(s *Step[in, out]) { s.Fail = Failures[in]{{}} })}, []string{"empty Failure"}},
		{"an empty cancellation", []Declaration{with(func(s *Step[in, out]) { s.Cancel = []Cancellation{{}} })}, []string{"empty Cancellation"}},
		{"senseless retries", []Declaration{with(func(s *Step[in, out]) {
			s.Retry = Retry{Attempts: -1, First: -time.Second, Max: -1, Over: -1}
			s.Timeout = -1
		})}, []string{"Retry.Attempts is -1", "Retry.First is -1s", "Retry.Max is -1ns", "Retry.Over is -1ns", "Timeout is -1ns"}},
		{"waits beyond all times", []Declaration{with(func(s *Step[in, out]) {
			s.Retry = Retry{First: math.MaxInt64, Max: math.MaxInt64, Over: math.MaxInt64}
			s.Timeout = math.MaxInt64
		})}, []string{"Retry.First is 2562047h47m16.854775807s; it must be at most 87600h0m0s", "Retry.Max is 2562047h", "Retry.Over is 2562047h", "Timeout is 2562047h"}},
		{"retries that outlast what is remembered", []Declaration{with(func(s *Step[in, out]) { s.Retry = Retry{Attempts: 10_000} })},
			[]string{`step "act": the 9999 waits of Retry take up to 83h15m51.1s, longer than Retention.Flow, 24h0m0s`}},
		{"retries without an end", []Declaration{with(func(s *Step[in, out]) { s.Retry = Retry{Attempts: math.MaxInt, First: longestWait, Max: longestWait} })},
			[]string{"take up to 87600h0m0s, longer than Retention.Flow"}},
		{"a time for retries that outlasts what is remembered", []Declaration{with(func(s *Step[in, out]) { s.Retry = Retry{Attempts: 1 << 30, Over: 25 * time.Hour} })},
			[]string{"Retry.Over is 25h0m0s, longer than Retention.Flow, 24h0m0s"}},
		{"retries as long as what is remembered", []Declaration{with(func(s *Step[in, out]) { s.Retry = Retry{Attempts: 1 << 30, Over: 24 * time.Hour} })}, nil},
		{"waits as long as what is remembered", []Declaration{with(func(s *Step[in, out]) { s.Retry = Retry{Attempts: 25, First: time.Hour, Max: time.Hour} })}, nil},
		{"a wait more", []Declaration{with(func(s *Step[in, out]) { s.Retry = Retry{Attempts: 26, First: time.Hour, Max: time.Hour} })}, []string{"the 25 waits of Retry take up to 25h0m0s"}},
		{"the same where more is remembered", []Declaration{Retention{Flow: 25 * time.Hour}, with(func(s *Step[in, out]) { s.Retry = Retry{Attempts: 26, First: time.Hour, Max: time.Hour} })}, nil},
		{"waits that grow", []Declaration{Retention{Flow: 7*time.Second - 1}, with(func(s *Step[in, out]) { s.Retry = Retry{Attempts: 4, First: time.Second} })},
			[]string{"the 3 waits of Retry take up to 7s"}},
		{"waits of no length", []Declaration{with(func(s *Step[in, out]) { s.Retry = Retry{Attempts: math.MaxInt, First: -1} })}, []string{"Retry.First is -1ns"}},
		{"a wait with a breaker that outlasts what is remembered", []Declaration{with(func(s *Step[in, out]) {
			s.Breaker, s.Retry = Breaker{Failures: 5}, Retry{First: 20 * time.Hour, Max: 30 * time.Hour}
		})}, []string{`step "act": a wait of Retry takes up to 30h0m0s, longer than Retention.Flow, 24h0m0s`}},
		{"waits with a breaker as long as what is remembered", []Declaration{with(func(s *Step[in, out]) {
			s.Breaker, s.Retry = Breaker{Failures: 5}, Retry{First: 20 * time.Hour, Max: 24 * time.Hour}
		})}, nil},
		{"a wait with a breaker that is never as long", []Declaration{with(func(s *Step[in, out]) {
			s.Breaker, s.Retry = Breaker{Failures: 3}, Retry{Attempts: 3, First: 12 * time.Hour, Max: 30 * time.Hour}
		})}, nil},
		{"waits with a breaker beyond all times", []Declaration{with(func(s *Step[in, out]) {
			s.Breaker, s.Retry = Breaker{Failures: 5}, Retry{First: math.MaxInt64, Max: math.MaxInt64}
		})}, []string{"Retry.First is 2562047h", "Retry.Max is 2562047h"}},
		{"a wait of a reaction with a breaker that outlasts what is remembered", []Declaration{Retention{Flow: time.Second}, reaction(func(r *Reaction[in]) {
			r.Breaker, r.Timeout, r.Retry = Breaker{Failures: 1}, time.Second, Retry{Attempts: 5, First: 500 * time.Millisecond}
		})}, []string{`reaction "r": a wait of Retry takes up to 4s, longer than Retention.Flow, 1s`}},
		{"a wait with a breaker and a time for retries that outlast what is remembered", []Declaration{with(func(s *Step[in, out]) {
			s.Breaker, s.Retry = Breaker{Failures: 5}, Retry{First: 26 * time.Hour, Over: 25 * time.Hour}
		})}, []string{"Retry.Over is 25h0m0s, longer than Retention.Flow", "a wait of Retry takes up to 26h0m0s"}},
		{"more attempts in place than in all", []Declaration{with(func(s *Step[in, out]) { s.Retry = Retry{Attempts: 3, InPlace: 4} })}, []string{"Retry.InPlace is 4; it must be 1 to Retry.Attempts, 3"}},
		{"fewer attempts in place than none", []Declaration{with(func(s *Step[in, out]) { s.Retry = Retry{InPlace: -1} })}, []string{"Retry.InPlace is -1"}},
		{"first wait above the longest", []Declaration{with(func(s *Step[in, out]) { s.Retry = Retry{First: time.Minute, Max: time.Second} })}, []string{"longer than Retry.Max"}},
		{"a state that never changes", []Declaration{&State[in]{Name: "s"}}, []string{"never changes"}},
		{"a transition twice", []Declaration{&State[in]{Name: "s", When: []Transition[in]{
			When(heard, func(*in, in) {}), When(heard, func(*in, in) {})}}}, []string{"When has event"}},
		{"an empty transition", []Declaration{&State[in]{Name: "s", When: []Transition[in]{{}}}}, []string{"empty Transition"}},
		{"no tasks", []Declaration{step(), Tasks(0)}, []string{"at least 1"}},
		{"negative retention", []Declaration{step(), Retention{Flow: -1}}, []string{"Retention: Flow is -1ns and Grace is 0s; neither may be negative"}},
		{"negative grace", []Declaration{step(), Retention{Grace: -1}}, []string{"Retention: Flow is 0s and Grace is -1ns; neither may be negative"}},
		{"a retention beyond all times", []Declaration{step(), Retention{Flow: math.MaxInt64, Grace: math.MaxInt64}},
			[]string{"Retention: Flow is 2562047h47m16.854775807s; it must be at most 87600h0m0s", "Retention: Grace is 2562047h47m16.854775807s; it must be at most 87600h0m0s"}},
		{"a retention at its bound", []Declaration{step(), Retention{Flow: longestWait, Grace: longestWait}}, nil},
		{"retention twice", []Declaration{Retention{}, step(), Retention{Flow: time.Hour}}, []string{"Retention is declared twice"}},
		{"a state that is kept for less than no time", []Declaration{state(-1)}, []string{`state "s": Retain is -1ns; it must not be negative`}},
		{"a state that is kept beyond all times", []Declaration{state(math.MaxInt64)}, []string{`state "s": Retain is 2562047h47m16.854775807s; it must be at most 87600h0m0s`}},
		{"a state that is kept as long as may be", []Declaration{state(longestWait)}, nil},
		{"a state that is kept as long as a senseless retention says", []Declaration{state(0), Retention{Flow: -1}}, []string{"Retention: Flow is -1ns"}},
		{"a topic twice", []Declaration{step(), Topic{Name: "a"}, Topic{Name: "a"}}, []string{"declared twice"}},
		{"senseless partitions", []Declaration{step(), Topic{Name: "a", Partitions: -1, Replication: -2}}, []string{"Partitions is -1 and Replication is -2"}},
		{"HTTP without a handler", []Declaration{step(), HTTP{Addr: ":0"}}, []string{"Handler is missing"}},
		{"a join", []Declaration{joins(Both(heard, more, pair))}, nil},
		{"a join of three", []Declaration{joins(All3(heard, AnyOf(more, Upcast(old, func(other) in { return in{} })), last, func(a, b, c in) in { return a }))}, nil},
		{"a join of nothing", []Declaration{joins(Both[in, in, in](nil, AnyOf[in](), nil))},
			[]string{`step "act": On: half 1 of the join is missing`, `step "act": On: half 2 of the join names no event`, `step "act": On: the join has no function`}},
		{"a join of three without a function", []Declaration{joins(All3[in, in, in, in](heard, more, last, nil))}, []string{"the join has no function"}},
		{"a join of one event twice", []Declaration{joins(Both(heard, AnyOf(more, heard), pair))}, []string{`step "act": On has event "test.heard" twice`}},
		{"a join of a join", []Declaration{joins(Both(heard, Both(more, last, pair), pair))}, []string{`step "act": On: half 2 of the join is a join itself; use All3`}},
		{"a join of alternatives that are joins", []Declaration{joins(Both(heard, AnyOf(more, Both(last, more, pair)), pair))}, []string{"half 2 of the join is a join itself"}},
		{"alternatives that are joins", []Declaration{joins(AnyOf(heard, Both(more, last, pair)))}, []string{`step "act": On: AnyOf holds a join`}},
		{"alternatives of nothing and a join", []Declaration{joins(AnyOf(nil, Both(more, last, pair)))}, []string{`step "act": On: AnyOf holds a join`, `step "act": On names no event`}},
		{"a join that is cancelled by a half", []Declaration{joins(Both(heard, trouble, pair), func(s *Step[in, out]) {
			s.Cancel = []Cancellation{CancelOn(trouble, func(in) out { return out{} }, refused)}
		})}, []string{`event "test.trouble" sets the step off and compensates it`}},
		{"a join of what has a key of its own", []Declaration{joins(Both(heard, Event[in]{Type: "test.keyed", Topic: "k", Key: func(i in) string { return i.ID }}, pair))},
			[]string{`event "test.keyed": Key is not the correlation id`}},
		{"a reaction that joins", []Declaration{Reaction[in]{Name: "r", On: Both(heard, more, pair), Do: func(context.Context, in) (Emissions, error) { return nil, nil }}},
			[]string{`reaction "r": On joins events, which only a Step can`}},
		{"a deadline after a join", []Declaration{deadline(func(d *Deadline[in, out]) { d.After = Both(heard, more, pair) })}, []string{`deadline "d": After joins events, which only a Step can`}},
		{"a deadline", []Declaration{deadline()}, nil},
		{"a deadline without anything", []Declaration{Deadline[in, out]{Name: "d", Emit: said}},
			[]string{`deadline "d": After is missing`, `deadline "d": Within is missing`, `deadline "d": Unless is empty`, `deadline "d": Do is missing`}},
		{"a deadline without a name", []Declaration{deadline(func(d *Deadline[in, out]) { d.Name = "" })}, []string{"deadline: Name is missing"}},
		{"deadlines of one name", []Declaration{deadline(), deadline()}, []string{`deadline "d": Name is already used by a deadline`}},
		{"a deadline named like a step", []Declaration{step(), deadline(func(d *Deadline[in, out]) { d.Name = "act" })}, []string{`deadline "act": Name is already used by a step`}},
		{"a deadline formerly a step", []Declaration{step(), deadline(func(d *Deadline[in, out]) { d.Formerly = []string{"act"} })}, []string{`deadline "act": Formerly is already used by a step`}},
		{"a deadline after no event", []Declaration{deadline(func(d *Deadline[in, out]) { d.After = AnyOf[in]() })}, []string{"After names no event"}},
		{"a deadline after an event twice", []Declaration{deadline(func(d *Deadline[in, out]) { d.After = AnyOf[in](heard, heard) })}, []string{"After has event"}},
		{"a deadline unless an event twice", []Declaration{deadline(func(d *Deadline[in, out]) { d.Unless = Events{trouble, trouble} })}, []string{"Unless has event"}},
		{"a deadline unless nothing", []Declaration{deadline(func(d *Deadline[in, out]) { d.Unless = Events{trouble, nil} })}, []string{"Unless has no event at place 2"}},
		{"a deadline that its event meets", []Declaration{deadline(func(d *Deadline[in, out]) { d.Unless = Events{heard} })}, []string{"sets the deadline and meets it"}},
		{"a deadline at once", []Declaration{deadline(func(d *Deadline[in, out]) { d.Within = Fixed[in](0) })}, []string{"Within is 0s; it must be more than 0"}},
		{"a deadline before its event", []Declaration{deadline(func(d *Deadline[in, out]) { d.Within = Fixed[in](-time.Second) })}, []string{"Within is -1s"}},
		{"a deadline that overflows", []Declaration{Retention{Flow: math.MaxInt64}, deadline(func(d *Deadline[in, out]) { d.Within = Fixed[in](math.MaxInt64) })},
			[]string{"at most 100 years", "Retention: Flow is 2562047h"}},
		{"a deadline longer than the retention", []Declaration{Retention{Flow: time.Minute}, deadline()}, []string{`deadline "d": Within is 1h0m0s, longer than Retention.Flow, 1m0s`}},
		{"a deadline as long as the retention", []Declaration{Retention{Flow: time.Hour}, deadline()}, nil},
		{"a deadline's senseless retries", []Declaration{deadline(func(d *Deadline[in, out]) { d.Retry, d.Timeout = Retry{Max: -1}, -1 })}, []string{`deadline "d": Retry.Max is -1ns`, `deadline "d": Timeout is -1ns`, "longer than Retry.Max"}},
		{"a deadline of a key that is not the correlation id", []Declaration{deadline(func(d *Deadline[in, out]) {
			d.Unless = Events{Event[in]{Type: "test.trouble", Topic: "c", Key: func(i in) string { return i.ID }}}
		})}, []string{"Key is not the correlation id"}},
		{"limits", []Declaration{with(func(s *Step[in, out]) {
			s.Breaker, s.MaxConcurrent = Breaker{Failures: 5, Of: 5, Open: time.Second, Probes: 1}, 1
		}),
			reaction(func(r *Reaction[in]) { r.Breaker, r.MaxConcurrent, r.Timeout = Breaker{Failures: 1}, 1, time.Second })}, nil},
		{"limits at their bounds", []Declaration{with(func(s *Step[in, out]) {
			s.Breaker, s.MaxConcurrent = Breaker{Failures: 1_000_000, Of: 1_000_000, Open: longestWait, Probes: 1000}, 1_000_000
		})}, nil},
		{"senseless limits", []Declaration{with(func(s *Step[in, out]) {
			s.Breaker, s.MaxConcurrent = Breaker{Failures: -1, Of: -2, Open: -3, Probes: -4}, -5
		}),
			reaction(func(r *Reaction[in]) {
				r.Breaker, r.MaxConcurrent, r.Timeout = Breaker{Failures: -1, Of: -2, Open: -3, Probes: -4}, -5, time.Second
			})},
			[]string{`step "act": Breaker.Failures is -1`, `step "act": Breaker.Of is -2`, `step "act": Breaker.Open is -3ns`, `step "act": Breaker.Probes is -4`, `step "act": MaxConcurrent is -5`,
				`reaction "r": Breaker.Failures is -1`, `reaction "r": Breaker.Of is -2`, `reaction "r": Breaker.Open is -3ns`, `reaction "r": Breaker.Probes is -4`, `reaction "r": MaxConcurrent is -5`}},
		{"limits beyond all bounds", []Declaration{with(func(s *Step[in, out]) {
			s.Breaker, s.MaxConcurrent = Breaker{Failures: math.MaxInt, Of: math.MaxInt, Open: math.MaxInt64, Probes: math.MaxInt}, math.MaxInt
		})}, []string{"Breaker.Failures is 9223372036854775807", "Breaker.Of is 9223372036854775807", "Breaker.Open is 2562047h", "Breaker.Probes is 9223372036854775807", "MaxConcurrent is 9223372036854775807"}},
		{"a breaker that nothing opens", []Declaration{with(func(s *Step[in, out]) { s.Breaker = Breaker{Open: time.Second} })}, []string{"Breaker.Failures is 0, which is no breaker"}},
		{"more failures than attempts are looked at", []Declaration{with(func(s *Step[in, out]) { s.Breaker = Breaker{Failures: 5, Of: 4} })}, []string{"Breaker.Of is 4; it must be Breaker.Failures, 5, to"}},
		{"attempts that end before the breaker opens", []Declaration{with(func(s *Step[in, out]) { s.Breaker, s.Retry = Breaker{Failures: 6}, Retry{Attempts: 5} })},
			[]string{"Retry.Attempts is 5, less than Breaker.Failures, 6"}},
		{"attempts that open the breaker", []Declaration{with(func(s *Step[in, out]) { s.Breaker, s.Retry = Breaker{Failures: 5}, Retry{Attempts: 5} })}, nil},
		{"as many attempts as it takes", []Declaration{with(func(s *Step[in, out]) { s.Breaker, s.Retry = Breaker{Failures: 500}, Retry{InPlace: 505} })}, nil},
		{"more attempts in place than with a breaker", []Declaration{with(func(s *Step[in, out]) { s.Breaker, s.Retry = Breaker{Failures: 5}, Retry{InPlace: 11} })}, []string{"Retry.InPlace is 11; it must be 1 to Retry.Attempts, 10"}},
		{"probes that may hang", []Declaration{reaction(func(r *Reaction[in]) { r.Breaker = Breaker{Failures: 1} })}, []string{`reaction "r": Breaker without Timeout`}},
		{"several at once", []Declaration{with(func(s *Step[in, out]) { s.Name, s.Do, s.On = "", nil, nil })},
			[]string{"Name is missing", "Do is missing", "On is missing"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := NewService("svc", c.decls...).Validate()
			if len(c.want) == 0 {
				if err != nil {
					t.Fatalf("a good declaration is refused: %v", err)
				}
				return
			}
			d, ok := errors.AsType[*DeclarationError](err)
			if !ok {
				t.Fatalf("got %v, want a *DeclarationError", err)
			}
			for _, want := range c.want {
				n := 0
				for _, m := range d.Mistakes {
					if strings.Contains(m.Error(), want) {
						n++
					}
				}
				if n != 1 {
					t.Errorf("%d mistakes say %q, want 1:\n%v", n, want, err)
				}
			}
			if len(d.Mistakes) != len(c.want) {
				t.Errorf("%d mistakes, want %d:\n%v", len(d.Mistakes), len(c.want), err)
			}
		})
	}
}

func reaction(change func(*Reaction[in])) Reaction[in] {
	r := Reaction[in]{Name: "r", On: heard, Do: func(context.Context, in) (Emissions, error) { return nil, nil }}
	change(&r)
	return r
}

func state(retain time.Duration) Declaration {
	return &State[in]{Name: "s", Retain: retain, When: []Transition[in]{When(heard, func(*in, in) {})}}
}

func TestServiceNameIsValidated(t *testing.T) {
	for _, name := range []string{"", "Order", "a b", "-a", strings.Repeat("a", 64)} {
		if err := NewService(name, step()).Validate(); err == nil {
			t.Errorf("service name %q is taken", name)
		}
	}
}

// The longest that all waits may take is what the waits of each attempt say.
func TestTheWaitsOfARetryAreThoseOfItsAttempts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Retry{
			Attempts: rapid.IntRange(1, 200).Draw(t, "attempts"), First: time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "first")),
			Max: time.Duration(rapid.Int64Range(int64(time.Hour), int64(1000*time.Hour)).Draw(t, "max")),
		}
		var want, last time.Duration
		for n := 1; n < r.Attempts; n++ {
			wait := r.First
			for i := 1; i < n && wait < r.Max; i++ { // as after attempt n
				wait *= 2
			}
			last = min(wait, r.Max)
			want = min(want+last, longestWait)
		}
		if got := r.waits(); got != want {
			t.Errorf("waits of %+v take %v, want %v", r, got, want)
		}
		if got := r.lastWait(); got != last {
			t.Errorf("the last wait of %+v takes %v, want %v", r, got, last)
		}
	})
}
