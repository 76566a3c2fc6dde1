package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/choreography-go/choreography/bench/internal/measure"
	"github.com/choreography-go/choreography/bench/internal/report"
)

// suite is what is measured, and for how long.
type suite struct {
	contenders []measure.Contender
	sizes      []int // records per commit; 0: as many as there are
	rounds     int
	latencies  int           // orders in a round, one at a time
	overload   time.Duration // 0: not at all
	share      int64         // backlogs are as long as usual, divided by it
	cluster    bool          // there are several brokers: small commits take longer
	budget     time.Duration // no round begins that would not fit
	progress   io.Writer
}

// usual is a run of several minutes.
func usual() suite {
	return suite{contenders: measure.Contenders(), sizes: []int{1, 10, 100, 1000, 0}, rounds: 3, latencies: 1000, overload: 12 * time.Second, share: 1, budget: 10 * time.Minute}
}

// quick is a run of about a minute, which shows that everything works.
func quick() suite {
	s := usual()
	s.sizes, s.rounds, s.latencies, s.overload, s.share, s.budget = []int{10, 1000, 0}, 1, 100, 2*time.Second, 8, time.Minute
	return s
}

// backlog is how many orders last for a second or two.
func (s suite) backlog(c measure.Contender, perCommit int) int64 {
	n := map[int]int64{1: 2_000, 10: 15_000, 100: 80_000, 1000: 250_000, 0: 300_000}[perCommit]
	switch {
	case n == 0: // a size that was asked for by hand
		n = min(2_000*int64(perCommit), 250_000)
	case c == measure.Session: // waits in the broker at every commit
		n = map[int]int64{1: 80, 10: 800, 100: 8_000, 1000: 80_000, 0: 300_000}[perCommit]
	case c == measure.Step && n > 80_000:
		n = 150_000
	case c == measure.Saga && n > 80_000:
		n = 60_000
	case c == measure.Saga:
		n /= 2
	}
	if s.cluster && perCommit > 0 && perCommit <= 10 {
		n /= 8
	}
	share := s.share
	if perCommit == 0 && c != measure.Step && c != measure.Saga {
		share = min(share, 4) // a poll takes thousands
	}
	// Commits, as well as orders, must be enough to be timed.
	return max(n/share, int64(20*perCommit), 40)
}

// runAll measures everything, round by round: in each, contenders take turns, and
// each round begins with another one.
func (s suite) runAll(ctx context.Context, rig *measure.Rig, results *report.Results) error {
	began := time.Now()
	s.cluster = rig.Brokers > 1
	results.Asked = s.rounds
	if s.overload > 0 {
		s.say("overload")
		o, err := rig.Overload(ctx, s.overload)
		if err != nil {
			return fmt.Errorf("overload: %w", err)
		}
		results.Overload = &o
	}
	var longest time.Duration
	for round := range s.rounds {
		if round > 0 && time.Since(began)+longest > s.budget {
			s.say("round %d does not fit into %v and is left out", round+1, s.budget)
			break
		}
		start := time.Now()
		if err := s.round(ctx, round, rig, results); err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
		results.Rounds++
		longest = max(longest, time.Since(start))
	}
	results.Brokers, results.Leaders = rig.Brokers, rig.Leaders
	return nil
}

func (s suite) round(ctx context.Context, round int, rig *measure.Rig, results *report.Results) error {
	turn := slices.Clone(s.contenders)
	if len(turn) > 0 {
		first := round % len(turn)
		turn = slices.Concat(turn[first:], turn[:first])
	}
	for _, size := range s.sizes {
		for _, c := range turn {
			if size == 0 && c.Sized() {
				continue
			}
			rate, err := rig.Rate(ctx, c, size, s.backlog(c, size))
			if err != nil {
				return err
			}
			results.AddRate(c, size, rate)
			s.say("round %d: %s: %.0f/s, %.1f per commit, %.2f us, %.1f allocations", round+1, c.Title(), rate.PerSecond, rate.PerCommit, rate.CPUMicros, rate.Allocs)
		}
	}
	if s.latencies == 0 {
		return nil
	}
	for _, c := range turn {
		if c.Sized() {
			continue
		}
		took, err := rig.Latency(ctx, c, s.latencies)
		if err != nil {
			return err
		}
		results.AddLatency(c, took)
		s.say("round %d: %s: %d one at a time", round+1, c.Title(), len(took))
	}
	return nil
}

func (s suite) say(format string, args ...any) {
	fmt.Fprintf(s.progress, time.Now().Format("15:04:05 ")+format+"\n", args...)
}
