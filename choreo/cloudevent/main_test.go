package cloudevent_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/choreography-go/choreography/choreo/cloudevent"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// headers makes record headers of keys and values in turn.
func headers(pairs ...string) []kgo.RecordHeader {
	var out []kgo.RecordHeader
	for pair := range slices.Chunk(pairs, 2) {
		out = append(out, kgo.RecordHeader{Key: pair[0], Value: []byte(pair[1])})
	}
	return out
}

// binary makes a record of a valid event in binary mode with further headers.
func binary(value []byte, pairs ...string) *kgo.Record {
	return &kgo.Record{
		Value: value,
		Headers: append(headers("ce_specversion", "1.0", "ce_id", "1", "ce_source", "/order", "ce_type", "order.placed"),
			headers(pairs...)...),
	}
}

// structured makes a record in structured mode; each member is written behind those of a valid event.
func structured(members ...string) *kgo.Record {
	document := append([]string{`"specversion":"1.0","id":"1","source":"/order","type":"order.placed"`}, members...)
	return &kgo.Record{
		Value:   []byte("{" + strings.Join(document, ",") + "}"),
		Headers: headers("content-type", "application/cloudevents+json"),
	}
}

func read(t *testing.T, r *kgo.Record) cloudevent.Event {
	t.Helper()
	event, err := cloudevent.Read(r)
	if err != nil {
		t.Fatalf("Read: %v", err)
	}
	return event
}

// mistakes returns the attributes that an error complains about, or fails if it is no InvalidError.
func mistakes(t *testing.T, err error) []string {
	t.Helper()
	var invalid *cloudevent.InvalidError
	if !errors.As(err, &invalid) {
		t.Fatalf("error is %v, want an InvalidError", err)
	}
	var names []string
	for _, problem := range invalid.Problems {
		names = append(names, problem.Attribute)
	}
	return names
}
