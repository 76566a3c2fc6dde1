package cloudevent_test

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/choreography-go/choreography/choreo/cloudevent"
)

// The scenarios that the CloudEvents conformance suite has for Kafka (github.com/cloudevents/conformance,
// features/kafka-protocol-binding.feature), each as a row.
func TestConformanceScenarios(t *testing.T) {
	const payload = `{"message": "Hello World!"}`
	const document = `{
		"specversion": "1.0",
		"type": "com.example.someevent",
		"time": "2018-04-05T03:56:24Z",
		"id": "1234-1234-1234",
		"source": "/mycontext/subcontext",
		"datacontenttype": "application/json",
		"data": ` + payload + `
	}`
	want := cloudevent.Event{
		ID: "1234-1234-1234", Type: "com.example.someevent", Source: "/mycontext/subcontext", DataContentType: "application/json",
		Time: time.Date(2018, 4, 5, 3, 56, 24, 0, time.UTC), Data: []byte(payload),
	}
	tests := []struct {
		scenario string
		value    string
		headers  []kgo.RecordHeader
		mode     cloudevent.Mode
	}{
		{"binary content mode", payload, headers("ce_specversion", "1.0", "ce_id", "1234-1234-1234", "ce_type", "com.example.someevent",
			"ce_source", "/mycontext/subcontext", "ce_time", "2018-04-05T03:56:24Z", "content-type", "application/json"), cloudevent.Binary},
		{"structured content mode", document, headers("content-type", "application/cloudevents+json"), cloudevent.Structured},
		{"structured content mode with charset", document, headers("content-type", "application/cloudevents+json; charset=utf-8"), cloudevent.Structured},
	}
	for _, test := range tests {
		t.Run(test.scenario, func(t *testing.T) {
			r := &kgo.Record{Value: []byte(test.value), Headers: test.headers}
			if view := cloudevent.ViewOf(r); view.Mode() != test.mode {
				t.Errorf("mode is %v, want %v", view.Mode(), test.mode)
			}
			event := read(t, r)
			if diff := difference(event, want); diff != "" {
				t.Error(diff)
			}
			// And back: what is written must satisfy the scenario again.
			write := event.Record
			if test.mode == cloudevent.Structured {
				write = event.Structured
			}
			again, err := write("t")
			if err != nil {
				t.Fatal(err)
			}
			if diff := difference(read(t, again), want); diff != "" {
				t.Errorf("written and read: %s", diff)
			}
		})
	}
}
