package measure

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/choreography-go/choreography/bench/internal/workload"
	"github.com/choreography-go/choreography/internal/contender"
)

// Rate is what one run over a backlog showed.
type Rate struct {
	// Orders is the size of the backlog.
	Orders int64 `json:"orders"`
	// PerSecond is the orders that came out each second.
	PerSecond float64 `json:"per_second"`
	// PerCommit is how many a commit really took.
	PerCommit float64 `json:"per_commit"`
	// Of the contender's process, for each order.
	CPUMicros float64 `json:"cpu_us"`
	Allocs    float64 `json:"allocs"`
	Bytes     float64 `json:"alloc_bytes"`
	// Doubled orders, of a contender that may double some.
	Doubled int64 `json:"doubled,omitempty"`
}

// runTimeout bounds a run, so that one that loses orders ends.
const runTimeout = 3 * time.Minute

// Rate lets a contender forward a backlog of n orders, so many per commit (0:
// as many as there are), and checks all that comes out.
//
// CPU and allocations are taken between a tenth and nine tenths of the way: at
// both moments as much is read ahead and under way. The rate is taken from the
// times at which the broker appended the output.
func (r *Rig) Rate(ctx context.Context, c Contender, perCommit int, n int64) (Rate, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, runTimeout, fmt.Errorf("not all of %d orders were handled within %v", n, runTimeout))
	defer cancel()
	rate, err := r.rate(ctx, c, perCommit, n)
	if err != nil {
		return Rate{}, fmt.Errorf("%s, %d orders, %s per commit: %w", c, n, perCommitText(perCommit), err)
	}
	return rate, nil
}

func perCommitText(n int) string {
	if n == 0 {
		return "as many as there are"
	}
	return fmt.Sprint(n)
}

func (r *Rig) rate(ctx context.Context, c Contender, perCommit int, n int64) (Rate, error) {
	flows := c.flows(n)
	in, err := r.filled(ctx, n, flows)
	if err != nil {
		return Rate{}, err
	}
	name := r.name(c)
	out := name + "-out"
	if err := r.create(ctx, out); err != nil {
		return Rate{}, err
	}
	setup := contender.Setup{Name: name, In: in, Out: out, PerCommit: perCommit, InFlight: c.inFlight(perCommit), Marks: []int64{n / 10, n - n/10, n}}
	p, err := r.start(ctx, c, setup)
	if err != nil {
		return Rate{}, err
	}
	var at [3]contender.Usage
	for i := range at {
		if at[i], err = p.usage(ctx); err != nil {
			return Rate{}, errors.Join(err, p.stop())
		}
	}
	book := workload.NewBook(n, flows)
	if err := r.outcome(ctx, p, out, book); err != nil {
		return Rate{}, err
	}
	if err := book.Complete(c.exactlyOnce()); err != nil {
		return Rate{}, fmt.Errorf("the output is wrong: %w; the contender said:\n%s", err, p.stderr.String())
	}
	if at[1].Handled == at[0].Handled {
		return Rate{}, fmt.Errorf("%d orders are too few for what a commit takes", n)
	}
	rate := used(at[0], at[1])
	rate.Orders, rate.Doubled = n, book.Doubled
	if rate.PerSecond, err = book.Rate(); err != nil {
		return Rate{}, err
	}
	return rate, r.forget(ctx, name)
}

// patience is how long orders may take to come out after as many were handled.
const patience = 10 * time.Second

// outcome notes what comes out, and stops the contender when all has: that so
// many orders were handled does not mean that it is through, for those of a
// transaction that failed are handled again.
func (r *Rig) outcome(ctx context.Context, p *process, out string, book *workload.Book) error {
	o, err := r.output(out, book)
	if err != nil {
		return errors.Join(err, p.stop())
	}
	defer o.close()
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := o.until(waiting, book.Full); err != nil && waiting.Err() == nil {
		return errors.Join(err, p.stop())
	}
	if err := p.stop(); err != nil {
		return err
	}
	return o.rest(ctx)
}

// used is what each order took between two moments.
func used(a, b contender.Usage) Rate {
	each := func(v float64) float64 { return v / float64(b.Handled-a.Handled) }
	rate := Rate{
		CPUMicros: each(float64(b.CPU-a.CPU) / float64(time.Microsecond)),
		Allocs:    each(float64(b.Mallocs - a.Mallocs)), Bytes: each(float64(b.Bytes - a.Bytes)),
	}
	if n := b.Commits - a.Commits; n > 0 {
		rate.PerCommit = float64(b.Committed-a.Committed) / float64(n)
	}
	return rate
}
