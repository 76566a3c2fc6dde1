package txn

import (
	"slices"
	"time"
)

// load is what passed the gate together.
type load struct {
	results []*Result // in order
	held    []*Incarnation
	commits []commit
	as      membership
	records int
	bytes   int
}

// gate is the moment at which results enter a transaction. Under the fence's
// lock it drops those whose incarnation is closed, marks the offsets of the
// rest as finished, never earlier, and reads what each source touched then
// commits. From here on whoever closes one of the incarnations can wait for the
// transaction.
//
// It returns false if nothing is left to be committed now: then what is silent
// is gathered again, and nothing was marked. Unless silent is allowed, that is
// so when no outputs are left.
func (p *Pipeline) gate(batch []*Result, silent bool) (load, bool) {
	// Read before the fence is asked: an older generation than the incarnations
	// is refused by the broker, a newer one would be accepted for what is lost.
	load := load{as: p.membership()}
	var dropped []*Result

	f := p.cfg.Fence
	f.mu.Lock()
	if slices.ContainsFunc(batch, func(r *Result) bool { return r.Inc.closed }) {
		kept := batch[:0]
		for _, r := range batch {
			if r.Inc.closed {
				dropped = append(dropped, r)
			} else {
				kept = append(kept, r)
			}
		}
		batch = kept
	}
	for _, r := range batch {
		load.records += len(r.Records)
		load.bytes += r.bytes
	}
	pass := load.records > 0 || silent && len(batch) > 0
	if pass {
		f.mark++
		for _, r := range batch {
			src := r.source()
			if r.Source != nil && r.Offset != NoOffset {
				src.Offsets.Finish(r.Offset)
			}
			if r.Inc.mark != f.mark {
				r.Inc.mark = f.mark
				r.Inc.holders++
				load.held = append(load.held, r.Inc)
			}
			if src.mark != f.mark {
				src.mark = f.mark
				load.commits = append(load.commits, commit{source: src})
			}
		}
		for i := range load.commits {
			c := &load.commits[i]
			c.Commit = c.source.Offsets.Commit()
		}
	}
	f.mu.Unlock()

	for _, r := range dropped {
		r.done(false)
	}
	p.settle(len(dropped))
	if !pass {
		p.putBack(batch)
		return load, false
	}
	load.results = batch
	return load, true
}

// commitPlainly commits silent offsets without a transaction. An OffsetCommit
// takes effect at once and would be overtaken by, or overtake, those of
// transactions in flight: so it has the turns of all stages while it runs. It
// reports whether the lane goes on. The turn in stage (a) is held.
func (l *lane) commitPlainly(s *session) bool {
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
	l.batch = s.p.take(l.batch[:0])
	if slices.ContainsFunc(l.batch, func(r *Result) bool { return len(r.Records) > 0 }) {
		s.p.putBack(l.batch) // a transaction can take them along after all
		return true
	}
	load, ok := s.p.gate(l.batch, true)
	if !ok {
		return true
	}
	began := time.Now()
	ctx, cancel := s.timeout()
	defer cancel()
	c := &committer{p: s.p, client: l.client, held: load.held, commits: load.commits, as: load.as}
	if err := c.send(ctx); err != nil {
		s.fail(seq, err)
		s.dropped(load)
		return false
	}
	s.committed.Store(true)
	for _, r := range load.results {
		r.done(true)
	}
	s.p.cfg.Fence.release(load.held)
	s.p.settle(len(load.results))
	s.p.cfg.Observer.CommittedSilently(time.Since(began), len(load.results))
	return true
}
