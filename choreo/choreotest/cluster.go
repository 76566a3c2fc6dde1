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

	mu      sync.Mutex
	faults  []*kfake.FaultHandle
	refused map[kmsg.Key]denial // of types that kfake's faults do not reach
}

// denial is how the next requests of a type are answered.
type denial struct {
	code int16
	left int
}

func openCluster(n *simnet.Network, brokers int, seed uint64) (*cluster, error) {
	fake, err := simkafka.Start(simkafka.Config{Network: n, Seed: seed, Brokers: brokers})
	if err != nil {
		return nil, err
	}
	c := &cluster{Cluster: fake, refused: map[kmsg.Key]denial{}}
	for key, answer := range refusing {
		c.ControlKey(int16(key), func(req kmsg.Request) (kmsg.Response, error, bool) {
			c.KeepControl()
			code, refused := c.refuses(key)
			if !refused {
				return nil, nil, false
			}
			return answer(req, code), nil, true
		})
	}
	return c, nil
}

// refuses reports whether the next request of a type is refused, and by which error.
func (c *cluster) refuses(key kmsg.Key) (code int16, refused bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.refused[key]
	if r.left == 0 {
		return 0, false
	}
	r.left--
	c.refused[key] = r
	return r.code, true
}

// perEntity are the requests whose answers have no error of their own.
var perEntity = map[kmsg.Key]bool{
	kmsg.Produce: true, kmsg.Fetch: true, kmsg.ListOffsets: true, kmsg.Metadata: true, kmsg.TxnOffsetCommit: true,
	kmsg.OffsetCommit: true, kmsg.OffsetFetch: true, kmsg.FindCoordinator: true, kmsg.AddPartitionsToTxn: true,
	kmsg.OffsetForLeaderEpoch: true, kmsg.DescribeConfigs: true,
}

// refusing answers all that a request asks for with an error.
var refusing = map[kmsg.Key]func(req kmsg.Request, code int16) kmsg.Response{
	kmsg.DescribeTransactions: func(req kmsg.Request, code int16) kmsg.Response {
		resp := req.ResponseKind().(*kmsg.DescribeTransactionsResponse)
		for _, id := range req.(*kmsg.DescribeTransactionsRequest).TransactionalIDs {
			t := kmsg.NewDescribeTransactionsResponseTransactionState()
			t.TransactionalID, t.ErrorCode = id, code
			resp.TransactionStates = append(resp.TransactionStates, t)
		}
		return resp
	},
	kmsg.DescribeProducers: func(req kmsg.Request, code int16) kmsg.Response {
		resp := req.ResponseKind().(*kmsg.DescribeProducersResponse)
		for _, asked := range req.(*kmsg.DescribeProducersRequest).Topics {
			t := kmsg.NewDescribeProducersResponseTopic()
			t.Topic = asked.Topic
			for _, n := range asked.Partitions {
				p := kmsg.NewDescribeProducersResponseTopicPartition()
				p.Partition, p.ErrorCode = n, code
				t.Partitions = append(t.Partitions, p)
			}
			resp.Topics = append(resp.Topics, t)
		}
		return resp
	},
}

// refuse answers the next so many requests of a type with an error.
func (c *cluster) refuse(key kmsg.Key, err *kerr.Error, count int) {
	if refusing[key] != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.refused[key] = denial{err.Code, count}
		return
	}
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
	clear(c.refused)
}
