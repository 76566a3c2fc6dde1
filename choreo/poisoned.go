package choreo

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/internal/txn"
	"github.com/twmb/franz-go/pkg/kgo"
)

// poisoned remembers what the broker has refused for its size: producing it again
// would fail the pipeline for ever. What it means is for those to say who would
// produce it: for a step that did something it is another thing than for a
// compensation.
type poisoned struct {
	any  atomic.Bool
	mu   sync.Mutex
	what map[output]*refusedError
}

// output names what came of an input record: an event by its id, which is the same
// for every attempt, the record's dead letters, or anything else. A replay of a
// dead letter is another record, so that it is produced again.
type output struct {
	topic     string
	partition int32
	offset    int64
	what      string
}

const (
	anything    = ""
	deadLetters = "/deadletter" // no event has this id
)

func outputOf(rec *kgo.Record, what string) output {
	return output{rec.Topic, rec.Partition, rec.Offset, what}
}

// refusedError is why something is not produced any more.
type refusedError struct {
	topic string
	bytes int
}

func (e *refusedError) Error() string {
	return fmt.Sprintf("the broker refused a record of %d bytes for topic %q for its size; raise the topic's max.message.bytes, or say less", e.bytes, e.topic)
}

func (p *poisoned) add(out output, why *refusedError) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.what == nil {
		p.what = map[output]*refusedError{}
	}
	p.what[out] = why
	p.any.Store(true)
}

// why is why an output was refused, nil if it was not.
func (p *poisoned) why(out output) error {
	if !p.any.Load() {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if why := p.what[out]; why != nil {
		return why
	}
	return nil
}

// refusedForSize notes which output of a result the broker has refused. If that is
// what an operator has said, it is the command that must not be obeyed again.
func (e *engine) refusedForSize(large *txn.RecordTooLargeError) {
	out := output{what: anything}
	if s := large.Result.Source; s != nil {
		out.topic, out.partition, out.offset = s.Topic, s.Partition, large.Result.Offset
	}
	if r, ok := large.Result.Done.(*run); ok {
		view := cloudevent.ViewOf(large.Record)
		id := string(view.ID())
		if id == "" || r.told == nil || r.told.said != id {
			out = outputOf(r.rec, anything)
			if id != r.event.ID { // as it is of what is published, which no handler says
				out.what = id
			}
		}
	}
	if large.Topic == e.names.dlq {
		out.what = deadLetters
	}
	e.poison.add(out, &refusedError{large.Topic, large.Bytes})
}

// refused is why a handler cannot say an event, nil if it can. What an operator
// gives in its place is another one, under the same id.
func (r *run) refused(d *eventDecl, step, kind string, number int) error {
	if !r.e.poison.any.Load() || r.told.speaks() {
		return nil
	}
	return r.e.poison.why(outputOf(r.rec, r.sayingID(d, step, kind, number)))
}

// untilRestart is a refusal of what is repeated for ever.
func untilRestart(refused error) error { return fmt.Errorf("%w, and start again", refused) }
