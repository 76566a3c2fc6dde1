package choreo

import (
	"context"
	"errors"

	"github.com/google/uuid"
)

// PublishOption changes what [Service.Publish] does. [Flow] and
// [IdempotencyKey] make one.
type PublishOption func(*publication)

type publication struct {
	flow, key string
}

// Flow says the event in the flow of that correlation id. Without it, and
// without an [IdempotencyKey], a new flow starts.
func Flow(id string) PublishOption { return func(p *publication) { p.flow = id } }

// IdempotencyKey makes a repeated Publish of the same event say it once: the
// event's id, and unless [Flow] is given the correlation id too, are derived
// from the service's name and the key. The service remembers the key until the
// flow's runs are forgotten: [Retention].Grace after its outcome, else
// Retention.Flow after its last event. An empty key is none.
func IdempotencyKey(key string) PublishOption { return func(p *publication) { p.key = key } }

// ErrUndeclared is returned for an event that the service did not declare to
// say.
var ErrUndeclared = errors.New("choreo: event is not declared")

// FlowOf returns the correlation id that [Service.Publish] gives to the flow
// started under an idempotency key: the UUIDv5 of service and key.
func (s *Service) FlowOf(idempotencyKey string) string { return flowOfKey(s.name, idempotencyKey) }

func flowOfKey(service, key string) string {
	return uuid.NewSHA1(uuid.NewSHA1(publishSpace, []byte(service)), []byte(key)).String()
}

// publishSpace is the UUID namespace of published flows.
var publishSpace = uuid.NewSHA1(uuid.NameSpaceURL, []byte("https://github.com/choreography-go/choreography/publish"))

// Publish says one of the events declared with [Starts], outside any handler,
// and returns its flow. When it returns nil the event is durable in the
// service's inbox, from where the flow's task says it on its topic, exactly
// once per idempotency key, within milliseconds. An error means that the
// outcome is unknown: publish again under the same key.
//
// It may be called by any number of goroutines while the service runs.
func (s *Service) Publish(ctx context.Context, e Emission, opts ...PublishOption) (flow string, err error) {
	r := s.running.Load()
	if r == nil {
		return "", ErrNotRunning
	}
	var p publication
	for _, o := range opts {
		o(&p)
	}
	return r.publish(ctx, e, p)
}
