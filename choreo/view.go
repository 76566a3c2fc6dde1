package choreo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/choreography-go/choreography/choreo/internal/journal"
	"github.com/choreography-go/choreography/choreo/internal/txn"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// state returns the committed state of a flow. The flow's owner answers from
// its memory; any other instance from its view of the journal, after it has
// read up to what was committed when it was asked.
func (e *engine) state(ctx context.Context, name, flow string) ([]byte, error) {
	p := txn.Partition([]byte(flow), e.plan.tasks)
	if o := e.ownedTask(p); o != nil {
		if data, ok := o.store.Committed(flow, name); ok {
			return data, nil
		}
		return nil, fmt.Errorf("%w: %.64q", ErrNoFlow, flow)
	}
	return e.view.state(ctx, p, name, flow)
}

// awaitState calls enough with the flow's state whenever it may have changed,
// until it returns true.
func (e *engine) awaitState(ctx context.Context, name, flow string, enough func([]byte) (bool, error)) error {
	for {
		changed, forget := e.watchers.watch(flow)
		data, err := e.state(ctx, name, flow)
		ok := false
		if err == nil {
			ok, err = enough(data)
		} else if isNoFlow(err) {
			err = nil // not yet
		}
		if ok || err != nil {
			forget()
			return err
		}
		// The commit wakes us, or the view that reads of it. Should ownership
		// move in between, nobody does: look again.
		var again <-chan time.Time
		var t *time.Timer
		if e.ownedTask(txn.Partition([]byte(flow), e.plan.tasks)) == nil {
			t = time.NewTimer(viewInterval)
			again = t.C
		}
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		if t != nil {
			t.Stop()
		}
		forget()
		if err != nil {
			return err
		}
	}
}

const (
	// viewInterval is how often Await looks again for a flow that another
	// instance owns, should nothing wake it.
	viewInterval = time.Second
	// openPatience is how long a read waits for what may still be committed.
	openPatience = 500 * time.Millisecond
)

// watchers are the goroutines that await a change of a flow's state.
type watchers struct {
	mu    sync.Mutex
	flows map[string]*watcher
}

type watcher struct {
	changed chan struct{}
	n       int
}

// watch returns a channel that is closed when the flow's state was committed
// anew. forget must be called.
func (w *watchers) watch(flow string) (changed <-chan struct{}, forget func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.flows == nil {
		w.flows = map[string]*watcher{}
	}
	x := w.flows[flow]
	if x == nil {
		x = &watcher{changed: make(chan struct{})}
		w.flows[flow] = x
	}
	x.n++
	return x.changed, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if x.n--; x.n == 0 && w.flows[flow] == x {
			delete(w.flows, flow)
		}
	}
}

func (w *watchers) wake(flow string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if x := w.flows[flow]; x != nil {
		close(x.changed)
		delete(w.flows, flow)
	}
}

func (w *watchers) wakeAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for flow, x := range w.flows {
		close(x.changed)
		delete(w.flows, flow)
	}
}

// view follows the journal partitions of tasks that other instances own, from
// the first time their state is asked for. It reads committed records only,
// and keeps the slots of states.
type view struct {
	newStore func() *journal.Store
	journal  string
	options  []kgo.Opt
	changed  func(flow string) // told when a state was read anew

	mu         sync.Mutex
	client     *kgo.Client
	closed     bool
	partitions map[int32]*viewPartition
	stopped    chan struct{} // the reader has returned
	ended      chan struct{} // closed with the view
}

type viewPartition struct {
	store *journal.Store
	next  int64         // offset after the last one read
	moved chan struct{} // closed and replaced when next moves
}

func newView(journalTopic string, options []kgo.Opt, newStore func() *journal.Store, changed func(string)) *view {
	return &view{newStore: newStore, journal: journalTopic, options: options, changed: changed, partitions: map[int32]*viewPartition{}, ended: make(chan struct{})}
}

// state returns a state as of the last commit before the call. A transaction
// has committed before its markers are written, so that the last stable offset
// may lie before it: the read waits for all that was written. What is still open
// after a while was not committed when the call came, and is not waited for: its
// instance may be dead.
func (v *view) state(ctx context.Context, partition int32, name, flow string) ([]byte, error) {
	p, cl, err := v.follow(partition)
	if err != nil {
		return nil, err
	}
	end, err := lastOffset(ctx, cl, v.journal, partition, readUncommitted)
	if err != nil {
		return nil, fmt.Errorf("read the state of a flow that another instance owns: %w", err)
	}
	patience := time.NewTimer(openPatience)
	defer patience.Stop()
	for {
		v.mu.Lock()
		next, moved := p.next, p.moved
		v.mu.Unlock()
		if next >= end {
			break
		}
		select {
		case <-moved:
		case <-patience.C:
			if end, err = lastOffset(ctx, cl, v.journal, partition, readCommitted); err != nil {
				return nil, fmt.Errorf("read the state of a flow that another instance owns: %w", err)
			}
		case <-v.ended:
			return nil, ErrNotRunning
		case <-ctx.Done():
			return nil, fmt.Errorf("read the journal of task %d up to offset %d, is at %d: %w", partition, end, next, context.Cause(ctx))
		}
	}
	if data, ok := p.store.Committed(flow, name); ok {
		return data, nil
	}
	return nil, fmt.Errorf("%w: %.64q", ErrNoFlow, flow)
}

// follow starts to read a partition, if that is not done yet.
func (v *view) follow(partition int32) (*viewPartition, *kgo.Client, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil, nil, ErrNotRunning
	}
	if v.client == nil {
		cl, err := kgo.NewClient(append([]kgo.Opt{
			kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
			// A partition that is added waits for the fetch that is under way.
			kgo.FetchMaxWait(100 * time.Millisecond),
		}, v.options...)...)
		if err != nil {
			return nil, nil, fmt.Errorf("make the client that reads the journal: %w", err)
		}
		v.client, v.stopped = cl, make(chan struct{})
		go v.read(cl)
	}
	p := v.partitions[partition]
	if p == nil {
		p = &viewPartition{store: v.newStore(), moved: make(chan struct{})}
		v.partitions[partition] = p
		v.client.AddConsumePartitions(map[string]map[int32]kgo.Offset{v.journal: {partition: kgo.NewOffset().AtStart()}})
	}
	return p, v.client, nil
}

func (v *view) read(cl *kgo.Client) {
	defer close(v.stopped)
	for {
		fs := cl.PollFetches(context.Background())
		if fs.IsClientClosed() {
			return
		}
		fs.EachPartition(func(f kgo.FetchTopicPartition) {
			if len(f.Records) == 0 {
				return
			}
			v.mu.Lock()
			p := v.partitions[f.Partition]
			v.mu.Unlock()
			var flows []string
			for _, rec := range f.Records {
				if flow, ok := stateSlot(rec.Key); ok && !rec.Attrs.IsControl() {
					p.store.Apply(rec)
					flows = append(flows, string(flow))
				}
			}
			v.mu.Lock()
			p.next = f.Records[len(f.Records)-1].Offset + 1
			close(p.moved)
			p.moved = make(chan struct{})
			v.mu.Unlock()
			for _, flow := range flows {
				v.changed(flow)
			}
		})
	}
}

// stateSlot returns the flow of a journal key, flow NUL slot, if the slot is a
// state.
func stateSlot(key []byte) (flow []byte, ok bool) {
	i := bytes.LastIndexByte(key, 0)
	if i < 0 || !bytes.HasPrefix(key[i+1:], []byte("state/")) {
		return nil, false
	}
	return key[:i], true
}

func (v *view) close() {
	v.mu.Lock()
	v.closed = true
	close(v.ended)
	cl, stopped := v.client, v.stopped
	parts := slices.Collect(maps.Keys(v.partitions))
	v.mu.Unlock()
	if cl != nil {
		// A metadata update that finds a new partition to read while kgo closes
		// begins a fetch behind the last one that kgo waits for.
		cl.RemoveConsumePartitions(map[string][]int32{v.journal: parts})
		cl.Close()
		<-stopped
	}
}

// isolation levels of a ListOffsets request.
const (
	readUncommitted int8 = 0 // the end of the log
	readCommitted   int8 = 1 // the last stable offset: all before it is committed or aborted
)

// lastOffset asks the partition's leader for the offset after the last record,
// again while the partition has no leader, until ctx ends.
func lastOffset(ctx context.Context, cl *kgo.Client, topic string, partition int32, isolation int8) (int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.IsolationLevel = isolation
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewListOffsetsRequestTopicPartition()
	rp.Partition, rp.Timestamp = partition, -1
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		offset, err := offsetIn(cl.RequestSharded(ctx, req))
		if err == nil {
			return offset, nil
		}
		err = fmt.Errorf("list the last offset of %s/%d: %w", topic, partition, err)
		if !kerr.IsRetriable(err) {
			return 0, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return 0, err
		}
	}
}

func offsetIn(shards []kgo.ResponseShard) (int64, error) {
	for _, shard := range shards {
		if shard.Err != nil {
			return 0, shard.Err
		}
		for _, t := range shard.Resp.(*kmsg.ListOffsetsResponse).Topics {
			for _, p := range t.Partitions {
				return p.Offset, kerr.ErrorForCode(p.ErrorCode)
			}
		}
	}
	return 0, errors.New("no answer names it")
}

func isNoFlow(err error) bool { return errors.Is(err, ErrNoFlow) }
