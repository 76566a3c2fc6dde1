package choreo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/choreography-go/choreography/choreo/contract"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// startAdmin serves probes, metrics and the contract, if there is an address to
// serve them on, and makes the metrics watch the engine.
func (e *engine) startAdmin() (stop func(context.Context) error, err error) {
	e.metrics.watch(e)
	if e.cfg.AdminAddr == "" {
		return func(context.Context) error { e.metrics.watch(nil); return nil }, nil
	}
	l, err := e.cfg.Listen("tcp", e.cfg.AdminAddr)
	if err != nil {
		return nil, fmt.Errorf("listen on ADMIN_ADDR %q: %w; give it a free address, or off", e.cfg.AdminAddr, err)
	}
	h, err := adminHandler(e, e.cfg.Registerer, e.plan.contract(), e.log)
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	s := serve(context.Background(), l, h, e.log, &http.Server{
		ReadTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: httpHeaderBytes,
	})
	e.log.Info("admin server listens", "addr", l.Addr().String())
	return func(ctx context.Context) error {
		// Probes and scrapes are short; a client that is not is no reason to wait.
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_ = servers{s}.stop(ctx)
		e.metrics.watch(nil)
		return nil
	}, nil
}

// adminHandler answers
//
//	/livez     200 while the process works, else 503
//	/readyz    200 if the service is ready, else 503, and why not
//	/metrics   the measurements, for Prometheus
//	/contract  what the service hears and says
func adminHandler(source statusSource, metrics prometheus.Gatherer, c contract.Contract, log *slog.Logger) (http.Handler, error) {
	contractJSON, err := encodeContract(c)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		s := source.status()
		answer(w, s.live, struct {
			Live bool `json:"live"`
		}{s.live})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		s := source.status()
		ready := s.live && len(s.reasons) == 0
		answer(w, ready, struct {
			Ready   bool         `json:"ready"`
			Reasons []string     `json:"reasons,omitempty"`
			Doors   []doorStatus `json:"steps,omitempty"`
		}{ready, s.reasons, s.doors})
	})
	mux.HandleFunc("GET /contract", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(contractJSON) // who asked is gone if it fails
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn), ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 8,
	}))
	return mux, nil
}

func answer(w http.ResponseWriter, ok bool, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(body) // who asked is gone if it fails
}

// encodeContract writes a contract as people like to read it too.
func encodeContract(c contract.Contract) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(c); err != nil {
		return nil, fmt.Errorf("encode the contract: %w", err)
	}
	return b.Bytes(), nil
}
