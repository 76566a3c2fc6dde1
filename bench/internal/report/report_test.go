package report

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/choreography-go/choreography/bench/internal/measure"
)

// sample has round figures, so that what is computed from them is known.
func sample() *Results {
	r := &Results{Taken: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Machine: Machine{"go1.26", "linux/amd64", 2}, Brokers: 1, Leaders: 1, Rounds: 3, Asked: 3, Command: "make bench"}
	for i, factor := range []float64{1, 0.5, 2} { // median 1
		for _, size := range []int{1000, 0, 1} {
			for c, rate := range map[measure.Contender]float64{measure.Loop: 100_000, measure.Session: 20_000, measure.Pipeline: 120_000, measure.Reaction: 90_000, measure.Step: 40_000} {
				m := measure.Rate{Orders: 1000, PerSecond: factor * rate, PerCommit: float64(size), CPUMicros: 2, Allocs: 3}
				if c == measure.Reaction {
					m.CPUMicros, m.Allocs = 2.5, 9+float64(i)
				}
				r.AddRate(c, size, m)
			}
		}
	}
	for c, ms := range map[measure.Contender]int{measure.Session: 4, measure.Reaction: 5} {
		for range 2 {
			var took []time.Duration
			for i := range 100 {
				took = append(took, time.Duration(ms*100+i)*time.Millisecond/100)
			}
			r.AddLatency(c, took)
		}
	}
	r.Overload = &measure.Overload{Work: 2 * time.Millisecond, Handlers: 16, Peak: 1000, Offered: 3000, Lasted: 4 * time.Second, Handled: 960}
	for i := range 4 {
		r.Overload.Points = append(r.Overload.Points, measure.Point{At: time.Duration(i) * time.Second, Handled: int64(960 * i), Live: uint64(10+i) << 20, Resident: 50 << 20})
	}
	return r
}

func TestTable(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := sample().Table(&b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	for _, want := range []string{
		"one broker, go1.26 on linux/amd64 with 2 cores, 3 of 3 rounds",
		"orders per commit     1 ", "1,000", "saturated",
		"90,000 (45,000 to 180,000)",
		"0.90 / 4.50",
		"2.5 (+0.5)", "10.0 (+7.0)",
		"choreo Reaction       200", "4.50 to 4.50", // 4 ms and on to 5: p50 4.495
		"96.0 %", "11.0 and 13.0 MiB",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the table does not have %q:\n%s", want, text)
			return
		}
	}
}

func TestAims(t *testing.T) {
	t.Parallel()
	verdicts := map[string]string{}
	for _, row := range sample().aimed().rows {
		verdicts[row[0]] = row[2] + " " + row[3]
	}
	for what, want := range map[string]string{
		"choreo Reaction, 1,000 per commit, times the at-least-once loop":           "0.90 reached",
		"choreo Reaction, saturated per commit, times the GroupTransactSession":     "4.50 reached",
		"choreo Reaction, 1 per commit, times the GroupTransactSession":             "4.50 missed",
		"choreo Step, saturated per commit, times the at-least-once loop":           "0.40 missed",
		"choreo Reaction, one at a time, p50, times the GroupTransactSession":       "1.22 missed",
		"choreo Reaction, 1,000 per commit, over the raw pipeline: CPU":             "0.50 µs reached",
		"choreo Reaction, saturated per commit, over the raw pipeline: allocations": "7.00 missed",
		"overload: rate, of the peak":                                               "0.96 reached",
		"overload: live heap of the second half, times that of the first":           "1.18 missed",
		"overload: resident memory of the second half, times that of the first":     "1.00 reached",
	} {
		if verdicts[what] != want {
			t.Errorf("%s: %q, want %q", what, verdicts[what], want)
		}
	}
	if g := (&Results{}).aimed(); len(g.rows) != 0 {
		t.Errorf("aims of nothing: %v", g.rows)
	}
}

func TestJSONCanBeReadAgain(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := sample().JSON(&b); err != nil {
		t.Fatal(err)
	}
	var again Results
	if err := json.Unmarshal([]byte(b.String()), &again); err != nil {
		t.Fatal(err)
	}
	x, ok := again.rates(measure.Reaction, 1000)
	if !ok || x.Rate != (Spread{90_000, 45_000, 180_000}) || len(x.Runs) != 3 {
		t.Errorf("read again: %+v", x)
	}
}

func TestWriteAndReplace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plots, page := filepath.Join(dir, "docs", "plots"), filepath.Join(dir, "docs", "page.md")
	r := sample()
	if err := r.Write(plots); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(page, []byte("above\n<!-- one-broker: begin -->\nold\n<!-- one-broker: end -->\nbelow\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time gives the same
		if err := r.Replace(page, plots); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	if !strings.HasPrefix(text, "above\n<!-- one-broker: begin -->\n2026-01-02") || !strings.HasSuffix(text, "<!-- one-broker: end -->\nbelow\n") || strings.Contains(text, "old") {
		t.Errorf("the page:\n%s", text)
	}
	for _, name := range []string{"one-broker-rate.svg", "one-broker-latency.svg", "one-broker-overload-rate.svg", "one-broker-overload-memory.svg", "one-broker.json"} {
		if !strings.Contains(text, "(plots/"+name+")") {
			t.Errorf("the page does not refer to %s", name)
		}
		b, err := os.ReadFile(filepath.Join(plots, name))
		if err != nil {
			t.Error(err)
		} else if strings.HasSuffix(name, ".svg") {
			wellFormed(t, name, string(b))
		}
	}
}

func wellFormed(t *testing.T, name, svg string) {
	t.Helper()
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

func TestReplaceNeedsItsComments(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "<!-- one-broker: begin -->", "<!-- one-broker: end --><!-- one-broker: begin -->", "<!-- 3-brokers: begin --><!-- 3-brokers: end -->"} {
		page := filepath.Join(t.TempDir(), "page.md")
		if err := os.WriteFile(page, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := sample().Replace(page, filepath.Dir(page)); err == nil || !strings.Contains(err.Error(), "add them") {
			t.Errorf("page %q: %v", text, err)
		}
		if b, _ := os.ReadFile(page); string(b) != text {
			t.Errorf("page %q was changed to %q", text, b)
		}
	}
}
