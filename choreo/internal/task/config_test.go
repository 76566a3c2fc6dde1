package task

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// smallest is as little as a configuration may say.
func smallest() Config {
	return Config{Group: "pay", Inbox: "inbox", Journal: "journal", TransactionalPrefix: "pay/", OwnPrefix: "pay/a/", Engine: &claiming{}}
}

func TestDefaults(t *testing.T) {
	c := smallest()
	if err := c.normalize(); err != nil {
		t.Fatal(err)
	}
	if c.Command != "pay" || c.TransactionTimeout != 10*time.Second || c.SessionTimeout != 10*time.Second || c.Heartbeat != time.Second ||
		c.RebalanceTimeout != 30*time.Second || c.Patience != time.Second || c.WatchInterval != 30*time.Second ||
		c.RecommitAfter != 24*time.Hour || c.Restores != 4 || c.PollRecords != 20_000 || c.Logger == nil {
		t.Errorf("%+v", c)
	}
	c = smallest()
	c.SessionTimeout = time.Minute
	if err := c.normalize(); err != nil || c.Heartbeat != 3*time.Second {
		t.Errorf("a heartbeat every %v, %v", c.Heartbeat, err)
	}
}

// Brokers are away after more than half a session, or two heartbeats.
func TestQuietIsLongerThanTheHeartbeats(t *testing.T) {
	for heartbeat, want := range map[time.Duration]time.Duration{time.Second: 6 * time.Second, 4 * time.Second: 8 * time.Second} {
		c := smallest()
		c.SessionTimeout, c.Heartbeat = 10*time.Second, heartbeat
		o, err := New(c)
		if err != nil || o.contact.quiet != want {
			t.Errorf("a heartbeat every %v: %v, %v; want %v", heartbeat, o.contact.quiet, err, want)
		}
	}
}

// Every mistake is told at once, with the setting.
func TestConfigurationsThatCannotWork(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"":                          func(c *Config) { c.Heartbeat, c.SessionTimeout = time.Second, time.Second+1 },
		"Heartbeat 1s must be":      func(c *Config) { c.Heartbeat, c.SessionTimeout = time.Second, time.Second },
		"Group is empty":            func(c *Config) { c.Group = "" },
		"OwnPrefix \"pay/\" must":   func(c *Config) { c.OwnPrefix = "pay/" },
		"OwnPrefix \"a/\" must":     func(c *Config) { c.OwnPrefix = "a/" },
		"Engine is nil":             func(c *Config) { c.Engine = nil },
		"are both topic \"inbox\"":  func(c *Config) { c.Journal = "inbox" },
		"an input has no topic":     func(c *Config) { c.Inputs = []Input{{}} },
		"\"orders\" is named twice": func(c *Config) { c.Inputs = []Input{{Topic: "orders"}, {Topic: "orders"}} },
		"\"inbox\" is named twice":  func(c *Config) { c.Inputs = []Input{{Topic: "inbox"}} },
	} {
		c := smallest()
		change(&c)
		_, err := New(c)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	_, err := New(Config{})
	if n := len(err.(interface{ Unwrap() []error }).Unwrap()); n != 7 {
		t.Errorf("%d mistakes are told of, want 7: %v", n, err)
	}
	if errors.Unwrap(err) != nil {
		t.Error("one hides the others")
	}
}
