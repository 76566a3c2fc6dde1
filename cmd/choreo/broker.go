package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/twmb/franz-go/pkg/kfake"
)

// brokerCommand runs an embedded broker as a process of its own. It is for
// development: one node, no replication, no authentication.
type brokerCommand struct {
	Dir  string `required:"" help:"Directory of the data; made if it is not there. A restart with the same directory goes on with the same topics, offsets and transactions."`
	Addr string `default:"127.0.0.1:0" help:"Loopback address to listen on; port 0 takes a free one." placeholder:"HOST:PORT"`
}

// Validate is called by the parser.
func (b *brokerCommand) Validate() error {
	addr, err := netip.ParseAddrPort(b.Addr)
	if err != nil || !addr.Addr().IsLoopback() {
		return fmt.Errorf("--addr=%q: must be a loopback address and a port, such as 127.0.0.1:9092: the broker asks nobody for a password", b.Addr)
	}
	return nil
}

// Run serves until ctx ends, then saves what is not on disk yet.
func (b *brokerCommand) Run(ctx context.Context, s streams) error {
	if err := os.MkdirAll(b.Dir, 0o700); err != nil {
		return fmt.Errorf("make the broker's data directory: %w", err)
	}
	unlock, err := lockFile(filepath.Join(b.Dir, "choreo.lock"))
	if err != nil {
		return fmt.Errorf("--dir=%q: lock it: %w; does another broker use it?", b.Dir, err)
	}
	defer unlock()
	cluster, err := kfake.NewCluster(
		kfake.NumBrokers(1),
		kfake.DataDir(filepath.Join(b.Dir, "data")),
		kfake.ListenFn(func(network, _ string) (net.Listener, error) {
			return new(net.ListenConfig).Listen(ctx, network, b.Addr)
		}),
		kfake.WithLogger(kfake.BasicLogger(s.err, kfake.LogLevelWarn)),
	)
	if err != nil {
		return fmt.Errorf("start the broker with --dir=%q on %s: %w", b.Dir, b.Addr, err)
	}
	defer cluster.Close()
	if _, err := fmt.Fprintf(s.out, "KAFKA_BROKERS=%s\n", cluster.ListenAddrs()[0]); err != nil {
		return fmt.Errorf("say where the broker listens: %w", err)
	}
	<-ctx.Done()
	return nil
}
