// Package load decides when orders are placed and what their latencies come
// to. It does not know what is placed.
package load

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"
)

// Schedule is when n orders are to be placed.
type Schedule struct {
	// Orders is how many.
	Orders int
	// Every is the time from one order to the next, whatever became of the
	// earlier ones (open loop). Zero: each as soon as one of AtOnce is free
	// (closed loop).
	Every time.Duration
	// AtOnce bounds the orders being placed at the same time.
	AtOnce int
}

// Over spreads n orders evenly over a time.
func Over(n int, d time.Duration, atOnce int) Schedule {
	return Schedule{Orders: n, Every: d / time.Duration(max(n, 1)), AtOnce: atOnce}
}

// Run calls place for each order with its number and the time at which it was
// to start, in goroutines, and returns when all calls have. An order that the
// bound AtOnce delays in an open loop keeps the time at which it was to start,
// so that latencies counted from it hide no waiting (no coordinated omission).
// When ctx ends no further call is made.
func (s Schedule) Run(ctx context.Context, place func(n int, start time.Time)) {
	var wg sync.WaitGroup
	defer wg.Wait()
	free := make(chan struct{}, max(s.AtOnce, 1))
	began := time.Now()
	for n := range s.Orders {
		start := began.Add(time.Duration(n) * s.Every)
		if d := time.Until(start); s.Every > 0 && d > 0 {
			t := time.NewTimer(d)
			select {
			case <-ctx.Done():
				t.Stop()
				return
			case <-t.C:
			}
		}
		select {
		case <-ctx.Done():
			return
		case free <- struct{}{}:
		}
		if ctx.Err() != nil {
			return
		}
		if s.Every == 0 {
			start = time.Now()
		}
		wg.Go(func() {
			defer func() { <-free }()
			place(n, start)
		})
	}
}

// Latencies are durations of which quantiles are wanted. The zero value is
// ready; it is not safe for concurrent use.
type Latencies struct {
	all    []time.Duration
	sorted bool
}

// Add adds one.
func (l *Latencies) Add(d time.Duration) { l.all, l.sorted = append(l.all, d), false }

// Count returns how many there are.
func (l *Latencies) Count() int { return len(l.all) }

// Quantile returns the smallest latency that is at least as long as the share q
// of all (nearest rank): q = 0.5 is the median, 1 the longest. Zero if there
// are none.
func (l *Latencies) Quantile(q float64) time.Duration {
	if len(l.all) == 0 {
		return 0
	}
	if !l.sorted {
		slices.Sort(l.all)
		l.sorted = true
	}
	// The small amount undoes what binary fractions add, so that 0.07 of 100 is
	// the 7th and not the 8th.
	rank := int(math.Ceil(q*float64(len(l.all)) - 1e-9))
	return l.all[min(max(rank, 1), len(l.all))-1]
}
