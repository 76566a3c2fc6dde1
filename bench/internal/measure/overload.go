package measure

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/choreography-go/choreography/bench/internal/workload"
	"github.com/choreography-go/choreography/internal/contender"
)

// Overload is what a service does that is offered three times what it can take.
// What it can take is bounded by its handlers, as by a database: Handlers at a
// time, each Work long. So the cores have time for the broker and the feeder,
// and a lower rate is the framework's doing.
type Overload struct {
	Work     time.Duration `json:"work_ns"`
	Handlers int           `json:"handlers"`
	// Peak is the rate over a backlog with nothing else to do.
	Peak float64 `json:"peak_per_second"`
	// Offered a second, and for how long.
	Offered float64       `json:"offered_per_second"`
	Lasted  time.Duration `json:"lasted_ns"`
	// Handled a second meanwhile.
	Handled float64 `json:"handled_per_second"`
	// Points are taken meanwhile.
	Points []Point `json:"points"`
}

// Point is a moment under overload.
type Point struct {
	At       time.Duration `json:"at_ns"`
	Handled  int64         `json:"handled"`
	Live     uint64        `json:"heap_live"`
	Resident uint64        `json:"resident"`
}

const (
	overloadWork     = 2 * time.Millisecond
	overloadHandlers = 16
	overloadFactor   = 3
	sampling         = 100 * time.Millisecond
)

// settling is how long a service is let alone before it is looked at: until
// then what it may hold at once fills up, and the heap finds its size.
func settling(lasts time.Duration) time.Duration { return max(lasts/2, time.Second) }

// Overload finds the peak of a Reaction, then offers three times as much for a
// time.
func (r *Rig) Overload(ctx context.Context, lasts time.Duration) (Overload, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, runTimeout+4*lasts, errors.New("the overloaded service did not stop in time"))
	defer cancel()
	o := Overload{Work: overloadWork, Handlers: overloadHandlers, Lasted: lasts}
	// No handler can be faster than its work, so this backlog lasts.
	most := float64(o.Handlers) / o.Work.Seconds()
	points, err := r.underLoad(ctx, most*(lasts+settling(lasts)).Seconds(), 0, lasts)
	if err != nil {
		return o, fmt.Errorf("find the peak: %w", err)
	}
	o.Peak = handledRate(points)
	o.Offered = overloadFactor * o.Peak
	if o.Points, err = r.underLoad(ctx, 0, o.Offered, lasts); err != nil {
		return o, fmt.Errorf("offer %.0f orders a second: %w", o.Offered, err)
	}
	o.Handled = handledRate(o.Points)
	return o, nil
}

// underLoad runs a slow Reaction on a backlog, while more orders come at a
// rate, and looks at it for a time.
func (r *Rig) underLoad(ctx context.Context, backlog, rate float64, lasts time.Duration) ([]Point, error) {
	name := r.name(Reaction)
	in, out := name+"-in", name+"-out"
	for _, t := range []string{in, out} {
		if err := r.create(ctx, t); err != nil {
			return nil, err
		}
	}
	feeder, err := workload.NewFeeder(r.brokers, in, Reaction.flows(0))
	if err != nil {
		return nil, err
	}
	defer feeder.Close()
	if err := feeder.Feed(ctx, int64(backlog)); err != nil {
		return nil, err
	}
	p, err := r.start(ctx, Reaction, contender.Setup{Name: name, In: in, Out: out, Work: overloadWork, Handlers: overloadHandlers, Marks: []int64{1}})
	if err != nil {
		return nil, err
	}
	fed := make(chan error, 1)
	feeding, stopFeeding := context.WithCancel(ctx)
	go func() { fed <- feeder.FeedAt(feeding, rate, time.Hour) }()
	points, err := watch(ctx, p, lasts)
	stopFeeding()
	feedErr := <-fed
	if errors.Is(feedErr, context.Canceled) {
		feedErr = nil
	}
	if err := errors.Join(err, feedErr, p.stop()); err != nil {
		return nil, err
	}
	// What is out is a part of what was fed, each order once and in order.
	book := workload.NewBook(feeder.Fed(), Reaction.flows(0))
	if err := r.read(ctx, out, book); err != nil {
		return nil, err
	}
	if err := book.Sound(); err != nil {
		return nil, fmt.Errorf("the output is wrong: %w", err)
	}
	if handled := points[len(points)-1].Handled; book.Noted() < handled {
		return nil, fmt.Errorf("the output is wrong: %d orders were handled and %d came out", handled, book.Noted())
	}
	return points, r.forget(ctx, name)
}

// watch waits for the first order, and a moment more, and then looks again and
// again.
func watch(ctx context.Context, p *process, lasts time.Duration) ([]Point, error) {
	if _, err := p.usage(ctx); err != nil {
		return nil, err
	}
	t := time.NewTicker(sampling)
	defer t.Stop()
	var points []Point
	began := time.Now().Add(settling(lasts))
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if time.Now().Before(began) {
			continue
		}
		u, err := p.ask(ctx)
		if err != nil {
			return nil, err
		}
		points = append(points, Point{u.At.Sub(began), u.Handled, u.Live, u.Resident})
		if u.At.Sub(began) >= lasts {
			return points, nil
		}
	}
}

func handledRate(points []Point) float64 {
	first, last := points[0], points[len(points)-1]
	return float64(last.Handled-first.Handled) / (last.At - first.At).Seconds()
}

// LiveHeap and Resident are what Halves is asked for.
func LiveHeap(p Point) uint64 { return p.Live }

// Resident is the memory of the process.
func Resident(p Point) uint64 { return p.Resident }

// Halves are the greatest values of memory in the first and in the second half
// of the time.
func (o Overload) Halves(memory func(Point) uint64) (first, second uint64) {
	for i, p := range o.Points {
		if i < len(o.Points)/2 {
			first = max(first, memory(p))
		} else {
			second = max(second, memory(p))
		}
	}
	return first, second
}
