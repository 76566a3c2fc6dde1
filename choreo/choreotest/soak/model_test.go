//go:build synctests

package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
)

// line is one event of a flow as a reader has found it.
type line struct {
	Type string
	item
}

func (l line) String() string {
	text := fmt.Sprintf("%s %d", l.Type, l.N)
	if len(l.Seen) > 0 {
		text += fmt.Sprint(l.Seen)
	}
	return text
}

// lines are the events of a flow that a topic holds, in its order, the first
// copy of each. All of a flow must lie in one partition.
func lines(f choreotest.Flow, topic string) (all []line, err error) {
	var on []choreotest.FlowEvent
	for _, e := range f.Events {
		if e.Topic == topic {
			on = append(on, e)
		}
	}
	slices.SortFunc(on, func(a, b choreotest.FlowEvent) int { return cmp.Compare(a.Offset, b.Offset) })
	seen := map[string]bool{}
	for _, e := range on {
		if e.Partition != on[0].Partition {
			return nil, fmt.Errorf("%s has the flow in partitions %d and %d", topic, on[0].Partition, e.Partition)
		}
		if seen[e.ID] {
			continue
		}
		seen[e.ID] = true
		l := line{Type: e.Type}
		if err := json.Unmarshal(e.Data, &l.item); err != nil {
			return nil, fmt.Errorf("%s/%d/%d: %w", topic, e.Partition, e.Offset, err)
		}
		all = append(all, l)
	}
	return all, nil
}

// only keeps the lines of some types.
func only(all []line, events ...choreo.Event[item]) (kept []line) {
	for _, l := range all {
		if slices.ContainsFunc(events, func(e choreo.Event[item]) bool { return e.Type == l.Type }) {
			kept = append(kept, l)
		}
	}
	return kept
}

// retyped are the lines as another event says them.
func retyped(all []line, to ...choreo.Event[item]) (said []line) {
	for _, l := range all {
		for i := 0; i < len(to); i += 2 {
			if l.Type == to[i].Type {
				l.Type = to[i+1].Type
				said = append(said, l)
			}
		}
	}
	return said
}

func equal(what string, got, want []line) error {
	if len(got) == 0 && len(want) == 0 || reflect.DeepEqual(got, want) {
		return nil
	}
	return fmt.Errorf("%s: there is %v, want %v", what, got, want)
}

// topicsOf are the events of a flow by topic.
type topicsOf map[string][]line

func readTopics(f choreotest.Flow) (topicsOf, error) {
	t := topicsOf{}
	for _, e := range f.Events {
		if _, ok := t[e.Topic]; ok {
			continue
		}
		all, err := lines(f, e.Topic)
		if err != nil {
			return nil, err
		}
		t[e.Topic] = all
	}
	return t, nil
}

// over makes an invariant of a check of one flow's topics.
func over(name string, check func(topicsOf) error) choreotest.Invariant {
	return choreotest.Invariant{Name: name, Check: func(f choreotest.Flow) error {
		t, err := readTopics(f)
		if err != nil {
			return err
		}
		return check(t)
	}}
}

// invariants hold for each flow, whatever was published twice or in another
// order: what each service says follows from what it has heard.
func invariants() []choreotest.Invariant {
	return []choreotest.Invariant{
		over("what was published is said and heard once", func(t topicsOf) error {
			if n := len(t[begun.Topic]); n != 1 {
				return fmt.Errorf("the flow was begun %d times", n)
			}
			return equal(greeted.Topic, t[greeted.Topic], retyped(t[begun.Topic], begun, greeted))
		}),
		over("what is forwarded is neither lost nor reordered", func(t topicsOf) error {
			return equal(relayed.Topic, t[relayed.Topic], retyped(t[sent.Topic], sent, relayed, recalled, relayedRecall, finished, relayedEnd))
		}),
		over("a reaction answers once and in order", func(t topicsOf) error {
			return equal(tallied.Topic, t[tallied.Topic], retyped(t[relayed.Topic], relayed, tallied))
		}),
		over("an echo says what is committed", func(t topicsOf) error {
			return equal(echoed.Topic, t[echoed.Topic], retyped(t[tallied.Topic], tallied, echoed))
		}),
		over("the barrier lets each item through or not", barrier),
		over("a state is the fold of what was heard", func(t topicsOf) error {
			want, err := folded(t[relayed.Topic], relayedEnd, counted, map[string]int{relayed.Type: 1})
			if err != nil {
				return err
			}
			if err := equal(counted.Type, only(t[counted.Topic], counted), want); err != nil {
				return err
			}
			if want, err = folded(t[did.Topic], counted, balanced, map[string]int{did.Type: 1, undone.Type: -1}); err != nil {
				return err
			}
			return equal(balanced.Type, only(t[balanced.Topic], balanced), want)
		}),
		over("a pivot goes forward", func(t topicsOf) error {
			var want []line
			ran, cancelled, overtaken := false, false, len(only(t[shipped.Topic], shipped)) == 0
			for _, l := range t[did.Topic] {
				switch l.Type {
				case did.Type:
					if !cancelled && !overtaken {
						ran = true
						want = append(want, line{shipped.Type, l.item})
					}
				case dropped.Type, undone.Type:
					if !ran && !cancelled {
						cancelled = true
						want = append(want, line{unshipped.Type, l.item})
					}
				}
			}
			if overtaken && !cancelled && len(only(t[did.Topic], did)) > 0 {
				return errors.New("nothing is shipped of what was done, and nothing called it off")
			}
			return equal(shipped.Topic, only(t[shipped.Topic], shipped, unshipped), want)
		}),
		over("a deadline fires at most once, for what has set it, and never once it is met", func(t topicsOf) error {
			heard := only(t[relayed.Topic], relayed, relayedRecall, relayedEnd)
			if len(t[lapsed.Topic]) == 0 {
				return nil // the journal tells whether it was met
			}
			if len(heard) == 0 || heard[0].Type != relayed.Type {
				return fmt.Errorf("%v is said, though the first that was heard of %v did not set the deadline", t[lapsed.Topic], heard)
			}
			return equal(lapsed.Topic, t[lapsed.Topic], retyped(heard[:1], relayed, lapsed))
		}),
		over("a join pairs the first of each half, once", joined),
		over("a flow ends once", func(t topicsOf) error {
			return equal(ended.Topic, only(t[ended.Topic], ended), retyped(t[counted.Topic], counted, ended))
		}),
		{Name: "no event is a dead letter", Check: func(f choreotest.Flow) error {
			if n := len(f.DeadLetters); n > 0 {
				return fmt.Errorf("there are %d dead letters", n)
			}
			return nil
		}},
	}
}

// joined is what becomes of the first of each half: the pair is said, or what calls
// it off comes before that, and is answered once.
func joined(t topicsOf) error {
	said, tallies, dids := t[paired.Topic], t[tallied.Topic], only(t[did.Topic], did)
	off := only(t[undone.Topic], undone, dropped)
	var pair []line
	if len(tallies) > 0 && len(dids) > 0 {
		pair = []line{{paired.Type, pairUp(tallies[0].item, dids[0].item)}}
	}
	switch {
	case len(off) == 0:
		return equal(paired.Topic, said, pair)
	case len(pair) > 0 && len(said) > 1: // it was undone, with what it ran on
		return equal(paired.Topic, said, append(pair, line{unpaired.Type, pair[0].item}))
	}
	return equal(paired.Topic, said, []line{{unpaired.Type, off[0].item}})
}

// barrier plays what the step has heard against what it has said. Which answer
// an item gets, faults may decide; that it gets one, and when none, they may not:
// none is for items that come after the recall, and for those that it overtakes,
// which are the last before it.
func barrier(t topicsOf) error {
	said := only(t[did.Topic], did, refused, gaveUp, undone, dropped)
	next := func() (l line) {
		if len(said) > 0 {
			l, said = said[0], said[1:]
		}
		return l
	}
	var done []line
	cancelled, overtaken := false, false
	for _, heard := range t[relayed.Topic] {
		switch heard.Type {
		case relayed.Type:
			overtaken = overtaken || len(said) > 0 && slices.Contains([]string{undone.Type, dropped.Type}, said[0].Type)
			if cancelled || overtaken {
				continue
			}
			answer := next()
			can := []string{did.Type, gaveUp.Type}
			switch heard.What {
			case refuses:
				can = []string{refused.Type, gaveUp.Type}
			case never:
				can = []string{gaveUp.Type}
			}
			if !slices.Contains(can, answer.Type) || !reflect.DeepEqual(answer.item, heard.item) {
				return fmt.Errorf("%v is answered by %v, want one of %v", heard, answer, can)
			}
			if answer.Type == did.Type {
				done = append(done, answer)
			}
		case relayedRecall.Type:
			if cancelled {
				continue
			}
			cancelled = true
			for _, d := range slices.Backward(done) {
				if u := next(); u.Type != undone.Type || u.N != d.N {
					return fmt.Errorf("%v is undone by %v", d, u)
				}
			}
			if len(done) == 0 {
				if d := next(); d.Type != dropped.Type || d.N != heard.N {
					return fmt.Errorf("%v of what was not done is answered by %v", heard, d)
				}
			}
		}
	}
	if overtaken && !cancelled {
		return errors.New("items were overtaken, and there was no recall")
	}
	if len(said) > 0 {
		return fmt.Errorf("beyond what was heard there is %v", said)
	}
	return nil
}

// folded is what a state says at the end: the numbers it has heard before.
func folded(heard []line, end, says choreo.Event[item], sign map[string]int) (want []line, err error) {
	var seen []int
	for _, l := range heard {
		if s := sign[l.Type]; s != 0 {
			seen = append(seen, s*l.N)
		}
		if l.Type == end.Type {
			l.Type, l.Seen = says.Type, slices.Clone(seen)
			want = append(want, l)
		}
	}
	if len(want) != 1 {
		return nil, fmt.Errorf("%s was heard %d times", end.Type, len(want))
	}
	return want, nil
}

// exact is for runs in which nothing is published twice or in another order:
// the numbers of each flow, as they were said, stand on every topic once and in
// their order, and no event of any topic twice.
func exact(said func(flow string) []line) []choreotest.Invariant {
	return []choreotest.Invariant{
		{Name: "what was said is there, once and in its order", Check: func(f choreotest.Flow) error {
			t, err := readTopics(f)
			if err != nil {
				return err
			}
			return equal(sent.Topic, t[sent.Topic], said(f.ID))
		}},
		{Name: "no record is there twice", Check: func(f choreotest.Flow) error {
			ids := map[string]bool{}
			for _, e := range f.Events {
				if ids[e.Source+" "+e.ID] {
					return fmt.Errorf("%s %s is there twice", e.Type, e.ID)
				}
				ids[e.Source+" "+e.ID] = true
			}
			return nil
		}},
	}
}
