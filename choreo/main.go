package choreo

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"reflect"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/choreography-go/choreography/choreo/contract"
	"github.com/twmb/franz-go/pkg/kadm"
)

// Setup prepares what a service's program needs before it runs, such as a
// TracerProvider: it may change the configuration that was read from the
// environment. stop, if not nil, is called when the run has ended, to flush and
// close. An error ends the program.
type Setup func(ctx context.Context, cfg *Config) (stop func(context.Context) error, err error)

// Exit codes of [Main].
const (
	exitDone  = 0 // stopped gracefully, or the command succeeded
	exitFail  = 1 // the run or the command failed
	exitUsage = 2 // wrong configuration, arguments or declarations
)

// setupStopTimeout bounds what the stop functions of setups take.
const setupStopTimeout = 5 * time.Second

// Main is the main function of a service's program. It runs the service with
// the configuration of the environment until SIGTERM or SIGINT, or does what the
// first argument says: run, topics, contract, health, version, --help. It ends the
// process: with code 0 after a graceful stop, 1 when the run failed, and 2 when
// configuration, arguments or declarations are wrong, all mistakes on standard
// error. A second signal ends the process at once, with code 1.
//
// Setups apply to run, in their order; their stop functions are called in
// reverse.
func Main(s *Service, setups ...Setup) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	go func() {
		<-signals
		cancel()
		<-signals
		fmt.Fprintf(os.Stderr, "%s: second signal: not stopping gracefully\n", s.name)
		os.Exit(exitFail)
	}()
	os.Exit(mainWith(ctx, s, os.Args[1:], os.Environ(), os.Stdout, os.Stderr, setups...))
}

// usageError is a mistake in the arguments.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

// program is one call of Main.
type program struct {
	service        *Service
	environ        []string
	stdout, stderr io.Writer
	setups         []Setup
}

// mainWith is Main without the process around it: it returns the exit code, and
// stops when ctx ends.
func mainWith(ctx context.Context, s *Service, args, environ []string, stdout, stderr io.Writer, setups ...Setup) int {
	p := &program{s, environ, stdout, stderr, setups}
	command := "run"
	if len(args) > 0 {
		command, args = args[0], args[1:]
	}
	var err error
	switch command {
	case "run":
		err = p.run(ctx, args)
	case "topics":
		err = p.topics(ctx, args)
	case "contract":
		err = p.contract(args)
	case "health":
		err = p.health(ctx, args)
	case "version", "--version", "-version":
		err = p.version(args)
	case "help", "--help", "-help", "-h":
		err = p.help()
	default:
		err = &usageError{fmt.Sprintf("unknown command %q; see %s --help", clip(command), s.name)}
	}
	return p.exit(err)
}

// exit prints what is wrong, one line for each mistake, and returns the code.
func (p *program) exit(err error) int {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return exitDone
	}
	code := exitFail
	for _, line := range p.lines(err, &code) {
		_, _ = fmt.Fprintf(p.stderr, "%s: %s\n", p.service.name, line)
	}
	return code
}

func (p *program) lines(err error, code *int) []string {
	switch e := err.(type) { //nolint:errorlint // what wraps one of these adds to it, and is printed whole
	case *DeclarationError:
		*code = exitUsage
		return texts(e.Mistakes)
	case *ConfigError:
		*code = exitUsage
		return texts(e.Problems)
	case *TopicsError:
		return texts(e.Problems)
	case *usageError:
		*code = exitUsage
	case interface{ Unwrap() []error }:
		if text := strings.Join(texts(e.Unwrap()), "\n"); text == err.Error() { // of errors.Join
			var all []string
			for _, x := range e.Unwrap() {
				all = append(all, p.lines(x, code)...)
			}
			return all
		}
	}
	return []string{bounded(err.Error())}
}

func texts[T any](all []T) []string {
	lines := make([]string, 0, len(all))
	for _, x := range all {
		lines = append(lines, fmt.Sprint(x))
	}
	return lines
}

// flags parses a command's arguments.
func (p *program) flags(command string, args []string, define func(*flag.FlagSet)) error {
	f := flag.NewFlagSet(command, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	define(f)
	err := f.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		_, _ = fmt.Fprintf(p.stdout, "%s %s:\n", p.service.name, command)
		f.SetOutput(p.stdout)
		f.PrintDefaults()
		return err
	case err != nil:
		return &usageError{fmt.Sprintf("%s: %v; see %s --help", command, err, p.service.name)}
	case f.NArg() > 0:
		return &usageError{fmt.Sprintf("%s: unexpected argument %q; see %s --help", command, clip(f.Arg(0)), p.service.name)}
	}
	return nil
}

// config reads the configuration and finds the mistakes of the declarations too.
func (p *program) config() (Config, error) {
	cfg, err := loadConfig(p.environ, p.stderr)
	if err = errors.Join(p.service.Validate(), err); err != nil {
		return Config{}, err
	}
	for _, w := range cfg.warnings {
		cfg.Logger.Warn("configuration", "warning", w)
	}
	return cfg, nil
}

func (p *program) run(ctx context.Context, args []string) (err error) {
	if err := p.flags("run", args, func(*flag.FlagSet) {}); err != nil {
		return err
	}
	cfg, err := p.config()
	if err != nil {
		return err
	}
	for _, setup := range p.setups {
		stop, setupErr := setup(ctx, &cfg)
		if stop != nil {
			defer func() {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), setupStopTimeout)
				defer cancel()
				if stopErr := stop(ctx); stopErr != nil {
					cfg.Logger.Warn("what was set up did not stop well", "error", stopErr)
				}
			}()
		}
		if setupErr != nil {
			return fmt.Errorf("set up: %w", setupErr)
		}
	}
	return p.service.Run(ctx, cfg)
}

// topicsTimeout bounds the topics command.
const topicsTimeout = time.Minute

func (p *program) topics(ctx context.Context, args []string) error {
	var apply bool
	var reset, from string
	if err := p.flags("topics", args, func(f *flag.FlagSet) {
		f.BoolVar(&apply, "apply", false, "create missing topics and set declared settings")
		f.StringVar(&reset, "reset", "", "decide where the service goes on in this `topic`, after its offsets were lost or it was created anew; all instances must be stopped")
		f.StringVar(&from, "from", "", "with --reset: `earliest or latest`")
	}); err != nil {
		return err
	}
	start, known := map[string]From{"earliest": Earliest, "latest": Latest}[from]
	switch {
	case reset == "" && from != "":
		return &usageError{"topics: --from needs --reset TOPIC"}
	case reset != "" && !known:
		return &usageError{fmt.Sprintf("topics: --reset needs --from earliest or --from latest, not %q", clip(from))}
	case reset != "" && apply:
		return &usageError{"topics: --apply and --reset are two commands; run one after the other"}
	}
	cfg, err := p.config()
	if err != nil {
		return err
	}
	cfg = cfg.withDefaults()
	plan := newPlan(p.service)
	ctx, cancel := context.WithTimeoutCause(ctx, topicsTimeout, fmt.Errorf("not done within %v; are KAFKA_BROKERS and the settings of TLS and SASL right?", topicsTimeout))
	defer cancel()
	say := func(format string, a ...any) { _, _ = fmt.Fprintf(p.stdout, format+"\n", a...) }
	switch {
	case reset != "":
		err = resetTopic(ctx, cfg, plan, reset, start, say)
	default:
		err = p.compareTopics(ctx, cfg, plan, apply, say)
	}
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w (%w)", err, context.Cause(ctx))
	}
	return err
}

func (p *program) compareTopics(ctx context.Context, cfg Config, plan *plan, apply bool, say func(string, ...any)) error {
	cl, err := adminClient(cfg)
	if err != nil {
		return err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	if apply {
		if err := applyTopics(ctx, adm, plan, cfg, say); err != nil {
			return err
		}
	} else {
		problems, err := topicProblems(ctx, adm, plan, cfg)
		if err != nil {
			return err
		}
		if len(problems) > 0 {
			return &TopicsError{plan.service, problems}
		}
	}
	for _, t := range topicsOf(plan, cfg) {
		say("topic %q is as it should be", t.name)
	}
	return nil
}

func (p *program) contract(args []string) error {
	var output string
	if err := p.flags("contract", args, func(f *flag.FlagSet) { f.StringVar(&output, "output", "text", "`json or text`") }); err != nil {
		return err
	}
	if output != "json" && output != "text" {
		return &usageError{fmt.Sprintf("contract: --output is %q; it must be json or text", clip(output))}
	}
	c, err := p.service.Contract()
	if err != nil {
		return err
	}
	if output == "json" {
		b, err := encodeContract(c)
		if err != nil {
			return err
		}
		_, err = p.stdout.Write(b)
		return err
	}
	return printContract(p.stdout, c)
}

func printContract(w io.Writer, c contract.Contract) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(format string, a ...any) { _, _ = fmt.Fprintf(t, format+"\n", a...) } // Flush returns the error
	line("%s, %d tasks", c.Service, c.Tasks)
	line("\nHEARS\tTOPIC\tCONTENT TYPE\tBY")
	for _, h := range c.Hears {
		var by []string
		for _, x := range h.By {
			by = append(by, fmt.Sprintf("%s (%s)", x.Name, x.Role))
		}
		if h.ViaInbox {
			by = append(by, "via inbox")
		}
		line("%s\t%s\t%s\t%s", h.Type, h.Topic, h.ContentType, strings.Join(by, ", "))
	}
	line("\nSAYS\tTOPIC\tCONTENT TYPE\tBY")
	for _, s := range c.Says {
		var by []string
		for _, x := range s.By {
			by = append(by, strings.TrimSpace(fmt.Sprintf("%s (%s)", x.Name, x.Kind)))
		}
		if s.Outcome != "" {
			by = append(by, "outcome "+s.Outcome)
		}
		line("%s\t%s\t%s\t%s", s.Type, s.Topic, s.ContentType, strings.Join(by, ", "))
	}
	if len(c.Deadlines) > 0 {
		line("\nDEADLINE\tWITHIN\tAFTER\tUNLESS\tSAYS")
	}
	for _, d := range c.Deadlines {
		line("%s\t%s\t%s\t%s\t%s", d.Name, cmp.Or(d.Within, "(by event)"), strings.Join(d.After, ", "), strings.Join(d.Unless, ", "), d.Emits)
	}
	if len(c.Joins) > 0 {
		line("\nJOIN\tHALVES\tSAYS")
	}
	for _, j := range c.Joins {
		var halves []string
		for _, types := range j.Halves {
			halves = append(halves, strings.Join(types, " or "))
		}
		line("%s\t%s\t%s", j.Name, strings.Join(halves, ", "), j.Emits)
	}
	if len(c.Limits) > 0 {
		line("\nLIMIT\tMAX CONCURRENT\tBREAKER")
	}
	for _, l := range c.Limits {
		most, breaker := "", ""
		if l.MaxConcurrent > 0 {
			most = strconv.Itoa(l.MaxConcurrent)
		}
		if b := l.Breaker; b != nil {
			breaker = fmt.Sprintf("failures %d of %d, open %s, probes %d", b.Failures, b.Of, b.Open, b.Probes)
		}
		line("%s\t%s\t%s", l.Name, most, breaker)
	}
	return t.Flush()
}

func (p *program) version(args []string) error {
	if err := p.flags("version", args, func(*flag.FlagSet) {}); err != nil {
		return err
	}
	version, revision, choreo, goVersion := "(unknown)", "", "", ""
	if b, ok := debug.ReadBuildInfo(); ok {
		version, goVersion = b.Main.Version, b.GoVersion
		for _, s := range b.Settings {
			if s.Key == "vcs.revision" {
				revision = " " + s.Value
			}
		}
		for _, d := range b.Deps {
			if d.Path == modulePath {
				choreo = ", choreo " + d.Version
			}
		}
	}
	_, err := fmt.Fprintf(p.stdout, "%s %s%s%s, %s\n", p.service.name, version, revision, choreo, goVersion)
	return err
}

const modulePath = "github.com/choreography-go/choreography"

func (p *program) help() error {
	t := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	line := func(format string, a ...any) { _, _ = fmt.Fprintf(t, format+"\n", a...) } // Flush returns the error
	n := p.service.name
	line("%s is a service of a choreography on Kafka.\n", n)
	line("Commands:")
	line("  %s [run]\trun until SIGTERM or SIGINT, then stop gracefully; a second signal ends it at once", n)
	line("  %s topics\tcompare the topics with what the service needs", n)
	line("  %s topics --apply\tcreate missing topics and set declared settings; never deletes, never changes partition counts", n)
	line("  %s topics --reset TOPIC --from earliest|latest\tdecide where the service goes on in a topic, after its offsets were lost or it was created anew", n)
	line("  %s contract [--output json|text]\tprint what the service hears and says", n)
	line("  %s health\task the service that runs beside it whether it is ready, for health checks in containers", n)
	line("  %s version\tprint versions", n)
	line("  %s --help\tprint this", n)
	line("\nExit codes: 0 done or stopped gracefully, 1 failed, 2 wrong configuration, arguments or declarations.")
	line("\nEnvironment:")
	for f := range reflect.TypeFor[environment]().Fields() {
		text := f.Tag.Get("help")
		if d := f.Tag.Get("envDefault"); d != "" {
			text += " (default " + d + ")"
		}
		line("  %s\t%s", f.Tag.Get("env"), text)
	}
	return t.Flush()
}
