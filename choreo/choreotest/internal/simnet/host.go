package simnet

import (
	"context"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Host is one process on the network. Its methods may be called at any time,
// from a trigger too. Make it with Network.Host.
type Host struct {
	// Name is the name that the host was made with. It must not be changed.
	Name string

	net    *Network
	frozen atomic.Int64 // until then, in Unix nanoseconds
	slow   atomic.Int64
	watch  atomic.Int32 // number of triggers

	mu        sync.Mutex
	dead      bool
	ends      []*end
	listeners []net.Listener
	triggers  []*trigger
	random    *rand.Rand
}

// Dial connects to what a broker, this host ("localhost") or another (by its
// name) listens on. It is what a client takes as its dialer.
func (h *Host) Dial(ctx context.Context, _, address string) (net.Conn, error) {
	for first := true; ; first = false {
		h.mu.Lock()
		dead := h.dead
		if h.random == nil {
			h.random = h.net.random(h.Name, 0, 0)
		}
		var wait time.Duration
		if first {
			wait = h.net.delay(h.random) + h.net.delay(h.random)
		}
		h.mu.Unlock()
		if dead {
			return nil, opError("dial", address, os.NewSyscallError("connect", syscall.ENETDOWN))
		}
		wait = max(wait, time.Until(time.Unix(0, h.frozen.Load())))
		if wait <= 0 {
			break
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, opError("dial", address, ctx.Err())
		}
	}
	c, err := h.net.connect(ctx, h, address)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Listen listens for connections of this host (at localhost) and others (at
// its name), such as those to a service's HTTP server. The host part of the
// address is ignored.
func (h *Host) Listen(_, address string) (net.Listener, error) {
	l, err := h.net.listen(h, address, false)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dead {
		_ = l.Close()
		return nil, opError("listen", address, os.NewSyscallError("bind", syscall.ENETDOWN))
	}
	h.listeners = append(h.listeners, l)
	return l, nil
}

// Cut breaks all connections of the host. What was on the way over them, in
// either direction, is lost. What it had closed before is on its way still.
func (h *Host) Cut() {
	h.mu.Lock()
	ends := h.ends
	h.ends = nil
	h.mu.Unlock()
	for _, e := range ends {
		e.link.reset()
	}
}

// Kill takes the host off the network for good: its connections break, what it
// dials and listens on is refused, and nothing more gets out, from goroutines
// either that have not heard yet that their process is dead.
func (h *Host) Kill() {
	h.mu.Lock()
	h.dead = true
	ls := h.listeners
	h.listeners, h.triggers = nil, nil
	h.watch.Store(0)
	h.mu.Unlock()
	for _, l := range ls {
		_ = l.Close()
	}
	h.Cut()
}

// Revive makes the next process of this name, and kills this one if it is
// not dead yet. Faults and triggers of this one are not those of the next.
func (h *Host) Revive() *Host {
	h.Kill()
	h.net.mu.Lock()
	h.net.hosts = slices.DeleteFunc(h.net.hosts, func(o *Host) bool { return o == h })
	h.net.mu.Unlock()
	return h.net.Host(h.Name)
}

// Freeze stops the host's traffic until then: nothing gets in or out, dials
// wait. What it writes meanwhile gets out afterwards, even over connections
// that it has closed meanwhile: a zombie's last words.
func (h *Host) Freeze(until time.Time) { extend(&h.frozen, until) }

// Slow keeps what the host writes, from now to then, until then: it arrives
// late and in order, also where the host has given up the connection. What is
// sent to it is not delayed.
func (h *Host) Slow(until time.Time) { extend(&h.slow, until) }

func extend(v *atomic.Int64, until time.Time) {
	for {
		old := v.Load()
		if old >= until.UnixNano() || v.CompareAndSwap(old, until.UnixNano()) {
			return
		}
	}
}

// stuck is when what the host writes now may get out.
func (h *Host) stuck() int64 { return max(h.frozen.Load(), h.slow.Load()) }
