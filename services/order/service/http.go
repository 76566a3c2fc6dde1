package service

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/services/order/domain"
	"github.com/google/uuid"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

const (
	// maxBody bounds the body of a request.
	maxBody = 64 << 10
	// bodyTimeout is how long a client may take to send its body.
	bodyTimeout = 5 * time.Second
	// placeTimeout is how long an order may take to be made durable.
	placeTimeout = 5 * time.Second
	// seenTimeout is how long an answer waits for what was really placed under
	// its key.
	seenTimeout = 2 * time.Second
	// maxWait bounds "Prefer: wait".
	maxWait = 30 * time.Second
	// maxKey bounds an idempotency key.
	maxKey = 255
)

// orders reads orders; *choreo.State is one.
type orders interface {
	Get(ctx context.Context, id string) (domain.Order, error)
	Await(ctx context.Context, id string, enough func(domain.Order) bool) (domain.Order, error)
}

// starter starts the flow of an order.
type starter interface {
	// idOf returns the id of the order that is placed under a key.
	idOf(key string) string
	// place says that the order was placed, once per key.
	place(ctx context.Context, key string, p domain.Placed) error
}

// handler is the HTTP interface:
//
//	POST /orders       places an order        202, or 200 with Prefer: wait
//	GET  /orders/{id}  tells what became of it 200
//
// Everything else is answered with problem details (RFC 9457).
type handler struct {
	orders  orders
	starter starter
	// the limits above, shorter in tests
	bodyTimeout, placeTimeout, seenTimeout time.Duration
}

func newHandler(o orders, s starter) http.Handler {
	return handler{o, s, bodyTimeout, placeTimeout, seenTimeout}.routes()
}

func (h handler) routes() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("POST /orders", h.post)
	m.HandleFunc("/orders", notAllowed("POST"))
	m.HandleFunc("GET /orders/{id}", h.get)
	m.HandleFunc("/orders/{id}", notAllowed("GET, HEAD"))
	m.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		write(w, problem{Status: http.StatusNotFound, Detail: "there is POST /orders and GET /orders/{id}"})
	})
	return traced(m)
}

func notAllowed(allow string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Allow", allow)
		write(w, problem{Status: http.StatusMethodNotAllowed, Detail: "allowed here: " + allow})
	}
}

// traced gives each request a span, which continues the client's trace if the
// request names one. What the request says continues the span.
func traced(next http.Handler) http.Handler {
	tracer := otel.Tracer("github.com/choreography-go/choreography/services/order")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := tracer.Start(ctx, r.Method, trace.WithSpanKind(trace.SpanKindServer))
		defer span.End()
		r = r.WithContext(ctx)
		next.ServeHTTP(w, r)
		if r.Pattern != "" {
			span.SetName(r.Pattern)
		}
	})
}

// accepted is the answer to an order that is on its way.
type accepted struct {
	ID     string        `json:"id"`
	Status domain.Status `json:"status"`
}

// representation is an order as the interface shows it.
type representation struct {
	ID     string        `json:"id"`
	Status domain.Status `json:"status"`
	domain.Details
	ParcelID string         `json:"parcelId,omitempty"`
	Reason   string         `json:"reason,omitempty"`
	History  []domain.Entry `json:"history"`
}

func represent(id string, o domain.Order) representation {
	return representation{id, o.Status(), o.Details, o.ParcelID, o.Reason, o.History}
}

// post places an order. The same key and the same order are the same order,
// whenever and wherever they are sent again.
func (h handler) post(w http.ResponseWriter, r *http.Request) {
	key, p := idempotencyKey(r)
	if p != nil {
		write(w, *p)
		return
	}
	details, p := h.readDetails(w, r)
	if p != nil {
		write(w, *p)
		return
	}
	given := key != ""
	if !given {
		key = uuid.NewString()
	}
	id := h.starter.idOf(key)
	if given {
		switch o, err := h.orders.Get(r.Context(), id); {
		case err == nil && o.IsPlaced():
			h.answer(w, r, id, details, o)
			return
		case err != nil && !errors.Is(err, choreo.ErrNoFlow):
			h.unavailable(w, r, key, "look for an order under this key", err)
			return
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.placeTimeout)
	err := h.starter.place(ctx, key, domain.Placed{OrderID: id, Details: details})
	cancel()
	if err != nil {
		h.unavailable(w, r, key, "place the order", err)
		return
	}
	// Of two requests with one key at the same time one has placed its order.
	// What was placed decides what both are told.
	ctx, cancel = context.WithTimeout(r.Context(), h.seenTimeout)
	o, err := h.orders.Await(ctx, id, func(o domain.Order) bool { return o.IsPlaced() })
	cancel()
	if err != nil || !o.IsPlaced() {
		// It is durable, only not seen yet.
		o = domain.Order{Details: details, History: []domain.Entry{{Status: domain.StatusPlaced}}}
	}
	h.answer(w, r, id, details, o)
}

// answer tells of the order placed under the request's key.
func (h handler) answer(w http.ResponseWriter, r *http.Request, id string, details domain.Details, o domain.Order) {
	if o.Details != details {
		write(w, problem{
			Type: "https://example.com/problems/idempotency-key-reused", Title: "Another order has this Idempotency-Key",
			Status: http.StatusUnprocessableEntity,
			Detail: "another order was placed under this key; send a new order under a new key",
		})
		return
	}
	w.Header().Set("Location", "/orders/"+id)
	if o, ok := h.wait(w, r, id, o); ok {
		writeJSON(w, http.StatusOK, represent(id, o))
		return
	}
	writeJSON(w, http.StatusAccepted, accepted{id, o.Status()})
}

// get tells what became of an order.
func (h handler) get(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	o, err := h.orders.Get(r.Context(), id)
	switch {
	case errors.Is(err, choreo.ErrNoFlow) || err == nil && !o.IsPlaced():
		write(w, problem{Status: http.StatusNotFound, Detail: "there is no such order, or it ended long ago"})
		return
	case err != nil:
		h.unavailable(w, r, "", "read the order", err)
		return
	}
	if ended, ok := h.wait(w, r, id, o); ok {
		o = ended
	}
	writeJSON(w, http.StatusOK, represent(id, o))
}

// wait waits for the order's end as long as the request prefers (RFC 7240). It
// reports false if the request does not prefer to wait or the end did not come
// in time.
func (h handler) wait(w http.ResponseWriter, r *http.Request, id string, o domain.Order) (domain.Order, bool) {
	d, ok := preferredWait(r.Header.Values("Prefer"))
	if !ok {
		return o, false
	}
	w.Header().Set("Preference-Applied", "wait="+strconv.Itoa(int(d/time.Second)))
	if o.Ended() {
		return o, true
	}
	// The answer may take longer than the server allows an answer to take.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(d + 10*time.Second))
	ctx, cancel := context.WithTimeout(r.Context(), d)
	defer cancel()
	o, err := h.orders.Await(ctx, id, func(o domain.Order) bool { return o.Ended() })
	return o, err == nil
}

// preferredWait returns the seconds of the first wait preference, at most
// maxWait.
func preferredWait(prefer []string) (time.Duration, bool) {
	for _, preference := range strings.Split(strings.Join(prefer, ","), ",") {
		preference, _, _ = strings.Cut(preference, ";")
		name, value, _ := strings.Cut(preference, "=")
		if !strings.EqualFold(strings.TrimSpace(name), "wait") {
			continue
		}
		n, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 31)
		if err != nil {
			return 0, false
		}
		return min(time.Duration(n)*time.Second, maxWait), true
	}
	return 0, false
}

// idempotencyKey returns the request's key, empty if it has none.
func idempotencyKey(r *http.Request) (string, *problem) {
	keys := r.Header.Values("Idempotency-Key")
	if len(keys) == 0 {
		return "", nil
	}
	key := keys[0]
	printable := !strings.ContainsFunc(key, func(c rune) bool { return c < ' ' || c > '~' })
	if len(keys) > 1 || key == "" || len(key) > maxKey || !printable {
		return "", &problem{
			Status: http.StatusBadRequest,
			Detail: "Idempotency-Key must be given once, with 1 to " + strconv.Itoa(maxKey) + " printable ASCII characters",
		}
	}
	return key, nil
}

// unavailable says that something did not work that will work again. A client
// that gave no key learns the one with which to repeat its order safely.
func (h handler) unavailable(w http.ResponseWriter, r *http.Request, key, doing string, err error) {
	if r.Context().Err() != nil {
		return // the client has gone
	}
	slog.ErrorContext(r.Context(), "cannot "+doing, "error", err)
	w.Header().Set("Retry-After", "1")
	p := problem{Status: http.StatusServiceUnavailable, Detail: "cannot " + doing + " at the moment; try again"}
	if key != "" {
		p.Detail += " under the same Idempotency-Key"
		p.IdempotencyKey = key
	}
	write(w, p)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", cmp.Or(w.Header().Get("Content-Type"), "application/json"))
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// An error here is a client that has gone; there is nobody left to tell.
	_ = json.NewEncoder(w).Encode(v)
}
