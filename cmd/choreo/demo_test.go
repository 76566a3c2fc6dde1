package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/choreography-go/choreography/cmd/choreo/internal/load"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// stand is services that run already, on a broker of their own.
func stand(t *testing.T, spoil func(int, []*kgo.Record) []*kgo.Record, before func(http.ResponseWriter) bool) (args []string) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	k, err := newShopkeeper(cluster.ListenAddrs()[0], "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.client.Close)
	k.spoil = spoil
	if err := k.makeTopics(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, s := range services {
		if err := k.commit(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if before == nil || before(w) {
			k.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return []string{"demo", "--order-url=" + server.URL, "--brokers=" + cluster.ListenAddrs()[0]}
}

// verdict runs the tool and returns its exit code and output.
func verdict(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	t.Setenv("TMPDIR", t.TempDir())
	code = run(t.Context(), args, &o, &e)
	return code, o.String(), e.String()
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSuffix(s, "\n"), "\n")
	return lines[len(lines)-1]
}

// of spoils what is said of one order.
func of(order int, f func([]*kgo.Record) []*kgo.Record) func(int, []*kgo.Record) []*kgo.Record {
	return func(n int, events []*kgo.Record) []*kgo.Record {
		if n == order {
			return f(events)
		}
		return events
	}
}

func TestDemoTellsTheVerdict(t *testing.T) {
	var attempts atomic.Int32
	cases := []struct {
		name   string
		args   []string
		spoil  func(int, []*kgo.Record) []*kgo.Record
		before func(http.ResponseWriter) bool
		code   int
		last   string
		says   []string
	}{
		{
			name: "all is well", args: []string{"--orders=20"},
			last: "demo: 20 orders, 10 confirmed, 4 declined, 4 refunded, 2 out of stock, 0 unfinished, 0 wrong",
			says: []string{"\nconfirmed, flow ", "\ndeclined, flow ", "\nrefunded, flow ", "\nout of stock, flow ", "   └─ shipment.failed.v1", "20 orders in ", "POST to outcome: p50 "},
		},
		{
			name: "in an open loop", args: []string{"--rate=200", "--duration=100ms"},
			last: "demo: 20 orders, 10 confirmed, 4 declined, 4 refunded, 2 out of stock, 0 unfinished, 0 wrong",
		},
		{
			name: "in a burst", args: []string{"--burst=40"},
			last: "demo: 40 orders, 20 confirmed, 8 declined, 8 refunded, 4 out of stock, 0 unfinished, 0 wrong",
		},
		{
			name: "the order service cannot, at first", args: []string{"--orders=10"},
			before: func(w http.ResponseWriter) bool {
				if attempts.Add(1) <= 5 {
					w.WriteHeader(http.StatusServiceUnavailable)
					return false
				}
				return true
			},
			last: "demo: 10 orders, 5 confirmed, 2 declined, 2 refunded, 1 out of stock, 0 unfinished, 0 wrong",
		},
		{
			name: "an outcome never comes", args: []string{"--orders=10", "--timeout=1s"},
			spoil: of(4, func(e []*kgo.Record) []*kgo.Record { return e[:len(e)-1] }),
			code:  exitFailed, last: "demo: 10 orders, 4 confirmed, 2 declined, 2 refunded, 1 out of stock, 1 unfinished, 0 wrong",
			says: []string{"-000004\", flow", "the last of 4 events is shipment.shipped.v1"},
		},
		{
			name: "goods are never put back", args: []string{"--orders=10", "--timeout=1s"},
			spoil: of(9, func(e []*kgo.Record) []*kgo.Record { return e[:len(e)-1] }),
			code:  exitFailed, last: "demo: 10 orders, 5 confirmed, 2 declined, 2 refunded, 0 out of stock, 1 unfinished, 0 wrong",
			says: []string{"-000009\", flow", "cancelled, and no stock.released.v1"},
		},
		{
			name: "an order is shipped twice", args: []string{"--orders=10"},
			spoil: of(4, func(e []*kgo.Record) []*kgo.Record {
				again := *e[3]
				again.Headers = append([]kgo.RecordHeader{}, again.Headers...)
				for i, h := range again.Headers {
					if h.Key == "ce_id" {
						again.Headers[i].Value = []byte("another")
					}
				}
				return append(e, &again)
			}),
			code: exitFailed, last: "demo: 10 orders, 4 confirmed, 2 declined, 2 refunded, 1 out of stock, 0 unfinished, 1 wrong",
			says: []string{"wrong: once: order ", "shipment.shipped.v1 is there 2 times"},
		},
		{
			name: "a second outcome after the last", args: []string{"--orders=1"},
			spoil: of(0, func(e []*kgo.Record) []*kgo.Record { return append(e, e[len(e)-1]) }),
			code:  exitFailed, last: "demo: 1 orders, 0 confirmed, 0 declined, 0 refunded, 0 out of stock, 0 unfinished, 1 wrong",
			says: []string{"wrong: one-outcome", "wrong: ids"},
		},
		{
			name: "orders are refused", args: []string{"--orders=3", "--timeout=1s"},
			before: func(w http.ResponseWriter) bool { w.WriteHeader(http.StatusUnprocessableEntity); return false },
			code:   exitFailed, last: "demo: 3 orders, 0 confirmed, 0 declined, 0 refunded, 0 out of stock, 3 unfinished, 0 wrong",
			says: []string{"not accepted: place order ", "answered 422", "it was not accepted"},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			attempts.Store(0)
			code, out, errs := verdict(t, append(stand(t, c.spoil, c.before), c.args...)...)
			if code != c.code || lastLine(out) != c.last {
				t.Errorf("exit code %d, last line %q; want %d, %q\n%s%s", code, lastLine(out), c.code, c.last, out, errs)
			}
			for _, s := range c.says {
				if !strings.Contains(out, s) {
					t.Errorf("does not say %q:\n%s", s, out)
				}
			}
			if strings.Contains(out+errs, "\x1b") || strings.Contains(out+errs, "\r") {
				t.Errorf("not plain text: %q", out+errs)
			}
		})
	}
}

func TestDemoJSON(t *testing.T) {
	code, out, errs := verdict(t, append(stand(t, nil, nil), "--orders=20", "--output=json")...)
	var r struct {
		Orders, Confirmed, Declined, Refunded, OutOfStock, Unfinished, Wrong int
		OrdersPerSecond                                                      float64
		LatencyMs                                                            struct{ P50, P99, Max float64 }
		Violations                                                           []any
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if code != exitOK || r.Orders != 20 || r.Confirmed != 10 || r.Declined != 4 || r.Refunded != 4 || r.OutOfStock != 2 || r.Wrong != 0 || r.Violations == nil ||
		r.OrdersPerSecond <= 0 || r.LatencyMs.P50 <= 0 || r.LatencyMs.P99 < r.LatencyMs.P50 || r.LatencyMs.Max < r.LatencyMs.P99 {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
}

// binaries makes this test program the services.
func binaries(t *testing.T, fault string) string {
	t.Helper()
	t.Setenv(fakeVariable, "1")
	t.Setenv("FAKE_FAULT", fault)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, s := range services {
		if err := os.Symlink(self, filepath.Join(dir, s)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestDemoStartsBrokerAndServices(t *testing.T) {
	bin := binaries(t, "")
	code, out, errs := verdict(t, "demo", "--orders=20", "--bin="+bin)
	if want := "demo: 20 orders, 10 confirmed, 4 declined, 4 refunded, 2 out of stock, 0 unfinished, 0 wrong"; code != exitOK || lastLine(out) != want {
		t.Errorf("exit code %d:\n%s%s", code, out, errs)
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "choreo-demo-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestDemoOfServicesThatDoNotRun(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1)) // without a topic
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	code, out, errs := verdict(t, "demo", "--order-url=http://127.0.0.1:1", "--brokers="+cluster.ListenAddrs()[0])
	if code != exitFailed || !strings.Contains(errs, "do Kafka and the services run?") || out != "" {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "choreo-demo-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestDemoSaysWhyItFails(t *testing.T) {
	for fault, want := range map[string][]string{
		"topics": {"make the topics", "no right to make topics"},
		"broker": {"broker ended by itself: exit status 2", "broker.log ends with:", "panic: disk on fire"},
		"crash":  {"order ended by itself: exit status 2", "order.log ends with:", "panic: out of luck"},
	} {
		t.Run(fault, func(t *testing.T) {
			bin := binaries(t, fault)
			code, out, errs := verdict(t, "demo", "--orders=5", "--bin="+bin)
			if code != exitFailed {
				t.Errorf("exit code %d", code)
			}
			for _, w := range want {
				if !strings.Contains(errs, w) {
					t.Errorf("does not say %q:\n%s%s", w, out, errs)
				}
			}
			if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "choreo-demo-*", "order.log")); len(left) != 1 {
				t.Errorf("the logs are gone: %v", left)
			}
		})
	}
}

func TestDemoIsInterrupted(t *testing.T) {
	bin := binaries(t, "never-ready")
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	said := &signalWriter{want: "embedded broker at", found: cancel}
	if code := run(ctx, []string{"demo", "--bin=" + bin}, &bytes.Buffer{}, said); code != exitFailed || !strings.Contains(said.String(), "interrupted") {
		t.Errorf("exit code %d: %s", code, said)
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "choreo-demo-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// signalWriter calls found when want was written.
type signalWriter struct {
	bytes.Buffer
	want  string
	found func()
}

func (w *signalWriter) Write(b []byte) (int, error) {
	n, err := w.Buffer.Write(b)
	if strings.Contains(w.String(), w.want) {
		w.found()
	}
	return n, err
}

func TestFleetSurvivesItsKiller(t *testing.T) {
	bin := binaries(t, "")
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	logs := t.TempDir()
	f, err := newFleet(t.Context(), bin, logs, cluster.ListenAddrs(), "p.", defaultPatience)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stopWithin(10*time.Second, f.stop); err != nil {
			t.Error(err)
		}
	}()
	if err := f.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if err := f.killing(ctx, 1); err != nil {
		t.Fatal(err)
	}
	total := 0
	for name, kills := range f.kills() {
		total += kills
		text, err := os.ReadFile(filepath.Join(logs, name+".log"))
		if err != nil {
			t.Error(err)
		}
		// A service that is killed at once may not have said anything.
		line := fmt.Sprintf("%s runs as %s-0\n", name, name)
		if n := strings.Count(string(text), line); n < 1 || n > kills+1 {
			t.Errorf("%s was killed %d times and started %d times:\n%s", name, kills, n, text)
		}
	}
	if total < 2 {
		t.Errorf("%d kills in 3 s", total)
	}
	for _, m := range f.members {
		if err := m.now.Poll(t.Context(), m.ready); err != nil {
			t.Errorf("%s after the kills: %v", m.spec.Name, err)
		}
	}
	select {
	case err := <-f.failed:
		t.Errorf("a kill was taken for a failure: %v", err)
	default:
	}
}

func TestSchedule(t *testing.T) {
	cases := []struct {
		name string
		d    demoCommand
		want load.Schedule
	}{
		{"default", demoCommand{AtOnce: 64}, load.Schedule{Orders: 200, AtOnce: 64}},
		{"orders", demoCommand{AtOnce: 3, Orders: 7}, load.Schedule{Orders: 7, AtOnce: 3}},
		{"rate", demoCommand{Rate: 250, Orders: 500}, load.Schedule{Orders: 500, Every: 4 * time.Millisecond, AtOnce: openLoopAtOnce}},
		{"rate for a time", demoCommand{Rate: 250, Duration: 20 * time.Second}, load.Schedule{Orders: 5000, Every: 4 * time.Millisecond, AtOnce: openLoopAtOnce}},
		{"burst", demoCommand{Burst: 1000}, load.Schedule{Orders: 1000, Every: 100 * time.Microsecond, AtOnce: openLoopAtOnce}},
		{"kill", demoCommand{Kill: true}, load.Schedule{Orders: 200, Every: 75 * time.Millisecond, AtOnce: openLoopAtOnce}},
		{"kill with many", demoCommand{Kill: true, Orders: 30_000}, load.Schedule{Orders: 30_000, Every: time.Second / 300, AtOnce: openLoopAtOnce}},
		{"kill at a rate", demoCommand{Kill: true, Orders: 50, Rate: 10}, load.Schedule{Orders: 50, Every: 100 * time.Millisecond, AtOnce: openLoopAtOnce}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := c.d.schedule(); got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	cases := []struct {
		args []string
		code int
		says []string
	}{
		{[]string{"--help"}, exitOK, []string{"broker", "demo"}},
		{[]string{"demo", "--help"}, exitOK, []string{"--orders", "--kill", "--order-url", "--patience"}},
		{nil, exitUsage, []string{"broker", "demo"}},
		{[]string{"dance"}, exitUsage, []string{"dance"}},
		{[]string{"demo", "--orders=many"}, exitUsage, []string{"--orders", "many"}},
		{[]string{"demo", "--output=xml"}, exitUsage, []string{"--output", "text"}},
		{
			[]string{"demo", "--orders=-1", "--rate=-2", "--burst=9999", "--at-once=0", "--timeout=1ms", "--prefix=a/b", "--patience=16m"},
			exitUsage,
			[]string{"--orders=-1", "--rate=-2", "--burst=9999", "--at-once=0", "--timeout=1ms", `--prefix="a/b"`, "--patience=16m0s"},
		},
		{[]string{"demo", "--duration=5s"}, exitUsage, []string{"needs --rate"}},
		{[]string{"demo", "--rate=5", "--duration=5s", "--orders=3"}, exitUsage, []string{"leave out --orders"}},
		{[]string{"demo", "--rate=50000", "--duration=1h"}, exitUsage, []string{"1000000"}},
		{[]string{"demo", "--patience=99ms"}, exitUsage, []string{"--patience=99ms", "from 100ms to 15m"}},
		{[]string{"demo", "--patience=31s"}, exitUsage, []string{"--patience=31s", "--timeout must be at least twice that"}},
		{[]string{"demo", "--patience=5s", "--brokers=b:1", "--order-url=http://o:1"}, exitUsage, []string{"--patience=5s", "--order-url"}},
		{[]string{"demo", "--rate=NaN"}, exitUsage, []string{"--rate=NaN"}},
		{[]string{"demo", "--burst=5", "--rate=5"}, exitUsage, []string{"--burst=5"}},
		{[]string{"demo", "--order-url=here", "--kill"}, exitUsage, []string{"http://127.0.0.1:8080", "needs --brokers", "--kill"}},
		{[]string{"demo", "--bin=/nowhere"}, exitFailed, []string{"/nowhere/order", "/nowhere/payment", "/nowhere/inventory", "/nowhere/shipping", "make build"}},
		{[]string{"broker"}, exitUsage, []string{"--dir"}},
		{[]string{"broker", "--dir=/nowhere", "--addr=0.0.0.0:9092"}, exitUsage, []string{"loopback"}},
		{[]string{"broker", "--dir=/dev/null/x"}, exitFailed, []string{"/dev/null"}},
	}
	for _, c := range cases {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			code, out, errs := verdict(t, c.args...)
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for _, s := range c.says {
				if !strings.Contains(out+errs, s) {
					t.Errorf("does not say %q:\n%s%s", s, out, errs)
				}
			}
			if c.code != exitOK && out != "" {
				t.Errorf("an error on standard output: %s", out)
			}
		})
	}
}

func TestBrokerKeepsItsData(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	serve := func(use func(addr string)) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		said, done := newLine(), make(chan int)
		go func() { done <- run(ctx, []string{"broker", "--dir=" + dir}, said, said) }()
		line := <-said.lines
		found := regexp.MustCompile(`^KAFKA_BROKERS=(127\.0\.0\.1:\d+)\n$`).FindStringSubmatch(line)
		if found == nil {
			t.Fatalf("said %q", line)
		}
		use(found[1])
		cancel()
		if code := <-done; code != exitOK {
			t.Errorf("exit code %d", code)
		}
	}
	client := func(addr string, opts ...kgo.Opt) *kgo.Client {
		c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(addr), kgo.AllowAutoTopicCreation())...)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	serve(func(addr string) {
		k, err := newShopkeeper(addr, "")
		if err != nil {
			t.Fatal(err)
		}
		defer k.client.Close()
		if err := k.makeTopics(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := k.client.ProduceSync(t.Context(), &kgo.Record{Topic: "orders", Value: []byte("kept")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		// A second broker with the same data would spoil it.
		var errs bytes.Buffer
		if code := run(t.Context(), []string{"broker", "--dir=" + dir}, &errs, &errs); code != exitFailed || !strings.Contains(errs.String(), "another broker") {
			t.Errorf("exit code %d: %s", code, &errs)
		}
	})
	serve(func(addr string) {
		c := client(addr, kgo.ConsumeTopics("orders"))
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		r := c.PollFetches(ctx).Records()
		if len(r) != 1 || string(r[0].Value) != "kept" {
			t.Errorf("%v", r)
		}
	})
}

// line hands on each write.
type line struct{ lines chan string }

func newLine() line { return line{make(chan string, 16)} }

func (l line) Write(b []byte) (int, error) {
	l.lines <- string(b)
	return len(b), nil
}
