package choreo_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// BenchmarkDeadlinesFire lets 100,000 deadlines become due while nobody runs, and
// tells how many fire in a second after the restart, in transactions. It uses the
// brokers of KAFKA_BROKERS, or else an embedded one.
func BenchmarkDeadlinesFire(b *testing.B) {
	const n = 100_000
	var brokers []string
	if list := os.Getenv("KAFKA_BROKERS"); list != "" {
		brokers = strings.Split(list, ",")
	} else {
		c, err := kfake.NewCluster(kfake.NumBrokers(1))
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		brokers = c.ListenAddrs()
	}
	cfg := configFor(brokers, "a")
	service := func() *choreo.Service {
		return choreo.NewService("worker", choreo.Tasks(8), (&worker{}).waits(time.Minute))
	}
	run := func() (reg *prometheus.Registry, stop func()) {
		svc, own := service(), cfg
		own.Registerer = prometheus.NewRegistry()
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := svc.Run(ctx, own); err != nil {
				b.Errorf("the service has ended: %v", err)
			}
		}()
		for svc.Ready() != nil {
			time.Sleep(time.Millisecond)
		}
		return own.Registerer, func() { cancel(); <-done }
	}
	sum := func(reg *prometheus.Registry, name string) (n float64) {
		families, err := reg.Gather()
		if err != nil {
			b.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if f.GetName() == name {
					n += m.GetGauge().GetValue() + m.GetCounter().GetValue()
				}
			}
		}
		return n
	}
	rounds := 0
	for b.Loop() {
		rounds++
		cfg.TopicPrefix = fmt.Sprintf("deadlines-%d-%d.", time.Now().UnixNano(), rounds)
		if err := service().CreateTopics(b.Context(), cfg); err != nil {
			b.Fatal(err)
		}
		reg, stop := run()
		cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.MaxBufferedRecords(1<<20))
		if err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		svc := service()
		for i := range n {
			flow := fmt.Sprintf("flow-%d", i)
			rec, err := svc.Encode(flow, jobGiven.New(job{flow, "x"}))
			if err != nil {
				b.Fatal(err)
			}
			rec.Topic = cfg.TopicPrefix + jobGiven.Topic
			cl.Produce(b.Context(), rec, func(_ *kgo.Record, err error) {
				if err != nil {
					b.Error(err)
				}
			})
		}
		if err := cl.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
		cl.Close()
		for sum(reg, "choreo_deadlines_pending") < n || sum(reg, "choreo_in_flight_records") > 0 {
			if time.Since(began) > time.Minute {
				b.Fatal("the first is due, and not all are set: the machine is too slow for this")
			}
			time.Sleep(10 * time.Millisecond)
		}
		last := time.Now()
		b.ReportMetric(n/last.Sub(began).Seconds(), "set/s")
		stop()
		time.Sleep(time.Until(last.Add(time.Minute)))
		began = time.Now()
		reg, stop = run()
		b.ReportMetric(time.Since(began).Seconds(), "restart-s")
		for sum(reg, "choreo_deadlines_fired_total") < n {
			time.Sleep(time.Millisecond)
		}
		b.ReportMetric(n/time.Since(began).Seconds(), "fired/s")
		stop()
	}
	b.ReportMetric(0, "ns/op")
}
