package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

func main() {
	var o options
	flag.DurationVar(&o.length, "for", time.Hour, "how long to run")
	flag.IntVar(&o.jobs, "jobs", 1, "processes at a time, each on one core")
	flag.Uint64Var(&o.seed, "seed", 1, "the first seed")
	flag.StringVar(&o.report, "report", "", "the file to write the result to, as JSON; empty: none")
	flag.StringVar(&o.logs, "logs", "bin/soak", "where to keep the output of failing seeds")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	failed, err := soak(ctx, o, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		stop()
		os.Exit(2)
	}
	if failed > 0 {
		stop()
		os.Exit(1)
	}
}

type options struct {
	length       time.Duration
	jobs         int
	seed         uint64
	report, logs string
}

// tests are run in turns.
var tests = [...]string{"TestSoak", "TestSoakExact"}

// batch is how many seeds a process runs, so that memory kept from seed to seed
// would show.
const batch = 60

// work is what is left for a process to run.
type work struct {
	test        string
	seed, seeds uint64
}

// soak runs seeds until the time is over, and reports how many have failed.
func soak(ctx context.Context, o options, out io.Writer) (failed int, err error) {
	dir, err := os.MkdirTemp("", "soak")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	binary := filepath.Join(dir, "soak.test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-tags", "synctests", "-o", binary, "./choreo/choreotest/soak")
	if text, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build the tests, in the root of the repository: %w\n%s", err, text)
	}
	if err := os.MkdirAll(o.logs, 0o750); err != nil {
		return 0, fmt.Errorf("make the directory for failing seeds: %w", err)
	}
	x := newTally(commit(ctx), time.Now(), o.jobs)
	ctx, cancel := context.WithTimeout(ctx, o.length)
	defer cancel()
	var mu sync.Mutex
	next := work{seed: o.seed}
	turn := 0
	take := func() work {
		mu.Lock()
		defer mu.Unlock()
		w := work{tests[turn%len(tests)], next.seed, batch}
		if turn++; turn%len(tests) == 0 {
			next.seed += batch
		}
		return w
	}
	var jobs sync.WaitGroup
	errs := make([]error, o.jobs)
	for n := range o.jobs {
		jobs.Go(func() {
			for ctx.Err() == nil && errs[n] == nil {
				w := take()
				for w.seeds > 0 && ctx.Err() == nil && errs[n] == nil {
					w, errs[n] = x.process(ctx, binary, o.logs, w, out)
				}
			}
		})
	}
	jobs.Wait()
	r := x.report(time.Now())
	_, _ = fmt.Fprintln(out, r.summary())
	if o.report != "" {
		text, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return 0, err
		}
		if err := os.WriteFile(o.report, append(text, '\n'), 0o600); err != nil {
			return 0, fmt.Errorf("write the result: %w", err)
		}
	}
	return len(r.Failures), errors.Join(errs...)
}

// process runs seeds in one process until one fails, and returns what is left.
func (x *tally) process(ctx context.Context, binary, logs string, w work, out io.Writer) (work, error) {
	// A child that hangs is a failure of its own: simulate's watchdog ends it.
	cmd := exec.CommandContext(ctx, binary, "-test.run", "^"+w.test+"$", "-test.v", "-test.timeout", "0")
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "CHOREO_MINIMIZE=0",
		fmt.Sprintf("CHOREO_SEED=%d", w.seed), fmt.Sprintf("CHOREO_SEEDS=%d", w.seeds))
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return w, err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return w, fmt.Errorf("start the tests: %w", err)
	}
	c := newChild(w)
	lines := bufio.NewScanner(pipe)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		c.line(lines.Text())
	}
	scanned := lines.Err()
	err = cmd.Wait()
	select {
	case <-ctx.Done(): // the time is over: what is not done does not count
		x.add(c)
		return work{}, nil
	default:
	}
	if scanned != nil {
		return w, fmt.Errorf("read what the tests print: %w", scanned)
	}
	done := c.runs
	if err != nil {
		f := c.failure(err)
		name := filepath.Join(logs, fmt.Sprintf("%s-%d.txt", w.test, f.Seed))
		if err := os.WriteFile(name, []byte(strings.Join(c.kept, "\n")+"\n"), 0o600); err != nil {
			return w, fmt.Errorf("keep the output of a failing seed: %w", err)
		}
		_, _ = fmt.Fprintf(out, "%s seed %d failed: %s; see %s\n", w.test, f.Seed, strings.Join(f.Violations, "; "), name)
		x.fail(f)
		done = f.Seed - w.seed + 1
	} else if done != w.seeds {
		return w, fmt.Errorf("%s says that it ran %d seeds of %d: the tests print other lines than this command reads", w.test, done, w.seeds)
	}
	x.add(c)
	w.seed += done
	w.seeds -= min(done, w.seeds)
	return w, nil
}

// commit names what is checked out.
func commit(ctx context.Context) string {
	id, err := exec.CommandContext(ctx, "git", "rev-parse", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	name := strings.TrimSpace(string(id))
	changed, err := exec.CommandContext(ctx, "git", "status", "--porcelain", "--untracked-files=no", "--", "*.go", "go.mod").Output()
	if err != nil || len(changed) > 0 {
		name += " with changes"
	}
	return name
}

// kinds of violations that are stalls: a flow neither ended nor shown as stuck,
// or something that nobody works on, 5 simulated minutes after the last fault.
var stalls = []string{"every flow ends or shows as stuck", "everything heard is worked on", standsStill}

const standsStill = "simulated time has stood still"

func isStall(violation string) bool {
	return slices.ContainsFunc(stalls, func(s string) bool { return strings.Contains(violation, s) })
}
