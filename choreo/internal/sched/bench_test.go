package sched

import (
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// counted is an item that does nearly nothing.
type counted struct {
	left *atomic.Int64
	done chan struct{}
}

func (c *counted) Run() time.Duration {
	if c.left.Add(-1) == 0 {
		c.done <- struct{}{}
	}
	return Done
}

// BenchmarkSaturated is the cost of one item of nearly no work, when batches of
// 1000 keep coming with at most four of them in flight.
func BenchmarkSaturated(b *testing.B) {
	for _, keys := range []int{1, 1000, 4000} {
		b.Run(fmt.Sprintf("%d keys", keys), func(b *testing.B) {
			const size, inFlight = 1000, 4
			s := New(0)
			defer s.Close()
			done := make(chan struct{}, inFlight)
			var batches [inFlight][]Work
			var left [inFlight]atomic.Int64
			for i := range batches {
				for k := range size {
					batches[i] = append(batches[i], Work{
						Key:  Key{Task: 1, Name: "order-" + strconv.Itoa((i*size+k)%keys)},
						Item: &counted{&left[i], done},
					})
				}
				done <- struct{}{}
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += size {
				<-done
				// Batches may finish out of order; take one that has.
				for j := range left {
					if left[j].CompareAndSwap(0, size) {
						s.SubmitAll(batches[j])
						break
					}
				}
			}
			for range inFlight {
				<-done
			}
		})
	}
}

func BenchmarkSubmitOne(b *testing.B) {
	s := New(0)
	defer s.Close()
	done := make(chan struct{}, 1)
	var left atomic.Int64
	it := &counted{&left, done}
	b.ReportAllocs()
	for b.Loop() {
		left.Store(1)
		s.Submit(Key{1, "order-1"}, it)
		<-done
	}
}

// BenchmarkBlocking runs 10,000 items of 10 ms each, of as many keys, in real
// time: serially 100 s, and at best 100 ms with 1024 workers.
func BenchmarkBlocking(b *testing.B) {
	const n = 10_000
	s := New(1024)
	defer s.Close()
	done := make(chan struct{}, 1)
	var left atomic.Int64
	var batch []Work
	for k := range n {
		batch = append(batch, Work{Key{1, strconv.Itoa(k)}, run(func() time.Duration {
			time.Sleep(10 * time.Millisecond)
			if left.Add(-1) == 0 {
				done <- struct{}{}
			}
			return Done
		})})
	}
	for b.Loop() {
		left.Store(n)
		s.SubmitAll(batch)
		<-done
	}
	b.ReportMetric(n*0.01*float64(b.N)/b.Elapsed().Seconds(), "x-serial")
}
