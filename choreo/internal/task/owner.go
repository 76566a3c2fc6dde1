package task

import (
	"context"
)

// Owner owns the tasks that the group assigns to this process. Its methods may
// be called by any goroutine at any time.
type Owner struct {
	cfg Config
}

// New checks the configuration and returns all that is wrong with it at once.
// It connects to nothing.
func New(cfg Config) (*Owner, error) {
	if err := cfg.normalize(); err != nil {
		return nil, err
	}
	return &Owner{cfg: cfg}, nil
}

// Run checks the topics, joins the group and serves tasks until Close, which
// makes it return nil; until ctx is done, which closes everything at once and
// waits for no transaction; or until an error that no retry mends: topics that
// are missing or do not fit ([TopicError]), an instance id in use
// ([InstanceInUseError]), a refused authorization. It may be called once.
func (o *Owner) Run(ctx context.Context) error { panic("skeleton") }

// StopReading takes nothing new: when it returns, Deliver is not called any
// more. Tasks stay owned, so that what was delivered can be committed.
func (o *Owner) StopReading() {}

// Close ends every incarnation, waits within ctx for the transactions that hold
// them, and closes the clients. A static member does not leave the group: a
// restart under the same instance id gets the same tasks back at once. Call it
// after StopReading and after the pipeline has committed what it had.
func (o *Owner) Close(ctx context.Context) error { return nil }

// Membership is the member id and generation to commit with. Before the first
// assignment the id is empty, and nothing may be committed.
func (o *Owner) Membership() (member string, generation int32) { return "", -1 }

// PipelineFailed tells that a transaction failed and everything not committed
// is void. Every incarnation is closed, nothing is delivered, and owned tasks
// wait for PipelineReady. It does not block on the network.
func (o *Owner) PipelineFailed(cause error) {}

// PipelineReady tells that the lanes are made anew: every owned task is opened
// again from what the broker holds.
func (o *Owner) PipelineReady() {}

// Wake tells that a source that did not take all records it was given may
// have room again. It is cheap and never blocks.
func (o *Owner) Wake() {}

// Partitions is the number of tasks of the service, which is the partition
// count of its inbox; 0 before Run has found it out.
func (o *Owner) Partitions() int32 { return 0 }

// Status is a snapshot for readiness and metrics.
func (o *Owner) Status() Status { return Status{} }
