package clientmetrics

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// gathered are the counters and gauges of a registry, by name and labels.
func gathered(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			all[f.GetName()+"{"+strings.Join(labels, ",")+"}"] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return all
}

func TestClientsOfAKindAreMeasuredTogether(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	reg := prometheus.NewRegistry()
	kinds := Kinds{Registry: reg, Namespace: "kafka"}
	connects := func(kind string) (n float64) {
		for name, v := range gathered(t, reg) {
			if strings.HasPrefix(name, "kafka_connects_total{client="+kind+",") {
				n += v
			}
		}
		return n
	}
	open := func(kind string) *kgo.Client {
		cl, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kinds.Hook(kind), kgo.ManualFlushing(), kgo.DefaultProduceTopic("t"), kgo.DisableClientMetrics())
		if err != nil {
			t.Fatal(err)
		}
		if err := cl.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		return cl
	}
	first := open("lane")
	one := connects("lane")
	if one == 0 {
		t.Fatal("no connection was counted")
	}
	second := open("lane")
	other := open("data")
	defer other.Close()
	if got := connects("lane"); got <= one {
		t.Errorf("%v connections of two clients, one made %v", got, one)
	}
	for _, cl := range []*kgo.Client{first, second} {
		cl.Produce(t.Context(), kgo.StringRecord("x"), nil)
	}
	buffered := "kafka_buffered_produce_records{client=lane}"
	if got := gathered(t, reg)[buffered]; got != 2 {
		t.Errorf("%v records are buffered in two clients", got)
	}
	first.Close()
	if got := gathered(t, reg)[buffered]; got != 1 {
		t.Errorf("%v records are buffered after one client was closed", got)
	}
	second.Close()
	before := connects("lane")
	third := open("lane")
	defer third.Close()
	if got := connects("lane"); got <= before {
		t.Errorf("%v connections after a client was made anew, %v before", got, before)
	}
}

// A registry that another Kinds has measured into is taken over, as by a service that
// runs again.
func TestARegistryIsTakenOver(t *testing.T) {
	reg := prometheus.NewRegistry()
	for range 2 {
		kinds := Kinds{Registry: reg, Namespace: "kafka"}
		cl, err := kgo.NewClient(kgo.SeedBrokers("127.0.0.1:1"), kinds.Hook("lane"), kgo.ManualFlushing(), kgo.DisableClientMetrics())
		if err != nil {
			t.Fatal(err)
		}
		cl.Produce(t.Context(), &kgo.Record{Topic: "t"}, nil)
		if got := gathered(t, reg)["kafka_buffered_produce_records{client=lane}"]; got != 1 {
			t.Errorf("%v records are buffered, 1 by the client that is open", got)
		}
		cl.Close()
	}
}
