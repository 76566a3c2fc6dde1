package choreo_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/choreography-go/choreography/choreo"
	"github.com/twmb/franz-go/pkg/kerr"
)

// page is one Markdown file, taken apart.
type page struct {
	path     string // from the root of the repository
	text     string
	blocks   []block
	code     []span // code spans, lines of indented and of fenced blocks
	links    []span
	headings map[string]bool // anchors
}

type block struct {
	lang, code string
	line       int
}

type span struct {
	text string
	line int
}

var (
	fence    = regexp.MustCompile("^```([a-z]*)$")
	heading  = regexp.MustCompile(`^#{1,6} +(.+)$`)
	linkText = regexp.MustCompile(`\]\(([^)\s]+)\)`)
)

func readPage(name, text string) *page {
	p := &page{path: name, text: text, headings: map[string]bool{}}
	var open *block
	before := "" // the line before
	for i, line := range strings.Split(text, "\n") {
		n := i + 1
		m := fence.FindStringSubmatch(line)
		switch {
		case m != nil && open == nil:
			open = &block{lang: m[1], line: n + 1}
		case m != nil:
			p.blocks = append(p.blocks, *open)
			open = nil
		case open != nil:
			open.code += line + "\n"
			p.code = append(p.code, span{line, n})
		case strings.HasPrefix(line, "    ") && (before == "" || strings.HasPrefix(before, "    ")):
			p.code = append(p.code, span{strings.TrimSpace(line), n})
		default:
			if h := heading.FindStringSubmatch(line); h != nil {
				p.headings[anchor(h[1])] = true
			}
			for _, c := range codeSpan.FindAllStringSubmatch(line, -1) {
				p.code = append(p.code, span{c[1], n})
			}
			for _, l := range linkText.FindAllStringSubmatch(codeSpan.ReplaceAllString(line, ""), -1) {
				p.links = append(p.links, span{l[1], n})
			}
		}
		before = line
	}
	return p
}

// anchor is the name by which a heading is linked.
func anchor(title string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c == ' ':
			return '-'
		case c == '-' || c == '_' || unicode.IsLetter(c) || unicode.IsDigit(c):
			return unicode.ToLower(c)
		}
		return -1
	}, title)
}

// docs holds the pages to what is there.
type docs struct {
	pages    map[string]*page
	problems []string
	tests    map[string]bool

	exists    func(path string) bool
	sources   [][]string // the lines of all Go files
	runtime   string     // the code of choreo, without tests
	targets   map[string]bool
	help      string
	tool      map[string]bool // commands and flags of the command-line tool
	variables map[string]bool // of --help
	others    map[string]bool // that make, Compose and the example's programs read
	metrics   []string
	reasons   []string
	imports   types.Importer
}

const runningPage = "docs/running-a-service.md"

func (d *docs) wrong(p *page, line int, format string, a ...any) {
	d.problems = append(d.problems, fmt.Sprintf("%s:%d: ", p.path, line)+fmt.Sprintf(format, a...))
}

func (d *docs) check() []string {
	d.problems = nil
	for _, p := range d.pages {
		d.checkGo(p)
		d.checkLinks(p)
		d.checkNames(p)
		d.checkAPI(p)
		d.checkFiles(p)
		d.checkTests(p)
	}
	if p := d.pages[runningPage]; p != nil {
		d.checkComplete(p)
		d.checkMessages(p)
	}
	slices.Sort(d.problems)
	return d.problems
}

// checkGo compiles whole files, and looks for the others in the code.
func (d *docs) checkGo(p *page) {
	for _, b := range p.blocks {
		if b.lang != "go" {
			continue
		}
		if !strings.HasPrefix(b.code, "package ") {
			if !d.isCode(b.code) {
				d.wrong(p, b.line, "this code stands in no Go file of the repository:\n%s", b.code)
			}
			continue
		}
		if formatted, err := format.Source([]byte(b.code)); err != nil || !bytes.Equal(formatted, []byte(b.code)) {
			d.wrong(p, b.line, "this file is not as gofmt writes it (%v):\n%s", err, b.code)
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, p.path, b.code, parser.SkipObjectResolution)
		if err != nil {
			d.wrong(p, b.line, "%v", err)
			continue
		}
		conf := types.Config{Importer: d.imports, Error: func(err error) {
			e, _ := err.(types.Error) //nolint:errorlint // go/types gives its own, never wrapped
			d.wrong(p, b.line-1+fset.Position(e.Pos).Line, "%s", e.Msg)
		}}
		_, _ = conf.Check(f.Name.Name, fset, []*ast.File{f}, nil) // Error is told all
	}
}

// isCode reports that the lines stand in a Go file, whatever their indentation.
func (d *docs) isCode(code string) bool {
	want := trimmedLines(code)
	for _, file := range d.sources {
		for i := range file {
			if len(file)-i >= len(want) && slices.Equal(file[i:i+len(want)], want) {
				return true
			}
		}
	}
	return false
}

func trimmedLines(text string) []string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return lines
}

func (d *docs) checkLinks(p *page) {
	for _, l := range p.links {
		if strings.Contains(l.text, "://") {
			continue
		}
		file, section, _ := strings.Cut(l.text, "#")
		to := p.path
		if file != "" {
			to = path.Join(path.Dir(p.path), file)
		}
		if !d.exists(to) {
			d.wrong(p, l.line, "link to %s, which does not exist", to)
		} else if other := d.pages[to]; section != "" && (other == nil || !other.headings[section]) {
			d.wrong(p, l.line, "link to %s, which has no heading %q", to, section)
		}
	}
}

var (
	makeTarget   = regexp.MustCompile(`(?:^|\s)make ([a-z][a-z-]*)`)
	variableName = regexp.MustCompile(`\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b`)
	metricName   = regexp.MustCompile(`\bchoreo_[a-z0-9_]+`)
	program      = regexp.MustCompile(`^(?:bin/)?(?:order|payment|inventory|shipping)(?: +([^#]*))?(?:$|#)`)
	toolCommand  = regexp.MustCompile(`^(?:bin/)?choreo +([a-z][^#]*)`)
	toolWord     = regexp.MustCompile(`^[a-z]+$`)
	kongField    = regexp.MustCompile("(?m)^\\t([A-Z]\\w*) .*`.*(?:cmd|help):.*`$")
	camelHump    = regexp.MustCompile(`([a-z])([A-Z])`)
	flagName     = regexp.MustCompile(`--[a-z-]+`)
)

// checkNames looks up what is named in code: make targets, environment
// variables, metrics, commands of services and their flags.
func (d *docs) checkNames(p *page) {
	for _, c := range p.code {
		for _, m := range makeTarget.FindAllStringSubmatch(c.text, -1) {
			if !d.targets[m[1]] {
				d.wrong(p, c.line, "the Makefile has no target %q", m[1])
			}
		}
		for _, v := range variableName.FindAllString(c.text, -1) {
			if !d.variables[v] && !d.others[v] {
				d.wrong(p, c.line, "no variable %q is in --help, the Makefile, docker-compose.yml or the services' programs", v)
			}
		}
		for _, name := range metricName.FindAllString(c.text, -1) {
			if !d.isMetric(name) {
				d.wrong(p, c.line, "there is no metric %q", name)
			}
		}
		if m := toolCommand.FindStringSubmatch(strings.TrimSpace(c.text)); m != nil {
			for i, word := range strings.Fields(m[1]) {
				name, _, _ := strings.Cut(strings.TrimPrefix(word, "--"), "=")
				if (strings.HasPrefix(word, "--") || i < 2 && toolWord.MatchString(word)) && !d.tool[name] {
					d.wrong(p, c.line, "choreo has no %q", name)
				}
			}
		}
		if m := program.FindStringSubmatch(strings.TrimSpace(c.text)); m != nil && m[1] != "" {
			command, _, _ := strings.Cut(strings.TrimSpace(m[1]), " ")
			known := strings.Contains(d.help, "sample "+command+" ") || strings.Contains(d.help, "sample ["+command+"]")
			if !known {
				d.wrong(p, c.line, "--help has no command %q", command)
			}
			for _, f := range flagName.FindAllString(m[1], -1) {
				if !strings.Contains(d.help, f) {
					d.wrong(p, c.line, "--help has no flag %q", f)
				}
			}
		}
	}
}

func (d *docs) isMetric(name string) bool {
	for _, suffix := range []string{"", "_bucket", "_sum", "_count"} {
		if base, ok := strings.CutSuffix(name, suffix); ok && slices.Contains(d.metrics, base) {
			return true
		}
	}
	return name == "choreo_kafka_" // the metrics of the Kafka clients, as a family
}

const modulePath = "github.com/choreography-go/choreography"

var apiName = regexp.MustCompile(`(?:\b(choreo|choreotest|cloudevent|contract)\.)?\b([A-Z]\w*)(?:\.([A-Z]\w*))?`)

// checkAPI looks up exported names of code spans: choreo.X, and X.Y where X is a
// type of choreo.
func (d *docs) checkAPI(p *page) {
	for _, c := range p.code {
		for _, m := range apiName.FindAllStringSubmatch(c.text, -1) {
			pkg, err := d.imports.Import(path.Join(modulePath, "choreo", strings.TrimPrefix(m[1]+"/", "choreo/")))
			if err != nil {
				d.wrong(p, c.line, "%v", err)
				continue
			}
			object := pkg.Scope().Lookup(m[2])
			if object == nil && m[1] != "" {
				d.wrong(p, c.line, "package %s has no %s", m[1], m[2])
			}
			if _, isType := object.(*types.TypeName); !isType || m[3] == "" {
				continue
			}
			if member, _, _ := types.LookupFieldOrMethod(object.Type(), true, pkg, m[3]); member == nil {
				d.wrong(p, c.line, "%s.%s has no %s", pkg.Name(), m[2], m[3])
			}
		}
	}
}

var (
	fileName  = regexp.MustCompile(`^[a-zA-Z0-9_./-]+\.(?:go|md|yml|mod)$`)
	testName  = regexp.MustCompile(`^Test[A-Z0-9]\w*$`)
	testFunc  = `(?m)^func (Test\w+)\(t \*testing\.T\)`
	firstCell = regexp.MustCompile("(?m)^\\| (`.*?) \\|")
	dlqHeader = regexp.MustCompile(`^choreo-dlq-[a-z-]+$`)
)

// checkFiles looks up files that are named without a link, from the root, from
// choreo or from beside the page.
func (d *docs) checkFiles(p *page) {
	for _, c := range p.code {
		if fileName.MatchString(c.text) && !d.exists(c.text) && !d.exists("choreo/"+c.text) && !d.exists(path.Join(path.Dir(p.path), c.text)) {
			d.wrong(p, c.line, "there is no file %s", c.text)
		}
	}
}

// checkTests looks up the tests that promises point to.
func (d *docs) checkTests(p *page) {
	for _, c := range p.code {
		if testName.MatchString(c.text) && !d.tests[c.text] {
			d.wrong(p, c.line, "there is no test %s", c.text)
		}
	}
}

// checkMessages looks up the messages that tables begin with in the runtime's
// code, where … stands for what differs, and the headers of dead letters.
func (d *docs) checkMessages(p *page) {
	var all []string
	for _, cell := range firstCell.FindAllStringSubmatch(p.text, -1) {
		for _, c := range codeSpan.FindAllStringSubmatch(cell[1], -1) {
			if strings.Contains(c[1], " ") {
				all = append(all, strings.Split(c[1], "…")...)
			} else if dlqHeader.MatchString(c[1]) {
				all = append(all, `"`+c[1]+`"`)
			}
		}
	}
	for _, text := range all {
		if !strings.Contains(d.runtime, strings.TrimSpace(text)) {
			d.wrong(p, 1, "the runtime never says %q", text)
		}
	}
}

// checkComplete holds the page on running a service to be complete.
func (d *docs) checkComplete(p *page) {
	has := func(name string) bool { return strings.Contains(p.text, "`"+name+"`") }
	for v := range d.variables {
		if !has(v) {
			d.wrong(p, 1, "variable %s of --help is not described", v)
		}
	}
	for _, m := range d.metrics {
		if !has(m) && !strings.HasPrefix(m, "choreo_kafka_") {
			d.wrong(p, 1, "metric %s is not described", m)
		}
	}
	for _, r := range d.reasons {
		if !has(r) {
			d.wrong(p, 1, "reason %s of dead letters is not described", r)
		}
	}
}

// exportData imports packages from what the go command has compiled.
func exportData(t *testing.T, patterns ...string) types.Importer {
	t.Helper()
	files := map[string]string{}
	list := goCommand(t, append([]string{"list", "-export", "-deps", "-f", "{{.ImportPath}}\t{{.Export}}"}, patterns...)...)
	for line := range strings.Lines(list) {
		if name, file, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
			files[name] = file
		}
	}
	return importer.ForCompiler(token.NewFileSet(), "gc", func(name string) (io.ReadCloser, error) {
		file, ok := files[name]
		if !ok {
			return nil, fmt.Errorf("%s is not a package that %v depend on", name, patterns)
		}
		return os.Open(file)
	})
}

// repository is what the pages of this repository are held to.
func repository(t *testing.T) *docs {
	t.Helper()
	d := &docs{
		pages: map[string]*page{}, tests: map[string]bool{}, targets: map[string]bool{}, variables: map[string]bool{}, others: map[string]bool{},
		tool: map[string]bool{},
		exists: func(name string) bool {
			_, err := os.Stat(filepath.Join("..", filepath.FromSlash(name)))
			return err == nil
		},
	}
	read := func(name string) string {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	note := func(into map[string]bool, pattern, text string) {
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			into[m[1]] = true
		}
	}
	err := filepath.WalkDir("..", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel("..", name)
		rel = filepath.ToSlash(rel)
		switch {
		case e.IsDir() && (rel == ".git" || rel == "bin"):
			return fs.SkipDir
		case strings.HasSuffix(rel, ".go"):
			text := read(name)
			d.sources = append(d.sources, trimmedLines(text))
			if path.Dir(rel) == "cmd/choreo" {
				for _, m := range kongField.FindAllStringSubmatch(text, -1) {
					d.tool[strings.ToLower(camelHump.ReplaceAllString(m[1], "$1-$2"))] = true
				}
			}
			if strings.HasSuffix(rel, "_test.go") {
				note(d.tests, testFunc, text)
			}
			if strings.HasPrefix(rel, "choreo/") && !strings.HasSuffix(rel, "_test.go") {
				d.runtime += text
			}
			if strings.HasPrefix(rel, "services/") || strings.HasPrefix(rel, "choreo/choreotest/") {
				note(d.others, `"([A-Z0-9]+_[A-Z0-9_]+)"`, text)
			}
		case strings.HasSuffix(rel, ".md") && (!strings.Contains(rel, "/") || strings.HasPrefix(rel, "docs/")):
			d.pages[rel] = readPage(rel, read(name))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	makefile := read("../Makefile")
	note(d.targets, `(?m)^([a-z-]+):(?:[^=]|$)`, makefile)
	note(d.others, `\$\(([A-Z_]+)\)`, makefile)
	note(d.others, `\$\{([A-Z_]+)`, read("../docker-compose.yml"))
	note(d.others, `(?m)^      ([A-Z_]+): `, read("../docker-compose.yml"))

	for code := int16(-1); code < 200; code++ { // Kafka's errors look like variables
		if e := kerr.TypedErrorForCode(code); e != nil {
			d.others[e.Message] = true
		}
	}

	sample := choreo.NewService("sample", choreo.Starts(jobGiven))
	d.help, d.metrics, d.reasons = choreo.HelpOf(sample), choreo.MetricsOf(sample), choreo.DeadLetterReasons()
	note(d.variables, `(?m)^  ([A-Z][A-Z0-9_]+) `, d.help)

	packages := []string{"./choreo", "./choreo/choreotest", "./choreo/cloudevent", "./choreo/contract"}
	for _, p := range d.pages {
		for _, b := range p.blocks {
			f, err := parser.ParseFile(token.NewFileSet(), "", b.code, parser.ImportsOnly)
			if b.lang != "go" || err != nil {
				continue
			}
			for _, i := range f.Imports {
				name, _ := strconv.Unquote(i.Path.Value)
				packages = append(packages, name)
			}
		}
	}
	slices.Sort(packages)
	d.imports = exportData(t, slices.Compact(packages)...)
	return d
}

// Everything that the documentation shows or names is there.
func TestDocumentation(t *testing.T) {
	t.Parallel()
	d := repository(t)
	for _, want := range []string{"README.md", "docs/writing-a-service.md", runningPage, "docs/how-it-works.md", "docs/guarantees.md", "docs/failures.md", "docs/testing.md"} {
		if d.pages[want] == nil {
			t.Errorf("%s is missing", want)
		}
	}
	if len(d.targets) == 0 || len(d.variables) == 0 || len(d.metrics) == 0 || len(d.reasons) == 0 || len(d.tool) == 0 {
		t.Errorf("nothing to hold the pages to: %d targets, %d variables, %d metrics, %d reasons", len(d.targets), len(d.variables), len(d.metrics), len(d.reasons))
	}
	for _, problem := range d.check() {
		t.Error(problem)
	}

	// Each kind of mistake is seen.
	for name, c := range map[string]struct{ text, want string }{
		"a file that does not compile":  {"```go\npackage p\n\nvar x int = \"\"\n```\n", "cannot use"},
		"an unused import":              {"```go\npackage p\n\nimport \"github.com/choreography-go/choreography/choreo\"\n```\n", "imported and not used"},
		"a file that is not formatted":  {"```go\npackage p\nvar   x int\n```\n", "gofmt"},
		"a file that cannot be parsed":  {"```go\npackage p\n\nfunc {\n```\n", "expected 'IDENT'"},
		"code that is not there":        {"```go\nsurely := nobody.Wrote(this)\n```\n", "stands in no Go file"},
		"a make target":                 {"Run `make nothing`.", `no target "nothing"`},
		"a make target, indented":       {"Run\n\n    make nothing\n", `no target "nothing"`},
		"a variable":                    {"Set `KAFKA_BROKER`.", `no variable "KAFKA_BROKER"`},
		"a metric":                      {"See `choreo_nothing_total`.", `no metric "choreo_nothing_total"`},
		"a command":                     {"    payment destroy", `no command "destroy"`},
		"a command of the tool":         {"    choreo dlq forget", `choreo has no "forget"`},
		"a flag of the tool":            {"Run `choreo dlq ls --surely`.", `choreo has no "surely"`},
		"a flag":                        {"Run `payment topics --force`.", `no flag "--force"`},
		"a link to nothing":             {"[here](nowhere.md)", "nowhere.md, which does not exist"},
		"a link to no heading":          {"[here](../README.md#no-such-heading)", `no heading "no-such-heading"`},
		"a name of the API":             {"Use `choreo.Nothing`.", "has no Nothing"},
		"a field of the API":            {"Set `Step.Nothing`.", "has no Nothing"},
		"a name of another package":     {"Use `choreotest.Nothing`.", "has no Nothing"},
		"a test":                        {"`TestNothing` shows it.", "no test TestNothing"},
		"a file":                        {"See `nowhere.go`.", "no file nowhere.go"},
		"a message":                     {"| `task … is asleep` | |\n", `never says " is asleep"`},
		"a header of dead letters":      {"| `choreo-dlq-nothing` | |\n", "choreo-dlq-nothing"},
		"a variable not described":      {"# Running", "variable KAFKA_BROKERS of --help is not described"},
		"a metric not described":        {"# Running", "metric choreo_ready is not described"},
		"a dead letter's reason unsaid": {"# Running", "reason undecodable of dead letters is not described"},
	} {
		broken := *d
		broken.pages = map[string]*page{"README.md": d.pages["README.md"], runningPage: readPage(runningPage, c.text)}
		if got := strings.Join(broken.check(), "\n"); !strings.Contains(got, c.want) {
			t.Errorf("%s is not seen: %s", name, got)
		}
	}
}
