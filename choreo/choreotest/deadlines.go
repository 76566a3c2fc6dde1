package choreotest

import (
	"time"

	"github.com/choreography-go/choreography/choreo/internal/journal"
	"github.com/twmb/franz-go/pkg/kgo"
)

// DeadlineStatus says how a deadline of a flow stands.
type DeadlineStatus string

// The statuses.
const (
	DeadlinePending DeadlineStatus = "pending" // it is set, and neither met nor fired
	DeadlineMet     DeadlineStatus = "met"     // what it waits for was heard
	DeadlineFired   DeadlineStatus = "fired"   // its event was said
)

// deadlines are the deadlines of flows, as a journal tells.
type deadlines map[deadlineOf]journal.Deadline

type deadlineOf struct{ flow, name string }

// take notes what a record of a journal says of them.
func (d deadlines) take(rec *kgo.Record) {
	if flow, x, ok := journal.ReadDeadline(rec); ok {
		d[deadlineOf{flow, x.Name}] = x
	}
}

// status is how one stands, "" if it was neither set nor met.
func (d deadlines) status(of deadlineOf) DeadlineStatus {
	if x, ok := d[of]; ok {
		return DeadlineStatus(x.Status.String())
	}
	return ""
}

// pending is one that is pending and due before a time, if there is any.
func (d deadlines) pending(before time.Time) (deadlineOf, bool) {
	for of, x := range d {
		if x.Status == journal.Pending && x.Due().Before(before) {
			return of, true
		}
	}
	return deadlineOf{}, false
}

// Deadline is how a deadline of the flow stands, as far as the journal was read;
// "" if it was neither set nor met.
func (s *Service) Deadline(flow, name string) DeadlineStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waits.status(deadlineOf{flow, name})
}

// ExpectDeadline waits until a deadline of the flow stands so, and fails the test
// if it never does.
func (s *Service) ExpectDeadline(flow, name string, want DeadlineStatus) {
	s.t.Helper()
	got, ok := await(s, func() (DeadlineStatus, bool) {
		got := s.waits.status(deadlineOf{flow, name})
		return got, got == want
	})
	if got == "" {
		got = "neither set nor met"
	}
	if !ok {
		s.t.Fatalf("flow %q: deadline %q is %s after %v, not %s\n%s", flow, name, got, s.patience, want, s.Tree(flow))
	}
}
