package simnet

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

// Exchange is one request of a host to a broker, and its answer.
type Exchange struct {
	Host        *Host // nil: a replayed request
	Broker      string
	Key         int16
	Version     int16
	Correlation int32
	Request     []byte // the frame with its size; not to be changed

	link *link
}

// Replay has the request arrive once more after a while, over a connection of
// its own: the duplicate that a client makes that gives up a connection, and
// sends the request again, while the first one is on its way still. Nobody
// hears its answer.
func (x *Exchange) Replay(after time.Duration) {
	n := x.link.net
	time.AfterFunc(after, func() {
		e, err := n.connect(context.Background(), nil, x.Broker)
		if err != nil {
			return // the broker is gone
		}
		n.mu.Lock()
		closed := n.closed
		n.replays = append(n.replays, e)
		n.mu.Unlock()
		if closed {
			e.link.reset()
		}
		defer func() {
			n.mu.Lock()
			n.replays = slices.DeleteFunc(n.replays, func(o *end) bool { return o == e })
			n.mu.Unlock()
			_ = e.Close()
		}()
		if _, err := e.Write(x.Request); err == nil {
			_, _ = e.Read(make([]byte, 4)) // until it is answered
		}
	})
}

// Stall keeps what the host writes on this connection, from now to then, until
// then; called before a request is sent, that request too. It arrives even
// though the host has given up the connection, and made others, meanwhile.
func (x *Exchange) Stall(until time.Time) { extend(&x.link.stall, until) }

// Moment is where in an exchange a trigger acts.
type Moment int

// The moments of an exchange.
const (
	// BeforeSent is before the request is on its way: cut then, the broker
	// never gets it.
	BeforeSent Moment = iota
	// AfterAnswered is when the broker has executed the request, and its answer is not
	// on its way yet: cut then, the host never hears of it.
	AfterAnswered
)

// Trigger ties an action to a request.
type Trigger struct {
	Key  int16 // which requests count
	Nth  int   // which of them, from now on; 0 and 1: the next
	When Moment
	// Do is called once, in the goroutine that writes. It must not wait.
	Do func(x *Exchange)
}

type trigger struct {
	Trigger
	seen int
}

// On sets a trigger. Cancel takes it off again, if it has not acted yet.
func (h *Host) On(t Trigger) (cancel func()) {
	tr := &trigger{Trigger: t}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dead {
		return func() {}
	}
	h.triggers = append(h.triggers, tr)
	h.watch.Store(int32(len(h.triggers)))
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.drop(tr)
	}
}

func (h *Host) drop(tr *trigger) {
	h.triggers = slices.DeleteFunc(h.triggers, func(o *trigger) bool { return o == tr })
	h.watch.Store(int32(len(h.triggers)))
}

// act calls what is due.
func (h *Host) act(when Moment, x *Exchange) {
	if h == nil || h.watch.Load() == 0 {
		return
	}
	var due []*trigger
	h.mu.Lock()
	for _, tr := range h.triggers {
		if tr.When != when || tr.Key != x.Key {
			continue
		}
		if tr.seen++; tr.seen >= max(tr.Nth, 1) {
			due = append(due, tr)
		}
	}
	for _, tr := range due {
		h.drop(tr)
	}
	h.mu.Unlock()
	for _, tr := range due {
		tr.Do(x)
	}
}

// frames are the whole frames that b completes, copied.
func (e *end) frames(b []byte) (whole [][]byte, err error) {
	e.wmu.Lock()
	defer e.wmu.Unlock()
	e.partial = append(e.partial, b...)
	for rest := e.partial; ; {
		e.partial = rest
		if len(rest) < 4 {
			break
		}
		size := int(int32(binary.BigEndian.Uint32(rest)))
		if size < 4 || size > 1<<30 {
			return nil, fmt.Errorf("what is written is not a Kafka frame: its size would be %d", size)
		}
		if len(rest) < 4+size {
			break
		}
		whole = append(whole, rest[:4+size:4+size])
		rest = rest[4+size:]
	}
	if len(e.partial) == 0 {
		e.partial = nil
	}
	return whole, nil
}

// request sends a frame of the client.
func (e *end) request(frame []byte) error {
	if len(frame) < 12 {
		return opError("write", string(e.remote), fmt.Errorf("a Kafka request of %d bytes has no header", len(frame)))
	}
	x := &Exchange{
		Host:        e.host,
		Broker:      e.link.broker,
		Key:         int16(binary.BigEndian.Uint16(frame[4:])),
		Version:     int16(binary.BigEndian.Uint16(frame[6:])),
		Correlation: int32(binary.BigEndian.Uint32(frame[8:])),
		Request:     frame,
		link:        e.link,
	}
	e.host.act(BeforeSent, x)
	e.link.mu.Lock()
	e.link.pending = append(e.link.pending, x)
	e.link.mu.Unlock()
	return e.send(frame, 0)
}

// answer sends a frame of the broker.
func (e *end) answer(frame []byte) error {
	if len(frame) < 8 {
		return opError("write", string(e.remote), fmt.Errorf("a Kafka answer of %d bytes has no header", len(frame)))
	}
	x := e.link.answered(int32(binary.BigEndian.Uint32(frame[4:])))
	var at int64
	if x != nil {
		if f := e.link.net.filter; f != nil {
			var when time.Time
			if frame, when = f(x, frame); !when.IsZero() {
				at = when.UnixNano()
			}
		}
		x.Host.act(AfterAnswered, x)
	}
	err := e.send(frame, at)
	e.in.wake()
	return err
}

// answered takes the request with the correlation off the pending ones.
// Those before it get no answer (a Produce without acknowledgment).
func (l *link) answered(correlation int32) *Exchange {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, x := range l.pending {
		if x.Correlation == correlation {
			l.busy.Add(-int64(i + 1))
			if l.pending = l.pending[i+1:]; len(l.pending) == 0 {
				l.pending = nil
			}
			return x
		}
	}
	return nil
}
