package sdk_test

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/cloudevent/sdk"
)

func valid() event.Event {
	e := event.New()
	e.SetID("1")
	e.SetSource("/order")
	e.SetType("order.placed")
	return e
}

func TestExtensionsOfEveryTypeBecomeText(t *testing.T) {
	from := valid()
	for name, value := range map[string]any{
		"text": "a", "yes": true, "number": 7, "bytes": []byte{0xff}, "uri": types.URI{URL: url.URL{Scheme: "urn", Opaque: "a"}},
		"when": time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600)), "choreohops": 4, "correlationid": "flow", "causationids": "a,b%2Cc",
	} {
		from.SetExtension(name, value)
	}
	got, err := sdk.FromSDK(from)
	if err != nil {
		t.Fatal(err)
	}
	want := cloudevent.Event{ID: "1", Source: "/order", Type: "order.placed", Hops: 4, CorrelationID: "flow", CausationIDs: []string{"a", "b,c"},
		Extensions: map[string]string{"text": "a", "yes": "true", "number": "7", "bytes": "/w==", "uri": "urn:a", "when": "2026-01-02T02:04:05.000000006Z"}}
	if describe(got) != describe(want) {
		t.Errorf("got\n%s, want\n%s", describe(got), describe(want))
	}
}

func TestCountsBecomeIntegers(t *testing.T) {
	got, err := sdk.ToSDK(cloudevent.Event{ID: "1", Source: "/order", Type: "t", Attempt: 2, Hops: 3})
	if err != nil {
		t.Fatal(err)
	}
	if extensions := got.Extensions(); extensions["choreoattempt"] != int32(2) || extensions["choreohops"] != int32(3) || len(extensions) != 2 {
		t.Errorf("extensions are %#v", extensions)
	}
}

func TestFromSDKRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*event.Event)
		want   []string
	}{
		"no context":        {func(e *event.Event) { *e = event.Event{} }, []string{"event.New"}},
		"specversion 0.3":   {func(e *event.Event) { e.SetSpecVersion("0.3") }, []string{`"0.3"`, `SetSpecVersion("1.0")`}},
		"nothing set":       {func(e *event.Event) { *e = event.New() }, []string{"id", "source", "type"}},
		"a setter failed":   {func(e *event.Event) { e.SetSource("%") }, []string{`"source"`}},
		"long type":         {func(e *event.Event) { e.SetType(strings.Repeat("x", 256)) }, []string{"type has 256 bytes"}},
		"line break":        {func(e *event.Event) { e.SetExtension("correlationid", "a\nb") }, []string{"correlationid"}},
		"hops not a number": {func(e *event.Event) { e.SetExtension("choreohops", true) }, []string{"choreohops"}},
		"two mistakes": {func(e *event.Event) {
			e.SetExtension("choreohops", -1)
			e.SetSubject("a\x00")
		}, []string{"choreohops", "subject"}},
	} {
		from := valid()
		test.change(&from)
		got, err := sdk.FromSDK(from)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error does not say %s: %v", name, want, err)
			}
		}
		if describe(got) != describe(cloudevent.Event{}) {
			t.Errorf("%s: an event came with the error: %s", name, describe(got))
		}
	}
}

func TestToSDKRefusesWhatIsInvalid(t *testing.T) {
	_, err := sdk.ToSDK(cloudevent.Event{ID: "1"})
	var invalid *cloudevent.InvalidError
	if !errors.As(err, &invalid) || len(invalid.Problems) != 2 {
		t.Errorf("error is %v", err)
	}
}

func ExampleToSDK() {
	converted, err := sdk.ToSDK(cloudevent.Event{
		ID: "ord-1/placed", Source: "/order", Type: "order.placed", CorrelationID: "ord-1", Hops: 1,
		DataContentType: "application/json", Data: []byte(`{"total":1200}`),
	})
	fmt.Println(err)
	fmt.Print(converted)
	// Output:
	// <nil>
	// Context Attributes,
	//   specversion: 1.0
	//   type: order.placed
	//   source: /order
	//   id: ord-1/placed
	//   datacontenttype: application/json
	// Extensions,
	//   choreohops: 1
	//   correlationid: ord-1
	// Data,
	//   {
	//     "total": 1200
	//   }
}

func ExampleFromSDK() {
	from := event.New()
	from.SetID("ord-1/placed")
	from.SetSource("/order")
	from.SetType("order.placed")
	from.SetExtension("correlationid", "ord-1")
	if err := from.SetData("application/json", map[string]int{"total": 1200}); err != nil {
		fmt.Println(err)
		return
	}
	converted, err := sdk.FromSDK(from)
	fmt.Println(converted.Type, converted.CorrelationID, string(converted.Data), err)
	// Output: order.placed ord-1 {"total":1200} <nil>
}
