package choreotest

import (
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

// parkedEvents are the flows of events that wait in a journal, by the topics
// and keys of their records.
type parkedEvents map[string]string

// take notes what a record of a journal says of them.
func (p parkedEvents) take(rec *kgo.Record) {
	flow, slot, ok := slotOf(rec.Key)
	if !ok || !strings.HasPrefix(slot, "parked/") {
		return
	}
	name := rec.Topic + "\x00" + string(rec.Key)
	if rec.Value == nil {
		delete(p, name)
	} else {
		p[name] = flow
	}
}

// any is the flow of one of them, if there are any.
func (p parkedEvents) any() (flow string, ok bool) {
	for _, flow := range p {
		return flow, true
	}
	return "", false
}
