package task

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// unstableRetry is how soon an unstable offset fetch is tried again.
	unstableRetry = 15 * time.Millisecond
	// openBackoff and openBackoffMax space attempts that failed for reasons
	// that may pass, such as a broker that is away.
	openBackoff    = 100 * time.Millisecond
	openBackoffMax = 5 * time.Second
)

// open opens a task, trying again until it is open, stopped or not ours.
func (o *Owner) open(t *tenure) {
	inc, err := t.claim(o.cfg.Engine)
	if err != nil {
		return
	}
	backoff := openBackoff
	for {
		err := o.openOnce(t, inc)
		switch {
		case err == nil, t.ctx.Err() != nil: // in the latter case whoever ended it goes on
			return
		case stops(err):
			o.stop(t, err)
			return
		}
		o.log.Warn("opening a task failed: trying again", "task", t.num, "in", backoff, "error", err)
		t.enter(Waiting, err)
		if pause(t.ctx, backoff) != nil {
			return
		}
		backoff = min(2*backoff, openBackoffMax)
	}
}

func (o *Owner) openOnce(t *tenure, inc Incarnation) error {
	ctx := t.ctx
	o.progress(t, Opening)
	began := time.Now()

	is, err := describe(ctx, o.meta, o.cfg.names())
	if err != nil {
		return err
	}
	o.mu.Lock()
	was := o.topology
	o.mu.Unlock()
	if err := o.cfg.compare(was, is); err != nil {
		return err
	}

	task := &Task{Partition: t.num, Incarnation: inc, Sources: o.cfg.sources(was, t.num)}
	for _, s := range task.Sources {
		s.Task = task
	}
	if err := o.stableOffsets(ctx, t.num, task.Sources); err != nil {
		return err
	}

	if task.Store, err = o.restoreStore(t); err != nil {
		return err
	}
	if err := o.checkBegun(task); err != nil {
		return err
	}
	if err := o.checkLogs(ctx, task); err != nil {
		return err
	}

	if err := o.cfg.Engine.Opened(task); err != nil {
		return &refusedError{fmt.Errorf("task %d: %w", t.num, err)}
	}
	t.mu.Lock()
	t.task = task // from here on, end calls Closed
	t.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	var begin []*Source
	for _, s := range task.Sources {
		if !s.begun {
			begin = append(begin, s)
		}
	}
	if len(begin) > 0 {
		if err := o.cfg.Engine.Begin(ctx, task, begin); err != nil {
			// The task is open in the engine, so it cannot simply be tried
			// again: the incarnation is closed, or this ends it.
			if ctx.Err() == nil {
				o.reopen(task, fmt.Errorf("recording that input partitions are begun: %w", err))
			}
			return nil
		}
	}
	if !o.reader.Load().add(ctx, task) {
		return nil // not reading any more: it is being revoked, or the service stops
	}
	t.enter(Open, nil)
	t.mu.Lock()
	o.log.Info("task open", "task", t.num, "after", time.Since(began).Round(time.Millisecond),
		"journal_records", t.records, "restore", t.restoreTook.Round(time.Millisecond), "new_inputs", len(begin))
	t.mu.Unlock()
	return nil
}

// progress notes a phase of opening; a task that was stopped and is tried again
// shows as stopped until it is open.
func (o *Owner) progress(t *tenure, p Phase) {
	t.mu.Lock()
	stopped, err := t.phase == Stopped, t.err
	t.mu.Unlock()
	if !stopped {
		t.enter(p, err)
	}
}

// stableOffsets fetches the committed offsets of the sources, waiting for open
// transactions with such offsets and ending those that a dead instance left.
func (o *Owner) stableOffsets(ctx context.Context, num int32, sources []*Source) error {
	blocked := o.relief(fmt.Sprintf("stable offset fetch of task %d", num), nil)
	for {
		err := fetchCommitted(ctx, o.meta, o.cfg.Group, sources)
		if !errors.Is(err, errUnstable) {
			return err
		}
		if err := blocked.blocked(ctx); err != nil && ctx.Err() == nil {
			o.log.Warn("the committed offsets are blocked and the transaction that blocks them cannot be ended; they wait for the transaction's timeout", "task", num, "error", err)
		}
		if err := pause(ctx, unstableRetry); err != nil {
			return err
		}
	}
}

// restoreStore makes a store and restores it; a bounded number at once.
func (o *Owner) restoreStore(t *tenure) (Store, error) {
	select {
	case o.restoring <- struct{}{}:
		defer func() { <-o.restoring }()
	case <-t.ctx.Done():
		return nil, t.ctx.Err()
	}
	o.progress(t, Restoring)
	t.mu.Lock()
	t.restoreBegan, t.restoreTook, t.records = time.Now(), 0, 0
	t.mu.Unlock()
	store := o.cfg.Engine.NewStore(t.num)
	err := o.restore(t.ctx, t.num, store, func() {
		t.mu.Lock()
		t.records++
		t.mu.Unlock()
	})
	t.mu.Lock()
	t.restoreTook = time.Since(t.restoreBegan)
	t.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if err := store.Restored(); err != nil {
		return nil, &StoreError{Topic: o.cfg.Journal, Partition: t.num, Err: err}
	}
	return store, nil
}

// checkBegun compares what the group committed with what the journal says was
// begun, source by source, and returns everything that does not fit.
func (o *Owner) checkBegun(task *Task) error {
	var errs []error
	for _, s := range task.Sources {
		id, begun := task.Store.Begun(s.Topic, s.Partition)
		committed := s.Offset >= 0
		refuse := func(format string, a ...any) {
			errs = append(errs, &OffsetsError{
				Group: o.cfg.Group, Topic: s.Topic, Partition: s.Partition,
				What: fmt.Sprintf(format, a...), Remedy: o.cfg.reset(s.Topic),
			})
		}
		switch {
		case begun && id != s.TopicID:
			refuse("the journal says it was begun under topic id %s, but the topic is now %s: it was deleted and created anew", idText(id), idText(s.TopicID))
		case begun && !committed:
			refuse("the journal says it was begun, but the group has no committed offset for it: offsets expire when the group has no members for offsets.retention.minutes, or were deleted")
		default:
			// Committed but not begun: a tool or an operator set the offset.
			s.begun, s.fresh = begun, !committed
		}
	}
	return errors.Join(errs...)
}

// checkLogs sets the start of the sources that were never read, and checks for
// the others that the log still holds what comes next: what retention removed
// unread, or an unclean election cut off, must be said.
func (o *Owner) checkLogs(ctx context.Context, task *Task) error {
	parts := make([]partition, 0, len(task.Sources))
	latest := false
	for _, s := range task.Sources {
		parts = append(parts, partition{s.Topic, s.Partition})
		latest = latest || s.fresh && s.from == Latest
	}
	starts, err := listOffsets(ctx, o.meta, parts, logStart)
	if err != nil {
		return err
	}
	ends, err := listOffsets(ctx, o.meta, parts, highWatermark)
	if err != nil {
		return err
	}
	stable := ends
	if latest { // what an open transaction commits later is not there already
		if stable, err = listOffsets(ctx, o.meta, parts, lastStable); err != nil {
			return err
		}
	}
	var errs []error
	for _, s := range task.Sources {
		p := partition{s.Topic, s.Partition}
		refuse := func(format string, a ...any) {
			errs = append(errs, &OffsetsError{
				Group: o.cfg.Group, Topic: s.Topic, Partition: s.Partition,
				What: fmt.Sprintf(format, a...), Remedy: o.cfg.reset(s.Topic),
			})
		}
		switch {
		case s.fresh && s.from == Latest:
			s.Offset, s.LeaderEpoch = stable[p], -1
		case s.fresh:
			s.Offset, s.LeaderEpoch = starts[p], -1
		case s.Offset < starts[p]:
			refuse("the committed offset is %d, but the log begins at %d: %d offsets were removed before they were read", s.Offset, starts[p], starts[p]-s.Offset)
		case s.Offset > ends[p]:
			refuse("the committed offset is %d, but the log ends at %d: its end was cut off", s.Offset, ends[p])
		}
		s.last.Store(time.Now().UnixNano())
	}
	return errors.Join(errs...)
}
