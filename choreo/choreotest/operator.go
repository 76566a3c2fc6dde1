package choreotest

import (
	"fmt"
	"slices"
	"time"

	"github.com/choreography-go/choreography/choreo/operator"
)

// Stuck is what of the service's flows is stuck, as far as its journal was read:
// what choreo stuck ls lists.
func (s *Service) Stuck() []operator.Item {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stuck.Stuck(time.Now())
}

// ExpectStuck waits until something of the flow is stuck at a step, reaction or
// deadline, and fails the test if nothing ever is.
func (s *Service) ExpectStuck(flow, name string) operator.Item {
	s.t.Helper()
	found, ok := await(s, func() (operator.Item, bool) {
		return first(s.stuck.Stuck(time.Now()), func(i operator.Item) bool { return i.Flow == flow && i.Name == name })
	})
	if !ok {
		s.t.Fatalf("flow %q is not stuck at %q after %v; stuck are %v\n%s", flow, name, s.patience, s.Stuck(), s.Tree(flow))
	}
	return found
}

// Tell sends a command to the service, as choreo stuck does, and waits for what
// comes of it. A command without id, name and reason is given some.
func (s *Service) Tell(c operator.Command) operator.Audit {
	s.t.Helper()
	if c.ID == "" {
		s.mu.Lock()
		s.told++
		c.ID = fmt.Sprintf("command-%d", s.told)
		s.mu.Unlock()
	}
	if c.By == "" {
		c.By = "tester"
	}
	if c.Why == "" {
		c.Why = "test"
	}
	if err := c.Validate(); err != nil {
		s.t.Fatal(err)
	}
	s.publishTo(c.Record(s.svc.Name() + ".inbox"))
	answer, ok := await(s, func() (operator.Audit, bool) {
		return first(s.audits, func(a operator.Audit) bool { return a.Command == c.ID })
	})
	if !ok {
		s.t.Fatalf("flow %q: command %s to %s is not answered after %v", c.Key, c.ID, c.Do, s.patience)
	}
	return answer
}

// first is the first of all that is such, if there is any.
func first[T any](all []T, such func(T) bool) (found T, ok bool) {
	if i := slices.IndexFunc(all, such); i >= 0 {
		return all[i], true
	}
	return found, false
}

// Audits are the audit events of the commands that were answered, as far as they
// were read.
func (s *Service) Audits() []operator.Audit {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.audits)
}
