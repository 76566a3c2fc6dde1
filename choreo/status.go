package choreo

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// phases of a run.
const (
	phaseStarting int32 = iota
	phaseRunning
	phaseStopping
)

// reasons says why the service is not ready, nil if it is, when so much is parked.
func (e *engine) reasons(parked []taskParking) []string {
	var all []string
	switch e.phase.Load() {
	case phaseStarting:
		all = append(all, "starting")
		if err := e.awayBecause.Load(); err != nil {
			all = append(all, bounded((*err).Error()))
		}
		return all
	case phaseStopping:
		return []string{"stopping"}
	}
	if err := e.owner.Status().Ready(); err != nil {
		all = append(all, splitErrors(err)...)
	}
	late := e.attempts.Overdue()
	for _, step := range slices.Sorted(maps.Keys(late)) {
		all = append(all, fmt.Sprintf("step %q: %d attempts ignore their context and run on after their Timeout, blocking their flows", step, late[step]))
	}
	if e.journalFull() {
		all = append(all, fmt.Sprintf("flow state takes %d bytes, the limit is MAX_JOURNAL_BYTES, %d: reading pauses until flows end or expire", e.journalBytes.Load(), e.cfg.MaxJournalBytes))
	}
	return append(append(all, e.parkedReasons(parked)...), e.doorReasons(parked)...)
}

// splitErrors gives the lines of a joined error as reasons of their own.
func splitErrors(err error) []string {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		var all []string
		for _, x := range j.Unwrap() {
			all = append(all, splitErrors(x)...)
		}
		return all
	}
	return []string{bounded(err.Error())}
}

// poisoned remembers the input records whose outputs the broker refused for
// their size, until they are dead letters: producing them again would fail the
// pipeline for ever.
type poisoned struct {
	any     atomic.Bool
	mu      sync.Mutex
	records map[string]int
}

func poisonKey(topic string, partition int32, offset int64) string {
	return fmt.Sprintf("%s/%d/%d", topic, partition, offset)
}

func (p *poisoned) add(topic string, partition int32, offset int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.records == nil {
		p.records = map[string]int{}
	}
	p.records[poisonKey(topic, partition, offset)]++
	p.any.Store(true)
}

// times says how often the record's outputs were refused.
func (p *poisoned) times(topic string, partition int32, offset int64) int {
	if !p.any.Load() {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.records[poisonKey(topic, partition, offset)]
}

// Ready returns nil when the service runs and reads everything it owns, and
// otherwise why not.
func (s *Service) Ready() error {
	e := s.running.Load()
	if e == nil {
		return ErrNotRunning
	}
	var all []error
	for _, r := range e.reasons(e.parkings()) {
		all = append(all, errors.New(r))
	}
	return errors.Join(all...)
}
