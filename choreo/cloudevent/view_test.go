package cloudevent_test

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/choreography-go/choreography/choreo/cloudevent"
)

// looks reads everything of a view that routing could want, and a map by type.
func looks(r *kgo.Record, routes map[string]int) int {
	view := cloudevent.ViewOf(r)
	if view.Mode() != cloudevent.Binary {
		return -1
	}
	n := routes[string(view.Type())] + view.Hops() + view.Attempt()
	for _, value := range [][]byte{view.ID(), view.Source(), view.SpecVersion(), view.CorrelationID(), view.CausationID(), view.Subject(),
		view.Time(), view.ContentType(), view.TraceParent(), view.PartitionKey(), view.Service(), view.Step(), view.Kind(), view.Outcome()} {
		n += len(value)
	}
	return n
}

func TestViewAllocatesNothing(t *testing.T) {
	written, err := full().Record("t")
	if err != nil {
		t.Fatal(err)
	}
	document, err := full().Structured("t")
	if err != nil {
		t.Fatal(err)
	}
	routes := map[string]int{"order.placed": 1}
	for name, r := range map[string]*kgo.Record{
		"as choreo writes it": written,
		"other letter case":   {Headers: headers("CE_Id", "1", "Ce_Type", "t", "Content-Type", "a", "CE_MY_EXT", "x", "X", "y", "CE_AveryLongExtensionName", "z")},
		"structured":          document,
		"no event":            {Headers: headers("a", "b", "content-type", "text/plain")},
		"broken":              {Headers: headers("ce_id", "", "ce_choreohops", "x")},
		"empty":               {},
	} {
		sum := 0
		if allocs := testing.AllocsPerRun(100, func() { sum += looks(r, routes) }); allocs != 0 {
			t.Errorf("%s: %v allocations, want none", name, allocs)
		}
	}
}

func TestViewShowsWhatReadReads(t *testing.T) {
	event := full()
	r, err := event.Record("t")
	if err != nil {
		t.Fatal(err)
	}
	view := cloudevent.ViewOf(r)
	for _, test := range []struct {
		name string
		got  []byte
		want string
	}{
		{"ContentType", view.ContentType(), event.DataContentType}, {"SpecVersion", view.SpecVersion(), "1.0"}, {"ID", view.ID(), event.ID},
		{"Source", view.Source(), event.Source}, {"Type", view.Type(), event.Type}, {"Subject", view.Subject(), event.Subject},
		{"Time", view.Time(), "2026-03-04T05:06:07.000000089Z"}, {"CorrelationID", view.CorrelationID(), event.CorrelationID},
		{"CausationID", view.CausationID(), event.CausationID}, {"TraceParent", view.TraceParent(), event.TraceParent},
		{"PartitionKey", view.PartitionKey(), event.PartitionKey}, {"Service", view.Service(), event.Service}, {"Step", view.Step(), event.Step},
		{"Kind", view.Kind(), string(event.Kind)}, {"Outcome", view.Outcome(), event.Outcome},
	} {
		if string(test.got) != test.want {
			t.Errorf("%s is %q, want %q", test.name, test.got, test.want)
		}
	}
	if view.Attempt() != event.Attempt || view.Hops() != event.Hops {
		t.Errorf("attempt %d, hops %d", view.Attempt(), view.Hops())
	}
}

func TestViewCountsOnlyNumbers(t *testing.T) {
	for value, want := range map[string]int{"": 0, "7": 7, "007": 7, "2147483647": 2147483647, "2147483648": 0, "-1": 0, "+1": 0, "1.5": 0, "99999999999999999999": 0,
		"18446744073709551617": 0, "9999999999": 0} {
		view := cloudevent.ViewOf(binary(nil, "ce_choreohops", value))
		if got := view.Hops(); got != want {
			t.Errorf("hops of %q are %d, want %d", value, got, want)
		}
	}
}

func TestViewShowsNoAttributesOfWhatIsNotBinary(t *testing.T) {
	document := structured()
	document.Headers = append(document.Headers, headers("ce_type", "other", "ce_correlationid", "other", "ce_choreohops", "7")...)
	for name, r := range map[string]*kgo.Record{"structured": document, "no event": {Headers: headers("ce_correlationid", "other", "ce_choreohops", "7")}} {
		view := cloudevent.ViewOf(r)
		if view.Type() != nil || view.CorrelationID() != nil || view.Hops() != 0 {
			t.Errorf("%s: view shows type %q, correlation id %q, %d hops", name, view.Type(), view.CorrelationID(), view.Hops())
		}
	}
}

func TestModeHasAName(t *testing.T) {
	got := fmt.Sprint(cloudevent.NotCloudEvent, cloudevent.Binary, cloudevent.Structured)
	if want := "no cloudevent binary structured"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
