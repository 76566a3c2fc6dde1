//go:build synctests

package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
	"github.com/choreography-go/choreography/choreo/cloudevent"
)

const flow = "flow-1"

func one(e choreo.Event[item], n int, seen ...int) choreo.Emission {
	return e.New(item{Flow: flow, N: n, Seen: seen})
}

// whole is a flow in which nothing is wrong: two items, a recall, an item that
// comes too late, and the end.
func whole() []choreo.Emission {
	return []choreo.Emission{
		one(begun, 0), one(greeted, 0),
		one(sent, 1), one(sent, 2), one(recalled, 3), one(sent, 4), one(finished, 5),
		one(relayed, 1), one(relayed, 2), one(relayedRecall, 3), one(relayed, 4), one(relayedEnd, 5),
		one(tallied, 1), one(tallied, 2), one(tallied, 4),
		one(echoed, 1), one(echoed, 2), one(echoed, 4),
		one(did, 1), one(did, 2), one(undone, 2), one(undone, 1), one(counted, 5, 1, 2, 4),
		one(paired, 1, 1), one(unpaired, 1, 1), // the first two, and what undoes them
		one(shipped, 1), one(shipped, 2), one(balanced, 5, 1, 2, -2, -1), one(ended, 5, 1, 2, 4),
	}
}

// committed is the flow that a reader would find. An emission that is there
// again is another event of the same content.
func committed(t *testing.T, events []choreo.Emission) choreotest.Flow {
	t.Helper()
	f := choreotest.Flow{ID: flow}
	next := map[string]int64{}
	for i, e := range events {
		data, err := json.Marshal(e.Data)
		if err != nil {
			t.Fatal(err)
		}
		topic := topics[e.Type]
		f.Events = append(f.Events, choreotest.FlowEvent{
			Event: cloudevent.Event{ID: fmt.Sprint(i), Type: e.Type, Data: data}, Topic: topic, Offset: next[topic],
		})
		next[topic]++
	}
	return f
}

var topics = func() map[string]string {
	all := map[string]string{}
	for _, e := range []choreo.Event[item]{
		begun, greeted, sent, recalled, finished, relayed, relayedRecall, relayedEnd, tallied, echoed, did, refused, gaveUp, undone, dropped, counted,
		shipped, unshipped, balanced, ended, lapsed, paired, unpaired,
	} {
		all[e.Type] = e.Topic
	}
	return all
}()

// broken are the names of the invariants that do not hold.
func broken(f choreotest.Flow) (names []string) {
	said := func(string) []line {
		return []line{{sent.Type, item{Flow: flow, N: 1}}, {sent.Type, item{Flow: flow, N: 2}}, {recalled.Type, item{Flow: flow, N: 3}},
			{sent.Type, item{Flow: flow, N: 4}}, {finished.Type, item{Flow: flow, N: 5}}}
	}
	for _, i := range append(invariants(), exact(said)...) {
		if i.Check(f) != nil {
			names = append(names, i.Name)
		}
	}
	return names
}

func TestAWholeFlowIsFoundWhole(t *testing.T) {
	if names := broken(committed(t, whole())); len(names) > 0 {
		t.Error(names)
	}
}

// TestEveryLossDoublingAndExchangeIsFound leaves each event of a whole flow out,
// puts each there twice, and exchanges each with the next one on its topic.
func TestEveryLossDoublingAndExchangeIsFound(t *testing.T) {
	all := whole()
	for i, e := range all {
		found := func(what string, events []choreo.Emission) {
			t.Helper()
			if len(broken(committed(t, events))) == 0 {
				t.Errorf("nobody notices that %s %d %s", e.Type, e.Data.(item).N, what)
			}
		}
		found("is lost", slices.Delete(slices.Clone(all), i, i+1))
		found("is there twice", slices.Insert(slices.Clone(all), i, e))
		if i+1 < len(all) && topics[all[i+1].Type] == topics[e.Type] && !free(e, all[i+1]) {
			swapped := slices.Clone(all)
			swapped[i], swapped[i+1] = swapped[i+1], swapped[i]
			found("has changed places with the next", swapped)
		}
	}
}

func TestADeadlineThatFiresWronglyIsFound(t *testing.T) {
	fired := append(whole(), one(lapsed, 1))
	if names := broken(committed(t, fired)); len(names) > 0 {
		t.Errorf("it has fired as it should: %v", names)
	}
	for name, events := range map[string][]choreo.Emission{
		"twice":                 append(fired, one(lapsed, 1)),
		"for another event":     append(whole(), one(lapsed, 2)),
		"of a flow without any": {one(begun, 0), one(greeted, 0), one(finished, 1), one(relayedEnd, 1), one(counted, 1), one(balanced, 1), one(ended, 1), one(lapsed, 1)},
	} {
		if names := broken(committed(t, events)); !slices.Contains(names, "a deadline fires at most once, for what has set it, and never once it is met") {
			t.Errorf("nobody notices that it has fired %s: %v", name, names)
		}
	}
}

func TestAJoinThatIsMadeWronglyIsFound(t *testing.T) {
	without := slices.DeleteFunc(whole(), func(e choreo.Emission) bool { return topics[e.Type] == paired.Topic })
	if names := broken(committed(t, append(without, one(unpaired, 2)))); len(names) > 0 {
		t.Errorf("it was called off as it should be: %v", names)
	}
	for name, said := range map[string][]choreo.Emission{
		"another event":                   {one(paired, 2, 1), one(unpaired, 2, 1)},
		"twice":                           {one(paired, 1, 1), one(paired, 1, 1)},
		"undone with another":             {one(paired, 1, 1), one(unpaired, 1, 2)},
		"not undone":                      {one(paired, 1, 1)},
		"called off by what came later":   {one(unpaired, 1)},
		"nothing, and it is not told":     {},
		"undone and called off":           {one(paired, 1, 1), one(unpaired, 1, 1), one(unpaired, 2)},
		"after it was called off already": {one(unpaired, 2), one(paired, 1, 1)},
	} {
		if names := broken(committed(t, append(slices.Clone(without), said...))); !slices.Contains(names, "a join pairs the first of each half, once") {
			t.Errorf("nobody notices that it pairs %s: %v", name, names)
		}
	}
}

// free are events of different handlers, whose order is not promised.
func free(a, b choreo.Emission) bool {
	of := func(e choreo.Emission) int {
		switch e.Type {
		case counted.Type, balanced.Type:
			return 1
		case ended.Type:
			return 2
		}
		return 0
	}
	return of(a) != of(b)
}
