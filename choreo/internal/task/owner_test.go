package task

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// While no broker answers the start waits, asks less and less often, and ends
// with the run.
func TestTheStartWaitsForBrokers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBare(t)
		cl, err := kgo.NewClient()
		if err != nil {
			t.Fatal(err)
		}
		cl.Close()
		x.meta = cl
		go func() {
			time.Sleep(20 * time.Second)
			x.cancel(errClosed)
		}()
		began := time.Now()
		if top, err := x.awaitTopics(); top != nil || !errors.Is(err, errClosed) || time.Since(began) != 20*time.Second {
			t.Errorf("%v, %v after %v", top, err, time.Since(began))
		}
		said := x.logged.text()
		for _, in := range []string{"100ms", "200ms", "400ms", "800ms", "1.6s", "3.2s", "5s"} {
			if n := strings.Count(said, " in="+in+" "); n == 0 || n > 1 && in != "5s" {
				t.Errorf("the next attempt was %d times after %s", n, in)
			}
		}
	})
}

// Before the first assignment there is nothing to commit under.
func TestMembershipBeforeTheFirstAssignment(t *testing.T) {
	x := newBare(t)
	expect := func(member string, generation int32) {
		t.Helper()
		if m, g := x.Membership(); m != member || g != generation {
			t.Errorf("%q, %d; want %q, %d", m, g, member, generation)
		}
	}
	expect("", -1)
	cl, err := kgo.NewClient()
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	x.group = cl // has joined, and has not told of it
	x.as.generation = 7
	expect("", -1)
	x.as.member = "another" // than what the client has now: the broker refuses it
	expect("another", 7)
}
