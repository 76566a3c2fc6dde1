package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/choreography-go/choreography/cmd/choreo/internal/check"
	"github.com/choreography-go/choreography/cmd/choreo/internal/tree"
)

// mostListed bounds the lists of what is wrong.
const mostListed = 20

// result is what a run of the demo found. Its fields are those of
// --output=json.
type result struct {
	Run    string `json:"run"`
	Orders int    `json:"orders"`
	check.Report

	// Seconds is the time from the first POST to the last outcome, Rate the
	// orders per second in it.
	Seconds float64 `json:"seconds"`
	Rate    float64 `json:"ordersPerSecond"`
	// Latency is from when an order's POST was to start to when its outcome
	// was read back, read committed, in milliseconds.
	Latency quantiles `json:"latencyMs"`
	// Retried counts orders that were sent more than once.
	Retried int `json:"retried"`
	// Kills counts the SIGKILLs by service.
	Kills map[string]int `json:"kills,omitempty"`
	Seed  uint64         `json:"seed,omitempty"`
	// Refused lists orders that were not accepted; the first only.
	Refused []string `json:"refused,omitempty"`
	// Unsettled says why it is not known whether the services are done; then
	// no verdict is good.
	Unsettled string   `json:"unsettled,omitempty"`
	Notes     []string `json:"notes,omitempty"`
}

type quantiles struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func (r *result) good() bool { return r.Unfinished == 0 && r.Wrong == 0 && r.Unsettled == "" }

func (r *result) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

func (r *result) write(w io.Writer, output string) error {
	if output == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	var b strings.Builder
	if err := r.text(&b); err != nil {
		return err
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// text writes the report for people; its last line is the verdict.
func (r *result) text(b *strings.Builder) error {
	for _, o := range check.Outcomes {
		events := r.Examples[o]
		if len(events) == 0 {
			continue
		}
		fmt.Fprintf(b, "\n%s, flow %s:\n", o, events[0].Flow)
		if err := tree.Write(b, events); err != nil {
			return err
		}
	}
	fmt.Fprintf(b, "\n%d orders in %.1f s: %.1f orders/s\n", r.Orders, r.Seconds, r.Rate)
	fmt.Fprintf(b, "POST to outcome: p50 %.1f ms, p99 %.1f ms, longest %.1f ms\n", r.Latency.P50, r.Latency.P99, r.Latency.Max)
	if r.Kills != nil {
		total, each := 0, make([]string, 0, len(services))
		for _, s := range services {
			total += r.Kills[s]
			each = append(each, fmt.Sprintf("%s %d", s, r.Kills[s]))
		}
		fmt.Fprintf(b, "%d kills (%s), seed %d; %d orders were sent again\n", total, strings.Join(each, ", "), r.Seed, r.Retried)
	}
	if r.Expired > 0 {
		fmt.Fprintf(b, "%d orders had expired when they ended\n", r.Expired)
	}
	violations := make([]string, len(r.Violations))
	for i, v := range r.Violations {
		violations[i] = v.String()
	}
	list(b, "wrong", violations)
	list(b, "unfinished", r.Lacking)
	list(b, "not accepted", r.Refused)
	list(b, "note", r.Notes)
	if r.Unsettled != "" {
		list(b, "unsettled", []string{r.Unsettled})
	}
	fmt.Fprintf(b, "demo: %d orders, %d confirmed, %d declined, %d refunded, %d out of stock, %d unfinished, %d wrong\n",
		r.Orders, r.Confirmed, r.Declined, r.Refunded, r.Short, r.Unfinished, r.Wrong)
	return nil
}

func list(b *strings.Builder, what string, lines []string) {
	for i, l := range lines {
		if i == mostListed {
			fmt.Fprintf(b, "%s: and %d more\n", what, len(lines)-i)
			return
		}
		fmt.Fprintf(b, "%s: %s\n", what, l)
	}
}
