package simnet

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Config says how a network behaves without faults.
type Config struct {
	// Seed of all delays.
	Seed uint64
	// Latency is the mean delay of what is written, one way. A delay is
	// between half and one and a half of it. Zero: none.
	Latency time.Duration
}

// A Filter treats a broker's answer before it is on the way: it says what is
// delivered, and not before when (zero: at once). It runs in the broker's
// goroutine that writes the answer; it must not wait, and it must not change
// or keep answer, which it may return.
type Filter func(x *Exchange, answer []byte) (delivered []byte, at time.Time)

// Network connects hosts and brokers. Create it with New.
type Network struct {
	cfg    Config
	filter Filter

	mu        sync.Mutex
	hosts     []*Host
	listeners map[string]*listener
	dials     map[string]uint64 // so far, by the two ends
	replays   []*end
	nextPort  int
	closed    bool
}

// New makes a network without hosts.
func New(cfg Config) *Network {
	return &Network{cfg: cfg, listeners: map[string]*listener{}, dials: map[string]uint64{}, nextPort: 40000}
}

// FilterAnswers has all answers of brokers pass through f. It must be called
// before the first connection is made.
func (n *Network) FilterAnswers(f Filter) { n.filter = f }

// Listen is how a broker listens (kfake's ListenFn): every host reaches it
// at the address, and what goes over its connections are Kafka's frames.
func (n *Network) Listen(_, address string) (net.Listener, error) {
	return n.listen(nil, address, true)
}

// Host makes a host: a process that is on the network under a name, such as
// one instance of a service. The name is also the one under which others dial
// what it listens on.
func (n *Network) Host(name string) *Host {
	h := &Host{Name: name, net: n}
	n.mu.Lock()
	defer n.mu.Unlock()
	h.dead = n.closed
	n.hosts = append(n.hosts, h)
	return h
}

// Close kills all hosts and closes all listeners and connections. Nothing is
// on the way any more, and no goroutine waits for it.
func (n *Network) Close() {
	n.mu.Lock()
	n.closed = true
	hosts, replays := slices.Clone(n.hosts), n.replays
	var ls []*listener
	for _, l := range n.listeners {
		ls = append(ls, l)
	}
	n.replays = nil
	n.mu.Unlock()
	for _, h := range hosts {
		h.Kill()
	}
	for _, e := range replays {
		e.link.reset()
	}
	for _, l := range ls {
		_ = l.Close()
	}
}

func (n *Network) listen(h *Host, address string, frames bool) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", address, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if port == "" || port == "0" {
		n.nextPort++
		port = strconv.Itoa(n.nextPort)
	}
	if h != nil {
		host = h.Name
	}
	key := net.JoinHostPort(host, port)
	switch {
	case n.closed:
		return nil, opError("listen", key, net.ErrClosed)
	case n.listeners[key] != nil:
		return nil, opError("listen", key, os.NewSyscallError("bind", syscall.EADDRINUSE))
	}
	l := &listener{net: n, host: h, address: key, frames: frames, conns: make(chan *end), closed: make(chan struct{})}
	n.listeners[key] = l
	return l, nil
}

// connect makes a connection to what listens at the address. From is nil for
// a connection that belongs to no host.
func (n *Network) connect(ctx context.Context, from *Host, address string) (*end, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("dial %q: %w", address, err)
	}
	n.mu.Lock()
	l := n.listeners[address]
	name := ""
	if from != nil {
		name = from.Name
		if loopback(host) { // its own listener goes before a broker
			if own := n.listeners[net.JoinHostPort(name, port)]; own != nil {
				l = own
			}
		}
	}
	if l == nil && loopback(host) {
		l = n.listeners[net.JoinHostPort("127.0.0.1", port)]
	}
	if l == nil || n.closed {
		n.mu.Unlock()
		return nil, opError("dial", address, os.NewSyscallError("connect", syscall.ECONNREFUSED))
	}
	pair := name + ">" + l.address
	n.dials[pair]++
	nth := n.dials[pair]
	n.mu.Unlock()

	client, server := newLink(n, from, l, name+"#"+strconv.FormatUint(nth, 10), pair, nth)
	if err := client.join(); err != nil {
		return nil, err
	}
	if err := server.join(); err != nil {
		client.link.reset()
		return nil, err
	}
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		err = opError("dial", address, os.NewSyscallError("connect", syscall.ECONNREFUSED))
	case <-ctx.Done():
		err = opError("dial", address, ctx.Err())
	}
	client.link.reset()
	_ = client.Close()
	_ = server.Close()
	return nil, err
}

// random is the source of the delays of one direction of a connection: which
// goroutine writes first on another connection changes nothing in it.
func (n *Network) random(pair string, nth uint64, direction uint64) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(pair))
	return rand.New(rand.NewPCG(n.cfg.Seed, h.Sum64()^(nth<<1|direction)))
}

func (n *Network) delay(r *rand.Rand) time.Duration {
	if n.cfg.Latency <= 0 {
		return 0
	}
	return n.cfg.Latency/2 + time.Duration(r.Int64N(int64(n.cfg.Latency)+1))
}

func loopback(host string) bool {
	return host == "localhost" || host == "127.0.0.1" || host == "" || host == "::1"
}

func opError(op, address string, err error) error {
	return &net.OpError{Op: op, Net: "sim", Addr: addr(address), Err: err}
}

type addr string

func (addr) Network() string  { return "tcp" }
func (a addr) String() string { return string(a) }

type listener struct {
	net     *Network
	host    *Host // nil: a broker
	address string
	frames  bool
	conns   chan *end
	once    sync.Once
	closed  chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, opError("accept", l.address, net.ErrClosed)
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.net.mu.Lock()
		defer l.net.mu.Unlock()
		delete(l.net.listeners, l.address)
	})
	return nil
}

func (l *listener) Addr() net.Addr { return addr(l.address) }
