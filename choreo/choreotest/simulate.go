package choreotest

import (
	"cmp"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest/internal/schedule"
)

// Simulated is a service that [Simulate] runs.
type Simulated struct {
	// New makes the service. It is called for every start of an instance, as a
	// new process: what the service keeps in memory is lost when it is killed.
	// What outlives a process, such as the service's database, New closes over; see
	// [Options].Reset.
	New func() *choreo.Service
	// Instances that run side by side. Zero: 2.
	Instances int
	// Next are later versions of the service, in their order. The fault [Deploy]
	// replaces the instances by the next version one after another. That a handler
	// answers what it hears is only demanded of what it hears in all versions.
	Next []func() *choreo.Service
}

// Workload says what sets flows off.
type Workload struct {
	// Flows is how many begin. Zero: 20.
	Flows int
	// Every is the mean time between two of them. Zero: so that they are spread
	// over the time of faults.
	Every time.Duration
	// Begin begins the flow of that name: by [World.Publish], [World.Say] or
	// [World.HTTP]. Of what it cannot do it returns an error, which fails the
	// run. It is called on a goroutine of its own.
	Begin func(w *World, flow string) error
}

// Invariant is what holds for every flow when all has ended.
type Invariant struct {
	// Name says it in words, such as "every paid order ends shipped or refunded".
	Name string
	// Check returns what is wrong with a flow, nil if nothing is.
	Check func(Flow) error
}

// FaultKind is a kind of fault.
type FaultKind string

// The kinds of faults.
const (
	BrokerErrors     = FaultKind(schedule.BrokerError)     // a broker refuses requests of one type
	LostAnswers      = FaultKind(schedule.LostAnswer)      // a request is executed, and its answer is lost
	LateRequests     = FaultKind(schedule.LateRequest)     // a request arrives late, after its sender has given it up
	LateMarkers      = FaultKind(schedule.LateMarker)      // the end of a transaction shows late, and at each partition by itself
	Cuts             = FaultKind(schedule.Cut)             // connections break
	SlowConnections  = FaultKind(schedule.Slow)            // what is sent arrives late
	LeaderMoves      = FaultKind(schedule.LeaderMove)      // partitions get other leaders
	CoordinatorMoves = FaultKind(schedule.CoordinatorMove) // groups and transactions get other coordinators
	Kills            = FaultKind(schedule.Kill)            // an instance dies at any await point and is started again
	Freezes          = FaultKind(schedule.Freeze)          // an instance is cut off for a while, and then goes on as if nothing had been
	Joins            = FaultKind(schedule.Join)            // an instance is added for a while
	Leaves           = FaultKind(schedule.Leave)           // an instance is stopped for a while
	Deploys          = FaultKind(schedule.Deploy)          // instances are replaced by the next version, one by one
	HandlerErrors    = FaultKind(schedule.HandlerError)    // attempts of handlers fail, before or after their work
	HandlerPanics    = FaultKind(schedule.HandlerPanic)    // attempts of handlers panic
	SlowHandlers     = FaultKind(schedule.HandlerSlow)     // attempts of handlers take longer
	Duplicates       = FaultKind(schedule.Duplicate)       // an event is published twice
	Reorders         = FaultKind(schedule.Reorder)         // what the workload says arrives in another order
)

// Options say what [Simulate] does. The zero value is a good beginning.
type Options struct {
	// Seed is that of the first run; zero: 1. The same seed makes the same
	// faults at the same times.
	Seed uint64
	// Seeds is how many runs are made, of this seed and those after it. Zero: 1.
	Seeds int
	// Faults are the kinds of faults wanted; nil: all of them. An empty slice
	// asks for none.
	Faults []FaultKind
	// For is how long faults go on. Zero: a minute.
	For time.Duration
	// FaultEvery is the mean time between two faults. Zero: 2 s.
	FaultEvery time.Duration
	// Settle is how long after the last fault every flow must have ended, or
	// show as stuck. Zero: 5 minutes.
	Settle time.Duration
	// Brokers is how many there are. Zero: 3.
	Brokers int
	// Reset is called before each run: it makes anew what outlives the instances
	// of a service, such as its database.
	Reset func()
	// Configure changes the configuration of each instance, for example its
	// limits.
	Configure func(*choreo.Config)
	// Minimize is how many further runs may be made to leave out of a failing
	// run's schedule what does not matter. Zero: 40; negative: none.
	Minimize int
}

func (o Options) withDefaults() Options {
	o.Seed = cmp.Or(o.Seed, 1)
	o.Seeds = cmp.Or(o.Seeds, 1)
	o.For = cmp.Or(o.For, time.Minute)
	o.FaultEvery = cmp.Or(o.FaultEvery, 2*time.Second)
	o.Settle = cmp.Or(o.Settle, 5*time.Minute)
	o.Brokers = cmp.Or(o.Brokers, 3)
	o.Minimize = cmp.Or(o.Minimize, 40)
	return o
}

// Variables of the environment by which a run is repeated.
const (
	envSeed     = "CHOREO_SEED"     // run this seed alone
	envSeeds    = "CHOREO_SEEDS"    // run so many seeds
	envSchedule = "CHOREO_SCHEDULE" // with these faults in place of the seed's: as text, or @file
	envMinimize = "CHOREO_MINIMIZE" // make so many runs to find the faults that suffice; 0: none
	envLog      = "CHOREO_LOG"      // all: show all that is kept of what was logged, of runs that pass too
)

// Simulate runs whole services, several instances of each, against a cluster of
// brokers in memory, under simulated time and injected faults, and checks the
// invariants over all that was committed. Minutes pass in tenths of a second.
//
// Always checked, beside the invariants given: no event is said twice; what a
// step says stands in the order of its causes; everything heard is answered;
// every flow ends, or shows as stuck by a dead letter; the journals hold what
// the events tell; every trigger of a compensation is answered once, and so is
// every command of an operator; and everything that was started stops.
//
// The schedule of faults is made from the seed before the run begins. When a run
// fails, the test fails with its seed, the command that runs it again, the faults
// that suffice, and the events of the flows concerned as a causal tree. The
// variables of such a command override the options: CHOREO_SEED=17 runs that
// seed alone, CHOREO_SEEDS=1000 so many, CHOREO_SCHEDULE='…' (or @file) runs with
// those faults.
//
// It needs the build tag synctests, by which the Kafka client takes locks that
// simulated time can pass by:
//
//	go test -tags synctests -run TestSimulate ./...
func Simulate(t *testing.T, services []Simulated, w Workload, invariants []Invariant, o Options) {
	t.Helper()
	if !tagged {
		t.Fatalf("choreotest.Simulate needs the build tag synctests: without it the Kafka client's locks hold simulated time up for ever; "+
			"go test -tags synctests -run '^%s$'", t.Name())
	}
	s, err := newSimulation(services, w, invariants, o)
	if err != nil {
		t.Fatal(err)
	}
	var total totals
	for n := range s.Seeds {
		s.runSeed(t, s.Seed+uint64(n), &total)
	}
	total.log(t)
}

// overridden returns the options as the environment overrides them, and the
// schedule that it asks for, if it does.
func (o Options) overridden(getenv func(string) string, readFile func(string) ([]byte, error)) (Options, schedule.Schedule, bool, error) {
	if v := getenv(envSeeds); v != "" {
		n, err := strconv.ParseUint(v, 10, 31)
		if err != nil || n == 0 {
			return o, nil, false, fmt.Errorf("%s is %q: want how many seeds to run, such as 1000", envSeeds, v)
		}
		o.Seeds = int(n)
	}
	if v := getenv(envSeed); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil || n == 0 {
			return o, nil, false, fmt.Errorf("%s is %q: want the number of a seed, such as 17", envSeed, v)
		}
		o.Seed = n
		if getenv(envSeeds) == "" {
			o.Seeds = 1
		}
	}
	if v := getenv(envMinimize); v != "" {
		n, err := strconv.ParseUint(v, 10, 31)
		if err != nil {
			return o, nil, false, fmt.Errorf("%s is %q: want how many runs to make at most, such as 100, or 0", envMinimize, v)
		}
		o.Minimize = int(n)
	}
	text := getenv(envSchedule)
	if text == "" {
		return o, nil, false, nil
	}
	if file, ok := strings.CutPrefix(text, "@"); ok {
		b, err := readFile(file)
		if err != nil {
			return o, nil, false, fmt.Errorf("%s: %w", envSchedule, err)
		}
		text = string(b)
	}
	given, err := schedule.Parse(text)
	if err != nil {
		return o, nil, false, fmt.Errorf("%s: %w", envSchedule, err)
	}
	return o, given, true, nil
}

func newSimulation(services []Simulated, w Workload, invariants []Invariant, o Options) (*simulation, error) {
	o, given, isGiven, err := o.withDefaults().overridden(os.Getenv, os.ReadFile)
	if err != nil {
		return nil, err
	}
	s := &simulation{Options: o, workload: w, invariants: invariants, given: given, isGiven: isGiven}
	s.workload.Flows = cmp.Or(w.Flows, 20)
	if w.Begin == nil {
		return nil, fmt.Errorf("choreotest.Simulate: the workload has no Begin: say what begins a flow")
	}
	for i, declared := range services {
		if declared.New == nil {
			return nil, fmt.Errorf("choreotest.Simulate: service %d has no New", i+1)
		}
		x := &simulatedService{Simulated: declared}
		x.Instances = cmp.Or(declared.Instances, 2)
		for _, make := range append([]func() *choreo.Service{declared.New}, declared.Next...) {
			svc := make()
			c, err := svc.Contract()
			if err != nil {
				return nil, err
			}
			x.makers = append(x.makers, make)
			x.contracts = append(x.contracts, c)
			x.name = c.Service
		}
		s.services = append(s.services, x)
	}
	if len(s.services) == 0 {
		return nil, fmt.Errorf("choreotest.Simulate: there is no service")
	}
	return s, nil
}
