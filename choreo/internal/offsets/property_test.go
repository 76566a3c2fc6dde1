package offsets

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// model is the partition and one service that reads it, as plain sets.
type model struct {
	log       []int64        // the records that exist, by offset
	finished  map[int64]bool // by whichever incarnation
	handed    map[int64]bool // by the present one, unfinished
	read      int            // log[:read] was read by the present one
	start     int64          // committed offset the present one began with
	t         *Tracker
	limit     int
	committed []Commit
	at        []map[int64]bool // finished when committed[i] was made
}

func (m *model) prefix() int64 {
	if len(m.handed) > 0 {
		low := int64(1) << 62
		for o := range m.handed {
			low = min(low, o)
		}
		return low
	}
	if m.read == 0 {
		return m.start
	}
	return max(m.start, m.log[m.read-1]+1)
}

// begin reads the next record if there is room.
func (m *model) begin(t *rapid.T) {
	if !m.t.Room() {
		if len(m.handed) == 0 {
			t.Fatal("no room though nothing is in flight: the partition would stand still for ever")
		}
		return
	}
	o := m.log[m.read]
	m.read++
	got := m.t.Begin(o, int32(o%7))
	if got == m.finished[o] {
		t.Fatalf("Begin(%d) = %v, finished before: %v", o, got, m.finished[o])
	}
	if got {
		m.handed[o] = true
	}
}

func (m *model) finish(o int64) {
	m.t.Finish(o)
	delete(m.handed, o)
	m.finished[o] = true
}

// commit checks a commit against the model.
func (m *model) commit(t *rapid.T) Commit {
	c := m.t.Commit()
	if len(c.Metadata) > m.limit {
		t.Fatalf("metadata of %d bytes, limit %d", len(c.Metadata), m.limit)
	}
	for i := range len(c.Metadata) {
		if c.Metadata[i] < ' ' || c.Metadata[i] > '~' {
			t.Fatalf("metadata %q is not ASCII", c.Metadata)
		}
	}
	spans, err := decode(c.Offset, c.Metadata)
	if err != nil {
		t.Fatalf("reads not its own metadata: %v", err)
	}
	for _, o := range m.log {
		covered := o < c.Offset || slices.ContainsFunc(spans, func(s span) bool { return s.from <= o && o < s.to })
		if covered != m.finished[o] {
			t.Fatalf("commit %d %v: offset %d covered: %v, finished: %v", c.Offset, spans, o, covered, m.finished[o])
		}
	}
	if want := m.prefix(); c.Offset < want {
		t.Fatalf("prefix %d, want at least %d", c.Offset, want)
	} else if c.Offset > want { // only over what the predecessor finished
		for _, o := range m.log {
			if want <= o && o < c.Offset && !m.finished[o] {
				t.Fatalf("prefix %d passes unfinished %d", c.Offset, o)
			}
		}
	}
	if len(m.handed) > 0 && c.LeaderEpoch != int32(c.Offset%7) {
		t.Fatalf("epoch %d at offset %d", c.LeaderEpoch, c.Offset)
	}
	if got := m.t.InFlight(); got != len(m.handed) {
		t.Fatalf("in flight %d, want %d", got, len(m.handed))
	}
	beyond := 0
	for _, s := range spans {
		beyond += int(s.to - s.from)
	}
	if got := m.t.Beyond(); got != beyond {
		t.Fatalf("beyond %d, the metadata tells %d", got, beyond)
	}
	return c
}

// restart goes on with another incarnation, from commit i. Meanwhile records
// may have been compacted away.
func (m *model) restart(t *rapid.T, i int, compacted func(int64) bool) {
	c := m.committed[i]
	m.finished = map[int64]bool{}
	for o := range m.at[i] {
		m.finished[o] = true
	}
	m.committed, m.at = m.committed[:i+1], m.at[:i+1]
	m.handed = map[int64]bool{}
	next, err := New(c.Offset, c.Metadata, Limit(m.limit))
	if err != nil {
		t.Fatal(err)
	}
	m.t, m.start = next, c.Offset
	m.log = slices.DeleteFunc(m.log, func(o int64) bool { return o >= c.Offset && compacted(o) })
	m.read = 0
	for m.read < len(m.log) && m.log[m.read] < c.Offset {
		m.read++
	}
}

// TestModel is the promise of the package: after any interleaving and a
// restart from any commit, exactly the unfinished are handed out again, and no
// commit covers an unfinished one or is too long.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		gap := rapid.OneOf(
			rapid.Just(int64(1)),
			rapid.Int64Range(1, 4),
			rapid.Custom(func(t *rapid.T) int64 { return 1 << rapid.IntRange(0, 50).Draw(t, "bits") }),
		)
		m := &model{
			finished: map[int64]bool{}, handed: map[int64]bool{},
			limit: rapid.SampledFrom([]int{MinMetadata, MinMetadata + 1, MinMetadata + 2, 80, 200}).Draw(t, "limit"),
		}
		o := rapid.Int64Range(0, 100).Draw(t, "first")
		for range rapid.IntRange(1, 300).Draw(t, "records") {
			m.log = append(m.log, o)
			o += gap.Draw(t, "gap")
		}
		m.start = rapid.Int64Range(0, m.log[0]).Draw(t, "start")
		var err error
		if m.t, err = New(m.start, "", Limit(m.limit)); err != nil {
			t.Fatal(err)
		}
		unfinished := func() []int64 {
			all := make([]int64, 0, len(m.handed))
			for o := range m.handed {
				all = append(all, o)
			}
			slices.Sort(all)
			return all
		}
		t.Repeat(map[string]func(*rapid.T){
			"begin": func(t *rapid.T) {
				for range rapid.IntRange(1, 40).Draw(t, "n") {
					if m.read < len(m.log) {
						m.begin(t)
					}
				}
			},
			"finish": func(t *rapid.T) {
				all := unfinished()
				if len(all) == 0 {
					t.Skip()
				}
				o := rapid.SampledFrom(all).Draw(t, "offset")
				m.finish(o)
				if rapid.Bool().Draw(t, "twice") {
					m.t.Finish(o)
				}
			},
			"finish many": func(t *rapid.T) {
				all := unfinished()
				every := rapid.IntRange(1, 3).Draw(t, "every")
				for i := rapid.IntRange(0, 3).Draw(t, "from"); i < len(all); i += every {
					m.finish(all[i])
				}
			},
			"commit": func(t *rapid.T) {
				m.committed = append(m.committed, m.commit(t))
				now := map[int64]bool{}
				for o := range m.finished {
					now[o] = true
				}
				m.at = append(m.at, now)
			},
			"restart": func(t *rapid.T) {
				if len(m.committed) == 0 {
					t.Skip()
				}
				lost := int64(0)
				if rapid.IntRange(0, 3).Draw(t, "compaction") == 0 {
					lost = rapid.Int64Range(2, 5).Draw(t, "one of")
				}
				m.restart(t, rapid.IntRange(0, len(m.committed)-1).Draw(t, "from"),
					func(o int64) bool { return lost > 0 && o%lost == 0 })
			},
			"": func(t *rapid.T) { m.commit(t) },
		})
		// Whatever finishes last, it comes to an end; one more record shows that,
		// also where the last finished ones were compacted away.
		m.log = append(m.log, o)
		for m.read < len(m.log) || len(m.handed) > 0 {
			for m.read < len(m.log) && m.t.Room() {
				m.begin(t)
			}
			all := unfinished()
			for i := len(all) - 1; i >= 0; i -= 2 {
				m.finish(all[i])
			}
			m.commit(t)
		}
		if c := m.commit(t); c.Offset != o+1 || c.Metadata != "" {
			t.Fatalf("ends with %+v", c)
		}
	})
}

// TestRoomIsEnough takes the worst case instead of a random one: every block
// alternates, the records between them any distance apart.
func TestRoomIsEnough(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(MinMetadata, 120).Draw(t, "limit")
		widest := rapid.IntRange(0, 40).Draw(t, "widest gap in bits")
		tr, err := New(0, "", Limit(limit))
		if err != nil {
			t.Fatal(err)
		}
		var all []int64
		for o := int64(0); tr.Room(); o += rapid.Int64Range(1, 1<<widest).Draw(t, "gap") {
			tr.Begin(o, 0)
			all = append(all, o)
		}
		for i := 1; i < len(all); i += 2 {
			tr.Finish(all[i])
			if c := tr.Commit(); len(c.Metadata) > limit {
				t.Fatalf("%d bytes, limit %d", len(c.Metadata), limit)
			}
		}
		for i := 0; i < len(all); i += 2 {
			tr.Finish(all[i])
		}
		if !tr.Room() {
			t.Fatal("no room though all is finished")
		}
	})
}

// The last one that there is room for may be as far away as offsets go.
func TestRoomForTheWidestGap(t *testing.T) {
	for limit := MinMetadata; limit < MinMetadata+8; limit++ {
		longest := 0
		for n := int64(1); ; n += 2 {
			tr, err := New(0, "", Limit(limit))
			if err != nil {
				t.Fatal(err)
			}
			for o := range n {
				tr.Begin(o, 0)
			}
			if !tr.Room() {
				break
			}
			tr.Begin(math.MaxInt64-1, 0)
			for o := int64(1); o < n; o += 2 {
				tr.Finish(o)
			}
			tr.Finish(math.MaxInt64 - 1)
			longest = max(longest, len(tr.Commit().Metadata))
		}
		if longest > limit || longest < limit-1 {
			t.Errorf("metadata of up to %d bytes, limit %d", longest, limit)
		}
	}
}
