package service

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo/choreotest"
	"github.com/choreography-go/choreography/services/order/domain"
)

func TestDeclarationIsValid(t *testing.T) {
	svc, _ := New(Patience)
	if err := svc.Validate(); err != nil {
		t.Error(err)
	}
}

func TestHandlerBeforeTheServiceRuns(t *testing.T) {
	_, h := New(Patience)
	wantProblem(t, post(h, order, "Idempotency-Key", "k1"), http.StatusServiceUnavailable)
	wantProblem(t, get(h, "/orders/x"), http.StatusServiceUnavailable)
}

// place places an order over HTTP and expects it to be said.
func place(t *testing.T, s *choreotest.Service, h http.Handler) (id string) {
	t.Helper()
	w := post(h, order, "Idempotency-Key", "k1")
	if w.Code != http.StatusAccepted {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	id = decodeAs[accepted](t, w.Body).ID
	said := s.ExpectTypes(id, placed.Type)
	if len(said) != 1 {
		t.FailNow()
	}
	if p, ok := said[0].Data.(domain.Placed); !ok || p.OrderID != id || p.AmountCents != 1999 || p.Address.Country != "DE" {
		t.Fatalf("said %+v", said[0])
	}
	return id
}

// history awaits the order's end, if it is to end, and returns its history.
func history(t *testing.T, h http.Handler, id string) (all []domain.Status) {
	t.Helper()
	w := get(h, "/orders/"+id, "Prefer", "wait=5")
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	for _, e := range decodeAs[representation](t, w.Body).History {
		all = append(all, e.Status)
	}
	return all
}

func TestOrderIsConfirmed(t *testing.T) {
	svc, h := New(Patience)
	s := choreotest.Start(t, svc)
	id := place(t, s, h)
	s.Publish(id, authorized.New(domain.PaymentAuthorized{AuthorizationID: "hold-1"}))
	shipment := s.Record(id, shipped.New(domain.Shipped{OrderID: id, ParcelID: "parcel-1"}))
	s.PublishRecord(shipment)
	s.Expect(id, confirmed.New(domain.Confirmed{OrderID: id, ParcelID: "parcel-1"}))
	s.PublishRecord(shipment)
	s.Publish(id, shipped.New(domain.Shipped{OrderID: id, ParcelID: "parcel-1"}))
	s.ExpectNothingMore(id)
	if got, want := history(t, h, id), []domain.Status{"placed", "authorized", "shipped", "confirmed"}; !slices.Equal(got, want) {
		t.Errorf("history %q, want %q", got, want)
	}
}

func TestOrderIsCancelled(t *testing.T) {
	svc, h := New(Patience)
	s := choreotest.Start(t, svc)
	id := place(t, s, h)
	s.Publish(id, declined.New(domain.PaymentDeclined{OrderID: id, Reason: "over limit"}))
	s.Expect(id, cancelled.New(domain.Cancelled{OrderID: id, Reason: "over limit"}))
	s.Publish(id, voided.New(domain.PaymentVoided{OrderID: id, Reason: "over limit"}))
	s.ExpectNothingMore(id)
}

// An order that takes too long has expired, once, and ends as others decide.
func TestOrderExpires(t *testing.T) {
	svc, h := New(200 * time.Millisecond)
	s := choreotest.Start(t, svc)
	id := place(t, s, h)
	s.Publish(id, authorized.New(domain.PaymentAuthorized{AuthorizationID: "hold-1"}))
	s.Expect(id, expired.New(domain.Expired{OrderID: id}))
	s.Publish(id, shipped.New(domain.Shipped{OrderID: id, ParcelID: "parcel-1"}))
	s.Expect(id, confirmed.New(domain.Confirmed{OrderID: id, ParcelID: "parcel-1"}))
	s.ExpectNothingMore(id)
	if got, want := history(t, h, id), []domain.Status{"placed", "authorized", "expired", "shipped", "confirmed"}; !slices.Equal(got, want) {
		t.Errorf("history %q, want %q", got, want)
	}
}

func TestOrderThatEndsDoesNotExpire(t *testing.T) {
	svc, h := New(Patience)
	s := choreotest.Start(t, svc)
	id := place(t, s, h)
	s.ExpectDeadline(id, "outcome-in-time", choreotest.DeadlinePending)
	s.Publish(id, declined.New(domain.PaymentDeclined{OrderID: id, Reason: "over limit"}))
	s.Expect(id, cancelled.New(domain.Cancelled{OrderID: id, Reason: "over limit"}))
	s.ExpectDeadline(id, "outcome-in-time", choreotest.DeadlineMet)
}

// The order of this end is the other way round: the refund is heard first.
func TestOrderIsCancelledByARefundHeardBeforeItsReason(t *testing.T) {
	svc, h := New(Patience)
	s := choreotest.Start(t, svc)
	id := place(t, s, h)
	s.Publish(id, refunded.New(domain.PaymentRefunded{OrderID: id, Reason: "not served"}))
	s.Expect(id, cancelled.New(domain.Cancelled{OrderID: id, Reason: "not served"}))
	s.Publish(id, shipmentFailed.New(domain.ShipmentFailed{Reason: "not served"}))
	s.ExpectNothingMore(id)
	if got, want := history(t, h, id), []domain.Status{"placed", "refunding", "refunded", "cancelled"}; !slices.Equal(got, want) {
		t.Errorf("history %q, want %q", got, want)
	}
}

// Whoever sends an order again, at once or later, has ordered once.
func TestOrderIsPlacedOnceUnderItsKey(t *testing.T) {
	svc, h := New(Patience)
	s := choreotest.Start(t, svc)
	id := svc.FlowOf("k1")
	other := strings.Replace(order, "1999", "2999", 1)
	answers := make([]*httptest.ResponseRecorder, 8)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() { answers[i] = post(h, []string{order, other}[i%2], "Idempotency-Key", "k1") })
	}
	wg.Wait()
	codes := map[int]int{}
	for _, w := range answers {
		codes[w.Code]++
	}
	s.ExpectTypes(id, placed.Type)
	s.ExpectNothingMore(id)
	if codes[http.StatusAccepted] != 4 || codes[http.StatusUnprocessableEntity] != 4 {
		t.Errorf("answers %v, want half of them 202 and half 422", codes)
	}
	wantProblem(t, get(h, "/orders/"+svc.FlowOf("k2")), http.StatusNotFound)
}
