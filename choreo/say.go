package choreo

import (
	"fmt"
	"reflect"
	"runtime/debug"
	"time"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/internal/journal"
)

const (
	// maxHops stops runaway cycles: an event further than this from the start
	// of its flow is a dead letter.
	maxHops = 100
)

// sayingID is the id of an event that a handler says, derived so that a repeated
// attempt says the same event.
func (r *run) sayingID(d *eventDecl, step, kind string, number int) string {
	return derive(r.cause(), r.e.plan.service, step, number, kind, "/", d.Type)
}

// say encodes an event that a handler emits, and adds it to the run's records.
func (r *run) say(d *eventDecl, payload any, step, kind string, number int) (journal.Event, error) {
	if err := r.refused(d, step, kind, number); err != nil {
		return journal.Event{}, fmt.Errorf("say %s: %w", d.Type, err)
	}
	data, err := encode(d, payload, r.e.cfg.MaxEventBytes)
	if err != nil {
		return journal.Event{}, err
	}
	key := r.flow
	if d.key != nil {
		if p := protect(func() { key = d.key(payload) }); p != nil {
			return journal.Event{}, fmt.Errorf("compute the Key of %s: %w", d.Type, p)
		}
	}
	ev := cloudevent.Event{
		ID:              r.sayingID(d, step, kind, number),
		Source:          r.e.source,
		Type:            d.Type,
		DataContentType: d.codec.ContentType(),
		CorrelationID:   r.flow,
		CausationID:     r.event.ID,
		PartitionKey:    key,
		Service:         r.e.plan.service,
		Step:            step,
		Kind:            cloudevent.Kind(kind),
		Attempt:         r.attempt,
		Hops:            r.event.Hops + 1,
		Outcome:         d.Outcome.String(),
		Started:         r.started(),
		Data:            data,
	}
	if r.attempt > 0 {
		ev.Began, ev.Time = r.began, r.tried
	} else {
		ev.Time = time.Now()
	}
	if len(r.undoing) > 0 {
		ev.Undoes = r.undoing[0].Out.ID
	}
	if r.joined != nil {
		ev.CausationIDs, ev.Hops = r.joined.ids(), r.joined.hops+1
	}
	topic := r.e.names.topic(d.Topic)
	r.e.tracing.create(r, &ev, topic)
	rec, space := r.newRecord(topic)
	if err := r.e.plan.form(d, step, kind).Fill(rec, &ev, space); err != nil {
		return journal.Event{}, fmt.Errorf("say %s: %w", d.Type, err)
	}
	r.records = append(r.records, rec)
	if r.told.speaks() {
		r.told.said = ev.ID
	}
	r.ended = r.ended || d.Outcome != NotAnOutcome
	return journal.Event{Source: ev.Source, ID: ev.ID, Type: ev.Type, ContentType: ev.DataContentType, Data: data}, nil
}

// sayAll says a handler's emissions, all or none: an undeclared one is an
// error that names it.
func (r *run) sayAll(out Emissions, allowed map[string]*eventDecl, step string) error {
	before := len(r.records)
	for i, em := range out {
		d, ok := allowed[em.Type]
		var err error
		if !ok {
			err = fmt.Errorf("%w: %q says %q; add it to what the handler may say", ErrUndeclared, step, em.Type)
		} else {
			_, err = r.say(d, em.Data, step, kindDid, i)
		}
		if err != nil {
			r.records = r.records[:before]
			return err
		}
	}
	return nil
}

// started is when the flow's first event was said, as far as its events tell.
func (r *run) started() time.Time {
	if r.joined != nil && !r.joined.started.IsZero() {
		return r.joined.started
	}
	if !r.event.Started.IsZero() {
		return r.event.Started
	}
	if r.event.CausationID == "" {
		return r.event.Time
	}
	return time.Time{}
}

// encode encodes a payload as its declaration says.
func encode(d *eventDecl, payload any, limit int) (data []byte, err error) {
	if t := reflect.TypeOf(payload); t != d.payload && (t == nil || !t.AssignableTo(d.payload)) {
		return nil, fmt.Errorf("say %s: its payload is declared as %v, not %v", d.Type, d.payload, t)
	}
	if p := protect(func() { data, err = d.codec.Marshal(payload) }); p != nil {
		err = p
	}
	if err != nil {
		return nil, fmt.Errorf("encode the payload of %s: %w", d.Type, err)
	}
	if len(data) > limit {
		return nil, fmt.Errorf("say %s: %w", d.Type, &tooBigError{len(data), limit})
	}
	return data, nil
}

// protect turns a panic of user code into an error.
func protect(f func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{p, debug.Stack()}
		}
	}()
	f()
	return nil
}
