package choreo_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// BenchmarkProviderFails has 30 % of the calls fail that a step with a breaker makes
// for 2,000 flows a second, and tells how fast all other flows of the step are
// beside them, compared with when no call fails. A call takes a millisecond. Every
// flow ends, and none twice. It uses the brokers of KAFKA_BROKERS, or else an
// embedded one. The best of many rounds counts, since a busy machine only ever slows.
func BenchmarkProviderFails(b *testing.B) {
	const passing, perSecond, rounds = 40_000, 2_000, 12
	var brokers []string
	prefix := fmt.Sprintf("fails-%d.", time.Now().UnixNano())
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
	var share, failed atomic.Int64 // of 100 calls of shaky flows, and all of them
	ended := jobDone
	ended.Outcome = choreo.Succeeded
	svc := choreo.NewService("worker", choreo.Tasks(8), choreo.Retention{Grace: time.Second}, choreo.Step[job, work]{
		Name: "work", On: jobGiven, Emit: ended, Breaker: choreo.Breaker{Failures: 20, Open: 5 * time.Second},
		Do: func(_ context.Context, j job) (work, error) {
			time.Sleep(time.Millisecond)
			if j.What == "shaky" && rand.Int64N(100) < share.Load() {
				failed.Add(1)
				return work{}, errNotYet
			}
			return work{j.ID, j.What}, nil
		},
	})
	reg := prometheus.NewRegistry()
	cfg := configFor(brokers, "a")
	cfg.TopicPrefix, cfg.Registerer, cfg.Logger = prefix, reg, slog.New(slog.DiscardHandler)
	if err := svc.CreateTopics(b.Context(), cfg); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- svc.Run(ctx, cfg) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	}()
	for svc.Ready() != nil {
		time.Sleep(time.Millisecond)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.MaxBufferedRecords(1<<20), kgo.ConsumeTopics(prefix+"work"),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(20*time.Millisecond))
	if err != nil {
		b.Fatal(err)
	}
	defer cl.Close()
	begin := func(flow, what string) {
		rec, err := svc.Encode(flow, jobGiven.New(job{flow, what}))
		if err != nil {
			b.Error(err)
			return
		}
		rec.Topic = prefix + jobGiven.Topic
		cl.Produce(b.Context(), rec, func(_ *kgo.Record, err error) {
			if err != nil {
				b.Error(err)
			}
		})
	}
	var begun atomic.Int64 // shaky flows
	enough := make(chan struct{})
	var stream sync.WaitGroup
	stream.Go(func() {
		t := time.NewTicker(time.Second / 100)
		defer t.Stop()
		for {
			select {
			case <-t.C:
			case <-enough:
				return
			}
			for range perSecond / 100 {
				begin(fmt.Sprint("shaky-", begun.Add(1)), "shaky")
			}
		}
	})
	ends := map[string]int{}
	healthy, shaky := 0, 0
	poll := func() {
		cl.PollFetches(b.Context()).EachRecord(func(rec *kgo.Record) {
			flow := string(rec.Key)
			if ends[flow]++; ends[flow] > 1 {
				b.Errorf("%s has ended twice", flow)
			}
			if strings.HasPrefix(flow, "healthy") {
				healthy++
			} else {
				shaky++
			}
		})
	}
	n := 0
	pass := func() float64 { // healthy flows a second
		n++
		began := time.Now()
		for i := range passing {
			begin(fmt.Sprintf("healthy-%d-%d", n, i), "healthy")
		}
		for healthy < n*passing {
			poll()
		}
		return passing / time.Since(began).Seconds()
	}
	for b.Loop() {
		pass() // warm
		var best [2]float64
		for range rounds { // in turn, so that both meet the same machine
			for i, s := range []int64{0, 30} {
				share.Store(s)
				best[i] = max(best[i], pass())
			}
		}
		b.ReportMetric(best[0], "unfailing/s")
		b.ReportMetric(best[1], "beside/s")
		b.ReportMetric(best[1]/best[0], "share")
	}
	close(enough)
	stream.Wait()
	for shaky < int(begun.Load()) {
		poll()
	}
	b.ReportMetric(float64(begun.Load()), "shaky-flows")
	b.ReportMetric(float64(failed.Load()), "failed-calls")
	b.ReportMetric(0, "ns/op")
	if opened := counterOf(b, reg, "choreo_breaker_opened_total"); opened > 0 {
		b.Logf("the breaker has opened %v times", opened)
	}
}

func counterOf(b *testing.B, reg *prometheus.Registry, name string) (n float64) {
	families, err := reg.Gather()
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}
