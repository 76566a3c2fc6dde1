// Package contender is the side of a benchmark that is measured: a program that
// forwards records gets its setup, counts what it has handled, and says at
// given counts, and whenever it is asked, what it has used up to then. Each is
// a process of its own, so that its CPU time and its allocations are nobody
// else's.
//
// The measuring side is module bench. The package stands between the two
// because the program of the raw pipeline lives below choreo, where internal
// packages are within its reach, and the others live in bench. It knows neither
// Kafka nor what is forwarded.
package contender

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Setup says what to do. It is the first line of standard input, as JSON. Every
// further line asks for the usage; the end of the input asks to commit what is
// under way, and to end.
type Setup struct {
	// Brokers are the seed brokers.
	Brokers []string
	// Name is nobody else's: group, service and transactional ids begin with it.
	Name string
	// In and Out are topics with this many partitions each.
	In, Out    string
	Partitions int32
	// PerCommit is how many records a commit takes; 0: as many as there are.
	PerCommit int
	// InFlight bounds what is handled and not yet committed, where that is a
	// setting; 0: the default.
	InFlight int
	// Lanes is the number of transactions in flight, where there are several.
	Lanes int
	// Prompt asks to send each record at once: latency counts.
	Prompt bool
	// Work is how long handling takes, by at most Handlers at a time; 0: none,
	// and the default.
	Work     time.Duration
	Handlers int
	// Marks are the numbers of handled records at which to tell the usage.
	Marks []int64
}

// Usage is what the process has used since it began. It is told as one line of
// JSON on standard output.
type Usage struct {
	// Handled records so far, and when that was.
	Handled int64
	At      time.Time
	// CPU time of the process, user and system; 0 where it cannot be told.
	CPU time.Duration
	// Mallocs are the objects allocated, Bytes their size.
	Mallocs, Bytes uint64
	// Live is the heap that the last garbage collection found in use, Resident
	// the memory of the process; 0 where it cannot be told.
	Live, Resident uint64
	// Commits so far, and the handled records that were in them.
	Commits, Committed int64
}

// Meter counts what is handled. Its methods may be called by any goroutine.
type Meter struct {
	// Commits tells how many commits there were, of how many records. Set it
	// before the first call of Add.
	Commits func() (commits, records int64)

	handled atomic.Int64
	next    atomic.Int64 // the next mark

	mu    sync.Mutex
	marks []int64 // those not reached
	out   *json.Encoder
}

const never = 1<<63 - 1

func newMeter(marks []int64, out io.Writer) *Meter {
	m := &Meter{marks: slices.Sorted(slices.Values(marks)), out: json.NewEncoder(out)}
	m.next.Store(never)
	if len(m.marks) > 0 {
		m.next.Store(m.marks[0])
	}
	return m
}

// Add counts n records more.
func (m *Meter) Add(n int) {
	if now := m.handled.Add(int64(n)); now >= m.next.Load() {
		m.mark(now)
	}
}

func (m *Meter) mark(handled int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.marks) > 0 && m.marks[0] <= handled {
		m.marks = m.marks[1:]
		m.next.Store(never)
		if len(m.marks) > 0 {
			m.next.Store(m.marks[0])
		}
		m.tell(handled)
	}
}

// tell writes the usage. m.mu is held.
func (m *Meter) tell(handled int64) {
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	u := Usage{Handled: handled, At: time.Now(), CPU: cpu(), Mallocs: mem.Mallocs, Bytes: mem.TotalAlloc, Resident: resident()}
	if live[0].Value.Kind() == metrics.KindUint64 {
		u.Live = live[0].Value.Uint64()
	}
	if m.Commits != nil {
		u.Commits, u.Committed = m.Commits()
	}
	_ = m.out.Encode(u) // who asked has gone: the end of the input tells the same
}

// Main is the main function of a contender's program: it reads the setup, and
// runs until run returns. The context ends when the program is to stop; what was
// handled by then must be committed before run returns.
func Main(run func(context.Context, Setup, *Meter) error) {
	if err := serve(context.Background(), os.Stdin, os.Stdout, run); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, in io.Reader, out io.Writer, run func(context.Context, Setup, *Meter) error) error {
	lines := bufio.NewScanner(in)
	var s Setup
	if !lines.Scan() {
		return errors.New("read the setup from standard input: there is none; this program is started by bench")
	}
	if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
		return fmt.Errorf("read the setup from standard input: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	m := newMeter(s.Marks, out)
	go func() {
		defer stop()
		for lines.Scan() {
			m.mu.Lock()
			m.tell(m.handled.Load())
			m.mu.Unlock()
		}
	}()
	return run(ctx, s, m)
}
