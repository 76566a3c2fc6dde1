package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/choreography-go/choreography/cmd/choreo/internal/load"
	"github.com/choreography-go/choreography/cmd/choreo/internal/process"
	"github.com/choreography-go/choreography/cmd/choreo/internal/shop"
	"github.com/choreography-go/choreography/cmd/choreo/internal/watch"
)

// topics are those of the order flow's events.
var topics = []string{"orders", "payments", "stock", "shipments"}

// demoRun is one run of the demo.
type demoRun struct {
	*demoCommand
	streams
	run       string // tells this run's orders from those of others
	prefix    string
	ownPrefix bool
	schedule  load.Schedule
	mix       shop.Mix

	dir  string // logs and data
	book orderBook

	broker *process.Process // nil if it is not ours
}

// do runs the demo, from the broker to the verdict. Everything that it started
// has ended when it returns.
func (r *demoRun) do(ctx context.Context) (res *result, err error) {
	if r.OrderURL == "" {
		if err := findBinaries(r.Bin); err != nil {
			return nil, err
		}
		if err := r.makeDir(); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	if len(r.Brokers) == 0 {
		broker, addr, err := startBroker(ctx, r.dir)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, stopWithin(10*time.Second, broker.Stop)) }()
		r.Brokers, r.broker = []string{addr}, broker
		r.say("embedded broker at %s", addr)
	}
	url, f := r.OrderURL, (*fleet)(nil)
	if url == "" {
		if f, err = newFleet(ctx, r.Bin, r.dir, r.Brokers, r.prefix, r.Patience); err != nil {
			return nil, err
		}
		url = f.url
		// Where the run fails they need not stop nicely; where it does not,
		// they have stopped already.
		defer func() { _ = stopWithin(time.Second, f.stop) }()
		began := time.Now()
		if err := f.start(ctx); err != nil {
			return nil, err
		}
		r.say("order, payment, inventory and shipping are ready after %.1f s; topics %s*, logs in %s", time.Since(began).Seconds(), r.prefix, r.dir)
	}
	r.book.open(r.run, r.schedule.Orders, r.mix)
	w, err := watch.Start(ctx, watch.Config{
		Brokers: r.Brokers, Prefix: r.prefix, Topics: topics, Services: services,
		Each: r.book.heard, Malformed: r.book.malformed,
	})
	if err != nil && r.OrderURL != "" {
		err = fmt.Errorf("%w; do Kafka and the services run?", err)
	}
	if err != nil {
		return nil, err
	}
	defer w.Close()

	res = &result{Run: r.run, Orders: r.schedule.Orders, Seed: r.Seed}
	if err := r.work(ctx, url, f, w, res); err != nil {
		return nil, err
	}
	r.settle(ctx, f, w, res)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	r.book.report(res, r.OrderURL != "" && !r.ownPrefix)
	if r.ownPrefix && res.good() {
		if err := w.RemoveTopics(ctx); err != nil {
			res.note("the topics %s* could not be removed: %v", r.prefix, err)
		}
	}
	return res, nil
}

// work places the orders and waits for their outcomes, until all are there or
// nothing has happened for --timeout.
func (r *demoRun) work(ctx context.Context, url string, f *fleet, w *watch.Watcher, res *result) error {
	s := shop.New(url, min(r.schedule.AtOnce, r.schedule.Orders))
	defer s.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil) // before the wait
	killCtx, stopKilling := context.WithCancel(ctx)
	defer stopKilling()
	if r.Kill {
		r.say("killing services at random, --seed=%d", r.Seed)
		wg.Go(func() {
			if err := f.killing(killCtx, r.Seed); err != nil {
				cancel(err)
			}
		})
	}
	wg.Go(func() {
		defer stopKilling() // what is under way then must end in peace
		r.schedule.Run(ctx, func(n int, start time.Time) {
			order, _ := r.mix(r.run, n)
			flow, attempts, err := s.Place(ctx, shop.Ref(r.run, n), order)
			r.book.placed(n, start, flow, attempts, err)
		})
	})

	p := newProgress(r.err, r.schedule.Orders, r.Output == "text")
	defer p.end()
	var failed <-chan error
	if f != nil {
		failed = f.failed
	}
	var brokerDone <-chan struct{}
	if r.broker != nil {
		brokerDone = r.broker.Done()
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	last, since := progressed{}, time.Now()
	for {
		now := r.book.progress()
		p.show(now)
		if now.ended >= r.schedule.Orders && now.placed >= r.schedule.Orders {
			break
		}
		if now != last {
			last, since = now, time.Now()
		} else if time.Since(since) > r.Timeout {
			res.note("nothing has happened for %v: given up", r.Timeout)
			cancel(fmt.Errorf("nothing has happened for %v", r.Timeout))
			break
		}
		select {
		case <-tick.C:
		case <-r.book.full:
		case err := <-failed:
			cancel(err)
			return err
		case <-brokerDone:
			return r.broker.Unexpected()
		case <-w.Done():
			return errors.Join(w.Err(), errors.New("the topics can no longer be read"))
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	stopKilling()
	wg.Wait()
	if f != nil && r.Kill {
		res.Kills = f.kills()
	}
	return nil
}

// settle waits until nothing more will be said, and stops the services.
func (r *demoRun) settle(ctx context.Context, f *fleet, w *watch.Watcher, res *result) {
	settle := func(limit time.Duration) {
		ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not so after %v", limit))
		defer cancel()
		if err := w.Settle(ctx); err != nil {
			res.Unsettled = err.Error()
		}
	}
	settle(30 * time.Second)
	if f == nil {
		return
	}
	if err := stopWithin(30*time.Second, f.stop); err != nil {
		res.note("%v", err)
	}
	if res.Unsettled == "" {
		settle(15 * time.Second)
	}
}

func stopWithin(d time.Duration, stop func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return stop(ctx)
}

func (r *demoRun) makeDir() (err error) {
	if r.dir = r.Dir; r.dir != "" {
		err = os.MkdirAll(r.dir, 0o700)
	} else {
		r.dir, err = os.MkdirTemp("", "choreo-demo-")
	}
	if err != nil {
		return fmt.Errorf("make a directory for logs and data: %w", err)
	}
	return nil
}

// say tells of progress, on standard error.
func (r *demoRun) say(format string, args ...any) {
	_, _ = fmt.Fprintf(r.err, "demo: "+format+"\n", args...) // only news
}

// explain adds to an error where the logs are and how they end.
func (r *demoRun) explain(err error) error {
	if errors.Is(err, context.Canceled) {
		return errors.Join(errors.New("interrupted"), r.clear())
	}
	if r.dir == "" {
		return err
	}
	logs, _ := filepath.Glob(filepath.Join(r.dir, "*.log")) // the pattern is right
	for _, l := range logs {
		if text := process.Tail(l, 5); text != "" {
			r.say("%s ends with:\n%s", l, text)
		}
	}
	return err
}

// clear removes the directory if it is the demo's own.
func (r *demoRun) clear() error {
	if r.Dir != "" || r.dir == "" {
		return nil
	}
	if err := os.RemoveAll(r.dir); err != nil {
		return fmt.Errorf("remove the logs and data: %w", err)
	}
	return nil
}
