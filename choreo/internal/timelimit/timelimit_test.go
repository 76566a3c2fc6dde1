package timelimit

import (
	"context"
	"errors"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errLate = errors.New("late")

// An attempt's context ends at its timeout, with the task's ownership, and with
// the attempt, whoever asks and whenever.
func TestALimitedContext(t *testing.T) {
	lost := errors.New("lost")
	type look struct {
		at    time.Duration
		cause error // of the context, nil: it has not ended
	}
	for name, tc := range map[string]struct {
		lost, over time.Duration // when the task is lost, and the attempt returns
		looks      []look
		late       bool
	}{
		"in time, nobody asks":               {over: 1, late: false},
		"in time, asked":                     {over: 3, looks: []look{{1, nil}}},
		"too late, nobody asks":              {over: 10, late: true},
		"too late, asked":                    {over: 12, looks: []look{{1, nil}, {9, nil}, {11, errLate}}, late: true},
		"too late, asked late":               {over: 12, looks: []look{{11, errLate}}, late: true},
		"asked after the attempt":            {over: 3, looks: []look{{4, context.Canceled}, {11, context.Canceled}}},
		"asked before and after the attempt": {over: 3, looks: []look{{1, nil}, {4, context.Canceled}, {11, context.Canceled}}},
		"the task is lost":                   {lost: 5, over: 8, looks: []look{{1, nil}, {6, lost}}},
		"the task is lost, nobody asks":      {lost: 5, over: 12},
		"the task is lost too late":          {lost: 11, over: 13, looks: []look{{1, nil}, {12, errLate}}, late: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, lose := context.WithCancelCause(t.Context())
				if tc.lost > 0 {
					time.AfterFunc(tc.lost, func() { lose(lost) })
				}
				attempts := Attempts{Late: errLate}
				c, began := attempts.Begin(ctx, "step", time.Now(), 10), time.Now()
				over := make(chan bool)
				time.AfterFunc(tc.over, func() { over <- c.End(time.Now()) })
				late := false
				for _, look := range tc.looks {
					if look.at > tc.over && tc.over > 0 {
						late, tc.over = <-over, 0
					}
					time.Sleep(look.at - time.Since(began))
					synctest.Wait()
					if got := context.Cause(c); !errors.Is(got, look.cause) || (got == nil) != (look.cause == nil) || (c.Err() == nil) != (got == nil) {
						t.Errorf("after %d: it ended because of %v, %v, want %v", look.at, got, c.Err(), look.cause)
					}
				}
				if tc.over > 0 {
					late = <-over
				}
				if late != tc.late {
					t.Errorf("too late: %t", late)
				}
				lose(nil)
			})
		})
	}
}

// What a handler makes of its context ends with it.
func TestWhatIsMadeOfALimitedContextEndsWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		var attempts Attempts // their contexts end as those of a deadline
		c := attempts.Begin(context.WithValue(t.Context(), key{}, "value"), "step", time.Now(), time.Second)
		ctx, cancel := context.WithTimeout(c, time.Hour)
		defer cancel()
		if ctx.Value(key{}) != "value" {
			t.Error("a value of the task's context is not in it")
		}
		began := time.Now()
		<-ctx.Done()
		if took := time.Since(began); took != time.Second || !errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			t.Errorf("it ended after %v: %v", took, context.Cause(ctx))
		}
		if !c.End(time.Now()) {
			t.Error("it was not too late")
		}
	})
}

func TestOverdueAreAttemptsThatOutliveTheirTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var attempts Attempts
		var under []*Context
		for i, step := range []string{"a", "b", "a", "c"} {
			under = append(under, attempts.Begin(t.Context(), step, time.Now(), time.Duration(i+1)*time.Second))
		}
		look := func(want map[string]int) {
			t.Helper()
			if got := attempts.Overdue(); !maps.Equal(got, want) {
				t.Errorf("overdue are %v, want %v", got, want)
			}
		}
		look(nil)
		time.Sleep(time.Second)
		look(nil) // it may be returning just now
		time.Sleep(2500 * time.Millisecond)
		look(map[string]int{"a": 2, "b": 1})
		under[1].End(time.Now()) // in the middle
		look(map[string]int{"a": 2})
		under[3].End(time.Now()) // the first of the list
		under[0].End(time.Now()) // the last
		look(map[string]int{"a": 1})
		under[2].End(time.Now())
		look(nil)
		if attempts.first != nil {
			t.Error("the list is not empty")
		}
	})
}
