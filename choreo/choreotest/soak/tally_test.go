package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
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
    soak_test.go:23: seed 7: 20 flows, 731 events, 33 faults, 1h2m32s simulated in 500ms: 300 simulated seconds per second; 3.0 MiB in use
    soak_test.go:23: seed 8: 20 flows, 700 events, 30 faults, 57m28s simulated in 1.5s: 300 simulated seconds per second; 3.5 MiB in use
`

var ours = simulations[1]

func TestRunsAreCounted(t *testing.T) {
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	x := newTally("abc", began, 2)
	c := read(t, work{ours, 7, 2}, twoRuns)
	c.processor = time.Second
	x.add(c)
	x.add(read(t, work{simulations[0], 7, 1}, strings.ReplaceAll(twoRuns, "20 flows", "10 flows")))
	got := x.report(began.Add(30 * time.Minute))
	if got.Commit != "abc" || got.Began != began || got.RealHours != 0.5 || got.Jobs != 2 || got.Go == "" || got.Cores == 0 {
		t.Errorf("%+v", got)
	}
	heap := map[int]float64{1: 3}
	one := counts{Seeds: 2, SimulatedHours: 2, Flows: 40, Events: 1431, Faults: 63, Speed: 3600, SpeedOfCore: 7200, HeapAfter: heap}
	other := one
	other.Flows, other.SpeedOfCore = 20, 0
	if want := []part{{simulations[0], other}, {ours, one}, {simulation: simulations[2]}}; !reflect.DeepEqual(got.Of, want) {
		t.Errorf("got  %+v\nwant %+v", got.Of, want)
	}
	want := counts{Seeds: 4, SimulatedHours: 4, Flows: 60, Events: 2862, Faults: 126, Speed: 3600, SpeedOfCore: 14400}
	if !reflect.DeepEqual(got.counts, want) {
		t.Errorf("got  %+v\nwant %+v", got.counts, want)
	}
}

func TestFailuresAreToldApart(t *testing.T) {
	exit := errors.New("exit status 1")
	for name, c := range map[string]struct {
		printed string
		want    failure
		stalled bool
	}{
		"a violation": {twoRuns + `    soak_test.go:23: seed 8 violates 2 invariants, in 2 flows:
          - no event is said twice: flow "flow-4": x
          - a flow ends once: flow "flow-5": y
        to run it again, in /x:
          - not this
`, failure{"TestSoak", 8, []string{`no event is said twice: flow "flow-4": x`, `a flow ends once: flow "flow-5": y`}}, false},
		"a stall": {twoRuns + `    soak_test.go:23: seed 8 violates 1 invariant, in 1 flow:
          - every flow ends or shows as stuck: flow "flow-4": it has neither
`, failure{"TestSoak", 8, []string{`every flow ends or shows as stuck: flow "flow-4": it has neither`}}, true},
		"time that stands still": {twoRuns + `
TestSoak: seed 9: simulated time has stood still at 33 s for 2m0s: something goes round without waiting
goroutine 12 [running]:
`, failure{"TestSoak", 9, []string{"TestSoak: seed 9: simulated time has stood still at 33 s for 2m0s: something goes round without waiting"}}, true},
		"the end of the process": {twoRuns + "panic: x\n\ngoroutine 12 [running]:\n", failure{"TestSoak", 9, []string{"the process ended: exit status 1: panic: x"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			x := newTally("", time.Now(), 1)
			f := read(t, work{ours, 7, 9}, c.printed).failure(exit)
			x.fail(f)
			if !reflect.DeepEqual(f, c.want) {
				t.Errorf("%+v, want %+v", f, c.want)
			}
			if r := x.report(time.Now()); r.Violations != 1 || (r.Stalls == 1) != c.stalled || len(r.Failures) != 1 || r.Of[1].Violations != 1 {
				t.Errorf("%d with violations, %d stalled", r.Violations, r.Stalls)
			}
		})
	}
}

func TestSimulationsTakeTurns(t *testing.T) {
	take := inTurn(5)
	var got []string
	for range 6 {
		w := take()
		got = append(got, fmt.Sprintf("%s %d-%d", w.Test, w.seed, w.seed+w.seeds-1))
	}
	want := []string{"TestSimulate 5-64", "TestSoak 5-64", "TestSimulate 65-124", "TestSoakExact 5-64", "TestSimulate 125-184", "TestSoak 65-124"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestTheReportIsWrittenWhole(t *testing.T) {
	file := filepath.Join(t.TempDir(), "soak.json")
	x := newTally("abc", time.Now(), 1)
	x.add(read(t, work{ours, 7, 2}, twoRuns))
	for range 2 { // the second one takes the first one's place
		if err := x.report(time.Now()).write(file); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var read struct {
		Seeds       int
		Simulations []struct {
			Test    string
			Package string
			Hours   float64 `json:"simulated_hours"`
		}
	}
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	if s := read.Simulations; read.Seeds != 2 || len(s) != 3 || s[1].Test != "TestSoak" || s[1].Package != "choreo/choreotest/soak" || s[1].Hours != 2 {
		t.Errorf("%s", text)
	}
}
