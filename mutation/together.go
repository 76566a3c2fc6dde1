package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// To build a test program costs more than to run its quick tests. So the mutants
// that the tests of a package judge are built together, into one program that is
// told by an environment variable which one to be: each function with mutants
// begins with
//
//	switch choreoMutant {
//	case 17:
//		return func() (int, error) { the body with mutant 17 }()
//	}
//
// What is not in a function, or does not compile, is built by itself.

// choice is the variable's name.
const choice = "CHOREO_MUTANT"

// chooser is the file that is added to the package.
const chooser = `package %s

import (
	"os"
	"strconv"
)

var choreoMutant, _ = strconv.Atoi(os.Getenv(%q))
`

// together is the program of the mutants that one package judges, and their
// numbers by name.
type together struct {
	program string
	numbers map[string]int
}

// lines are where a mutant stands in the text of a file of many.
type lines struct {
	from, to, number int
	file             string // the mutant's
	in               string // the name of the one of many
}

// combine makes the text of a file of which each mutant, by its number, is a case.
func combine(src []byte, mutants map[int]edit) ([]byte, []lines, error) {
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, "", src, parser.SkipObjectResolution)
	if err != nil {
		return nil, nil, err
	}
	offset := func(p token.Pos) int { return set.Position(p).Offset }
	var out bytes.Buffer
	var all []lines
	done := 0
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Body == nil {
			continue
		}
		begin, end := offset(fn.Body.Lbrace), offset(fn.Body.Rbrace)+1
		if bytes.Contains(src[begin:end], []byte("recover()")) {
			continue // it works only in the function that is deferred
		}
		results, call, after := "", "", "return\n"
		if fn.Type.Results != nil {
			results = string(src[offset(fn.Type.Results.Pos()):offset(fn.Type.Results.End())])
			call, after = "return ", ""
		}
		out.Write(src[done : begin+1])
		done = begin + 1
		first := true
		for _, number := range slices.Sorted(maps.Keys(mutants)) {
			e := mutants[number]
			if e.From < begin || e.To > end {
				continue
			}
			if first {
				out.WriteString("\nswitch choreoMutant {\n")
				first = false
			}
			from := 1 + bytes.Count(out.Bytes(), []byte("\n"))
			fmt.Fprintf(&out, "case %d:\n%sfunc() %s %s%s%s()\n%s", number, call, results, src[begin:e.From], e.New, src[e.To:end], after)
			all = append(all, lines{from: from, to: bytes.Count(out.Bytes(), []byte("\n")), number: number})
		}
		if !first {
			out.WriteString("}\n")
		}
	}
	out.Write(src[done:])
	return out.Bytes(), all, nil
}

var complaint = regexp.MustCompile(`(?m)([^/\s:]+\.go):(\d+):\d+: `)

// combined builds the program of all mutants that the tests of a package judge,
// without those that the compiler complains of.
func (r *runner) combined(ctx context.Context, pkg string) (*together, error) {
	r.building.Lock()
	defer r.building.Unlock()
	if t, ok := r.together[pkg]; ok {
		return t, nil
	}
	dir, err := os.MkdirTemp(r.work, "together")
	if err != nil {
		return nil, err
	}
	files := map[string]map[int]edit{}
	for i, e := range r.edits {
		if slices.ContainsFunc(e.By, func(t Tests) bool { return t.Package == pkg }) {
			if text, err := e.apply(r.root); err != nil || noGo(text) != "" {
				continue
			}
			if files[e.File] == nil {
				files[e.File] = map[int]edit{}
			}
			files[e.File][i+1] = e
		}
	}
	t := &together{numbers: map[string]int{}}
	for tries := 0; t.program == ""; tries++ {
		overlay, where, err := r.combinedOverlay(dir, files)
		if err != nil {
			return nil, err
		}
		program, problem, err := r.build(ctx, dir, overlay, pkg, "-gcflags=-e")
		if err != nil {
			return nil, err
		}
		if problem != "" && (!drop(files, where, problem) || tries == 9) {
			return nil, fmt.Errorf("build the mutants that %s judges together: %s", pkg, problem[:min(len(problem), 1000)])
		}
		if problem != "" {
			continue
		}
		t.program = program
		for _, l := range where {
			t.numbers[files[l.file][l.number].Name] = l.number
		}
	}
	o, err := r.test(ctx, t.program, round{Tests: Tests{Package: pkg}}, unlimited, false)
	if err == nil && o.status != Survived {
		// Tests that measure notice that functions are larger than they were.
		o, err = r.confirm(ctx, t.program, round{Tests: Tests{Package: pkg}}, unlimited, o)
	}
	if err != nil {
		return nil, err
	}
	if o.status != Survived {
		fmt.Printf("the mutants of %s are built one by one: together, with none chosen, %s fail\n", pkg, strings.Join(o.by, ", "))
		t.numbers = nil
	}
	r.together[pkg] = t
	return t, nil
}

// drop takes out the mutants of which the compiler complains, if it does of any.
func drop(files map[string]map[int]edit, where []lines, problem string) bool {
	before := len(where)
	for _, m := range complaint.FindAllStringSubmatch(problem, -1) {
		line, _ := strconv.Atoi(m[2])
		where = slices.DeleteFunc(where, func(l lines) bool {
			if l.in != m[1] || line < l.from || line > l.to {
				return false
			}
			delete(files[l.file], l.number)
			return true
		})
	}
	return len(where) < before
}

// combinedOverlay writes the files with their mutants, and tells where those stand.
func (r *runner) combinedOverlay(dir string, files map[string]map[int]edit) (overlay string, where []lines, err error) {
	replace := map[string]string{}
	write := func(file, name string, text []byte) error {
		replace[filepath.Join(r.root, file)] = filepath.Join(dir, name)
		return os.WriteFile(filepath.Join(dir, name), text, 0o600)
	}
	for i, file := range slices.Sorted(maps.Keys(files)) {
		src, err := os.ReadFile(filepath.Join(r.root, file))
		if err != nil {
			return "", nil, err
		}
		text, all, err := combine(src, files[file])
		if err != nil {
			return "", nil, fmt.Errorf("%s: %w", file, err)
		}
		f, err := parser.ParseFile(token.NewFileSet(), "", src, parser.PackageClauseOnly)
		if err != nil {
			return "", nil, err
		}
		name := fmt.Sprintf("file%d.go", i)
		for _, l := range all {
			l.file, l.in = file, name
			where = append(where, l)
		}
		err = errors.Join(write(file, name, text),
			write(path.Join(packageOf(file), "choreo_mutant.go"), "chooser_"+f.Name.Name+".go", fmt.Appendf(nil, chooser, f.Name.Name, choice)))
		if err != nil {
			return "", nil, err
		}
	}
	text, err := json.Marshal(map[string]map[string]string{"Replace": replace})
	if err != nil {
		return "", nil, err
	}
	overlay = filepath.Join(dir, "overlay.json")
	return overlay, where, os.WriteFile(overlay, text, 0o600)
}

// noGo says why a text cannot be parsed.
func noGo(text []byte) string {
	if _, err := parser.ParseFile(token.NewFileSet(), "", text, parser.SkipObjectResolution); err != nil {
		return err.Error()
	}
	return ""
}
