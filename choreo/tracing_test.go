package choreo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/internal/journal"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/embedded"
	"go.opentelemetry.io/otel/trace/noop"
)

// spanRecorder is a TracerProvider that keeps its spans.
type spanRecorder struct {
	embedded.TracerProvider
	spans []*recordedSpan
}

type recordingTracer struct {
	embedded.Tracer
	*spanRecorder
}

type recordedSpan struct {
	noop.Span
	name   string
	kind   trace.SpanKind
	self   trace.SpanContext
	parent trace.SpanContext
	links  []trace.Link
	attrs  map[attribute.Key]attribute.Value
	status codes.Code
	text   string
	ended  bool
}

func (r *spanRecorder) Tracer(string, ...trace.TracerOption) trace.Tracer {
	return recordingTracer{spanRecorder: r}
}

func (r recordingTracer) Start(ctx context.Context, name string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	c := trace.NewSpanStartConfig(opts...)
	s := &recordedSpan{name: name, kind: c.SpanKind(), parent: trace.SpanContextFromContext(ctx), attrs: map[attribute.Key]attribute.Value{}}
	id := trace.SpanContextConfig{TraceID: s.parent.TraceID(), SpanID: trace.SpanID{0xaa, byte(len(r.spans) + 1)}, TraceFlags: trace.FlagsSampled, TraceState: s.parent.TraceState()}
	if !s.parent.IsValid() {
		id.TraceID = trace.TraceID{0xbb}
	}
	s.self = trace.NewSpanContext(id)
	s.SetAttributes(c.Attributes()...)
	s.links = c.Links()
	r.spans = append(r.spans, s)
	return trace.ContextWithSpan(ctx, s), s
}

func (s *recordedSpan) SpanContext() trace.SpanContext { return s.self }
func (s *recordedSpan) SetAttributes(kv ...attribute.KeyValue) {
	for _, a := range kv {
		s.attrs[a.Key] = a.Value
	}
}
func (s *recordedSpan) SetStatus(c codes.Code, text string) { s.status, s.text = c, text }
func (s *recordedSpan) End(...trace.SpanEndOption)          { s.ended = true }

const (
	incomingParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	incomingState  = "vendor=x"
)

func tracedRun(ev cloudevent.Event) *run {
	return &run{event: ev, flow: "flow-1", attempt: 2, doing: doingDo, rec: &kgo.Record{Topic: "orders", Partition: 3, Offset: 42}}
}

func TestSpansFollowTheMessagingConventions(t *testing.T) {
	rec := &spanRecorder{}
	tr := newTracing(rec, "it.payment")
	r := tracedRun(cloudevent.Event{ID: "e1", Source: "/order", Type: "order.placed", TraceParent: incomingParent, TraceState: incomingState, Data: []byte("12345")})
	ctx, span := tr.start(t.Context(), r, "pay")
	r.ctx = &runContext{ctx, r}
	said := &cloudevent.Event{ID: "e2", Source: "/payment", Type: "payment.authorized", CorrelationID: "flow-1"}
	tr.create(r, said, "payments")
	span.end(nil, errorTextOf)

	if len(rec.spans) != 2 {
		t.Fatalf("%d spans, want 2", len(rec.spans))
	}
	process, create := rec.spans[0], rec.spans[1]
	if process.name != "process orders" || process.kind != trace.SpanKindConsumer || create.name != "create payments" || create.kind != trace.SpanKindProducer {
		t.Errorf("spans %q (%v) and %q (%v)", process.name, process.kind, create.name, create.kind)
	}
	if p := process.parent; p.TraceID().String() != "0af7651916cd43dd8448eb211c80319c" || p.SpanID().String() != "b7ad6b7169203331" || !p.IsRemote() {
		t.Errorf("the attempt's parent is %v", p)
	}
	if create.parent.SpanID() != process.self.SpanID() {
		t.Error("what is said is not a child of the attempt")
	}
	if want := "00-0af7651916cd43dd8448eb211c80319c-" + create.self.SpanID().String() + "-01"; said.TraceParent != want || said.TraceState != incomingState {
		t.Errorf("the event carries %q, %q, want %q", said.TraceParent, said.TraceState, want)
	}
	for key, want := range map[attribute.Key]string{
		"messaging.system": "kafka", "messaging.operation.type": "process", "messaging.operation.name": "process", "messaging.destination.name": "orders",
		"messaging.destination.partition.id": "3", "messaging.kafka.offset": "42", "messaging.message.id": "e1", "messaging.consumer.group.name": "it.payment",
		"messaging.message.conversation_id": "flow-1", "messaging.message.body.size": "5",
		"cloudevents.event_id": "e1", "cloudevents.event_source": "/order", "cloudevents.event_type": "order.placed",
		"choreo.step": "pay", "choreo.attempt": "2", "choreo.doing": "do",
	} {
		if got := process.attrs[key].String(); got != want {
			t.Errorf("%s = %q, want %q", key, got, want)
		}
	}
	if got := create.attrs["messaging.message.id"].String(); got != "e2" {
		t.Errorf("the id of what is said is %q", got)
	}
	if !process.ended || process.status != codes.Unset {
		t.Errorf("the attempt's span: ended %v, status %v", process.ended, process.status)
	}
}

// A deadline has heard its event long ago: where that lay is not known any more.
func TestSpansOfDeadlinesNameNoPosition(t *testing.T) {
	rec := &spanRecorder{}
	r := tracedRun(cloudevent.Event{ID: "e1", Source: "/order", Type: "order.placed", TraceParent: incomingParent})
	r.rec.Offset = -1
	_, span := newTracing(rec, "it.payment").start(t.Context(), r, "in-time")
	span.end(nil, errorTextOf)
	if s := rec.spans[0]; s.parent.TraceID().String() != "0af7651916cd43dd8448eb211c80319c" || s.attrs["messaging.message.id"].String() != "e1" {
		t.Errorf("the span follows %v, with %v", s.parent, s.attrs)
	}
	for _, key := range []attribute.Key{"messaging.destination.partition.id", "messaging.kafka.offset"} {
		if got, ok := rec.spans[0].attrs[key]; ok {
			t.Errorf("%s is %s", key, got.String())
		}
	}
}

// The span of a joined run is linked to those of all halves, as far as they were
// traced.
func TestSpansOfJoinsAreLinkedToAllHalves(t *testing.T) {
	rec := &spanRecorder{}
	r := tracedRun(cloudevent.Event{ID: "e2", Source: "/stock", Type: "stock.reserved", TraceParent: incomingParent})
	const other = "00-1af7651916cd43dd8448eb211c80319c-c7ad6b7169203331-01"
	r.joined = &joined{Join: journal.Join{Halves: []journal.Half{
		{Event: journal.Event{ID: "e1", Type: "payment.authorized"}, TraceParent: other, TraceState: incomingState},
		{Event: journal.Event{ID: "untraced"}},
		{Event: journal.Event{ID: "e2", Type: "stock.reserved"}, TraceParent: incomingParent},
	}}}
	_, span := newTracing(rec, "it.shipping").start(t.Context(), r, "ship")
	span.end(nil, errorTextOf)
	s := rec.spans[0]
	if s.parent.SpanID().String() != "b7ad6b7169203331" {
		t.Errorf("the parent is %v, not the span of the last half", s.parent)
	}
	var got []string
	for _, l := range s.links {
		got = append(got, fmt.Sprintf("%s %s %s %v", l.SpanContext.TraceID(), l.SpanContext.SpanID(), l.SpanContext.TraceState(), l.Attributes[0].Value.AsString()))
	}
	want := []string{"1af7651916cd43dd8448eb211c80319c c7ad6b7169203331 vendor=x e1", "0af7651916cd43dd8448eb211c80319c b7ad6b7169203331  e2"}
	if !slices.Equal(got, want) {
		t.Errorf("linked are %q, want %q", got, want)
	}
}

func errorTextOf(err error) string { return "redacted: " + err.Error() }

func TestSpansTellErrors(t *testing.T) {
	for want, err := range map[string]error{
		"timeout":             errors.Join(ErrTimeout, errors.New("x")),
		"panic":               &panicError{value: "x"},
		"not-served":          fmt.Errorf("ship: %w", Reject("not-served", "no")),
		"*errors.errorString": errors.New("x"),
	} {
		rec := &spanRecorder{}
		_, span := newTracing(rec, "g").start(t.Context(), tracedRun(cloudevent.Event{}), "pay")
		span.end(err, errorTextOf)
		s := rec.spans[0]
		if got := s.attrs["error.type"].String(); got != want || s.status != codes.Error || s.text != errorTextOf(err) || !s.ended {
			t.Errorf("error.type %q, status %v %q, want %q", got, s.status, s.text, want)
		}
	}
}

func TestSpansOfHostileEventsAreBounded(t *testing.T) {
	rec := &spanRecorder{}
	long := strings.Repeat("x", 1<<20)
	r := tracedRun(cloudevent.Event{ID: long, Source: long, Type: long, TraceParent: incomingParent + long, TraceState: long})
	r.flow = long
	newTracing(rec, "g").start(t.Context(), r, "pay")
	for k, v := range rec.spans[0].attrs {
		if len(v.String()) > maxLogged+len("…") {
			t.Errorf("%s has %d bytes", k, len(v.String()))
		}
	}
	if rec.spans[0].parent.IsValid() {
		t.Error("a traceparent of 1 MB has become the parent")
	}
}

func TestWithoutAProviderTheContextIsHandedOn(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for _, c := range []struct{ name, parent, state, wantParent, wantState string }{
		{"as it came", incomingParent, incomingState, incomingParent, incomingState},
		{"none", "", "", "", ""},
		{"too long", incomingParent, long, "", ""},
	} {
		for _, p := range []trace.TracerProvider{noop.NewTracerProvider(), nil} {
			tr := newTracing(p, "g")
			r := tracedRun(cloudevent.Event{TraceParent: c.parent, TraceState: c.state})
			for range 2 { // the first span finds out that there are none
				ctx, span := tr.start(t.Context(), r, "pay")
				r.ctx = &runContext{ctx, r}
				span.end(errors.New("x"), errorTextOf)
				said := &cloudevent.Event{}
				tr.create(r, said, "t")
				if said.TraceParent != c.wantParent || said.TraceState != c.wantState {
					t.Errorf("%s: the event carries %.80q, %.80q", c.name, said.TraceParent, said.TraceState)
				}
			}
		}
	}
}

func TestPublishedEventsCarryTheCallersSpan(t *testing.T) {
	tr := newTracing(nil, "g")
	if parent, state := tr.inject(t.Context()); parent != "" || state != "" {
		t.Errorf("%q, %q without a span", parent, state)
	}
	ctx, span := (&spanRecorder{}).Tracer("").Start(t.Context(), "request")
	want := "00-" + span.SpanContext().TraceID().String() + "-" + span.SpanContext().SpanID().String() + "-01"
	if parent, _ := tr.inject(ctx); parent != want {
		t.Errorf("%q, want %q", parent, want)
	}
}

func TestTracingWithoutAProviderAllocatesNothing(t *testing.T) {
	tr := newTracing(nil, "g")
	r := tracedRun(cloudevent.Event{ID: "e", TraceParent: incomingParent})
	said := &cloudevent.Event{}
	ctx := t.Context()
	tr.start(ctx, r, "pay") // finds out
	if n := testing.AllocsPerRun(100, func() {
		c, span := tr.start(ctx, r, "pay")
		r.own.ctx = runContext{c, r}
		r.ctx = &r.own.ctx
		tr.create(r, said, "t")
		span.end(nil, errorTextOf)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
