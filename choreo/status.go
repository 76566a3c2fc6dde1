package choreo

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/choreography-go/choreography/choreo/internal/journal"
	"github.com/choreography-go/choreography/choreo/internal/task"
)

// phases of a run.
const (
	phaseStarting int32 = iota
	phaseRunning
	phaseStopping
)

// status is a snapshot of the engine, for readiness and metrics.
type status struct {
	live    bool     // the engine's loops run
	reasons []string // why the service is not ready, for people; none: it is ready

	tasks         []task.TaskStatus // owned ones
	journalFlows  int
	journalBytes  int64
	beyondPrefix  int // offsets finished beyond the finished prefix of their partition
	inFlight      int // records read and not committed yet
	inFlightBytes int64
	overdue       map[string]int // attempts that outlive their timeout, by step
	stuck         int            // compensations that failed and are repeated
	stuckSince    time.Time      // the first attempt of the oldest of them; zero: there is none
	parked        map[string]int // events by the step at which they stand, "" for those behind others
	parkedFlows   int
	parkedSince   time.Time                  // that of the oldest event; zero: nothing is parked
	deadlines     map[string]int             // pending ones, by name
	failing       int                        // deadlines whose attempts have failed
	lateBy        time.Duration              // of the deadline that is due the longest
	joins         map[string]journal.Joining // that wait for another event, by step
	doors         []doorStatus
}

// add adds what is parked in a task.
func (s *status) add(p journal.Parking) {
	for at, n := range p.At {
		s.parked[at] += n
	}
	s.parkedFlows += p.Flows
	s.stuck += p.Undo
	if !p.UndoSince.IsZero() && (s.stuckSince.IsZero() || p.UndoSince.Before(s.stuckSince)) {
		s.stuckSince = p.UndoSince
	}
	if s.parkedSince.IsZero() || p.Oldest.Before(s.parkedSince) {
		s.parkedSince = p.Oldest
	}
}

// addJoins adds the joins of a task that wait.
func (s *status) addJoins(all map[string]journal.Joining) {
	for step, x := range all {
		if _, joins := s.joins[step]; !joins {
			continue // another version of it does
		}
		if was := s.joins[step]; was.Flows > 0 && was.Since.Before(x.Since) {
			x.Since = was.Since
		}
		x.Flows += s.joins[step].Flows
		s.joins[step] = x
	}
}

// statusSource is the engine, as seen by the admin server and the metrics.
type statusSource interface {
	// status is called once per probe or scrape, by any goroutine.
	status() status
}

// status is the engine as probes and metrics show it.
func (e *engine) status() status {
	parked := e.parkings()
	s := status{live: true, reasons: e.reasons(parked), tasks: e.owner.Status().Tasks, overdue: e.attempts.Overdue(), stuck: e.stuck.count()}
	s.inFlight, s.inFlightBytes = e.room.Used()
	s.doors = e.doorStates()
	s.parked = map[string]int{}
	for _, p := range parked {
		s.add(p.Parking)
	}
	s.deadlines = make(map[string]int, len(e.plan.deadlines))
	for _, d := range e.plan.deadlines {
		s.deadlines[d.deadline] = 0
	}
	s.joins = map[string]journal.Joining{}
	for _, x := range e.plan.steps {
		if x.join != nil {
			s.joins[x.step] = journal.Joining{}
		}
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, o := range e.owned {
		s.addJoins(o.store.Joining())
		for name, n := range o.store.Pending() {
			s.deadlines[name] += n
		}
		failing, lateBy := o.lateness()
		s.failing, s.lateBy = s.failing+failing, max(s.lateBy, lateBy)
		s.journalFlows += o.store.Flows()
		s.journalBytes += o.store.Bytes()
		for _, in := range o.inputs {
			s.beyondPrefix += in.Offsets.Beyond()
		}
	}
	return s
}

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
