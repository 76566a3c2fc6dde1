package txn

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// required is a configuration that leaves the rest to defaults.
func required() Config {
	return Config{
		Fence: new(Fence), Group: "g", OffsetsID: "s/0/offsets",
		Membership:      func() (string, int32) { return "m", 1 },
		TransactionalID: func(int) string { return "s/0/0" },
	}
}

func TestZeroSettingsTakeTheDocumentedDefaults(t *testing.T) {
	c := required()
	if err := c.normalize(); err != nil {
		t.Fatal(err)
	}
	for _, s := range []struct {
		name      string
		got, want any
	}{
		{"Lanes", c.Lanes, 4},
		{"BatchBytes", c.BatchBytes("any"), int32(1_000_012)},
		{"Timeout", c.Timeout, 10 * time.Second},
		{"MaxRecords", c.MaxRecords, 5000},
		{"MaxBytes", c.MaxBytes, 8 << 20},
		{"Gather", c.Gather, 2 * time.Millisecond},
		{"SilentAfter", c.SilentAfter, time.Second},
		{"RetryMin", c.RetryMin, 50 * time.Millisecond},
		{"RetryMax", c.RetryMax, 2 * time.Second},
		{"Manual", c.Manual("any"), false},
	} {
		if s.got != s.want {
			t.Errorf("%s is %v by default, documented is %v", s.name, s.got, s.want)
		}
	}
}

// The bounds themselves are allowed, and what is beyond them is named.
func TestSettingsHaveBounds(t *testing.T) {
	for _, s := range []struct {
		name    string
		change  func(*Config)
		allowed bool
	}{
		{"Lanes", func(c *Config) { c.Lanes = 1 }, true},
		{"Lanes", func(c *Config) { c.Lanes = 16 }, true},
		{"Lanes", func(c *Config) { c.Lanes = 17 }, false},
		{"Lanes", func(c *Config) { c.Lanes = -1 }, false},
		{"Timeout", func(c *Config) { c.Timeout = time.Second }, true},
		{"Timeout", func(c *Config) { c.Timeout = time.Second - 1 }, false},
		{"Timeout", func(c *Config) { c.Timeout = 15 * time.Minute }, true},
		{"Timeout", func(c *Config) { c.Timeout = 15*time.Minute + 1 }, false},
		{"MaxRecords", func(c *Config) { c.MaxRecords = 1 << 20 }, true},
		{"MaxRecords", func(c *Config) { c.MaxRecords = 1<<20 + 1 }, false},
		{"MaxBytes", func(c *Config) { c.MaxBytes = 1 << 30 }, true},
		{"MaxBytes", func(c *Config) { c.MaxBytes = 1<<30 + 1 }, false},
		{"SilentAfter", func(c *Config) { c.SilentAfter = time.Millisecond }, true},
		{"SilentAfter", func(c *Config) { c.SilentAfter = time.Microsecond }, false},
		{"RetryMin", func(c *Config) { c.RetryMin = time.Minute }, true},
		{"RetryMin", func(c *Config) { c.RetryMin = 61 * time.Second }, false},
		{"RetryMax", func(c *Config) { c.RetryMin, c.RetryMax = time.Second, time.Second }, true},
		{"RetryMax", func(c *Config) { c.RetryMin, c.RetryMax = time.Second, time.Second-1 }, false},
	} {
		c := required()
		s.change(&c)
		err := c.normalize()
		if (err == nil) != s.allowed || err != nil && !strings.Contains(err.Error(), "txn.Config."+s.name+" is ") {
			t.Errorf("%s %+v: %v, allowed is %v", s.name, c, err, s.allowed)
		}
	}
}

// All that a lane's client waits for ends with the transaction's own deadline, and
// what it asks again it asks after a moment.
func TestALanesClientIsBoundByTheDeadline(t *testing.T) {
	for _, tc := range []struct{ timeout, stage, delivery, overhead time.Duration }{
		{10 * time.Second, 8 * time.Second, 8 * time.Second, 4 * time.Second},
		{time.Second, 800 * time.Millisecond, time.Second, 400 * time.Millisecond}, // kgo takes no shorter delivery
	} {
		c := required()
		c.Timeout = tc.timeout
		p, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		client, err := p.newClient("s/0/0")
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		for _, o := range []struct {
			name      string
			got, want any
		}{
			{"TransactionTimeout", client.OptValue(kgo.TransactionTimeout), tc.timeout},
			{"RecordDeliveryTimeout", client.OptValue(kgo.RecordDeliveryTimeout), tc.delivery},
			{"ProduceRequestTimeout", client.OptValue(kgo.ProduceRequestTimeout), tc.stage},
			{"RequestTimeoutOverhead", client.OptValue(kgo.RequestTimeoutOverhead), tc.overhead},
			{"ConcurrentTransactionsBackoff", client.OptValue(kgo.ConcurrentTransactionsBackoff), 5 * time.Millisecond},
			{"MetadataMinAge", client.OptValue(kgo.MetadataMinAge), 100 * time.Millisecond},
			{"BrokerMaxWriteBytes", client.OptValue(kgo.BrokerMaxWriteBytes), int32(2 * maxBatchBytes)},
		} {
			if o.got != o.want {
				t.Errorf("of a time-out of %v, %s is %v, want %v", tc.timeout, o.name, o.got, o.want)
			}
		}
		pause, ok := client.OptValue(kgo.RetryBackoffFn).(func(int) time.Duration)
		if !ok {
			t.Fatalf("RetryBackoffFn is a %T", client.OptValue(kgo.RetryBackoffFn))
		}
		for tries, want := range map[int]int64{0: 1, 1: 2, 4: 16, 7: 128, 8: 250, 9: 250, 1000: 250} {
			if got := pause(tries); got.Milliseconds() != want || got%time.Millisecond != 0 {
				t.Errorf("after %d tries the pause is %v, want %d ms", tries, got, want)
			}
		}
	}
}

// lines keeps what is logged, by level.
type lines struct {
	slog.Handler
	at map[slog.Level][]string
}

func (l lines) Handle(_ context.Context, r slog.Record) error {
	l.at[r.Level] = append(l.at[r.Level], r.Message)
	return nil
}

// A warning of the client is one of ours, and so is an error, which the pipeline
// mends; the rest is for those who debug.
func TestALanesClientLogsAtOurLevels(t *testing.T) {
	l := lines{slog.NewTextHandler(&strings.Builder{}, &slog.HandlerOptions{Level: slog.LevelDebug}), map[slog.Level][]string{}}
	to := laneLogger{slog.New(l)}
	for level, msg := range map[kgo.LogLevel]string{
		kgo.LogLevelError: "error", kgo.LogLevelWarn: "warn", kgo.LogLevelInfo: "info", kgo.LogLevelDebug: "debug",
	} {
		to.Log(level, msg)
	}
	for level, want := range map[slog.Level][]string{
		slog.LevelWarn: {"kafka client: error", "kafka client: warn"}, slog.LevelDebug: {"kafka client: debug", "kafka client: info"},
		slog.LevelError: nil, slog.LevelInfo: nil,
	} {
		if got := slices.Sorted(slices.Values(l.at[level])); !slices.Equal(got, want) {
			t.Errorf("at level %v: %q, want %q", level, got, want)
		}
	}
	quiet := laneLogger{slog.New(slog.NewTextHandler(&strings.Builder{}, &slog.HandlerOptions{Level: slog.LevelInfo}))}
	if to.Level() != kgo.LogLevelInfo || quiet.Level() != kgo.LogLevelWarn {
		t.Errorf("the client formats from level %v on when debugging, else from %v", to.Level(), quiet.Level())
	}
}

// Pauses double up to the longest, and jitter takes at most a quarter away.
func TestBackoffDoublesWithJitter(t *testing.T) {
	for first := time.Duration(1); first < 20; first++ { // nothing is too short
		b := newBackoff(first, time.Second)
		if d := b.next(); d < first-first/4 || d > first {
			t.Errorf("a first pause of %v is %v", first, d)
		}
	}
	shortened := false
	for range 100 {
		const unit = 100 * time.Millisecond
		b := newBackoff(unit, 5*unit)
		for _, whole := range []time.Duration{unit, 2 * unit, 4 * unit, 5 * unit, 5 * unit} {
			d := b.next()
			if d < whole*3/4 || d > whole {
				t.Fatalf("a pause of %v is %v", whole, d)
			}
			shortened = shortened || d < whole*9/10
		}
	}
	if !shortened {
		t.Error("there is no jitter")
	}
}

// A lane that has nothing to do sleeps until there is something.
func TestALaneWithoutWorkSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := New(required())
		if err != nil {
			t.Fatal(err)
		}
		s := newSession(t.Context(), p, nil, nil)
		kinds := make(chan work)
		go func() { kinds <- s.await(true) }()
		synctest.Wait() // returns when await blocks
		inc := p.cfg.Fence.Open(0)
		src := &Source{Topic: "in"}
		p.Submit(&Result{Inc: inc, Source: src, Offset: 0})
		began := time.Now()
		if kind := <-kinds; kind != offsetsAlone || time.Since(began) != p.cfg.SilentAfter {
			t.Errorf("after %v there is work of kind %d, want silent offsets after %v", time.Since(began), kind, p.cfg.SilentAfter)
		}
		p.gathered.takeAll()
		go func() { kinds <- s.await(true) }()
		synctest.Wait()
		close(s.broken)
		if kind := <-kinds; kind != nothing {
			t.Errorf("in a session that is over there is work of kind %d", kind)
		}
	})
}
