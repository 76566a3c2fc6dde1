package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Summary is a run over one set of mutants.
type Summary struct {
	Set            string   `json:"set"`
	Commit         string   `json:"commit"`   // the last one that changed the mutated code
	Controls       int      `json:"controls"` // runs of tests without a mutant in between
	FailedControls []string `json:"failed_controls,omitempty"`
	// Left is how many are not judged yet, by package: the run was interrupted.
	Left    map[string]int `json:"left,omitempty"`
	Results []Result       `json:"results"` // the last field: see write
}

// tally counts results.
type tally struct {
	all, killed, timedOut, survived, equivalent, broken int
	// impossible are those that were killed though no test can do that.
	impossible []Result
}

func count(results []Result) tally {
	var n tally
	for _, r := range results {
		n.all++
		switch {
		case r.Status == DoesNotCompile:
			n.broken++
		case r.Status == Survived && r.Equivalent != "":
			n.equivalent++
		case r.Status == Survived:
			n.survived++
		default:
			if r.Status == TimedOut {
				n.timedOut++
			}
			n.killed++
			if r.Equivalent != "" {
				n.impossible = append(n.impossible, r)
			}
		}
	}
	return n
}

// score is the share of mutants that were killed, of all that compile.
func (n tally) score() float64 { return percent(n.killed, n.all-n.broken) }

// fair leaves out those that no test can kill.
func (n tally) fair() float64 { return percent(n.killed, n.all-n.broken-n.equivalent) }

func percent(part, whole int) float64 { return 100 * float64(part) / float64(max(1, whole)) }

func (s *Summary) line() string {
	n := count(s.Results)
	return fmt.Sprintf("%s: %d mutants, %d killed (%d by time-out), %d survived, %d equivalent, %d do not compile: score %.1f %%, %.1f %% without the equivalent; %d of %d controls failed",
		s.Set, n.all, n.killed, n.timedOut, n.survived, n.equivalent, n.broken, n.score(), n.fair(), len(s.FailedControls), s.Controls)
}

// write writes the summary, one result on a line, so that changes can be read.
func (s *Summary) write(file string) error {
	results := s.Results
	head := *s
	head.Results = []Result{}
	text, err := json.Marshal(head)
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString(strings.TrimSuffix(string(text), "]}"))
	for i, r := range results {
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("\n")
		b.Write(line)
	}
	b.WriteString("\n]}\n")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(b.String()), 0o644)
}

func readSummary(file string) (*Summary, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	s := new(Summary)
	return s, json.Unmarshal(text, s)
}

const (
	pageFile  = "docs/mutation.md"
	pageBegin = "<!-- make mutants writes from here -->\n"
	pageEnd   = "<!-- to here -->\n"
)

// writePage puts the results into the page, between its two marks.
func writePage(root string) error {
	file := filepath.Join(root, pageFile)
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), pageBegin)
	_, after, ok2 := strings.Cut(rest, pageEnd)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no place for the results, between %q and %q", pageFile, pageBegin, pageEnd)
	}
	var sets []*Summary
	for _, set := range []string{"listed", "generated"} {
		s, err := readSummary(filepath.Join(root, resultsDir, set+".json"))
		if err != nil {
			return err
		}
		sets = append(sets, s)
	}
	return os.WriteFile(file, []byte(before+pageBegin+page(sets)+pageEnd+after), 0o644)
}

// page is what the runs found, as Markdown.
func page(sets []*Summary) string {
	var b strings.Builder
	b.WriteString("\n| mutants of | number | killed | of these by time-out | survived | equivalent | do not compile | score | without the equivalent |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	row := func(name string, results []Result) {
		n := count(results)
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d | %d | %.1f %% | %.1f %% |\n", name, n.all, n.killed, n.timedOut, n.survived, n.equivalent, n.broken, n.score(), n.fair())
	}
	var all []Result
	for _, s := range sets {
		for _, pkg := range packagesOf(s.Results) {
			row(fmt.Sprintf("%s, `%s`", s.Set, pkg), of(s.Results, pkg))
		}
		row(s.Set+", all", s.Results)
		all = append(all, s.Results...)
	}
	row("**both**", all)
	for _, s := range sets {
		fmt.Fprintf(&b, "\nThe %s ones were run on commit %s. ", s.Set, s.Commit)
		fmt.Fprintf(&b, "Of %d runs of the tests without a mutant in between, %d failed", s.Controls, len(s.FailedControls))
		if len(s.FailedControls) > 0 {
			fmt.Fprintf(&b, ": %s", strings.Join(s.FailedControls, ", "))
		}
		b.WriteString(".\n")
		for _, r := range count(s.Results).impossible {
			fmt.Fprintf(&b, "`%s` was noticed by %s, though no test should be able to: its explanation or the test is wrong.\n", r.Name, strings.Join(r.By, ", "))
		}
		for _, pkg := range slices.Sorted(maps.Keys(s.Left)) {
			fmt.Fprintf(&b, "**%d more of `%s` have not been judged**, those among them that survived before its tests were what they are now.\n", s.Left[pkg], pkg)
		}
	}

	b.WriteString("\n## The listed mutants\n\n| mutant | the promise that it breaks | noticed by |\n|---|---|---|\n")
	for _, r := range sets[0].Results {
		by := strings.Join(r.By, ", ")
		switch {
		case r.Status == Survived && r.Equivalent != "":
			by = "no test can: " + r.Equivalent
		case r.Status != Killed:
			by = strings.TrimSpace("**" + string(r.Status) + "** " + by)
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", cell(r.Name), cell(r.Breaks), cell(by))
	}

	open, explained := 0, 0
	var survivors, equivalent strings.Builder
	for _, s := range sets {
		for _, r := range s.Results {
			switch {
			case r.Status != Survived:
			case r.Equivalent != "":
				if s.Set != "listed" { // those stand above
					explained++
					fmt.Fprintf(&equivalent, "| %s | %s | %s |\n", packageOf(r.File), cell("`"+r.Name+"`"), cell(r.Equivalent))
				}
			default:
				open++
				fmt.Fprintf(&survivors, "| %s | %s |\n", packageOf(r.File), cell("`"+r.Name+"`"))
			}
		}
	}
	fmt.Fprintf(&b, "\n## Survivors\n\n%d mutants survived that a test could notice.\n", open)
	if open > 0 {
		b.WriteString("\n| package | mutant |\n|---|---|\n" + survivors.String())
	}
	fmt.Fprintf(&b, "\n## Generated mutants that no test can notice\n\n%d of them, each with its reason.\n", explained)
	if explained > 0 {
		b.WriteString("\n| package | mutant | why |\n|---|---|---|\n" + equivalent.String())
	}
	b.WriteString("\n")
	return b.String()
}

func packagesOf(results []Result) []string {
	var all []string
	for _, r := range results {
		if pkg := packageOf(r.File); !slices.Contains(all, pkg) {
			all = append(all, pkg)
		}
	}
	slices.Sort(all)
	return all
}

func of(results []Result, pkg string) []Result {
	var some []Result
	for _, r := range results {
		if packageOf(r.File) == pkg {
			some = append(some, r)
		}
	}
	return some
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
