package dlq

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/choreography-go/choreography/choreo/deadletter"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Bounds of what is kept of the topic, whatever lies on it.
const (
	mostGroups = 10_000
	maxExample = 300 // bytes of a group's error
)

// others is the name of the group that takes the letters of groups beyond the
// bound.
const others = "others"

// Group are letters of one cause.
type Group struct {
	Fingerprint string    `json:"group"`
	Letters     int       `json:"letters"` // that nothing has become of
	First       time.Time `json:"first"`
	Last        time.Time `json:"last"`
	Reason      string    `json:"reason"`
	Step        string    `json:"step"`
	Error       string    `json:"error"` // of the first letter
	// Settled counts the letters of which something has become.
	Settled map[deadletter.Outcome]int `json:"settled,omitempty"`
}

// Selection says which letters are meant. Those of all groups, positions, event
// ids and flows that are named; all, if none is.
type Selection struct {
	// Names are groups, positions (topic/partition/offset), or event ids.
	Names, Flows []string
}

// matches reports whether a letter is meant, and whether it is by its own name.
func (s Selection) matches(l *deadletter.Letter) (is, itself bool) {
	if len(s.Names)+len(s.Flows) == 0 {
		return true, false
	}
	for _, name := range s.Names {
		if name == l.At.String() || name == l.ID && l.ID != "" {
			return true, true
		}
		is = is || name == l.Fingerprint
	}
	return is || slices.Contains(s.Flows, l.Flow), false
}

// entry is what is kept of a letter.
type entry struct {
	offset int64
	nanos  int64 // of its time
	size   int64
	mark   place // where the mark lies, if it is settled
	group  int32
	now    state
	itself bool // it was selected by its own name
}

// state is what has become of a letter, in a byte: an index of states.
type state uint8

const waiting state = 0

// states are all that a letter can be in. An outcome of a later version is the last.
var states = append([]deadletter.Outcome{"waiting"}, append(slices.Clone(deadletter.Outcomes), "otherwise")...)

func stateOf(o deadletter.Outcome) state {
	if i := slices.Index(states, o); i > 0 {
		return state(i)
	}
	return state(len(states) - 1)
}

// Index is what lies on the topic of the letters that were selected.
type Index struct {
	topic   *Topic
	groups  []Group
	numbers map[string]int32 // of groups, by fingerprint
	entries map[int32][]entry
	marks   map[place]seenMark // by the letter's place
	// Strange counts records that are neither letters nor marks.
	Strange int
}

type seenMark struct {
	at  place
	now state
}

// Look reads the topic from its beginning to its end as it is now.
func (t *Topic) Look(ctx context.Context, which Selection) (*Index, error) {
	which.Names = slices.Clone(which.Names)
	for i, name := range which.Names {
		if at, err := deadletter.ParsePosition(name); err == nil && at.Topic == t.Service+".dlq" {
			which.Names[i] = t.Prefix + name // the topic may be named without the prefix
		}
	}
	spans, err := t.topic().Spans(ctx)
	if err != nil {
		return nil, err
	}
	x := &Index{topic: t, numbers: map[string]int32{}, entries: map[int32][]entry{}, marks: map[place]seenMark{}}
	if err := t.topic().Read(ctx, spans, func(rec *kgo.Record) { x.add(rec, which) }); err != nil {
		return nil, err
	}
	x.settle()
	return x, nil
}

func (x *Index) add(rec *kgo.Record, which Selection) {
	if m, ok := deadletter.ReadMark(rec); ok {
		if m.Letter.Topic == x.topic.Name() {
			x.marks[place{m.Letter.Partition, m.Letter.Offset}] = seenMark{place{rec.Partition, rec.Offset}, stateOf(m.Outcome)}
		}
		return
	}
	if deadletter.IsAudit(rec) {
		return
	}
	l, ok := deadletter.ReadLetter(rec)
	if !ok {
		x.Strange++
		return
	}
	is, itself := which.matches(&l)
	if !is {
		return
	}
	x.entries[rec.Partition] = append(x.entries[rec.Partition], entry{
		offset: rec.Offset, nanos: l.Time.UnixNano(), size: l.Size, group: x.group(&l), itself: itself,
	})
}

// group is the number of the letter's group.
func (x *Index) group(l *deadletter.Letter) int32 {
	name := l.Fingerprint
	if n, ok := x.numbers[name]; ok {
		return n
	}
	g := Group{Fingerprint: name, Reason: l.Reason, Step: l.Step, Error: deadletter.Line([]byte(l.Error), maxExample)}
	if len(x.groups) >= mostGroups {
		if n, ok := x.numbers[others]; ok {
			return n
		}
		name, g = others, Group{Fingerprint: others}
	}
	n := int32(len(x.groups))
	x.groups = append(x.groups, g)
	x.numbers[name] = n
	return n
}

// settle says of each letter what has become of it, and counts.
func (x *Index) settle() {
	for p, entries := range x.entries {
		for i := range entries {
			e := &entries[i]
			if m, ok := x.marks[place{p, e.offset}]; ok {
				e.now, e.mark = m.now, m.at
			}
			g := &x.groups[e.group]
			if e.now != waiting {
				if g.Settled == nil {
					g.Settled = map[deadletter.Outcome]int{}
				}
				g.Settled[states[e.now]]++
				continue
			}
			at := time.Unix(0, e.nanos).UTC()
			if g.Letters++; g.Letters == 1 || at.Before(g.First) {
				g.First = at
			}
			if at.After(g.Last) {
				g.Last = at
			}
		}
	}
	x.marks = nil
}

// Groups are the groups of the letters: those with the latest letter first, and
// settled ones only if asked for.
func (x *Index) Groups(settled bool) []Group {
	shown := []Group{}
	for _, g := range x.groups {
		if g.Letters > 0 || settled {
			shown = append(shown, g)
		}
	}
	slices.SortStableFunc(shown, func(a, b Group) int {
		return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.Fingerprint, b.Fingerprint))
	})
	return shown
}

// Settled is how many of the letters are settled.
func (x *Index) Settled() int {
	n := 0
	for _, g := range x.groups {
		for _, k := range g.Settled {
			n += k
		}
	}
	return n
}

// found is a letter of the index.
type found struct {
	place
	*entry
}

// inOrder goes through the letters in the order of their times, never against
// that of their partition.
func (x *Index) inOrder(yield func(found) bool) {
	left := maps.Clone(x.entries)
	partitions := slices.Sorted(maps.Keys(left))
	for {
		var next *found
		for _, p := range partitions {
			if len(left[p]) > 0 && (next == nil || left[p][0].nanos < next.nanos) {
				next = &found{place{p, left[p][0].offset}, &left[p][0]}
			}
		}
		if next == nil {
			return
		}
		left[next.partition] = left[next.partition][1:]
		if !yield(*next) {
			return
		}
	}
}

// Bounds of what is read again at once.
const (
	chunkLetters = 4000
	chunkBytes   = 16 << 20
)

// again reads letters once more, whole, and with them the marks of those that
// are settled; each is called in the order of the letters.
func (x *Index) again(ctx context.Context, letters []found, each func(f found, rec, mark *kgo.Record) error) error {
	for len(letters) > 0 {
		var places []place
		n, size := 0, int64(0)
		for ; n < len(letters) && n < chunkLetters && (n == 0 || size+letters[n].size <= chunkBytes); n++ {
			size += letters[n].size
			places = append(places, letters[n].place)
			if letters[n].now != waiting {
				places = append(places, letters[n].mark)
			}
		}
		recs, err := x.topic.fetch(ctx, places)
		if err != nil {
			return err
		}
		for _, f := range letters[:n] {
			if rec := recs[f.place]; rec != nil {
				if err := each(f, rec, recs[f.mark]); err != nil {
					return err
				}
			}
		}
		letters = letters[n:]
	}
	return nil
}
