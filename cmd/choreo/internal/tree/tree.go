// Package tree draws the causal tree of a flow. It reads events as package
// check has them and judges nothing.
package tree

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/choreography-go/choreography/cmd/choreo/internal/check"
)

// Write draws the events of one flow, each below the event that caused it,
// with the service and the step that said it and the milliseconds since the
// flow's first event. An event of several causes is drawn below the first and
// names the others; one whose cause is not among the events is drawn as a root.
// Events of a cycle, which have no root, come last.
func Write(w io.Writer, events []check.Event) error {
	t := &drawing{seen: map[string]bool{}, children: map[string][]check.Event{}}
	events = slices.Clone(events)
	slices.SortStableFunc(events, func(a, b check.Event) int { return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.ID, b.ID)) })
	known := map[string]bool{}
	for _, e := range events {
		known[e.ID] = true
		if t.start.IsZero() {
			t.start = e.Time
		}
	}
	var roots []check.Event
	for _, e := range events {
		if len(e.Causes) > 0 && known[e.Causes[0]] {
			t.children[e.Causes[0]] = append(t.children[e.Causes[0]], e)
		} else {
			roots = append(roots, e)
		}
	}
	for _, e := range append(roots, events...) {
		if !t.seen[e.ID] {
			t.draw(e, "", "")
		}
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, line := range t.lines {
		if _, err := fmt.Fprintln(tw, line); err != nil {
			return fmt.Errorf("draw a flow: %w", err)
		}
	}
	if err := tw.Flush(); err != nil {
		return fmt.Errorf("draw a flow: %w", err)
	}
	return nil
}

type drawing struct {
	start    time.Time
	seen     map[string]bool
	children map[string][]check.Event
	lines    []string
}

func (t *drawing) draw(e check.Event, first, rest string) {
	t.seen[e.ID] = true
	by := printable(e.Service)
	if e.Step != "" {
		by += " " + printable(e.Step)
	}
	line := fmt.Sprintf("%s%s\t%s\t+%.1f ms", first, printable(strings.TrimPrefix(e.Type, "com.example.")), by,
		float64(e.Time.Sub(t.start).Microseconds())/1000)
	if len(e.Causes) > 1 {
		line += fmt.Sprintf(" (also caused by %q)", e.Causes[1:])
	}
	t.lines = append(t.lines, line)
	children := slices.DeleteFunc(slices.Clone(t.children[e.ID]), func(c check.Event) bool { return t.seen[c.ID] })
	for i, c := range children {
		if t.seen[c.ID] {
			continue // drawn meanwhile, on a cycle
		}
		if i == len(children)-1 {
			t.draw(c, rest+"└─ ", rest+"   ")
		} else {
			t.draw(c, rest+"├─ ", rest+"│  ")
		}
	}
}

// printable keeps what comes from outside from moving the cursor or the columns.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}
