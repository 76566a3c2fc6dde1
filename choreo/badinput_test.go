package choreo_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
)

// lines collects JSON log lines.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(strings.TrimSpace(l.b.String()), "\n")
}

func change(rec *kgo.Record, key string, value []byte) *kgo.Record {
	c := *rec
	c.Headers = nil
	for _, h := range rec.Headers {
		if h.Key == key {
			if value == nil {
				continue
			}
			h.Value = value
		}
		c.Headers = append(c.Headers, h)
	}
	return &c
}

// TestBadInput sends what nobody should send, each followed by a good event on
// the same partition, which must get through.
func TestBadInput(t *testing.T) {
	const forged = "ok\n{\"level\":\"INFO\",\"msg\":\"forged\"}"
	for _, c := range []struct {
		name    string
		make    func(*kgo.Record) *kgo.Record
		dead    string // reason of the dead letter; "": ignored
		ignored string // reason it is counted under, when ignored
	}{
		{"event without id", func(r *kgo.Record) *kgo.Record { return change(r, "ce_id", nil) }, "invalid_event", ""},
		{"event without source", func(r *kgo.Record) *kgo.Record { return change(r, "ce_source", nil) }, "invalid_event", ""},
		{"event without specversion", func(r *kgo.Record) *kgo.Record { return change(r, "ce_specversion", nil) }, "invalid_event", ""},
		{"event without type", func(r *kgo.Record) *kgo.Record { return change(r, "ce_type", nil) }, "", "not_heard"},
		{"wrong specversion", func(r *kgo.Record) *kgo.Record { return change(r, "ce_specversion", []byte("0.3")) }, "invalid_event", ""},
		{"broken JSON", func(r *kgo.Record) *kgo.Record { c := *r; c.Value = []byte(`{"ID":`); return &c }, "undecodable", ""},
		{"JSON of another shape", func(r *kgo.Record) *kgo.Record { c := *r; c.Value = []byte(`{"ID":7}`); return &c }, "undecodable", ""},
		{"null value", func(r *kgo.Record) *kgo.Record { c := *r; c.Value = nil; return &c }, "undecodable", ""},
		{"2 MB of data", func(r *kgo.Record) *kgo.Record {
			c := *r
			c.Value, _ = json.Marshal(job{"f", strings.Repeat("x", 2<<20)})
			return &c
		}, "too_big", ""},
		{"header not UTF-8", func(r *kgo.Record) *kgo.Record { return change(r, "ce_source", []byte{0xff, 0xfe}) }, "invalid_event", ""},
		{"undeclared type", func(r *kgo.Record) *kgo.Record { return change(r, "ce_type", []byte("test.nobody.hears.it")) }, "", "not_heard"},
		{"a type with line breaks", func(r *kgo.Record) *kgo.Record { return change(r, "ce_type", []byte(forged)) }, "", "not_heard"},
		{"correlation id of 10 kB", func(r *kgo.Record) *kgo.Record {
			return change(r, "ce_correlationid", bytes.Repeat([]byte("c"), 10_000))
		}, "invalid_event", ""},
		{"correlation id with line breaks", func(r *kgo.Record) *kgo.Record { return change(r, "ce_correlationid", []byte(forged)) }, "invalid_event", ""},
		{"no CloudEvent at all", func(r *kgo.Record) *kgo.Record {
			c := *r
			c.Headers = nil
			return &c
		}, "", "not_cloudevent"},
		{"broken structured event", func(r *kgo.Record) *kgo.Record {
			c := *r
			c.Headers = []kgo.RecordHeader{{Key: "content-type", Value: []byte("application/cloudevents+json")}}
			c.Value = []byte(`{"specversion":"1.0","type":`)
			return &c
		}, "", "invalid_event"},
		{"a cycle", func(r *kgo.Record) *kgo.Record {
			c := *r
			c.Headers = append(append([]kgo.RecordHeader(nil), r.Headers...), kgo.RecordHeader{Key: "ce_choreohops", Value: []byte("100")})
			return &c
		}, "too_many_hops", ""},
		{"hops that are no number", func(r *kgo.Record) *kgo.Record {
			c := *r
			c.Headers = append(append([]kgo.RecordHeader(nil), r.Headers...), kgo.RecordHeader{Key: "ce_choreohops", Value: []byte("-1e9")})
			return &c
		}, "invalid_event", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			log := &lines{}
			registry := prometheus.NewRegistry()
			w := &worker{}
			s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(1), w.step()), choreotest.With(func(cfg *choreo.Config) {
				cfg.Logger = slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
				cfg.Registerer = registry
			}))
			bad := c.make(s.Record("f", jobGiven.New(job{"f", "a"})))
			s.PublishRecord(bad)
			s.Publish("good", jobGiven.New(job{"good", "b"}))
			s.Expect("good", jobDone.New(work{"good", "b"}))
			if c.dead != "" {
				d := s.ExpectDeadLetter("f")
				if got := d.Header("choreo-dlq-reason"); got != c.dead {
					t.Errorf("dead letter because of %q, want %q: %s", got, c.dead, d.Header("choreo-dlq-error"))
				}
				if !bytes.Equal(d.Record.Value, bad.Value) {
					t.Errorf("the dead letter has %d bytes, not the original %d", len(d.Record.Value), len(bad.Value))
				}
				for _, h := range bad.Headers {
					if d.Header(h.Key) != string(h.Value) {
						t.Errorf("the dead letter's header %s is not the original", h.Key)
					}
				}
				if got := metric(t, registry, "choreo_dead_letters_total", c.dead); got != 1 {
					t.Errorf("%v dead letters are counted as %s, want 1", got, c.dead)
				}
				found := false
				for _, l := range log.all() {
					found = found || strings.Contains(l, `"dead letter"`) && strings.Contains(l, c.dead)
				}
				if !found {
					t.Error("no log line tells of the dead letter")
				}
			} else if got := metric(t, registry, "choreo_ignored_total", c.ignored); got != 1 {
				t.Errorf("%v records are counted as %s, want 1", got, c.ignored)
			}
			for _, l := range log.all() {
				var m map[string]any
				if err := json.Unmarshal([]byte(l), &m); err != nil || m["msg"] == "forged" {
					t.Errorf("a forged log line: %s", l)
				}
				if len(l) > 8192 {
					t.Errorf("a log line of %d bytes", len(l))
				}
			}
			noLabelHolds(t, registry, "forged", "cccccccc", "nobody.hears")
			s.ExpectNothingMore("good")
		})
	}
}

// metric sums the samples of a metric that have a label of that value.
func metric(t *testing.T, r *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			ok := label == ""
			for _, l := range m.GetLabel() {
				ok = ok || l.GetValue() == label
			}
			if ok {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func noLabelHolds(t *testing.T, r *prometheus.Registry, texts ...string) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				for _, text := range texts {
					if strings.Contains(l.GetValue(), text) {
						t.Errorf("label %s of %s holds input: %q", l.GetName(), f.GetName(), l.GetValue())
					}
				}
			}
		}
	}
}

func TestPanicsAndTimeoutsAreFailures(t *testing.T) {
	var mu sync.Mutex
	attempts := map[string]int{}
	s := choreotest.Start(t, choreo.NewService("worker", choreo.Tasks(1), choreo.Step[job, work]{
		Name: "work", On: jobGiven, Emit: jobDone, Retry: quickly, Timeout: 50 * time.Millisecond,
		Do: func(ctx context.Context, j job) (work, error) {
			mu.Lock()
			attempts[j.What]++
			n := attempts[j.What]
			mu.Unlock()
			if n < 3 {
				switch j.What {
				case "panics":
					panic("on purpose")
				case "hangs":
					<-ctx.Done()
					if !errors.Is(context.Cause(ctx), choreo.ErrTimeout) {
						t.Errorf("the context ended because of %v, want ErrTimeout", context.Cause(ctx))
					}
					return work{}, ctx.Err()
				}
			}
			if m := choreo.Meta(ctx); m.Attempt != n {
				t.Errorf("Meta says attempt %d, it is %d", m.Attempt, n)
			}
			return work{j.ID, j.What}, nil
		},
	}))
	s.Publish("p", jobGiven.New(job{"p", "panics"}))
	s.Publish("h", jobGiven.New(job{"h", "hangs"}))
	s.Expect("p", jobDone.New(work{"p", "panics"}))
	s.Expect("h", jobDone.New(work{"h", "hangs"}))
}
