package main

import (
	"bufio"
	"cmp"
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
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	var o options
	flag.DurationVar(&o.length, "for", time.Hour, "how long to run")
	flag.IntVar(&o.jobs, "jobs", 1, "processes at a time, each on one core")
	flag.Uint64Var(&o.seed, "seed", 1, "the first seed")
	flag.StringVar(&o.report, "report", "", "the file to write the result to, as JSON, every minute and at the end; empty: none")
	flag.StringVar(&o.logs, "logs", "bin/soak-logs", "where to keep the output of failing seeds")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
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

// simulation is a test that is run for many seeds.
type simulation struct {
	Test   string `json:"test"`
	Dir    string `json:"package"` // in the repository
	module string // the directory of its module
}

// simulations are all there are: those of this package, and the example's three
// services.
var simulations = []simulation{
	{"TestSimulate", "services", "services"},
	{"TestSoak", "choreo/choreotest/soak", "."},
	{"TestSoakExact", "choreo/choreotest/soak", "."},
}

// turns are the order in which they are run.
var turns = [...]int{0, 1, 0, 2}

// batch is how many seeds a process runs, so that memory kept from seed to seed
// would show.
const batch = 60

// work is what is left for a process to run.
type work struct {
	simulation
	seed, seeds uint64
}

// How often it is said what was done so far.
const (
	often  = 5 * time.Second // on a terminal
	seldom = time.Minute     // elsewhere, and in the report
)

// soak runs seeds until the time is over, and reports how many have failed.
func soak(ctx context.Context, o options, out *os.File) (failed int, err error) {
	dir, err := os.MkdirTemp("", "soak")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := buildAll(ctx, dir); err != nil {
		return 0, err
	}
	if o.logs, err = filepath.Abs(o.logs); err != nil {
		return 0, err
	}
	if err := os.MkdirAll(o.logs, 0o750); err != nil {
		return 0, fmt.Errorf("make the directory for failing seeds: %w", err)
	}
	x := newTally(commit(ctx), time.Now(), o.jobs)
	s := &screen{out: out, terminal: isTerminal(out)}
	ctx, cancel := context.WithTimeout(ctx, o.length)
	defer cancel()
	take := inTurn(o.seed)
	var jobs sync.WaitGroup
	errs := make([]error, o.jobs)
	for n := range o.jobs {
		jobs.Go(func() {
			for ctx.Err() == nil && errs[n] == nil {
				w := take()
				for w.seeds > 0 && ctx.Err() == nil && errs[n] == nil {
					w, errs[n] = x.process(ctx, dir, o.logs, w, s)
				}
			}
		})
	}
	over := make(chan struct{})
	go func() { jobs.Wait(); close(over) }()
	for look, written := time.Tick(often), time.Now(); ; {
		select {
		case <-over:
			r := x.report(time.Now())
			s.say(r.summary())
			return len(r.Failures), errors.Join(append(errs, r.write(o.report))...)
		case now := <-look:
			r := x.report(now)
			s.progress(r.brief())
			if now.Sub(written) < seldom {
				continue
			}
			written = now
			if !s.terminal {
				s.say(r.summary())
			}
			if err := r.write(o.report); err != nil {
				s.say(err.Error()) // the next one may succeed
			}
		}
	}
}

// inTurn hands out the simulations in turns, a batch of seeds each.
func inTurn(first uint64) func() work {
	var mu sync.Mutex
	next := map[string]uint64{}
	turn := 0
	return func() work {
		mu.Lock()
		defer mu.Unlock()
		s := simulations[turns[turn%len(turns)]]
		turn++
		w := work{s, cmp.Or(next[s.Test], first), batch}
		next[s.Test] = w.seed + batch
		return w
	}
}

// buildAll builds the tests of each package into the directory.
func buildAll(ctx context.Context, dir string) error {
	for _, s := range simulations {
		pkg, err := filepath.Rel(s.module, s.Dir)
		if err != nil {
			return err
		}
		build := exec.CommandContext(ctx, "go", "test", "-C", s.module, "-c", "-tags", "synctests", "-o", s.program(dir), "./"+pkg)
		if text, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build the tests of %s, in the root of the repository: %w\n%s", s.Dir, err, text)
		}
	}
	return nil
}

// program is the test binary of a simulation.
func (s simulation) program(dir string) string {
	return filepath.Join(dir, strings.ReplaceAll(s.Dir, "/", "-")+".test")
}

// process runs seeds in one process until one fails, and returns what is left.
func (x *tally) process(ctx context.Context, dir, logs string, w work, s *screen) (work, error) {
	// A child that hangs is a failure of its own: simulate's watchdog ends it.
	cmd := exec.CommandContext(ctx, w.program(dir), "-test.run", "^"+w.Test+"$", "-test.v", "-test.timeout", "0")
	cmd.Dir = w.Dir
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
	c.processor = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if err != nil {
		// An interrupt from the terminal may reach the child first.
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	if ctx.Err() != nil && len(c.violations) == 0 { // the time is over: what is not done does not count
		x.add(c)
		return work{}, nil
	}
	if scanned != nil {
		return w, fmt.Errorf("read what the tests print: %w", scanned)
	}
	done := c.Seeds
	if err != nil {
		f := c.failure(err)
		name := filepath.Join(logs, fmt.Sprintf("%s-%d.txt", w.Test, f.Seed))
		if err := os.WriteFile(name, []byte(strings.Join(c.kept, "\n")+"\n"), 0o600); err != nil {
			return w, fmt.Errorf("keep the output of a failing seed: %w", err)
		}
		s.say(fmt.Sprintf("%s seed %d failed: %s; see %s", w.Test, f.Seed, strings.Join(f.Violations, "; "), name))
		x.fail(f)
		done = f.Seed - w.seed + 1
	} else if done != w.seeds {
		return w, fmt.Errorf("%s says that it ran %d seeds of %d: the tests print other lines than this command reads", w.Test, done, w.seeds)
	}
	x.add(c)
	w.seed += done
	w.seeds -= min(done, w.seeds)
	return w, nil
}

// write writes the result into a file, if there is to be one: whole or not at all.
func (r result) write(file string) error {
	if file == "" {
		return nil
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// screen is where it is said what goes on.
type screen struct {
	mu       sync.Mutex
	out      io.Writer
	terminal bool // the last line can be written anew
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// clearLine clears the line on a terminal.
const clearLine = "\r\x1b[K"

// say writes a line that stays.
func (s *screen) say(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.terminal {
		text = clearLine + text
	}
	_, _ = fmt.Fprintln(s.out, text)
}

// progress writes a line that the next one takes the place of.
func (s *screen) progress(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.terminal {
		_, _ = fmt.Fprint(s.out, clearLine+text)
	}
}

// commit names what is checked out.
func commit(ctx context.Context) string {
	id, err := exec.CommandContext(ctx, "git", "rev-parse", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	name := strings.TrimSpace(string(id))
	changed, err := exec.CommandContext(ctx, "git", "status", "--porcelain", "--untracked-files=no", "--", "*.go", "*go.mod").Output()
	if err != nil || len(changed) > 0 {
		name += " with changes"
	}
	return name
}
