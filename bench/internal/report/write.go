package report

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/choreography-go/choreography/bench/internal/measure"
	"github.com/choreography-go/choreography/bench/internal/plot"
)

// kind names the files and the part of a page about such a cluster.
func (r *Results) kind() string {
	if r.Brokers == 1 {
		return "one-broker"
	}
	return fmt.Sprintf("%d-brokers", r.Brokers)
}

// plots are the charts by the ends of their files' names, in their order.
func (r *Results) plots() []chart {
	var all []chart
	if len(r.Rates) > 0 {
		all = append(all, chart{"rate", "Orders a second", r.rateChart()})
	}
	if len(r.Latencies) > 0 {
		all = append(all, chart{"latency", "One order at a time", r.latencyChart()})
	}
	if r.Overload != nil && len(r.Overload.Points) > 1 {
		all = append(all, chart{"overload-rate", "Rate under overload", r.overloadRate()}, chart{"overload-memory", "Memory under overload", r.overloadMemory()})
	}
	return all
}

type chart struct{ name, title, svg string }

func (c chart) file(kind string) string { return kind + "-" + c.name + ".svg" }

// Write puts the results and the plots into a directory.
func (r *Results) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the directory of the results: %w", err)
	}
	for _, c := range r.plots() {
		if err := os.WriteFile(filepath.Join(dir, c.file(r.kind())), []byte(c.svg), 0o644); err != nil {
			return fmt.Errorf("write a plot: %w", err)
		}
	}
	var b strings.Builder
	if err := r.JSON(&b); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, r.kind()+".json"), []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	return nil
}

// Replace puts the results in the place of the last ones of such a cluster on a
// Markdown page, between two comments. The plots lie in dir.
func (r *Results) Replace(page, dir string) error {
	before, after, err := r.around(page)
	if err != nil {
		return err
	}
	plots, err := filepath.Rel(filepath.Dir(page), dir)
	if err != nil {
		return fmt.Errorf("refer to the plots in %s from %s: %w", dir, page, err)
	}
	text := before + "\n" + r.Markdown(filepath.ToSlash(plots)) + after
	if err := os.WriteFile(page, []byte(text), 0o644); err != nil {
		return fmt.Errorf("replace the results on a page: %w", err)
	}
	return nil
}

// Fits says why Replace would fail, before anything is measured: the brokers
// must be known.
func (r *Results) Fits(page string) error {
	_, _, err := r.around(page)
	return err
}

// around is what stays of a page, the two comments included.
func (r *Results) around(page string) (before, after string, err error) {
	b, err := os.ReadFile(page)
	if err != nil {
		return "", "", fmt.Errorf("replace the results on a page: %w", err)
	}
	begin, end := fmt.Sprintf("<!-- %s: begin -->", r.kind()), fmt.Sprintf("<!-- %s: end -->", r.kind())
	before, rest, ok := strings.Cut(string(b), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return "", "", fmt.Errorf("replace the results on %s: it does not have the lines %q and %q in this order; add them", page, begin, end)
	}
	return before + begin, end + after, nil
}

// Markdown is the part of a page; plots is where they lie.
func (r *Results) Markdown(plots string) string {
	var b strings.Builder
	fmt.Fprintln(&b, r.heading())
	if r.Command != "" {
		fmt.Fprintf(&b, "Measured by `%s`.\n", r.Command)
	}
	if len(plots) > 0 {
		fmt.Fprintf(&b, "All figures of every round: [%s](%s).\n", r.kind()+".json", plots+"/"+r.kind()+".json")
	}
	for _, g := range r.grids() {
		fmt.Fprintf(&b, "\n%s", g.markdown())
	}
	for _, c := range r.plots() {
		fmt.Fprintf(&b, "\n![%s](%s)\n", c.title, plots+"/"+c.file(r.kind()))
	}
	return b.String()
}

func (r *Results) rateChart() string {
	b := plot.Bars{Title: "Orders a second by orders per commit, " + r.cluster(), Unit: "1/s"}
	for _, size := range r.sizes() {
		b.Groups = append(b.Groups, sizeText(size))
	}
	for _, c := range r.contenders() {
		var values []plot.Value
		for _, size := range r.sizes() {
			x, ok := r.rates(c, size)
			values = append(values, plot.Value{Height: x.Rate.Median, Min: x.Rate.Min, Max: x.Rate.Max, Missing: !ok})
		}
		b.Series, b.Values = append(b.Series, c.Title()), append(b.Values, values)
	}
	return b.SVG()
}

func (r *Results) latencyChart() string {
	b := plot.Bars{Title: "One order at a time, " + r.cluster(), Unit: "ms", Groups: []string{"p50", "p99", "p99.9"}}
	for _, c := range r.contenders() {
		if x, ok := r.latencies(c); ok {
			b.Series = append(b.Series, c.Title())
			b.Values = append(b.Values, []plot.Value{{Height: x.P50, Min: x.Rounds.Min, Max: x.Rounds.Max}, {Height: x.P99, Min: x.P99, Max: x.P99}, {Height: x.P999, Min: x.P999, Max: x.P999}})
		}
	}
	return b.SVG()
}

func (r *Results) overloadRate() string {
	o := r.Overload
	l := plot.Lines{Title: "Handled while three times as many are offered", Unit: "1/s", XUnit: "s", Series: []string{"handled", "peak", "offered"}, Values: make([][]float64, 3)}
	for i, p := range o.Points[1:] {
		last := o.Points[i]
		l.X = append(l.X, p.At.Seconds())
		l.Values[0] = append(l.Values[0], float64(p.Handled-last.Handled)/(p.At-last.At).Seconds())
		l.Values[1] = append(l.Values[1], o.Peak)
		l.Values[2] = append(l.Values[2], o.Offered)
	}
	return l.SVG()
}

func (r *Results) overloadMemory() string {
	l := plot.Lines{Title: "Memory while three times as many are offered", Unit: "MiB", XUnit: "s", Series: []string{"live heap", "resident"}, Values: make([][]float64, 2)}
	for _, p := range r.Overload.Points {
		l.X = append(l.X, p.At.Seconds())
		l.Values[0] = append(l.Values[0], mebibytes(measure.LiveHeap(p)))
		l.Values[1] = append(l.Values[1], mebibytes(measure.Resident(p)))
	}
	return l.SVG()
}
