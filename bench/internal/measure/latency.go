package measure

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/choreography-go/choreography/bench/internal/workload"
	"github.com/choreography-go/choreography/internal/contender"
	"github.com/twmb/franz-go/pkg/kgo"
)

// unmeasured orders go ahead of those whose latency counts.
const unmeasured = 100

// Latency sends n orders through a contender, each when the one before it has
// come out, and returns how long each took, from before it was sent until a
// read-committed reader had it.
func (r *Rig) Latency(ctx context.Context, c Contender, n int) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, runTimeout, fmt.Errorf("not all of %d orders came out within %v", n, runTimeout))
	defer cancel()
	took, err := r.latency(ctx, c, n)
	if err != nil {
		return nil, fmt.Errorf("%s, %d orders one at a time: %w", c, n, err)
	}
	return took, nil
}

func (r *Rig) latency(ctx context.Context, c Contender, n int) (_ []time.Duration, err error) {
	name := r.name(c)
	in, out := name+"-in", name+"-out"
	for _, t := range []string{in, out} {
		if err := r.create(ctx, t); err != nil {
			return nil, err
		}
	}
	all := int64(n + unmeasured)
	flows := c.flows(all)
	feeder, err := workload.NewFeeder(r.brokers, in, flows, kgo.ProducerLinger(0))
	if err != nil {
		return nil, err
	}
	defer feeder.Close()
	book := workload.NewBook(all, flows)
	o, err := r.output(out, book)
	if err != nil {
		return nil, err
	}
	defer o.close()
	p, err := r.start(ctx, c, contender.Setup{Name: name, In: in, Out: out, Prompt: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()

	took := make([]time.Duration, 0, n)
	for i := range all {
		began := time.Now()
		if err := feeder.One(ctx); err != nil {
			return nil, err
		}
		if err := o.until(ctx, func() bool { return book.Noted() > i }); err != nil {
			return nil, err
		}
		if i >= unmeasured {
			took = append(took, time.Since(began))
		}
	}
	if err := p.stop(); err != nil {
		return nil, err
	}
	if err := o.rest(ctx); err != nil { // also what came after
		return nil, err
	}
	if err := book.Complete(c.exactlyOnce()); err != nil {
		return nil, fmt.Errorf("the output is wrong: %w", err)
	}
	return took, r.forget(ctx, name)
}
