// Package check judges a history of events: what a read-committed reader found
// on the topics of the order flow. It owns the rules that every flow must
// satisfy, and reads the records' headers itself.
//
// It must not use any of the runtime's packages: a mistake that reader and
// writer share would be seen by neither. It knows the order flow of the example
// services (placed, authorized or declined, reserved or rejected, shipped or failed,
// refunded, released, confirmed or cancelled), but no broker and no clock.
package check

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Types of the order flow's events.
const (
	Placed     = "com.example.order.placed.v1"
	Confirmed  = "com.example.order.confirmed.v1"
	Cancelled  = "com.example.order.cancelled.v1"
	Expired    = "com.example.order.expired.v1"
	Authorized = "com.example.payment.authorized.v1"
	Declined   = "com.example.payment.declined.v1"
	Refunded   = "com.example.payment.refunded.v1"
	Voided     = "com.example.payment.voided.v1"
	Reserved   = "com.example.stock.reserved.v1"
	Rejected   = "com.example.stock.rejected.v1"
	Released   = "com.example.stock.released.v1"
	Shipped    = "com.example.shipment.shipped.v1"
	ShipFailed = "com.example.shipment.failed.v1"
)

// Event is one event as it lies on a topic.
type Event struct {
	// Topic is without the environment's prefix.
	Topic     string
	Partition int32
	Offset    int64
	Key       string

	ID, Source, Type string
	Time             time.Time
	// Flow is the correlation id.
	Flow string
	// Causes are the ids of the events that caused this one; none of an event
	// that starts a flow.
	Causes []string
	// Service and Step said the event.
	Service, Step string
	// Ref is the customer of an order.placed, by which the demo knows its orders.
	Ref string
}

// Place is where the event lies, as topic/partition/offset.
func (e Event) Place() string { return fmt.Sprintf("%s/%d/%d", e.Topic, e.Partition, e.Offset) }

func (e Event) String() string {
	return fmt.Sprintf("%s %.16q at %s", strings.TrimPrefix(e.Type, "com.example."), e.ID, e.Place())
}

// Parse reads a record as an event. Only CloudEvents in binary mode, with all
// that the checks need, are events of the order flow; anything else is an
// error that lists what is wrong. The topic loses prefix.
func Parse(r *kgo.Record, prefix string) (Event, error) {
	e := Event{
		Topic: strings.TrimPrefix(r.Topic, prefix), Partition: r.Partition, Offset: r.Offset,
		Key: string(r.Key),
	}
	var said, specVersion, causation, causations string
	fields := map[string]*string{
		"ce_specversion": &specVersion, "ce_id": &e.ID, "ce_source": &e.Source, "ce_type": &e.Type, "ce_time": &said,
		"ce_correlationid": &e.Flow, "ce_causationid": &causation, "ce_causationids": &causations,
		"ce_choreoservice": &e.Service, "ce_choreostep": &e.Step,
	}
	for _, h := range r.Headers {
		if f, ok := fields[strings.ToLower(h.Key)]; ok {
			*f = string(h.Value)
		}
	}
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if specVersion != "1.0" {
		problem("ce_specversion is %.20q, not 1.0", specVersion)
	}
	for _, required := range []string{"ce_id", "ce_source", "ce_type", "ce_time", "ce_correlationid"} {
		if *fields[required] == "" {
			problem("%s is missing", required)
		}
	}
	if said != "" {
		t, err := time.Parse(time.RFC3339Nano, said)
		if err != nil {
			problem("ce_time %.40q is not RFC 3339", said)
		}
		e.Time = t
	}
	if r.Value == nil {
		problem("the value is null")
	}
	switch {
	case causations != "":
		for id := range strings.SplitSeq(causations, ",") {
			e.Causes = append(e.Causes, strings.NewReplacer("%2C", ",", "%25", "%").Replace(id))
		}
	case causation != "":
		e.Causes = []string{causation}
	}
	if e.Type == Placed && len(problems) == 0 {
		var order struct {
			Customer string `json:"customer"`
		}
		if err := json.Unmarshal(r.Value, &order); err != nil {
			problem("its data cannot be read: %v", err)
		}
		e.Ref = order.Customer
	}
	if len(problems) > 0 {
		return e, fmt.Errorf("the record at %s is no event: %w", e.Place(), errors.Join(problems...))
	}
	return e, nil
}
