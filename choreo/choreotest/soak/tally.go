package main

import (
	"fmt"
	"math"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// result is what came of a soak.
type result struct {
	Commit    string    `json:"commit"`
	Go        string    `json:"go"`
	Cores     int       `json:"cores"` // of the machine; each process uses one
	Jobs      int       `json:"processes"`
	Began     time.Time `json:"began"`
	RealHours float64   `json:"real_hours"`
	counts              // of all simulations
	Of        []part    `json:"simulations"`
	Failures  []failure `json:"failures"`
}

// part is one of the simulations.
type part struct {
	simulation
	counts
}

// counts are of many runs.
type counts struct {
	Seeds          uint64  `json:"seeds"`
	SimulatedHours float64 `json:"simulated_hours"`
	Flows          int     `json:"flows"`
	Events         int     `json:"events"`
	Faults         int     `json:"faults"`
	Violations     int     `json:"seeds_with_violations"`
	Stalls         int     `json:"stalled_seeds"`
	// Speed is in simulated seconds per second of a process, which may have to
	// wait for a core, and SpeedOfCore per second that a core worked on it.
	Speed       float64 `json:"simulated_seconds_per_second"`
	SpeedOfCore float64 `json:"simulated_seconds_per_second_of_a_core"`
	// HeapAfter is the memory in use after the nth run of a process: the median
	// over all processes, in MiB.
	HeapAfter map[int]float64 `json:"heap_mib_after_run,omitempty"`
}

// failure is a seed that failed.
type failure struct {
	Test       string   `json:"test"`
	Seed       uint64   `json:"seed"`
	Violations []string `json:"violations"`
}

func (r result) summary() string {
	return fmt.Sprintf("%.2f hours: %d seeds, %.1f simulated hours (%.0f simulated seconds per second of a core), %d events, %d faults: %d seeds with violations, %d of them stalled",
		r.RealHours, r.Seeds, r.SimulatedHours, r.SpeedOfCore, r.Events, r.Faults, r.Violations, r.Stalls)
}

// brief fits in a line of a terminal.
func (r result) brief() string {
	return fmt.Sprintf("%.2f h: %d seeds, %.1f simulated h, %.0f s/s, %d violations, %d stalled", r.RealHours, r.Seeds, r.SimulatedHours, r.SpeedOfCore, r.Violations, r.Stalls)
}

// kinds of violations that are stalls: a flow neither ended nor shown as stuck,
// or something that nobody works on, 5 simulated minutes after the last fault.
var stalls = []string{"every flow ends or shows as stuck", "everything heard is worked on", standsStill}

const standsStill = "simulated time has stood still"

func (f failure) isStall() bool {
	return slices.ContainsFunc(f.Violations, func(v string) bool {
		return slices.ContainsFunc(stalls, func(s string) bool { return strings.Contains(v, s) })
	})
}

// child is what one process has printed.
type child struct {
	work
	sums
	heap       []float64 // in MiB, in use after each run
	failing    bool      // the seed whose report follows
	violations []string
	kept       []string // since the last run that ended
}

const mostKept = 20000 // lines

func newChild(w work) *child { return &child{work: w} }

var (
	ranSeed = regexp.MustCompile(`: seed (\d+): (\d+) flows, (\d+) events, (\d+) faults, (\S+) simulated in (\S+): .*; (\S+) MiB in use$`)
	said    = regexp.MustCompile(`^ +- (.+)$`)
)

// line takes in one line of what the tests print.
func (c *child) line(text string) {
	if m := ranSeed.FindStringSubmatch(text); m != nil {
		c.kept = nil
		c.Seeds++
		flows, _ := strconv.Atoi(m[2])
		events, _ := strconv.Atoi(m[3])
		faults, _ := strconv.Atoi(m[4])
		simulated, _ := time.ParseDuration(m[5])
		real, _ := time.ParseDuration(m[6])
		heap, _ := strconv.ParseFloat(m[7], 64)
		c.Flows, c.Events, c.Faults = c.Flows+flows, c.Events+events, c.Faults+faults
		c.simulated, c.real = c.simulated+simulated, c.real+real
		c.heap = append(c.heap, heap)
		return
	}
	if len(c.kept) < mostKept {
		c.kept = append(c.kept, text)
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
	f := failure{Test: c.Test, Seed: c.seed + max(c.Seeds, 1) - 1, Violations: c.violations}
	if len(f.Violations) > 0 && !strings.Contains(f.Violations[0], standsStill) {
		return f
	}
	f.Seed = c.seed + c.Seeds // it has not come to its end
	if len(f.Violations) == 0 {
		f.Violations = []string{fmt.Sprintf("the process ended: %v: %s", err, first(c.kept))}
	}
	return f
}

func first(lines []string) string {
	for _, l := range lines {
		if l = strings.TrimSpace(l); l != "" {
			return l
		}
	}
	return "without a word"
}

// tally adds up what processes have printed.
type tally struct {
	mu       sync.Mutex
	r        result
	sums     map[string]*sums // by test
	failures []failure
}

// sums are what counts are reckoned from.
type sums struct {
	counts
	simulated, real, processor time.Duration
	heaps                      map[int][]float64 // by run
}

func (s *sums) add(o *sums) {
	s.Seeds += o.Seeds
	s.Flows += o.Flows
	s.Events += o.Events
	s.Faults += o.Faults
	s.Violations += o.Violations
	s.Stalls += o.Stalls
	s.simulated += o.simulated
	s.real += o.real
	s.processor += o.processor
}

func newTally(commit string, began time.Time, jobs int) *tally {
	x := &tally{r: result{Commit: commit, Go: runtime.Version(), Cores: runtime.NumCPU(), Jobs: jobs, Began: began.UTC().Truncate(time.Second)}, sums: map[string]*sums{}}
	for _, s := range simulations {
		x.sums[s.Test] = &sums{heaps: map[int][]float64{}}
	}
	return x
}

func (x *tally) add(c *child) {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.sums[c.Test]
	s.add(&c.sums)
	for i, mib := range c.heap {
		s.heaps[i+1] = append(s.heaps[i+1], mib)
	}
}

func (x *tally) fail(f failure) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.failures = append(x.failures, f)
	x.sums[f.Test].Violations++
	if f.isStall() {
		x.sums[f.Test].Stalls++
	}
}

// report is what is known so far.
func (x *tally) report(now time.Time) result {
	x.mu.Lock()
	defer x.mu.Unlock()
	r := x.r
	r.RealHours = rounded(now.Sub(r.Began).Hours(), 3)
	r.Failures = append([]failure{}, x.failures...)
	var all sums
	for _, s := range simulations {
		of := x.sums[s.Test]
		all.add(of)
		r.Of = append(r.Of, part{s, of.reckoned()})
	}
	r.counts = all.reckoned()
	return r
}

func (s *sums) reckoned() counts {
	c := s.counts
	c.SimulatedHours = rounded(s.simulated.Hours(), 2)
	if s.real > 0 {
		c.Speed = rounded(s.simulated.Seconds()/s.real.Seconds(), 0)
	}
	if s.processor > 0 {
		c.SpeedOfCore = rounded(s.simulated.Seconds()/s.processor.Seconds(), 0)
	}
	for _, run := range []int{1, 10, 20, 30, 40, 50, 60} {
		if all := slices.Sorted(slices.Values(s.heaps[run])); len(all) > 0 {
			if c.HeapAfter == nil {
				c.HeapAfter = map[int]float64{}
			}
			c.HeapAfter[run] = rounded(all[len(all)/2], 1)
		}
	}
	return c
}

func rounded(v float64, digits int) float64 {
	p := math.Pow10(digits)
	return math.Round(v*p) / p
}
