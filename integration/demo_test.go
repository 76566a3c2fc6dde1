package integration

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// lastLine is what the demo ends with when everything is as it must be.
var lastLine = regexp.MustCompile(`^demo: 200 orders, \d+ confirmed, \d+ declined, \d+ refunded, \d+ out of stock, 0 unfinished, 0 wrong$`)

// expiredLine is said when orders have expired. With a patience of seconds that is
// sure of one in ten, which no boat can bring.
var expiredLine = regexp.MustCompile(`(?m)^[1-9]\d* orders had expired when they ended$`)

func TestDemoFlows(t *testing.T) {
	c := anyBrokers(t)
	bin := t.TempDir()
	for _, program := range []string{"cmd/choreo", "services/order", "services/payment", "services/inventory", "services/shipping"} {
		build := exec.Command("go", "build", "-o", filepath.Join(bin, filepath.Base(program)), ".")
		build.Dir = filepath.Join("..", program)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", program, err, out)
		}
	}
	for name, more := range map[string][]string{
		"undisturbed":               nil,
		"with services killed":      {"--kill"},
		"orders expire":             {"--patience=2s"},
		"orders expire, with kills": {"--patience=2s", "--kill"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := timeout(t, 2*time.Minute)
			demo := exec.CommandContext(ctx, filepath.Join(bin, "choreo"),
				append([]string{"demo", "--bin=" + bin, "--orders=200", "--brokers=" + strings.Join(c.brokers, ",")}, more...)...)
			demo.Cancel = func() error { return demo.Process.Signal(os.Interrupt) } // it stops its processes
			demo.WaitDelay = 20 * time.Second
			var out, trouble bytes.Buffer
			demo.Stdout, demo.Stderr = &out, &trouble
			err := demo.Run()
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			last := lines[len(lines)-1]
			if err != nil || !lastLine.MatchString(last) {
				t.Fatalf("the demo ended with %v, its last line is %q\n%s\n%s", err, last, out.String(), trouble.String())
			}
			if expired := expiredLine.FindString(out.String()); (expired != "") != slices.Contains(more, "--patience=2s") {
				t.Errorf("%q: some orders should expire, and none after 15 minutes\n%s", expired, out.String())
			}
			t.Log(last)
		})
	}
}
