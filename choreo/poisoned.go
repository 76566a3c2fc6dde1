package choreo

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// poisoned remembers the input records whose outputs the broker refused for
// their size, until they are dead letters: producing them again would fail the
// pipeline for ever.
type poisoned struct {
	any     atomic.Bool
	mu      sync.Mutex
	records map[string]int
}

func poisonKey(topic string, partition int32, offset int64) string {
	return fmt.Sprintf("%s/%d/%d", topic, partition, offset)
}

func (p *poisoned) add(topic string, partition int32, offset int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.records == nil {
		p.records = map[string]int{}
	}
	p.records[poisonKey(topic, partition, offset)]++
	p.any.Store(true)
}

// times says how often the record's outputs were refused.
func (p *poisoned) times(topic string, partition int32, offset int64) int {
	if !p.any.Load() {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.records[poisonKey(topic, partition, offset)]
}
