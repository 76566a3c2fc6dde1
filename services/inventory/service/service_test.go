package service

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/choreography-go/choreography/choreo/choreotest"
	"github.com/choreography-go/choreography/services/inventory/domain"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDeclarationIsValid(t *testing.T) {
	if err := New(&domain.Stock{}).Validate(); err != nil {
		t.Error(err)
	}
}

// shelves is a warehouse that remembers its keys, and whose first answers are lost.
type shelves struct {
	mu    sync.Mutex
	lost  int
	aside map[string]bool // by key; false: put back
	asked chan struct{}   // has a value once the warehouse was asked
}

func (s *shelves) SetAside(ctx context.Context, key, sku string, quantity int) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.aside[key]; !known {
		s.aside[key] = true
	}
	select {
	case s.asked <- struct{}{}:
	default:
	}
	if s.lost--; s.lost >= 0 {
		return "", errors.New("connection reset")
	}
	return domain.PaperWarehouse{}.SetAside(ctx, key, sku, quantity)
}

func (s *shelves) PutBack(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aside[key] = false
	return nil
}

// count is how many wishes it knows, and of how many the goods are set aside.
func (s *shelves) count() (known, aside int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, is := range s.aside {
		if is {
			aside++
		}
	}
	return len(s.aside), aside
}

func start(t *testing.T, lost int) (*choreotest.Service, *shelves) {
	t.Helper()
	w := &shelves{lost: lost, aside: map[string]bool{}, asked: make(chan struct{}, 1)}
	return choreotest.Start(t, New(&domain.Stock{Scarce: domain.DefaultScarce(), Warehouse: w})), w
}

func order(id, sku string, quantity int) domain.OrderPlaced {
	return domain.OrderPlaced{OrderID: id, SKU: sku, Quantity: quantity}
}

var snow = domain.ShipmentFailed{OrderID: "o1", Reason: "snow"}

func expectAside(t *testing.T, w *shelves, wantKnown, wantAside int) {
	t.Helper()
	if known, aside := w.count(); known != wantKnown || aside != wantAside {
		t.Errorf("the goods of %d of %d wishes are set aside, want %d of %d", aside, known, wantAside, wantKnown)
	}
}

func TestGoodsAreSetAsideOnceAndPutBack(t *testing.T) {
	s, w := start(t, 2)
	placed := s.Record("o1", orderPlaced.New(order("o1", "book", 2)))
	s.PublishRecord(placed)
	got := s.ExpectTypes("o1", reserved.Type)[0].Data.(domain.Reserved)
	if got.OrderID != "o1" || got.SKU != "book" || got.Quantity != 2 || got.ReservationID == "" {
		t.Errorf("said %+v", got)
	}
	s.PublishRecord(placed)
	s.ExpectNothingMore("o1")
	expectAside(t, w, 1, 1)
	s.Publish("o1", shipmentFailed.New(snow))
	s.Publish("o1", shipmentFailed.New(snow))
	s.Expect("o1", released.New(domain.Released{OrderID: "o1", Reason: "snow"}))
	s.ExpectNothingMore("o1")
	expectAside(t, w, 1, 0)
}

func TestWhatIsSoldOut(t *testing.T) {
	s, w := start(t, 0)
	s.Publish("o1", orderPlaced.New(order("o1", "vase-3", 4)))
	s.Expect("o1", rejected.New(domain.Rejected{OrderID: "o1", SKU: "vase-3", Reason: "of vase-3 there are 3, not 4"}))
	s.Publish("o1", shipmentFailed.New(snow)) // which says that of the rejection
	s.Expect("o1", released.New(domain.Released{OrderID: "o1", Reason: "snow"}))
	s.ExpectNothingMore("o1")
	expectAside(t, w, 0, 0)
}

// An order that has failed before it is heard of is never set aside.
func TestAnOrderThatHasFailedAlready(t *testing.T) {
	s, w := start(t, 0)
	s.Publish("o1", shipmentFailed.New(snow))
	s.Expect("o1", released.New(domain.Released{OrderID: "o1", Reason: "snow"}))
	s.Publish("o1", orderPlaced.New(order("o1", "book", 1)))
	s.ExpectNothingMore("o1")
	expectAside(t, w, 1, 0) // the warehouse was asked whether an attempt was lost
}

// A warehouse that does not answer may have set the goods aside: that is found out
// before it is said that nothing is.
func TestAFailureWhileTheWarehouseDoesNotAnswer(t *testing.T) {
	s, w := start(t, 1<<30)
	s.Publish("o1", orderPlaced.New(order("o1", "book", 1)))
	<-w.asked
	s.Publish("o1", shipmentFailed.New(snow))
	s.Expect("o1", released.New(domain.Released{OrderID: "o1", Reason: "snow"}))
	s.ExpectNothingMore("o1")
	expectAside(t, w, 1, 0)
}
