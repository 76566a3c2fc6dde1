package sched

import (
	"hash/maphash"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// However keys differ, few of them share a bucket: finding one costs the same
// however many there are.
func TestKeysSpreadOverTheBuckets(t *testing.T) {
	const n = 4096
	for _, tc := range []struct {
		name string
		key  func(i int) Key
	}{
		{"many names in the first task", func(i int) Key { return Key{0, strconv.Itoa(i)} }},
		{"many names in another task", func(i int) Key { return Key{7, strconv.Itoa(i)} }},
		{"one name in many tasks", func(i int) Key { return Key{int32(i), "flow"} }},
		{"some names in some tasks", func(i int) Key { return Key{int32(i % 64), strconv.Itoa(i / 64)} }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var tab table
			seed := maphash.MakeSeed()
			for i := range n {
				k := tc.key(i)
				tab.put(&queue{key: k, hash: hash(seed, k)})
			}
			longest := 0
			for _, q := range tab.buckets {
				length := 0
				for ; q != nil; q = q.chain {
					length++
				}
				longest = max(longest, length)
			}
			if longest > 20 { // of as many keys as buckets hardly ever 8 meet
				t.Errorf("%d of %d keys are in one bucket of %d", longest, n, len(tab.buckets))
			}
		})
	}
}

// An item that runs alone costs one worker, and one that asks to run again at
// once does not wait, on its key or in the figures.
func TestAnItemTakesNoMoreThanItNeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(8)
		started := 0
		s.spawn = func() {
			s.mu.Lock()
			started++
			s.mu.Unlock()
			s.work()
		}
		s.Submit(Key{1, "a"}, run(func() time.Duration { return Done }))
		synctest.Wait()
		if s.mu.Lock(); started != 1 || s.workers != 0 {
			t.Errorf("one item brought up %d workers, %d are left", started, s.workers)
		}
		s.mu.Unlock()
	})
	s := New(1)
	for i := range 100 {
		var seen Stats
		first, done := true, make(chan struct{})
		s.SubmitAll([]Work{
			{Key{int32(i), "again"}, run(func() time.Duration { // a key of its own: the worker may not be through with the last one
				if first {
					first = false
					return 0
				}
				close(done)
				return Done
			})},
			{Key{1, "other"}, run(func() time.Duration { seen = s.Stats(); return Done })},
		})
		<-done
		if seen != (Stats{Running: 1, QueuedKeys: 1}) {
			t.Fatalf("while the other item runs: %+v", seen)
		}
	}
}

// What the next burst can use is kept up to its bound, which belongs to it.
func TestWhatIsKeptForTheNextBurst(t *testing.T) {
	for _, tc := range []struct{ ring, kept int }{{largestRing, largestRing}, {2 * largestRing, 0}} {
		s := New(1)
		s.release(&queue{items: fifo{ring: make([]Item, tc.ring)}})
		if q := s.free.pop(); q == nil || len(q.items.ring) != tc.kept {
			t.Errorf("of a queue with room for %d items is kept: %+v", tc.ring, q)
		}
	}
	for _, tc := range []struct{ keys, kept int }{{mostBuckets, mostBuckets}, {mostBuckets + 1, 0}} {
		var tab table
		var all []*queue
		for i := range tc.keys {
			q := &queue{key: Key{0, strconv.Itoa(i)}, hash: uint64(i)}
			tab.put(q)
			all = append(all, q)
		}
		for _, q := range all {
			tab.remove(q)
		}
		if len(tab.buckets) != tc.kept {
			t.Errorf("after %d keys %d buckets are kept, want %d", tc.keys, len(tab.buckets), tc.kept)
		}
	}
}
