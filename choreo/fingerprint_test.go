package choreo

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/choreography-go/choreography/choreo/deadletter"
	"github.com/twmb/franz-go/pkg/kgo"
)

type limitError struct{ cents int }

func (e limitError) Error() string { return fmt.Sprintf("over by %d", e.cents) }

func TestFingerprintsGroupByCause(t *testing.T) {
	e, _ := bareEngine(t)
	of := func(step, reason string, err error, ids ...string) string {
		d, _ := e.deadLetterRecord(&letter{rec: &kgo.Record{Topic: "orders"}, step: step, reason: reason, err: err, ids: ids})
		return string(header(d, deadletter.HeaderFingerprint))
	}
	say := func(format string, a ...any) error { return fmt.Errorf(format, a...) }
	timeout := errors.New("timeout")
	for _, c := range []struct {
		name string
		a, b string
		same bool
	}{
		{"numbers", of("s", "r", say("order 17 costs 3.50 EUR")), of("s", "r", say("order 4711 costs 12 EUR")), true},
		{"ids", of("s", "r", say("no card 3f2a-99 (id=a1b2)")), of("s", "r", say("no card 07cc-1d (id=77aa)")), true},
		{"addresses", of("s", "r", say("dial tcp 10.0.0.1:443: refused")), of("s", "r", say("dial tcp [::1]:8443: refused")), true},
		{"quoted text", of("s", "r", say("no user %q", "ann")), of("s", "r", say("no user %q", "bob the builder")), true},
		{"quoted text with quotes in it", of("s", "r", say("no user %q here", `a "b" c`)), of("s", "r", say("no user %q here", `x`)), true},
		{"single quotes", of("s", "r", say("no user 'ann lee'")), of("s", "r", say("no user 'bob'")), true},
		{"back quotes", of("s", "r", say("no user `ann lee`")), of("s", "r", say("no user `bob`")), true},
		{"quotes cut off", of("s", "r", say("bad %q", strings.Repeat("ab ", 900))), of("s", "r", say("bad %q", strings.Repeat("cd ", 900))), true},
		{"an apostrophe is no quote", of("s", "r", say("can't pay, isn't rich")), of("s", "r", say("can't say, isn't there")), false},
		{"the event's own ids", of("s", "r", say("flow berta-x is late"), "berta-x"), of("s", "r", say("flow anna-y is late"), "anna-y"), true},
		{"a short id may be a word", of("s", "r", say("it is late"), "is"), of("s", "r", say("it was late"), "was"), false},
		{"the class, whatever wraps it", of("s", "r", say("pay: %w", limitError{1})), of("s", "r", say("pay: %w", limitError{22})), true},
		{"joined errors", of("s", "r", errors.Join(timeout, say("attempt 1"))), of("s", "r", errors.Join(timeout, say("attempt 2"))), true},
		{"another class", of("s", "r", errors.New("over by 1")), of("s", "r", limitError{1}), false},
		{"another class among joined ones", of("s", "r", errors.Join(limitError{1})), of("s", "r", errors.Join(errors.New("over by 1"))), false},
		{"another message", of("s", "r", errors.New("no card")), of("s", "r", errors.New("no money")), false},
		{"another step", of("s", "r", io.EOF), of("t", "r", io.EOF), false},
		{"another reason", of("s", "r", io.EOF), of("s", "q", io.EOF), false},
	} {
		if same := c.a == c.b; same != c.same {
			t.Errorf("%s: the same fingerprint: %v, want %v", c.name, same, c.same)
		}
		if len(c.a) != 16 {
			t.Errorf("%s: the fingerprint is %q", c.name, c.a)
		}
	}
}

func TestNormalizedMessages(t *testing.T) {
	for message, want := range map[string]string{
		"": "", "plain words": "plain words", "a\tb  c": "a b c", "order 17, id=a1": "order # #",
		`no "x y" and 'z'`: "no _ and _", "it's ann's": "it's ann's", "key=`v`, (x='y')": "key= _ , (x _ )",
	} {
		if got := normalize(message); got != want {
			t.Errorf("%q is normalized to %q, want %q", message, got, want)
		}
	}
}
