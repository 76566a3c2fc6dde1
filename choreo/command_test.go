package choreo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo/contract"
	"go.opentelemetry.io/otel/trace/noop"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("not as in %s (-update writes it):\n%s", path, got)
	}
}

func command(t *testing.T, s *Service, environ []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = mainWith(sampleContext(t), s, args, environ, &out, &errs)
	return code, out.String(), errs.String()
}

func TestCommandsExitCodesAndLines(t *testing.T) {
	broken := NewService("broken", Reaction[sampleOrder]{Name: "Bad Name"}, Tasks(-1))
	for _, c := range []struct {
		name    string
		service *Service
		environ []string
		args    []string
		code    int
		stderr  []string // the beginnings of its lines, sorted
	}{
		{"unknown command", nil, nil, []string{"start"}, 2, []string{`sample: unknown command "start"; see sample --help`}},
		{"unknown flag", nil, nil, []string{"topics", "--force"}, 2, []string{"sample: topics: flag provided but not defined: -force; see"}},
		{"too much", nil, nil, []string{"run", "now"}, 2, []string{`sample: run: unexpected argument "now"`}},
		{"from alone", nil, nil, []string{"topics", "--from", "latest"}, 2, []string{"sample: topics: --from needs --reset"}},
		{"reset alone", nil, nil, []string{"topics", "--reset", "orders"}, 2, []string{"sample: topics: --reset needs --from earliest"}},
		{"reset from anywhere", nil, nil, []string{"topics", "--reset", "orders", "--from", "5"}, 2, []string{`sample: topics: --reset needs --from earliest or --from latest, not "5"`}},
		{"apply and reset", nil, nil, []string{"topics", "--apply", "--reset", "o", "--from", "latest"}, 2, []string{"sample: topics: --apply and --reset are two"}},
		{"output", nil, nil, []string{"contract", "--output", "xml"}, 2, []string{`sample: contract: --output is "xml"`}},
		{"no configuration", nil, []string{"LANES=x"}, nil, 2, []string{"sample: KAFKA_BROKERS: is missing", `sample: LANES="x": is not a number`}},
		{"no configuration of topics", nil, []string{"LANES=x"}, []string{"topics"}, 2, []string{"sample: KAFKA_BROKERS: is missing", `sample: LANES="x": is not a number`}},
		{"declarations and configuration", broken, []string{"LANES=x"}, []string{"run"}, 2, []string{
			"broken: KAFKA_BROKERS: is missing", `broken: LANES="x": is not a number`, "broken: Tasks is -1",
			`broken: reaction "Bad Name": Do is missing`, `broken: reaction "Bad Name": Name: use`, `broken: reaction "Bad Name": On is missing`,
		}},
		{"declarations of a contract", broken, nil, []string{"contract"}, 2, []string{
			"broken: Tasks is -1",
			`broken: reaction "Bad Name": Do is missing`, `broken: reaction "Bad Name": Name: use`, `broken: reaction "Bad Name": On is missing`,
		}},
		{"help", nil, nil, []string{"--help"}, 0, nil},
		{"help of a command", nil, nil, []string{"topics", "--help"}, 0, nil},
		{"version", nil, nil, []string{"version"}, 0, nil},
		{"contract needs no broker", nil, nil, []string{"contract"}, 0, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := c.service
			if s == nil {
				s = sampleService()
			}
			code, stdout, stderr := command(t, s, append(c.environ, "INSTANCE_ID=i"), c.args...)
			lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
			if stderr == "" {
				lines = nil
			}
			slices.Sort(lines)
			ok := code == c.code && len(lines) == len(c.stderr) && (stdout != "") == (c.code == 0)
			for i := range min(len(lines), len(c.stderr)) {
				ok = ok && strings.HasPrefix(lines[i], c.stderr[i])
			}
			if !ok {
				t.Errorf("exit %d, stdout %q, stderr\n%s\nwant exit %d and\n%s", code, stdout, strings.Join(lines, "\n"), c.code, strings.Join(c.stderr, "\n"))
			}
		})
	}
}

func TestHelpNamesEveryCommandAndVariable(t *testing.T) {
	_, out, _ := command(t, sampleService(), nil, "--help")
	golden(t, "help.txt", []byte(out))
	for f := range reflect.TypeFor[environment]().Fields() {
		if f.Tag.Get("help") == "" || !strings.Contains(out, "  "+f.Tag.Get("env")+" ") {
			t.Errorf("%s is not in the help", f.Name)
		}
		if kind := f.Type.Kind(); kind != reflect.String && kind != reflect.Slice && f.Tag.Get("allowed") == "" {
			t.Errorf("%s: nothing says what is allowed", f.Name)
		}
	}
}

func TestContractCommand(t *testing.T) {
	_, out, _ := command(t, sampleService(), nil, "contract", "--output", "json")
	golden(t, "contract.json", []byte(out))
	var read contract.Contract
	if err := json.Unmarshal([]byte(out), &read); err != nil {
		t.Fatal(err)
	}
	made, err := sampleService().Contract()
	if err != nil {
		t.Fatal(err)
	}
	var again, first any // the order of properties is for people
	b, err := encodeContract(read)
	if err = errors.Join(err, json.Unmarshal(b, &again), json.Unmarshal([]byte(out), &first)); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(first, again) || len(read.Hears) != len(made.Hears) || len(read.Says) != len(made.Says) {
		t.Errorf("read and written again it is\n%s", b)
	}
	_, out, _ = command(t, sampleService(), nil, "contract")
	golden(t, "contract.txt", []byte(out))
}

func TestTopicsCommand(t *testing.T) {
	cfg, _ := sampleBroker(t)
	environ := []string{"KAFKA_BROKERS=" + cfg.Brokers[0], "INSTANCE_ID=i", "TOPIC_PREFIX=it."}
	code, _, stderr := command(t, sampleService(), environ, "topics")
	if code != 1 || strings.Count(stderr, "\n") != 7 || strings.Count(stderr, "does not exist: run `sample topics --apply`") != 7 {
		t.Errorf("before: exit %d\n%s", code, stderr)
	}
	code, stdout, stderr := command(t, sampleService(), environ, "topics", "--apply")
	if code != 0 || stderr != "" || strings.Count(stdout, " created with ") != 7 {
		t.Errorf("apply: exit %d\n%s%s", code, stdout, stderr)
	}
	if code, stdout, stderr = command(t, sampleService(), environ, "topics"); code != 0 || strings.Count(stdout, "is as it should be") != 7 {
		t.Errorf("after: exit %d\n%s%s", code, stdout, stderr)
	}
	code, stdout, stderr = command(t, sampleService(), environ, "topics", "--reset", "orders", "--from", "earliest")
	if code != 0 || strings.Count(stdout, "the service goes on at offset 0") != 4 {
		t.Errorf("reset: exit %d\n%s%s", code, stdout, stderr)
	}
	code, _, stderr = command(t, sampleService(), environ, "topics", "--reset", "other", "--from", "earliest")
	if code != 2 || !strings.Contains(stderr, `--reset "other": the service does not read this topic`) {
		t.Errorf("reset of another topic: exit %d\n%s", code, stderr)
	}
}

func TestRunCommand(t *testing.T) {
	cfg, _ := sampleBroker(t)
	environ := []string{"KAFKA_BROKERS=" + cfg.Brokers[0], "INSTANCE_ID=i", "ADMIN_ADDR=off", "KAFKA_SASL_USER=x"}
	var order []string
	setup := func(name string) Setup {
		return func(_ context.Context, c *Config) (func(context.Context) error, error) {
			order = append(order, name)
			c.TracerProvider = noop.NewTracerProvider()
			return func(context.Context) error { order = append(order, "stop "+name); return nil }, nil
		}
	}
	run := func(ctx context.Context, setups ...Setup) (int, string) {
		var out, errs bytes.Buffer
		order = nil
		return mainWith(ctx, sampleService(), nil, environ, &out, &errs, setups...), errs.String()
	}

	code, stderr := run(sampleContext(t), setup("a"), setup("b"))
	if code != 1 || strings.Count(stderr, "sample: topic ") != 7 || !slices.Equal(order, []string{"a", "b", "stop b", "stop a"}) {
		t.Errorf("without topics: exit %d, %v\n%s", code, order, stderr)
	}
	if !strings.Contains(stderr, "KAFKA_SASL_USER is set, and nothing reads it") {
		t.Errorf("no warning of a misspelt variable:\n%s", stderr)
	}
	code, stderr = run(sampleContext(t), setup("a"), func(context.Context, *Config) (func(context.Context) error, error) {
		return nil, errors.New("no exporter")
	})
	if code != 1 || !strings.Contains(stderr, "sample: set up: no exporter") || !slices.Equal(order, []string{"a", "stop a"}) {
		t.Errorf("a setup that fails: exit %d, %v\n%s", code, order, stderr)
	}

	if code, _, stderr := command(t, sampleService(), environ, "topics", "--apply"); code != 0 {
		t.Fatal(stderr)
	}
	ctx, stop := context.WithCancel(sampleContext(t))
	svc := sampleService()
	codes := make(chan int, 1)
	var out, errs bytes.Buffer
	go func() { codes <- mainWith(ctx, svc, nil, environ, &out, &errs) }()
	for svc.Ready() != nil && ctx.Err() == nil {
		time.Sleep(time.Millisecond) // polls a condition, until the context's deadline
	}
	stop()
	if code := <-codes; code != 0 {
		t.Errorf("after a graceful stop: exit %d\n%s", code, errs.String())
	}
}

// TestMainAsAProcess is, when started by TestSignals, the program itself.
func TestMainAsAProcess(t *testing.T) {
	if os.Getenv("CHOREO_TEST_PROCESS") == "" {
		return // nothing to test: it is the other side of TestSignals
	}
	os.Args = []string{"sample"}
	Main(sampleService(), func(context.Context, *Config) (func(context.Context) error, error) {
		_, _ = os.Stdout.WriteString("started\n")
		return func(ctx context.Context) error {
			if os.Getenv("CHOREO_TEST_PROCESS") == "hang" {
				_, _ = os.Stdout.WriteString("stopping\n")
				<-ctx.Done()
			}
			return nil
		}, nil
	})
}

func TestSignals(t *testing.T) {
	for _, c := range []struct {
		mode string
		code int
	}{{"stop", 0}, {"hang", 1}} {
		p := exec.CommandContext(sampleContext(t), os.Args[0], "-test.run=^TestMainAsAProcess$")
		p.Env = append(os.Environ(), "CHOREO_TEST_PROCESS="+c.mode, "KAFKA_BROKERS=127.0.0.1:1", "INSTANCE_ID=i", "ADMIN_ADDR=off", "STOP_TIMEOUT=10s")
		stdout, err := p.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		await := func(want string) {
			b := make([]byte, len(want))
			if _, err := stdout.Read(b); err != nil || string(b) != want {
				t.Fatalf("%s: it says %q, %v", c.mode, b, err)
			}
		}
		await("started\n")
		began := time.Now()
		_ = p.Process.Signal(syscall.SIGTERM)
		if c.mode == "hang" {
			await("stopping\n")
			_ = p.Process.Signal(os.Interrupt)
		}
		_ = p.Wait()
		if code := p.ProcessState.ExitCode(); code != c.code || time.Since(began) > setupStopTimeout-time.Second {
			t.Errorf("%s: exit code %d after %v, want %d", c.mode, code, time.Since(began), c.code)
		}
	}
}
