package choreo

import (
	"context"
	"errors"
	"reflect"
	"strconv"
	"sync/atomic"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// tracing makes a span of every attempt ("process <topic>") and of every event
// that is said ("create <topic>"), by the OpenTelemetry conventions for
// messaging; the W3C trace context travels in the events. Without a tracer
// provider it makes nothing and hands on the context that an event came with.
type tracing struct {
	tracer trace.Tracer
	w3c    propagation.TraceContext
	common []attribute.KeyValue
	group  attribute.KeyValue
	off    atomic.Bool // the provider makes no spans
}

const (
	tracerName = "github.com/choreography-go/choreography/choreo"

	attributeStep    = attribute.Key("choreo.step")
	attributeAttempt = attribute.Key("choreo.attempt")
	attributeDoing   = attribute.Key("choreo.doing") // do or undo
)

// newTracing uses a provider, or the global one as it is when the first span is
// made.
func newTracing(p trace.TracerProvider, group string) *tracing {
	if p == nil {
		p = otel.GetTracerProvider()
	}
	return &tracing{
		tracer: p.Tracer(tracerName, trace.WithSchemaURL(semconv.SchemaURL)),
		common: []attribute.KeyValue{semconv.MessagingSystemKafka},
		group:  semconv.MessagingConsumerGroupName(group),
	}
}

// attemptSpan is the span of one attempt; the zero value is none.
type attemptSpan struct{ span trace.Span }

// start begins the span of an attempt at r by a step.
func (t *tracing) start(ctx context.Context, r *run, step string) (context.Context, attemptSpan) {
	if t.off.Load() {
		return ctx, attemptSpan{}
	}
	return t.process(ctx, r.rec, &r.event, attempt{flow: r.flow, step: step, number: r.attempt, doing: r.doing, joined: r.joined})
}

// attempt is what a span tells of an attempt.
type attempt struct {
	flow, step, doing string
	number            int
	joined            *joined // what the attempt is made on, if it is several events
}

func (t *tracing) process(ctx context.Context, rec *kgo.Record, ev *cloudevent.Event, a attempt) (context.Context, attemptSpan) {
	ctx = t.extract(ctx, ev)
	parent := trace.SpanContextFromContext(ctx)
	attrs := append(make([]attribute.KeyValue, 0, 16), t.common...)
	attrs = append(attrs,
		semconv.MessagingOperationTypeProcess,
		semconv.MessagingOperationName("process"),
		semconv.MessagingDestinationName(rec.Topic),
		t.group,
		attributeStep.String(a.step),
		attributeAttempt.Int(a.number),
		attributeDoing.String(a.doing),
	)
	if rec.Offset >= 0 { // it is no deadline's
		attrs = append(attrs, semconv.MessagingDestinationPartitionID(strconv.Itoa(int(rec.Partition))), semconv.MessagingKafkaOffset(int(rec.Offset)))
	}
	attrs = appendEvent(attrs, ev, a.flow)
	ctx, span := t.tracer.Start(ctx, "process "+rec.Topic, trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(attrs...), trace.WithLinks(t.links(a.joined)...))
	// A provider that makes spans gives each an id of its own.
	if made := span.SpanContext(); !made.IsValid() || made.SpanID() == parent.SpanID() {
		t.off.Store(true)
		return ctx, attemptSpan{}
	}
	return ctx, attemptSpan{span}
}

// links are to the spans of all events that are joined. The last one's is the
// parent, too.
func (t *tracing) links(j *joined) (all []trace.Link) {
	if j == nil {
		return nil
	}
	for _, h := range j.Halves {
		ctx := t.w3c.Extract(context.Background(), &w3cCarrier{h.TraceParent, h.TraceState})
		if at := trace.SpanContextFromContext(ctx); at.IsValid() {
			all = append(all, trace.Link{SpanContext: at, Attributes: []attribute.KeyValue{
				semconv.CloudEventsEventID(clip(h.ID)), semconv.CloudEventsEventType(clip(h.Type)),
			}})
		}
	}
	return all
}

func appendEvent(attrs []attribute.KeyValue, ev *cloudevent.Event, flow string) []attribute.KeyValue {
	return append(attrs,
		semconv.MessagingMessageID(clip(ev.ID)),
		semconv.MessagingMessageConversationID(clip(flow)),
		semconv.MessagingMessageBodySize(len(ev.Data)),
		semconv.CloudEventsEventID(clip(ev.ID)),
		semconv.CloudEventsEventSource(clip(ev.Source)),
		semconv.CloudEventsEventType(clip(ev.Type)),
	)
}

// end ends the span; err is what came of the attempt, and text what is shown of it.
func (s attemptSpan) end(err error, text func(error) string) {
	if s.span == nil {
		return
	}
	if err != nil {
		s.span.SetAttributes(semconv.ErrorTypeKey.String(errorType(err)))
		s.span.SetStatus(codes.Error, text(err))
	}
	s.span.End()
}

// errorType names the kind of an error, not its text, so that it can be grouped.
func errorType(err error) string {
	if errors.Is(err, ErrTimeout) {
		return "timeout"
	}
	if _, ok := errors.AsType[*panicError](err); ok {
		return "panic"
	}
	if r, ok := errors.AsType[*Rejection](err); ok {
		return clip(r.Code)
	}
	return reflect.TypeOf(err).String()
}

// create makes the span of an event that a run says on a topic, and gives the
// event its trace context.
func (t *tracing) create(r *run, ev *cloudevent.Event, topic string) {
	if t.off.Load() {
		ev.TraceParent, ev.TraceState = passOn(&r.event)
		return
	}
	var ctx context.Context
	if r.ctx != nil {
		ctx = r.ctx.Context
	} else { // said without an attempt, as the answer to a cancellation
		ctx = t.extract(context.Background(), &r.event)
	}
	t.say(ctx, ev, topic)
	if ev.TraceParent == "" {
		ev.TraceParent, ev.TraceState = passOn(&r.event)
	}
}

func (t *tracing) say(ctx context.Context, ev *cloudevent.Event, topic string) {
	attrs := append(make([]attribute.KeyValue, 0, 10), t.common...)
	attrs = append(attrs,
		semconv.MessagingOperationTypeCreate,
		semconv.MessagingOperationName("create"),
		semconv.MessagingDestinationName(topic),
	)
	attrs = appendEvent(attrs, ev, ev.CorrelationID)
	ctx, span := t.tracer.Start(ctx, "create "+topic, trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(attrs...))
	span.End()
	ev.TraceParent, ev.TraceState = t.inject(ctx)
}

// W3C: a traceparent has 55 bytes, later versions may be longer; a tracestate
// is handed on up to 512.
const (
	maxTraceParent = 128
	maxTraceState  = 512
)

// passOn returns an event's own trace context, if it is of a size to hand on.
func passOn(ev *cloudevent.Event) (traceparent, tracestate string) {
	if len(ev.TraceParent) > maxTraceParent || len(ev.TraceState) > maxTraceState {
		return "", ""
	}
	return ev.TraceParent, ev.TraceState
}

// extract puts an event's trace context into ctx as the remote parent.
func (t *tracing) extract(ctx context.Context, ev *cloudevent.Event) context.Context {
	if ev.TraceParent == "" {
		return ctx
	}
	parent, state := passOn(ev)
	return t.w3c.Extract(ctx, &w3cCarrier{parent, state})
}

// inject returns ctx's span as W3C trace context; empty if there is none.
func (t *tracing) inject(ctx context.Context) (traceparent, tracestate string) {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return "", ""
	}
	var c w3cCarrier
	t.w3c.Inject(ctx, &c)
	return c.parent, c.state
}

// w3cCarrier holds the two attributes of an event.
type w3cCarrier struct{ parent, state string }

func (c *w3cCarrier) field(key string) *string {
	switch key {
	case "traceparent":
		return &c.parent
	case "tracestate":
		return &c.state
	}
	return nil
}

// Get implements propagation.TextMapCarrier.
func (c *w3cCarrier) Get(key string) string {
	if f := c.field(key); f != nil {
		return *f
	}
	return ""
}

// Set implements propagation.TextMapCarrier.
func (c *w3cCarrier) Set(key, value string) {
	if f := c.field(key); f != nil {
		*f = value
	}
}

// Keys implements propagation.TextMapCarrier.
func (c *w3cCarrier) Keys() []string { return []string{"traceparent", "tracestate"} }
