package tree

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/choreography-go/choreography/cmd/choreo/internal/check"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func event(id, service, step string, after time.Duration, causes ...string) check.Event {
	return check.Event{ID: id, Type: "com.example." + id, Service: service, Step: step, Time: time.Unix(100, 0).Add(after), Causes: causes}
}

func TestWrite(t *testing.T) {
	cases := []struct {
		name   string
		events []check.Event
		want   string
	}{
		{"nothing", nil, ""},
		{"a tree, in any order", []check.Event{
			event("d", "ship", "s3", 31500*time.Microsecond, "b"),
			event("c", "payment", "s2", 2*time.Millisecond, "a"),
			event("b", "payment", "s1", time.Millisecond, "a"),
			event("a", "order", "", 0),
			event("e", "order", "s4", 40*time.Millisecond, "c"),
		}, `
a        order       +0.0 ms
├─ b     payment s1  +1.0 ms
│  └─ d  ship s3     +31.5 ms
└─ c     payment s2  +2.0 ms
   └─ e  order s4    +40.0 ms
`},
		{"a join", []check.Event{event("a", "s", "", 0), event("b", "s", "", 1, "a"), event("c", "s", "", 2, "a", "b")}, `
a     s  +0.0 ms
├─ b  s  +0.0 ms
└─ c  s  +0.0 ms (also caused by ["b"])
`},
		{"a cause that is nowhere", []check.Event{event("a", "s", "", 0), event("b", "s", "", 1, "gone")}, `
a  s  +0.0 ms
b  s  +0.0 ms
`},
		{"a cycle", []check.Event{event("a", "s", "", 0, "b"), event("b", "s", "", 1, "a")}, `
a     s  +0.0 ms
└─ b  s  +0.0 ms
`},
		{"an event that causes itself", []check.Event{event("a", "s", "", 0, "a")}, `
a  s  +0.0 ms
`},
		{"what would spoil a terminal", []check.Event{event("a\x1b[2J", "s\n\t", "x\u009b", 0)}, `
a?[2J  s?? x?  +0.0 ms
`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var b strings.Builder
			if err := Write(&b, c.events); err != nil {
				t.Fatal(err)
			}
			if got := b.String(); got != strings.TrimPrefix(c.want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

type full struct{}

var errFull = errors.New("disk full")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestWriteFails(t *testing.T) {
	if err := Write(full{}, []check.Event{event("a", "s", "", 0)}); !errors.Is(err, errFull) {
		t.Error(err)
	}
}
