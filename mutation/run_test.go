package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// A test that fails by itself must not hide those after it, which have not run
// where one failure is enough.
func TestAFalseAlarmHidesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := filepath.Join(dir, "program") // its first test fails once, its second one always
	script := `#!/bin/sh
case "$*" in
*-test.run*TestFlaky*) echo "=== RUN   TestFlaky"; echo "--- PASS: TestFlaky (0.00s)"; exit 0 ;;
*-test.failfast*) echo "--- FAIL: TestFlaky (0.00s)"; exit 1 ;;
*) echo "--- PASS: TestFlaky (0.00s)"; echo "--- FAIL: TestSees (0.00s)"; exit 1 ;;
esac
`
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	r := &runner{root: dir}
	few := limits{wall: time.Minute, cpu: time.Minute}
	o, err := r.sure(t.Context(), program, round{Tests: Tests{Package: "."}}, few, true)
	if err != nil || o.status != Killed || !slices.Equal(o.by, []string{"..TestSees"}) {
		t.Errorf("%v by %v, %v", o.status, o.by, err)
	}
}
