package task

import (
	"errors"
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
		x.unreachable(t)
		go func() {
			time.Sleep(20 * time.Second)
			x.cancel(errClosed)
		}()
		began := time.Now()
		if top, err := x.awaitTopics(); top != nil || !errors.Is(err, errClosed) || time.Since(began) != 20*time.Second {
			t.Errorf("%v, %v after %v", top, err, time.Since(began))
		}
		x.backedOff(t)
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
