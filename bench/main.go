// Command bench compares choreo with what its users would otherwise write, on
// one broker or cluster and in one run, and says what it found: as a table or
// as JSON, and into a directory as JSON, plots and a part of a Markdown page.
// Every contender's output is checked; one that loses, doubles or reorders
// orders is an error, not a figure.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/choreography-go/choreography/bench/internal/contenders"
	"github.com/choreography-go/choreography/bench/internal/measure"
	"github.com/choreography-go/choreography/bench/internal/report"
	"github.com/choreography-go/choreography/internal/contender"
)

// asContender, as the first argument, makes the program one of the contenders.
const asContender = "contender"

func main() {
	if len(os.Args) == 3 && os.Args[1] == asContender {
		contend(measure.Contender(os.Args[2])) // ends the process if it fails
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// contend is the main function of a contender's process.
func contend(c measure.Contender) {
	contender.Main(func(ctx context.Context, s contender.Setup, m *contender.Meter) error {
		switch c {
		case measure.Loop:
			return contenders.Loop(ctx, s, m)
		case measure.Session:
			return contenders.Session(ctx, s, m)
		case measure.Reaction, measure.Bounded:
			return contenders.Reaction(ctx, s, m)
		case measure.Step:
			return contenders.Step(ctx, s, m)
		case measure.Saga:
			return contenders.Saga(ctx, s, m)
		default:
			return fmt.Errorf("there is no contender %q in this program", c)
		}
	})
}

// options are the arguments.
type options struct {
	suite
	brokers     []string
	rawPipeline string
	output      string
	dir, page   string
	command     string
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	var brokers, only, sizes string
	var brief bool
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&brokers, "brokers", "", "brokers, each host:port, separated by commas; required")
	f.BoolVar(&brief, "quick", false, "take about a minute: to see that everything works, not for figures to be relied on")
	f.StringVar(&o.rawPipeline, "rawpipeline", "", "program of the raw pipeline; default: rawpipeline beside this program")
	f.StringVar(&only, "contenders", "", "some of "+names(measure.Contenders())+", separated by commas; default: all")
	f.StringVar(&sizes, "sizes", "", "records per commit, separated by commas; 0: as many as there are")
	rounds := f.Int("rounds", 0, "rounds; default 3")
	latencies := f.Int("latencies", -1, "orders of a round that are sent one at a time")
	overload := f.Duration("overload", -1, "how long to offer a service three times what it can take; 0: not at all")
	budget := f.Duration("budget", 0, "time within which a further round must end to be begun")
	f.StringVar(&o.output, "output", "table", "what to print: table or json")
	f.StringVar(&o.dir, "dir", "", "directory for the results as JSON and the plots; default: none are written")
	f.StringVar(&o.page, "page", "", "Markdown page whose part about this kind of cluster is to be replaced")
	f.StringVar(&o.command, "command", "", "command to name in the results")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.suite = usual()
	if brief {
		o.suite = quick()
	}
	o.progress = stderr
	override(&o.rounds, *rounds, *rounds > 0)
	override(&o.latencies, *latencies, *latencies >= 0)
	override(&o.overload, *overload, *overload >= 0)
	override(&o.budget, *budget, *budget > 0)

	var wrong []error
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if f.NArg() > 0 {
		complain("%q is not an option; see -help", f.Arg(0))
	}
	if brokers == "" {
		complain("-brokers is missing: give host:port of one or more brokers, separated by commas (make bench KAFKA_BROKERS=…)")
	}
	o.brokers = strings.Split(brokers, ",")
	if o.output != "table" && o.output != "json" {
		complain("-output %q: it can be table or json", o.output)
	}
	if only != "" {
		o.contenders = nil
		for name := range strings.SplitSeq(only, ",") {
			c := measure.Contender(name)
			if !slices.Contains(measure.Contenders(), c) {
				complain("-contenders %q: there are %s", name, names(measure.Contenders()))
			}
			o.contenders = append(o.contenders, c)
		}
	}
	if sizes != "" {
		o.sizes = nil
		for text := range strings.SplitSeq(sizes, ",") {
			n, err := strconv.Atoi(text)
			if err != nil || n < 0 || n > 5000 {
				complain("-sizes %q: each is a number from 0 to 5000", text)
			}
			o.sizes = append(o.sizes, n)
		}
	}
	return o, errors.Join(wrong...)
}

func override[T any](to *T, v T, given bool) {
	if given {
		*to = v
	}
}

func names(cs []measure.Contender) string {
	var s []string
	for _, c := range cs {
		s = append(s, string(c))
	}
	return strings.Join(s, ", ")
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	if o.rawPipeline == "" {
		o.rawPipeline = filepath.Join(filepath.Dir(self), "rawpipeline")
	}
	results := report.Results{
		Taken: time.Now().UTC().Truncate(time.Second), Command: o.command,
		Machine: report.Machine{Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, Cores: runtime.NumCPU()},
	}
	if err := o.measure(ctx, self, &results); err != nil {
		return err
	}
	if o.dir != "" {
		if err := results.Write(o.dir); err != nil {
			return err
		}
	}
	if o.page != "" {
		if err := results.Replace(o.page, o.dir); err != nil {
			return err
		}
	}
	if o.output == "json" {
		return results.JSON(stdout)
	}
	return results.Table(stdout)
}

// measure runs the suite and cleans up after it.
func (o options) measure(ctx context.Context, self string, results *report.Results) (err error) {
	rig, err := measure.NewRig(ctx, o.brokers, func(c measure.Contender) []string {
		if c == measure.Pipeline {
			return []string{o.rawPipeline}
		}
		return []string{self, asContender, string(c)}
	})
	if err != nil {
		return err
	}
	defer func() {
		tidy, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		err = errors.Join(err, rig.Close(tidy))
	}()
	results.Brokers = rig.Brokers
	if o.page != "" {
		if err := results.Fits(o.page); err != nil {
			return err
		}
	}
	return o.runAll(ctx, rig, results)
}
