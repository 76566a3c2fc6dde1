package report

import (
	"fmt"

	"github.com/choreography-go/choreography/bench/internal/measure"
)

// aim is what choreo wants to reach.
type aim struct {
	what string
	want float64
	got  float64
	// less: got is to be at most want, else at least.
	less bool
	unit string
}

func (a aim) met() bool {
	if a.less {
		return a.got <= a.want
	}
	return a.got >= a.want
}

// flat is how much greater memory may be in the second half of an overload.
const flat = 1.1

// aims are those that can be judged by what was measured.
func (r *Results) aims() []aim {
	var all []aim
	ratio := func(c, to measure.Contender, perCommit int, want float64) {
		x, ok := r.rates(c, perCommit)
		y, ok2 := r.rates(to, perCommit)
		if ok && ok2 {
			all = append(all, aim{what: fmt.Sprintf("%s, %s per commit, times the %s", c.Title(), sizeText(perCommit), to.Title()), want: want, got: x.Rate.Median / y.Rate.Median})
		}
	}
	for _, size := range []int{1000, 0} {
		ratio(measure.Reaction, measure.Loop, size, 0.8)
		ratio(measure.Reaction, measure.Session, size, 3)
	}
	for _, x := range []struct {
		size int
		want float64
	}{{1, 12}, {10, 10}, {100, 7}} {
		ratio(measure.Reaction, measure.Session, x.size, x.want)
		ratio(measure.Bounded, measure.Session, x.size, x.want)
	}
	ratio(measure.Step, measure.Loop, 0, 0.45)

	if x, ok := r.latencies(measure.Reaction); ok {
		if y, ok := r.latencies(measure.Session); ok {
			all = append(all,
				aim{what: "choreo Reaction, one at a time, p50, times the GroupTransactSession", want: 1.15, got: x.P50 / y.P50, less: true},
				aim{what: "choreo Reaction, one at a time, p99, times the GroupTransactSession", want: 1, got: x.P99 / y.P99, less: true})
		}
	}
	for _, size := range []int{1000, 0} {
		x, ok := r.rates(measure.Reaction, size)
		y, ok2 := r.rates(measure.Pipeline, size)
		if ok && ok2 {
			what := fmt.Sprintf("choreo Reaction, %s per commit, over the raw pipeline: ", sizeText(size))
			all = append(all,
				aim{what: what + "CPU", want: 1, got: x.CPUMicros.Median - y.CPUMicros.Median, less: true, unit: " µs"},
				aim{what: what + "allocations", want: 4, got: x.Allocs.Median - y.Allocs.Median, less: true})
		}
	}
	if o := r.Overload; o != nil {
		all = append(all, aim{what: "overload: rate, of the peak", want: 0.95, got: o.Handled / o.Peak})
		for _, x := range []struct {
			what   string
			memory func(measure.Point) uint64
		}{{"live heap", measure.LiveHeap}, {"resident memory", measure.Resident}} {
			if first, second := o.Halves(x.memory); first > 0 {
				all = append(all, aim{what: "overload: " + x.what + " of the second half, times that of the first", want: flat, got: float64(second) / float64(first), less: true})
			}
		}
	}
	return all
}

func (r *Results) aimed() *grid {
	g := &grid{title: "What choreo aims at", header: []string{"", "aim", "measured", ""}}
	for _, a := range r.aims() {
		relation, verdict := "at least", "reached"
		if a.less {
			relation = "at most"
		}
		if !a.met() {
			verdict = "missed"
		}
		g.add(a.what, fmt.Sprintf("%s %g%s", relation, a.want, a.unit), fmt.Sprintf("%.2f%s", a.got, a.unit), verdict)
	}
	return g
}
