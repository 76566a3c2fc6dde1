package check

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func record(headers map[string]string, value string) *kgo.Record {
	r := &kgo.Record{Topic: "run.orders", Partition: 2, Offset: 7, Key: []byte("f1"), Value: []byte(value)}
	for _, k := range []string{"ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_correlationid"} {
		v := map[string]string{
			"ce_specversion": "1.0", "ce_id": "e1", "ce_source": "/order", "ce_type": Placed,
			"ce_time": "2026-01-02T03:04:05.000000006Z", "ce_correlationid": "f1",
		}[k]
		if o, ok := headers[k]; ok {
			v = o
		}
		if v != "" {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: k, Value: []byte(v)})
		}
		delete(headers, k)
	}
	for k, v := range headers {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: k, Value: []byte(v)})
	}
	return r
}

func TestParse(t *testing.T) {
	got, err := Parse(record(map[string]string{"ce_choreoservice": "order", "ce_choreostep": "s", "ce_causationid": "c", "content-type": "application/json"}, `{"customer":"ada","x":1}`), "run.")
	want := Event{
		Topic: "orders", Partition: 2, Offset: 7, Key: "f1", ID: "e1", Source: "/order", Type: Placed,
		Time: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Flow: "f1", Causes: []string{"c"}, Service: "order", Step: "s", Ref: "ada",
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	got, err = Parse(record(map[string]string{"CE_causationids": "a,b%2Cc%25", "ce_causationid": "a", "ce_type": Shipped}, ""), "")
	if err != nil || !reflect.DeepEqual(got.Causes, []string{"a", "b,c%"}) || got.Topic != "run.orders" || got.Ref != "" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestParseRefuses(t *testing.T) {
	cases := map[string]struct {
		headers map[string]string
		value   string
		want    []string
	}{
		"nothing":          {map[string]string{"ce_id": "", "ce_source": "", "ce_type": "", "ce_time": "", "ce_correlationid": "", "ce_specversion": ""}, "", []string{"ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_correlationid"}},
		"another version":  {map[string]string{"ce_specversion": "0.3"}, "{}", []string{"0.3"}},
		"time":             {map[string]string{"ce_time": "noon"}, "{}", []string{"noon"}},
		"data":             {nil, `{"customer":1}`, []string{"data"}},
		"no correlationid": {map[string]string{"ce_correlationid": ""}, "{}", []string{"ce_correlationid"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if c.headers == nil {
				c.headers = map[string]string{}
			}
			_, err := Parse(record(c.headers, c.value), "")
			if err == nil {
				t.Fatal("was taken for an event")
			}
			for _, w := range append(c.want, "run.orders/2/7") {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not name %s", err, w)
				}
			}
		})
	}
	r := record(map[string]string{"ce_type": Shipped}, "")
	r.Value = nil
	if _, err := Parse(r, ""); err == nil {
		t.Error("a tombstone was taken for an event")
	}
}
