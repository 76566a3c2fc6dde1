//go:build synctests

package main

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	mrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
	"github.com/choreography-go/choreography/choreo/operator"
)

// TestSoak lets everything happen: events are published twice and in another
// order, too.
func TestSoak(t *testing.T) {
	var say speech
	choreotest.Simulate(t, services(), say.workload(), invariants(), simulateOptions(&say))
}

// TestSoakExact publishes each event once and in order, so that the numbers of
// each flow are known from the beginning to the end.
func TestSoakExact(t *testing.T) {
	var say speech
	o := simulateOptions(&say)
	o.Faults = []choreotest.FaultKind{
		choreotest.BrokerErrors, choreotest.LostAnswers, choreotest.LateRequests, choreotest.LateMarkers, choreotest.Cuts,
		choreotest.SlowConnections, choreotest.LeaderMoves, choreotest.CoordinatorMoves, choreotest.Kills, choreotest.Freezes,
		choreotest.Joins, choreotest.Leaves, choreotest.Deploys, choreotest.HandlerErrors, choreotest.HandlerPanics, choreotest.SlowHandlers,
	}
	choreotest.Simulate(t, services(), say.workload(), append(invariants(), exact(say.of)...), o)
}

func services() []choreotest.Simulated {
	next := func(s func() *choreo.Service) []func() *choreo.Service { return []func() *choreo.Service{s, s} }
	return []choreotest.Simulated{{New: front, Next: next(front)}, {New: worker, Next: next(worker)}, {New: shipper, Next: next(shipper)}}
}

func simulateOptions(say *speech) choreotest.Options {
	return choreotest.Options{Seeds: 5, Reset: say.reset, Configure: parkLittle}
}

// parkLittle has one instance of each service, and no other, park so little
// that events are often at the bound. Tasks come to it and go from it.
func parkLittle(c *choreo.Config) {
	if strings.HasSuffix(c.InstanceID, "-1") {
		c.MaxParkedPerFlow, c.MaxParkedPerTask, c.MaxInFlight = 2, 4, 64
	}
}

// speech keeps what was said of each flow.
type speech struct {
	mu   sync.Mutex
	said map[string][]line
}

func (s *speech) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = map[string][]line{}
}

func (s *speech) of(flow string) []line {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.said[flow])
}

func (s *speech) workload() choreotest.Workload { return choreotest.Workload{Begin: s.begin} }

// begin says a flow's events in an order and at times that follow from the
// seed: items of all sorts, a recall or two or none, also before anything else,
// and the end.
func (s *speech) begin(w *choreotest.World, flow string) error {
	var seed [8]byte
	_, _ = rand.Read(seed[:]) // the run's
	r := mrand.New(mrand.NewPCG(binary.LittleEndian.Uint64(seed[:]), 1))
	impatient := mrand.New(mrand.NewPCG(binary.LittleEndian.Uint64(seed[:]), 2))
	if err := w.Publish("front", flow, begun.New(item{Flow: flow})); err != nil {
		return err
	}
	events := make([]choreo.Event[item], 4+r.IntN(9))
	for i := range events {
		events[i] = sent
	}
	for range r.IntN(3) {
		events[r.IntN(len(events))] = recalled
	}
	for i, e := range append(events, finished) {
		x := item{Flow: flow, N: i + 1}
		if e.Type == sent.Type {
			x.What = [...]string{works, works, works, works, refuses, never}[r.IntN(6)]
		}
		if err := w.Say(flow, e.New(x)); err != nil {
			return err
		}
		s.mu.Lock()
		s.said[flow] = append(s.said[flow], line{e.Type, x})
		s.mu.Unlock()
		if err := w.Sleep(time.Duration(r.Int64N(int64(3 * time.Second)))); err != nil {
			return err
		}
		if impatient.IntN(3) == 0 {
			if err := retry(w, flow, i); err != nil {
				return err
			}
		}
	}
	return nil
}

// retry asks for the next attempt at all that is stuck of a flow, twice, which
// changes nothing of what is said.
func retry(w *choreotest.World, flow string, n int) error {
	for _, s := range services() {
		service := s.New().Name()
		for k, i := range w.Stuck(service) {
			if i.Flow != flow {
				continue
			}
			for _, by := range []string{"ann", "bob"} {
				c := operator.Command{ID: fmt.Sprint(flow, " ", n, " ", service, " ", k, " ", by), Do: operator.Retry, Target: i.Target, By: by, Why: "cannot wait"}
				if err := w.Tell(service, c); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
