package main

import (
	"context"
	"fmt"
	"net/url"
	"os"

	"github.com/choreography-go/choreography/choreo"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
)

// tracing sends spans to the collector that OTEL_EXPORTER_OTLP_ENDPOINT or
// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT names, by OTLP over HTTP, and none if
// neither is set. The other OTEL_ variables work as OpenTelemetry says.
func tracing(service string) choreo.Setup {
	return func(ctx context.Context, cfg *choreo.Config) (stop func(context.Context) error, err error) {
		wanted := false
		for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"} {
			value := os.Getenv(name)
			if u, err := url.Parse(value); value != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
				return nil, fmt.Errorf("%s is %q; it must be a URL such as http://collector:4318", name, value)
			}
			wanted = wanted || value != ""
		}
		if !wanted || os.Getenv("OTEL_SDK_DISABLED") == "true" {
			return nil, nil
		}
		exporter, err := otlptracehttp.New(ctx)
		if err != nil {
			return nil, fmt.Errorf("make the exporter of spans: %w", err)
		}
		about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
			attribute.String("service.name", service), attribute.String("service.instance.id", cfg.InstanceID)), resource.WithFromEnv())
		if err != nil {
			return nil, fmt.Errorf("describe the service for spans: %w", err)
		}
		provider := trace.NewTracerProvider(trace.WithBatcher(exporter), trace.WithResource(about))
		log := cfg.Logger
		otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("tracing", "error", err) }))
		otel.SetTracerProvider(provider)
		cfg.TracerProvider = provider
		return provider.Shutdown, nil
	}
}
