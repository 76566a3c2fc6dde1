package cloudevent_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/choreography-go/choreography/choreo/cloudevent"
)

func orderPlaced() cloudevent.Event {
	return cloudevent.Event{
		ID:              "ord-1/placed",
		Source:          "/order",
		Type:            "order.placed",
		Time:            time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		DataContentType: "application/json",
		CorrelationID:   "ord-1",
		PartitionKey:    "ord-1",
		Service:         "order",
		Data:            []byte(`{"total":1200}`),
	}
}

func ExampleEvent_Record() {
	r, err := orderPlaced().Record("orders")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("key %s, value %s\n", r.Key, r.Value)
	for _, h := range r.Headers {
		fmt.Printf("%s: %s\n", h.Key, h.Value)
	}
	// Output:
	// key ord-1, value {"total":1200}
	// ce_specversion: 1.0
	// ce_id: ord-1/placed
	// ce_source: /order
	// ce_type: order.placed
	// ce_time: 2026-01-02T03:04:05Z
	// content-type: application/json
	// ce_correlationid: ord-1
	// ce_partitionkey: ord-1
	// ce_choreoservice: order
}

func ExampleEvent_Structured() {
	event := orderPlaced()
	event.PartitionKey = ""
	r, err := event.Structured("orders")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s: %s\n%s\n", r.Headers[0].Key, r.Headers[0].Value, r.Value)
	// Output:
	// content-type: application/cloudevents+json; charset=UTF-8
	// {"specversion":"1.0","id":"ord-1/placed","source":"/order","type":"order.placed","time":"2026-01-02T03:04:05Z","datacontenttype":"application/json","correlationid":"ord-1","choreoservice":"order","data":{"total":1200}}
}

func ExampleRead() {
	r, err := orderPlaced().Record("orders")
	if err != nil {
		fmt.Println(err)
		return
	}
	event, err := cloudevent.Read(r)
	fmt.Println(event.Type, event.CorrelationID, string(event.Data), err)

	_, err = cloudevent.Read(&kgo.Record{Value: []byte("no event")})
	fmt.Println(errors.Is(err, cloudevent.ErrNotCloudEvent))

	_, err = cloudevent.Read(&kgo.Record{Headers: []kgo.RecordHeader{
		{Key: "ce_specversion", Value: []byte("0.3")},
		{Key: "ce_type", Value: []byte("order.placed\nlevel=ERROR forged")},
		{Key: "ce_source", Value: []byte("/order")},
	}})
	fmt.Println(err)
	// Output:
	// order.placed ord-1 {"total":1200} <nil>
	// true
	// invalid CloudEvent: specversion must be "1.0": "0.3"; id is required and missing; type has the control character U+000A at byte 12: "order.placed\nlevel=ERROR forged"
}

func ExampleViewOf() {
	r, err := orderPlaced().Record("orders")
	if err != nil {
		fmt.Println(err)
		return
	}
	handlers := map[string]string{"order.placed": "authorize"}

	view := cloudevent.ViewOf(r)
	step, heard := handlers[string(view.Type())] // allocates nothing
	fmt.Println(view.Mode(), step, heard, string(view.CorrelationID()))
	// Output: binary authorize true ord-1
}

func ExampleEvent_Validate() {
	err := cloudevent.Event{ID: "1", Source: "not a uri"}.Validate()
	var invalid *cloudevent.InvalidError
	if errors.As(err, &invalid) {
		for _, problem := range invalid.Problems {
			fmt.Println(problem.Attribute, "|", problem.Problem, "|", problem.Value)
		}
	}
	// Output:
	// source | is no URI-reference (RFC 3986) | "not a uri"
	// type | is required and missing |
}

func ExampleEvent_Attributes() {
	for name, value := range orderPlaced().Attributes() {
		fmt.Println(name, "=", value)
	}
	// Output:
	// specversion = 1.0
	// id = ord-1/placed
	// source = /order
	// type = order.placed
	// time = 2026-01-02T03:04:05Z
	// datacontenttype = application/json
	// correlationid = ord-1
	// partitionkey = ord-1
	// choreoservice = order
}
