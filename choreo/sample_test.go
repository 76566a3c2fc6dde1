package choreo

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
)

// A sample service with one of each kind of declaration.
type (
	sampleOrder struct {
		ID     string    `json:"id"`
		Amount int64     `json:"amount"`
		At     time.Time `json:"at"`
	}
	sampleReceipt struct {
		ID   string  `json:"id"`
		Note *string `json:"note"`
	}
	sampleTotal struct{ Sum int64 }
)

func sampleService() *Service {
	placed := Event[sampleOrder]{Type: "test.placed.v1", Topic: "orders"}
	paid := Event[sampleReceipt]{Type: "test.paid.v1", Topic: "payments"}
	declined := Event[sampleReceipt]{Type: "test.declined.v1", Topic: "payments"}
	refunded := Event[sampleReceipt]{Type: "test.refunded.v1", Topic: "payments"}
	failed := Event[sampleReceipt]{Type: "test.ship.failed.v1", Topic: "shipments"}
	voided := Event[sampleReceipt]{Type: "test.voided.v1", Topic: "payments"}
	closed := Event[sampleReceipt]{Type: "test.closed.v1", Topic: "orders", Outcome: Succeeded}
	late := Event[sampleReceipt]{Type: "test.late.v1", Topic: "orders"}
	asked := Event[sampleReceipt]{Type: "test.asked.v1", Topic: "orders"}
	settled := Event[sampleReceipt]{Type: "test.settled.v1", Topic: "orders"}
	scan := Event[[]byte]{Type: "test.scan.v1", Topic: "scans", Codec: Bytes{Type: "image/png"}}
	receipt := func(o sampleOrder) sampleReceipt { return sampleReceipt{ID: o.ID} }
	return NewService("sample",
		Step[sampleOrder, sampleReceipt]{
			Name: "pay", On: placed, Emit: paid,
			Do:   func(context.Context, sampleOrder) (sampleReceipt, error) { return sampleReceipt{}, nil },
			Fail: Failures[sampleOrder]{FailWith(func(o sampleOrder, _ *Rejection) sampleReceipt { return receipt(o) }, declined)},
			Compensate: Undo(func(_ context.Context, _ sampleOrder, r sampleReceipt) (sampleReceipt, error) {
				return r, nil
			}, refunded, failed),
			Cancel:  []Cancellation{CancelOn(failed, func(r sampleReceipt) sampleReceipt { return r }, voided)},
			Breaker: Breaker{Failures: 3}, MaxConcurrent: 10,
		},
		&State[sampleTotal]{Name: "total", When: []Transition[sampleTotal]{
			Then(paid, func(*sampleTotal, sampleReceipt) (sampleReceipt, bool) { return sampleReceipt{}, false }, closed),
		}},
		Reaction[[]byte]{Name: "archive", On: scan, Do: func(context.Context, []byte) (Emissions, error) { return nil, nil }, MaxConcurrent: 2},
		Deadline[sampleReceipt, sampleReceipt]{
			Name: "in-time", After: asked, Within: Fixed[sampleReceipt](15 * time.Minute), Unless: Events{closed, declined}, Emit: late,
			Do: func(_ context.Context, r sampleReceipt) (sampleReceipt, error) { return r, nil },
		},
		Step[sampleReceipt, sampleReceipt]{
			Name: "close", On: Both(asked, AnyOf(paid, refunded), func(a, _ sampleReceipt) sampleReceipt { return a }), Emit: settled,
			Do: func(_ context.Context, r sampleReceipt) (sampleReceipt, error) { return r, nil },
		},
		Starts(asked),
		Topic{Name: "orders", Partitions: 4, Config: map[string]string{"retention.ms": "86400000"}},
		Topic{Name: "shipments", Inbox: true},
		Tasks(3),
	)
}

func samplePlan(t testing.TB) *plan {
	t.Helper()
	p := newPlan(sampleService())
	if err := p.err(); err != nil {
		t.Fatal(err)
	}
	return p
}

// sampleBroker is an in-memory broker, a configuration for it, and a client.
func sampleBroker(t *testing.T) (Config, *kadm.Client) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	cfg := Config{Brokers: cluster.ListenAddrs(), InstanceID: "test-0", TopicPrefix: "it.", Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}.withDefaults()
	cl, err := adminClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cfg, kadm.NewClient(cl)
}

func sampleContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func sprint(v any) string { return fmt.Sprintf("%+v %#v", v, v) }

// addrHandler passes on the first address that is logged.
type addrHandler struct {
	slog.Handler
	addr chan string
}

func (h addrHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h addrHandler) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h addrHandler) WithGroup(string) slog.Handler            { return h }
func (h addrHandler) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "addr" {
			select {
			case h.addr <- a.Value.String():
			default:
			}
		}
		return true
	})
	return nil
}
