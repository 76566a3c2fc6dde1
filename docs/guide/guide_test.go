// Package guide is the code of docs/writing-a-service.md, and tests of it.
package guide

import (
	"context"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPaymentIsRefundedWhenTheShipmentFailed(t *testing.T) {
	p := &payments{}
	s := choreotest.Start(t, newPayment(p))
	s.Publish("o1", orderPlaced.New(OrderPlaced{"o1", 1999}))
	s.Expect("o1", authorized.New(Held{"o1", "hold-1"}))
	s.Publish("o1", shipmentFailed.New(ShipmentFailed{"o1", "not served"}))
	s.Expect("o1", refunded.New(Refund{"o1", "not served"}))
	s.ExpectNothingMore("o1")
	if got := p.held(); got != 0 {
		t.Errorf("%d cents are held", got)
	}
}

func TestPaymentOfBothVersions(t *testing.T) {
	p := &payments{}
	s := choreotest.Start(t, newPayment(p))
	s.Publish("o1", orderPlacedV1.New(OrderPlacedV1{"o1", 5}))
	s.Expect("o1", authorized.New(Held{"o1", "hold-1"}))
	s.Publish("o2", orderPlaced.New(OrderPlaced{"o2", 60_000}))
	s.Expect("o2", declined.New(NotHeld{"o2", "over the limit of 50000 cents"}))
	if got := p.held(); got != 500 {
		t.Errorf("%d cents are held", got)
	}
}

func TestPaymentThatIsCancelledNeverRuns(t *testing.T) {
	p := &payments{}
	s := choreotest.Start(t, newPayment(p))
	s.Publish("o1", shipmentFailed.New(ShipmentFailed{"o1", "not served"}))
	s.Expect("o1", voided.New(NotHeld{"o1", "not served"}))
	s.Publish("o1", orderPlaced.New(OrderPlaced{"o1", 1999}))
	s.ExpectNothingMore("o1")
	if got := p.held(); got != 0 {
		t.Errorf("%d cents are held", got)
	}
}

// The provider holds the money, and its answer is lost each time.
func TestPaymentThatIsGivenUpIsFoundOut(t *testing.T) {
	p := &payments{away: errors.New("connection reset")}
	s := choreotest.Start(t, newPayment(p))
	s.Publish("o1", orderPlaced.New(OrderPlaced{"o1", 1999}))
	s.Expect("o1",
		unavailable.New(NotHeld{"o1", "provider unavailable"}),
		voided.New(NotHeld{"o1", "provider unavailable"}))
	s.ExpectNothingMore("o1")
	if got := p.held(); got != 0 {
		t.Errorf("%d cents are held", got)
	}
}

func TestInvoicing(t *testing.T) {
	s := choreotest.Start(t, newInvoicing(func(_ context.Context, h Held) (Invoice, error) { return Invoice{"i-" + h.OrderID}, nil }))
	s.Publish("o1", authorized.New(Held{"o1", "hold-1"}))
	s.Expect("o1", invoiced.New(Invoice{"i-o1"}))
}

// A reaction's function is tested without a broker.
func TestRaise(t *testing.T) {
	got, err := raise(t.Context(), NotHeld{"o1", "too late"})
	if want := choreo.Emit(alarm.New(Alarm{"payment: too late"})); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestOrderIsPlacedOverHTTP(t *testing.T) {
	addr := make(chan string, 1)
	svc := newOrder("127.0.0.1:0", func(a string) { addr <- a })
	s := choreotest.Start(t, svc)
	defer http.DefaultClient.CloseIdleConnections()
	url := "http://" + <-addr
	post := func() string {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(`{"orderId":"o1","cents":1999}`))
		if err != nil {
			return err.Error()
		}
		r.Header.Set("Idempotency-Key", "k1")
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return err.Error()
		}
		defer answer.Body.Close()
		body, _ := io.ReadAll(answer.Body)
		return string(body)
	}
	flow := svc.FlowOf("k1")
	first := make(chan string)
	go func() { first <- post() }()
	s.Expect(flow, orderPlaced.New(OrderPlaced{"o1", 1999}))
	s.Publish(flow, authorized.New(Held{"o1", "hold-1"}))
	s.Expect(flow, confirmed.New(Confirmed{"o1"}))
	if got := <-first; !strings.Contains(got, "confirmed") {
		t.Error(got)
	}
	if got := post(); !strings.Contains(got, "confirmed") {
		t.Error(got)
	}
	s.ExpectNothingMore(flow)
	if attempts.Load() == 0 {
		t.Error("the middleware saw nothing")
	}
}

func TestEventsFromOutsideAndOutsideReaders(t *testing.T) {
	s := choreotest.Start(t, newPayment(&payments{}))
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Brokers()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := publishFromOutside(t.Context(), cl, "o1", []byte(`{"orderId":"o1","cents":1999}`)); err != nil {
		t.Fatal(err)
	}
	s.Expect("o1", authorized.New(Held{"o1", "hold-1"}))

	reader, err := newReader(s.Brokers()...)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	ctx, cancel := context.WithTimeout(t.Context(), choreotest.Patience)
	defer cancel()
	records := reader.PollFetches(ctx).Records()
	if len(records) != 1 || string(records[0].Key) != "o1" {
		t.Errorf("read %v", records)
	}
}

// An event without a correlation id starts a flow that is named by its key, or
// else by its own id.
func TestEventsWithoutCorrelationID(t *testing.T) {
	s := choreotest.Start(t, newPayment(&payments{}))
	bare := func(id string, key []byte) *kgo.Record {
		rec := s.Record("x", orderPlaced.New(OrderPlaced{id, 1999}))
		rec.Key = key
		var kept []kgo.RecordHeader
		for _, h := range rec.Headers {
			if h.Key == "ce_id" {
				h.Value = []byte(id)
			}
			if h.Key != "ce_correlationid" {
				kept = append(kept, h)
			}
		}
		rec.Headers = kept
		return rec
	}
	s.PublishRecord(bare("event-1", []byte("key-1")))
	s.PublishRecord(bare("event-2", nil))
	s.Expect("key-1", authorized.New(Held{"event-1", "hold-1"}))
	s.Expect("event-2", authorized.New(Held{"event-2", "hold-1"}))
}
