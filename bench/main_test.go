package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/choreography-go/choreography/bench/internal/measure"
	"github.com/choreography-go/choreography/bench/internal/report"
	"github.com/choreography-go/choreography/internal/contender"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// fraudVariable makes the program one that handles every order, and says so,
// and then does with them what its value says.
const fraudVariable = "BENCH_TEST_FRAUD"

// The tests' program is the contenders' too, as bench is.
func TestMain(m *testing.M) {
	if what := os.Getenv(fraudVariable); what != "" {
		contender.Main(func(ctx context.Context, s contender.Setup, meter *contender.Meter) error {
			return fraud(ctx, what, s, meter)
		})
		return
	}
	if len(os.Args) == 3 && os.Args[1] == asContender {
		contend(measure.Contender(os.Args[2]))
		return
	}
	os.Exit(m.Run())
}

// rawPipeline builds the program of the raw pipeline.
func rawPipeline(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rawpipeline")
	if runtime.GOOS == "windows" {
		path += ".exe"
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, "github.com/choreography-go/choreography/choreo/internal/rawpipeline")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the raw pipeline: %v\n%s", err, out)
	}
	return path
}

func embedded(t *testing.T, brokers int) string {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(brokers), kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return strings.Join(cluster.ListenAddrs(), ",")
}

// On the embedded broker every contender is measured and found to be right.
func TestEverythingIsMeasured(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	page := filepath.Join(dir, "page.md")
	if err := os.WriteFile(page, []byte("<!-- 3-brokers: begin -->\n<!-- 3-brokers: end -->\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	err := run(t.Context(), []string{
		"-brokers", embedded(t, 3), "-rawpipeline", rawPipeline(t), "-quick", "-sizes", "10", "-latencies", "5", "-overload", "300ms",
		"-output", "json", "-dir", filepath.Join(dir, "plots"), "-page", page,
	}, &out, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	var r report.Results
	if err := json.Unmarshal([]byte(out.String()), &r); err != nil {
		t.Fatalf("%v:\n%s", err, out.String())
	}
	// The embedded cluster puts leaders where it likes, sometimes all on one broker.
	if len(r.Rates) != len(measure.Contenders()) || r.Brokers != 3 || r.Leaders < 1 || r.Rounds != 1 {
		t.Errorf("%d contenders on %d brokers, over %d leaders, %d rounds", len(r.Rates), r.Brokers, r.Leaders, r.Rounds)
	}
	for _, x := range r.Rates {
		if x.Rate.Median <= 0 || x.InCommit.Median <= 0 || x.Allocs.Median <= 0 || x.Contender != measure.Pipeline && runtime.GOOS == "linux" && x.CPUMicros.Median <= 0 {
			t.Errorf("%s: %+v", x.Contender, x)
		}
		switch x.Contender {
		case measure.Loop, measure.Session, measure.Pipeline, measure.Bounded:
			if x.InCommit.Max > 10 {
				t.Errorf("%s takes %v per commit, want at most 10", x.Contender, x.InCommit.Max)
			}
		}
	}
	for _, x := range r.Latencies {
		if x.Orders != 5 || x.P50 <= 0 || x.P999 < x.P50 {
			t.Errorf("%s: %+v", x.Contender, x)
		}
	}
	if len(r.Latencies) != len(measure.Contenders())-1 {
		t.Errorf("latencies of %d contenders", len(r.Latencies))
	}
	if o := r.Overload; o == nil || o.Peak <= 0 || o.Handled <= 0 || len(o.Points) < 2 {
		t.Errorf("overload: %+v", o)
	}
	if b, err := os.ReadFile(page); err != nil || !strings.Contains(string(b), "3 brokers, outputs over") {
		t.Errorf("the page: %v\n%s", err, b)
	}
}

func TestAContenderThatIsNotThereIsAnError(t *testing.T) {
	t.Parallel()
	err := run(t.Context(), []string{
		"-brokers", embedded(t, 1), "-rawpipeline", filepath.Join(t.TempDir(), "none"), "-quick", "-sizes", "10", "-latencies", "0", "-overload", "0", "-contenders", "pipeline",
	}, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "start pipeline") {
		t.Errorf("run returned %v", err)
	}
}

// fraud reads all orders and puts them out, unless it is gone, with the first one
// lost, doubled or behind the next of its key.
func fraud(ctx context.Context, what string, s contender.Setup, m *contender.Meter) error {
	if what == "gone" {
		return errors.New("gone")
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(s.Brokers...), kgo.ConsumeTopics(s.In), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DefaultProduceTopic(s.Out))
	if err != nil {
		return err
	}
	defer client.Close()
	var orders []*kgo.Record
	for want := s.Marks[len(s.Marks)-1]; int64(len(orders)) < want; {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		fetches.EachRecord(func(r *kgo.Record) { orders = append(orders, &kgo.Record{Key: r.Key, Value: r.Value}) })
	}
	again := slices.IndexFunc(orders[1:], func(r *kgo.Record) bool { return string(r.Key) == string(orders[0].Key) }) + 1
	switch what {
	case "lost":
		orders = orders[1:]
	case "doubled":
		first := *orders[0]
		orders = append(orders, &first)
	case "reordered":
		orders[0], orders[again] = orders[again], orders[0]
	}
	handled := func() {
		for _, mark := range s.Marks {
			m.Add(int(mark))
		}
	}
	if what == "late" { // as if the orders of transactions that failed had been counted too
		handled()
	}
	for _, r := range orders {
		if err := client.ProduceSync(ctx, r).FirstErr(); err != nil {
			return err
		}
	}
	if what != "late" {
		handled()
	}
	<-ctx.Done()
	return nil
}

// A contender that does not do its work is an error, whatever its figures.
func TestAFraudIsAnError(t *testing.T) {
	brokers := embedded(t, 1)
	fed := quick().backlog(measure.Pipeline, 10)
	for what, want := range map[string]string{
		"honest": "", "late": "", "lost": fmt.Sprintf("1 of %d orders did not come out", fed), "doubled": "1 orders came out more than once", "reordered": "came out after",
		"gone": "the contender ended too early",
	} {
		t.Run(what, func(t *testing.T) {
			t.Setenv(fraudVariable, what)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err := run(ctx, []string{"-brokers", brokers, "-rawpipeline", os.Args[0], "-quick", "-sizes", "10", "-latencies", "0", "-overload", "0", "-contenders", "pipeline"}, io.Discard, io.Discard)
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("run returned %v, want %q", err, want)
			}
		})
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"":                                        "-brokers is missing",
		"-brokers a:1 more":                       `"more" is not an option`,
		"-brokers a:1 -output xml":                "it can be table or json",
		"-brokers a:1 -contenders loop,x":         `-contenders "x": there are loop, session`,
		"-brokers a:1 -sizes 1,-1":                `-sizes "-1"`,
		"-brokers a:1 -sizes 10000":               `-sizes "10000"`,
		"-brokers a:1,b:2 -quick -contenders all": `-contenders "all"`,
	} {
		_, err := parse(strings.Fields(args), io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", args, err, want)
		}
	}
	o, err := parse(strings.Fields("-brokers a:1,b:2 -quick -contenders loop,saga -sizes 1,0 -overload 0 -latencies 0 -rounds 2 -budget 5m"), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if len(o.brokers) != 2 || len(o.contenders) != 2 || len(o.sizes) != 2 || o.overload != 0 || o.latencies != 0 || o.rounds != 2 || o.budget != 5*time.Minute {
		t.Errorf("%+v", o)
	}
}

func TestBacklogsAreLongEnough(t *testing.T) {
	t.Parallel()
	onCluster := usual()
	onCluster.cluster = true
	for _, s := range []suite{usual(), quick(), onCluster} {
		for _, c := range s.contenders {
			for _, size := range append(s.sizes, 7, 5000) {
				if n := s.backlog(c, size); n < 40 || n < int64(20*size) || n > 400_000 {
					t.Errorf("share %d: %s at %d per commit has %d orders", s.share, c, size, n)
				}
			}
		}
	}
}
