package choreo

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"go.opentelemetry.io/otel/trace"
)

// Config is how a service runs, as opposed to what it does. [Main] and
// [LoadConfig] read it from the environment; [Service.Run] takes it as it is.
// Zero fields take the defaults.
type Config struct {
	// Brokers are the seed brokers, each host:port; KAFKA_BROKERS. Required.
	Brokers []string
	// TopicPrefix is put before every topic, group and transactional id;
	// TOPIC_PREFIX.
	TopicPrefix string
	// InstanceID names this process among those of the service, and must be the
	// same after a restart; INSTANCE_ID. Default: the host name. It is part of
	// group.instance.id and transactional ids: letters, digits, '.', '_' and
	// '-', at most 200.
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
	// MaxParkedPerFlow bounds the events of one flow that are parked: failing ones,
	// and those that queue behind them. At the bound further ones wait in memory,
	// and the task's reading pauses when those of an input are an eighth of MaxInFlight.
	// MAX_PARKED_PER_FLOW, default 1,000.
	MaxParkedPerFlow int
	// MaxParkedPerTask bounds those of one task; MAX_PARKED_PER_TASK, default 100,000.
	MaxParkedPerTask int
	// MaxHandlers bounds the handlers running at once; MAX_HANDLERS, default 1,024.
	MaxHandlers int
	// MaxEventBytes bounds an event's data; larger ones are dead letters.
	// MAX_EVENT_BYTES, default 900 KiB, which fits in a topic with Kafka's
	// default max.message.bytes.
	MaxEventBytes int
	// MaxJournalBytes bounds the memory for flow state; at the limit reading
	// pauses and readiness says so. MAX_JOURNAL_BYTES, default 1 GiB.
	MaxJournalBytes int64
	// StopTimeout bounds a graceful stop; STOP_TIMEOUT, default 20 s.
	StopTimeout time.Duration
	// SessionTimeout is the consumer group's; SESSION_TIMEOUT, default 10 s.
	SessionTimeout time.Duration
	// IdleCommit is how long the offsets of records on which nothing was said
	// wait for a transaction before they are committed by themselves. Default 1 s.
	IdleCommit time.Duration

	// Redact says what of an event's data may be kept in a dead letter: a copy
	// without what is secret or personal, nil for nothing, or the data as they
	// are. It must not change the event it is given, of which only Data is set if
	// it could not be read. A letter whose data are not the original ones says so,
	// and cannot be replayed; its origin can be, for as long as its topic keeps
	// it. Data are never logged; with Redact set, neither is the text of errors
	// of decoding, which may quote them. Nil: dead letters keep the data.
	Redact func(cloudevent.Event) []byte
	// RedactError says what of the text of an error may be kept and shown: in logs,
	// dead letters, the journal, audit events and spans. Handlers return errors of
	// their own making, and of drivers and providers, which may quote what is secret
	// or personal. It must be safe for concurrent use, and may be given what it has
	// returned. Nil: texts are kept, cut at 1 KiB.
	RedactError func(text string) string
	// Listen opens the addresses of [HTTP] and of AdminAddr; default
	// [net.Listen]. Tests give one of a network in memory.
	Listen func(network, address string) (net.Listener, error)
	// TLS encrypts the connections to the brokers; nil: they are not encrypted.
	TLS *tls.Config
	// SASL authenticates to the brokers; nil: not at all.
	SASL sasl.Mechanism
	// ClientOptions are added to every Kafka client, after all others.
	ClientOptions []kgo.Opt
	// Logger; default slog.Default().
	Logger *slog.Logger
	// Registerer takes the metrics, of one service at a time; default a registry
	// of the run's own, which the admin address serves.
	Registerer *prometheus.Registry
	// TracerProvider makes the spans; default the global one, which must be set
	// before the service runs.
	TracerProvider trace.TracerProvider

	warnings []string // about the environment, to be logged
}

const (
	defaultLanes           = 4
	defaultMaxInFlight     = 20_000
	defaultMaxInFlightSize = 64 << 20
	defaultMaxHandlers     = 1024
	defaultParkedPerFlow   = 1000
	defaultParkedPerTask   = 100_000
	defaultMaxEvent        = 900 << 10
	defaultMaxJournal      = 1 << 30
	defaultStopTimeout     = 20 * time.Second
	defaultSessionTimeout  = 10 * time.Second
	defaultIdleCommit      = time.Second
)

func (c Config) withDefaults() Config {
	orDefault(&c.Lanes, defaultLanes)
	orDefault(&c.MaxInFlight, defaultMaxInFlight)
	orDefault(&c.MaxInFlightBytes, defaultMaxInFlightSize)
	orDefault(&c.MaxHandlers, defaultMaxHandlers)
	orDefault(&c.MaxParkedPerFlow, defaultParkedPerFlow)
	orDefault(&c.MaxParkedPerTask, defaultParkedPerTask)
	orDefault(&c.MaxEventBytes, defaultMaxEvent)
	orDefault(&c.MaxJournalBytes, defaultMaxJournal)
	orDefault(&c.StopTimeout, defaultStopTimeout)
	orDefault(&c.SessionTimeout, defaultSessionTimeout)
	orDefault(&c.IdleCommit, defaultIdleCommit)
	if c.InstanceID == "" {
		c.InstanceID, _ = os.Hostname() // without one, validate asks for INSTANCE_ID
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Listen == nil {
		c.Listen = net.Listen
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	return c
}

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// ConfigError lists everything that is wrong with a [Config] or the environment
// it was read from.
type ConfigError struct{ Problems []ConfigProblem }

// ConfigProblem is one wrong setting.
type ConfigProblem struct {
	// Variable is the environment variable of the setting; of a setting that has
	// none, the field.
	Variable string
	// Value is what it is set to, cut to a size that can be shown; empty for
	// secrets and for what is not set.
	Value string
	// Want says what is allowed.
	Want string
}

// String is the problem on one line.
func (p ConfigProblem) String() string {
	if p.Value == "" {
		return fmt.Sprintf("%s: %s", p.Variable, p.Want)
	}
	return fmt.Sprintf("%s=%q: %s", p.Variable, p.Value, p.Want)
}

// Error has one line for each problem.
func (e *ConfigError) Error() string {
	lines := make([]string, 0, len(e.Problems)+1)
	lines = append(lines, "choreo: the configuration is wrong:")
	for _, p := range e.Problems {
		lines = append(lines, p.String())
	}
	return strings.Join(lines, "\n")
}

var (
	instanceID = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,200}$`)
	// A topic name has up to 249 characters, a declared one up to 200.
	topicPrefix = regexp.MustCompile(`^[a-zA-Z0-9._-]{0,48}$`)
)

// validate reports all that is wrong, as a *ConfigError. Defaults must be filled
// in.
func (c Config) validate() error {
	if p := c.problems(); len(p) > 0 {
		return &ConfigError{p}
	}
	return nil
}

func (c Config) problems() []ConfigProblem {
	var all configProblems
	if len(c.Brokers) == 0 {
		all.add("KAFKA_BROKERS", "", "is missing; give one or more brokers as host:port, separated by commas")
	}
	for _, b := range c.Brokers {
		if !isAddr(b, true, 1) {
			all.add("KAFKA_BROKERS", b, "is not host:port, such as kafka-0.internal:9092")
		}
	}
	if !topicPrefix.MatchString(c.TopicPrefix) {
		all.add("TOPIC_PREFIX", c.TopicPrefix, "allowed are letters, digits, '.', '_' and '-', at most 48")
	}
	if !instanceID.MatchString(c.InstanceID) || c.InstanceID == "." || c.InstanceID == ".." {
		all.add("INSTANCE_ID", c.InstanceID, "allowed are letters, digits, '.', '_' and '-', 1 to 200, unique among the service's processes and the same after a restart")
	}
	if c.AdminAddr != "" && !isAddr(c.AdminAddr, false, 0) {
		all.add("ADMIN_ADDR", c.AdminAddr, "is not an address to listen on, such as :9090, nor off")
	}
	within(&all, "LANES", c.Lanes, 1, 16, strconv.Itoa)
	within(&all, "MAX_IN_FLIGHT", c.MaxInFlight, 1, 10_000_000, strconv.Itoa)
	within(&all, "MAX_IN_FLIGHT_BYTES", c.MaxInFlightBytes, 1<<20, 64<<30, sizeText)
	within(&all, "MAX_HANDLERS", c.MaxHandlers, 1, 1_000_000, strconv.Itoa)
	within(&all, "MAX_PARKED_PER_FLOW", c.MaxParkedPerFlow, 1, 1_000_000, strconv.Itoa)
	within(&all, "MAX_PARKED_PER_TASK", c.MaxParkedPerTask, 1, 10_000_000, strconv.Itoa)
	if c.MaxParkedPerFlow > c.MaxParkedPerTask && c.MaxParkedPerTask > 0 {
		all.add("MAX_PARKED_PER_FLOW", strconv.Itoa(c.MaxParkedPerFlow), fmt.Sprintf("is more than MAX_PARKED_PER_TASK, %d, allows all flows of a task together", c.MaxParkedPerTask))
	}
	within(&all, "MAX_EVENT_BYTES", int64(c.MaxEventBytes), 1<<10, 8<<20, sizeText)
	within(&all, "MAX_JOURNAL_BYTES", c.MaxJournalBytes, 1<<20, 1<<40, sizeText)
	within(&all, "STOP_TIMEOUT", c.StopTimeout, time.Second, time.Hour, time.Duration.String)
	// The lower bound is the broker's default for group.min.session.timeout.ms.
	within(&all, "SESSION_TIMEOUT", c.SessionTimeout, 6*time.Second, 30*time.Minute, time.Duration.String)
	within(&all, "Config.IdleCommit", c.IdleCommit, time.Millisecond, time.Hour, time.Duration.String)
	return all
}

type configProblems []ConfigProblem

func (p *configProblems) add(variable, value, want string) {
	*p = append(*p, ConfigProblem{variable, clip(value), want})
}

func within[T int | int64 | time.Duration](all *configProblems, variable string, v, low, high T, text func(T) string) {
	if v < low || v > high {
		all.add(variable, text(v), fmt.Sprintf("allowed is %s to %s", text(low), text(high)))
	}
}

// isAddr checks host:port; an address to listen on may lack the host, and its
// port may be 0.
func isAddr(s string, needHost bool, lowestPort uint64) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil || needHost && host == "" || strings.ContainsAny(host, " \t/@") {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n >= lowestPort
}

// clientOptions are those of every Kafka client of a kind: lane, data, publish,
// view, admin.
func (e *engine) clientOptions(kind string) []kgo.Opt {
	return e.cfg.kafka(clientLogger(e.log), e.metrics.clients.Hook(kind))
}

// KafkaOptions are those by which a client of a tool's own connects as the
// service does: brokers, TLS, SASL, and ClientOptions.
func (c Config) KafkaOptions() []kgo.Opt { return c.kafka() }

// kafka are the options to connect with.
func (c Config) kafka(more ...kgo.Opt) []kgo.Opt {
	o := []kgo.Opt{kgo.SeedBrokers(c.Brokers...), kgo.ClientID("choreo")}
	if c.TLS != nil {
		o = append(o, kgo.DialTLSConfig(c.TLS.Clone()))
	}
	if c.SASL != nil {
		o = append(o, kgo.SASL(c.SASL))
	}
	return append(append(o, more...), c.ClientOptions...)
}
