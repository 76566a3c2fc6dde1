package choreo

import (
	"encoding/json"
	"reflect"
)

// Outcome says whether an event ends its flow, and how.
type Outcome uint8

const (
	// NotAnOutcome is an event after which its flow goes on.
	NotAnOutcome Outcome = iota
	// Succeeded ends a flow that reached its goal.
	Succeeded
	// Failed ends a flow that was given up and compensated.
	Failed
)

// String returns "", "succeeded" or "failed", as the event's choreooutcome
// attribute says it.
func (o Outcome) String() string {
	switch o {
	case Succeeded:
		return "succeeded"
	case Failed:
		return "failed"
	}
	return ""
}

// Event declares one type of event as this service sees it: T holds the fields
// the service needs, unknown fields of the payload are ignored. The zero values
// of the optional fields are JSON, keyed by the correlation id, no outcome.
//
// An Event is a value; it may be copied and used by any number of goroutines.
type Event[T any] struct {
	// Type is the CloudEvents type, such as "com.example.order.placed.v1".
	Type string
	// Topic is the Kafka topic that carries it, without the environment's prefix.
	Topic string
	// Outcome says whether this event ends its flow.
	Outcome Outcome
	// Codec encodes the payload; nil means JSON.
	Codec Codec
	// Key gives the record key; nil means the correlation id. Events that a
	// Step or a State of any service hears should leave it nil: others reach
	// flow state only by way of the inbox, one hop more.
	Key func(T) string
}

// AnyEvent is an Event of whatever payload. Only Event implements it.
type AnyEvent interface{ decl() *eventDecl }

// Events is a set of declared events.
type Events []AnyEvent

// Codec encodes and decodes payloads. Implementations must be safe for
// concurrent use and must not keep data after Unmarshal has returned.
type Codec interface {
	// ContentType is the datacontenttype of the events encoded by Marshal.
	ContentType() string
	// Marshal encodes v, a value of the event's payload type.
	Marshal(v any) ([]byte, error)
	// Unmarshal decodes data into v, a pointer to the event's payload type.
	Unmarshal(data []byte, v any) error
}

// JSON is the default Codec. Unknown fields are ignored.
type JSON struct{}

// ContentType returns "application/json".
func (JSON) ContentType() string { return "application/json" }

// Marshal encodes v as JSON.
func (JSON) Marshal(v any) ([]byte, error) { return json.Marshal(v) }

// Unmarshal decodes JSON.
func (JSON) Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }

// Bytes is a Codec for payloads of type []byte, which it passes on as they are.
type Bytes struct{ Type string }

// ContentType returns b.Type, or "application/octet-stream".
func (b Bytes) ContentType() string {
	if b.Type == "" {
		return "application/octet-stream"
	}
	return b.Type
}

// Marshal returns v, which must be a []byte.
func (Bytes) Marshal(v any) ([]byte, error) {
	if b, ok := v.([]byte); ok {
		return b, nil
	}
	return nil, &codecTypeError{v}
}

// Unmarshal stores data itself, not a copy, in v, which must be a *[]byte.
func (Bytes) Unmarshal(data []byte, v any) error {
	p, ok := v.(*[]byte)
	if !ok {
		return &codecTypeError{v}
	}
	*p = data
	return nil
}

type codecTypeError struct{ v any }

func (e *codecTypeError) Error() string {
	return "choreo.Bytes encodes []byte only, not " + reflect.TypeOf(e.v).String()
}

// Emission is an event to be said: the type and its payload. Make it with
// [Event.New]. Tests compare emissions with reflect.DeepEqual.
type Emission struct {
	Type string
	Data any
}

// Emissions are events to be said, in this order.
type Emissions []Emission

// Emit collects emissions.
func Emit(e ...Emission) Emissions { return e }

// New makes an emission of the event.
func (e Event[T]) New(data T) Emission { return Emission{Type: e.Type, Data: data} }

func (e Event[T]) decl() *eventDecl {
	d := &eventDecl{Type: e.Type, Topic: e.Topic, Outcome: e.Outcome, codec: e.Codec, payload: reflect.TypeFor[T]()}
	if d.codec == nil {
		d.codec = JSON{}
	}
	read := decoder[T](d.codec)
	d.decode = func(b []byte) (any, error) { return read(b) }
	if e.Key != nil {
		d.key = func(v any) string { return e.Key(v.(T)) }
	}
	return d
}

// eventDecl is an Event without its type parameter.
type eventDecl struct {
	Type, Topic string
	Outcome     Outcome
	codec       Codec
	payload     reflect.Type
	key         func(any) string // nil: the correlation id
	decode      func([]byte) (any, error)
}
