package choreotest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// report says all that is known of a failing run.
func (s *simulation) report(t *testing.T, seed uint64, r result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %d invariants are violated\n", seed, len(r.violations))
	for _, v := range r.violations[:min(20, len(r.violations))] {
		fmt.Fprintf(&b, "  - %s\n", v)
	}
	fmt.Fprintf(&b, "schedule:\n")
	for _, f := range r.faults {
		fmt.Fprintf(&b, "  %v\n", f)
	}
	var shown []string
	for _, v := range r.violations {
		if v.flow == "" || slices.Contains(shown, v.flow) || len(shown) == 3 {
			continue
		}
		shown = append(shown, v.flow)
		for _, f := range r.flows {
			if f.ID == v.flow {
				fmt.Fprintf(&b, "flow %q:\n%s\n", f.ID, f.Tree())
			}
		}
	}
	fmt.Fprintf(&b, "what was logged:\n")
	for _, line := range r.log {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	return b.String()
}
