package services_test

import (
	"bytes"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/choreography-go/choreography"

// wrongImport says why the package in a directory of this module must not
// import another; empty if it may.
func wrongImport(dir, imported string) string {
	service, part, _ := strings.Cut(filepath.ToSlash(dir), "/")
	if other, ok := strings.CutPrefix(imported, module+"/services/"); ok {
		if name, _, _ := strings.Cut(other, "/"); name != service {
			return "a service must not import another, nor anything that they share"
		}
	}
	if first, _, _ := strings.Cut(imported, "/"); part == "domain" && strings.Contains(first, ".") && imported != path.Join(module, "services", service, "domain") {
		return "the domain is plain Go: it may import the standard library only"
	}
	return ""
}

func TestServicesImportNothingOfOneAnother(t *testing.T) {
	seen := map[string]int{}
	err := filepath.WalkDir(".", func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(file, ".go") {
			return err
		}
		dir := filepath.Dir(file)
		if dir == "." || strings.HasSuffix(file, "_test.go") && strings.HasSuffix(dir, "domain") {
			return nil // this test, and tests of a domain, which may use test libraries
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		seen[dir]++
		for _, i := range f.Imports {
			imported, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			if why := wrongImport(dir, imported); why != "" {
				t.Errorf("%s imports %q: %s", file, imported, why)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && e.Name() != "testdata" && seen[filepath.Join(e.Name(), "domain")] == 0 {
			t.Errorf("%s has no package domain that could be looked at", e.Name())
		}
	}
}

func TestWrongImports(t *testing.T) {
	cases := []struct {
		dir, imported string
		wrong         bool
	}{
		{"order/service", module + "/choreo", false},
		{"order/service", module + "/services/order/domain", false},
		{"order/service", module + "/services/payment/domain", true},
		{"order", module + "/services/payment/service", true},
		{"order/domain", module + "/services/shared", true},
		{"order/domain", module + "/choreo", true},
		{"order/domain", "github.com/twmb/franz-go/pkg/kgo", true},
		{"order/domain", "encoding/json", false},
	}
	for _, c := range cases {
		if got := wrongImport(filepath.FromSlash(c.dir), c.imported) != ""; got != c.wrong {
			t.Errorf("%s imports %s: wrong is %v, want %v", c.dir, c.imported, got, c.wrong)
		}
	}
}

// The programs share nothing, so each has its own copy of what they all need.
// The tests of order's copy are good for all only while the copies are equal.
func TestCopiesAreEqual(t *testing.T) {
	for _, name := range []string{"tracing.go"} {
		want, err := os.ReadFile(filepath.Join("order", name))
		if err != nil {
			t.Fatal(err)
		}
		for _, service := range []string{"payment", "inventory", "shipping"} {
			got, err := os.ReadFile(filepath.Join(service, name))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s/%s is not as order/%s", service, name, name)
			}
		}
	}
}
