package main

import (
	"errors"
	"fmt"
)

// explained are generated mutants that no test can notice, by file and name, and
// why that is so.
type explained struct {
	file string // from choreo/internal
	name string
	why  string
}

// explain gives the generated mutants their explanations. One that explains
// nothing is an error: the list must not outlive the code.
func explain(edits []edit) error {
	type place struct{ file, name string }
	of := map[place]*edit{}
	for i := range edits {
		of[place{edits[i].File, edits[i].Name}] = &edits[i]
	}
	var errs []error
	for _, x := range equivalents {
		e := of[place{"choreo/internal/" + x.file, x.name}]
		if e == nil {
			errs = append(errs, fmt.Errorf("%s: the explained mutant %q is not there any more: remove its explanation", x.file, x.name))
			continue
		}
		e.Equivalent = x.why
	}
	return errors.Join(errs...)
}

var equivalents = []explained{}
