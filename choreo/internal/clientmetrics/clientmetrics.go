// Package clientmetrics measures Kafka clients for Prometheus.
//
// It owns the series of clients in a registry, and knows the clients that are open,
// for gauges of what they hold. What a client is for it does not know: its kind is a
// label.
package clientmetrics

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kprom"
)

// Kinds measures the Kafka clients of a process by their kind: all of one kind
// together, whatever their number and however often they are made anew. The series of a
// kind in a registry are those of the last Kinds that was asked for its hook.
type Kinds struct {
	Registry  *prometheus.Registry
	Namespace string

	mu    sync.Mutex
	kinds map[string]*kind
}

// Hook is the option that measures clients of a kind; the kind is the label "client"
// of their series.
func (k *Kinds) Hook(name string) kgo.Opt {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.kinds[name]
	if c == nil {
		c = newKind(k.Registry, k.Namespace, name)
		if k.kinds == nil {
			k.kinds = map[string]*kind{}
		}
		k.kinds[name] = c
	}
	return kgo.WithHooks(c)
}

// kind is what is measured of the clients of one kind. (A kprom.Metrics alone is for
// one client: it registers its series with each client that it meets.)
type kind struct {
	*kprom.Metrics

	mu      sync.Mutex
	clients map[*kgo.Client]struct{}
}

func newKind(reg *prometheus.Registry, namespace, name string) *kind {
	labels := prometheus.Labels{"client": name}
	c := &kind{clients: map[*kgo.Client]struct{}{}}
	c.Metrics = kprom.NewMetrics(namespace, kprom.WithStaticLabel(labels), kprom.Registerer(withoutGauges{reg}),
		kprom.FetchAndProduceDetail(kprom.ByTopic, kprom.Records, kprom.UncompressedBytes, kprom.CompressedBytes))
	c.Metrics.OnNewClient(nil) // registers; the client would serve the gauges only, which are made here
	for _, g := range []struct {
		name, help string
		of         func(*kgo.Client) int64
	}{
		{"buffered_produce_records", "Records waiting to be produced.", (*kgo.Client).BufferedProduceRecords},
		{"buffered_fetch_records", "Records fetched and not taken yet.", (*kgo.Client).BufferedFetchRecords},
		{"buffered_fetch_bytes", "Size of the records fetched and not taken yet.", (*kgo.Client).BufferedFetchBytes},
	} {
		gauge := prometheus.NewGaugeFunc(
			prometheus.GaugeOpts{Namespace: namespace, Name: g.name, Help: g.help, ConstLabels: labels},
			func() float64 { return c.sum(g.of) })
		reg.Unregister(gauge)
		reg.MustRegister(gauge)
	}
	return c
}

func (c *kind) sum(of func(*kgo.Client) int64) float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	var n int64
	for cl := range c.clients {
		n += of(cl)
	}
	return float64(n)
}

// OnNewClient counts a client in.
func (c *kind) OnNewClient(cl *kgo.Client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clients[cl] = struct{}{}
}

// OnClientClosed counts a client out.
func (c *kind) OnClientClosed(cl *kgo.Client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.clients, cl)
}

// withoutGauges registers all but gauges that are computed from a client.
type withoutGauges struct{ *prometheus.Registry }

// Register implements prometheus.Registerer.
func (r withoutGauges) Register(c prometheus.Collector) error {
	if _, ok := c.(prometheus.GaugeFunc); ok {
		return nil
	}
	r.Unregister(c)
	return r.Registry.Register(c)
}

// MustRegister implements prometheus.Registerer.
func (r withoutGauges) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		if err := r.Register(c); err != nil {
			panic(err)
		}
	}
}
