package main

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func read(t *testing.T, w work, text string) *child {
	t.Helper()
	c := newChild(w)
	for l := range strings.Lines(text) {
		c.line(strings.TrimRight(l, "\n"))
	}
	return c
}

const twoRuns = `=== RUN   TestSoak
    soak_test.go:51: heap in use: 1048576 bytes
    soak_test.go:23: seed 7: 20 flows, 731 events, 33 faults, 1h2m32s simulated in 500ms: 300 simulated seconds per second
    soak_test.go:51: heap in use: 3145728 bytes
    soak_test.go:23: seed 8: 20 flows, 700 events, 30 faults, 57m28s simulated in 1.5s: 300 simulated seconds per second
`

func TestRunsAreCounted(t *testing.T) {
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	x := newTally("abc", began, 2)
	x.add(read(t, work{"TestSoak", 7, 2}, twoRuns))
	got := x.report(began.Add(30 * time.Minute))
	want := result{
		Commit: "abc", Began: began, RealHours: 0.5, Jobs: 2, Seeds: 2, SimulatedHours: 2, Flows: 40, Events: 1431, Faults: 63,
		Speed: 3600, HeapAfter: map[int]float64{2: 3}, Failures: []failure{},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestFailuresAreToldApart(t *testing.T) {
	exit := errors.New("exit status 1")
	for name, c := range map[string]struct {
		printed string
		want    failure
		stalled bool
	}{
		"a violation": {twoRuns + `    soak_test.go:23: seed 8 violates 2 invariants:
          - no event is said twice: flow "flow-4": x
          - a flow ends once: flow "flow-5": y
        to run it again, in /x:
          - not this
`, failure{"TestSoak", 8, []string{`no event is said twice: flow "flow-4": x`, `a flow ends once: flow "flow-5": y`}}, false},
		"a stall": {twoRuns + `    soak_test.go:23: seed 8 violates an invariant:
          - every flow ends or shows as stuck: flow "flow-4": it has neither
`, failure{"TestSoak", 8, []string{`every flow ends or shows as stuck: flow "flow-4": it has neither`}}, true},
		"time that stands still": {twoRuns + `    soak_test.go:51: heap in use: 3145728 bytes
TestSoak: seed 9: simulated time has stood still at 33 s for 2m0s: something goes round without waiting
goroutine 12 [running]:
`, failure{"TestSoak", 9, []string{"TestSoak: seed 9: simulated time has stood still at 33 s for 2m0s: something goes round without waiting"}}, true},
		"the end of the process": {twoRuns + "    soak_test.go:51: heap in use: 1 bytes\npanic: x\n",
			failure{"TestSoak", 9, []string{"the process ended: exit status 1"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			x := newTally("", time.Now(), 1)
			f := read(t, work{"TestSoak", 7, 9}, c.printed).failure(exit)
			x.fail(f)
			if !reflect.DeepEqual(f, c.want) {
				t.Errorf("%+v, want %+v", f, c.want)
			}
			if r := x.report(time.Now()); r.Violations != 1 || (r.Stalls == 1) != c.stalled {
				t.Errorf("%d with violations, %d stalled", r.Violations, r.Stalls)
			}
		})
	}
}
