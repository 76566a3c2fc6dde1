package integration

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/choreography-go/choreography/choreo"
)

// childVariable names the service that this process is to run instead of tests.
const childVariable = "INTEGRATION_SERVICE"

func TestMain(m *testing.M) {
	if name := os.Getenv(childVariable); name != "" {
		os.Exit(runService(name))
	}
	code := m.Run()
	shared.close()
	os.Exit(code)
}

// runService runs a declared service as its own main would.
func runService(name string) int {
	declare, ok := services[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "%s=%s: no such service\n", childVariable, name)
		return 2
	}
	cfg, err := choreo.LoadConfig(os.Environ())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := declare().Run(ctx, cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
