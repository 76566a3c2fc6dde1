package txn

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// wire is the network between a client and real or embedded brokers: what it
// does to a request is decided when the request is on its way.
type wire struct {
	t  testing.TB
	mu sync.Mutex
	// treat says what becomes of a request; nil: all pass.
	treat func(*frame) fate
}

type fate int

const (
	pass fate = iota
	// lost: the request is not delivered, and the connection breaks.
	lost
	// unanswered: the broker does what is asked; then the connection breaks.
	unanswered
)

// frame is a request as the client wrote it.
type frame struct {
	key, version int16
	addr         string
	raw          []byte
}

// request is what the frame asks for.
func (f *frame) request(t testing.TB) kmsg.Request {
	t.Helper()
	req := kmsg.RequestForKey(f.key)
	req.SetVersion(f.version)
	body := kbin.Reader{Src: f.raw[12:]}
	body.NullableString() // the client's id
	if req.IsFlexible() {
		kmsg.SkipTags(&body)
	}
	if err := req.ReadFrom(body.Src); err != nil {
		t.Errorf("a %s: %v", kmsg.NameForKey(f.key), err)
	}
	return req
}

func (w *wire) set(treat func(*frame) fate) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.treat = treat
}

// first treats the first request with one of the keys so, and hands it over.
func (w *wire) first(what fate, keys ...int16) <-chan *frame {
	caught := make(chan *frame, 1)
	var met atomic.Bool
	w.set(func(f *frame) fate {
		if !slices.Contains(keys, f.key) || met.Swap(true) {
			return pass
		}
		caught <- f
		return what
	})
	return caught
}

// every treats all requests with the key so, until set is called again.
func (w *wire) every(key int16, what fate) <-chan *frame {
	caught := make(chan *frame, 1)
	w.set(func(f *frame) fate {
		if f.key != key {
			return pass
		}
		select {
		case caught <- f:
		default:
		}
		return what
	})
	return caught
}

func (w *wire) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &wireConn{Conn: c, w: w, addr: addr}, nil
}

// deliver sends a request by a connection of its own, as the network does late
// or twice, and returns the answer.
func (w *wire) deliver(f *frame) kmsg.Response {
	w.t.Helper()
	c, err := net.DialTimeout("tcp", f.addr, patience)
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(f.raw); err != nil {
		w.t.Fatal(err)
	}
	answer, err := readFrame(c)
	if err != nil {
		w.t.Fatalf("no answer to %s: %v", kmsg.NameForKey(f.key), err)
	}
	req := kmsg.RequestForKey(f.key)
	req.SetVersion(f.version)
	resp := req.ResponseKind()
	body := kbin.Reader{Src: answer[8:]}
	if req.IsFlexible() {
		kmsg.SkipTags(&body)
	}
	if err := resp.ReadFrom(body.Src); err != nil {
		w.t.Fatalf("the answer to %s: %v", kmsg.NameForKey(f.key), err)
	}
	return resp
}

// readFrame reads one frame with its size.
func readFrame(r io.Reader) ([]byte, error) {
	size := make([]byte, 4)
	if _, err := io.ReadFull(r, size); err != nil {
		return nil, err
	}
	f := make([]byte, 4+binary.BigEndian.Uint32(size))
	copy(f, size)
	_, err := io.ReadFull(r, f[4:])
	return f, err
}

var errCut = errors.New("the connection is cut")

// wireConn is one connection. Requests are written by one goroutine of the
// client, answers read by another.
type wireConn struct {
	net.Conn
	w    *wire
	addr string
	out  []byte // of a request not yet complete
	in   []byte // of an answer not yet read

	mu   sync.Mutex
	drop map[int32]bool // correlation ids of answers to lose
}

func (c *wireConn) Write(p []byte) (int, error) {
	c.out = append(c.out, p...)
	for len(c.out) >= 4 && len(c.out) >= 4+int(binary.BigEndian.Uint32(c.out)) {
		n := 4 + int(binary.BigEndian.Uint32(c.out))
		f := &frame{addr: c.addr, raw: append([]byte(nil), c.out[:n]...),
			key: int16(binary.BigEndian.Uint16(c.out[4:])), version: int16(binary.BigEndian.Uint16(c.out[6:]))}
		c.out = c.out[n:]
		c.w.mu.Lock()
		treat := c.w.treat
		c.w.mu.Unlock()
		what := pass
		if treat != nil {
			what = treat(f)
		}
		switch what {
		case lost: // the client learns of it by reading
			_ = c.Close()
			return len(p), nil
		case unanswered:
			c.mu.Lock()
			if c.drop == nil {
				c.drop = map[int32]bool{}
			}
			c.drop[int32(binary.BigEndian.Uint32(f.raw[8:]))] = true
			c.mu.Unlock()
		}
		if _, err := c.Conn.Write(f.raw); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

func (c *wireConn) Read(p []byte) (int, error) {
	if len(c.in) == 0 {
		f, err := readFrame(c.Conn)
		if err != nil {
			return 0, err
		}
		c.mu.Lock()
		dropped := c.drop[int32(binary.BigEndian.Uint32(f[4:]))]
		c.mu.Unlock()
		if dropped {
			_ = c.Close()
			return 0, errCut
		}
		c.in = f
	}
	n := copy(p, c.in)
	c.in = c.in[n:]
	return n, nil
}
