package txn

import (
	"context"
	"slices"
	"time"

	"github.com/choreography-go/choreography/choreo/internal/producer"
	"github.com/twmb/franz-go/pkg/kgo"
)

// silent is the producer of transactions that hold offsets alone. A client's
// producer ends none to which it has not produced, so that this one sends the
// requests itself, through the client of whatever lane has the turn.
//
// A plain OffsetCommit would not do: one that got no answer may be carried out
// at any time later, and rewind the group. This one's is fenced.
//
// Whoever has the turns of all stages may use it.
type silent struct {
	p    *Pipeline
	left producer.Leftovers // of those who had the id before
	who  producer.Identity  // of the next transaction; not usable: the id is to be initialized
}

// open ends what a predecessor left open, and fences its late requests, as is
// done for a lane. ctx bounds it; when it fails it is called again.
func (q *silent) open(ctx context.Context) error {
	cfg := &q.p.cfg
	client, err := q.p.newClient(cfg.OffsetsID)
	if err != nil {
		return err
	}
	defer q.p.discard(client)
	if err := q.left.End(ctx, client); err != nil {
		return err
	}
	return q.ready(ctx, client)
}

// ready initializes the id if there is no identity for the next transaction: at
// first, and when its epochs are exhausted.
func (q *silent) ready(ctx context.Context, client *kgo.Client) (err error) {
	for !q.who.Usable() && err == nil {
		q.who, err = producer.Initialize(ctx, client, q.p.cfg.OffsetsID, q.p.cfg.Timeout)
	}
	return err
}

// commit commits the offsets of the load.
func (q *silent) commit(ctx context.Context, client *kgo.Client, load load) *Error {
	c := &committer{p: q.p, client: client, held: load.held, commits: load.commits, as: load.as, who: q.who}
	if err := c.send(ctx); err != nil {
		return err
	}
	next, err := producer.Commit(ctx, client, q.who)
	if err != nil {
		return &Error{Reason: reasonOf(err, ReasonRefused), Err: err}
	}
	q.who = next
	return nil
}

// commitSilently commits silent offsets in a transaction of their own. It has the
// turns of all stages while it runs: there is one producer for such, and what
// fails here fails no outputs. It reports whether the lane goes on. The turn in
// stage (a) is held.
func (l *lane) commitSilently(s *session) bool {
	seq := s.seq.Add(1)
	defer l.pass(stageOffsets)
	for stage := stageRecords; stage < stages; stage++ {
		select {
		case <-l.turns[stage]:
			defer l.pass(stage)
		case <-s.broken: // the turn may have stayed with the one that failed
			return false
		}
	}
	began := time.Now()
	ctx, cancel := s.timeout()
	defer cancel()
	if err := s.quiet.ready(ctx, l.client); err != nil {
		s.fail(seq, &Error{Reason: reasonOf(err, ReasonOpen), Err: err})
		return false
	}
	l.batch = s.p.take(l.batch[:0])
	if slices.ContainsFunc(l.batch, func(r *Result) bool { return len(r.Records) > 0 }) {
		s.p.putBack(l.batch) // a transaction can take them along after all
		return true
	}
	load, ok := s.p.gate(l.batch, true)
	if !ok {
		return true
	}
	if err := s.quiet.commit(ctx, l.client, load); err != nil {
		s.fail(seq, err)
		s.p.tell(load, false)
		return false
	}
	s.committed.Store(true)
	s.p.tell(load, true)
	s.p.cfg.Observer.CommittedSilently(time.Since(began), len(load.results))
	return true
}
