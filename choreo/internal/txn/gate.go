package txn

import "slices"

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
