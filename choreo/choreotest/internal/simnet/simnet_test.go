package simnet

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

const latency = 10 * time.Millisecond

// longest is how long what is written takes at most without a fault.
const longest = latency*3/2 + time.Microsecond

// broker reads frames and keeps when they came; it answers each unless mute.
type broker struct {
	t    *testing.T
	net  *Network
	addr string
	got  chan arrival
	mute bool
}

type arrival struct {
	key  int16
	corr int32
	at   time.Time
}

func newBroker(t *testing.T, n *Network) *broker {
	t.Helper()
	l, err := n.Listen("tcp", "127.0.0.1:9092")
	if err != nil {
		t.Fatal(err)
	}
	b := &broker{t: t, net: n, addr: l.Addr().String(), got: make(chan arrival, 100)}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go b.serve(c)
		}
	}()
	return b
}

func (b *broker) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		var head [12]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return
		}
		if _, err := r.Discard(int(binary.BigEndian.Uint32(head[:])) - 8); err != nil {
			b.t.Errorf("half a frame got to the broker: %v", err)
			return
		}
		corr := binary.BigEndian.Uint32(head[8:])
		b.got <- arrival{int16(binary.BigEndian.Uint16(head[4:])), int32(corr), time.Now()}
		if b.mute {
			continue
		}
		answer := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, corr)
		if _, err := c.Write(append(answer, "good"...)); err != nil {
			return
		}
	}
}

// arrivals are the correlation ids of what has got to the broker.
func (b *broker) arrivals() (corrs []int32) {
	for {
		select {
		case a := <-b.got:
			corrs = append(corrs, a.corr)
		default:
			return corrs
		}
	}
}

func request(key int16, corr int32) []byte {
	f := binary.BigEndian.AppendUint16([]byte{0, 0, 0, 12}, uint16(key))
	f = binary.BigEndian.AppendUint16(f, 0)
	f = binary.BigEndian.AppendUint32(f, uint32(corr))
	return append(f, "body"...)
}

func dial(t *testing.T, h *Host, address string) net.Conn {
	t.Helper()
	c, err := h.Dial(context.Background(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func send(t *testing.T, c net.Conn, key int16, corr int32) {
	t.Helper()
	if _, err := c.Write(request(key, corr)); err != nil {
		t.Fatal(err)
	}
}

// hears reads one answer.
func hears(t *testing.T, c net.Conn, corr int32) {
	t.Helper()
	var b [12]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		t.Fatalf("answer %d: %v", corr, err)
	}
	if got := int32(binary.BigEndian.Uint32(b[4:])); got != corr {
		t.Fatalf("answer %d, want %d", got, corr)
	}
}

func hearsNothing(t *testing.T, c net.Conn, why error) {
	t.Helper()
	var b [1]byte
	if n, err := c.Read(b[:]); n != 0 || !errors.Is(err, why) {
		t.Fatalf("read %d bytes, %v; want %v", n, err, why)
	}
}

func gets(t *testing.T, b *broker, want ...int32) {
	t.Helper()
	synctest.Wait()
	if got := b.arrivals(); !slices.Equal(got, want) {
		t.Fatalf("the broker got %v, want %v", got, want)
	}
}

// in runs a test in a bubble on a network with one broker.
func in(t *testing.T, cfg Config, test func(t *testing.T, n *Network, b *broker)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := New(cfg)
		test(t, n, newBroker(t, n))
		n.Close()
		synctest.Wait()
	})
}

func TestDelay(t *testing.T) {
	in(t, Config{Seed: 1, Latency: latency}, func(t *testing.T, n *Network, b *broker) {
		start := time.Now()
		c := dial(t, n.Host("a"), b.addr)
		if d := time.Since(start); d < latency || d > 2*longest {
			t.Errorf("a dial took %v", d)
		}
		for i := range int32(50) {
			start := time.Now()
			send(t, c, 0, i)
			if time.Since(start) != 0 {
				t.Fatal("a write waited")
			}
			hears(t, c, i)
			if d := time.Since(start); d < latency || d > 2*longest {
				t.Errorf("the answer took %v", d)
			}
		}
	})
}

func TestDelaysComeFromTheSeed(t *testing.T) {
	times := func(seed uint64) (ds []time.Duration) {
		in(t, Config{Seed: seed, Latency: latency}, func(t *testing.T, n *Network, b *broker) {
			start := time.Now()
			c := dial(t, n.Host("a"), b.addr)
			for i := range int32(10) {
				send(t, c, 0, i)
				hears(t, c, i)
				ds = append(ds, time.Since(start))
			}
		})
		return ds
	}
	first := times(7)
	if again := times(7); !slices.Equal(first, again) {
		t.Errorf("one seed, other delays:\n%v\n%v", first, again)
	}
	if other := times(8); slices.Equal(first, other) {
		t.Errorf("another seed, the same delays: %v", first)
	}
}

func TestNothingOvertakes(t *testing.T) {
	in(t, Config{Seed: 1, Latency: latency}, func(t *testing.T, n *Network, b *broker) {
		c := dial(t, n.Host("a"), b.addr)
		for i := range int32(100) {
			send(t, c, 0, i)
		}
		for i := range int32(100) {
			hears(t, c, i)
		}
	})
}

func TestFramesGoOutWhole(t *testing.T) {
	in(t, Config{Seed: 1, Latency: latency}, func(t *testing.T, n *Network, b *broker) {
		h := n.Host("a")
		keys := []int16{}
		for range 2 {
			h.On(Trigger{Key: 5, Do: func(x *Exchange) { keys = append(keys, x.Key) }})
		}
		c := dial(t, h, b.addr)
		two := append(request(4, 1), request(5, 2)...)
		for _, part := range [][]byte{two[:3], two[3:11], two[11:20], two[20:]} {
			if _, err := c.Write(part); err != nil {
				t.Fatal(err)
			}
		}
		hears(t, c, 1)
		hears(t, c, 2)
		if !slices.Equal(keys, []int16{5, 5}) {
			t.Errorf("triggers saw %v", keys)
		}
		send(t, c, 4, 3)
		if _, err := c.Write(request(4, 4)[:8]); err != nil {
			t.Fatal(err)
		}
		c.Close() // the half frame is lost, not delivered
		time.Sleep(time.Second)
		gets(t, b, 1, 2, 3)
	})
}

func TestDeadline(t *testing.T) {
	in(t, Config{}, func(t *testing.T, n *Network, b *broker) {
		c := dial(t, n.Host("a"), b.addr)
		start := time.Now()
		c.SetReadDeadline(start.Add(time.Second))
		hearsNothing(t, c, os.ErrDeadlineExceeded)
		if d := time.Since(start); d != time.Second {
			t.Errorf("the deadline came after %v", d)
		}
		c.SetReadDeadline(time.Time{})
		time.AfterFunc(time.Minute, func() { c.SetReadDeadline(time.Now()) })
		hearsNothing(t, c, os.ErrDeadlineExceeded)
		c.SetReadDeadline(time.Time{})
		send(t, c, 0, 1)
		hears(t, c, 1)
	})
}

func TestCloseDeliversWhatWasWritten(t *testing.T) {
	in(t, Config{Seed: 1, Latency: latency}, func(t *testing.T, n *Network, b *broker) {
		c := dial(t, n.Host("a"), b.addr)
		send(t, c, 0, 1)
		c.Close()
		hearsNothing(t, c, net.ErrClosed)
		if _, err := c.Write(request(0, 2)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after close: %v", err)
		}
		time.Sleep(longest)
		gets(t, b, 1)
	})
}

func TestCutLosesWhatIsOnTheWay(t *testing.T) {
	in(t, Config{Seed: 1, Latency: latency}, func(t *testing.T, n *Network, b *broker) {
		h := n.Host("a")
		lost, given := dial(t, h, b.addr), dial(t, h, b.addr)
		send(t, lost, 0, 1)
		send(t, given, 0, 2)
		given.Close() // on its way still after the cut
		h.Cut()
		hearsNothing(t, lost, syscall.ECONNRESET)
		if _, err := lost.Write(request(0, 3)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("write after cut: %v", err)
		}
		time.Sleep(time.Second)
		gets(t, b, 2)
		c := dial(t, h, b.addr)
		send(t, c, 0, 4)
		hears(t, c, 4)
	})
}

func TestKillAndRevive(t *testing.T) {
	in(t, Config{Seed: 1, Latency: latency}, func(t *testing.T, n *Network, b *broker) {
		h := n.Host("a")
		c := dial(t, h, b.addr)
		l, err := h.Listen("tcp", ":80")
		if err != nil {
			t.Fatal(err)
		}
		dialing := make(chan error)
		go func() {
			_, err := h.Dial(context.Background(), "tcp", b.addr)
			dialing <- err
		}()
		synctest.Wait()
		send(t, c, 0, 1)
		h.Kill()
		hearsNothing(t, c, syscall.ECONNRESET)
		if err := <-dialing; !errors.Is(err, syscall.ENETDOWN) {
			t.Errorf("a dial that was under way: %v", err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept: %v", err)
		}
		if _, err := h.Listen("tcp", ":81"); err == nil {
			t.Error("a dead host listens")
		}
		next := h.Revive()
		if _, err := h.Dial(context.Background(), "tcp", b.addr); !errors.Is(err, syscall.ENETDOWN) {
			t.Errorf("the dead process dials after its successor's start: %v", err)
		}
		if _, err := next.Listen("tcp", ":80"); err != nil {
			t.Error(err)
		}
		c = dial(t, next, b.addr)
		send(t, c, 0, 2)
		hears(t, c, 2)
		gets(t, b, 2)
	})
}

func TestFreeze(t *testing.T) {
	in(t, Config{Seed: 1, Latency: latency}, func(t *testing.T, n *Network, b *broker) {
		h := n.Host("a")
		answered, given := dial(t, h, b.addr), dial(t, h, b.addr)
		send(t, answered, 0, 1)
		time.Sleep(longest) // the broker has it, the answer is on its way
		start := time.Now()
		h.Freeze(start.Add(time.Minute))
		h.Freeze(start.Add(time.Second)) // does not end it sooner
		send(t, given, 0, 2)
		given.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := h.Dial(ctx, "tcp", b.addr); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dial: %v", err)
		}
		time.Sleep(50 * time.Second)
		gets(t, b, 1)
		hears(t, answered, 1)
		if d := time.Since(start); d != time.Minute {
			t.Errorf("an answer got in after %v", d)
		}
		time.Sleep(longest)
		gets(t, b, 2)
	})
}

func TestSlow(t *testing.T) {
	in(t, Config{Seed: 1, Latency: latency}, func(t *testing.T, n *Network, b *broker) {
		h := n.Host("a")
		c := dial(t, h, b.addr)
		send(t, c, 0, 1)
		start := time.Now()
		h.Slow(start.Add(time.Minute))
		hears(t, c, 1) // what is sent to it comes in
		send(t, c, 0, 2)
		time.Sleep(59 * time.Second)
		gets(t, b, 1)
		hears(t, c, 2)
		if d := time.Since(start); d < time.Minute || d > time.Minute+longest {
			t.Errorf("the answer came after %v", d)
		}
		gets(t, b, 2)
	})
}

func TestTriggers(t *testing.T) {
	tests := []struct {
		name    string
		trigger Trigger
		broker  []int32 // gets these of 1 to 4, sent while the connection is up
		answers int32   // so many are heard
	}{
		{"cut before it is sent", Trigger{Key: 28, When: BeforeSent, Do: func(x *Exchange) { x.Host.Cut() }}, nil, 0},
		{"cut before the third is sent", Trigger{Key: 28, Nth: 3, When: BeforeSent, Do: func(x *Exchange) { x.Host.Cut() }}, []int32{1, 2}, 2},
		{"cut after it is executed", Trigger{Key: 28, Nth: 2, When: AfterAnswered, Do: func(x *Exchange) { x.Host.Cut() }}, []int32{1, 2}, 1},
		{"kill after it is executed", Trigger{Key: 28, Nth: 4, When: AfterAnswered, Do: func(x *Exchange) { x.Host.Kill() }}, []int32{1, 2, 3, 4}, 3},
		{"another request", Trigger{Key: 26, When: BeforeSent, Do: func(x *Exchange) { x.Host.Cut() }}, []int32{1, 2, 3, 4}, 4},
		{"too few of them", Trigger{Key: 28, Nth: 5, When: BeforeSent, Do: func(x *Exchange) { x.Host.Cut() }}, []int32{1, 2, 3, 4}, 4},
		{"executed twice", Trigger{Key: 28, Nth: 2, When: AfterAnswered, Do: func(x *Exchange) { x.Replay(time.Minute) }}, []int32{1, 2, 3, 4, 2}, 4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in(t, Config{Seed: 1, Latency: latency}, func(t *testing.T, n *Network, b *broker) {
				h := n.Host("a")
				h.On(tt.trigger)
				c := dial(t, h, b.addr)
				var heard int32
				for i := range int32(4) {
					if _, err := c.Write(request(28, i+1)); err != nil {
						break
					}
					if _, err := io.ReadFull(c, make([]byte, 12)); err != nil {
						break
					}
					heard++
				}
				if heard != tt.answers {
					t.Errorf("heard %d answers, want %d", heard, tt.answers)
				}
				time.Sleep(2 * time.Minute)
				gets(t, b, tt.broker...)
			})
		})
	}
}

func TestTriggerIsOff(t *testing.T) {
	in(t, Config{}, func(t *testing.T, n *Network, b *broker) {
		h := n.Host("a")
		n1, n2 := 0, 0
		cancel := h.On(Trigger{Key: 1, Do: func(*Exchange) { n1++ }})
		h.On(Trigger{Key: 1, Do: func(*Exchange) { n2++ }})
		cancel()
		cancel()
		c := dial(t, h, b.addr)
		for i := range int32(3) {
			send(t, c, 1, i)
			hears(t, c, i)
		}
		if n1 != 0 || n2 != 1 {
			t.Errorf("the one taken off acted %d times, the other %d", n1, n2)
		}
	})
}

// A request is on its way for long, the client gives the connection up and
// sends it again: both arrive.
func TestStalledRequestArrivesAfterItsRetry(t *testing.T) {
	in(t, Config{Seed: 1, Latency: latency}, func(t *testing.T, n *Network, b *broker) {
		h := n.Host("a")
		h.On(Trigger{Key: 28, When: BeforeSent, Do: func(x *Exchange) { x.Stall(time.Now().Add(time.Minute)) }})
		c := dial(t, h, b.addr)
		send(t, c, 28, 1)
		c.SetReadDeadline(time.Now().Add(time.Second))
		hearsNothing(t, c, os.ErrDeadlineExceeded)
		c.Close()
		c = dial(t, h, b.addr)
		send(t, c, 28, 2)
		hears(t, c, 2)
		gets(t, b, 2)
		time.Sleep(time.Minute)
		gets(t, b, 1)
	})
}

func TestFilterDelaysAndRewrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(Config{Seed: 1, Latency: latency})
		defer n.Close()
		n.FilterAnswers(func(x *Exchange, answer []byte) ([]byte, time.Time) {
			if x.Key != 1 {
				return answer, time.Time{}
			}
			return append(slices.Clone(answer[:8]), "held"...), time.Now().Add(time.Second)
		})
		b := newBroker(t, n)
		c := dial(t, n.Host("a"), b.addr)
		start := time.Now()
		send(t, c, 1, 1)
		var got [12]byte
		if _, err := io.ReadFull(c, got[:]); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); string(got[8:]) != "held" || d < time.Second || d > time.Second+2*longest {
			t.Errorf("got %q after %v", got[8:], d)
		}
		send(t, c, 2, 2)
		if _, err := io.ReadFull(c, got[:]); err != nil || string(got[8:]) != "good" {
			t.Errorf("got %q, %v", got[8:], err)
		}
	})
}

func TestHostsTalk(t *testing.T) {
	in(t, Config{Seed: 1, Latency: latency}, func(t *testing.T, n *Network, b *broker) {
		a, z := n.Host("a"), n.Host("z")
		for _, h := range []*Host{a, z} { // both on one port
			l, err := h.Listen("tcp", ":8080")
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				io.WriteString(c, "I am "+h.Name)
			}()
		}
		for address, want := range map[string]string{"localhost:8080": "I am a", "z:8080": "I am z"} {
			got, err := io.ReadAll(dial(t, a, address))
			if err != nil || string(got) != want {
				t.Errorf("at %s: %q, %v", address, got, err)
			}
		}
		if _, err := a.Listen("tcp", ":8080"); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("a second listener: %v", err)
		}
		if _, err := a.Dial(context.Background(), "tcp", "nobody:8080"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dial nobody: %v", err)
		}
		l, err := a.Listen("tcp", "localhost:0")
		if err != nil || l.Addr().String() == "a:0" {
			t.Errorf("a port of its own: %v, %v", l, err)
		}
	})
}

func TestDialGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(Config{})
		defer n.Close()
		if _, err := n.Listen("tcp", "127.0.0.1:1"); err != nil { // nobody accepts
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := n.Host("a").Dial(ctx, "tcp", "127.0.0.1:1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

func BenchmarkExchange(b *testing.B) {
	n := New(Config{})
	defer n.Close()
	l, err := n.Listen("tcp", "127.0.0.1:9092")
	if err != nil {
		b.Fatal(err)
	}
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		buf := make([]byte, 16)
		for {
			if _, err := io.ReadFull(c, buf); err != nil {
				return
			}
			if _, err := c.Write(append([]byte{0, 0, 0, 8}, buf[8:16]...)); err != nil {
				return
			}
		}
	}()
	c, err := n.Host("a").Dial(context.Background(), "tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 12)
	b.ReportAllocs()
	for i := range b.N {
		if _, err := c.Write(request(0, int32(i))); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			b.Fatal(err)
		}
	}
}
