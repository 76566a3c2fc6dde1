package load

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestQuantile(t *testing.T) {
	cases := []struct {
		all  []time.Duration
		q    float64
		want time.Duration
	}{
		{nil, 0.5, 0},
		{[]time.Duration{7}, 0.99, 7}, {[]time.Duration{7}, 0, 7},
		{[]time.Duration{4, 1, 3, 2}, 0.5, 2}, {[]time.Duration{4, 1, 3, 2}, 0.51, 3},
		{[]time.Duration{4, 1, 3, 2}, 0, 1}, {[]time.Duration{4, 1, 3, 2}, 1, 4},
		{upTo(100), 0.5, 50}, {upTo(100), 0.99, 99}, {upTo(100), 0.991, 100}, {upTo(100), 0.07, 7}, {upTo(200), 0.99, 198},
	}
	for _, c := range cases {
		var l Latencies
		for _, d := range c.all {
			l.Add(d)
		}
		if got := l.Quantile(c.q); got != c.want || l.Count() != len(c.all) {
			t.Errorf("quantile %v of %d is %d, want %d", c.q, len(c.all), got, c.want)
		}
	}
}

func upTo(n int) (all []time.Duration) {
	for i := range n {
		all = append(all, time.Duration(n-i))
	}
	return all
}

// At least the share q is no longer than the quantile, and less than q is
// shorter: that is what nearest rank means.
func TestQuantileIsNearestRank(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(rapid.IntRange(0, 50), 1, 60).Draw(t, "latencies")
		percent := rapid.IntRange(1, 100).Draw(t, "percent")
		var l Latencies
		for _, d := range all {
			l.Add(time.Duration(d))
			l.Quantile(0.5) // asking between must not matter
		}
		got := int(l.Quantile(float64(percent) / 100))
		shorter, notLonger := 0, 0
		for _, d := range all {
			if d < got {
				shorter++
			}
			if d <= got {
				notLonger++
			}
		}
		if !slices.Contains(all, got) || notLonger*100 < percent*len(all) || shorter*100 >= percent*len(all) {
			t.Fatalf("the %d%% quantile of %v is %d", percent, all, got)
		}
	})
}

func TestClosedLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int32
		began := time.Now()
		Schedule{Orders: 10, AtOnce: 3}.Run(t.Context(), func(_ int, start time.Time) {
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			if !start.Equal(time.Now()) {
				t.Errorf("started at %v and not now", start)
			}
			time.Sleep(time.Second)
			now.Add(-1)
		})
		if took := time.Since(began); took != 4*time.Second || most.Load() != 3 {
			t.Errorf("took %v with %d at once, want 4s with 3", took, most.Load())
		}
	})
}

// The third order finds both places taken; its start is when it should have
// started, so its latency has the wait in it.
func TestOpenLoopHidesNoWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		starts, latencies := map[int]time.Duration{}, map[int]time.Duration{}
		began := time.Now()
		Schedule{Orders: 4, Every: 100 * time.Millisecond, AtOnce: 2}.Run(t.Context(), func(n int, start time.Time) {
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			starts[n], latencies[n] = start.Sub(began), time.Since(start)
		})
		for n := range 4 {
			if want := time.Duration(n) * 100 * time.Millisecond; starts[n] != want {
				t.Errorf("order %d was to start at %v, not %v", n, want, starts[n])
			}
		}
		for n, ms := range []int{1000, 1000, 1800, 1800} {
			want := time.Duration(ms) * time.Millisecond
			if latencies[n] != want {
				t.Errorf("latency of order %d is %v, want %v", n, latencies[n], want)
			}
		}
	})
}

func TestRunEndsWithItsContext(t *testing.T) {
	for _, s := range []Schedule{{Orders: 1000, AtOnce: 1}, {Orders: 1000, Every: time.Second, AtOnce: 10}} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5500*time.Millisecond)
			defer cancel()
			var calls atomic.Int32
			s.Run(ctx, func(int, time.Time) { calls.Add(1); time.Sleep(time.Second) })
			if n := calls.Load(); n != 6 {
				t.Errorf("%d calls in 5.5 s, want 6", n)
			}
		})
	}
}
