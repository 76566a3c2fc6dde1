package choreotest

import (
	"bytes"
	cryptorand "crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand"
	randv2 "math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest/internal/schedule"
	"github.com/choreography-go/choreography/choreo/contract"
)

// simulation is what [Simulate] was asked for.
type simulation struct {
	Options
	services   []*simulatedService
	workload   Workload
	invariants []Invariant
	given      schedule.Schedule // in place of the seed's
	isGiven    bool
}

// simulatedService is a service with what its declarations say.
type simulatedService struct {
	Simulated
	name      string
	makers    []func() *choreo.Service // by version
	contracts []contract.Contract      // by version
}

// schedule is the run's faults.
func (s *simulation) schedule(seed uint64) schedule.Schedule {
	if s.isGiven {
		return s.given
	}
	shape := schedule.Shape{Brokers: s.Brokers, From: warmUp, To: warmUp + s.For, Every: s.FaultEvery}
	if s.Faults == nil {
		shape.Kinds = schedule.Kinds()
	}
	for _, k := range s.Faults {
		shape.Kinds = append(shape.Kinds, schedule.Kind(k))
	}
	for _, x := range s.services {
		shape.Services = append(shape.Services, schedule.Service{Name: x.name, Instances: x.Instances, Versions: len(x.Next)})
	}
	for _, t := range s.topics() {
		shape.Topics = append(shape.Topics, schedule.Topic{Name: t.name, Partitions: t.partitions, Events: t.kind == eventTopic})
	}
	return schedule.Generate(seed, shape)
}

// warmUp is how long the services have before the first fault and the first
// flow.
const warmUp = 3 * time.Second

// result is what came of one run.
type result struct {
	violations []violation
	faults     schedule.Schedule
	flows      []Flow // all of them, in the order in which they began
	log        []string
	simulated  time.Duration
	real       time.Duration
	events     int
	history    history
}

// violation is one invariant that does not hold.
type violation struct {
	invariant string
	flow      string // "" if it is about no single flow
	text      string
}

func (v violation) String() string {
	if v.flow == "" {
		return fmt.Sprintf("%s: %s", v.invariant, v.text)
	}
	return fmt.Sprintf("%s: flow %q: %s", v.invariant, v.flow, v.text)
}

// runSeed makes one run, and fails the test if it fails.
func (s *simulation) runSeed(t *testing.T, seed uint64, total *totals) {
	t.Helper()
	faults := s.schedule(seed)
	r := s.run(t, seed, faults)
	inUse := heap()
	t.Logf("seed %d: %d flows, %d events, %d faults, %v simulated in %v: %.0f simulated seconds per second; %.1f MiB in use",
		seed, len(r.flows), r.events, len(faults), r.simulated.Round(time.Second), r.real.Round(time.Millisecond),
		r.simulated.Seconds()/r.real.Seconds(), float64(inUse)/(1<<20))
	if os.Getenv(envLog) == "all" && len(r.violations) == 0 {
		t.Logf("its %d faults:\n%s%s\n%s", len(faults), shown(faults), whatHappened, strings.Join(r.log, "\n"))
	}
	if len(r.violations) > 0 {
		t.Fatal(s.report(t, seed, r))
	}
	if err := total.add(r, inUse); err != nil {
		t.Fatal(err)
	}
}

// totals are of all runs of a test.
type totals struct {
	runs                  int
	simulated, real       time.Duration
	flows, events, faults int
	heap                  uint64 // in use after the first runs
}

// add counts a run, and tells that more and more memory is in use from run to run.
func (x *totals) add(r result, heap uint64) error {
	x.runs++
	x.simulated += r.simulated
	x.real += r.real
	x.flows += len(r.flows)
	x.events += r.events
	x.faults += len(r.faults)
	const first, most = 10, 64 << 20
	if x.runs == first {
		x.heap = heap
	}
	if x.runs > first && heap > x.heap+most {
		return fmt.Errorf("after %d runs %d MiB are in use, after %d runs it was %d: something is kept from run to run, by the services or by a goroutine; see Options.Reset",
			x.runs, heap>>20, first, x.heap>>20)
	}
	return nil
}

func (x *totals) log(t *testing.T) {
	t.Helper()
	t.Logf("%d seeds: %d flows, %d events, %d faults, %v simulated in %v: %.0f simulated seconds per second",
		x.runs, x.flows, x.events, x.faults, x.simulated.Round(time.Second), x.real.Round(time.Millisecond), x.simulated.Seconds()/x.real.Seconds())
}

// run makes one run in a bubble of its own.
func (s *simulation) run(t *testing.T, seed uint64, faults schedule.Schedule) (r result) {
	// One thread: nothing is gained by more in one bubble, and the goroutines
	// take their turns more alike.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	// A run makes much garbage and keeps little.
	defer debug.SetGCPercent(debug.SetGCPercent(3200))
	seedRandom(t, seed)
	if s.Reset != nil {
		s.Reset()
	}
	began := time.Now()
	var w *World
	watch := newWatchdog(standstill, func(second int64) {
		fmt.Fprintf(os.Stderr, "%s: seed %d: simulated time has stood still at %d s for %v: something goes round without waiting, or waits while it holds a lock that somebody else wants\n%s\n",
			t.Name(), seed, second, standstill, allStacks())
		os.Exit(2)
	})
	defer watch.stop()
	defer func() {
		r.real = time.Since(began)
		if p := recover(); p != nil {
			stacks := allStacks()
			r.violations = append(r.violations, violation{invariant: "everything that was started stops",
				text: fmt.Sprintf("%v\n%s", p, bubbled(stacks))})
			if w != nil {
				r.log = w.log.lines()
			}
		}
	}()
	synctest.Test(t, func(*testing.T) {
		w = newWorld(s, seed, faults, &watch.ticks)
		r = w.run()
	})
	return r
}

// seedRandom seeds what randomness the standard library lets one seed. What
// stays random: the order of select, of maps, and of timers that fall due at one
// instant, and math/rand/v2's globals; and when goroutines are preempted and
// garbage is collected.
func seedRandom(t *testing.T, seed uint64) {
	cryptotest.SetGlobalRandom(t, seed)
	var pool [32]byte
	binary.LittleEndian.PutUint64(pool[:], ^seed)
	cryptorand.Reader = &splitReader{Reader: cryptorand.Reader, pool: randv2.NewChaCha8(pool)}
	old, had := os.LookupEnv("GODEBUG")
	value := "randseednop=0"
	if old != "" {
		value = old + "," + value
	}
	_ = os.Setenv("GODEBUG", value)
	rand.Seed(int64(seed)) //nolint:staticcheck // the Kafka client uses the global source
	if had {
		_ = os.Setenv("GODEBUG", old)
	} else {
		_ = os.Unsetenv("GODEBUG")
	}
}

// splitReader gives kfake random numbers apart from all others'. It takes them
// in stock for all clusters of a process: a run that is the first one in its
// process would get other numbers than one after others.
type splitReader struct {
	io.Reader

	mu   sync.Mutex
	pool *randv2.ChaCha8
}

// kfakePool is how many bytes kfake takes at a time.
const kfakePool = 4 << 10

func (r *splitReader) Read(b []byte) (int, error) {
	if len(b) != kfakePool {
		return r.Reader.Read(b)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pool.Read(b)
}

// watchdog notices when simulated time stands still: goroutines wake each other
// for ever, or compute without end, or one waits for a sync.Mutex whose holder
// waits for time to pass. Nothing can end those.
type watchdog struct {
	ticks   atomic.Int64 // seconds of simulated time, counted in the bubble
	stopped chan struct{}
}

// standstill is how long in real time a simulated second may take.
const standstill = 2 * time.Minute

func newWatchdog(limit time.Duration, bark func(second int64)) *watchdog {
	d := &watchdog{stopped: make(chan struct{})}
	go func() {
		last, since := int64(-1), time.Now()
		look := time.NewTicker(limit / 100)
		defer look.Stop()
		for {
			select {
			case <-d.stopped:
				return
			case <-look.C:
			}
			if now := d.ticks.Load(); now != last {
				last, since = now, time.Now()
			} else if time.Since(since) > limit {
				bark(last)
				return
			}
		}
	}()
	return d
}

func (d *watchdog) stop() { close(d.stopped) }

func allStacks() []byte {
	b := make([]byte, 16<<20)
	return b[:runtime.Stack(b, true)]
}

// bubbled are the stacks of goroutines in bubbles, as many as can be read.
func bubbled(stacks []byte) string {
	const most = 60
	var kept [][]byte
	for _, g := range bytes.Split(stacks, []byte("\n\n")) {
		head, _, _ := bytes.Cut(g, []byte("\n"))
		if bytes.Contains(head, []byte("synctest bubble")) {
			kept = append(kept, g)
		}
	}
	more := ""
	if len(kept) > most {
		more = fmt.Sprintf("\n\n… and %d goroutines more", len(kept)-most)
		kept = kept[:most]
	}
	return string(bytes.Join(kept, []byte("\n\n"))) + more
}
