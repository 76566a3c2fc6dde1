// Command mutation breaks the core on purpose, one line at a time, and says
// which tests notice.
//
// It owns two kinds of mutants. The listed ones are data (see the files
// listed_*.go): each is a piece of text of one file, what to put in its place,
// and the promise that this breaks. The generated ones are what gremlins, a
// mutation tool, finds in the packages below choreo/internal. Nothing is changed
// in the working tree: the go command overlays the mutated file.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Mutant is a change that tests must notice.
type Mutant struct {
	Name string // unique; what the mutant does wrong
	File string // from the root of the repository
	// Old stands exactly once in the file and is replaced by New.
	Old, New string
	// Breaks is the promise that no longer holds.
	Breaks string
	// By are the tests that are expected to notice. If they do not, all tests of
	// their packages are run.
	By []Tests
	// Equivalent says, of a mutant that no test can notice, why.
	Equivalent string
}

// Tests are some tests of one package.
type Tests struct {
	Package string // from the root of the repository
	Run     string // as for go test -run; "" for all
}

// edit is a mutant where it stands in its file.
type edit struct {
	Name       string
	File       string
	From, To   int // bytes of the file
	New        string
	By         []Tests
	Breaks     string
	Equivalent string
	Covered    bool
	First      bool // the first test that notices is enough
}

// locate finds where a listed mutant stands.
func (m Mutant) locate(root string) (edit, error) {
	text, err := os.ReadFile(filepath.Join(root, m.File))
	if err != nil {
		return edit{}, fmt.Errorf("mutant %q: %w", m.Name, err)
	}
	if n := strings.Count(string(text), m.Old); n != 1 {
		return edit{}, fmt.Errorf("mutant %q: its old text stands %d times in %s and must stand there once: adapt it to what the file says now\n%s",
			m.Name, n, m.File, m.Old)
	}
	from := strings.Index(string(text), m.Old)
	return edit{
		Name: m.Name, File: m.File, From: from, To: from + len(m.Old), New: m.New,
		By: m.By, Breaks: m.Breaks, Equivalent: m.Equivalent, Covered: true,
	}, nil
}

// apply returns the mutated text of the file.
func (e edit) apply(root string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(root, e.File))
	if err != nil {
		return nil, err
	}
	return append(append(append([]byte{}, text[:e.From]...), e.New...), text[e.To:]...), nil
}

// Listed are all listed mutants.
func Listed() []Mutant {
	var all []Mutant
	for _, part := range [][]Mutant{pipelineMutants, taskMutants, journalMutants, coreMutants, barrierMutants, deadLetterMutants, parkingMutants, deadlineMutants, joinMutants, policyMutants, stuckMutants, poisonedMutants} {
		all = append(all, part...)
	}
	return all
}
