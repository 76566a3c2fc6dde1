package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
)

// replayed are the listed mutants whose failing seeds are run again: first those
// that fail only where a fault strikes at the right moment, then those that fail
// at nearly every seed.
var replayed = []string{
	"inputs are read uncommitted",
	"an event changes a state twice",
	"a state forgets which events changed it",
	"offsets are committed out of order",
	"transactions after one that failed go on",
	"nobody is told of a failure",
	"tasks go on from memory after a failure",
	"the prefix passes an unfinished offset",
	"outputs are produced out of order",
	"the gate does not mark what passes as finished",
	"a cancelled step runs",
	"a trigger that comes twice is answered twice",
	"only the newest run is undone",
	"runs are undone oldest first",
}

// replay is how often a seed that fails does so when it is run again.
type replay struct {
	Commit string         `json:"commit"`
	Go     string         `json:"go"`
	Test   string         `json:"test"`
	Of     []mutantReplay `json:"mutants"`
	repeats
}

type mutantReplay struct {
	Mutant  string   `json:"mutant"`
	Tried   int      `json:"seeds_tried"`
	Failing []uint64 `json:"seeds_that_fail"`
	repeats
}

// repeats are counts of pairs of a seed and a mutant.
type repeats struct {
	Pairs    int `json:"pairs"`
	Again    int `json:"fail_again"`             // with one of the same invariants, by the seed
	Given    int `json:"fail_again_by_schedule"` // by the seed and the schedule as it was printed
	Schedule int `json:"with_the_same_schedule"` // both times
	Same     int `json:"with_the_same_words"`    // the run by the seed says all that the first one said
}

func (r *repeats) add(o repeats) {
	r.Pairs += o.Pairs
	r.Again += o.Again
	r.Given += o.Given
	r.Schedule += o.Schedule
	r.Same += o.Same
}

func (r repeats) String() string {
	return fmt.Sprintf("%d failing pairs of seed and mutant: %d fail again by the seed (%.1f %%), %d by the printed schedule (%.1f %%), %d with the same schedule, %d with the same words",
		r.Pairs, r.Again, percent(r.Again, r.Pairs), r.Given, percent(r.Given, r.Pairs), r.Schedule, r.Same)
}

const (
	replayPackage = "choreo/choreotest/soak"
	replayTest    = "TestSoak"
	replayFile    = "docs/soak-replay.json"
	mostSeeds     = 40 // that a mutant is tried with
)

// replayAll looks for failing seeds of the mutants, so many pairs in all, and
// runs each again.
func (r *runner) replayAll(ctx context.Context, edits []edit, pairs int, write bool) (err error) {
	if r.work, err = os.MkdirTemp("", "choreo-replay"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.work)) }()
	all := replay{Commit: commit(ctx, r.root), Go: goruntime.Version(), Test: replayTest}
	for i, e := range edits {
		m, err := r.replay(ctx, e, (pairs-all.Pairs+len(edits)-i-1)/(len(edits)-i))
		if err != nil {
			return fmt.Errorf("%s: %w", e.Name, err)
		}
		fmt.Printf("%s, %d seeds tried: %v\n", m.Mutant, m.Tried, m.repeats)
		all.Of = append(all.Of, m)
		all.add(m.repeats)
		if write {
			if err := all.write(filepath.Join(r.root, replayFile)); err != nil {
				return err
			}
		}
	}
	fmt.Println(all.repeats)
	return nil
}

func (r replay) write(file string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// replay runs one mutant with one seed after another until so many have failed.
func (r *runner) replay(ctx context.Context, e edit, pairs int) (m mutantReplay, err error) {
	m.Mutant, m.Failing = e.Name, []uint64{}
	dir, err := os.MkdirTemp(r.work, "mutant")
	if err != nil {
		return m, err
	}
	text, err := e.apply(r.root)
	if err != nil {
		return m, err
	}
	overlay, err := r.overlay(dir, e.File, text)
	if err != nil {
		return m, err
	}
	program, problem, err := r.build(ctx, dir, overlay, replayPackage, "-tags=synctests")
	if err != nil || problem != "" {
		return m, errors.Join(err, errors.New(problem))
	}
	for seed := uint64(1); m.Pairs < pairs && m.Tried < mostSeeds; seed++ {
		m.Tried++
		first, err := r.simulate(ctx, program, seed, "")
		if err != nil {
			return m, err
		}
		if !first.failed {
			continue
		}
		m.Failing = append(m.Failing, seed)
		again, err := r.simulate(ctx, program, seed, "")
		if err != nil {
			return m, err
		}
		given, err := r.simulate(ctx, program, seed, first.schedule)
		if err != nil {
			return m, err
		}
		m.add(first.compare(again, given))
	}
	return m, nil
}

// simulated is what one run of the simulation said.
type simulated struct {
	failed     bool
	invariants []string
	schedule   string // as CHOREO_SCHEDULE takes it
	words      string // all of it, without how long it took
}

func (s simulated) compare(again, given simulated) repeats {
	is := func(b bool) int {
		if b {
			return 1
		}
		return 0
	}
	like := func(o simulated) bool {
		return o.failed && slices.ContainsFunc(o.invariants, func(i string) bool { return slices.Contains(s.invariants, i) })
	}
	return repeats{1, is(like(again)), is(like(given)), is(again.schedule == s.schedule && given.schedule == s.schedule), is(again.words == s.words)}
}

// simulate runs one seed in a process of its own.
func (r *runner) simulate(ctx context.Context, program string, seed uint64, schedule string) (simulated, error) {
	cmd := exec.CommandContext(ctx, program, "-test.run", "^"+replayTest+"$", "-test.v", "-test.timeout", "10m")
	cmd.Dir = filepath.Join(r.root, replayPackage)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "CHOREO_MINIMIZE=0", "CHOREO_LOG=all", "CHOREO_SEED="+strconv.FormatUint(seed, 10), "CHOREO_SCHEDULE="+schedule)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited || ctx.Err() != nil {
		return simulated{}, errors.Join(err, ctx.Err())
	}
	s := parseSimulated(&out)
	s.failed = err != nil
	if s.failed && len(s.invariants) == 0 { // such as a panic, or time that stands still
		s.invariants = []string{"the run comes to its end"}
	}
	return s, nil
}

var (
	violatedLine = regexp.MustCompile(`^ +- ([^:]+): `)
	faultsLine   = regexp.MustCompile(`its \d+ faults:$`)
	took         = regexp.MustCompile(` in [0-9.msh]+: \d+ simulated seconds per second; .*|\([0-9.]+s\)$|0x[0-9a-f]+`)
)

// parseSimulated reads what a simulation printed.
func parseSimulated(out io.Reader) (s simulated) {
	text, _ := io.ReadAll(out)
	var faults []string
	const (
		head = iota
		violations
		schedule
		rest
	)
	at := head
	var words strings.Builder
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		words.WriteString(took.ReplaceAllString(line, "") + "\n")
		switch {
		case at == head && strings.Contains(line, " violates "):
			at = violations
		case at < schedule && faultsLine.MatchString(line):
			at = schedule
		case at == violations:
			if m := violatedLine.FindStringSubmatch(line); m != nil && !slices.Contains(s.invariants, m[1]) {
				s.invariants = append(s.invariants, m[1])
			}
		case at == schedule && strings.HasPrefix(line, "          "):
			faults = append(faults, strings.TrimSpace(line))
		case at == schedule:
			at = rest
		}
	}
	s.schedule, s.words = strings.Join(faults, "; "), words.String()
	return s
}
