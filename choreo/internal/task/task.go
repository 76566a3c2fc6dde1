package task

import (
	"context"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Engine is what an [Owner] hands tasks and records to. For one ownership the
// calls come in the order Claim, NewStore (again after each failed attempt to
// restore), Opened, Begin, Deliver..., Closed. Closed comes if and only if
// Opened came. The next ownership of the same task begins after that. Calls for
// different tasks are concurrent; Deliver is called by one goroutine. No call
// is made under a lock of the Owner.
type Engine interface {
	// Claim begins an ownership of a task. It must not block.
	Claim(task int32) Incarnation

	// NewStore makes the empty in-memory journal of a task.
	NewStore(task int32) Store

	// Opened tells that a task's journal is restored. The engine prepares
	// what it keeps per source from [Source].Offset and [Source].Metadata and
	// may set [Source].Handle. An error, such as of metadata that cannot be
	// read, stops the task as if Opened had not been called.
	Opened(t *Task) error

	// Begin commits in one transaction, for each of the sources, the journal
	// record that says it was begun (topic id and partition) and its start
	// offset. It returns when that is committed, or with an error when the
	// incarnation was closed before. Nothing is delivered before it returned.
	Begin(ctx context.Context, t *Task, fresh []*Source) error

	// Deliver takes records of one source, in offset order, and returns how
	// many it took. It blocks only for the engine's own bounds, those over all
	// sources, and returns early when ctx is done or the incarnation is
	// closed. It takes less than all of them without blocking when this source
	// has no room: its partition is then paused, the rest is held, and the
	// engine calls [Owner.Wake] when there is room again.
	//
	// Some records are transaction markers (Attrs.IsControl()). They carry no
	// event, and their offset is finished at once: the committed offset must
	// pass the marker that a log ends in, for otherwise an idle input whose
	// old segments retention deletes looks as if unread events were lost.
	Deliver(ctx context.Context, src *Source, recs []*kgo.Record) int

	// Recommit commits a source's offset once more, as of the pipeline's
	// gate, so that it does not expire while its partition is idle.
	Recommit(src *Source)

	// Closed tells that the task is no longer ours: its incarnation is closed,
	// nothing of it is delivered any more and no transaction holds it, or it
	// was taken from us without waiting. The engine drops what it keeps of it.
	Closed(t *Task)
}

// Incarnation is one ownership of a task. Every record and result carries it,
// so that nothing of an ownership that ended enters a transaction. The
// pipeline's incarnations are such.
type Incarnation interface {
	// Context is done when the incarnation is closed.
	Context() context.Context

	// Close ends the ownership. It may be called many times and does not block
	// on the network.
	Close(cause error)

	// Wait blocks until no transaction in flight holds results of the
	// incarnation, or ctx is done. It is called right after Close.
	Wait(ctx context.Context) error
}

// Store is the in-memory journal of one task while it is restored.
type Store interface {
	// Apply folds one committed record of the journal partition, in offset
	// order.
	Apply(rec *kgo.Record)

	// Restored is called after the last Apply. An error, of records that
	// cannot be read, stops the task.
	Restored() error

	// Begun returns the topic id under which an input partition was begun;
	// ok is false when the journal does not say that it was.
	Begun(topic string, partition int32) (id [16]byte, ok bool)
}

// Task is one ownership of a partition number, restored. It is not changed
// after Opened.
type Task struct {
	// Partition is the number.
	Partition int32

	// Incarnation is this ownership, as the engine's Claim made it.
	Incarnation Incarnation

	// Store is the restored journal, as the engine's NewStore made it.
	Store Store

	// Sources are the input partitions of the task, the inbox's first, then in
	// the order of [Config].Inputs and partition number.
	Sources []*Source
}

// Home is the source that is the task's own inbox partition.
func (t *Task) Home() *Source { return t.Sources[0] }

// Source is one input partition as read by one incarnation of its task.
type Source struct {
	Task      *Task
	Topic     string
	TopicID   [16]byte
	Partition int32

	// Offset is where reading starts: the committed offset, or the start that
	// the input's From declares when there was none.
	Offset int64

	// Metadata is what was committed with the offset, empty if nothing.
	Metadata string

	// LeaderEpoch is the leader epoch committed with the offset, -1 if none.
	LeaderEpoch int32

	// Handle is the engine's own; the Owner does not look at it. It is set in
	// Opened at the latest.
	Handle any

	from  From
	begun bool         // the journal says so
	fresh bool         // Offset is a start, not a commit
	last  atomic.Int64 // Unix nanoseconds of the last delivery or commit
}
