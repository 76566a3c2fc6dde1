package main

import (
	"fmt"
	"math"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// result is what came of a soak.
type result struct {
	Commit         string    `json:"commit"`
	Began          time.Time `json:"began"`
	RealHours      float64   `json:"real_hours"`
	Jobs           int       `json:"jobs"`
	Seeds          uint64    `json:"seeds"`
	SimulatedHours float64   `json:"simulated_hours"`
	Flows          int       `json:"flows"`
	Events         int       `json:"events"`
	Faults         int       `json:"faults"`
	Violations     int       `json:"seeds_with_violations"`
	Stalls         int       `json:"stalled_seeds"`
	// Speed is in simulated seconds per second of one process.
	Speed float64 `json:"simulated_seconds_per_second"`
	// HeapAfter is the memory in use before the nth run of a process: the
	// median over all processes, in MiB.
	HeapAfter map[int]float64 `json:"heap_mib_before_run"`
	Failures  []failure       `json:"failures"`
}

// failure is a seed that failed.
type failure struct {
	Test       string   `json:"test"`
	Seed       uint64   `json:"seed"`
	Violations []string `json:"violations"`
}

func (r result) summary() string {
	return fmt.Sprintf("%d seeds, %.1f simulated hours in %.2f hours (%.0f simulated seconds per second of a process), %d events, %d faults: %d seeds with violations, %d of them stalled",
		r.Seeds, r.SimulatedHours, r.RealHours, r.Speed, r.Events, r.Faults, r.Violations, r.Stalls)
}

// child is what one process has printed.
type child struct {
	work
	runs                  uint64
	simulated, real       time.Duration
	flows, events, faults int
	heap                  []uint64 // in use before each run
	failing               bool     // the seed whose report follows
	violations            []string
	kept                  []string // of the run that is going on
}

const mostKept = 20000 // lines

func newChild(w work) *child { return &child{work: w} }

var (
	ranSeed = regexp.MustCompile(`: seed (\d+): (\d+) flows, (\d+) events, (\d+) faults, (\S+) simulated in (\S+):`)
	inUse   = regexp.MustCompile(`: heap in use: (\d+) bytes`)
	said    = regexp.MustCompile(`^ +- (.+)$`)
)

// line takes in one line of what the tests print.
func (c *child) line(text string) {
	if m := inUse.FindStringSubmatch(text); m != nil {
		n, _ := strconv.ParseUint(m[1], 10, 64)
		c.heap = append(c.heap, n)
		c.kept = nil
	}
	if len(c.kept) < mostKept {
		c.kept = append(c.kept, text)
	}
	if m := ranSeed.FindStringSubmatch(text); m != nil {
		c.runs++
		flows, _ := strconv.Atoi(m[2])
		events, _ := strconv.Atoi(m[3])
		faults, _ := strconv.Atoi(m[4])
		simulated, _ := time.ParseDuration(m[5])
		real, _ := time.ParseDuration(m[6])
		c.flows, c.events, c.faults = c.flows+flows, c.events+events, c.faults+faults
		c.simulated, c.real = c.simulated+simulated, c.real+real
	}
	switch m := said.FindStringSubmatch(text); {
	case strings.Contains(text, " violates "):
		c.failing = true
	case strings.Contains(text, standsStill):
		c.violations = append(c.violations, text)
	case c.failing && m != nil:
		c.violations = append(c.violations, m[1])
	case strings.Contains(text, "to run it again"):
		c.failing = false
	}
}

// failure is the seed at which the process ended.
func (c *child) failure(err error) failure {
	f := failure{Test: c.test, Seed: c.seed + max(c.runs, 1) - 1, Violations: c.violations}
	if len(f.Violations) > 0 && strings.Contains(f.Violations[0], standsStill) {
		f.Seed = c.seed + c.runs // it has not come to its end
	}
	if len(f.Violations) == 0 {
		f.Seed = c.seed + uint64(max(len(c.heap), 1)) - 1
		reason := err.Error()
		if _, ok := err.(*exec.ExitError); ok { //nolint:errorlint // Cmd.Wait does not wrap it
			reason += ": " + last(c.kept)
		}
		f.Violations = []string{"the process ended: " + reason}
	}
	return f
}

func last(lines []string) string {
	for _, l := range slices.Backward(lines) {
		if strings.TrimSpace(l) != "" {
			return strings.TrimSpace(l)
		}
	}
	return "without a word"
}

// tally adds up what processes have printed.
type tally struct {
	mu        sync.Mutex
	r         result
	real      time.Duration
	simulated time.Duration
	heaps     map[int][]uint64
}

func newTally(commit string, began time.Time, jobs int) *tally {
	return &tally{r: result{Commit: commit, Began: began.UTC().Truncate(time.Second), Jobs: jobs, Failures: []failure{}}, heaps: map[int][]uint64{}}
}

func (x *tally) add(c *child) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.r.Seeds += c.runs
	x.r.Flows += c.flows
	x.r.Events += c.events
	x.r.Faults += c.faults
	x.simulated += c.simulated
	x.real += c.real
	for i, n := range c.heap {
		x.heaps[i+1] = append(x.heaps[i+1], n)
	}
}

func (x *tally) fail(f failure) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.r.Failures = append(x.r.Failures, f)
	x.r.Violations++
	if slices.ContainsFunc(f.Violations, isStall) {
		x.r.Stalls++
	}
}

func (x *tally) report(now time.Time) result {
	x.mu.Lock()
	defer x.mu.Unlock()
	r := x.r
	r.RealHours = rounded(now.Sub(r.Began).Hours(), 3)
	r.SimulatedHours = rounded(x.simulated.Hours(), 2)
	if x.real > 0 {
		r.Speed = rounded(x.simulated.Seconds()/x.real.Seconds(), 0)
	}
	r.HeapAfter = map[int]float64{}
	for _, run := range []int{2, 10, 20, 30, 40, 50, 60} {
		if all := slices.Sorted(slices.Values(x.heaps[run])); len(all) > 0 {
			r.HeapAfter[run] = rounded(float64(all[len(all)/2])/(1<<20), 1)
		}
	}
	return r
}

func rounded(v float64, digits int) float64 {
	p := math.Pow10(digits)
	return math.Round(v*p) / p
}
