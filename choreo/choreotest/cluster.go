package choreotest

import (
	"sync"

	"github.com/choreography-go/choreography/choreo/choreotest/internal/simkafka"
	"github.com/choreography-go/choreography/choreo/choreotest/internal/simnet"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// cluster is the brokers of a simulation.
type cluster struct {
	*simkafka.Cluster

	mu     sync.Mutex
	faults []*kfake.FaultHandle
}

func openCluster(n *simnet.Network, brokers int, seed uint64) (*cluster, error) {
	fake, err := simkafka.Start(simkafka.Config{Network: n, Seed: seed, Brokers: brokers})
	if err != nil {
		return nil, err
	}
	return &cluster{Cluster: fake}, nil
}

// perEntity are the requests whose answers have no error of their own.
var perEntity = map[kmsg.Key]bool{
	kmsg.Produce: true, kmsg.Fetch: true, kmsg.ListOffsets: true, kmsg.Metadata: true, kmsg.TxnOffsetCommit: true,
	kmsg.OffsetCommit: true, kmsg.OffsetFetch: true, kmsg.FindCoordinator: true, kmsg.AddPartitionsToTxn: true,
	kmsg.OffsetForLeaderEpoch: true, kmsg.DescribeTransactions: true, kmsg.DescribeProducers: true, kmsg.DescribeConfigs: true,
}

// refuse answers the next so many requests of a type with an error.
func (c *cluster) refuse(key kmsg.Key, err *kerr.Error, count int) {
	h := c.Fault(kfake.Fault{Keys: []kmsg.Key{key}, TopLevel: !perEntity[key], Err: err, Count: count})
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
