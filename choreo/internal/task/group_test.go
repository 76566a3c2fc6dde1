package task

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The first membership is no news; another one is, of whatever was owned.
func TestANewMemberIDIsToldOfIfAnythingWasOwned(t *testing.T) {
	x := newBare(t)
	x.rejoined("one", 1)
	x.rejoined("one", 2)
	x.rejoined("two", 3)
	if n := x.logged.times("ended unnoticed"); n != 0 {
		t.Errorf("told %d times, of nothing", n)
	}
	y := x.tenure(0)
	x.assigned[0] = true
	x.rejoined("three", 4)
	<-y.ended
	if n := x.logged.times("ended unnoticed"); n != 1 || !x.kept[0] || x.assigned[0] {
		t.Errorf("told %d times, kept %v, assigned %v", n, x.kept, x.assigned)
	}
	x.background.Wait()
}

// A revoke waits for what is under way for three quarters of the time that the
// group grants.
func TestARevokeWaitsForATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBare(t)
		x.cfg.RebalanceTimeout = 8 * time.Second
		y := x.tenure(0)
		y.inc = held(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		began := time.Now()
		x.revoke([]int32{0})
		if took := time.Since(began); took != 6*time.Second || x.logged.times("still holds results") != 1 || len(x.tenures) != 0 {
			t.Errorf("it took %v, %d tenures are left", took, len(x.tenures))
		}
		<-y.ended
	})
}

// What ends the client is no error of the group; some errors nothing mends.
func TestErrorsOfTheGroup(t *testing.T) {
	for _, c := range []struct {
		err   error
		warns int
		ends  bool
	}{
		{context.Canceled, 0, false},
		{fmt.Errorf("joining: %w", kgo.ErrClientClosed), 0, false},
		{errors.New("oops"), 1, false},
		{kerr.GroupAuthorizationFailed, 0, true},
	} {
		x := newBare(t)
		groupErrors{x.Owner}.OnGroupManageError(c.err)
		if n, ended := x.logged.times("joining again"), x.ctx.Err() != nil; n != c.warns || ended != c.ends {
			t.Errorf("%v: %d warnings, the run ends: %v", c.err, n, ended)
		}
		if noted := x.contact.err != nil; noted != (c.warns > 0 || c.ends) {
			t.Errorf("%v: noted as a failure to reach a broker: %v", c.err, noted)
		}
	}
}
