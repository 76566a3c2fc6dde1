package simnet

import (
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// link is a connection: two ends and what is on the way between them.
type link struct {
	net    *Network
	client *end
	server *end
	broker string       // the broker's address; empty: not Kafka's frames
	stall  atomic.Int64 // what the client writes arrives no sooner, in Unix nanoseconds
	busy   atomic.Int64 // requests that the broker has read and not answered

	mu      sync.Mutex
	pending []*Exchange // requests that have no answer yet, oldest first
}

// reset breaks the connection. What is on the way is lost.
func (l *link) reset() {
	for _, e := range [...]*end{l.client, l.server} {
		e.in.mu.Lock()
		e.in.broken, e.in.queue = true, nil
		e.in.mu.Unlock()
		e.in.wake()
		e.leave()
	}
}

// stream is one direction: it is read at one end and written at the other.
type stream struct {
	mu     sync.Mutex
	queue  []segment
	fin    bool  // the writer has closed
	last   int64 // when what was written last arrives: nothing overtakes it
	broken bool
	gone   bool // the reader has closed
	notify chan struct{}
}

// segment is what one write put on the way.
type segment struct {
	at   int64 // Unix nanoseconds
	data []byte
}

func (s *stream) wake() {
	select {
	case s.notify <- struct{}{}:
	default:
	}
}

// end is one end of a connection. One goroutine at a time may read from it.
type end struct {
	link          *link
	host          *Host // nil: a broker, or nobody's
	in, out       *stream
	random        *rand.Rand
	local, remote addr
	timer         *time.Timer // of the reader
	deadline      atomic.Int64

	wmu     sync.Mutex
	partial []byte // of a frame that is not whole yet
	closed  bool
}

func newLink(n *Network, from *Host, to *listener, local, pair string, nth uint64) (client, server *end) {
	l := &link{net: n}
	if to.frames {
		l.broker = to.address
	}
	up, down := &stream{notify: make(chan struct{}, 1)}, &stream{notify: make(chan struct{}, 1)}
	l.client = &end{link: l, host: from, in: down, out: up, random: n.random(pair, nth, 0), local: addr(local), remote: addr(to.address)}
	l.server = &end{link: l, host: to.host, in: up, out: down, random: n.random(pair, nth, 1), local: addr(to.address), remote: addr(local)}
	return l.client, l.server
}

// join makes the end one of its host's.
func (e *end) join() error {
	if e.host == nil {
		return nil
	}
	e.host.mu.Lock()
	defer e.host.mu.Unlock()
	if e.host.dead {
		return opError("dial", string(e.remote), os.NewSyscallError("connect", syscall.ENETDOWN))
	}
	e.host.ends = append(e.host.ends, e)
	return nil
}

func (e *end) leave() {
	if e.host == nil {
		return
	}
	e.host.mu.Lock()
	defer e.host.mu.Unlock()
	if i := slices.Index(e.host.ends, e); i >= 0 {
		e.host.ends = slices.Delete(e.host.ends, i, i+1)
	}
}

// Read waits until something has arrived.
func (e *end) Read(b []byte) (int, error) {
	s := e.in
	for {
		now := time.Now().UnixNano()
		var until int64 // look again then; 0: when woken
		if e.host != nil {
			if until = e.host.frozen.Load(); until <= now {
				until = 0
			}
		}
		busy := e == e.link.server && e.link.busy.Load() > 0 // a broker at work looks for nothing
		deadline := e.deadline.Load()
		s.mu.Lock()
		switch {
		case s.gone:
			s.mu.Unlock()
			return 0, opError("read", string(e.remote), net.ErrClosed)
		case busy && (s.broken || s.fin && len(s.queue) == 0):
		case s.broken:
			s.mu.Unlock()
			return 0, opError("read", string(e.remote), os.NewSyscallError("read", syscall.ECONNRESET))
		case deadline != 0 && deadline <= now:
			s.mu.Unlock()
			return 0, opError("read", string(e.remote), os.ErrDeadlineExceeded)
		case until != 0: // frozen
		case len(s.queue) > 0 && s.queue[0].at <= now:
			n := copy(b, s.queue[0].data)
			if s.queue[0].data = s.queue[0].data[n:]; len(s.queue[0].data) == 0 {
				s.queue[0].data = nil
				if e == e.link.server && e.link.broker != "" {
					e.link.busy.Add(1) // a segment is a whole request
				}
				if s.queue = s.queue[1:]; len(s.queue) == 0 {
					s.queue = nil
				}
			}
			s.mu.Unlock()
			return n, nil
		case len(s.queue) > 0:
			until = s.queue[0].at
		case s.fin && s.last <= now:
			s.mu.Unlock()
			return 0, io.EOF
		case s.fin:
			until = s.last
		}
		s.mu.Unlock()
		if deadline != 0 && (until == 0 || deadline < until) {
			until = deadline
		}
		e.wait(now, until)
	}
}

func (e *end) wait(now, until int64) {
	if until == 0 {
		<-e.in.notify
		return
	}
	if e.timer == nil {
		e.timer = time.NewTimer(time.Duration(until - now))
	} else {
		e.timer.Reset(time.Duration(until - now))
	}
	select {
	case <-e.in.notify:
		e.timer.Stop()
	case <-e.timer.C:
	}
}

// Write puts b on the way; where Kafka's frames are spoken, as soon as a
// frame is whole.
func (e *end) Write(b []byte) (int, error) {
	e.wmu.Lock()
	closed := e.closed
	e.wmu.Unlock()
	if closed {
		return 0, opError("write", string(e.remote), net.ErrClosed)
	}
	if e.link.broker == "" {
		return len(b), e.send(slices.Clone(b), 0)
	}
	frames, err := e.frames(b)
	if err != nil {
		return 0, opError("write", string(e.remote), err)
	}
	for _, f := range frames {
		if e == e.link.client {
			err = e.request(f)
		} else {
			err = e.answer(f)
		}
		if err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// send puts data on the way; it arrives no sooner than at (0: after the usual
// delay).
func (e *end) send(data []byte, at int64) error {
	at = max(at, e.arrival())
	s := e.out
	s.mu.Lock()
	defer s.wake()
	defer s.mu.Unlock()
	if s.broken {
		return opError("write", string(e.remote), os.NewSyscallError("write", syscall.ECONNRESET))
	}
	if s.gone || s.fin { // nobody reads it
		return nil
	}
	s.last = max(s.last, at)
	s.queue = append(s.queue, segment{at: s.last, data: data})
	return nil
}

// arrival is when what is written now arrives.
func (e *end) arrival() int64 {
	e.wmu.Lock()
	at := time.Now().Add(e.link.net.delay(e.random)).UnixNano()
	e.wmu.Unlock()
	if e.host != nil {
		at = max(at, e.host.stuck())
	}
	if e == e.link.client {
		at = max(at, e.link.stall.Load())
	}
	return at
}

// Close ends reading here at once, and at the other end after what is on the
// way.
func (e *end) Close() error {
	e.wmu.Lock()
	was := e.closed
	e.closed = true
	e.wmu.Unlock()
	if was {
		return nil
	}
	at := e.arrival()
	e.out.mu.Lock()
	e.out.fin, e.out.last = true, max(e.out.last, at)
	e.out.mu.Unlock()
	e.out.wake()
	e.in.mu.Lock()
	e.in.gone, e.in.queue = true, nil
	e.in.mu.Unlock()
	e.in.wake()
	e.leave()
	return nil
}

func (e *end) LocalAddr() net.Addr  { return e.local }
func (e *end) RemoteAddr() net.Addr { return e.remote }

func (e *end) SetDeadline(t time.Time) error { return e.SetReadDeadline(t) }

func (e *end) SetReadDeadline(t time.Time) error {
	var d int64
	if !t.IsZero() {
		d = max(t.UnixNano(), 1)
	}
	e.deadline.Store(d)
	e.in.wake()
	return nil
}

// SetWriteDeadline does nothing: a write never waits.
func (e *end) SetWriteDeadline(time.Time) error { return nil }
