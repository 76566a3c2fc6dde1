package cloudevent_test

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"

	"github.com/choreography-go/choreography/choreo/cloudevent"
)

// formOf is the form of what a service says of one kind of event.
func formOf(e cloudevent.Event) cloudevent.Event {
	return cloudevent.Event{
		Source: e.Source, Type: e.Type, DataContentType: e.DataContentType, Service: e.Service, Step: e.Step, Kind: e.Kind, Outcome: e.Outcome,
	}
}

// Written by its form or without one, an event is the same.
func TestAnEventOfAFormReadsAsWithoutIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		event := events().Draw(t, "event")
		want, err := event.Record("t")
		if err != nil {
			t.Skip("no event")
		}
		form, err := cloudevent.NewForm(formOf(event))
		if err != nil {
			t.Fatal(err)
		}
		var space *cloudevent.Space
		if rapid.Bool().Draw(t, "space") {
			space = new(cloudevent.Space)
		}
		got := &kgo.Record{Topic: "t", Key: []byte("another"), Headers: headers("old", "header")}
		if err := form.Fill(got, &event, space); err != nil {
			t.Fatal(err)
		}
		if string(got.Key) != string(want.Key) || (got.Key == nil) != (want.Key == nil) || len(got.Headers) != len(want.Headers) {
			t.Fatalf("key %q and %d headers, want %q and %d", got.Key, len(got.Headers), want.Key, len(want.Headers))
		}
		a, err := cloudevent.Read(got)
		if err != nil {
			t.Fatal(err)
		}
		b, err := cloudevent.Read(want)
		if err != nil {
			t.Fatal(err)
		}
		if diff := difference(a, b); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestAFormIsChecked(t *testing.T) {
	for name, common := range map[string]cloudevent.Event{
		"source":          {Source: "two words"},
		"type":            {Type: strings.Repeat("x", cloudevent.MaxTypeBytes+1)},
		"choreostep":      {Step: "a\nb"},
		"datacontenttype": {DataContentType: "application/cloudevents+json"},
	} {
		if _, err := cloudevent.NewForm(common); err == nil {
			t.Errorf("a form with a wrong %s", name)
		}
	}
}

// What the form leaves open is checked in each event, and what is missing in
// both is missing.
func TestAnEventOfAFormIsChecked(t *testing.T) {
	form, err := cloudevent.NewForm(cloudevent.Event{Source: "/order", Type: "t"})
	if err != nil {
		t.Fatal(err)
	}
	for name, event := range map[string]cloudevent.Event{
		"no id":              {},
		"a wrong flow":       {ID: "1", CorrelationID: "a\nb"},
		"a negative number":  {ID: "1", Hops: -1},
		"structured content": {ID: "1", DataContentType: "application/cloudevents+json"},
		"too much":           {ID: "1", Extensions: map[string]string{"a": strings.Repeat("x", 4096), "b": strings.Repeat("x", 4096), "c": strings.Repeat("x", 4096), "d": strings.Repeat("x", 4096)}},
	} {
		r := &kgo.Record{Topic: "t", Value: []byte("kept")}
		if err := form.Fill(r, &event, nil); err == nil {
			t.Errorf("%s: written", name)
		}
		if string(r.Value) != "kept" || r.Headers != nil {
			t.Errorf("%s: the record was changed", name)
		}
	}
	if err := form.Fill(&kgo.Record{}, &cloudevent.Event{ID: "1"}, nil); err != nil {
		t.Error(err)
	}
}

// An event with its space given costs nothing.
func TestAFormAllocatesNothing(t *testing.T) {
	event := usual()
	form, err := cloudevent.NewForm(formOf(event))
	if err != nil {
		t.Fatal(err)
	}
	var r kgo.Record
	var space cloudevent.Space
	if n := testing.AllocsPerRun(100, func() {
		if err := form.Fill(&r, &event, &space); err != nil {
			t.Error(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
