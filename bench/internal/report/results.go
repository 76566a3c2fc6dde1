// Package report says what was measured: as a table for a terminal, as JSON, as
// a part of a Markdown page and as plots. It measures nothing.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/choreography-go/choreography/bench/internal/measure"
)

// Results are all figures of one run of the benchmark.
type Results struct {
	Taken time.Time `json:"taken"`
	// Command is how to measure again.
	Command string `json:"command"`
	Machine
	// Brokers of the cluster, and the number of them that lead the partitions of
	// an output.
	Brokers int `json:"brokers"`
	Leaders int `json:"leaders"`
	// Rounds that were run, of those that were asked for: the others did not fit
	// into the time.
	Rounds int `json:"rounds"`
	Asked  int `json:"asked"`

	Rates     []Rates           `json:"rates"`
	Latencies []Latencies       `json:"latencies"`
	Overload  *measure.Overload `json:"overload,omitempty"`
}

// Machine is where the contenders ran.
type Machine struct {
	Go     string `json:"go"`
	System string `json:"system"`
	Cores  int    `json:"cores"`
}

// Rates are the runs of one contender at one size of commit.
type Rates struct {
	Contender measure.Contender `json:"contender"`
	// PerCommit is what was asked for; 0: as many as there are.
	PerCommit int            `json:"per_commit"`
	Runs      []measure.Rate `json:"runs"`

	// What follows is computed from the runs.
	Rate      Spread `json:"per_second"`
	InCommit  Spread `json:"in_commit"` // what a commit really took
	CPUMicros Spread `json:"cpu_us"`
	Allocs    Spread `json:"allocs"`
}

// Latencies are the runs of one contender, one order at a time.
type Latencies struct {
	Contender measure.Contender `json:"contender"`
	Orders    int               `json:"orders"`

	// Quantiles of all orders, in milliseconds.
	P50  float64 `json:"p50_ms"`
	P99  float64 `json:"p99_ms"`
	P999 float64 `json:"p99_9_ms"`
	// Rounds are the medians of the rounds.
	Rounds Spread `json:"p50_of_rounds_ms"`

	rounds [][]float64
}

// AddRate adds a run.
func (r *Results) AddRate(c measure.Contender, perCommit int, run measure.Rate) {
	at := slices.IndexFunc(r.Rates, func(x Rates) bool { return x.Contender == c && x.PerCommit == perCommit })
	if at < 0 {
		at = len(r.Rates)
		r.Rates = append(r.Rates, Rates{Contender: c, PerCommit: perCommit})
	}
	x := &r.Rates[at]
	x.Runs = append(x.Runs, run)
	of := func(figure func(measure.Rate) float64) Spread {
		values := make([]float64, len(x.Runs))
		for i, run := range x.Runs {
			values[i] = figure(run)
		}
		return spreadOf(values)
	}
	x.Rate = of(func(m measure.Rate) float64 { return m.PerSecond })
	x.InCommit = of(func(m measure.Rate) float64 { return m.PerCommit })
	x.CPUMicros = of(func(m measure.Rate) float64 { return m.CPUMicros })
	x.Allocs = of(func(m measure.Rate) float64 { return m.Allocs })
}

// AddLatency adds a round.
func (r *Results) AddLatency(c measure.Contender, took []time.Duration) {
	at := slices.IndexFunc(r.Latencies, func(x Latencies) bool { return x.Contender == c })
	if at < 0 {
		at = len(r.Latencies)
		r.Latencies = append(r.Latencies, Latencies{Contender: c})
	}
	x := &r.Latencies[at]
	round := make([]float64, len(took))
	for i, d := range took {
		round[i] = float64(d) / float64(time.Millisecond)
	}
	x.rounds = append(x.rounds, round)
	all := slices.Concat(x.rounds...)
	medians := make([]float64, len(x.rounds))
	for i, round := range x.rounds {
		medians[i] = quantile(round, 0.5)
	}
	x.Orders, x.P50, x.P99, x.P999, x.Rounds = len(all), quantile(all, 0.5), quantile(all, 0.99), quantile(all, 0.999), spreadOf(medians)
}

// sizes are the sizes of commits that were measured, as many as there are last.
func (r *Results) sizes() []int {
	var sizes []int
	for _, x := range r.Rates {
		if !slices.Contains(sizes, x.PerCommit) {
			sizes = append(sizes, x.PerCommit)
		}
	}
	slices.SortFunc(sizes, func(a, b int) int {
		switch {
		case a == b:
			return 0
		case a == 0:
			return 1
		case b == 0:
			return -1
		}
		return a - b
	})
	return sizes
}

// contenders are those that were measured, in their usual order.
func (r *Results) contenders() []measure.Contender {
	return slices.DeleteFunc(measure.Contenders(), func(c measure.Contender) bool {
		return !slices.ContainsFunc(r.Rates, func(x Rates) bool { return x.Contender == c }) &&
			!slices.ContainsFunc(r.Latencies, func(x Latencies) bool { return x.Contender == c })
	})
}

func (r *Results) rates(c measure.Contender, perCommit int) (Rates, bool) {
	at := slices.IndexFunc(r.Rates, func(x Rates) bool { return x.Contender == c && x.PerCommit == perCommit })
	if at < 0 {
		return Rates{}, false
	}
	return r.Rates[at], true
}

func (r *Results) latencies(c measure.Contender) (Latencies, bool) {
	at := slices.IndexFunc(r.Latencies, func(x Latencies) bool { return x.Contender == c })
	if at < 0 {
		return Latencies{}, false
	}
	return r.Latencies[at], true
}

// JSON writes everything.
func (r *Results) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("write the results as JSON: %w", err)
	}
	return nil
}
