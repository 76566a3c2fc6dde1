package task

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Phase is where an owned task stands.
type Phase int

const (
	// Waiting tasks are ours and wait: for the pipeline to be ready again, for
	// other tasks to be restored, or for the next attempt after a failed one.
	Waiting Phase = iota
	// Opening tasks fetch their offsets.
	Opening
	// Restoring tasks read their journal.
	Restoring
	// Open tasks are read.
	Open
	// Stopped tasks are ours and not read, until a person decides. The error
	// says why and how.
	Stopped
)

// String is the phase in lower case.
func (p Phase) String() string {
	return [...]string{"waiting", "opening", "restoring", "open", "stopped"}[p]
}

// TaskStatus is the state of one owned task.
type TaskStatus struct {
	Partition int32
	Phase     Phase
	// Since is when the phase began.
	Since time.Time
	// Err is why a stopped task is stopped, or the last failed attempt to open
	// a task that is not open yet.
	Err error
	// Restore is how long the last restore took, and RestoreRecords how many
	// journal records it applied; so far, if it still runs.
	Restore        time.Duration
	RestoreRecords int64
}

// Status is what readiness and metrics show of an [Owner].
type Status struct {
	// Joined tells that the group has assigned us what we own, which may be
	// nothing.
	Joined bool
	// Member and Generation are as of now.
	Member     string
	Generation int32
	// Partitions is the number of tasks of the service; 0 before it is known.
	Partitions int32
	// Tasks are the owned ones by partition.
	Tasks []TaskStatus
	// PipelineDown is why transactions are being reset, nil when they are not.
	PipelineDown error
	// Away is how long no broker has answered anything, and LastError the last
	// failure to reach one; 0 and nil while they answer.
	Away      time.Duration
	LastError error
}

// Ready returns nil when everything that we own is read, and otherwise all
// reasons why not.
func (s Status) Ready() error {
	var errs []error
	if s.Away > 0 {
		if s.LastError != nil {
			errs = append(errs, fmt.Errorf("no broker has answered for %v: %w", s.Away.Round(time.Second), s.LastError))
		} else {
			errs = append(errs, fmt.Errorf("no broker has answered for %v", s.Away.Round(time.Second)))
		}
	}
	if !s.Joined {
		errs = append(errs, errors.New("the consumer group has not assigned tasks yet"))
	}
	if s.PipelineDown != nil {
		errs = append(errs, fmt.Errorf("transactions are being reset: %w", s.PipelineDown))
	}
	for _, t := range s.Tasks {
		switch {
		case t.Phase == Open:
		case t.Err != nil:
			errs = append(errs, fmt.Errorf("task %d is %s: %w", t.Partition, t.Phase, t.Err))
		case t.Phase == Restoring:
			errs = append(errs, fmt.Errorf("task %d is restoring: %d journal records so far", t.Partition, t.RestoreRecords))
		default:
			errs = append(errs, fmt.Errorf("task %d is %s", t.Partition, t.Phase))
		}
	}
	return errors.Join(errs...)
}

// Status is a snapshot for readiness and metrics.
func (o *Owner) Status() Status {
	member, generation := o.Membership()
	s := Status{Member: member, Generation: generation}
	s.Away, s.LastError = o.contact.away(time.Now())
	o.mu.Lock()
	defer o.mu.Unlock()
	s.Joined, s.PipelineDown, s.Partitions = o.joined, o.cause, o.topology[o.cfg.Inbox].partitions
	if !o.down {
		s.PipelineDown = nil
	}
	for num := range o.assigned {
		ts := TaskStatus{Partition: num}
		if t := o.tenures[num]; t != nil {
			ts = t.status(time.Now())
		}
		s.Tasks = append(s.Tasks, ts)
	}
	slices.SortFunc(s.Tasks, func(a, b TaskStatus) int { return cmp.Compare(a.Partition, b.Partition) })
	return s
}

func (t *tenure) status(now time.Time) TaskStatus {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := TaskStatus{Partition: t.num, Phase: t.phase, Since: t.since, Err: t.err, Restore: t.restoreTook, RestoreRecords: t.records}
	if s.Phase == Restoring {
		s.Restore = now.Sub(t.restoreBegan)
	}
	if t.ctx.Err() != nil && s.Phase != Stopped { // ended, and not begun anew yet
		s.Phase = Waiting
	}
	return s
}

// contact notes when brokers answer, as a hook of every client.
type contact struct {
	mu    sync.Mutex
	last  time.Time
	err   error // since last
	quiet time.Duration
}

// OnBrokerE2E is called for every answered or failed request.
func (c *contact) OnBrokerE2E(_ kgo.BrokerMetadata, _ int16, e2e kgo.BrokerE2E) {
	if err := e2e.Err(); err != nil {
		c.failed(err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last, c.err = time.Now(), nil
}

// OnBrokerConnect is called for every attempt to connect.
func (c *contact) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err != nil {
		c.failed(err)
	}
}

func (c *contact) failed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

// away is how long nobody has answered if that is longer than it should be:
// heartbeats alone come more often.
func (c *contact) away(now time.Time) (time.Duration, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := now.Sub(c.last); d > c.quiet {
		return d, c.err
	}
	return 0, nil
}
