package choreo

import (
	"errors"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The wait after attempt n has a bound that doubles from Retry.First up to
// Retry.Max, and is anything up to that: flows which failed together do not return
// together.
func TestWaitsDoubleUpToTheLongestWithFullJitter(t *testing.T) {
	check := func(t rapid.TB, p Retry, n int, bound time.Duration, forever bool) {
		t.Helper()
		const draws = 150
		short, long := 0, 0
		for range draws {
			r := &run{attempt: n}
			v, again := r.again(p, errors.New("not yet"), forever)
			wait := time.Duration(v)
			if !again || wait < 0 || wait > bound {
				t.Fatalf("after attempt %d of %+v: wait %v, %v, want at most %v", n, p, wait, again, bound)
			}
			if wait < bound/4 {
				short++
			} else if wait > bound-bound/4 {
				long++
			}
		}
		if short == 0 || long == 0 {
			t.Fatalf("after attempt %d of %+v: of %d waits %d are in the first quarter of %v and %d in the last, want some in each", n, p, draws, short, bound, long)
		}
	}
	for _, c := range []struct {
		name  string
		retry Retry
		n     int
		bound time.Duration
	}{
		{"the defaults, after the first attempt", Retry{}, 1, 100 * time.Millisecond},
		{"the defaults, after the last but one", Retry{}, 4, 800 * time.Millisecond},
		{"the last wait below the longest", Retry{Attempts: 100}, 9, 25600 * time.Millisecond},
		{"the longest", Retry{Attempts: 100}, 10, 30 * time.Second},
		{"the first is the longest", Retry{First: time.Hour, Attempts: 100}, 50, time.Hour},
		{"all that may be declared", Retry{First: 1000, Max: longestWait, Attempts: math.MaxInt}, math.MaxInt - 1, longestWait},
	} {
		t.Run(c.name, func(t *testing.T) { check(t, c.retry, c.n, c.bound, false) })
	}
	t.Run("whatever is declared", rapid.MakeCheck(func(t *rapid.T) {
		first := time.Duration(rapid.Int64Range(int64(time.Microsecond), int64(longestWait)).Draw(t, "first"))
		most := time.Duration(rapid.Int64Range(int64(first), int64(longestWait)).Draw(t, "max"))
		n := rapid.OneOf(rapid.IntRange(1, 70), rapid.IntRange(1, math.MaxInt-1)).Draw(t, "attempt")
		bound := most
		if n <= 63 && first <= most>>(n-1) {
			bound = first << (n - 1)
		}
		check(t, Retry{First: first, Max: most, Attempts: math.MaxInt}, n, bound, rapid.Bool().Draw(t, "for ever"))
	}))
}
