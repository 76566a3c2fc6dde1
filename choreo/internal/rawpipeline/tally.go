package main

import (
	"sync/atomic"
	"time"

	"github.com/choreography-go/choreography/choreo/internal/txn"
)

// tally counts commits. It is the pipeline's observer.
type tally struct{ commits, results atomic.Int64 }

func (t *tally) told() (commits, results int64) { return t.commits.Load(), t.results.Load() }

// Committed counts.
func (t *tally) Committed(_ time.Duration, results, _, _ int) {
	t.commits.Add(1)
	t.results.Add(int64(results))
}

// CommittedSilently does not happen: every record has an output.
func (*tally) CommittedSilently(time.Duration, int) {}

// Failed makes the run void by Config.Failed.
func (*tally) Failed(txn.Reason) {}

// Retried is not counted.
func (*tally) Retried(txn.RetryReason) {}

// LanesBusy is not counted.
func (*tally) LanesBusy(int) {}
