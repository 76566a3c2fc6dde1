package choreotest

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/choreography-go/choreography/choreo/choreotest/internal/schedule"
)

// What a report shows at most.
const (
	shownViolations = 20
	shownFlows      = 3
	shownLines      = 200
	confirmations   = 5 // runs that tell how often a failure comes again
)

const whatHappened = "what happened to the instances, and what they logged, by simulated time:"

// fewest is a failing run with as few faults as were found to suffice.
type fewest struct {
	result
	asked  int // runs made to find it
	again  int // of so many confirmations that failed
	before int // faults there were
}

// minimize leaves out of a failing run's schedule what does not matter: as long
// as one of the same invariants is violated.
func (s *simulation) minimize(t *testing.T, seed uint64, r result) fewest {
	f := fewest{result: r, before: len(r.faults)}
	var names []string
	for _, v := range r.violations {
		names = append(names, v.invariant)
	}
	fails := func(faults schedule.Schedule) bool {
		next := s.run(t, seed, faults)
		same := slices.ContainsFunc(next.violations, func(v violation) bool { return slices.Contains(names, v.invariant) })
		if same {
			f.result = next
		}
		return same
	}
	if s.Minimize <= 0 {
		return f
	}
	least, asked := schedule.Shrink(r.faults, s.Minimize, fails)
	f.asked = asked
	for range confirmations {
		if fails(least) {
			f.again++
		}
	}
	return f
}

// report says all that is known of a failing run.
func (s *simulation) report(t *testing.T, seed uint64, r result) string {
	f := s.minimize(t, seed, r)
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d violates %s:\n", seed, r.violated())
	for _, v := range r.violations[:min(shownViolations, len(r.violations))] {
		fmt.Fprintf(&b, "  - %s\n", v)
	}
	if more := len(r.violations) - shownViolations; more > 0 {
		fmt.Fprintf(&b, "  … and %d more\n", more)
	}
	schedule := ""
	if s.isGiven {
		schedule = fmt.Sprintf(" %s='%v'", envSchedule, r.faults)
	}
	fmt.Fprintf(&b, "to run it again%s:\n  %s=%d%s %s\n", where(), envSeed, seed, schedule, command(t))
	switch {
	case f.asked == 0:
		fmt.Fprintf(&b, "its %d faults:\n", f.before)
	case f.again == 0:
		fmt.Fprintf(&b, "its %d faults, of which none could be left out for certain: the last ones that failed did so in none of %d further runs; try them with %s:\n",
			f.before, confirmations, envSchedule)
	default:
		suffice := "this one suffices"
		if n := len(f.faults); n != 1 {
			suffice = fmt.Sprintf("these %d suffice", n)
		}
		fmt.Fprintf(&b, "of its %d faults %s (found in %d runs; they failed again in %d of %d); all that follows is of a run with no others:\n  %s=%d %s='%v' %s\n",
			f.before, suffice, f.asked, f.again, confirmations, envSeed, seed, envSchedule, f.faults, command(t))
	}
	b.WriteString(shown(f.faults))
	f.showFlows(&b)
	lines := f.log
	fmt.Fprintln(&b, whatHappened)
	if more := len(lines) - shownLines; more > 0 && os.Getenv(envLog) == "" {
		fmt.Fprintf(&b, "  (%d lines are left out; %s=all shows them)\n", more, envLog)
		lines = lines[more:]
	}
	for _, line := range lines {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	return b.String()
}

// violated counts what is violated.
func (r result) violated() string {
	invariants, flows := map[string]bool{}, map[string]bool{}
	for _, v := range r.violations {
		invariants[v.invariant] = true
		if v.flow != "" {
			flows[v.flow] = true
		}
	}
	text := number(len(invariants), "invariant")
	if len(flows) > 0 {
		text += ", in " + number(len(flows), "flow")
	}
	return text
}

func number(n int, of string) string {
	if n == 1 {
		return "1 " + of
	}
	return fmt.Sprintf("%d %ss", n, of)
}

// shown are faults, one on a line.
func shown(faults schedule.Schedule) string {
	var b strings.Builder
	for _, x := range faults {
		fmt.Fprintf(&b, "  %v\n", x)
	}
	return b.String()
}

// showFlows shows the flows that violations are about.
func (r result) showFlows(b *strings.Builder) {
	var shown []string
	for _, v := range r.violations {
		if v.flow == "" || slices.Contains(shown, v.flow) || len(shown) == shownFlows {
			continue
		}
		shown = append(shown, v.flow)
		for _, flow := range r.flows {
			if flow.ID == v.flow {
				fmt.Fprintf(b, "%v\n%s\n", v, flow.Tree())
			}
		}
	}
}

// command is what runs the test again.
func command(t *testing.T) string {
	return fmt.Sprintf("go test -tags synctests -count=1 -run '^%s$' .", strings.ReplaceAll(t.Name(), "/", "$/^"))
}

// where tells in which directory the command is to be run.
func where() string {
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	return ", in " + dir
}

// heap is how much memory is in use when all garbage is gone, and what pools
// have kept, which lasts one collection longer.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
