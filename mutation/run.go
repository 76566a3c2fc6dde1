package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Status is what became of a mutant.
type Status string

// The statuses. A mutant that makes its tests hang is killed by the time-out.
const (
	Killed         Status = "killed"
	TimedOut       Status = "timed out"
	Survived       Status = "survived"
	DoesNotCompile Status = "does not compile"

	// spun: it was timed out for the processors' time that it took, which needs
	// no second look.
	spun Status = "spun"
)

// Result is what became of one mutant.
type Result struct {
	Name       string   `json:"name"`
	File       string   `json:"file"`
	Status     Status   `json:"status"`
	By         []string `json:"by,omitempty"`
	Breaks     string   `json:"breaks,omitempty"`
	Equivalent string   `json:"equivalent,omitempty"`
	Uncovered  bool     `json:"uncovered,omitempty"` // no test of its package reaches it, says the tool
	Seconds    float64  `json:"seconds"`
	Detail     string   `json:"detail,omitempty"` // of what does not compile
}

// kept is a result in the cache.
type kept struct {
	Result
	Tests string `json:"tests"` // the hash of the tests that it was judged by
}

// runner runs tests on mutants.
type runner struct {
	root     string
	cache    string // directory of results by their key
	work     string // directory for overlays and test programs
	factor   float64
	fresh    bool // judge again what was judged before
	known    bool // and nothing else
	mu       sync.Mutex
	hashes   map[string][2]string // by package: of what it is made of, and of its tests
	patience map[string]limits    // by package: how long its tests may take
	edits    []edit
	building sync.Mutex
	together map[string]*together // by package
}

// limits are what the tests of a package may take: all of them, and each.
type limits struct {
	wall, cpu time.Duration
	each      map[string]time.Duration
	slow      []string
}

// of are the limits of some tests.
func (l limits) of(t round) limits {
	if l.each == nil {
		return l
	}
	run, skip := regexp.MustCompile(t.Run), regexp.MustCompile(cmp.Or(t.skip, "^$"))
	wall := slack
	for name, most := range l.each {
		if run.MatchString(name) && !skip.MatchString(name) {
			wall += most
		}
	}
	l.wall = min(l.wall, wall)
	return l
}

// unlimited is for tests of what is no mutant.
var unlimited = limits{wall: 10 * time.Minute, cpu: 10 * time.Minute}

// slack is added to the time that tests may take: the machine may be busy. That
// does not make them need more of its processors' time.
const (
	slack    = 10 * time.Second
	cpuSlack = 5 * time.Second
)

// slow is what a test takes that is run only if no quicker one notices, where one
// is enough.
const slow = 250 * time.Millisecond

// memory bounds a test program, for a mutant may gather without end.
const memory = 4 << 20 // KiB

var errNotJudged = errors.New("not judged yet")

// run judges one mutant, or takes what was judged before of the same text.
func (r *runner) run(ctx context.Context, e edit) (Result, error) {
	mutated, err := e.apply(r.root)
	if err != nil {
		return Result{}, err
	}
	key, tests, err := r.key(ctx, e, mutated)
	if err != nil {
		return Result{}, err
	}
	res := Result{Name: e.Name, File: e.File, Breaks: e.Breaks, Equivalent: e.Equivalent, Uncovered: !e.Covered}
	file := filepath.Join(r.cache, key+".json")
	if text, err := os.ReadFile(file); err == nil && !r.fresh {
		// New tests can only kill more: what was killed stays so, the others are judged again.
		var was kept
		if json.Unmarshal(text, &was) == nil && (was.Status != Survived || was.Tests == tests) && (was.Status != TimedOut || len(was.By) > 0) {
			res.Status, res.By, res.Seconds, res.Detail = was.Status, was.By, was.Seconds, was.Detail
			return res, nil
		}
	}
	if problem := noGo(mutated); problem != "" {
		res.Status, res.Detail = DoesNotCompile, problem
		return res, nil
	}
	if r.known {
		return Result{}, errNotJudged
	}
	began := time.Now()
	dir, err := os.MkdirTemp(r.work, "mutant")
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	overlay, err := r.overlay(dir, e.File, mutated)
	if err != nil {
		return Result{}, err
	}
	res.Status = Survived
	programs := map[string]string{}
	rounds := widened(e.By)
	if e.First {
		if rounds, err = r.quickFirst(ctx, rounds); err != nil {
			return Result{}, err
		}
	}
	for _, t := range rounds {
		all, err := r.combined(ctx, t.Package)
		if err != nil {
			return Result{}, err
		}
		program, known := programs[t.Package]
		if t.mutant = all.numbers[e.Name]; t.mutant > 0 {
			program, known = all.program, true
		}
		if !known {
			var problem string
			program, problem, err = r.build(ctx, dir, overlay, t.Package)
			if err != nil {
				return Result{}, err
			}
			if problem != "" {
				res.Status, res.Detail = DoesNotCompile, problem[:min(len(problem), 1000)]
				break
			}
			programs[t.Package] = program
		}
		patience, err := r.patienceOf(ctx, t.Package)
		if err != nil {
			return Result{}, err
		}
		o, err := r.sure(ctx, program, t, patience, e.First)
		if err != nil {
			return Result{}, err
		}
		if o.status == spun {
			o.status = TimedOut
		}
		if o.status != Survived {
			if res.Status == Survived || o.status == Killed {
				res.Status = o.status
			}
			res.By = append(res.By, o.by...)
			if e.First || t.Run == "" {
				break
			}
		}
		if res.Status != Survived && t.last {
			break
		}
	}
	res.Seconds = time.Since(began).Round(100 * time.Millisecond).Seconds()
	if ctx.Err() != nil {
		return Result{}, ctx.Err()
	}
	text, err := json.Marshal(kept{res, tests})
	if err != nil {
		return Result{}, err
	}
	return res, os.WriteFile(file, text, 0o644)
}

// round is one run of tests.
type round struct {
	Tests
	skip   string // as for go test -skip
	last   bool   // of those expected to notice
	mutant int    // of many in one program, 0: none
}

// widened are the tests expected to notice, and after them their packages whole.
func widened(by []Tests) []round {
	var all []round
	for i, t := range by {
		all = append(all, round{Tests: t, last: i == len(by)-1})
	}
	for _, t := range by {
		whole := round{Tests: Tests{Package: t.Package}}
		if !slices.ContainsFunc(all, func(o round) bool { return o.Tests == whole.Tests }) {
			all = append(all, whole)
		}
	}
	return all
}

// quickFirst has the slow tests of a whole package run after the others.
func (r *runner) quickFirst(ctx context.Context, rounds []round) ([]round, error) {
	var all []round
	for _, t := range rounds {
		patience, err := r.patienceOf(ctx, t.Package)
		if err != nil {
			return nil, err
		}
		if t.Run != "" || len(patience.slow) == 0 {
			all = append(all, t)
			continue
		}
		slow := exactly(patience.slow)
		all = append(all, round{Tests: t.Tests, skip: slow}, round{Tests: Tests{Package: t.Package, Run: slow}, last: t.last})
	}
	return all, nil
}

func exactly(tests []string) string { return "^(" + strings.Join(tests, "|") + ")$" }

func (r *runner) overlay(dir, file string, text []byte) (string, error) {
	mutated := filepath.Join(dir, path.Base(file))
	if err := os.WriteFile(mutated, text, 0o644); err != nil {
		return "", err
	}
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(r.root, file): mutated}})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, replace, 0o644)
}

// build makes the test program of a package. It returns what the compiler says
// of a mutant that does not compile.
func (r *runner) build(ctx context.Context, dir, overlay, pkg string, flags ...string) (program, problem string, err error) {
	program = filepath.Join(dir, strings.ReplaceAll(pkg, "/", "_")+".test")
	args := append([]string{"test", "-c", "-vet=off", "-p=1", "-ldflags=-s -w", "-o", program}, flags...)
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./"+pkg)...)
	cmd.Dir = r.root
	out, err := cmd.CombinedOutput()
	if _, failed := errors.AsType[*exec.ExitError](err); failed && ctx.Err() == nil {
		return "", strings.TrimSpace(string(out)), nil
	}
	return program, "", err
}

var (
	failed  = regexp.MustCompile(`(?m)^ *--- FAIL: (\S+)`)
	running = regexp.MustCompile(`(?m)^\t+(Test\S+) \(`)
	begun   = regexp.MustCompile(`(?m)^=== (?:RUN|CONT)\s+(\S+)`)
	passed  = regexp.MustCompile(`(?m)^--- PASS: (\S+) \((\S+)\)`)
)

// outcome is what came of running tests.
type outcome struct {
	status Status
	by     []string // the tests that failed
	took   limits
}

// test runs a test program and says which tests failed.
func (r *runner) test(ctx context.Context, program string, t round, patience limits, first bool) (outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, patience.wall+30*time.Second)
	defer cancel()
	args := []string{"-test.v", "-test.timeout", patience.wall.String(), "-test.shuffle", "off"}
	if t.Run != "" {
		args = append(args, "-test.run", t.Run)
	}
	if t.skip != "" {
		args = append(args, "-test.skip", t.skip)
	}
	if first {
		args = append(args, "-test.failfast")
	}
	limited := fmt.Sprintf(`ulimit -v %d -t %d 2>/dev/null; exec "$0" "$@"`, memory, int(patience.cpu.Seconds()))
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", limited, program}, args...)...)
	cmd.Dir = filepath.Join(r.root, t.Package)
	// A counterexample must not be left behind for the next run to find.
	cmd.Env = append(os.Environ(), "RAPID_NOFAILFILE=1", choice+"="+strconv.Itoa(t.mutant))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 5 * time.Second
	start := time.Now()
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited && ctx.Err() == nil {
		return outcome{}, err
	}
	o := outcome{status: Survived, took: limits{wall: time.Since(start)}}
	if cmd.ProcessState != nil {
		o.took.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	text := out.Bytes()
	o.took.each = map[string]time.Duration{}
	for _, m := range passed.FindAllSubmatch(text, -1) {
		took, err := time.ParseDuration(string(m[2]))
		if err != nil {
			return outcome{}, err
		}
		o.took.each[string(m[1])] = took
		if took >= slow {
			o.took.slow = append(o.took.slow, string(m[1]))
		}
	}
	last := []string{path.Base(t.Package) + ": the test program ends with an error"}
	if all := begun.FindAllSubmatch(text, -1); len(all) > 0 {
		last = []string{path.Base(t.Package) + "." + top(string(all[len(all)-1][1]))}
	} else if err == nil && t.skip == "" {
		return outcome{}, fmt.Errorf("no test of %s matches %q", t.Package, t.Run)
	}
	switch o.by = names(t.Package, failed, text); {
	case err == nil:
	case bytes.Contains(text, []byte("panic: test timed out")), ctx.Err() != nil:
		o.status, o.by = TimedOut, names(t.Package, running, text)
	case len(o.by) > 0:
		o.status = Killed
	case o.took.cpu >= patience.cpu-time.Second:
		o.status, o.by = spun, last
	default: // the program ended in the middle of a test, or after all of them
		o.status, o.by = Killed, last
	}
	return o, nil
}

// sure runs tests, and those that notice the mutant again. After a false alarm,
// which may have kept others from running, it begins anew with all of them.
func (r *runner) sure(ctx context.Context, program string, t round, patience limits, first bool) (outcome, error) {
	o, err := r.test(ctx, program, t, patience.of(t), first)
	if err != nil || o.status == Survived || o.status == spun {
		return o, err
	}
	if o, err = r.confirm(ctx, program, t, patience, o); err != nil || o.status != Survived || !first {
		return o, err
	}
	return r.sure(ctx, program, t, patience, false)
}

// confirm runs the tests that noticed a mutant again, alone: on a busy machine a
// test may fail by itself. Those that pass then did not notice it. One that seems
// to hang gets twice the time, and if it does not hang, so do all.
func (r *runner) confirm(ctx context.Context, program string, t round, patience limits, was outcome) (outcome, error) {
	alone := t
	if tests := plain(was.by); len(tests) > 0 {
		alone.Run, alone.skip = exactly(tests), ""
	}
	limit := patience.of(alone)
	if was.status == TimedOut {
		limit.wall *= 2
	}
	is, err := r.test(ctx, program, alone, limit, false)
	if err == nil && is.status == Survived && was.status == TimedOut {
		limit = patience.of(t)
		limit.wall *= 2
		is, err = r.test(ctx, program, t, limit, false)
	}
	if len(is.by) == 0 && is.status != Survived {
		is.by = was.by
	}
	return is, err
}

// plain are the names of tests as their package knows them.
func plain(by []string) []string {
	var tests []string
	for _, name := range by {
		if _, test, ok := strings.Cut(name, ".Test"); ok {
			tests = append(tests, "Test"+test)
		}
	}
	return tests
}

// names lists the top-level tests that an expression finds in what a test
// program printed.
func names(pkg string, find *regexp.Regexp, out []byte) []string {
	var all []string
	for _, m := range find.FindAllSubmatch(out, -1) {
		if name := path.Base(pkg) + "." + top(string(m[1])); !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}

func top(test string) string {
	name, _, _ := strings.Cut(test, "/")
	return name
}

// patienceOf measures how long the tests of a package take as they are. They
// must pass: on a broken tree every mutant would seem killed.
func (r *runner) patienceOf(ctx context.Context, pkg string) (limits, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p, ok := r.patience[pkg]; ok {
		return p, nil
	}
	var o outcome
	for range 3 { // on a busy machine a test may fail by itself
		var err error
		if o, err = r.control(ctx, pkg); err != nil {
			return limits{}, err
		}
		if o.status == Survived {
			break
		}
	}
	if o.status != Survived {
		return limits{}, fmt.Errorf("the tests of %s fail without any mutant: %s", pkg, strings.Join(o.by, ", "))
	}
	p := limits{wall: r.times(o.took.wall) + slack, cpu: r.times(o.took.cpu) + cpuSlack, each: map[string]time.Duration{}, slow: o.took.slow}
	for test, took := range o.took.each {
		p.each[test] = r.times(took)
	}
	r.patience[pkg] = p
	return r.patience[pkg], nil
}

func (r *runner) times(took time.Duration) time.Duration {
	return time.Duration(float64(took) * r.factor)
}

// control runs the tests of a package without a mutant.
func (r *runner) control(ctx context.Context, pkg string) (outcome, error) {
	dir, err := os.MkdirTemp(r.work, "control")
	if err != nil {
		return outcome{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	program, problem, err := r.build(ctx, dir, "", pkg)
	if err == nil && problem != "" {
		err = fmt.Errorf("%s does not compile without any mutant:\n%s", pkg, problem)
	}
	if err != nil {
		return outcome{}, err
	}
	return r.test(ctx, program, round{Tests: Tests{Package: pkg}}, unlimited, false)
}

// key names a mutant with the code that it is made of, and tells the tests that
// judge it by their hash.
func (r *runner) key(ctx context.Context, e edit, mutated []byte) (key, tests string, err error) {
	h, th := sha256.New(), sha256.New()
	fmt.Fprintf(h, "4\x00%s\x00%x\x00%v\x00", e.File, sha256.Sum256(mutated), e.First)
	for _, t := range e.By {
		sums, err := r.hashOf(ctx, t.Package)
		if err != nil {
			return "", "", err
		}
		fmt.Fprintf(h, "%s\x00%s\x00", t.Package, sums[0])
		fmt.Fprintf(th, "%s\x00%s\x00", t.Package, sums[1])
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), hex.EncodeToString(th.Sum(nil)[:16]), nil
}

// hashOf is the hash of the files of this repository that a package is made of,
// and of those of its tests.
func (r *runner) hashOf(ctx context.Context, pkg string) ([2]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if sums, ok := r.hashes[pkg]; ok {
		return sums, nil
	}
	cmd := exec.CommandContext(ctx, "go", "list", "-deps", "-f", "{{if not .Standard}}{{.Dir}}{{end}}", "./"+pkg)
	cmd.Dir = r.root
	out, err := cmd.Output()
	if err != nil {
		return [2]string{}, fmt.Errorf("go list -deps ./%s: %w", pkg, err)
	}
	dirs := strings.Fields(string(out))
	slices.Sort(dirs)
	code, tests := sha256.New(), sha256.New()
	for _, dir := range slices.Compact(dirs) {
		if rel, err := filepath.Rel(r.root, dir); err != nil || !filepath.IsLocal(rel) {
			continue
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			return [2]string{}, err
		}
		for _, file := range files {
			h := code
			if strings.HasSuffix(file, "_test.go") {
				if dir != filepath.Join(r.root, pkg) {
					continue // another package's
				}
				h = tests
			}
			text, err := os.ReadFile(file)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return [2]string{}, err
			}
			fmt.Fprintf(h, "%s\x00%x\x00", filepath.Base(file), sha256.Sum256(text))
		}
	}
	r.hashes[pkg] = [2]string{hex.EncodeToString(code.Sum(nil)), hex.EncodeToString(tests.Sum(nil))}
	return r.hashes[pkg], nil
}
