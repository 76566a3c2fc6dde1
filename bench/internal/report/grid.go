package report

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// grid is a table, for a terminal or for Markdown.
type grid struct {
	title  string
	header []string
	rows   [][]string
}

func (g *grid) add(cells ...string) { g.rows = append(g.rows, cells) }

// text writes the grid in columns.
func (g *grid) text(w io.Writer) error {
	fmt.Fprintf(w, "\n%s\n", g.title)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{g.header}, g.rows...) {
		fmt.Fprintf(t, "  %s\n", strings.Join(row, "\t"))
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write a table: %w", err)
	}
	return nil
}

// markdown returns the grid as Markdown.
func (g *grid) markdown() string {
	var b strings.Builder
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	fmt.Fprintf(&b, "%s:\n\n", g.title)
	line(g.header)
	fmt.Fprintf(&b, "|%s\n", strings.Repeat("---|", len(g.header)))
	for _, row := range g.rows {
		line(row)
	}
	return b.String()
}
