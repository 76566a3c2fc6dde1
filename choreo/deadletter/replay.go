package deadletter

import (
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

// HeaderReplay names, on a record of the inbox, the letter that it replays.
const HeaderReplay = "choreo-dlq-replay"

const (
	headerKey       = "choreo-dlq-key"       // of the original record; absent if it had none
	headerForgotten = "choreo-dlq-forgotten" // see Replay.Forgotten
)

// Replay is what a replayed record says besides the event.
type Replay struct {
	Letter Position
	Step   string // the handler it is for; "": all that hear the event
	Origin string
	Key    []byte // of the original record
	// Forgotten lets a step run though what was remembered of its flow is gone,
	// and with it whether the step was cancelled.
	Forgotten bool
}

// NotReplayable is why a letter cannot be replayed.
type NotReplayable struct {
	Letter      Position
	Why, Origin string
}

// Error says what to do instead.
func (e *NotReplayable) Error() string {
	return fmt.Sprintf("dead letter %v cannot be replayed, its original is not there: %s; publish the event anew from its origin, %s, while its topic keeps it", e.Letter, e.Why, e.Origin)
}

// Replay makes the record that replays a letter: the event as it was, in the
// inbox, keyed by its flow. The error is a *NotReplayable.
func (l Letter) Replay(rec *kgo.Record, inbox string, forgotten bool) (*kgo.Record, error) {
	if why := l.Truncated; why != "" {
		return nil, &NotReplayable{l.At, "it was truncated (" + why + ")", l.Origin}
	}
	if l.Redacted != "" {
		return nil, &NotReplayable{l.At, "its payload was redacted", l.Origin}
	}
	key := l.Flow
	if key == "" { // it belongs to no flow that can be told
		key = l.At.String()
	}
	out := &kgo.Record{Topic: inbox, Key: []byte(key), Value: rec.Value}
	for _, h := range rec.Headers {
		if !strings.HasPrefix(h.Key, Prefix) {
			out.Headers = append(out.Headers, h)
		}
	}
	out.Headers = append(out.Headers, header(HeaderReplay, l.At.String()), header(HeaderStep, l.Step), header(HeaderOrigin, l.Origin))
	if rec.Key != nil {
		out.Headers = append(out.Headers, kgo.RecordHeader{Key: headerKey, Value: rec.Key})
	}
	if forgotten {
		out.Headers = append(out.Headers, header(headerForgotten, "yes"))
	}
	return out, nil
}

// ReadReplay reads what a replayed record says.
func ReadReplay(rec *kgo.Record) (Replay, error) {
	var r Replay
	var err error
	for _, h := range rec.Headers {
		switch h.Key {
		case HeaderReplay:
			if r.Letter, err = ParsePosition(string(h.Value)); err != nil {
				return Replay{}, fmt.Errorf("header %s: %w", HeaderReplay, err)
			}
		case HeaderStep:
			r.Step = Line(h.Value, maxText)
		case HeaderOrigin:
			r.Origin = Line(h.Value, maxText)
		case headerKey:
			if r.Key = h.Value; r.Key == nil {
				r.Key = []byte{}
			}
		case headerForgotten:
			r.Forgotten = true
		}
	}
	if r.Letter.Topic == "" {
		return Replay{}, fmt.Errorf("header %s is missing", HeaderReplay)
	}
	return r, nil
}
