package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
)

const usage = `Usage: mutation [flags] listed | generated | report | replay

listed     runs the listed mutants
generated  runs those that gremlins found: -reports names the directory of its
           reports, one <package>.json of each package below choreo/internal
report     writes what came of both into docs/mutation.md
replay     looks for seeds of the simulation that notice some of the listed
           mutants, runs each again and counts which fail again:
           docs/soak-replay.json

What was judged before of the same code is not judged again, but for survivors
whose package has other tests now. Flags:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := command(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutation:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("mutation", flag.ExitOnError)
	only := flags.String("only", "", "regular expression: run only mutants with such a file or name, and write no result")
	jobs := flags.Int("j", 2, "how many mutants to judge at once")
	controls := flags.Int("controls", 3, "how often to run the tests of each package without a mutant in between")
	reports := flags.String("reports", "", "directory of gremlins' reports")
	factor := flags.Float64("patience", 3, "tests of a mutant may take as many times as long as without, and 10 s")
	pairs := flags.Int("pairs", 200, "how many failing pairs of seed and mutant replay looks for")
	fresh := flags.Bool("fresh", false, "judge again what was judged before")
	known := flags.Bool("known", false, "judge nothing: write what was judged before")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	root, err := repository()
	if err != nil {
		return err
	}
	var edits []edit
	switch flags.Arg(0) {
	case "listed":
		edits, err = listed(root)
	case "generated":
		edits, err = allGenerated(root, *reports)
	case "replay":
		edits, err = listed(root)
		if *only == "" {
			edits = inOrder(edits, replayed)
		}
	case "report":
		return writePage(root)
	default:
		flags.Usage()
		return errors.New("say which")
	}
	if err != nil {
		return err
	}
	if *only != "" {
		wanted, err := regexp.Compile(*only)
		if err != nil {
			return err
		}
		edits = slices.DeleteFunc(edits, func(e edit) bool { return !wanted.MatchString(e.File) && !wanted.MatchString(e.Name) })
		*controls = 0
	}
	r := &runner{root: root, factor: *factor, fresh: *fresh, known: *known, edits: edits,
		hashes: map[string][2]string{}, patience: map[string]limits{}, together: map[string]*together{}}
	if flags.Arg(0) == "replay" {
		return r.replayAll(ctx, edits, *pairs, *only == "")
	}
	return r.judge(ctx, flags.Arg(0), edits, *jobs, *controls, *only == "")
}

// inOrder are the edits of these names, in the order of the names.
func inOrder(edits []edit, names []string) []edit {
	var wanted []edit
	for _, name := range names {
		for _, e := range edits {
			if e.Name == name {
				wanted = append(wanted, e)
			}
		}
	}
	return wanted
}

// repository is the directory with go.work, from here upwards.
func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no go.work here or above: run it inside the repository")
		}
	}
}

func listed(root string) ([]edit, error) {
	var all []edit
	var errs []error
	for _, m := range Listed() {
		e, err := m.locate(root)
		all, errs = append(all, e), append(errs, err)
	}
	return all, errors.Join(errs...)
}

func allGenerated(root, reports string) ([]edit, error) {
	found, err := filepath.Glob(filepath.Join(reports, "*.json"))
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no reports of gremlins in %q: make mutants-all makes them", reports)
	}
	var all []edit
	for _, file := range found {
		edits, err := generated(root, "choreo/internal/"+strings.TrimSuffix(filepath.Base(file), ".json"), file)
		if err != nil {
			return nil, err
		}
		all = append(all, edits...)
	}
	return all, explain(all)
}

// judge runs the mutants, a few at once, and writes what became of them.
func (r *runner) judge(ctx context.Context, set string, edits []edit, jobs, controls int, write bool) error {
	home, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	r.cache = filepath.Join(home, "choreo-mutation")
	if err := os.MkdirAll(r.cache, 0o755); err != nil {
		return err
	}
	if r.work, err = os.MkdirTemp("", "choreo-mutation"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(r.work) }()

	whole := ctx
	ctx, cancel := context.WithCancelCause(whole)
	defer cancel(nil)
	var (
		mu      sync.Mutex
		wg      sync.WaitGroup
		results []Result
		summary = Summary{Set: set, Commit: commit(ctx, r.root)}
		slots   = make(chan struct{}, jobs)
	)
	start := func(f func() error) {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if ctx.Err() == nil {
				if err := f(); err != nil && ctx.Err() == nil {
					cancel(err)
				}
			}
		})
	}
	every := max(1, len(edits)/max(1, controls))
	for i, e := range edits {
		if controls > 0 && i%every == every/2 {
			for _, pkg := range packages(edits) {
				start(func() error {
					o, err := r.control(ctx, pkg)
					mu.Lock()
					defer mu.Unlock()
					summary.Controls++
					if o.status != Survived && err == nil {
						summary.FailedControls = append(summary.FailedControls, o.by...)
						fmt.Printf("%-16s without a mutant: %s\n", "FAILED", strings.Join(o.by, ", "))
					}
					return err
				})
			}
		}
		start(func() error {
			res, err := r.run(ctx, e)
			if errors.Is(err, errNotJudged) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("%s: %w", e.Name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			results = append(results, res)
			fmt.Printf("%4d of %d  %-16s %6.1fs  %s", len(results), len(edits), res.Status, res.Seconds, res.Name)
			if len(res.By) > 0 {
				fmt.Printf("  by %s", strings.Join(res.By, ", "))
			}
			fmt.Println()
			return nil
		})
	}
	wg.Wait()
	if ctx.Err() != nil && whole.Err() == nil {
		return context.Cause(ctx)
	}
	order := map[string]int{}
	for i, e := range edits {
		order[e.File+e.Name] = i
		if !slices.ContainsFunc(results, func(res Result) bool { return res.File == e.File && res.Name == e.Name }) {
			if summary.Left == nil {
				summary.Left = map[string]int{}
			}
			summary.Left[packageOf(e.File)]++
		}
	}
	slices.SortFunc(results, func(a, b Result) int { return cmp.Compare(order[a.File+a.Name], order[b.File+b.Name]) })
	summary.Results = results
	fmt.Println(summary.line())
	if write {
		if err := summary.write(filepath.Join(r.root, resultsDir, set+".json")); err != nil {
			return err
		}
	}
	if left := len(edits) - len(results); whole.Err() != nil {
		return fmt.Errorf("interrupted, %d mutants are left: run it again, it goes on", left)
	}
	return listedCompile(set, results)
}

// listedCompile says which listed mutants are none: what a tool generates need
// not compile, what is written by hand must.
func listedCompile(set string, results []Result) error {
	var errs []error
	for _, res := range results {
		if set == "listed" && res.Status == DoesNotCompile {
			errs = append(errs, fmt.Errorf("listed mutant %q does not compile: change it\n%s", res.Name, res.Detail))
		}
	}
	return errors.Join(errs...)
}

func packages(edits []edit) []string {
	var all []string
	for _, e := range edits {
		for _, t := range e.By {
			if !slices.Contains(all, t.Package) {
				all = append(all, t.Package)
			}
		}
	}
	slices.Sort(all)
	return all
}

// commit is what the results are of.
func commit(ctx context.Context, root string) string {
	cmd := exec.CommandContext(ctx, "git", "log", "-1", "--format=%h", "--", "choreo")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return "unknown"
	}
	cmd = exec.CommandContext(ctx, "git", "status", "--porcelain", "--", "choreo")
	cmd.Dir = root
	if changed, err := cmd.Output(); err != nil || len(changed) > 0 {
		return strings.TrimSpace(string(out)) + ", changed"
	}
	return strings.TrimSpace(string(out))
}

const resultsDir = "mutation/results"

func packageOf(file string) string { return path.Dir(file) }
