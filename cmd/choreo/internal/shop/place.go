package shop

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"time"
)

// Shop places orders at one order service. It may be used by any number of
// goroutines.
type Shop struct {
	// Connections bounds the connections that are kept open.
	Connections int
	// Attempt bounds one attempt; zero: 15 s.
	Attempt time.Duration

	url    string
	client *http.Client
}

// New returns a Shop for the order service at url, such as
// http://127.0.0.1:8080. Close it.
func New(url string, connections int) *Shop {
	return &Shop{
		Connections: connections, url: strings.TrimRight(url, "/") + "/orders",
		client: &http.Client{Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
			MaxIdleConns:        connections,
			MaxIdleConnsPerHost: connections,
			IdleConnTimeout:     30 * time.Second,
		}},
	}
}

// Close closes the connections that are not in use.
func (s *Shop) Close() { s.client.CloseIdleConnections() }

// RefusedError is an answer that a repetition would not change.
type RefusedError struct {
	Status int
	Body   string
}

func (e *RefusedError) Error() string { return fmt.Sprintf("answered %d: %.300q", e.Status, e.Body) }

// Place places an order under an Idempotency-Key, repeating it under the same
// key while the service cannot be reached or cannot do it at the moment, until
// ctx ends. It returns the flow's id and the number of attempts. The error is a
// *[RefusedError] if the service refused the order.
func (s *Shop) Place(ctx context.Context, key string, o Order) (flow string, attempts int, err error) {
	body, err := json.Marshal(o)
	if err != nil {
		return "", 0, fmt.Errorf("place order %s: %w", key, err)
	}
	wait := 20 * time.Millisecond
	for {
		attempts++
		flow, err = s.attempt(ctx, key, body)
		if err == nil {
			return flow, attempts, nil
		}
		if _, refused := errors.AsType[*RefusedError](err); refused {
			return "", attempts, fmt.Errorf("place order %s: %w", key, err)
		}
		// Full jitter, so that the orders that waited do not come all at once.
		t := time.NewTimer(wait/2 + rand.N(wait))
		select {
		case <-ctx.Done():
			t.Stop()
			return "", attempts, fmt.Errorf("place order %s, %d attempts: %w (last: %w)", key, attempts, context.Cause(ctx), err)
		case <-t.C:
		}
		wait = min(2*wait, 500*time.Millisecond)
	}
}

func (s *Shop) attempt(ctx context.Context, key string, body []byte) (string, error) {
	limit := s.Attempt
	if limit == 0 {
		limit = 15 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return "", &RefusedError{0, err.Error()}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", key)
	resp, err := s.client.Do(req)
	if err != nil {
		return "", err
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	_ = resp.Body.Close() // read to its end, or useless
	if err != nil {
		return "", err
	}
	switch {
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusRequestTimeout:
		return "", fmt.Errorf("answered %d: %.300q", resp.StatusCode, answer)
	case resp.StatusCode >= 300:
		return "", &RefusedError{resp.StatusCode, string(answer)}
	}
	var accepted struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(answer, &accepted); err != nil || accepted.ID == "" {
		return "", &RefusedError{resp.StatusCode, "no id in " + string(answer)}
	}
	return accepted.ID, nil
}
