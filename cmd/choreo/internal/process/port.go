package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// FreeAddrs returns n different addresses on 127.0.0.1 on which nobody listens.
// Their ports lie below those that systems give to outgoing connections, so
// that no such connection takes one while the process that listens there is
// restarted.
func FreeAddrs(ctx context.Context, n int) ([]string, error) {
	const first, last = 20_000, 32_000
	var open []net.Listener
	defer func() {
		for _, l := range open {
			_ = l.Close() // nothing was accepted
		}
	}()
	var addrs []string
	for range 50 * n {
		if len(addrs) == n || ctx.Err() != nil {
			break
		}
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(first+rand.IntN(last-first)))
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
		if err != nil {
			continue // taken
		}
		open = append(open, l)
		addrs = append(addrs, addr)
	}
	if len(addrs) == n {
		return addrs, nil
	}
	return nil, fmt.Errorf("find %d free ports from %d to %d on 127.0.0.1: %w", n, first, last, cmp.Or(ctx.Err(), errors.New("nearly all are taken")))
}
