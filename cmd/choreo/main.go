// Command choreo is the tool for people who build with the choreo runtime: a
// broker for development, the demo of the order flow, and what operators do with
// dead letters and flows that are stuck. It starts services as processes and looks at what they say; it
// never reaches into them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

type commands struct {
	Broker brokerCommand `cmd:"" help:"Run a broker for development, with its data in a directory."`
	Demo   demoCommand   `cmd:"" help:"Place orders with the three example services and check everything they say."`
	Dlq    dlqCommand    `cmd:"" name:"dlq" help:"Dead letters of a service: list, show, replay or discard them. Connects by the environment variables of services: KAFKA_BROKERS, TOPIC_PREFIX, KAFKA_TLS, KAFKA_SASL_MECHANISM and so on."`
	Stuck  stuckCommand  `cmd:"" help:"Flows of a service that are stuck, because attempts, compensations or deadlines fail: list them, make the next attempt now, skip it, or say that it was done by hand. Connects as dlq does."`
	Flow   flowCommand   `cmd:"" help:"What a service remembers of a flow. Connects as dlq does."`
}

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // the command failed, or the demo found something wrong
	exitUsage  = 2 // the command line is wrong
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// streams are where a command writes.
type streams struct{ out, err io.Writer }

// errFailed ends a command whose output says already what is wrong.
var errFailed = errors.New("failed")

// exited is the panic by which kong's --help leaves the parser.
type exited int

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (code int) {
	defer func() {
		if p := recover(); p != nil {
			e, ok := p.(exited)
			if !ok {
				panic(p)
			}
			code = int(e)
		}
	}()
	var c commands
	parser, err := kong.New(&c,
		kong.Name("choreo"),
		kong.Description("Tools for event-driven choreography on Kafka."),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { panic(exited(code)) }),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(streams{stdout, stderr}),
	)
	if err != nil {
		return fail(stderr, err, exitFailed)
	}
	command, err := parser.Parse(args)
	if err != nil {
		return fail(stderr, fmt.Errorf("%w\nsee choreo --help", err), exitUsage)
	}
	switch err := command.Run(); {
	case err == nil:
		return exitOK
	case errors.Is(err, errFailed):
		return exitFailed
	default:
		return fail(stderr, err, exitFailed)
	}
}

func fail(w io.Writer, err error, code int) int {
	_, _ = fmt.Fprintln(w, "choreo:", err) // there is nowhere else to say it
	return code
}
