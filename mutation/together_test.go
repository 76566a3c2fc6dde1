package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const manyMutants = `package main

import "fmt"

const unit = 1 + 1

type adder struct{ sum int }

func (a *adder) add(of ...int) {
	for _, n := range of {
		a.sum += n
	}
}

func largest[T int | float64](a, b T) (most T, err error) {
	if most = a; b > a {
		most = b
	}
	return
}

func caught() (what any) {
	defer func() { what = recover() }()
	panic(1 + 1)
}

func main() {
	var a adder
	a.add(1, 2)
	most, err := largest(3, 4)
	fmt.Print(a.sum, " ", most, " ", err, " ", caught(), " ", unit)
}
`

// A program of many mutants does what the chosen one does. What is in no function,
// or catches panics, is not among them.
func TestMutantsBuiltTogether(t *testing.T) {
	t.Parallel()
	mutants := map[int]edit{}
	for i, m := range []struct{ old, new string }{
		{"a.sum += n", "a.sum -= n"}, {"b > a", "b < a"}, {"a.sum += n", "a.sum = n"}, {"panic(1 + 1)", "panic(1 - 1)"}, {"unit = 1 + 1", "unit = 1 - 1"},
	} {
		from := strings.Index(manyMutants, m.old)
		mutants[i+1] = edit{From: from, To: from + len(m.old), New: m.new}
	}
	text, all, err := combine([]byte(manyMutants), mutants)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 3 {
		t.Errorf("%d mutants are in the file, want 3: %+v", len(all), all)
	}
	split := strings.SplitAfter(string(text), "\n")
	for _, l := range all {
		if part := strings.Join(split[l.from-1:l.to], ""); !strings.HasPrefix(part, fmt.Sprintf("case %d:\n", l.number)) || !strings.Contains(part, mutants[l.number].New) {
			t.Errorf("mutant %d stands in\n%s", l.number, part)
		}
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"main.go": string(text), "chooser.go": fmt.Sprintf(chooser, "main", choice), "go.mod": "module many\n\ngo 1.26\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", "many", ".")
	build.Dir, build.Env = dir, append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s\n%s", err, out, text)
	}
	for number, want := range []string{"3 4 <nil> 2 2", "-3 4 <nil> 2 2", "3 3 <nil> 2 2", "2 4 <nil> 2 2"} {
		cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "many"))
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", choice, number))
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != want {
			t.Errorf("mutant %d says %q, want %q: %v", number, out, want, err)
		}
	}
}
