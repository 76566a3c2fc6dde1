package integration

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// process is a service that runs as a process of its own.
type process struct {
	t        *testing.T
	service  string
	instance string
	admin    string // address
	http     string // address
	logs     string // file
	started  time.Time
	cmd      *exec.Cmd
	exited   chan struct{} // closed when it has ended
	err      error         // of Wait; read after exited
}

// start runs a service under an instance id. A process with the same id may
// have run before, not meanwhile.
func (w *world) start(service, instance string, env ...string) *process {
	w.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	p := &process{
		t: w.t, service: service, instance: instance, exited: make(chan struct{}),
		admin: w.address("admin", service, instance), http: w.address("http", service, instance),
		logs: filepath.Join(w.dir, service+"-"+instance+".log"),
	}
	out, err := os.OpenFile(p.logs, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		w.t.Fatal(err)
	}
	defer out.Close()
	p.cmd = exec.Command(exe)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Env = append(append(os.Environ(),
		childVariable+"="+service,
		"KAFKA_BROKERS="+strings.Join(w.cluster.brokers, ","),
		"TOPIC_PREFIX="+w.prefix,
		"INSTANCE_ID="+instance,
		"ADMIN_ADDR="+p.admin,
		"SESSION_TIMEOUT="+w.session.String(),
		"LOG_FORMAT=json",
		"INTEGRATION_NOTES="+w.notes,
		"INTEGRATION_HTTP="+p.http,
	), env...)
	p.started = time.Now()
	if err := p.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	w.mu.Lock()
	w.processes = append(w.processes, p)
	w.mu.Unlock()
	return p
}

// address is the same for every process with the instance id.
func (w *world) address(kind, service, instance string) string {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	key := kind + "/" + service + "/" + instance
	if w.addresses[key] == "" {
		p, err := freePort()
		if err != nil {
			w.t.Fatal(err)
		}
		w.addresses[key] = fmt.Sprintf("127.0.0.1:%d", p)
	}
	return w.addresses[key]
}

func (p *process) String() string { return p.service + "/" + p.instance }

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("signal %v to %v: %v", s, p, err)
	}
}

// kill ends the process by SIGKILL, and returns when it is gone.
func (p *process) kill() {
	p.t.Helper()
	if p.ended() {
		p.t.Fatalf("%v ended by itself: %v", p, p.err)
	}
	p.signal(syscall.SIGKILL)
	<-p.exited
}

// terminate ends the process by SIGTERM and returns how long it took. It must
// exit with 0.
func (p *process) terminate(within time.Duration) time.Duration {
	p.t.Helper()
	began := time.Now()
	p.signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(within):
		p.t.Fatalf("%v has not ended %v after SIGTERM", p, within)
	}
	if p.err != nil {
		p.t.Fatalf("%v after SIGTERM: %v", p, p.err)
	}
	return time.Since(began)
}

func (p *process) ended() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// get asks the admin address.
func (p *process) get(path string) (status int, body []byte, err error) {
	return get("http://" + p.admin + path)
}

var quickly = &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func get(url string) (status int, body []byte, err error) {
	resp, err := quickly.Get(url)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// readiness is what /readyz says; ok is false if nobody answers.
func (p *process) readiness() (ready bool, reasons []string, ok bool) {
	status, body, err := p.get("/readyz")
	if err != nil {
		return false, nil, false
	}
	var answer struct {
		Ready   bool     `json:"ready"`
		Reasons []string `json:"reasons"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return false, []string{string(body)}, true
	}
	return answer.Ready && status == http.StatusOK, answer.Reasons, true
}

// awaitReady returns when the process says that it is ready.
func (p *process) awaitReady(within time.Duration) {
	p.t.Helper()
	var last []string
	p.await(within, "ready", func() bool {
		ready, reasons, ok := p.readiness()
		if ok {
			last = reasons
		}
		return ready
	}, func() string { return strings.Join(last, "; ") })
}

// awaitReason returns when readiness is refused for a reason that contains all
// the texts.
func (p *process) awaitReason(within time.Duration, texts ...string) string {
	p.t.Helper()
	var found string
	var last []string
	p.await(within, fmt.Sprintf("not ready because of %q", texts), func() bool {
		_, reasons, ok := p.readiness()
		if !ok {
			return false
		}
		last = reasons
		for _, r := range reasons {
			if !slices.ContainsFunc(texts, func(s string) bool { return !strings.Contains(r, s) }) {
				found = r
				return true
			}
		}
		return false
	}, func() string { return strings.Join(last, "; ") })
	return found
}

func (p *process) await(within time.Duration, what string, ok func() bool, last func() string) {
	p.t.Helper()
	until := time.Now().Add(within)
	for !ok() {
		if p.ended() {
			p.t.Fatalf("%v ended (%v) before it was %s", p, p.err, what)
		}
		if time.Now().After(until) {
			p.t.Fatalf("%v is not %s after %v; last: %s", p, what, within, last())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// metric sums the series of a name, those that contain all the label texts.
func (p *process) metric(name string, labels ...string) float64 {
	p.t.Helper()
	v, err := p.readMetric(name, labels...)
	if err != nil {
		p.t.Fatalf("metric %s of %v: %v", name, p, err)
	}
	return v
}

// errNoSeries says that a metric has no value, or none with such labels.
var errNoSeries = errors.New("no such series")

func (p *process) readMetric(name string, labels ...string) (float64, error) {
	status, body, err := p.get("/metrics")
	if err != nil {
		return 0, err
	}
	if status != http.StatusOK {
		return 0, fmt.Errorf("status %d: %s", status, body)
	}
	sum, found := 0.0, false
	for line := range strings.Lines(string(body)) {
		series, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		full, _, _ := strings.Cut(series, "{")
		if !ok || full != name || slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(series, l) }) {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, err
		}
		sum, found = sum+v, true
	}
	if !found {
		return 0, errNoSeries
	}
	return sum, nil
}

// tally asks the process for the state of a flow.
func (p *process) tally(flow string) (tally, error) {
	var v tally
	status, body, err := get("http://" + p.http + "/tally/" + flow)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d: %s", status, body)
	}
	if err == nil {
		err = json.Unmarshal(body, &v)
	}
	return v, err
}

// logLine is one line of a process' log.
type logLine struct {
	Time    time.Time `json:"time"`
	Level   string    `json:"level"`
	Message string    `json:"msg"`
	Task    int       `json:"task"`
	Restore string    `json:"restore"`         // a duration
	Journal float64   `json:"journal_records"` // records restored
	raw     string
}

// log reads the lines since a time. Those that are no JSON have only raw.
func (p *process) log(since time.Time) []logLine {
	p.t.Helper()
	b, err := os.ReadFile(p.logs)
	if err != nil {
		p.t.Fatal(err)
	}
	var all []logLine
	s := bufio.NewScanner(bytes.NewReader(b))
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		l := logLine{raw: s.Text()}
		_ = json.Unmarshal(s.Bytes(), &l) // a stack trace, or the like
		if l.Time.IsZero() || !l.Time.Before(since) {
			all = append(all, l)
		}
	}
	return all
}

// showTrouble copies warnings and errors of all processes to the test's log.
// Whole logs, with the goroutines of the processes that still run, are kept
// under the test's artifacts: go test -artifacts.
func (w *world) showTrouble() {
	const most = 60
	seen := map[string]bool{}
	for _, p := range w.processes {
		if seen[p.logs] {
			continue
		}
		seen[p.logs] = true
		var lines []string
		for _, l := range p.log(time.Time{}) {
			if l.Level != "INFO" && l.Level != "DEBUG" {
				lines = append(lines, l.raw)
			}
		}
		if n := len(lines); n > most {
			lines = append(lines[:most/2:most/2], append([]string{fmt.Sprintf("... %d lines left out ...", n-most)}, lines[n-most/2:]...)...)
		}
		w.t.Logf("log of %v, without info:\n%s", p, strings.Join(lines, "\n"))
	}
	for _, p := range w.processes {
		if !p.ended() {
			_ = p.cmd.Process.Signal(syscall.SIGCONT)
			_ = p.cmd.Process.Signal(syscall.SIGQUIT) // Go's runtime prints all goroutines
			<-p.exited
		}
	}
}

// stopAll ends what still runs.
func (w *world) stopAll() {
	for _, p := range w.processes {
		if !p.ended() {
			_ = p.cmd.Process.Signal(syscall.SIGKILL)
			_ = p.cmd.Process.Signal(syscall.SIGCONT)
			<-p.exited
		}
	}
}

// within polls until ok, or fails.
func within(t *testing.T, d time.Duration, what string, ok func() bool) {
	t.Helper()
	until := time.Now().Add(d)
	for !ok() {
		if time.Now().After(until) {
			t.Fatalf("not within %v: %s", d, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func timeout(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}
