package main

import (
	"bytes"
	"context"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A list that no longer fits the code would be worth nothing: every mutant must
// stand in its file exactly once, and be Go.
func TestListedMutantsFitTheCode(t *testing.T) {
	t.Parallel()
	root, err := repository()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, m := range Listed() {
		if names[m.Name] {
			t.Errorf("two mutants are named %q", m.Name)
		}
		names[m.Name] = true
		if m.Breaks == "" || len(m.By) == 0 && m.Equivalent == "" {
			t.Errorf("mutant %q says no promise, or no tests", m.Name)
		}
		for _, by := range m.By {
			if !slices.ContainsFunc(testsOf(t, filepath.Join(root, by.Package)), regexp.MustCompile(by.Run).MatchString) {
				t.Errorf("mutant %q: no test of %s matches %q", m.Name, by.Package, by.Run)
			}
		}
		e, err := m.locate(root)
		if err != nil {
			t.Error(err)
			continue
		}
		text, err := e.apply(root)
		if err != nil {
			t.Error(err)
			continue
		}
		if _, err := parser.ParseFile(token.NewFileSet(), m.File, text, parser.SkipObjectResolution); err != nil {
			t.Errorf("mutant %q is no Go: %v", m.Name, err)
		}
	}
	for _, name := range replayed {
		if !names[name] {
			t.Errorf("%q is to be replayed, and is no listed mutant", name)
		}
	}
	if len(names) < 60 {
		t.Errorf("%d mutants are listed, want at least 60", len(names))
	}
}

var testFunction = regexp.MustCompile(`(?m)^func (Test\w+)\(`)

// testsOf are the tests of a package.
func testsOf(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range testFunction.FindAllSubmatch(text, -1) {
			names = append(names, string(m[1]))
		}
	}
	return names
}

// The runner's own work on a mutant: where it stands, and what it makes.
func TestGeneratedMutantsAreFoundInTheirLines(t *testing.T) {
	t.Parallel()
	src := []byte("package p\n\nfunc f(a, b int) bool {\n\treturn a <= b || a<<1 < b\n}\n")
	for _, tc := range []struct {
		column          int
		kind, from, new string
	}{
		{11, "CONDITIONALS_BOUNDARY", "<=", "<"},
		{11, "CONDITIONALS_NEGATION", "<=", ">"},
		{16, "INVERT_LOGICAL", "||", "&&"},
		{20, "INVERT_BITWISE", "<<", ">>"},
		{24, "CONDITIONALS_BOUNDARY", "<", "<="},
	} {
		e, line, err := at(src, 4, tc.column, tc.kind)
		if err != nil {
			t.Error(err)
			continue
		}
		if got := string(src[e.From:e.To]); got != tc.from || e.New != tc.new || line != "return a <= b || a<<1 < b" {
			t.Errorf("column %d, %s: %q to %q in %q, want %q to %q", tc.column, tc.kind, got, e.New, line, tc.from, tc.new)
		}
	}
	if _, _, err := at(src, 4, 1, "INVERT_LOGICAL"); err == nil {
		t.Error("a place that holds nothing of the kind was accepted")
	}
	name, err := functions(src)
	if err != nil || name(bytes.Index(src, []byte("<="))) != "f" {
		t.Errorf("the function is %q, %v", name(40), err)
	}
}

// Whoever goes on after a run must learn that it was interrupted.
func TestAnInterruptedRunIsAnError(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := &runner{root: t.TempDir()}
	err := r.judge(ctx, "listed", []edit{{File: gateFile, Name: "one"}, {File: gateFile, Name: "two"}}, 1, 0, false)
	if err == nil || !strings.Contains(err.Error(), "interrupted, 2 mutants are left") {
		t.Error(err)
	}
}
