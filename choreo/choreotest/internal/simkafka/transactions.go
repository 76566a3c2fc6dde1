package simkafka

import (
	"sync"
	"time"

	"github.com/choreography-go/choreography/choreo/choreotest/internal/simnet"
	"github.com/twmb/franz-go/pkg/kfake"
)

type transactions struct {
	mu sync.Mutex
}

func newTransactions(seed uint64, markers time.Duration) *transactions { return &transactions{} }
func (ts *transactions) filter(x *simnet.Exchange, answer []byte) ([]byte, time.Time) {
	return answer, time.Time{}
}
func (ts *transactions) watch(c *kfake.Cluster)                   {}
func (ts *transactions) late(most time.Duration, until time.Time) {}
