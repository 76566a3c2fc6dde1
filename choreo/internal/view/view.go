// Package view reads the states of flows from the journal of tasks that other
// instances own.
//
// It owns a client that reads committed records of the journal, and a memory of the
// states in them. It writes nothing, belongs to no group, and may not be asked for the
// truth about a task of our own, which is in that task's memory: who owns a task it
// does not know.
package view

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
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Config says what a View reads.
type Config struct {
	Journal  string // topic
	NewStore func() *journal.Store
	Options  []kgo.Opt         // of the client
	Changed  func(flow string) // told of each flow of which a state was read
}

// View follows partitions of the journal, each from the first time that a state of
// it is asked for.
type View struct {
	cfg Config

	mu         sync.Mutex
	client     *kgo.Client
	closed     bool
	partitions map[int32]*partition
	stopped    chan struct{} // the reader has returned
	ended      chan struct{} // closed with the view
}

// ErrClosed is returned once the view is closed.
var ErrClosed = errors.New("the view of the journal is closed")

// openPatience is how long a read waits for what may still be committed.
const openPatience = 500 * time.Millisecond

type partition struct {
	store *journal.Store
	next  int64         // offset after the last one read
	moved chan struct{} // closed and replaced when next moves
}

// New makes a view that reads nothing yet.
func New(cfg Config) *View {
	return &View{cfg: cfg, partitions: map[int32]*partition{}, ended: make(chan struct{})}
}

// State returns a state as of the last commit before the call, if it is known. A
// transaction has committed before its markers are written, so that the last stable
// offset may lie before it: the read waits for all that was written. What is still
// open after a while was not committed when the call came, and is not waited for: its
// instance may be dead.
func (v *View) State(ctx context.Context, task int32, name, flow string) (data []byte, known bool, err error) {
	p, cl, err := v.follow(task)
	if err != nil {
		return nil, false, err
	}
	end, err := lastOffset(ctx, cl, v.cfg.Journal, task, readUncommitted)
	if err != nil {
		return nil, false, fmt.Errorf("read the state of a flow that another instance owns: %w", err)
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
			if end, err = lastOffset(ctx, cl, v.cfg.Journal, task, readCommitted); err != nil {
				return nil, false, fmt.Errorf("read the state of a flow that another instance owns: %w", err)
			}
		case <-v.ended:
			return nil, false, ErrClosed
		case <-ctx.Done():
			return nil, false, fmt.Errorf("read the journal of task %d up to offset %d, is at %d: %w", task, end, next, context.Cause(ctx))
		}
	}
	data, known = p.store.Committed(flow, name)
	return data, known, nil
}

// follow starts to read a partition, if that is not done yet.
func (v *View) follow(task int32) (*partition, *kgo.Client, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil, nil, ErrClosed
	}
	if v.client == nil {
		cl, err := kgo.NewClient(append([]kgo.Opt{
			kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
			// A partition that is added waits for the fetch that is under way.
			kgo.FetchMaxWait(100 * time.Millisecond),
		}, v.cfg.Options...)...)
		if err != nil {
			return nil, nil, fmt.Errorf("make the client that reads the journal: %w", err)
		}
		v.client, v.stopped = cl, make(chan struct{})
		go v.read(cl)
	}
	p := v.partitions[task]
	if p == nil {
		p = &partition{store: v.cfg.NewStore(), moved: make(chan struct{})}
		v.partitions[task] = p
		v.client.AddConsumePartitions(map[string]map[int32]kgo.Offset{v.cfg.Journal: {task: kgo.NewOffset().AtStart()}})
	}
	return p, v.client, nil
}

func (v *View) read(cl *kgo.Client) {
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
				v.cfg.Changed(flow)
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

// Close ends what the view has started. Whoever waits for a state gets ErrClosed.
func (v *View) Close() {
	v.mu.Lock()
	v.closed = true
	close(v.ended)
	cl, stopped := v.client, v.stopped
	parts := slices.Collect(maps.Keys(v.partitions))
	v.mu.Unlock()
	if cl != nil {
		// A metadata update that finds a new partition to read while kgo closes
		// begins a fetch behind the last one that kgo waits for.
		cl.RemoveConsumePartitions(map[string][]int32{v.cfg.Journal: parts})
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
