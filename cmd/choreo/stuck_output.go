package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/choreography-go/choreography/choreo/deadletter"
	"github.com/choreography-go/choreography/choreo/operator"
	"github.com/choreography-go/choreography/cmd/choreo/internal/stuck"
)

// shownItem are the fields of what is stuck with --output=json.
type shownItem struct {
	Item     string        `json:"item"`
	Kind     operator.Kind `json:"kind"`
	Step     string        `json:"step"`
	Flow     string        `json:"flow"`
	Key      string        `json:"key,omitempty"` // if it is another than the flow
	Task     int32         `json:"task"`
	Since    time.Time     `json:"since"`
	Age      float64       `json:"ageSeconds"`
	Attempts int           `json:"attempts,omitempty"`
	Next     *time.Time    `json:"next,omitempty"`
	Error    string        `json:"error,omitempty"`
	Waiting  int           `json:"waiting"`
	Type     string        `json:"type,omitempty"`
	Source   string        `json:"source,omitempty"`
	ID       string        `json:"id,omitempty"`
}

func show(i operator.Item, now time.Time) shownItem {
	x := shownItem{
		Item: i.Hash(), Kind: i.Kind, Step: deadletter.Line([]byte(i.Name), 256), Flow: deadletter.Line([]byte(i.Flow), 256), Task: i.Task,
		Since: i.Since.UTC(), Age: max(0, now.Sub(i.Since).Seconds()), Attempts: i.Attempts, Error: deadletter.Line([]byte(i.Error), 1024),
		Waiting: i.Waiting, Type: i.Type, Source: i.Source, ID: i.ID,
	}
	if key := deadletter.Line([]byte(i.Key), 256); key != x.Flow {
		x.Key = key
	}
	if !i.Next.IsZero() {
		next := i.Next.UTC()
		x.Next = &next
	}
	return x
}

// writeStuck lists what is stuck.
func writeStuck(w io.Writer, output, journal string, f stuck.Found, limit int, now time.Time) error {
	shown := f.Items[:min(len(f.Items), limit)]
	if output == "json" {
		all := []shownItem{}
		for _, i := range shown {
			all = append(all, show(i, now))
		}
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(struct {
			Journal    string      `json:"journal"`
			Items      []shownItem `json:"items"`
			Stuck      int         `json:"stuck"`
			Waiting    int         `json:"waiting"`
			Joins      int         `json:"joins"`
			Unreadable int         `json:"unreadable"`
		}{journal, all, len(f.Items), behind(f.Items), f.Joins, f.Unreadable})
	}
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	if len(shown) > 0 {
		fmt.Fprintln(table, "ITEM\tKIND\tSTEP\tFLOW\tFOR\tATTEMPTS\tNEXT\tWAITING\tERROR")
	}
	for _, i := range shown {
		x := show(i, now)
		attempts, next := "-", "-"
		if x.Attempts > 0 {
			attempts = fmt.Sprint(x.Attempts)
		}
		if x.Next != nil {
			if next = "now"; x.Next.After(now) {
				next = "in " + roughly(x.Next.Sub(now))
			}
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", x.Item, x.Kind, or(x.Step, "-"), or(x.Flow, "-"),
			roughly(now.Sub(i.Since)), attempts, next, x.Waiting, or(deadletter.Line([]byte(x.Error), 80), "-"))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if more := len(f.Items) - len(shown); more > 0 {
		fmt.Fprintf(&b, "and %d more; see --limit\n", more)
	}
	if f.Joins > 0 {
		fmt.Fprintf(&b, "note: %d joins wait for another event; see --kind=join\n", f.Joins)
	}
	if f.Unreadable > 0 {
		fmt.Fprintf(&b, "note: %d records cannot be read: they are damaged, or of a newer version than this tool\n", f.Unreadable)
	}
	fmt.Fprintf(&b, "%s: %d stuck, %d events wait behind them\n", journal, len(f.Items), behind(f.Items))
	_, err := io.WriteString(w, b.String())
	return err
}

func behind(items []operator.Item) (n int) {
	for _, i := range items {
		n += i.Waiting
	}
	return n
}

// roughly is a duration as people say it.
func roughly(d time.Duration) string {
	switch d = max(0, d); {
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}

// answers writes what became of commands, one by one.
type answers struct {
	w     io.Writer
	json  bool
	dry   bool
	all   []shownAnswer
	count map[operator.Outcome]int
	n     int
}

// shownAnswer are the fields of an answer with --output=json.
type shownAnswer struct {
	Do      operator.Do      `json:"do"`
	Outcome operator.Outcome `json:"outcome"` // or unanswered, or dry-run
	Item    string           `json:"item,omitempty"`
	Flow    string           `json:"flow"`
	Step    string           `json:"step,omitempty"`
	Command string           `json:"command,omitempty"`
	Audit   *operator.Audit  `json:"audit,omitempty"`
}

// What stands in place of an outcome.
const (
	unanswered operator.Outcome = "unanswered"
	dryRun     operator.Outcome = "dry-run"
)

func (o *answers) answer(a stuck.Answer) error {
	x := shownAnswer{Do: a.Do, Outcome: unanswered, Flow: deadletter.Line([]byte(a.Key), 256), Step: deadletter.Line([]byte(a.Name), 256), Command: a.ID, Audit: a.Audit}
	if a.Do != operator.Erase {
		x.Item = a.Hash()
	}
	switch {
	case o.dry:
		x.Outcome = dryRun
	case a.Audit != nil:
		x.Outcome = a.Audit.Outcome
	}
	if o.count == nil {
		o.count = map[operator.Outcome]int{}
	}
	o.count[x.Outcome]++
	o.n++
	if o.json {
		o.all = append(o.all, x)
		return nil
	}
	if o.n > mostListed {
		return nil
	}
	line := fmt.Sprintf("%s: %s", x.Outcome, x.Do)
	if o.dry {
		line = "would " + string(x.Do)
	}
	line += fmt.Sprintf(" flow %s", x.Flow)
	if x.Step != "" {
		line += fmt.Sprintf(" at %s (%s, %s)", x.Step, a.Kind, x.Item)
	}
	_, err := fmt.Fprintln(o.w, line+details(a.Audit))
	return err
}

// details is what an audit tells besides.
func details(a *operator.Audit) string {
	if a == nil {
		return ""
	}
	var parts []string
	if a.Outcome != operator.Done && a.Error != "" {
		parts = append(parts, a.Error)
	}
	if len(a.Said) > 0 {
		parts = append(parts, "said "+strings.Join(a.Said, ", "))
	}
	if len(a.Dead) > 0 {
		parts = append(parts, "dead letter: "+strings.Join(a.Dead, ", "))
	}
	if a.Erased > 0 {
		parts = append(parts, fmt.Sprintf("%d slots erased", a.Erased))
	}
	if len(parts) == 0 {
		return ""
	}
	return ": " + strings.Join(parts, "; ")
}

// end writes what is said in the end; failed is why not all was done.
func (o *answers) end(failed string) error {
	if o.json {
		if o.all == nil {
			o.all = []shownAnswer{}
		}
		sum := struct {
			DryRun   bool                     `json:"dryRun"`
			Answers  []shownAnswer            `json:"answers"`
			Outcomes map[operator.Outcome]int `json:"outcomes"`
			Error    string                   `json:"error,omitempty"`
		}{o.dry, o.all, o.count, failed}
		e := json.NewEncoder(o.w)
		e.SetIndent("", "  ")
		return e.Encode(sum)
	}
	if more := o.n - mostListed; more > 0 {
		if _, err := fmt.Fprintf(o.w, "and %d more; --output=json lists all\n", more); err != nil {
			return err
		}
	}
	if failed != "" {
		return nil
	}
	var parts []string
	for _, outcome := range slices.Sorted(maps.Keys(o.count)) {
		parts = append(parts, fmt.Sprintf("%d %s", o.count[outcome], outcome))
	}
	line := strings.Join(parts, ", ")
	if o.count[unanswered] > 0 {
		line += "; what is not answered is done when the service runs, and its audit event tells"
	}
	if line == "" {
		return nil
	}
	_, err := fmt.Fprintln(o.w, line)
	return err
}
