package choreo

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestLoadConfigReportsEveryMistakeOnALine(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		env  []string // besides KAFKA_BROKERS and INSTANCE_ID
		want []string // the beginnings of the lines, sorted
	}{
		{"nothing wrong", nil, nil},
		{"empty is not set", []string{"LANES=", "KAFKA_TLS="}, nil},
		{"no brokers", []string{"KAFKA_BROKERS="}, []string{"KAFKA_BROKERS: is missing"}},
		{"brokers", []string{"KAFKA_BROKERS=a:9092, b ,:9,c:70000,d:0"}, []string{
			`KAFKA_BROKERS=":9": is not host:port`, `KAFKA_BROKERS="b": `, `KAFKA_BROKERS="c:70000": `, `KAFKA_BROKERS="d:0": `,
		}},
		{"all at once", []string{"LANES=many", "MAX_IN_FLIGHT=0", "STOP_TIMEOUT=20", "LOG_LEVEL=loud", "LOG_FORMAT=xml", "KAFKA_TLS=perhaps", "MAX_EVENT_BYTES=9MB"}, []string{
			`KAFKA_TLS="perhaps": is not on or off`, `LANES="many": is not a number`, `LOG_FORMAT="xml": is not json or text`,
			`LOG_LEVEL="loud": is not debug, info, warn or error`, `MAX_EVENT_BYTES="9MB": is not a size`,
			`MAX_IN_FLIGHT="0": allowed is 1 to 10000000`, `STOP_TIMEOUT="20": is not a duration`,
		}},
		{"out of bounds", []string{"LANES=17", "MAX_IN_FLIGHT_BYTES=1KiB", "MAX_HANDLERS=-1", "MAX_EVENT_BYTES=9MiB", "MAX_JOURNAL_BYTES=1", "STOP_TIMEOUT=1ms", "SESSION_TIMEOUT=1s"}, []string{
			`LANES="17": allowed is 1 to 16`, `MAX_EVENT_BYTES="9MiB": allowed is 1KiB to 8MiB`, `MAX_HANDLERS="-1": allowed is 1 to 1000000`,
			`MAX_IN_FLIGHT_BYTES="1KiB": allowed is 1MiB to 64GiB`, `MAX_JOURNAL_BYTES="1": allowed is 1MiB`,
			`SESSION_TIMEOUT="1s": allowed is 6s to 30m0s`, `STOP_TIMEOUT="1ms": allowed is 1s to 1h0m0s`,
		}},
		{"parked", []string{"MAX_PARKED_PER_FLOW=0", "MAX_PARKED_PER_TASK=-1"}, []string{
			`MAX_PARKED_PER_FLOW="0": allowed is 1 to 1000000`, `MAX_PARKED_PER_TASK="-1": allowed is 1 to 10000000`,
		}},
		{"more parked of a flow than of all", []string{"MAX_PARKED_PER_FLOW=11", "MAX_PARKED_PER_TASK=10"}, []string{
			`MAX_PARKED_PER_FLOW="11": is more than MAX_PARKED_PER_TASK, 10, allows`,
		}},
		{"a size beyond all bounds", []string{"MAX_JOURNAL_BYTES=9223372036854775807GiB"}, []string{`MAX_JOURNAL_BYTES="9223372036854775807GiB": is not a size`}},
		{"names", []string{"TOPIC_PREFIX=a/b", "INSTANCE_ID=a b", "ADMIN_ADDR=9090"}, []string{`ADMIN_ADDR="9090": `, `INSTANCE_ID="a b": allowed are`, `TOPIC_PREFIX="a/b": allowed are`}},
		{"an id that is a dot", []string{"INSTANCE_ID=.."}, []string{`INSTANCE_ID="..": `}},
		{"sasl without all", []string{"KAFKA_SASL_MECHANISM=scram-sha-512"}, []string{"KAFKA_SASL_PASSWORD: is missing", "KAFKA_SASL_USERNAME: is missing"}},
		{"sasl parts without mechanism", []string{"KAFKA_SASL_USERNAME=u", "KAFKA_SASL_PASSWORD=hunter2"}, []string{"KAFKA_SASL_PASSWORD: is set, but", "KAFKA_SASL_USERNAME: is set, but"}},
		{"an unknown mechanism", []string{"KAFKA_SASL_MECHANISM=GSSAPI"}, []string{`KAFKA_SASL_MECHANISM="GSSAPI": is not PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512`}},
		{"two passwords", []string{"KAFKA_SASL_MECHANISM=PLAIN", "KAFKA_SASL_USERNAME=u", "KAFKA_SASL_PASSWORD=hunter2", "KAFKA_SASL_PASSWORD_FILE=/x"}, []string{"KAFKA_SASL_PASSWORD: is set, and KAFKA_SASL_PASSWORD_FILE too"}},
		{"no password in the file", []string{"KAFKA_SASL_MECHANISM=PLAIN", "KAFKA_SASL_USERNAME=u", "KAFKA_SASL_PASSWORD_FILE=" + empty}, []string{"KAFKA_SASL_PASSWORD_FILE="}},
		{"tls files without tls", []string{"KAFKA_TLS_CA_FILE=/x", "KAFKA_TLS_SERVER_NAME=n"}, []string{`KAFKA_TLS_CA_FILE="/x": is set, but KAFKA_TLS is off`, `KAFKA_TLS_SERVER_NAME="n": is set, but`}},
		{"tls files that are none", []string{"KAFKA_TLS=on", "KAFKA_TLS_CA_FILE=" + empty, "KAFKA_TLS_CERT_FILE=/none", "KAFKA_TLS_KEY_FILE=/none"}, []string{"KAFKA_TLS_CA_FILE=", `KAFKA_TLS_CERT_FILE="/none": cannot be used`}},
		{"half a client certificate", []string{"KAFKA_TLS=on", "KAFKA_TLS_CERT_FILE=/none"}, []string{"KAFKA_TLS_KEY_FILE: is missing"}},
		{"a value that would forge lines", []string{"TOPIC_PREFIX=a\nKAFKA_BROKERS: fine" + strings.Repeat("x", 1000)}, []string{`TOPIC_PREFIX="a\nKAFKA_BROKERS: fine`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := LoadConfig(append([]string{"KAFKA_BROKERS=b:9092", "INSTANCE_ID=i-0", "PATH=/bin", "KAFKA_PORT=tcp://1.2.3.4:9092"}, c.env...))
			if len(c.want) == 0 {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wrong, ok := errors.AsType[*ConfigError](err)
			if !ok {
				t.Fatalf("got %v, want a *ConfigError", err)
			}
			lines := texts(wrong.Problems)
			slices.Sort(lines)
			if len(lines) != len(c.want) {
				t.Fatalf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(c.want, "\n"))
			}
			for i := range lines {
				if !strings.HasPrefix(lines[i], c.want[i]) || strings.ContainsAny(lines[i], "\n\r") || len(lines[i]) > 600 {
					t.Errorf("line %q, want %q...", lines[i], c.want[i])
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the password is shown: %v", err)
			}
		})
	}
}

func TestLoadConfig(t *testing.T) {
	cert, key, ca := certificate(t)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		env  []string
		ok   func(Config) bool
	}{
		{"defaults", nil, func(c Config) bool {
			d := Config{Brokers: c.Brokers, InstanceID: "i-0"}.withDefaults()
			return c.Lanes == d.Lanes && c.MaxInFlight == d.MaxInFlight && c.MaxInFlightBytes == d.MaxInFlightBytes && c.MaxHandlers == d.MaxHandlers &&
				c.MaxEventBytes == d.MaxEventBytes && c.MaxJournalBytes == d.MaxJournalBytes && c.StopTimeout == d.StopTimeout &&
				c.SessionTimeout == d.SessionTimeout && c.IdleCommit == d.IdleCommit && c.AdminAddr == ":9090" && c.TLS == nil && c.SASL == nil &&
				c.Logger.Enabled(t.Context(), slog.LevelInfo) && !c.Logger.Enabled(t.Context(), slog.LevelDebug)
		}},
		{"limits", []string{"LANES=2", "MAX_IN_FLIGHT_BYTES=2097152", "MAX_EVENT_BYTES=1MiB", "STOP_TIMEOUT=1m30s", "ADMIN_ADDR=off", "LOG_LEVEL=DEBUG"}, func(c Config) bool {
			return c.Lanes == 2 && c.MaxInFlightBytes == 2<<20 && c.MaxEventBytes == 1<<20 && c.StopTimeout == 90*time.Second && c.AdminAddr == "" &&
				c.Logger.Enabled(t.Context(), slog.LevelDebug)
		}},
		{"brokers", []string{"KAFKA_BROKERS=a:1, [::1]:2"}, func(c Config) bool { return slices.Equal(c.Brokers, []string{"a:1", "[::1]:2"}) }},
		{"plain", []string{"KAFKA_SASL_MECHANISM=PLAIN", "KAFKA_SASL_USERNAME=u", "KAFKA_SASL_PASSWORD=hunter2"}, func(c Config) bool {
			_, first, err := c.SASL.Authenticate(t.Context(), "h")
			return err == nil && c.SASL.Name() == "PLAIN" && string(first) == "\x00u\x00hunter2" && len(c.warnings) == 1
		}},
		{"password from a file", []string{"KAFKA_SASL_MECHANISM=PLAIN", "KAFKA_SASL_USERNAME=u", "KAFKA_SASL_PASSWORD_FILE=" + password, "KAFKA_TLS=on"}, func(c Config) bool {
			_, first, err := c.SASL.Authenticate(t.Context(), "h")
			return err == nil && string(first) == "\x00u\x00hunter2" && len(c.warnings) == 0
		}},
		{"scram", []string{"KAFKA_SASL_MECHANISM=scram-sha-256", "KAFKA_SASL_USERNAME=u", "KAFKA_SASL_PASSWORD=p"}, func(c Config) bool { return c.SASL.Name() == "SCRAM-SHA-256" }},
		{"tls", []string{"KAFKA_TLS=on", "KAFKA_TLS_CA_FILE=" + ca, "KAFKA_TLS_CERT_FILE=" + cert, "KAFKA_TLS_KEY_FILE=" + key, "KAFKA_TLS_SERVER_NAME=n"}, func(c Config) bool {
			pair, err := c.TLS.GetClientCertificate(nil)
			return err == nil && len(pair.Certificate) == 1 && c.TLS.RootCAs != nil && c.TLS.ServerName == "n" && !c.TLS.InsecureSkipVerify
		}},
		{"a misspelt variable", []string{"KAFKA_SASL_USER=u", "KAFKA_HEAP_OPTS=x"}, func(c Config) bool {
			return len(c.warnings) == 1 && strings.Contains(c.warnings[0], "KAFKA_SASL_USER ")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, err := LoadConfig(append([]string{"KAFKA_BROKERS=b:9092", "INSTANCE_ID=i-0"}, c.env...))
			if err != nil {
				t.Fatal(err)
			}
			if !c.ok(cfg) {
				t.Errorf("got %+v", cfg)
			}
			if strings.Contains(strings.ToLower(sprint(cfg)), "hunter2") {
				t.Error("the configuration prints its password")
			}
		})
	}
}

func TestConfigOfAProgramIsValidatedAlike(t *testing.T) {
	good := Config{Brokers: []string{"b:1"}, InstanceID: "i"}
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"good", func(*Config) {}, ""},
		{"no brokers", func(c *Config) { c.Brokers = nil }, "KAFKA_BROKERS"},
		{"negative", func(c *Config) { c.MaxInFlight = -1 }, "MAX_IN_FLIGHT"},
		{"prefix", func(c *Config) { c.TopicPrefix = "a b" }, "TOPIC_PREFIX"},
		{"idle", func(c *Config) { c.IdleCommit = -1 }, "Config.IdleCommit"},
	} {
		cfg := good
		c.change(&cfg)
		err := cfg.withDefaults().validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), "\n"+c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func certificate(t *testing.T) (cert, key, ca string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, b []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cert = write("cert", "CERTIFICATE", der)
	return cert, write("key", "PRIVATE KEY", secret), cert
}
