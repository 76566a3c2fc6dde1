package simkafka

import (
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"time"

	"github.com/choreography-go/choreography/choreo/choreotest/internal/simnet"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kversion"
)

const firstPort = 9092

// Config says what cluster to start.
type Config struct {
	// Network is what the brokers listen on. Their answers pass through this
	// package: the network can have one cluster and no other filter.
	Network *simnet.Network
	// Seed of when markers are written, and of where partitions are led.
	Seed uint64
	// Brokers is how many there are. Zero: 3.
	Brokers int
	// Topics are made at the start, with so many partitions.
	Topics map[string]int32
	// Settings are broker configuration, such as group.initial.rebalance.delay.ms.
	Settings map[string]string
	// Versions bounds what the brokers speak. Nil: all that kfake knows.
	Versions *kversion.Versions
	// Markers is the mean time from EndTxn's answer to a marker. Zero: 2 ms.
	// Negative: at once, and nothing is refused for it.
	Markers time.Duration
}

// Cluster is a running cluster. What kfake offers for faults (Fault,
// MoveTopicPartition, RehashCoordinators, ControlKey) is there.
type Cluster struct {
	*kfake.Cluster
	addrs []string
	txns  *transactions
}

// Start starts a cluster. Close ends it.
func Start(cfg Config) (*Cluster, error) {
	if cfg.Network == nil {
		return nil, errors.New("start a simulated cluster: Config.Network is nil; give it a simnet.Network")
	}
	if cfg.Brokers == 0 {
		cfg.Brokers = 3
	}
	if cfg.Markers == 0 {
		cfg.Markers = 2 * time.Millisecond
	}
	ports := make([]int, cfg.Brokers)
	for i := range ports {
		ports[i] = firstPort + i
	}
	c := &Cluster{txns: newTransactions(cfg.Seed, cfg.Markers)}
	opts := []kfake.Opt{kfake.Ports(ports...), kfake.ListenFn(cfg.Network.Listen), kfake.BrokerConfigs(cfg.Settings)}
	if cfg.Versions != nil {
		opts = append(opts, kfake.MaxVersions(cfg.Versions))
	}
	cfg.Network.FilterAnswers(c.txns.filter)
	var err error
	if c.Cluster, err = kfake.NewCluster(opts...); err != nil {
		return nil, fmt.Errorf("start a simulated cluster of %d brokers: %w", cfg.Brokers, err)
	}
	c.addrs = c.ListenAddrs()
	c.txns.watch(c.Cluster)
	(&rebalances{since: map[string]rebalance{}}).watch(c.Cluster)
	for _, topic := range slices.Sorted(maps.Keys(cfg.Topics)) {
		if err := c.CreateTopic(topic, cfg.Topics[topic], nil); err != nil {
			c.Close()
			return nil, fmt.Errorf("create topic %s: %w", topic, err)
		}
		if err := c.Place(topic, cfg.Seed); err != nil {
			c.Close()
			return nil, err
		}
	}
	return c, nil
}

// Addrs are the brokers' addresses, for kgo.SeedBrokers.
func (c *Cluster) Addrs() []string { return c.addrs }

// Place has each partition of a topic led by a broker that follows from the
// seed. Where kfake puts a new partition is random otherwise.
func (c *Cluster) Place(topic string, seed uint64) error {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%d %s", seed, topic)
	for i, p := range c.PartitionInfos(topic) {
		node := int32((h.Sum64()>>8 + uint64(i)) % uint64(len(c.addrs)))
		if err := c.MoveTopicPartition(topic, p.Partition, node); err != nil {
			return fmt.Errorf("move %s/%d to broker %d: %w", topic, p.Partition, node, err)
		}
	}
	return nil
}

// LateMarkers has transactions that end from now to then get their markers
// late: each partition at a time of its own, up to most after EndTxn's answer.
func (c *Cluster) LateMarkers(most time.Duration, until time.Time) { c.txns.late(most, until) }
