package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/choreography-go/choreography/choreo"
	"go.opentelemetry.io/otel"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// collector takes spans by OTLP over HTTP.
func collector(t *testing.T) (url string, spans <-chan string) {
	t.Helper()
	got := make(chan string, 10)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- r.URL.Path + " " + string(body)
	}))
	t.Cleanup(s.Close)
	return s.URL, got
}

func TestTracingSendsSpans(t *testing.T) {
	url, spans := collector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
	before := otel.GetTracerProvider()
	defer otel.SetTracerProvider(before)
	cfg := choreo.Config{InstanceID: "order-7", Logger: slog.New(slog.DiscardHandler)}
	stop, err := tracing("order")(t.Context(), &cfg)
	if err != nil || stop == nil || cfg.TracerProvider == nil {
		t.Fatal(err, cfg.TracerProvider)
	}
	_, span := cfg.TracerProvider.Tracer("test").Start(t.Context(), "a span of the test")
	span.End()
	if err := stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	got := <-spans
	for _, want := range []string{"/v1/traces ", "a span of the test", "order-7", "service.name"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in what was sent: %q", want, got)
		}
	}
}

func TestTracingThatIsNotWanted(t *testing.T) {
	for name, env := range map[string][2]string{
		"nothing set": {"OTEL_EXPORTER_OTLP_ENDPOINT", ""},
		"disabled":    {"OTEL_SDK_DISABLED", "true"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "disabled" {
				t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
			}
			t.Setenv(env[0], env[1])
			var cfg choreo.Config
			if stop, err := tracing("order")(t.Context(), &cfg); err != nil || stop != nil || cfg.TracerProvider != nil {
				t.Error(err, cfg.TracerProvider)
			}
		})
	}
}

func TestTracingToNoURL(t *testing.T) {
	for _, value := range []string{"collector:4318", "://", "ftp://collector", "http://"} {
		t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", value)
		if _, err := tracing("order")(t.Context(), &choreo.Config{}); err == nil || !strings.Contains(err.Error(), "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") {
			t.Errorf("%q: %v", value, err)
		}
	}
}
