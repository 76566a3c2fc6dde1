package choreo

import (
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/trace"
)

// Config is how a service runs, as opposed to what it does. [Main] reads it
// from the environment; [Service.Run] takes it as it is. Zero fields take the
// defaults.
type Config struct {
	// Brokers are the seed brokers; KAFKA_BROKERS.
	Brokers []string
	// TopicPrefix is put before every topic, group and transactional id;
	// TOPIC_PREFIX.
	TopicPrefix string
	// InstanceID names this process among those of the service, and must be the
	// same after a restart; INSTANCE_ID. Default: the host name.
	InstanceID string
	// AdminAddr is where probes and metrics are served; ADMIN_ADDR. Empty: not
	// at all.
	AdminAddr string

	// Lanes is the number of transactions in flight; LANES, default 4.
	Lanes int
	// MaxInFlight bounds the records read and not yet committed;
	// MAX_IN_FLIGHT, default 20,000.
	MaxInFlight int
	// MaxInFlightBytes bounds their size; MAX_IN_FLIGHT_BYTES, default 64 MiB.
	MaxInFlightBytes int64
	// MaxHandlers bounds the handlers running at once; MAX_HANDLERS, default 1,024.
	MaxHandlers int
	// MaxEventBytes bounds an event's data; larger ones are dead letters.
	// MAX_EVENT_BYTES, default 1 MiB.
	MaxEventBytes int
	// MaxJournalBytes bounds the memory for flow state; at the limit reading
	// pauses and readiness says so. MAX_JOURNAL_BYTES, default 1 GiB.
	MaxJournalBytes int64
	// StopTimeout bounds a graceful stop; STOP_TIMEOUT, default 20 s.
	StopTimeout time.Duration
	// SessionTimeout is the consumer group's; SESSION_TIMEOUT, default 10 s.
	SessionTimeout time.Duration

	// ClientOptions are added to every Kafka client: TLS, SASL, a dialer.
	ClientOptions []kgo.Opt
	// Logger; default slog.Default().
	Logger *slog.Logger
	// Registerer takes the metrics; default a registry of the run's own, which
	// the admin address serves.
	Registerer *prometheus.Registry
	// TracerProvider makes the spans; default the global one.
	TracerProvider trace.TracerProvider
}
