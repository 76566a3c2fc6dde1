package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/services/order/domain"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// books is what the service knows of orders, without a service.
type books struct {
	mu      sync.Mutex
	orders  map[string]domain.Order
	placed  int           // how many orders were placed
	changed chan struct{} // closed and replaced when an order changes

	away    error // of every call
	unseen  bool  // what is placed does not show
	awaits  chan time.Time
	placing func(context.Context) // called by place before it places
}

func newBooks() *books {
	return &books{orders: map[string]domain.Order{}, changed: make(chan struct{}), awaits: make(chan time.Time, 100)}
}

func (b *books) idOf(key string) string { return "id-of-" + key }

func (b *books) place(ctx context.Context, key string, p domain.Placed) error {
	if b.placing != nil {
		b.placing(ctx)
	}
	if b.away != nil {
		return b.away
	}
	if !b.unseen {
		b.change(b.idOf(key), func(o *domain.Order) {
			if !o.IsPlaced() {
				b.placed++
			}
			o.Place(p)
		})
	}
	return nil
}

func (b *books) change(id string, f func(*domain.Order)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.orders[id]
	f(&o)
	b.orders[id] = o
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *books) Get(_ context.Context, id string) (domain.Order, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away != nil {
		return domain.Order{}, b.away
	}
	o, ok := b.orders[id]
	if !ok {
		return o, fmt.Errorf("%w: %q", choreo.ErrNoFlow, id)
	}
	return o, nil
}

func (b *books) Await(ctx context.Context, id string, enough func(domain.Order) bool) (domain.Order, error) {
	deadline, _ := ctx.Deadline()
	b.awaits <- deadline
	for {
		b.mu.Lock()
		o, changed := b.orders[id], b.changed
		b.mu.Unlock()
		if enough(o) {
			return o, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return o, context.Cause(ctx)
		}
	}
}

// handlerOf is the HTTP interface to the books, with short limits.
func handlerOf(b *books) http.Handler {
	return handler{b, b, 100 * time.Millisecond, 5 * time.Second, 100 * time.Millisecond}.routes()
}

const order = `{"customer":"ada","tier":"standard","sku":"lamp-1","quantity":2,"amountCents":1999,
	"address":{"name":"Ada L.","street":"Am Markt 1","postcode":"10115","city":"Berlin","country":"DE"}}`

func post(h http.Handler, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", "/orders", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return do(h, r, header...)
}

func get(h http.Handler, path string, header ...string) *httptest.ResponseRecorder {
	return do(h, httptest.NewRequest("GET", path, nil), header...)
}

// do sends a request with headers given as names and values in turn.
func do(h http.Handler, r *http.Request, header ...string) *httptest.ResponseRecorder {
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func decodeAs[T any](t *testing.T, r io.Reader) (v T) {
	t.Helper()
	if err := json.NewDecoder(r).Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// wantProblem checks that an answer is problem details of that status, and
// returns them.
func wantProblem(t *testing.T, w *httptest.ResponseRecorder, status int) problem {
	t.Helper()
	if w.Code != status || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Fatalf("%d %q: %s; want %d application/problem+json", w.Code, w.Header().Get("Content-Type"), w.Body, status)
	}
	p := decodeAs[problem](t, w.Body)
	if p.Status != status || p.Title == "" {
		t.Fatalf("problem %+v, want status %d and a title", p, status)
	}
	return p
}

func TestPostPlacesAnOrder(t *testing.T) {
	b := newBooks()
	w := post(handlerOf(b), order, "Idempotency-Key", "k1")
	got := decodeAs[accepted](t, w.Body)
	if w.Code != http.StatusAccepted || w.Header().Get("Location") != "/orders/id-of-k1" || got != (accepted{"id-of-k1", domain.StatusPlaced}) {
		t.Fatalf("%d %v %+v", w.Code, w.Header(), got)
	}
	o := b.orders["id-of-k1"]
	if b.placed != 1 || o.ID != "id-of-k1" || o.AmountCents != 1999 || o.Address.City != "Berlin" {
		t.Errorf("placed %d: %+v", b.placed, o)
	}
}

func TestPostWithoutKeyIsAlwaysANewOrder(t *testing.T) {
	b := newBooks()
	h := handlerOf(b)
	first, second := post(h, order), post(h, order)
	if first.Code != http.StatusAccepted || second.Code != http.StatusAccepted || b.placed != 2 ||
		first.Header().Get("Location") == second.Header().Get("Location") {
		t.Errorf("%d %v, %d %v, placed %d", first.Code, first.Header(), second.Code, second.Header(), b.placed)
	}
}

func TestPostAgainIsTheSameOrder(t *testing.T) {
	b := newBooks()
	h := handlerOf(b)
	first := post(h, order, "Idempotency-Key", "k1")
	again := post(h, strings.ReplaceAll(order, "\n", " "), "Idempotency-Key", "k1")
	if again.Code != first.Code || again.Body.String() != first.Body.String() || again.Header().Get("Location") != first.Header().Get("Location") || b.placed != 1 {
		t.Errorf("%d %s, then %d %s; placed %d", first.Code, first.Body, again.Code, again.Body, b.placed)
	}
	other := strings.Replace(order, "1999", "2999", 1)
	p := wantProblem(t, post(h, other, "Idempotency-Key", "k1"), http.StatusUnprocessableEntity)
	if !strings.HasSuffix(p.Type, "idempotency-key-reused") || b.placed != 1 {
		t.Errorf("%+v, placed %d", p, b.placed)
	}
}

// Two requests under one key that find nothing both publish; only one places
// its order, and the other's order must not be answered as accepted.
func TestPostOfTwoOrdersUnderOneKeyAtOnce(t *testing.T) {
	b := newBooks()
	var both sync.WaitGroup
	both.Add(2)
	b.placing = func(context.Context) { both.Done(); both.Wait() }
	h := handlerOf(b)
	codes := make(chan int, 2)
	for _, body := range []string{order, strings.Replace(order, "1999", "2999", 1)} {
		go func() { codes <- post(h, body, "Idempotency-Key", "k1").Code }()
	}
	if sum := <-codes + <-codes; sum != http.StatusAccepted+http.StatusUnprocessableEntity || b.placed != 1 {
		t.Errorf("codes add up to %d, placed %d; want one 202 and one 422", sum, b.placed)
	}
}

func TestPostAnswersWhatIsDurableButNotSeenYet(t *testing.T) {
	b := newBooks()
	b.unseen = true
	w := post(handlerOf(b), order, "Idempotency-Key", "k1")
	if got := decodeAs[accepted](t, w.Body); w.Code != http.StatusAccepted || got != (accepted{"id-of-k1", domain.StatusPlaced}) {
		t.Errorf("%d %+v", w.Code, got)
	}
}

// An event of another topic may be heard before the order's own.
func TestPostWhenTheOrderIsAheadOfItself(t *testing.T) {
	b := newBooks()
	b.change("id-of-k1", func(o *domain.Order) { o.Authorize(domain.PaymentAuthorized{}) })
	h := handlerOf(b)
	wantProblem(t, get(h, "/orders/id-of-k1"), http.StatusNotFound)
	w := post(h, order, "Idempotency-Key", "k1")
	if got := decodeAs[accepted](t, w.Body); w.Code != http.StatusAccepted || got.Status != domain.StatusAuthorized || b.placed != 1 {
		t.Errorf("%d %+v, placed %d", w.Code, got, b.placed)
	}
}

func TestPostRefusesWhatIsNoOrder(t *testing.T) {
	change := func(old, new string) string { return strings.Replace(order, old, new, 1) }
	cases := map[string]struct {
		body   string
		status int
		says   string // in the detail, or the pointers of the errors
	}{
		"empty":                  {"", 400, "must be a JSON object"},
		"no JSON":                {"hello", 400, "must be a JSON object"},
		"broken JSON":            {`{"customer":"ada",,}`, 400, "is not JSON"},
		"cut off":                {order[:50], 400, "ends too early"},
		"two orders":             {order + order, 400, "nothing after it"},
		"rubbish after it":       {order + " x", 400, "nothing after it"},
		"an array":               {"[" + order + "]", 400, "must be a JSON object"},
		"null":                   {"null", 400, "must be a JSON object"},
		"deep":                   {`{"customer":` + strings.Repeat("[", 20_000), 400, "is not JSON"},
		"amount as a string":     {change("1999", `"1999"`), 400, `field "amountCents" must be a whole number, not string`},
		"amount with a fraction": {change("1999", "19.99"), 400, `field "amountCents" must be a whole number, not number 19.99`},
		"amount beyond 64 bits":  {change("1999", strings.Repeat("9", 1000)), 400, `field "amountCents"`},
		"customer as a number":   {change(`"ada"`, "7"), 400, `field "customer" must be a string, not number`},
		"address as a string":    {`{"address":"Berlin"}`, 400, `field "address" must be an object, not string`},
		"unknown field":          {change("amountCents", "amount"), 400, `unknown field "amount"`},
		"not UTF-8":              {change("ada", "\xff\xfe"), 400, "UTF-8"},
		"nothing in it":          {"{}", 422, "#/customer #/tier #/sku #/quantity #/amountCents #/address/name #/address/street #/address/postcode #/address/city #/address/country"},
		"negative amount":        {change("1999", "-1999"), 422, "#/amountCents"},
		"amount of nothing":      {change("1999", "0"), 422, "#/amountCents"},
		"two mistakes":           {strings.Replace(change("1999", "-1999"), `"DE"`, `"Germany"`, 1), 422, "#/amountCents #/address/country"},
		"a forged log line":      {change("ada", `ada\nlevel=ERROR`), 422, "#/customer"},
		"too large":              {change("ada", strings.Repeat("a", maxBody)), 413, "65536 bytes"},
		"too large to look at":   {strings.Repeat(" ", maxBody+1) + order, 413, "65536 bytes"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			b := newBooks()
			p := wantProblem(t, post(handlerOf(b), c.body), c.status)
			said := p.Detail
			if c.status == 422 {
				var pointers []string
				for _, e := range p.Errors {
					pointers = append(pointers, e.Pointer)
				}
				if said = strings.Join(pointers, " "); said != c.says {
					t.Errorf("errors at %q, want %q", said, c.says)
				}
			}
			if !strings.Contains(said, c.says) || len(said) > 300 {
				t.Errorf("says %q, want %q", said, c.says)
			}
			if b.placed != 0 {
				t.Error("an order was placed")
			}
		})
	}
}

func TestPostWantsJSON(t *testing.T) {
	for contentType, want := range map[string]int{
		"application/json": 202, "application/json; charset=utf-8": 202, "Application/JSON": 202,
		"text/plain": 415, "application/x-www-form-urlencoded": 415, "": 415, "application/json; ;": 415,
	} {
		r := httptest.NewRequest("POST", "/orders", strings.NewReader(order))
		r.Header.Set("Content-Type", contentType)
		if w := do(handlerOf(newBooks()), r); w.Code != want {
			t.Errorf("Content-Type %q: %d, want %d", contentType, w.Code, want)
		}
	}
}

func TestPostRefusesKeysThatAreNone(t *testing.T) {
	for name, header := range map[string][]string{
		"empty":    {"Idempotency-Key", ""},
		"two":      {"Idempotency-Key", "a", "Idempotency-Key", "b"},
		"too long": {"Idempotency-Key", strings.Repeat("k", maxKey+1)},
		"not text": {"Idempotency-Key", "k\x01"},
		"no ASCII": {"Idempotency-Key", "schlüssel"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBooks()
			wantProblem(t, post(handlerOf(b), order, header...), http.StatusBadRequest)
			if b.placed != 0 {
				t.Error("an order was placed")
			}
		})
	}
}

// A body that does not come in time is answered, and its connection closed.
func TestPostOfASlowBody(t *testing.T) {
	b := newBooks()
	s := httptest.NewServer(handlerOf(b))
	defer s.Close()
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := fmt.Fprintf(c, "POST /orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(order), order[:20]); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(c) // until the server closes
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(answer), "HTTP/1.1 408 ") || !strings.Contains(string(answer), "application/problem+json") || b.placed != 0 {
		t.Errorf("%s", answer)
	}
}

// The time for one body is not the time for the next on the same connection,
// nor for the answer.
func TestPostTwiceOnOneConnection(t *testing.T) {
	b := newBooks()
	s := httptest.NewServer(handlerOf(b))
	defer s.Close()
	b.placing = func(ctx context.Context) { // takes longer than the body may
		select {
		case <-ctx.Done():
			t.Errorf("placing an order ended with the time for its body: %v", ctx.Err())
		case <-time.After(300 * time.Millisecond):
		}
	}
	for i := range 2 {
		r, err := s.Client().Post(s.URL+"/orders", "application/json", strings.NewReader(order))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
		if r.StatusCode != http.StatusAccepted {
			t.Errorf("request %d: %s", i, r.Status)
		}
	}
}

func TestPostWhileBrokersAreAway(t *testing.T) {
	b := newBooks()
	b.away = errors.New("no broker")
	w := post(handlerOf(b), order, "Idempotency-Key", "k1")
	p := wantProblem(t, w, http.StatusServiceUnavailable)
	if w.Header().Get("Retry-After") != "1" || p.IdempotencyKey != "k1" || strings.Contains(p.Detail, "no broker") {
		t.Errorf("%v %+v", w.Header(), p)
	}
	// Without a key a client would order twice by trying again; it is given one.
	p = wantProblem(t, post(handlerOf(b), order), http.StatusServiceUnavailable)
	if p.IdempotencyKey == "" {
		t.Fatal("no key to try again with")
	}
	b.away = nil
	if w := post(handlerOf(b), order, "Idempotency-Key", p.IdempotencyKey); w.Code != http.StatusAccepted {
		t.Errorf("again under the given key: %d %s", w.Code, w.Body)
	}
	b.away = errors.New("no broker")
	w = get(handlerOf(b), "/orders/id-of-k1")
	wantProblem(t, w, http.StatusServiceUnavailable)
	if w.Header().Get("Retry-After") != "1" {
		t.Errorf("%v", w.Header())
	}
}

func TestGetTellsStateAndHistory(t *testing.T) {
	b := newBooks()
	h := handlerOf(b)
	wantProblem(t, get(h, "/orders/id-of-k1"), http.StatusNotFound)
	post(h, order, "Idempotency-Key", "k1")
	b.change("id-of-k1", func(o *domain.Order) { o.Decline(domain.PaymentDeclined{Reason: "over limit"}) })
	w := get(h, "/orders/id-of-k1")
	got := decodeAs[map[string]any](t, w.Body)
	history, _ := json.Marshal(got["history"])
	if w.Code != http.StatusOK || w.Header().Get("Cache-Control") != "no-store" || got["id"] != "id-of-k1" || got["status"] != "cancelled" ||
		got["reason"] != "over limit" || got["customer"] != "ada" || got["amountCents"] != 1999.0 ||
		string(history) != `[{"status":"placed"},{"detail":"over limit","status":"declined"},{"detail":"over limit","status":"cancelled"}]` {
		t.Errorf("%d %v %v", w.Code, w.Header(), got)
	}
}

func TestPreferWaitAnswersWithTheEnd(t *testing.T) {
	b := newBooks()
	h := handlerOf(b)
	answer := make(chan *httptest.ResponseRecorder)
	go func() { answer <- post(h, order, "Idempotency-Key", "k1", "Prefer", "respond-async, wait=10") }()
	<-b.awaits // what was placed
	<-b.awaits // its end
	b.change("id-of-k1", func(o *domain.Order) { o.Ship(domain.Shipped{ParcelID: "parcel-1"}) })
	w := <-answer
	got := decodeAs[representation](t, w.Body)
	if w.Code != http.StatusOK || got.Status != domain.StatusConfirmed || got.ParcelID != "parcel-1" ||
		w.Header().Get("Preference-Applied") != "wait=10" || w.Header().Get("Location") != "/orders/id-of-k1" {
		t.Errorf("%d %v %+v", w.Code, w.Header(), got)
	}
	// Once it has ended nobody waits.
	for _, w := range []*httptest.ResponseRecorder{
		post(h, order, "Idempotency-Key", "k1", "Prefer", "wait=10"), get(h, "/orders/id-of-k1", "Prefer", "wait=10"),
	} {
		if w.Code != http.StatusOK || decodeAs[representation](t, w.Body).Status != domain.StatusConfirmed || len(b.awaits) != 0 {
			t.Errorf("%d %s, waits %d", w.Code, w.Body, len(b.awaits))
		}
	}
}

func TestPreferWaitInVain(t *testing.T) {
	b := newBooks()
	h := handlerOf(b)
	w := post(h, order, "Idempotency-Key", "k1", "Prefer", "wait=0")
	if w.Code != http.StatusAccepted || decodeAs[accepted](t, w.Body).Status != domain.StatusPlaced {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	w = get(h, "/orders/id-of-k1", "Prefer", "wait=0")
	if w.Code != http.StatusOK || decodeAs[representation](t, w.Body).Status != domain.StatusPlaced {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestPreferredWait(t *testing.T) {
	for prefer, want := range map[string]string{
		"wait=5": "5s", "WAIT=5": "5s", ` wait = "7" `: "7s", "respond-async, wait=5": "5s", "wait=5; x=y": "5s", "wait=5, wait=9": "5s",
		"wait=3600": "30s", "wait=0": "0s",
		"": "no", "wait": "no", "wait=": "no", "wait=-1": "no", "wait=1.5": "no", "wait=soon": "no", "wait=99999999999999999999": "no", "respond-async": "no",
	} {
		got := "no"
		if d, ok := preferredWait([]string{prefer}); ok {
			got = d.String()
		}
		if got != want {
			t.Errorf("%q: %s, want %s", prefer, got, want)
		}
	}
	if d, ok := preferredWait([]string{"respond-async", "wait=5"}); !ok || d != 5*time.Second {
		t.Errorf("in the second of two headers: %v, %v", d, ok)
	}
}

func TestOtherRequests(t *testing.T) {
	h := handlerOf(newBooks())
	for request, want := range map[string]struct {
		status int
		allow  string
	}{
		"GET /": {404, ""}, "GET /order": {404, ""}, "GET /orders/a/b": {404, ""},
		"GET /orders": {405, "POST"}, "DELETE /orders": {405, "POST"},
		"DELETE /orders/a": {405, "GET, HEAD"}, "POST /orders/a": {405, "GET, HEAD"},
	} {
		method, path, _ := strings.Cut(request, " ")
		w := do(h, httptest.NewRequest(method, path, nil))
		wantProblem(t, w, want.status)
		if w.Header().Get("Allow") != want.allow {
			t.Errorf("%s: Allow %q, want %q", request, w.Header().Get("Allow"), want.allow)
		}
	}
}
