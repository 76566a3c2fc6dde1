package choreo

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/deadletter"
	"github.com/choreography-go/choreography/choreo/internal/journal"
	"github.com/choreography-go/choreography/choreo/internal/sched"
	"github.com/choreography-go/choreography/choreo/internal/txn"
	"github.com/choreography-go/choreography/choreo/operator"
	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The inbox brings to a flow's task what does not reach it by itself: events
// that lie on another partition number than their flow's, and events published
// outside handlers. These headers tell them apart; neither is part of the event.
const (
	headerForwarded = "choreo-forwarded" // value: where it was read, topic/partition/offset
	headerPublish   = "choreo-publish"   // value: the topic to say it on
)

// forward sends a record on to the inbox partition of its flow's task.
func (e *engine) forward(in *input, rec *kgo.Record, flow string, home int32) *txn.Result {
	e.metrics.forwarded.Inc()
	headers := make([]kgo.RecordHeader, 0, len(rec.Headers)+1)
	foreign := in.Topic != e.names.inbox // then nothing in it may be taken for the inbox's own
	for _, h := range rec.Headers {
		ours := h.Key == headerPublish || strings.HasPrefix(h.Key, deadletter.Prefix) || strings.HasPrefix(h.Key, operator.Prefix)
		if h.Key == headerForwarded || ours && foreign {
			continue
		}
		headers = append(headers, h)
	}
	origin := deadletter.PositionOf(rec).String()
	return &txn.Result{
		Inc: in.owned.inc, Source: in.Source, Offset: rec.Offset, Done: e.passed(in, rec),
		Records: []*kgo.Record{{
			Topic: e.names.inbox, Partition: home, Key: []byte(flow), Value: rec.Value,
			Headers: append(headers, kgo.RecordHeader{Key: headerForwarded, Value: []byte(origin)}),
		}},
	}
}

// publish puts an event into the inbox. Its id is derived from the idempotency
// key, so that the flow's task recognizes a repetition.
func (e *engine) publish(ctx context.Context, em Emission, p publication) (string, error) {
	d := e.plan.start(em.Type)
	if d == nil {
		return "", fmt.Errorf("publish: %w: %q; add it to the service's Starts", ErrUndeclared, em.Type)
	}
	if e.stopping.Load() {
		return "", fmt.Errorf("publish %s: %w", em.Type, ErrNotRunning)
	}
	data, err := encode(d, em.Data, e.cfg.MaxEventBytes)
	if err != nil {
		return "", fmt.Errorf("publish: %w", err)
	}
	if p.key == "" {
		p.key = uuid.NewString()
	}
	flow := p.flow
	if flow == "" {
		flow = flowOfKey(e.plan.service, p.key)
	}
	if !cloudevent.ValidCorrelationID(flow) {
		return "", fmt.Errorf("publish %s: the flow's id %.64q is not a correlation id: 1 to %d bytes of UTF-8 without control characters",
			em.Type, flow, cloudevent.MaxCorrelationIDBytes)
	}
	key := flow
	if d.key != nil {
		if err := protect(func() { key = d.key(em.Data) }); err != nil {
			return "", fmt.Errorf("publish %s: compute its Key: %w", em.Type, err)
		}
	}
	now := time.Now()
	ev := cloudevent.Event{
		ID:              derive(journal.HashOf(e.source, flow), e.plan.service, kindStarted, 0, d.Type, "\x00", p.key),
		Source:          e.source,
		Type:            d.Type,
		Time:            now,
		DataContentType: d.codec.ContentType(),
		CorrelationID:   flow,
		PartitionKey:    key,
		Service:         e.plan.service,
		Kind:            kindStarted,
		Outcome:         d.Outcome.String(),
		Data:            data,
		Started:         now,
	}
	ev.TraceParent, ev.TraceState = e.tracing.inject(ctx)
	rec, err := ev.Record(e.names.inbox)
	if err != nil {
		return "", fmt.Errorf("publish %s: %w", em.Type, err)
	}
	rec.Key = []byte(flow)
	rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: headerPublish, Value: []byte(d.Topic)})
	if err := e.inbox.ProduceSync(ctx, rec).FirstErr(); err != nil {
		if errors.Is(err, kgo.ErrClientClosed) {
			err = ErrNotRunning
		}
		return "", fmt.Errorf("publish %s to %s: %w; whether it was said is not known: publish again under the same idempotency key", em.Type, e.names.inbox, err)
	}
	e.metrics.published.Inc()
	return flow, nil
}

// acceptPublished says an event from the inbox on its topic, unless it was
// said before.
func (e *engine) acceptPublished(in *input, rec *kgo.Record, b *batch) {
	r := b.newRun()
	rec = b.keep(r, rec)
	view := cloudevent.ViewOf(rec)
	err := view.Read(&r.event)
	typ := r.event.Type
	var d *eventDecl
	if err == nil {
		if d = e.plan.start(typ); d == nil {
			err = fmt.Errorf("%w: %q was published by another version of the service; declare it with Starts and replay it", ErrUndeclared, typ)
		}
	}
	if err != nil {
		e.bury(in, rec, typ, &refusal{reason: reasonInvalid, err: err}, b)
		return
	}
	if why := e.unsayable(rec); why != nil {
		e.bury(in, rec, typ, why, b)
		return
	}
	e.metrics.consumed.Inc()
	r.begin(e, in, rec, &hearing{event: d, handlers: []handler{startRun{d}}, passes: true})
	b.run(r)
}

// startRun says a published event on its topic, once.
type startRun struct{ event *eventDecl }

func (s startRun) name() string     { return kindStarted }
func (s startRun) settings() policy { return policy{} }

func (s startRun) handle(r *run) verdict {
	h := fnv.New64a()
	_, _ = h.Write(r.event.Data)
	id := r.seenBy("/" + kindStarted) // no reaction has this name
	if data, seen := r.store().Seen(r.flow, id); seen {
		if data != h.Sum64() {
			r.e.metrics.conflicts.Inc()
			r.logger(kindStarted).Warn("published again under the same idempotency key with another payload: the first one stands")
		}
		return done
	}
	rec := &kgo.Record{Topic: r.e.names.topic(s.event.Topic)}
	if err := r.event.Fill(rec); err != nil {
		r.deadLetter("", reasonUnsayable, err)
		return done
	}
	r.records = append(r.records, rec)
	r.journal(kindStarted)(r.store().PutSeen(r.flow, id, h.Sum64(), r.now()))
	return done
}

// seenBy names the event as seen by one handler.
func (r *run) seenBy(name string) journal.Hash {
	return journal.HashOf(name, string(r.hash[:]))
}

// expiry drops what has expired of one flow, in the order of the flow's events.
type expiry struct {
	e    *engine
	o    *owned
	flow string
}

func (x *expiry) Run() time.Duration {
	x.o.mu.Lock()
	delete(x.o.expiring, x.flow)
	x.o.mu.Unlock()
	if !x.o.inc.Standing() {
		return sched.Done
	}
	now := time.Now()
	missing := x.o.store.JoinsOf(x.flow)
	changes := x.o.store.Drop(x.flow, x.o.clock.atLeast())
	if len(changes) == 0 {
		return sched.Done
	}
	waiting := x.o.store.JoinsOf(x.flow)
	for _, step := range missing {
		missed := x.e.metrics.step(step).missed
		if missed == nil || slices.Contains(waiting, step) {
			continue
		}
		missed.Inc()
		runLogger(x.e.log, x.flow, "", step).Warn("dropped: some of the events that the step joins have come, and others have not within Retention.Flow")
	}
	res := &txn.Result{Inc: x.o.inc, Done: txn.DoneFunc(func(committed bool) {
		if committed {
			x.o.store.Commit(changes...)
		}
	})}
	for _, c := range changes {
		res.Records = append(res.Records, c.Record(x.e.names.journal, x.o.partition, now))
	}
	x.e.pipe.Submit(res)
	return sched.Done
}
