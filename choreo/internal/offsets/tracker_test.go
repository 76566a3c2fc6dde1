package offsets

import (
	"math"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// restart is the tracker of a successor that finds c committed.
func restart(t testing.TB, c Commit, options ...Option) *Tracker {
	t.Helper()
	n, err := New(c.Offset, c.Metadata, append(options, LeaderEpoch(c.LeaderEpoch))...)
	if err != nil {
		t.Fatalf("restart from %+v: %v", c, err)
	}
	return n
}

func TestCommit(t *testing.T) {
	begin := func(t *Tracker, offsets ...int64) {
		for _, o := range offsets {
			t.Begin(o, int32(o/10))
		}
	}
	finish := func(t *Tracker, offsets ...int64) {
		for _, o := range offsets {
			t.Finish(o)
		}
	}
	for _, c := range []struct {
		name             string
		do               func(*Tracker)
		offset           int64
		epoch            int32
		beyond           []span
		inFlight, counts int
	}{
		{"nothing handed out", func(*Tracker) {}, 5, 7, nil, 0, 0},
		{"all unfinished", func(t *Tracker) { begin(t, 5, 6) }, 5, 0, nil, 2, 0},
		{"unfinished behind a hole", func(t *Tracker) { begin(t, 25, 26) }, 25, 2, nil, 2, 0},
		{"all finished", func(t *Tracker) { begin(t, 5, 16); finish(t, 5, 16) }, 17, 1, nil, 0, 0},
		{"finished twice", func(t *Tracker) { begin(t, 5, 16, 17); finish(t, 5, 5, 16, 5, 16) }, 17, 1, nil, 1, 0},
		{"one beyond", func(t *Tracker) { begin(t, 5, 6); finish(t, 6) }, 5, 0, []span{{6, 7}}, 1, 1},
		{"merged from both sides", func(t *Tracker) { begin(t, 5, 6, 7, 8, 9); finish(t, 6, 8, 7) }, 5, 0, []span{{6, 9}}, 2, 3},
		{"a hole goes with the block before it", func(t *Tracker) { begin(t, 5, 7, 9, 11); finish(t, 7, 11) }, 5, 0, []span{{7, 9}, {11, 12}}, 2, 3},
		{"prefix reaches over a finished block", func(t *Tracker) { begin(t, 5, 6, 7, 18); finish(t, 6, 7, 5) }, 18, 1, nil, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr, err := New(5, "", LeaderEpoch(7))
			if err != nil {
				t.Fatal(err)
			}
			c.do(tr)
			got := tr.Commit()
			if got.Offset != c.offset || got.LeaderEpoch != c.epoch {
				t.Errorf("commits %d of epoch %d, want %d of %d", got.Offset, got.LeaderEpoch, c.offset, c.epoch)
			}
			spans, err := decode(got.Offset, got.Metadata)
			if err != nil {
				t.Fatal(err)
			}
			if !equal(spans, c.beyond) {
				t.Errorf("beyond: %v, want %v", spans, c.beyond)
			}
			if tr.InFlight() != c.inFlight || tr.Beyond() != c.counts {
				t.Errorf("in flight %d, beyond %d; want %d, %d", tr.InFlight(), tr.Beyond(), c.inFlight, c.counts)
			}
		})
	}
}

func TestSuccessorIsHandedTheUnfinished(t *testing.T) {
	first, _ := New(10, "")
	for o := int64(10); o < 16; o++ {
		first.Begin(o, 3)
	}
	for _, o := range []int64{12, 13, 15} {
		first.Finish(o)
	}
	second := restart(t, first.Commit())
	if got := second.Beyond(); got != 3 {
		t.Errorf("beyond after the restart: %d, want 3", got)
	}
	if got := second.Commit(); got != first.Commit() {
		t.Errorf("commits %+v before anything is read, want %+v", got, first.Commit())
	}
	for _, c := range []struct {
		offset int64
		again  bool
	}{{10, true}, {11, true}, {12, false}, {13, false}, {14, true}, {15, false}, {16, true}} {
		if got := second.Begin(c.offset, 3); got != c.again {
			t.Errorf("Begin(%d) = %v, want %v", c.offset, got, c.again)
		}
		if c.offset == 11 {
			second.Finish(10)
			second.Finish(11)
			if got := second.Commit(); got.Offset != 14 || got.LeaderEpoch != -1 {
				t.Errorf("prefix next to finished offsets not yet read: %+v, want offset 14 of an unknown epoch", got)
			}
			if got := second.Beyond(); got != 1 {
				t.Errorf("beyond: %d, want 1", got)
			}
		}
	}
	if got := second.InFlight(); got != 2 {
		t.Errorf("in flight: %d, want 2", got)
	}
}

func TestMisuse(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(*Tracker)
		says string
	}{
		{"begun twice", func(t *Tracker) { t.Begin(7, 0); t.Begin(7, 0) }, "Begin(7)"},
		{"begun before the start", func(t *Tracker) { t.Begin(4, 0) }, "Begin(4)"},
		{"begun at the last offset of all", func(t *Tracker) { t.Begin(math.MaxInt64, 0) }, "Begin(9223372036854775807)"},
		{"finished beyond all", func(t *Tracker) { t.Begin(7, 0); t.Finish(8) }, "Finish(8)"},
		{"finished a hole", func(t *Tracker) { t.Begin(7, 0); t.Begin(9, 0); t.Finish(8) }, "Finish(8)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr, _ := New(5, "")
			defer func() {
				if got, _ := recover().(string); !strings.Contains(got, c.says) {
					t.Errorf("panic %q does not say %q", got, c.says)
				}
			}()
			c.do(tr)
		})
	}
	if _, err := New(-1, ""); err == nil {
		t.Error("a negative start is accepted")
	}
	if _, err := New(0, "", Limit(MinMetadata-1)); err == nil || !strings.Contains(err.Error(), "63 bytes") {
		t.Errorf("a limit too small: %v", err)
	}
	if _, err := New(0, "", Limit(MinMetadata)); err != nil {
		t.Errorf("the smallest limit: %v", err)
	}
}

// A record that stays unfinished must cost neither memory nor time as others
// pass it.
func TestStuckRecordCostsNothing(t *testing.T) {
	tr, _ := New(0, "")
	tr.Begin(0, 0)
	for o := int64(1); o < 1_000_000; o++ {
		if !tr.Room() {
			t.Fatalf("no room at offset %d", o)
		}
		tr.Begin(o, 0)
		tr.Finish(o)
	}
	if len(tr.ring) > 16 {
		t.Errorf("remembers %d records", len(tr.ring))
	}
	if got := tr.Commit(); len(got.Metadata) > 16 {
		t.Errorf("metadata of %d bytes", len(got.Metadata))
	}
}

// How many records may be unfinished at once, at worst: it bounds the
// throughput of a partition by Little's law.
func TestWindow(t *testing.T) {
	for _, c := range []struct {
		name  string
		step  int64
		least int
	}{
		{"without holes", 1, 12_000},
		{"one record per transaction", 2, 12_000},
		{"one of eight is ours", 8, 4_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr, _ := New(0, "")
			n := 0
			for o := int64(0); tr.Room(); o += c.step {
				tr.Begin(o, 0)
				n++
			}
			t.Logf("%d records", n)
			if n < c.least {
				t.Errorf("room for %d records, want %d", n, c.least)
			}
			for i := 1; i < n; i += 2 {
				tr.Finish(int64(i) * c.step)
			}
			got := tr.Commit()
			t.Logf("%d bytes", len(got.Metadata))
			if len(got.Metadata) > MaxMetadata {
				t.Errorf("metadata of %d bytes", len(got.Metadata))
			}
			again := restart(t, got)
			for i := range n {
				o := int64(i) * c.step
				if !again.Room() {
					t.Fatalf("the successor has no room for offset %d", o)
				}
				if got, want := again.Begin(o, 0), i%2 == 0; got != want {
					t.Fatalf("Begin(%d) = %v", o, got)
				}
				if i%97 > 0 {
					continue // Commit is not cheap here
				}
				if got := again.Commit(); len(got.Metadata) > MaxMetadata {
					t.Fatalf("metadata of %d bytes", len(got.Metadata))
				}
			}
		})
	}
}

func TestAllocations(t *testing.T) {
	tr, _ := New(0, "")
	var next int64
	for range 5000 { // in flight throughout
		tr.Begin(next, 1)
		next++
	}
	if got := testing.AllocsPerRun(20_000, func() {
		tr.Begin(next, 1)
		tr.Finish(next - 5000)
		next++
	}); got != 0 {
		t.Errorf("in order: %v allocations per record", got)
	}
	if got := testing.AllocsPerRun(20_000, func() {
		if c := tr.Commit(); c.Metadata != "" {
			t.Fatal("metadata without anything beyond")
		}
	}); got != 0 {
		t.Errorf("commit: %v allocations", got)
	}
	if got := testing.AllocsPerRun(20_000, func() { // the first stays unfinished
		tr.Begin(next, 1)
		tr.Finish(next - 4000)
		next++
	}); got != 0 {
		t.Errorf("out of order: %v allocations per record", got)
	}
	if got := testing.AllocsPerRun(1000, func() { tr.Commit() }); got > 1 {
		t.Errorf("commit with metadata: %v allocations, want only the string", got)
	}
}

// The reader begins, handlers finish and the gate commits, all at once.
func TestConcurrentUse(t *testing.T) {
	const n = 20_000
	tr, _ := New(0, "")
	work := make(chan int64, 64)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for o := range work {
				tr.Finish(o)
			}
		})
	}
	stop := make(chan struct{})
	var gate sync.WaitGroup
	gate.Go(func() {
		last := int64(-1)
		for {
			c := tr.Commit()
			if c.Offset < last {
				t.Errorf("the prefix went back from %d to %d", last, c.Offset)
			}
			last = c.Offset
			if _, err := decode(c.Offset, c.Metadata); err != nil {
				t.Error(err)
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	for o := range int64(n) {
		tr.Begin(o, 0)
		work <- o
	}
	close(work)
	wg.Wait()
	close(stop)
	gate.Wait()
	if got := tr.Commit(); got.Offset != n || got.Metadata != "" || tr.InFlight() != 0 {
		t.Errorf("ends with %+v, %d in flight", got, tr.InFlight())
	}
}

func equal(a, b []span) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func BenchmarkBeginFinish(b *testing.B) {
	for _, c := range []struct {
		name  string
		holes int64
		stuck bool
	}{{"in order", 1, false}, {"holes", 2, false}, {"beyond a stuck record", 1, true}} {
		b.Run(c.name, func(b *testing.B) {
			tr, _ := New(0, "")
			next := int64(0)
			if c.stuck {
				tr.Begin(0, 0)
				next = c.holes
			}
			const window = 1000
			for range window {
				tr.Begin(next, 0)
				next += c.holes
			}
			b.ReportAllocs()
			for b.Loop() {
				tr.Begin(next, 0)
				tr.Finish(next - window*c.holes)
				next += c.holes
			}
		})
	}
}

func BenchmarkCommit(b *testing.B) {
	for _, c := range []struct {
		name    string
		records int64
	}{{"empty", 0}, {"100 ranges", 100}, {"12,000 ranges", 12_000}} {
		b.Run(c.name, func(b *testing.B) {
			tr, _ := New(0, "")
			for o := range c.records {
				tr.Begin(o, 0)
			}
			for o := int64(1); o < c.records; o += 2 {
				tr.Finish(o)
			}
			b.ReportAllocs()
			for b.Loop() {
				tr.Commit()
			}
		})
	}
}
