package choreotest_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// Tests show that the simulation finds handlers that never return.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/choreography-go/choreography/choreo/choreotest.blockForever"))
}

type (
	ask    struct{ Q string }
	answer struct{ A string }
)

var (
	asked    = choreo.Event[ask]{Type: "asked", Topic: "questions"}
	answered = choreo.Event[answer]{Type: "answered", Topic: "answers"}
	repeated = choreo.Event[answer]{Type: "repeated", Topic: "answers"}
)

func parrot() *choreo.Service {
	return choreo.NewService("parrot", choreo.Tasks(1),
		choreo.Step[ask, answer]{Name: "say", On: asked, Emit: answered, Retry: choreo.Retry{Attempts: 1},
			Do: func(_ context.Context, q ask) (answer, error) {
				if q.Q == "?" {
					return answer{}, errors.New("what?")
				}
				return answer{q.Q}, nil
			}},
		choreo.Reaction[answer]{Name: "echo", On: answered, Emits: choreo.Events{repeated},
			Do: func(_ context.Context, a answer) (choreo.Emissions, error) {
				return choreo.Emit(repeated.New(answer{a.A + "!"})), nil
			}})
}

// failing is a testing.TB that notes failures instead of failing, while something
// is tried.
type failing struct {
	testing.TB
	trying bool
	said   []string
}

func (f *failing) Helper() {}

func (f *failing) Errorf(format string, a ...any) {
	if !f.trying {
		f.TB.Errorf(format, a...)
		return
	}
	f.said = append(f.said, fmt.Sprintf(format, a...))
}

func (f *failing) Fatalf(format string, a ...any) { f.Fatal(fmt.Sprintf(format, a...)) }

func (f *failing) Fatal(a ...any) {
	if !f.trying {
		f.TB.Fatal(a...)
	}
	f.said = append(f.said, fmt.Sprint(a...))
	runtime.Goexit()
}

// try returns what f says when it fails.
func try(tb *failing, f func()) string {
	tb.trying, tb.said = true, nil
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
	tb.trying = false
	return strings.Join(tb.said, "\n")
}

// none is the patience with what cannot come any more: it is looked for once.
const none = time.Duration(0)

const treeOfHi = `    asked  [published]  {Q:hi}
      answered  [parrot say did]  {A:hi}
        repeated  [parrot echo did]  {A:hi!}`

func TestFailuresShowTheTree(t *testing.T) {
	tb := &failing{TB: t}
	s := choreotest.Start(tb, parrot())
	s.Publish("good", asked.New(ask{"hi"}))
	s.ExpectTypes("good", "answered", "repeated")
	s.ExpectNothingMore("good")
	for _, c := range []struct {
		name   string
		expect func(flow string)
		want   string
	}{
		{"another order", func(flow string) { s.Expect(flow, repeated.New(answer{"hi!"}), answered.New(answer{"hi"})) },
			"event 1 of 2 is\n        answered {A:hi}\n    want\n        repeated {A:hi!}"},
		{"another payload", func(flow string) { s.Expect(flow, answered.New(answer{"ho"})) },
			"event 1 of 1 is\n        answered {A:hi}\n    want\n        answered {A:ho}"},
		{"too few", func(flow string) {
			s.SetPatience(none)
			s.Expect(flow, answered.New(answer{"hi"}), repeated.New(answer{"hi!"}), repeated.New(answer{"hi!"}))
		}, "the service has not said repeated {A:hi!} after 0s"},
		{"another type", func(flow string) { s.ExpectTypes(flow, "answered", "answered") },
			"event 2 of 2 is repeated {A:hi!}, want answered"},
		{"too few types", func(flow string) { s.SetPatience(none); s.ExpectTypes(flow, "answered", "repeated", "answered") },
			"the service has not said answered after 0s"},
		{"more", func(flow string) { s.Expect(flow, answered.New(answer{"hi"})); s.ExpectNothingMore(flow) },
			"the service has also said\n        repeated {A:hi!}"},
		{"all of it more", func(flow string) { s.ExpectNothingMore(flow) },
			"the service has also said\n        answered {A:hi}\n        repeated {A:hi!}"},
		{"no dead letter", func(flow string) { s.SetPatience(none); s.ExpectDeadLetter(flow) }, "no dead letter after 0s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			flow := strings.ReplaceAll(c.name, " ", "-")
			s.SetPatience(choreotest.Patience)
			s.Publish(flow, asked.New(ask{"hi"}))
			try(tb, func() { s.ExpectNothingMore(flow) }) // when it fails, all that comes has come
			said := try(tb, func() { c.expect(flow) })
			if !strings.HasPrefix(said, fmt.Sprintf("flow %q: %s", flow, c.want)) {
				t.Errorf("it says\n%s\nwant\n%s", said, c.want)
			}
			if !strings.Contains(said, treeOfHi) {
				t.Errorf("it shows\n%s\nwant\n%s", said, treeOfHi)
			}
		})
	}
}

func TestDeadLettersAreExpectedOrShown(t *testing.T) {
	tb := &failing{TB: t}
	s := choreotest.Start(tb, parrot())
	s.Publish("f", asked.New(ask{"?"}))
	const dead = "dead letter  [asked]  say retries_exhausted: what?"
	if said := try(tb, func() { s.ExpectNothingMore("f") }); !strings.Contains(said, "also said\n        dead letter: say retries_exhausted: what?") || !strings.Contains(said, dead) {
		t.Errorf("a dead letter that nobody expects: %s", said)
	}
	if said := try(tb, func() { s.ExpectDeadLetter("f"); s.ExpectNothingMore("f") }); said != "" {
		t.Errorf("one that is expected: %s", said)
	}
	s.SetPatience(none)
	if said := try(tb, func() { s.Expect("f", answered.New(answer{"?"})) }); !strings.Contains(said, dead) {
		t.Errorf("an event that is not said because of it: %s", said)
	}
	if said := try(tb, func() { s.ExpectTypes("other", "answered") }); !strings.Contains(said, "(no event of this flow was seen)") {
		t.Errorf("an unknown flow: %s", said)
	}
}

func TestNothingIsSaidOfWhatIsStillAtWork(t *testing.T) {
	tb := &failing{TB: t}
	release := make(chan struct{})
	s := choreotest.Start(tb, choreo.NewService("slow", choreo.Tasks(1), choreo.Reaction[ask]{Name: "wait", On: asked,
		Do: func(context.Context, ask) (choreo.Emissions, error) { <-release; return nil, nil }}))
	defer close(release)
	s.Publish("f", asked.New(ask{"a"}))
	s.SetPatience(none)
	if said := try(tb, func() { s.ExpectNothingMore("f") }); !strings.Contains(said, "has not worked on everything: after 0s it is behind on questions/0: committed 0 of 1") {
		t.Errorf("it says %q", said)
	}
}

func TestStartFailsWhereTheServiceCannotRun(t *testing.T) {
	tb := &failing{TB: t}
	if said := try(tb, func() { choreotest.Start(tb, choreo.NewService("Bad Name")) }); !strings.Contains(said, `service name "Bad Name"`) {
		t.Errorf("a wrong declaration: %q", said)
	}
	svc := parrot()
	svc.Add(choreo.HTTP{Addr: "256.0.0.1:0", Handler: nil})
	if said := try(tb, func() { choreotest.Start(tb, svc) }); !strings.Contains(said, "Handler is missing") {
		t.Errorf("HTTP without a handler: %q", said)
	}
}
