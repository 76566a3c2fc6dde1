package main

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// realServices builds the services of the example, and makes this test program the
// broker that the demo starts.
func realServices(t *testing.T) (bin string) {
	t.Helper()
	t.Setenv(fakeVariable, "1")
	t.Setenv("FAKE_FAULT", "")
	bin = t.TempDir()
	args := []string{"build", "-o", bin}
	for _, s := range services {
		args = append(args, "./"+s)
	}
	build := exec.CommandContext(t.Context(), "go", args...)
	build.Dir = filepath.Join("..", "..", "services")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the services: %v\n%s", err, out)
	}
	return bin
}

var (
	expiredLine = regexp.MustCompile(`(?m)^(\d+) orders had expired when they ended$`)
	verdictLine = regexp.MustCompile(`^demo: 40 orders, (\d+) confirmed, \d+ declined, \d+ refunded, \d+ out of stock, 0 unfinished, 0 wrong$`)
)

// Orders expire while others are shipped, and the checker's rules hold for both. The
// four that no boat can bring expire whatever the patience; others do too, on a
// machine that needs longer for an order, so the patience grows until one is shipped.
func TestOrdersOfTheDemoExpireWhileOthersAreShipped(t *testing.T) {
	bin := realServices(t)
	for patience := time.Second; patience <= 64*time.Second; patience *= 2 {
		code, out, errs := verdict(t, "demo", "--orders=40", "--patience="+patience.String(), "--timeout=150s", "--bin="+bin)
		expired, counts := expiredLine.FindStringSubmatch(out), verdictLine.FindStringSubmatch(lastLine(out))
		if code != exitOK || expired == nil || counts == nil {
			t.Fatalf("patience %v: exit code %d:\n%s%s", patience, code, out, errs)
		}
		if n, err := strconv.Atoi(expired[1]); err != nil || n < 4 {
			t.Fatalf("patience %v: %q; at least the 4 that wait for a boat must expire\n%s", patience, expired[0], out)
		}
		if counts[1] != "0" {
			t.Logf("patience %v: %s, %s", patience, expired[0], counts[0])
			return
		}
	}
	t.Error("no order is shipped, however long it may take")
}
