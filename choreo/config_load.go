package choreo

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// environment is what is read from environment variables. The tags are all that
// --help and error messages say of them: allowed for values that cannot be
// read, help for people. A variable that is empty counts as not set.
type environment struct {
	Brokers []string `env:"KAFKA_BROKERS" help:"seed brokers, as host:port separated by commas; required"`

	SASLMechanism    saslMechanism `env:"KAFKA_SASL_MECHANISM" allowed:"PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512" help:"PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; unset: no authentication"`
	SASLUsername     string        `env:"KAFKA_SASL_USERNAME" help:"user name"`
	SASLPassword     string        `env:"KAFKA_SASL_PASSWORD" secret:"true" help:"password"`
	SASLPasswordFile string        `env:"KAFKA_SASL_PASSWORD_FILE" help:"file that holds the password, read anew for every connection"`

	TLS           onOff  `env:"KAFKA_TLS" envDefault:"off" allowed:"on or off" help:"on: connections to the brokers are encrypted"`
	TLSCAFile     string `env:"KAFKA_TLS_CA_FILE" help:"certificates (PEM) that sign the brokers'; unset: those of the system"`
	TLSCertFile   string `env:"KAFKA_TLS_CERT_FILE" help:"client certificate (PEM), read anew for every connection"`
	TLSKeyFile    string `env:"KAFKA_TLS_KEY_FILE" help:"key (PEM) of the client certificate"`
	TLSServerName string `env:"KAFKA_TLS_SERVER_NAME" help:"name to find in the brokers' certificates; unset: the name connected to"`

	TopicPrefix string `env:"TOPIC_PREFIX" help:"put before every topic, consumer group and transactional id"`
	InstanceID  string `env:"INSTANCE_ID" help:"name of this process among the service's, the same after a restart; unset: the host name"`
	AdminAddr   string `env:"ADMIN_ADDR" envDefault:":9090" help:"address of /livez, /readyz, /metrics and /contract, or off"`

	Lanes            int           `env:"LANES" envDefault:"4" allowed:"a number" help:"transactions in flight"`
	MaxInFlight      int           `env:"MAX_IN_FLIGHT" envDefault:"20000" allowed:"a number" help:"records read and not committed yet"`
	MaxInFlightBytes byteSize      `env:"MAX_IN_FLIGHT_BYTES" envDefault:"64MiB" allowed:"a size, such as 67108864 or 64MiB" help:"their size"`
	MaxHandlers      int           `env:"MAX_HANDLERS" envDefault:"1024" allowed:"a number" help:"handlers running at once"`
	MaxParkedPerFlow int           `env:"MAX_PARKED_PER_FLOW" envDefault:"1000" allowed:"a number" help:"events of one flow that wait for another attempt, or behind one that does"`
	MaxParkedPerTask int           `env:"MAX_PARKED_PER_TASK" envDefault:"100000" allowed:"a number" help:"such events of one task; at the limit its reading pauses"`
	MaxEventBytes    byteSize      `env:"MAX_EVENT_BYTES" envDefault:"900KiB" allowed:"a size, such as 921600 or 900KiB" help:"size of an event's data; larger ones are dead letters"`
	MaxJournalBytes  byteSize      `env:"MAX_JOURNAL_BYTES" envDefault:"1GiB" allowed:"a size, such as 1073741824 or 1GiB" help:"memory for flow state; at the limit reading pauses"`
	StopTimeout      time.Duration `env:"STOP_TIMEOUT" envDefault:"20s" allowed:"a duration, such as 20s" help:"how long a graceful stop may take"`
	SessionTimeout   time.Duration `env:"SESSION_TIMEOUT" envDefault:"10s" allowed:"a duration, such as 10s" help:"after how long without a sign of life another instance takes over"`

	LogLevel  logLevel  `env:"LOG_LEVEL" envDefault:"info" allowed:"debug, info, warn or error" help:"debug, info, warn or error"`
	LogFormat logFormat `env:"LOG_FORMAT" envDefault:"json" allowed:"json or text" help:"json or text"`
}

// LoadConfig reads a [Config] from variables as os.Environ has them; --help of
// [Main] lists them with their defaults. What is wrong is reported all at once,
// as a *[ConfigError]. The logger writes to standard error.
func LoadConfig(environ []string) (Config, error) { return loadConfig(environ, os.Stderr) }

func loadConfig(environ []string, logTo io.Writer) (Config, error) {
	vars := make(map[string]string, len(environ))
	for _, kv := range environ {
		k, v, _ := strings.Cut(kv, "=")
		if vars[k] = v; v == "" {
			delete(vars, k)
		}
	}
	var e environment
	var all configProblems
	unread := map[string]bool{}
	if err := env.ParseWithOptions(&e, env.Options{Environment: vars}); err != nil {
		agg, ok := errors.AsType[env.AggregateError](err)
		if !ok {
			return Config{}, fmt.Errorf("choreo: read the environment: %w", err)
		}
		for _, x := range agg.Errors {
			parse, ok := errors.AsType[env.ParseError](x)
			f, known := reflect.TypeFor[environment]().FieldByName(parse.Name)
			if !ok || !known {
				return Config{}, fmt.Errorf("choreo: read the environment: %w", x)
			}
			name := f.Tag.Get("env")
			unread[name] = true
			all.add(name, vars[name], "is not "+f.Tag.Get("allowed"))
		}
	}
	c := Config{
		TopicPrefix: e.TopicPrefix, InstanceID: e.InstanceID, AdminAddr: e.AdminAddr,
		Lanes: e.Lanes, MaxInFlight: e.MaxInFlight, MaxInFlightBytes: int64(e.MaxInFlightBytes), MaxHandlers: e.MaxHandlers,
		MaxParkedPerFlow: e.MaxParkedPerFlow, MaxParkedPerTask: e.MaxParkedPerTask,
		MaxEventBytes: int(e.MaxEventBytes), MaxJournalBytes: int64(e.MaxJournalBytes),
		StopTimeout: e.StopTimeout, SessionTimeout: e.SessionTimeout, IdleCommit: defaultIdleCommit,
		Logger:   newLogger(logTo, slog.Level(e.LogLevel), string(e.LogFormat)),
		warnings: unknownVariables(environ),
	}
	for _, b := range e.Brokers {
		c.Brokers = append(c.Brokers, strings.TrimSpace(b))
	}
	if e.AdminAddr == "off" {
		c.AdminAddr = ""
	}
	if c.InstanceID == "" {
		c.InstanceID, _ = os.Hostname()
	}
	c.SASL = e.sasl(&all)
	if !unread["KAFKA_TLS"] {
		c.TLS = e.tls(&all)
	}
	for _, p := range c.problems() {
		if !unread[p.Variable] {
			all = append(all, p)
		}
	}
	if c.SASL != nil && c.TLS == nil && e.SASLMechanism == "PLAIN" {
		c.warnings = append(c.warnings, "KAFKA_SASL_MECHANISM is PLAIN and KAFKA_TLS is off: the password is sent as plain text")
	}
	if len(all) > 0 {
		return Config{}, &ConfigError{all}
	}
	return c, nil
}

func (e *environment) sasl(all *configProblems) sasl.Mechanism {
	if e.SASLMechanism == "" {
		for _, v := range [][2]string{{"KAFKA_SASL_USERNAME", e.SASLUsername}, {"KAFKA_SASL_PASSWORD", e.SASLPassword}, {"KAFKA_SASL_PASSWORD_FILE", e.SASLPasswordFile}} {
			if v[1] != "" {
				all.add(v[0], "", "is set, but KAFKA_SASL_MECHANISM is not or is wrong; set it to PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
			}
		}
		return nil
	}
	if e.SASLUsername == "" {
		all.add("KAFKA_SASL_USERNAME", "", "is missing; KAFKA_SASL_MECHANISM needs it")
	}
	switch {
	case e.SASLPassword == "" && e.SASLPasswordFile == "":
		all.add("KAFKA_SASL_PASSWORD", "", "is missing; KAFKA_SASL_MECHANISM needs it, or KAFKA_SASL_PASSWORD_FILE")
	case e.SASLPassword != "" && e.SASLPasswordFile != "":
		all.add("KAFKA_SASL_PASSWORD", "", "is set, and KAFKA_SASL_PASSWORD_FILE too; set one of them")
	case e.SASLPasswordFile != "":
		if _, err := e.password(); err != nil {
			all.add("KAFKA_SASL_PASSWORD_FILE", e.SASLPasswordFile, "cannot be used: "+err.Error())
		}
	}
	user, password := e.SASLUsername, e.password // no more of e is needed
	if e.SASLMechanism == "PLAIN" {
		return plain.Plain(func(context.Context) (plain.Auth, error) {
			p, err := password()
			return plain.Auth{User: user, Pass: p}, err
		})
	}
	auth := func(context.Context) (scram.Auth, error) {
		p, err := password()
		return scram.Auth{User: user, Pass: p}, err
	}
	if e.SASLMechanism == "SCRAM-SHA-256" {
		return scram.Sha256(auth)
	}
	return scram.Sha512(auth)
}

// password reads the password anew each time, so that a rotated file is used.
func (e *environment) password() (string, error) {
	if e.SASLPasswordFile == "" {
		return e.SASLPassword, nil
	}
	b, err := os.ReadFile(e.SASLPasswordFile)
	if err != nil {
		return "", err
	}
	p := strings.TrimRight(string(b), "\r\n")
	if p == "" {
		return "", errors.New("the file is empty")
	}
	return p, nil
}

func (e *environment) tls(all *configProblems) *tls.Config {
	if !e.TLS {
		for _, v := range [][2]string{
			{"KAFKA_TLS_CA_FILE", e.TLSCAFile}, {"KAFKA_TLS_CERT_FILE", e.TLSCertFile}, {"KAFKA_TLS_KEY_FILE", e.TLSKeyFile},
			{"KAFKA_TLS_SERVER_NAME", e.TLSServerName},
		} {
			if v[1] != "" {
				all.add(v[0], v[1], "is set, but KAFKA_TLS is off; set KAFKA_TLS=on, or unset this")
			}
		}
		return nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: e.TLSServerName}
	if e.TLSCAFile != "" {
		pem, err := os.ReadFile(e.TLSCAFile)
		c.RootCAs = x509.NewCertPool()
		if err != nil {
			all.add("KAFKA_TLS_CA_FILE", e.TLSCAFile, "cannot be used: "+err.Error())
		} else if !c.RootCAs.AppendCertsFromPEM(pem) {
			all.add("KAFKA_TLS_CA_FILE", e.TLSCAFile, "has no certificate; a PEM file is expected")
		}
	}
	switch {
	case e.TLSCertFile == "" && e.TLSKeyFile == "":
	case e.TLSCertFile == "":
		all.add("KAFKA_TLS_CERT_FILE", "", "is missing; KAFKA_TLS_KEY_FILE needs it")
	case e.TLSKeyFile == "":
		all.add("KAFKA_TLS_KEY_FILE", "", "is missing; KAFKA_TLS_CERT_FILE needs it")
	default:
		cert, key := e.TLSCertFile, e.TLSKeyFile
		if _, err := tls.LoadX509KeyPair(cert, key); err != nil {
			all.add("KAFKA_TLS_CERT_FILE", cert, fmt.Sprintf("cannot be used with KAFKA_TLS_KEY_FILE %q: %v", clip(key), err))
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(cert, key)
			return &pair, err
		}
	}
	return c
}

// unknownVariables finds likely misspellings: variables that begin as ours do.
// (KAFKA_ alone also begins what others set, such as Kubernetes for a service
// of that name.)
func unknownVariables(environ []string) []string {
	known := map[string]bool{}
	for f := range reflect.TypeFor[environment]().Fields() {
		known[f.Tag.Get("env")] = true
	}
	var warnings []string
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		for _, prefix := range []string{"KAFKA_BROKER", "KAFKA_SASL", "KAFKA_TLS", "KAFKA_SSL", "TOPIC_PREFIX", "MAX_IN_FLIGHT", "MAX_EVENT", "MAX_JOURNAL", "MAX_PARKED"} {
			if strings.HasPrefix(name, prefix) && !known[name] {
				warnings = append(warnings, fmt.Sprintf("%s is set, and nothing reads it; is it misspelt?", clip(name)))
				break
			}
		}
	}
	return warnings
}

type saslMechanism string

func (m *saslMechanism) UnmarshalText(b []byte) error {
	*m = saslMechanism(strings.ToUpper(string(b)))
	switch *m {
	case "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512":
		return nil
	}
	*m = ""
	return errNotAllowed
}

type onOff bool

func (o *onOff) UnmarshalText(b []byte) error {
	switch strings.ToLower(string(b)) {
	case "on", "true":
		*o = true
	case "off", "false":
		*o = false
	default:
		return errNotAllowed
	}
	return nil
}

type logLevel slog.Level

func (l *logLevel) UnmarshalText(b []byte) error {
	switch strings.ToLower(string(b)) {
	case "debug", "info", "warn", "error":
		return (*slog.Level)(l).UnmarshalText(b)
	}
	return errNotAllowed
}

type logFormat string

func (f *logFormat) UnmarshalText(b []byte) error {
	*f = logFormat(strings.ToLower(string(b)))
	if *f != formatJSON && *f != formatText {
		return errNotAllowed
	}
	return nil
}

// byteSize is a number of bytes, with or without a binary unit.
type byteSize int64

var units = []struct {
	name  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

func (s *byteSize) UnmarshalText(b []byte) error {
	text, factor := string(b), int64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(text, u.name); ok {
			text, factor = rest, u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > 1<<62/factor {
		return errNotAllowed
	}
	*s = byteSize(n * factor)
	return nil
}

// sizeText writes a size as byteSize reads it.
func sizeText(n int64) string {
	for _, u := range units {
		if n != 0 && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// errNotAllowed is replaced by the field's tag.
var errNotAllowed = errors.New("not allowed")
