package choreo

import (
	"fmt"
	"math"
	"time"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Encode makes the record of an event as another service would have said it in
// a flow: with a new id, the flow as correlation id and key, and the topic as
// declared, without the environment's prefix. It is for tests and tools; the
// event must be one that the service declares, heard or said.
func (s *Service) Encode(flow string, e Emission) (*kgo.Record, error) {
	d, ok := newPlan(s).events[e.Type]
	if !ok {
		return nil, fmt.Errorf("encode: %w: %q", ErrUndeclared, e.Type)
	}
	data, err := encode(d, e.Data, math.MaxInt)
	if err != nil {
		return nil, err
	}
	key := flow
	if d.key != nil {
		key = d.key(e.Data)
	}
	return cloudevent.Event{
		ID: uuid.NewString(), Source: "/elsewhere", Type: d.Type, Time: time.Now(), DataContentType: d.codec.ContentType(),
		CorrelationID: flow, PartitionKey: key, Outcome: d.Outcome.String(), Data: data,
	}.Record(d.Topic)
}

// Decode reads a record of an event that the service declares: the CloudEvent,
// and the payload as a value of the declared type, so that it compares with
// [Event].New. It is for tests and tools.
func (s *Service) Decode(rec *kgo.Record) (Emission, cloudevent.Event, error) {
	ev, err := cloudevent.Read(rec)
	if err != nil {
		return Emission{}, ev, err
	}
	d, ok := newPlan(s).events[ev.Type]
	if !ok {
		return Emission{Type: ev.Type}, ev, fmt.Errorf("decode: %w: %q", ErrUndeclared, ev.Type)
	}
	data, err := d.decode(ev.Data)
	return Emission{Type: ev.Type, Data: data}, ev, err
}
