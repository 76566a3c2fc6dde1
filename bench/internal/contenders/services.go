package contenders

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/choreography-go/choreography/bench/internal/workload"
	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/internal/contender"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Reaction forwards by a Reaction, which passes the payload on as it is. If the
// setup says so, handling takes a while.
func Reaction(ctx context.Context, s contender.Setup, m *contender.Meter) error {
	payload := choreo.Bytes{Type: "application/json"}
	placed := choreo.Event[[]byte]{Type: workload.TypePlaced, Topic: s.In, Codec: payload}
	done := choreo.Event[[]byte]{Type: workload.TypeDone, Topic: s.Out, Codec: payload}
	return run(ctx, s, m, choreo.NewService(s.Name, choreo.Reaction[[]byte]{
		Name: "forward", On: placed, Emits: choreo.Events{done},
		Do: func(ctx context.Context, data []byte) (choreo.Emissions, error) {
			if s.Work > 0 {
				if err := pause(ctx, s.Work); err != nil {
					return nil, err
				}
			}
			m.Add(1)
			return choreo.Emit(done.New(data)), nil
		},
	}))
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Step forwards by a Step: JSON is read and written, and the journal records
// each run.
func Step(ctx context.Context, s contender.Setup, m *contender.Meter) error {
	return run(ctx, s, m, choreo.NewService(s.Name, step("forward", order(workload.TypePlaced, s.In), order(workload.TypeDone, s.Out), m.Add)))
}

// Saga forwards by three services, each a Step, one after the other; all three
// run in this process. It counts what the third handles.
func Saga(ctx context.Context, s contender.Setup, m *contender.Meter) error {
	placed, paid := order(workload.TypePlaced, s.In), order(workload.TypePaid, s.Name+"-paid")
	shipped, done := order(workload.TypeShipped, s.Name+"-shipped"), order(workload.TypeDone, s.Out)
	done.Outcome = choreo.Succeeded
	return run(ctx, s, m,
		choreo.NewService(s.Name+"-payment", step("pay", placed, paid, nil)),
		choreo.NewService(s.Name+"-shipping", step("ship", paid, shipped, nil)),
		choreo.NewService(s.Name+"-closing", step("close", shipped, done, m.Add)))
}

func order(kind, topic string) choreo.Event[workload.Order] {
	return choreo.Event[workload.Order]{Type: kind, Topic: topic}
}

func step(name string, on, emit choreo.Event[workload.Order], handled func(int)) choreo.Step[workload.Order, workload.Order] {
	return choreo.Step[workload.Order, workload.Order]{
		Name: name, On: on, Emit: emit,
		Do: func(_ context.Context, o workload.Order) (workload.Order, error) {
			if handled != nil {
				handled(1)
			}
			return o, nil
		},
	}
}

// run runs services until ctx ends. Commits are those of the last.
func run(ctx context.Context, s contender.Setup, m *contender.Meter, services ...*choreo.Service) error {
	var running group
	for _, svc := range services {
		svc.Add(choreo.Tasks(s.Partitions))
		cfg := choreo.Config{
			Brokers: s.Brokers, InstanceID: "bench-0", Lanes: s.Lanes, MaxHandlers: s.Handlers,
			// There is no setting for the records of a commit.
			MaxInFlight: s.InFlight,
			Registerer:  prometheus.NewRegistry(),
			Logger:      slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo})),
		}
		m.Commits = func() (int64, int64) { return transactions(cfg.Registerer) }
		if err := svc.CreateTopics(ctx, cfg); err != nil {
			return fmt.Errorf("create the topics of %s: %w", svc.Name(), err)
		}
		running.add(func(ctx context.Context) error {
			if err := svc.Run(ctx, cfg); err != nil {
				return fmt.Errorf("run %s: %w", svc.Name(), err)
			}
			return nil
		})
	}
	return running.run(ctx)
}

// group runs functions side by side; one that ends, ends all.
type group struct{ members []func(context.Context) error }

func (g *group) add(f func(context.Context) error) { g.members = append(g.members, f) }

func (g *group) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, len(g.members))
	for _, f := range g.members {
		go func() {
			defer stop()
			ended <- f(ctx)
		}()
	}
	var all error
	for range g.members {
		all = errors.Join(all, <-ended)
	}
	return all
}

// transactions reads, from the metrics of a service, how many transactions
// there were, with how many records that had been heard.
func transactions(reg prometheus.Gatherer) (transactions, heard int64) {
	families, err := reg.Gather()
	if err != nil {
		return 0, 0
	}
	for _, f := range families {
		if f.GetName() == "choreo_transaction_results" && f.GetType() == dto.MetricType_HISTOGRAM {
			for _, metric := range f.GetMetric() {
				transactions += int64(metric.GetHistogram().GetSampleCount())
				heard += int64(metric.GetHistogram().GetSampleSum())
			}
		}
	}
	return transactions, heard
}
