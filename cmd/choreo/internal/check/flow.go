package check

import (
	"cmp"
	"slices"
)

// flow is the causal graph of one flow.
type flow struct {
	id     string
	events []Event // by time said, then place
	byID   map[string]int
	// elsewhere tells in which flow any event of the history is.
	elsewhere map[string]string
	past      []map[int]bool // of each event its ancestors; made on first use
}

func newFlow(id string, events []Event, elsewhere map[string]string) *flow {
	f := &flow{id: id, events: slices.Clone(events), byID: make(map[string]int, len(events)), elsewhere: elsewhere}
	slices.SortFunc(f.events, func(a, b Event) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	for i := range f.events {
		if _, twice := f.byID[f.events[i].ID]; !twice {
			f.byID[f.events[i].ID] = i
		}
	}
	return f
}

// of returns the events of a type.
func (f *flow) of(eventType string) []Event {
	var all []Event
	for _, e := range f.events {
		if e.Type == eventType {
			all = append(all, e)
		}
	}
	return all
}

func (f *flow) has(eventType string) bool {
	return slices.ContainsFunc(f.events, func(e Event) bool { return e.Type == eventType })
}

// ended reports whether all is said: of what is cancelled no goods are set aside, unless
// it is shipped all the same.
func (f *flow) ended() bool {
	return f.has(Confirmed) || f.has(Cancelled) && (f.has(Released) || f.has(Shipped))
}

// ancestors returns the causal past of event i, by index; on a cycle, event i
// itself too.
func (f *flow) ancestors(i int) map[int]bool {
	if f.past == nil {
		f.past = make([]map[int]bool, len(f.events))
	}
	if f.past[i] == nil {
		past := map[int]bool{}
		next := []int{i}
		for len(next) > 0 {
			e := f.events[next[len(next)-1]]
			next = next[:len(next)-1]
			for _, id := range e.Causes {
				if c, ok := f.byID[id]; ok && !past[c] {
					past[c] = true
					next = append(next, c)
				}
			}
		}
		f.past[i] = past
	}
	return f.past[i]
}

// caused reports whether some event of a type is in the causal past of e.
func (f *flow) caused(eventType string, e Event) bool {
	for a := range f.ancestors(f.byID[e.ID]) {
		if f.events[a].Type == eventType {
			return true
		}
	}
	return false
}
