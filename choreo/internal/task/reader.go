package task

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// fetcher is what the reader needs of the data client.
type fetcher interface {
	AddConsumePartitions(map[string]map[int32]kgo.Offset)
	RemoveConsumePartitions(map[string][]int32)
	PauseFetchPartitions(map[string][]int32) map[string][]int32
	ResumeFetchPartitions(map[string][]int32)
	PollRecords(ctx context.Context, max int) kgo.Fetches
}

// reader hands what the data client fetches to the engine. One goroutine, run,
// applies changes of assignment, polls and delivers, so that nothing of a task
// is delivered after remove has returned.
type reader struct {
	cl     fetcher
	engine Engine
	max    int                                    // records per poll
	failed func(*Task, partition, error)          // a partition cannot be read on
	notice func(topic string, p int32, err error) // an error that may pass
	done   chan struct{}                          // closed when run has returned

	mu       sync.Mutex
	commands []command
	stopped  bool
	base     context.Context
	pass     context.Context // of the current poll or delivery; cancelled to be heard
	cancel   context.CancelFunc

	wakes   atomic.Uint64 // calls of wake
	blocked atomic.Int64  // feeds without room

	// Below: run's own.
	feeds map[partition]*feed
	ready []*feed // those that hold records and are not blocked, in the order of arrival
}

// feed is one partition that is read.
type feed struct {
	src     *Source
	held    []*kgo.Record // polled and not yet taken
	blocked bool          // the engine had no room: fetching is paused
	queued  bool          // in ready
}

type command struct {
	task   *Task
	remove bool
	done   chan struct{}
}

func newReader(ctx context.Context, cl fetcher, engine Engine, max int) *reader {
	r := &reader{cl: cl, engine: engine, max: max, base: ctx, done: make(chan struct{}), feeds: make(map[partition]*feed)}
	r.pass, r.cancel = context.WithCancel(ctx)
	return r
}

// add begins the reading of a task's sources at their offsets. It returns false
// when the reader has stopped or ctx, the task's tenure, was done before.
func (r *reader) add(ctx context.Context, t *Task) bool {
	if ctx.Err() != nil {
		return false
	}
	return r.tell(command{task: t, done: make(chan struct{})})
}

// remove ends the reading of a task and drops what was polled of it. When it
// returns, nothing of the task is delivered any more.
func (r *reader) remove(t *Task) { r.tell(command{task: t, remove: true, done: make(chan struct{})}) }

func (r *reader) tell(c command) bool {
	r.mu.Lock()
	if r.stopped {
		r.mu.Unlock()
		<-r.done
		return false
	}
	r.commands = append(r.commands, c)
	r.cancel()
	r.mu.Unlock()
	select {
	case <-c.done:
		return true
	case <-r.done:
		return false
	}
}

// stop ends run and waits until it has returned.
func (r *reader) stop() {
	r.mu.Lock()
	r.stopped = true
	r.cancel()
	r.mu.Unlock()
	<-r.done
}

// wake makes run offer again what was not taken for lack of room.
func (r *reader) wake() {
	r.wakes.Add(1)
	if r.blocked.Load() == 0 {
		return
	}
	r.mu.Lock()
	r.cancel()
	r.mu.Unlock()
}

// next takes the commands and makes the context of the next pass. It is done
// under one lock with their arrival, so that none is slept over.
func (r *reader) next() (context.Context, []command, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	commands := r.commands
	r.commands = nil
	if r.pass.Err() != nil && !r.stopped {
		r.cancel()
		r.pass, r.cancel = context.WithCancel(r.base)
	}
	return r.pass, commands, !r.stopped && r.base.Err() == nil
}

func (r *reader) run() {
	defer func() {
		r.forget()
		r.mu.Lock()
		r.stopped = true
		r.cancel()
		r.mu.Unlock()
		close(r.done)
	}()
	var woken uint64
	for {
		ctx, commands, on := r.next()
		for _, c := range commands {
			r.apply(c)
			close(c.done)
		}
		if !on {
			return
		}
		if w := r.wakes.Load(); w != woken {
			woken = w
			r.unblock()
		}
		r.deliver(ctx)
		if len(r.ready) > 0 || ctx.Err() != nil {
			continue
		}
		r.take(r.cl.PollRecords(ctx, r.max))
	}
}

func (r *reader) apply(c command) {
	if c.remove {
		parts := make(map[string][]int32)
		for _, s := range c.task.Sources {
			p := partition{s.Topic, s.Partition}
			f := r.feeds[p]
			if f == nil || f.src != s {
				continue
			}
			f.held = nil
			if f.blocked {
				f.blocked = false
				r.blocked.Add(-1)
			}
			delete(r.feeds, p)
			parts[s.Topic] = append(parts[s.Topic], s.Partition)
		}
		if len(parts) > 0 {
			r.cl.ResumeFetchPartitions(parts) // a pause would outlive the removal
			r.cl.RemoveConsumePartitions(parts)
		}
		return
	}
	parts := make(map[string]map[int32]kgo.Offset)
	for _, s := range c.task.Sources {
		r.feeds[partition{s.Topic, s.Partition}] = &feed{src: s}
		if parts[s.Topic] == nil {
			parts[s.Topic] = make(map[int32]kgo.Offset)
		}
		at := kgo.NewOffset().At(s.Offset)
		if s.LeaderEpoch >= 0 {
			at = at.WithEpoch(s.LeaderEpoch)
		}
		parts[s.Topic][s.Partition] = at
	}
	r.cl.AddConsumePartitions(parts)
}

// forget takes every partition from the client, so that it may be closed: a
// metadata update that finds a new partition to read while kgo closes begins a
// fetch behind the last one that kgo waits for.
func (r *reader) forget() {
	parts := make(map[string][]int32)
	for p := range r.feeds {
		parts[p.topic] = append(parts[p.topic], p.num)
	}
	if len(parts) > 0 {
		r.cl.RemoveConsumePartitions(parts)
	}
}

// unblock offers everything again that had no room.
func (r *reader) unblock() {
	if r.blocked.Load() == 0 {
		return
	}
	parts := make(map[string][]int32)
	for p, f := range r.feeds {
		if !f.blocked {
			continue
		}
		f.blocked = false
		r.blocked.Add(-1)
		parts[p.topic] = append(parts[p.topic], p.num)
		r.queue(f)
	}
	r.cl.ResumeFetchPartitions(parts)
}

func (r *reader) queue(f *feed) {
	if !f.queued && len(f.held) > 0 {
		f.queued = true
		r.ready = append(r.ready, f)
	}
}

// deliver gives each ready feed's records to the engine until it has taken
// them, has no room for that feed, or ctx is done.
func (r *reader) deliver(ctx context.Context) {
	for len(r.ready) > 0 && ctx.Err() == nil {
		f := r.ready[0]
		r.ready = r.ready[1:]
		f.queued = false
		if len(f.held) == 0 { // removed
			continue
		}
		if f.src.Task.Incarnation.Context().Err() != nil {
			f.held = nil // its removal is under way
			continue
		}
		before := r.wakes.Load()
		n := r.engine.Deliver(ctx, f.src, f.held)
		if n > 0 {
			f.src.last.Store(time.Now().UnixNano())
		}
		clear(f.held[:n])
		f.held = f.held[n:]
		switch {
		case len(f.held) == 0:
			f.held = nil
		case ctx.Err() != nil:
			f.queued = true
			r.ready = append([]*feed{f}, r.ready...)
		default:
			r.block(f, before)
		}
	}
	if len(r.ready) == 0 {
		r.ready = nil
	}
}

// block pauses a feed that had no room. If wake was called since before, the
// room may be there already, and the feed is offered again.
func (r *reader) block(f *feed, before uint64) {
	f.blocked = true
	r.blocked.Add(1)
	if r.wakes.Load() != before {
		f.blocked = false
		r.blocked.Add(-1)
		r.queue(f)
		return
	}
	r.cl.PauseFetchPartitions(map[string][]int32{f.src.Topic: {f.src.Partition}})
}

// take sorts what was polled to the feeds.
func (r *reader) take(fetches kgo.Fetches) {
	for _, fetch := range fetches {
		for j := range fetch.Topics {
			t := &fetch.Topics[j]
			for k := range t.Partitions {
				p := &t.Partitions[k]
				if p.Err != nil {
					r.fault(partition{t.Topic, p.Partition}, p.Err)
				}
				if len(p.Records) == 0 {
					continue
				}
				f := r.feeds[partition{t.Topic, p.Partition}]
				if f == nil {
					continue
				}
				if t.TopicID != f.src.TopicID && t.TopicID != [16]byte{} {
					r.failed(f.src.Task, partition{t.Topic, p.Partition}, kerr.UnknownTopicID)
					continue
				}
				f.held = append(f.held, withoutMarkers(p.Records)...)
				r.queue(f)
			}
		}
	}
}

// withoutMarkers drops transaction markers, in place, except one that comes
// last: only the position behind it matters.
func withoutMarkers(recs []*kgo.Record) []*kgo.Record {
	kept := recs[:0]
	for i, rec := range recs {
		if i == len(recs)-1 || !rec.Attrs.IsControl() {
			kept = append(kept, rec)
		}
	}
	clear(recs[len(kept):])
	return kept
}

// fault sorts an error that the data client reports. Errors that pass are
// retried by kgo itself; the others end the reading of the partition.
func (r *reader) fault(p partition, err error) {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, kgo.ErrClientClosed) {
		return
	}
	r.notice(p.topic, p.num, err)
	if kerr.IsRetriable(err) {
		return
	}
	for q, f := range r.feeds {
		if q.topic == p.topic && (q.num == p.num || p.num < 0) {
			f.held = nil
			r.failed(f.src.Task, q, err)
		}
	}
}
