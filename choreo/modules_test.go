package choreo_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// goCommand runs the go command in the root module and returns what it prints.
func goCommand(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = ".."
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return string(out)
}

var (
	tableRow     = regexp.MustCompile("(?m)^\\| (`.*?) \\|")
	codeSpan     = regexp.MustCompile("`([^`]+)`")
	majorVersion = regexp.MustCompile(`/v[0-9]+$`)
)

// The table of docs/decisions/0003-modules.md names every direct requirement of
// the root module by the end of its path, and nothing else.
func TestRequirementsAreThoseOfTheDecision(t *testing.T) {
	t.Parallel()
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal([]byte(goCommand(t, "mod", "edit", "-json")), &mod); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../docs/decisions/0003-modules.md")
	if err != nil {
		t.Fatal(err)
	}
	reasons := map[string]int{} // by name in the table: requirements that it stands for
	for _, row := range tableRow.FindAllStringSubmatch(string(page), -1) {
		for _, name := range codeSpan.FindAllStringSubmatch(row[1], -1) {
			reasons[name[1]] = 0
		}
	}
	if len(reasons) == 0 {
		t.Fatal("no table was found in docs/decisions/0003-modules.md")
	}
	for _, r := range mod.Require {
		if r.Indirect {
			continue
		}
		path := majorVersion.ReplaceAllString(r.Path, "")
		known := false
		for name := range reasons {
			if path == name || strings.HasSuffix(path, "/"+name) {
				reasons[name]++
				known = true
			}
		}
		if !known {
			t.Errorf("go.mod requires %s, for which docs/decisions/0003-modules.md has no reason", r.Path)
		}
	}
	for name, n := range reasons {
		if n != 1 {
			t.Errorf("docs/decisions/0003-modules.md has a reason for %s, which is %d direct requirements of go.mod", name, n)
		}
	}
}

// notInPrograms is what may not be built into a program that imports choreo:
// packages, and whatever lies below them.
var notInPrograms = []string{
	"testing", "pgregory.net/rapid", "go.uber.org/goleak", "github.com/stretchr", "github.com/testcontainers",
	"github.com/twmb/franz-go/pkg/kfake", "github.com/choreography-go/choreography/choreo/choreotest",
	"github.com/alecthomas/kong", "github.com/spf13",
	"google.golang.org/grpc", "github.com/influxdata",
	"github.com/cloudevents", "go.opentelemetry.io/otel/sdk", "go.opentelemetry.io/otel/exporters", "go.opentelemetry.io/contrib",
}

func TestProgramsAreFreeOfWhatTheyDoNotNeed(t *testing.T) {
	t.Parallel()
	unwanted := func(packages ...string) []string {
		var found []string
		for _, dep := range strings.Fields(goCommand(t, append([]string{"list", "-deps"}, packages...)...)) {
			for _, no := range notInPrograms {
				if dep == no || strings.HasPrefix(dep, no+"/") {
					found = append(found, dep)
				}
			}
		}
		return found
	}
	if got := unwanted("./choreo", "./choreo/cloudevent", "./choreo/contract"); len(got) > 0 {
		t.Errorf("a program that imports choreo gets %s", strings.Join(got, ", "))
	}
	// The package for tests has what the others must not have, so it would be seen.
	got := unwanted("./choreo/choreotest")
	for _, want := range []string{"testing", "github.com/twmb/franz-go/pkg/kfake"} {
		if !slices.Contains(got, want) {
			t.Errorf("choreotest does not depend on %s; is it looked for under its right name?", want)
		}
	}
}
