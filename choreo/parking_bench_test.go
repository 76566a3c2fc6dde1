//go:build unix

package choreo_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// BenchmarkManyParked parks 100,000 flows at one instance and tells how fast
// others are then, compared with before, and how long a killed instance takes
// until it is back. It uses the brokers of KAFKA_BROKERS, or else an embedded one.
// What is parked costs little; what costs is trying it, so the longest waits
// between two attempts are those of a provider that is away for long, and the
// default ones. On a busy machine the CPU time of an event tells more than the
// speed; an embedded broker and the attempts are in it.
func BenchmarkManyParked(b *testing.B) {
	for _, longest := range []time.Duration{10 * time.Minute, 30 * time.Second} {
		b.Run(longest.String(), func(b *testing.B) { manyParked(b, longest) })
	}
}

func manyParked(b *testing.B, longest time.Duration) {
	const parked, passing = 100_000, 50_000
	var brokers []string
	prefix := fmt.Sprintf("parked-%d.", time.Now().UnixNano())
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
	var tried atomic.Int64
	ended := jobDone
	ended.Outcome = choreo.Succeeded // so that what is remembered does not grow from round to round
	service := func() *choreo.Service {
		return choreo.NewService("worker", choreo.Tasks(8), choreo.Retention{Grace: time.Second}, choreo.Step[job, work]{
			Name: "work", On: jobGiven, Emit: ended, Retry: choreo.Retry{Attempts: 1000, InPlace: 1, First: longest, Max: longest, Over: 24 * time.Hour},
			Do: func(_ context.Context, j job) (work, error) {
				if j.What == "fail" {
					tried.Add(1)
					return work{}, errNotYet
				}
				return work{j.ID, j.What}, nil
			},
		})
	}
	run := func() (*choreo.Service, *plug, *prometheus.Registry, func()) {
		svc, p, reg := service(), &plug{}, prometheus.NewRegistry()
		cfg := configFor(brokers, "a")
		cfg.TopicPrefix, cfg.Registerer, cfg.ClientOptions, cfg.StopTimeout = prefix, reg, []kgo.Opt{kgo.Dialer(p.dial)}, time.Second
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := svc.Run(ctx, cfg); err != nil && !p.pulled {
				b.Errorf("the service has ended: %v", err)
			}
		}()
		for svc.Ready() != nil {
			time.Sleep(time.Millisecond)
		}
		return svc, p, reg, func() { cancel(); <-done }
	}
	cfg := configFor(brokers, "x")
	cfg.TopicPrefix = prefix
	if err := service().CreateTopics(b.Context(), cfg); err != nil {
		b.Fatal(err)
	}
	svc, p, reg, stop := run()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.MaxBufferedRecords(1<<20), kgo.ConsumeTopics(prefix+"work"),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(20*time.Millisecond))
	if err != nil {
		b.Fatal(err)
	}
	defer cl.Close()
	rounds := 0
	publish := func(n int, what string) {
		rounds++
		for i := range n {
			flow := fmt.Sprintf("%s-%d-%d", what, rounds, i)
			rec, err := svc.Encode(flow, jobGiven.New(job{flow, what}))
			if err != nil {
				b.Fatal(err)
			}
			rec.Topic = prefix + jobGiven.Topic
			cl.Produce(b.Context(), rec, func(_ *kgo.Record, err error) {
				if err != nil {
					b.Error(err)
				}
			})
		}
		if err := cl.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	busy := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	pass := func() (speed, cost float64) { // events a second, and CPU time of each, of flows that do not fail
		began, worked := time.Now(), busy()
		publish(passing, "pass")
		for seen := 0; seen < passing; {
			seen += len(cl.PollFetches(b.Context()).Records())
		}
		return passing / time.Since(began).Seconds(), float64((busy() - worked).Microseconds()) / passing
	}
	best := func() (speed, cost float64) {
		for n := range 5 {
			s, c := pass()
			if speed = max(speed, s); n == 0 || c < cost {
				cost = c
			}
		}
		return speed, cost
	}
	sum := func(name string) (n float64) {
		families, err := reg.Gather()
		if err != nil {
			b.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == name {
				for _, m := range f.GetMetric() {
					n += m.GetGauge().GetValue()
				}
			}
		}
		return n
	}
	for b.Loop() {
		pass() // warm
		before, costBefore := best()
		began := time.Now()
		publish(parked, "fail")
		for sum("choreo_parked_events") < parked || sum("choreo_in_flight_records") > 0 {
			time.Sleep(200 * time.Millisecond)
		}
		b.ReportMetric(parked/time.Since(began).Seconds(), "parked/s")
		b.ReportMetric(before, "alone/s")
		tried.Store(0)
		began = time.Now()
		after, costAfter := best()
		b.ReportMetric(float64(tried.Load())/time.Since(began).Seconds(), "attempts/s")
		b.ReportMetric(after, "beside/s")
		b.ReportMetric(after/before, "share")
		b.ReportMetric(costBefore, "alone-us")
		b.ReportMetric(costAfter, "beside-us")
		p.pull()
		began = time.Now()
		dead := stop
		svc, p, reg, stop = run()
		b.ReportMetric(time.Since(began).Seconds(), "restart-s")
		if n := sum("choreo_parked_events"); n != parked {
			b.Errorf("%v events are parked after the restart", n)
		}
		dead()
	}
	b.ReportMetric(0, "ns/op")
	stop()
}
