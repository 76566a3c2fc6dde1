package txn

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/choreography-go/choreography/choreo/internal/producer"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// transaction is one on its way through the stages.
type transaction struct {
	s    *session
	l    *lane
	seq  int64
	who  producer.Identity
	load // what the gate let through

	ctx    context.Context
	cancel context.CancelFunc
	began  time.Time
	acks   *acks
}

// begin takes what is gathered through the gate. It returns nil if nothing that
// has outputs got through. The turn in stage (a) is held.
func (s *session) begin(l *lane) *transaction {
	l.batch = s.p.take(l.batch[:0])
	load, ok := s.p.gate(l.batch, false)
	if !ok {
		return nil
	}
	t := &transaction{s: s, l: l, seq: s.seq.Add(1), load: load, began: time.Now()}
	t.ctx, t.cancel = s.timeout()
	s.p.cfg.Observer.LanesBusy(int(s.busy.Add(1)))
	return t
}

// run takes the transaction through all stages and reports whether it has
// committed. The turn in stage (a) is held; it is passed on as are the others.
func (t *transaction) run() bool {
	l := t.l
	defer t.cancel()
	defer func() {
		left := t.s.busy.Add(-1)
		if left == 0 {
			t.s.p.signal() // who waits for company goes on alone
		}
		t.s.p.cfg.Observer.LanesBusy(int(left))
	}()
	for stage, do := range [...]func() *Error{stageOffsets: t.commitOffsets, stageRecords: t.produce, stageEnd: t.end} {
		if stage != stageOffsets {
			<-l.turns[stage]
		}
		if !t.s.doomed(t.seq) {
			if err := do(); err != nil {
				t.s.fail(t.seq, err)
			}
		}
		doomed := t.s.doomed(t.seq)
		l.pass(stage)
		if doomed {
			t.s.p.tell(t.load, false)
			return false
		}
	}
	took := time.Since(t.began)
	t.s.committed.Store(true)
	<-l.turns[stageDone]
	t.s.p.tell(t.load, true)
	t.s.p.cfg.Observer.Committed(took, len(t.results), t.records, t.bytes)
	l.pass(stageDone)
	return true
}

// tell tells whose the results were that they are committed, or that they are
// not known to be, and lets go of the load.
func (p *Pipeline) tell(load load, committed bool) {
	for _, r := range load.results {
		r.done(committed)
	}
	p.cfg.Fence.release(load.held)
	p.settle(len(load.results))
}

// commitOffsets is stage (a).
func (t *transaction) commitOffsets() *Error {
	failure := func(err error) *Error {
		return &Error{Reason: reasonOf(err, ReasonFenced), Err: fmt.Errorf("beginning a transaction of %s: %w", t.l.id, err)}
	}
	if err := t.l.client.BeginTransaction(); err != nil {
		return failure(err)
	}
	id, epoch, err := t.l.client.ProducerID(t.ctx)
	if err != nil {
		return failure(err)
	}
	t.who = producer.Identity{TransactionalID: t.l.id, ID: id, Epoch: epoch}
	c := &committer{p: t.s.p, client: t.l.client, held: t.held, commits: t.commits, as: t.as, who: t.who}
	return c.send(t.ctx)
}

// produce is stage (b): it returns when all records are acknowledged.
func (t *transaction) produce() *Error {
	t.acks = &acks{who: t.who, left: t.records, done: make(chan struct{})}
	spread, promise := spreadOf(t.l.client), t.acks.promise // one function for all records
	for _, r := range t.results {
		for _, rec := range r.Records {
			known := spread.known(rec.Topic)
			t.l.client.Produce(context.Background(), rec, promise)
			if known {
				spread.add(rec.Topic, rec.Partition)
			}
		}
	}
	if err := spread.announce(t.ctx, &t.who); err != nil {
		return &Error{Reason: reasonOf(err, ReasonRefused), Err: fmt.Errorf("adding partitions to a transaction of %s: %w", t.l.id, err)}
	}
	flush := t.l.client.Flush(t.ctx)
	select {
	case <-t.acks.done:
	case <-t.ctx.Done():
		if flush == nil {
			flush = context.Cause(t.ctx)
		}
		return &Error{Reason: ReasonNoAnswer, Err: fmt.Errorf("producing %d records in a transaction of %s: %w", t.records, t.l.id, flush)}
	}
	if rec, err := t.acks.failure(); err != nil {
		return t.refusal(rec, err)
	}
	return nil
}

// refusal files the error of a record.
func (t *transaction) refusal(rec *kgo.Record, err error) *Error {
	if errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge) {
		return &Error{Reason: ReasonTooLarge, Err: fmt.Errorf("producing in a transaction of %s: %w: %w", t.l.id, t.largest(rec), err)}
	}
	return &Error{Reason: reasonOf(err, ReasonProduce),
		Err: fmt.Errorf("producing to %s-%d in a transaction of %s: %w", rec.Topic, rec.Partition, t.l.id, err)}
}

// largest blames the largest record of those that went where rec was to go: the
// broker judges batches, and the client fails a partition's records together.
func (t *transaction) largest(rec *kgo.Record) *RecordTooLargeError {
	found := &RecordTooLargeError{Topic: rec.Topic, Limit: int(t.s.p.cfg.BatchBytes(rec.Topic))}
	for _, r := range t.results {
		for _, other := range r.Records {
			if other.Topic != rec.Topic || other.Partition != rec.Partition {
				continue
			}
			if n := RecordSize(other) + batchOverhead; n > found.Bytes {
				found.Bytes, found.Result, found.Record = n, r, other
			}
		}
	}
	return found
}

// end is stage (c). The client may say nil having aborted, or having done
// nothing: every record is acknowledged under the id and epoch of stage (a),
// and they have not changed since, so that there is something to commit and
// this is what is committed.
func (t *transaction) end() *Error {
	id, epoch, err := t.l.client.ProducerID(t.ctx)
	if err == nil && (id != t.who.ID || epoch != t.who.Epoch) {
		err = kerr.InvalidProducerEpoch
	}
	if err == nil {
		err = t.shown()
	}
	if err == nil {
		err = t.l.client.EndTransaction(t.ctx, kgo.TryCommit)
	}
	if err != nil {
		return &Error{Reason: reasonOf(err, ReasonRefused), Err: fmt.Errorf("ending a transaction of %s: %w", t.l.id, err)}
	}
	return nil
}

// shown waits until the client shows a partition that was produced to. It looks
// among those for what there is to commit, and if it finds nothing it aborts and
// says nil. The first records of a topic can be acknowledged before it shows the
// topic's partitions: it partitions what waited for them, and then stores them.
func (t *transaction) shown() error {
	for t.records > 0 {
		for _, r := range t.results {
			for _, rec := range r.Records {
				if leader, _, _ := t.l.client.PartitionLeader(rec.Topic, rec.Partition); leader >= 0 {
					return nil
				}
			}
		}
		if err := pause(t.ctx, time.Millisecond, errors.New("the client does not show the partitions that it has produced to")); err != nil {
			return err
		}
	}
	return nil
}

// acks gathers the acknowledgements of a transaction's records.
type acks struct {
	who  producer.Identity
	done chan struct{} // closed when none is left

	mu   sync.Mutex
	left int
	rec  *kgo.Record // the first that was refused, and why
	err  error
}

// promise is called once for every record, by one goroutine of the client.
func (a *acks) promise(rec *kgo.Record, err error) {
	if err == nil && (rec.ProducerID != a.who.ID || rec.ProducerEpoch != a.who.Epoch) {
		err = fmt.Errorf("acknowledged for another producer id or epoch: %w", kerr.InvalidProducerEpoch)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil && a.err == nil {
		a.rec, a.err = rec, err
	}
	if a.left--; a.left == 0 {
		close(a.done)
	}
}

func (a *acks) failure() (*kgo.Record, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.rec, a.err
}
