package choreo

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestAdminServer(t *testing.T) {
	reg := prometheus.NewRegistry()
	p := samplePlan(t)
	m := newMetrics(reg, p)
	ready := &fixedStatus{live: true}
	waiting := &fixedStatus{live: true, reasons: []string{"task 3 is restoring: 5 journal records so far", "no broker has answered for 12s: \"x\"\n<b>"}}
	dead := &fixedStatus{}
	away := &fixedStatus{live: true, doors: []doorStatus{{"archive", "", 1, 0}, {"pay", "open", 0, 17}}}
	for _, c := range []struct {
		name, method, path string
		source             *fixedStatus
		code               int
		body               string // all of it, or what it contains
	}{
		{"live", "GET", "/livez", ready, 200, `{"live":true}`},
		{"live, but not ready", "GET", "/livez", waiting, 200, `{"live":true}`},
		{"not live", "GET", "/livez", dead, 503, `{"live":false}`},
		{"ready", "GET", "/readyz", ready, 200, `{"ready":true}`},
		{"not ready", "GET", "/readyz", waiting, 503, `{"ready":false,"reasons":["task 3 is restoring: 5 journal records so far","no broker has answered for 12s: \"x\"\n\u003cb\u003e"]}`},
		{"ready, though a provider is away", "GET", "/readyz", away, 200,
			`{"ready":true,"steps":[{"step":"archive","concurrent":1,"waiting":0},{"step":"pay","breaker":"open","concurrent":0,"waiting":17}]}`},
		{"not live, so not ready", "GET", "/readyz", dead, 503, `{"ready":false}`},
		{"HEAD", "HEAD", "/readyz", ready, 200, ""},
		{"metrics", "GET", "/metrics", ready, 200, "# TYPE choreo_runs_total counter"},
		{"contract", "GET", "/contract", ready, 200, `"service": "sample"`},
		{"another method", "POST", "/livez", ready, 405, ""},
		{"another method on metrics", "DELETE", "/metrics", ready, 405, ""},
		{"profiles are not served", "GET", "/debug/pprof/", ready, 404, ""},
		{"nothing else", "GET", "/", ready, 404, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			m.watch(c.source)
			h, err := adminHandler(c.source, reg, p.contract(), slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
			if w.Code != c.code || !strings.Contains(w.Body.String(), c.body) {
				t.Errorf("%d %s, want %d %s", w.Code, w.Body, c.code, c.body)
			}
			if strings.HasPrefix(c.body, "{") {
				if strings.TrimSpace(w.Body.String()) != c.body || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Cache-Control") != "no-store" {
					t.Errorf("%s with %v, want exactly %s", w.Body, w.Header(), c.body)
				}
				var v map[string]any
				if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestARunningServiceServesItsAdminAddress(t *testing.T) {
	cfg, _ := sampleBroker(t)
	svc := sampleService()
	ctx := sampleContext(t)
	if err := svc.CreateTopics(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	addr := make(chan string, 1)
	cfg.AdminAddr = "127.0.0.1:0"
	cfg.Logger = slog.New(addrHandler{slog.DiscardHandler, addr})
	stop, end := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- svc.Run(stop, cfg) }()
	base := "http://" + <-addr
	client := &http.Client{}
	defer client.CloseIdleConnections()
	get := func(path string) (int, string) {
		res, err := client.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(b)
	}
	for {
		code, body := get("/readyz")
		if code == 200 {
			break
		}
		if code != 503 || !strings.Contains(body, `"reasons":[`) {
			t.Fatalf("%d %s", code, body)
		}
		if ctx.Err() != nil {
			t.Fatalf("not ready: %s", body)
		}
	}
	if code, _ := get("/livez"); code != 200 {
		t.Errorf("/livez: %d", code)
	}
	_, metrics := get("/metrics")
	for _, want := range []string{`choreo_tasks_owned{phase="open"} 3`, "choreo_ready 1", `choreo_kafka_connects_total{client="lane"`, `choreo_kafka_connects_total{client="data"`, "go_goroutines", "process_"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("%q is not among the metrics", want)
		}
	}
	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if r, err := client.Get(base + "/livez"); err == nil {
		_ = r.Body.Close()
		t.Error("the admin server answers after the service has stopped")
	}
}
