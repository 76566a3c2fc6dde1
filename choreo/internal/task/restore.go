package task

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// restoreTick is how often a restore that gets nothing looks whether it is
	// blocked.
	restoreTick = 50 * time.Millisecond
	// Journal records are small and many: large fetches, few round trips.
	restoreFetchBytes = 16 << 20
)

// restore reads the journal partition of a task into the store. It must be
// called after the stable fetch of the task's offsets: every transaction whose
// offsets that fetch saw has its journal records below the high watermark as it
// is now, though their markers may still be missing. So it reads committed up
// to that high watermark, and counts control records, for the log ends in them.
func (o *Owner) restore(ctx context.Context, num int32, store Store, applied func()) error {
	p := partition{o.cfg.Journal, num}
	ends, err := listOffsets(ctx, o.meta, []partition{p}, highWatermark)
	if err != nil {
		return err
	}
	starts, err := listOffsets(ctx, o.meta, []partition{p}, logStart)
	if err != nil {
		return err
	}
	pos, end := starts[p], ends[p]
	if pos >= end {
		return nil
	}
	cl, err := o.client(
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{p.topic: {p.num: kgo.NewOffset().At(pos)}}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(),
		kgo.FetchMaxWait(500*time.Millisecond),
		kgo.FetchMaxBytes(restoreFetchBytes),
		kgo.FetchMaxPartitionBytes(restoreFetchBytes),
	)
	if err != nil {
		return err
	}
	defer cl.Close()

	blocked := o.relief(fmt.Sprintf("restore of journal %q, partition %d, at offset %d of %d", p.topic, p.num, pos, end), &p)
	for pos < end {
		tick, cancel := context.WithTimeout(ctx, restoreTick)
		fetches := cl.PollRecords(tick, o.cfg.PollRecords)
		cancel()
		if err := ctx.Err(); err != nil {
			return err
		}
		for _, fe := range fetches.Errors() {
			switch {
			case errors.Is(fe.Err, context.DeadlineExceeded):
			case kerr.IsRetriable(fe.Err):
				o.log.Warn("restoring the journal: trying again", "topic", p.topic, "partition", p.num, "error", fe.Err)
			default:
				return fmt.Errorf("reading journal %q, partition %d: %w", p.topic, p.num, fe.Err)
			}
		}
		got := false
		for it := fetches.RecordIter(); !it.Done(); {
			rec := it.Next()
			got = true
			if rec.Offset >= end { // another's, who fences itself; not ours to see
				pos = end
				break
			}
			pos = rec.Offset + 1
			if rec.Attrs.IsControl() {
				continue
			}
			store.Apply(rec)
			applied()
		}
		if got {
			blocked.progressed()
		} else if err := blocked.blocked(ctx); err != nil && ctx.Err() == nil {
			o.log.Warn("the restore of the journal is blocked and the transaction that blocks it cannot be ended; it waits for the transaction's timeout", "topic", p.topic, "partition", p.num, "error", err)
		}
	}
	return nil
}
