package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/choreography-go/choreography/bench/internal/measure"
)

// Table writes what a person at a terminal wants to see.
func (r *Results) Table(w io.Writer) error {
	fmt.Fprintln(w, r.heading())
	for _, g := range r.grids() {
		if err := g.text(w); err != nil {
			return err
		}
	}
	return nil
}

func (r *Results) heading() string {
	return fmt.Sprintf("%s: %s, %s on %s with %d cores, %d of %d rounds, figures are medians (least to greatest).",
		r.Taken.Format("2006-01-02 15:04 MST"), r.cluster(), r.Go, r.System, r.Cores, r.Rounds, r.Asked)
}

func (r *Results) cluster() string {
	if r.Brokers == 1 {
		return "one broker"
	}
	return fmt.Sprintf("%d brokers, outputs over %d leaders", r.Brokers, r.Leaders)
}

func (r *Results) grids() []*grid {
	var all []*grid
	if len(r.Rates) > 0 {
		all = append(all, r.perSecond(), r.ratios(), r.inCommit(),
			r.costs("CPU time of an order in µs, and over the raw pipeline", "%.1f", func(x Rates) Spread { return x.CPUMicros }),
			r.costs("Allocations of an order, and over the raw pipeline", "%.1f", func(x Rates) Spread { return x.Allocs }))
	}
	if len(r.Latencies) > 0 {
		all = append(all, r.oneAtATime())
	}
	if r.Overload != nil {
		all = append(all, r.overloaded())
	}
	if g := r.aimed(); len(g.rows) > 0 {
		all = append(all, g)
	}
	return all
}

// bySize is a grid of what is to be said of each contender at each size.
func (r *Results) bySize(title string, cell func(Rates) string) *grid {
	g := &grid{title: title, header: []string{"orders per commit"}}
	for _, size := range r.sizes() {
		g.header = append(g.header, sizeText(size))
	}
	for _, c := range r.contenders() {
		row, known := []string{c.Title()}, false
		for _, size := range r.sizes() {
			text := ""
			if x, ok := r.rates(c, size); ok {
				text, known = cell(x), true
			}
			row = append(row, text)
		}
		if known {
			g.add(row...)
		}
	}
	return g
}

func sizeText(size int) string {
	if size == 0 {
		return "saturated"
	}
	return thousands(float64(size))
}

func (r *Results) perSecond() *grid {
	return r.bySize("Orders a second", func(x Rates) string { return spreadText(x.Rate, thousands) })
}

func (r *Results) ratios() *grid {
	return r.bySize("The same, in times the loop's and the session's", func(x Rates) string {
		return r.ratioText(x, measure.Loop) + " / " + r.ratioText(x, measure.Session)
	})
}

func (r *Results) ratioText(x Rates, to measure.Contender) string {
	if y, ok := r.rates(to, x.PerCommit); ok {
		return fmt.Sprintf("%.2f", x.Rate.Median/y.Rate.Median)
	}
	return "?"
}

func (r *Results) inCommit() *grid {
	return r.bySize("Orders that a commit really took", func(x Rates) string { return fmt.Sprintf("%.1f", x.InCommit.Median) })
}

func (r *Results) costs(title, format string, of func(Rates) Spread) *grid {
	return r.bySize(title, func(x Rates) string {
		text := fmt.Sprintf(format, of(x).Median)
		if raw, ok := r.rates(measure.Pipeline, x.PerCommit); ok && x.Contender != measure.Pipeline {
			text += fmt.Sprintf(" (%+.1f)", of(x).Median-of(raw).Median)
		}
		return text
	})
}

func (r *Results) oneAtATime() *grid {
	g := &grid{title: "One order at a time, from before it is sent until it is read, in ms", header: []string{"", "orders", "p50", "p99", "p99.9", "p50 of the rounds"}}
	for _, c := range r.contenders() {
		if x, ok := r.latencies(c); ok {
			ms := func(v float64) string { return fmt.Sprintf("%.2f", v) }
			g.add(c.Title(), thousands(float64(x.Orders)), ms(x.P50), ms(x.P99), ms(x.P999), ms(x.Rounds.Min)+" to "+ms(x.Rounds.Max))
		}
	}
	return g
}

func (r *Results) overloaded() *grid {
	o := r.Overload
	g := &grid{
		title:  fmt.Sprintf("A Reaction whose handlers take %v, %d at a time, offered three times what it can take for %v", o.Work, o.Handlers, o.Lasted),
		header: []string{"peak", "offered", "handled", "of the peak", "live heap, first and second half", "resident"},
	}
	halves := func(of func(measure.Point) uint64) string {
		first, second := o.Halves(of)
		return fmt.Sprintf("%.1f and %.1f MiB", mebibytes(first), mebibytes(second))
	}
	g.add(thousands(o.Peak)+"/s", thousands(o.Offered)+"/s", thousands(o.Handled)+"/s", fmt.Sprintf("%.1f %%", 100*o.Handled/o.Peak),
		halves(measure.LiveHeap), halves(measure.Resident))
	return g
}

func mebibytes(n uint64) float64 { return float64(n) / (1 << 20) }

func spreadText(s Spread, text func(float64) string) string {
	if s.Min == s.Max {
		return text(s.Median)
	}
	return fmt.Sprintf("%s (%s to %s)", text(s.Median), text(s.Min), text(s.Max))
}

// thousands is a whole number with commas.
func thousands(v float64) string {
	digits := fmt.Sprintf("%.0f", v)
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return sign + digits
}
