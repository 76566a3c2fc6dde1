package choreotest

import (
	"fmt"
	"sync"

	"github.com/choreography-go/choreography/choreo/choreotest/internal/simnet"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// cluster is the brokers of a simulation.
type cluster struct {
	fake *kfake.Cluster

	mu     sync.Mutex
	faults []*kfake.FaultHandle
}

func openCluster(n *simnet.Network, brokers int, _ uint64) (*cluster, error) {
	ports := make([]int, brokers)
	for i := range ports {
		ports[i] = 9092 + i
	}
	fake, err := kfake.NewCluster(kfake.NumBrokers(brokers), kfake.Ports(ports...), kfake.ListenFn(n.Listen))
	if err != nil {
		return nil, fmt.Errorf("start the brokers: %w", err)
	}
	return &cluster{fake: fake}, nil
}

func (c *cluster) addrs() []string { return c.fake.ListenAddrs() }
func (c *cluster) close()          { c.fake.Close() }

// perEntity are the requests whose answers have no error of their own.
var perEntity = map[kmsg.Key]bool{
	kmsg.Produce: true, kmsg.Fetch: true, kmsg.ListOffsets: true, kmsg.Metadata: true, kmsg.TxnOffsetCommit: true,
	kmsg.OffsetCommit: true, kmsg.OffsetFetch: true, kmsg.FindCoordinator: true, kmsg.AddPartitionsToTxn: true,
}

// refuse answers the next so many requests of a type with an error.
func (c *cluster) refuse(key kmsg.Key, err *kerr.Error, count int) {
	h := c.fake.Fault(kfake.Fault{Keys: []kmsg.Key{key}, TopLevel: !perEntity[key], Err: err, Count: count})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, h)
}

// heal ends all refusals.
func (c *cluster) heal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.faults {
		h.Remove()
	}
	c.faults = nil
}

func (c *cluster) moveLeader(topic string, partition, node int32) error {
	return c.fake.MoveTopicPartition(topic, partition, node)
}

func (c *cluster) moveCoordinators() { c.fake.RehashCoordinators() }
