package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// report is what gremlins writes of one package.
type report struct {
	Files []struct {
		Name      string `json:"file_name"`
		Mutations []struct {
			Type   string `json:"type"`
			Status string `json:"status"`
			Line   int    `json:"line"`
			Column int    `json:"column"`
		} `json:"mutations"`
	} `json:"files"`
}

// changes are the mutations of gremlins 0.6.0: what each kind makes of which token.
var changes = map[string]map[string]string{
	"ARITHMETIC_BASE":         {"+": "-", "*": "/", "/": "*", "%": "*", "-": "+"},
	"CONDITIONALS_BOUNDARY":   {">=": ">", ">": ">=", "<=": "<", "<": "<="},
	"CONDITIONALS_NEGATION":   {"==": "!=", ">=": "<", ">": "<=", "<=": ">", "<": ">=", "!=": "=="},
	"INCREMENT_DECREMENT":     {"--": "++", "++": "--"},
	"INVERT_ASSIGNMENTS":      {"+=": "-=", "*=": "/=", "/=": "*=", "%=": "%=", "-=": "+="},
	"INVERT_BITWISE":          {"&": "|", "|": "&", "^": "&", "&^": "&", "<<": ">>", ">>": "<<"},
	"INVERT_BWASSIGN":         {"&=": "|=", "|=": "&=", "^=": "&=", "&^=": "&=", "<<=": ">>=", ">>=": "<<="},
	"INVERT_LOGICAL":          {"&&": "||", "||": "&&"},
	"INVERT_LOOPCTRL":         {"break": "continue", "continue": "break"},
	"INVERT_NEGATIVES":        {"-": "+"},
	"REMOVE_SELF_ASSIGNMENTS": {"+=": "=", "&=": "=", "&^=": "=", "*=": "=", "|=": "=", "/=": "=", "%=": "=", "<<=": "=", ">>=": "=", "-=": "=", "^=": "="},
}

// generated reads gremlins' report of the package in dir.
func generated(root, dir, reportFile string) ([]edit, error) {
	text, err := os.ReadFile(reportFile)
	if err != nil {
		return nil, err
	}
	var r report
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", reportFile, err)
	}
	var all []edit
	for _, f := range r.Files {
		file := path.Join(dir, path.Base(f.Name))
		src, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			return nil, err
		}
		names, err := functions(src)
		if err != nil {
			return nil, err
		}
		var of []edit
		for _, m := range f.Mutations {
			e, line, err := at(src, m.Line, m.Column, m.Type)
			if err != nil {
				return nil, fmt.Errorf("%s, of %s: %w", reportFile, file, err)
			}
			e.File, e.Covered, e.First = file, m.Status != "NOT COVERED", true
			e.By = []Tests{{Package: dir}}
			e.Name = fmt.Sprintf("%s %s: %s  [%s to %s]", path.Base(file), names(e.From), line, src[e.From:e.To], e.New)
			of = append(of, e)
		}
		all = append(all, numbered(of)...)
	}
	return all, nil
}

// at finds the token of a mutation and what is made of it.
func at(src []byte, line, column int, kind string) (e edit, text string, err error) {
	lines := bytes.SplitAfter(src, []byte("\n"))
	if line > len(lines) {
		return e, "", fmt.Errorf("there is no line %d", line)
	}
	for _, l := range lines[:line-1] {
		e.From += len(l)
	}
	e.From += column - 1
	longest := ""
	for old := range changes[kind] {
		if bytes.HasPrefix(src[min(e.From, len(src)):], []byte(old)) && len(old) > len(longest) {
			longest = old
		}
	}
	if longest == "" {
		return e, "", fmt.Errorf("line %d, column %d is nothing that %s changes: is the report of this source?", line, column, kind)
	}
	e.To, e.New = e.From+len(longest), changes[kind][longest]
	return e, string(bytes.TrimSpace(lines[line-1])), nil
}

// functions tells in which function an offset of the source lies.
func functions(src []byte) (func(int) string, error) {
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, "", src, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	return func(offset int) string {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && set.Position(fn.Pos()).Offset <= offset && offset < set.Position(fn.End()).Offset {
				return fn.Name.Name
			}
		}
		return "(package)"
	}, nil
}

// numbered drops what is there twice, which two kinds of mutation can make, and
// tells the others of one name apart, so that names outlive shifted lines.
func numbered(edits []edit) []edit {
	slices.SortFunc(edits, func(a, b edit) int {
		if a.From != b.From {
			return a.From - b.From
		}
		return strings.Compare(a.New, b.New)
	})
	edits = slices.CompactFunc(edits, func(a, b edit) bool { return a.From == b.From && a.New == b.New })
	seen := map[string]int{}
	for i := range edits {
		seen[edits[i].Name]++
		if n := seen[edits[i].Name]; n > 1 {
			edits[i].Name += fmt.Sprintf(" #%d", n)
		}
	}
	return edits
}
