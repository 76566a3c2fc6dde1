package shop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/choreography-go/choreography/cmd/choreo/internal/check"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTheMixIsTheSameEveryTime(t *testing.T) {
	customers, count := map[string]bool{}, map[check.Outcome]int{}
	for n := range 200 {
		a, want := Numbered("run", n)
		b, again := Numbered("run", n)
		if a != b || want != again {
			t.Fatalf("order %d is %+v (%s) and %+v (%s)", n, a, want, b, again)
		}
		if other, _ := Numbered("other", n); other.Customer == a.Customer {
			t.Fatalf("order %d of two runs has one customer, %s", n, a.Customer)
		}
		if customers[a.Customer] || a.Customer != Ref("run", n) {
			t.Fatalf("order %d has the customer %s", n, a.Customer)
		}
		customers[a.Customer] = true
		count[want]++
	}
	if count[check.WasConfirmed] != 100 || count[check.WasDeclined] != 40 || count[check.WasRefunded] != 40 || count[check.WasShort] != 20 {
		t.Errorf("%v", count)
	}
}

// The mix must have both sides of every rule, or a service could break the rule
// unseen.
func TestTheMixHasBothSidesOfEveryRule(t *testing.T) {
	served := map[string]bool{"DE": true, "AT": true, "CH": true, "NL": true}
	sides := map[string]bool{}
	for n := range len(kinds) {
		o, want := Numbered("run", n)
		limit := map[string]int64{"standard": 50_000, "gold": 500_000}[o.Tier]
		payable := o.AmountCents <= limit
		shippable := served[o.Address.Country] && o.Address.Postcode != "27498" && o.Address.Postcode != "6691"
		left, scarce := map[string]int{"lamp-0": 0, "vase-3": 3}[o.SKU]
		there := !scarce || o.Quantity <= left
		if !payable && !there {
			t.Errorf("order %d (%+v) may be declined or out of stock", n, o)
		}
		by := check.WasConfirmed
		switch {
		case !there:
			by = check.WasShort
		case !payable:
			by = check.WasDeclined
		case !shippable:
			by = check.WasRefunded
		}
		if by != want {
			t.Errorf("order %d (%+v) should be %s by the rules, the mix says %s", n, o, by, want)
		}
		sides[fmt.Sprint(o.Tier, " limit ", o.AmountCents-limit)] = true
		sides[fmt.Sprint("payable ", payable, ", shippable ", shippable)] = true
		if scarce {
			sides[fmt.Sprint(o.SKU, " left ", left-o.Quantity)] = true
		}
		sides["to "+o.Address.Country+o.Address.Postcode] = true
	}
	for _, side := range []string{
		"standard limit 0", "standard limit 1", "gold limit 0", "gold limit 1",
		"payable true, shippable true", "payable true, shippable false", "payable false, shippable true", "payable false, shippable false",
		"vase-3 left 0", "vase-3 left -1", "lamp-0 left -1",
		"to DE27498", "to AT6691", "to AT1010", "to IS101", "to NL1012 LG", "to CH8001",
	} {
		if !sides[side] {
			t.Errorf("no order is on the side %q", side)
		}
	}
}

// What is late would be shipped anywhere else: nothing but its expiry can end it.
func TestLateOrders(t *testing.T) {
	late := 0
	for n := range 200 {
		ordinary, by := Numbered("run", n)
		o, want := WithLate("run", n)
		if n%10 != 0 {
			if o != ordinary || want != by {
				t.Errorf("order %d is %+v (%s), want %+v (%s)", n, o, want, ordinary, by)
			}
			continue
		}
		late++
		if o.Address.Country != "DE" || o.Address.Postcode != "25859" || o.Address.Name != o.Customer || want != check.WasRefunded {
			t.Errorf("order %d is %+v (%s)", n, o, want)
		}
		if o.Address = ordinary.Address; o != ordinary || by != check.WasConfirmed {
			t.Errorf("order %d is late, and %s anyway: %+v", n, by, o)
		}
	}
	if late != 20 {
		t.Errorf("%d orders are late", late)
	}
}

// service answers the attempts at an order in turn.
type service struct {
	mu      sync.Mutex
	answers []func(http.ResponseWriter)
	keys    []string
	bodies  []Order
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var o Order
	if err := json.NewDecoder(r.Body).Decode(&o); err != nil || r.Method != http.MethodPost || r.URL.Path != "/orders" || r.Header.Get("Content-Type") != "application/json" {
		http.Error(w, "bad request", http.StatusTeapot)
		return
	}
	s.keys, s.bodies = append(s.keys, r.Header.Get("Idempotency-Key")), append(s.bodies, o)
	s.answers[min(len(s.keys), len(s.answers))-1](w)
}

func status(code int, body string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.WriteHeader(code)
		_, _ = fmt.Fprint(w, body)
	}
}

// broken closes the connection in place of an answer.
func broken(w http.ResponseWriter) {
	c, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_ = c.Close()
	}
}

func TestPlace(t *testing.T) {
	good := status(202, `{"id":"f1","status":"placed"}`)
	cases := []struct {
		name     string
		answers  []func(http.ResponseWriter)
		attempts int
		refused  int // status; 0: it is placed
	}{
		{"accepted", []func(http.ResponseWriter){good}, 1, 0},
		{"placed before", []func(http.ResponseWriter){status(200, `{"id":"f1"}`)}, 1, 0},
		{"the connection breaks", []func(http.ResponseWriter){broken, good}, 2, 0},
		{"not at the moment", []func(http.ResponseWriter){status(503, ""), status(500, "x"), status(429, ""), status(408, ""), good}, 5, 0},
		{"refused", []func(http.ResponseWriter){status(422, "wrong")}, 1, 422},
		{"no id", []func(http.ResponseWriter){status(202, `{}`)}, 1, 202},
		{"no JSON", []func(http.ResponseWriter){status(202, `hello`)}, 1, 202},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := &service{answers: c.answers}
			server := httptest.NewServer(h)
			defer server.Close()
			s := New(server.URL+"/", 2)
			defer s.Close()
			order, _ := Numbered("run", 3)
			flow, attempts, err := s.Place(t.Context(), "k1", order)
			if attempts != c.attempts || len(h.keys) != c.attempts {
				t.Errorf("%d attempts, %d arrived, want %d", attempts, len(h.keys), c.attempts)
			}
			for i, k := range h.keys {
				if k != "k1" || h.bodies[i] != order {
					t.Errorf("attempt %d: key %q, order %+v", i, k, h.bodies[i])
				}
			}
			if c.refused == 0 {
				if err != nil || flow != "f1" {
					t.Errorf("%q, %v", flow, err)
				}
				return
			}
			if r, ok := errors.AsType[*RefusedError](err); !ok || r.Status != c.refused || !strings.Contains(err.Error(), "k1") {
				t.Errorf("%v, want a refusal with %d", err, c.refused)
			}
		})
	}
}

func TestPlaceEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("enough")
	server := httptest.NewServer(&service{answers: []func(http.ResponseWriter){status(503, "busy"), func(w http.ResponseWriter) {
		cancel(stop)
		w.WriteHeader(http.StatusServiceUnavailable)
	}}})
	defer server.Close()
	s := New(server.URL, 1)
	defer s.Close()
	order, _ := Numbered("run", 0)
	if _, attempts, err := s.Place(ctx, "k1", order); !errors.Is(err, stop) || attempts != 2 {
		t.Errorf("%d attempts, %v", attempts, err)
	}
}
