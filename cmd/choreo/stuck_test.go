package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
	"github.com/choreography-go/choreography/choreo/operator"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var (
	cardLost   = choreo.Event[card]{Type: "shop.card.lost.v1", Topic: "cards"}
	cardRepaid = choreo.Event[charged]{Type: "shop.card.repaid.v1", Topic: "charges"}
	cardLate   = choreo.Event[charged]{Type: "shop.card.late.v1", Topic: "charges"}
)

// bank is a service whose provider is away until it is mended: nothing of what it
// tries works, and it seldom tries.
func bank(mended *atomic.Bool) *choreo.Service {
	away := func(c card) (charged, error) {
		if !mended.Load() {
			return charged{}, fmt.Errorf("no provider for card %q", c.Number)
		}
		return charged{c.Holder}, nil
	}
	seldom := choreo.Retry{Attempts: 100, InPlace: 1, First: 1000 * time.Hour, Max: 1000 * time.Hour, Over: 24 * time.Hour}
	return choreo.NewService("till", choreo.Tasks(2), choreo.Step[card, charged]{
		Name: "charge", On: cardGiven, Emit: cardCharged, Retry: seldom,
		Do: func(_ context.Context, c card) (charged, error) {
			if c.Holder == "rich" {
				return charged{c.Holder}, nil
			}
			return away(c)
		},
		Compensate: choreo.Undo(func(_ context.Context, c card, _ charged) (charged, error) { return away(c) }, cardRepaid, cardLost),
	}, choreo.Deadline[card, charged]{
		Name: "in-time", After: cardGiven, Within: choreo.Per(func(c card) time.Duration {
			if c.Holder == "late" {
				return time.Millisecond
			}
			return time.Hour
		}), Unless: choreo.Events{cardRepaid}, Emit: cardLate, Retry: seldom,
		Do: func(_ context.Context, c card) (charged, error) { return away(c) },
	})
}

// stuckTool runs choreo stuck.
func stuckTool(t *testing.T, want int, args ...string) string {
	t.Helper()
	code, out, errs := verdict(t, append([]string{"stuck"}, args...)...)
	if code != want {
		t.Fatalf("choreo stuck %s ended with %d, want %d:\n%s%s", strings.Join(args, " "), code, want, out, errs)
	}
	return out + errs
}

type listSaid struct {
	Journal                    string
	Items                      []shownItem
	Stuck, Waiting, Unreadable int
}

type answersSaid struct {
	DryRun   bool
	Answers  []shownAnswer
	Outcomes map[operator.Outcome]int
	Error    string
}

func TestWhatIsStuckIsListedRetriedSkippedAndResolved(t *testing.T) {
	var mended atomic.Bool
	s := choreotest.Start(t, bank(&mended), choreotest.With(func(c *choreo.Config) { c.Logger = slog.New(slog.DiscardHandler) }))
	t.Setenv("KAFKA_BROKERS", strings.Join(s.Brokers(), ","))
	if text := stuckTool(t, 0, "ls", "--service=till"); text != "till.journal: 0 stuck, 0 events wait behind them\n" {
		t.Errorf("ls says\n%s", text)
	}
	for _, f := range []string{"f1", "f2", "f3"} {
		s.Publish(f, cardGiven.New(card{"4111 " + f, f}))
		s.ExpectStuck(f, "charge")
	}
	s.Publish("f1", cardGiven.New(card{"4112", "f1"}))
	s.Publish("f4", cardGiven.New(card{"4111 f4", "rich"}))
	s.Expect("f4", cardCharged.New(charged{"rich"}))
	s.Publish("f4", cardLost.New(card{"4111 f4", "rich"}))
	s.ExpectStuck("f4", "charge")
	s.Publish("f5", cardGiven.New(card{"4111 f5", "late"}))
	s.ExpectStuck("f5", "in-time")
	for began := time.Now(); ; { // a deadline shows when it is some seconds late
		list := decoded[listSaid](t, stuckTool(t, 0, "ls", "--service=till", "--output=json"))
		if list.Stuck == 6 && list.Waiting == 1 {
			break
		}
		if time.Since(began) > 20*time.Second {
			t.Fatalf("stuck are %+v", list)
		}
		time.Sleep(100 * time.Millisecond)
	}
	list := decoded[listSaid](t, stuckTool(t, 0, "ls", "--service=till", "--output=json"))
	by := map[string]shownItem{}
	for _, i := range list.Items {
		by[i.Flow+" "+string(i.Kind)] = i
	}
	first := by["f1 step"]
	if first.Step != "charge" || first.Attempts != 1 || first.Error != `no provider for card "4111 f1"` || first.Waiting != 1 || first.Type != cardGiven.Type ||
		first.Age <= 0 || first.Next == nil || by["f4 undo"].Type != cardLost.Type || by["f5 deadline"].Step != "in-time" || list.Items[0] != first && list.Items[0].Item != first.Item {
		t.Fatalf("stuck are %+v", list)
	}
	text := stuckTool(t, 0, "ls", "--service=till", "--limit=2")
	for _, want := range []string{"ITEM ", first.Item + "  step  charge  f1 ", "and 4 more; see --limit", "till.journal: 6 stuck, 1 events wait behind them"} {
		if !strings.Contains(text, want) {
			t.Errorf("ls does not say %q:\n%s", want, text)
		}
	}
	if some := decoded[listSaid](t, stuckTool(t, 0, "ls", "--service=till", "--output=json", "--kind=undo", "--kind=deadline")); some.Stuck != 2 {
		t.Errorf("of two kinds there are %+v", some)
	}

	// what would be done, and is not
	if text := stuckTool(t, 0, "skip", "--service=till", "--reason=x", "--dry-run", "--step=charge", "--kind=step"); !strings.Contains(text, "would skip flow f1 at charge (step, "+first.Item+")") || lastLine(text) != "4 dry-run" {
		t.Errorf("a dry run says\n%s", text)
	}
	if len(s.Audits()) > 0 {
		t.Errorf("a dry run was audited: %+v", s.Audits())
	}

	// the journal has neither attempts nor errors of deadlines; a retry tells the error
	late := by["f5 deadline"].Item
	row := strings.Fields(strings.Split(stuckTool(t, 0, "ls", "--service=till", "--kind=deadline"), "\n")[1])
	if len(row) != 9 || strings.Join(slices.Delete(row, 4, 5), " ") != late+" deadline in-time f5 - - 0 -" {
		t.Errorf("of a deadline ls shows %q", row)
	}
	if text := stuckTool(t, 1, "retry", "--service=till", "--reason=x", late); !strings.Contains(text, `failed: retry flow f5 at in-time (deadline, `+late+`): no provider for card "4111 f5"`) {
		t.Errorf("retry of a deadline says\n%s", text)
	}

	// by item, by flow, by step and kind
	text = stuckTool(t, 1, "retry", "--service=till", "--reason=the provider says it is back", "--by=ann", first.Item)
	if !strings.Contains(text, `failed: retry flow f1 at charge (step, `+first.Item+`): no provider for card "4111 f1"`) || lastLine(text) != "1 failed" {
		t.Errorf("retry says\n%s", text)
	}
	skipped := decoded[answersSaid](t, stuckTool(t, 0, "skip", "--service=till", "--reason=test data", "--output=json", "--flow=f2", "--kind=step"))
	if len(skipped.Answers) != 1 || skipped.Outcomes["done"] != 1 || skipped.Answers[0].Audit.Dead[0] != "retries_exhausted" || skipped.Answers[0].Audit.By == "" {
		t.Errorf("skip says %+v", skipped)
	}
	s.ExpectDeadLetter("f2")
	file := filepath.Join(t.TempDir(), "repaid.json")
	if err := os.WriteFile(file, []byte(`{"Holder": "rich, at the counter"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	text = stuckTool(t, 0, "resolve", "--service=till", "--reason=paid back in cash", "--flow=f4", "--kind=undo", "--data=@"+file)
	if !strings.Contains(text, "done: resolve flow f4 at charge") || !strings.Contains(text, "said "+cardRepaid.Type) {
		t.Errorf("resolve says\n%s", text)
	}
	s.Expect("f4", cardRepaid.New(charged{"rich, at the counter"}))
	if text := stuckTool(t, 1, "resolve", "--service=till", "--reason=x", "--data={}", "--step=charge"); !strings.Contains(text, "--data is the payload of one event, and 3 items are meant") {
		t.Errorf("resolve of several says\n%s", text)
	}
	if text := stuckTool(t, 1, "resolve", "--service=till", "--reason=x", "--flow=f3", "--kind=step"); !strings.Contains(text, `refused: resolve flow f3`) || !strings.Contains(text, `give the payload of "shop.card.charged.v1"`) {
		t.Errorf("resolve without a payload says\n%s", text)
	}
	stuckTool(t, 0, "skip", "--service=till", "--reason=nobody waits", "--kind=deadline")
	s.ExpectDeadline("f5", "in-time", choreotest.DeadlineMet)
	mended.Store(true)
	all := decoded[answersSaid](t, stuckTool(t, 0, "retry", "--service=till", "--reason=it is back", "--all", "--output=json"))
	if all.Outcomes["done"] != 3 {
		t.Errorf("retry of all says %+v", all)
	}
	s.Expect("f1", cardCharged.New(charged{"f1"}), cardCharged.New(charged{"f1"}))
	if text := stuckTool(t, 0, "ls", "--service=till"); lastLine(text) != "till.journal: 0 stuck, 0 events wait behind them" {
		t.Errorf("in the end ls says\n%s", text)
	}
	if text := stuckTool(t, 1, "retry", "--service=till", "--reason=x", first.Item); !strings.Contains(text, "nothing that is stuck in till.journal is meant by that") {
		t.Errorf("retry of what is done says\n%s", text)
	}
	// audit events are no dead letters
	if text := tool(t, 0, "ls", "--service=till"); strings.Contains(text, "are no dead letters") || !strings.Contains(lastLine(text), "1 letters, 1 groups") {
		t.Errorf("choreo dlq ls says\n%s", text)
	}
}

// The journal is read whether the service runs or not, and what is asked for
// meanwhile is done when it does.
func TestWhatIsStuckWhileTheServiceDoesNotRun(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	t.Setenv("KAFKA_BROKERS", cluster.ListenAddrs()[0])
	cfg := choreo.Config{Brokers: cluster.ListenAddrs(), InstanceID: "a", IdleCommit: 5 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	svc := bank(new(atomic.Bool))
	if err := svc.CreateTopics(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	running := func() (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- bank(new(atomic.Bool)).Run(ctx, cfg) }()
		return func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	await := func(want int) shownItem {
		t.Helper()
		for began := time.Now(); ; {
			list := decoded[listSaid](t, stuckTool(t, 0, "ls", "--service=till", "--output=json"))
			if list.Stuck == want {
				return append(list.Items, shownItem{})[0]
			}
			if time.Since(began) > 20*time.Second {
				t.Fatalf("stuck are %+v", list)
			}
		}
	}
	stop := running()
	cl, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	rec, err := svc.Encode("f", cardGiven.New(card{"1", "f"}))
	if err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(t.Context(), rec).FirstErr(); err != nil {
		t.Fatal(err)
	}
	await(1)
	stop()
	i := await(1)
	text := stuckTool(t, 0, "skip", "--service=till", "--reason=x", "--wait=10ms", i.Item)
	if !strings.Contains(text, "unanswered: skip flow f at charge") || !strings.Contains(text, "is done when the service runs") {
		t.Errorf("without the service, skip says\n%s", text)
	}
	await(1)
	stuckTool(t, 0, "skip", "--service=till", "--reason=x", "--wait=0", i.Item)
	defer running()()
	await(0)
}

func TestStuckMistakes(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	mistakes(t, stuckTool, []mistake{
		{"", 1, "KAFKA_BROKERS: is missing", []string{"ls", "--service=till"}},
		{cluster.ListenAddrs()[0], 1, `there is no topic "till.journal"`, []string{"ls", "--service=till"}},
		{cluster.ListenAddrs()[0], 1, `there is no topic "till.journal"`, []string{"retry", "--service=till", "--reason=x", "--all"}},
		{"", 2, "--service", []string{"ls"}},
		{"", 2, "--limit=0", []string{"ls", "--service=till", "--limit=0"}},
		{"", 2, "--kind", []string{"ls", "--service=till", "--kind=event"}},
		{"", 2, "--kind=join: a join waits for another event", []string{"skip", "--service=till", "--reason=x", "--kind=join"}},
		{"", 2, "or give --all", []string{"retry", "--service=till", "--reason=x"}},
		{"", 2, "or give --all", []string{"skip", "--service=till", "--reason=x", "--all", "x"}},
		{"", 2, "--reason", []string{"retry", "--service=till", "--all"}},
		{"", 2, "--reason: is empty", []string{"skip", "--service=till", "--all", "--reason= "}},
		{"", 2, "--reason: must be text of at most 512 bytes, and has 513", []string{"skip", "--service=till", "--all", "--reason=" + strings.Repeat("x", 513)}},
		{"", 2, "--by: must be text of at most 128 bytes", []string{"skip", "--service=till", "--all", "--reason=x", "--by=" + strings.Repeat("x", 129)}},
		{"", 2, "--wait=-1s", []string{"skip", "--service=till", "--all", "--reason=x", "--wait=-1s"}},
		{"", 1, "--data: is not JSON", []string{"resolve", "--service=till", "--all", "--reason=x", "--data={"}},
		{"", 1, "--data: open /no/such", []string{"resolve", "--service=till", "--all", "--reason=x", "--data=@/no/such"}},
	})
}

// Whatever lies in the journal, nothing of it moves a terminal's cursor, forges a
// line, or fills the screen; and what cannot be read is told.
func TestGarbageInTheJournal(t *testing.T) {
	const evil = "\x1b[2J\r\nchoreo: all is well\u202e"
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "till.journal", "till.inbox", "till.dlq"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	t.Setenv("KAFKA_BROKERS", cluster.ListenAddrs()[0])
	cl, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	text := func(s string) string { return string(append([]byte{byte(len(s) << 1)}, s...)) }
	parked := "\x01\x00" + text(evil) + "\x00" + text("t") + "\x00\x00\x00\x00\x00\x00" // at, done, topic, partition, offset, time, headers, key, value
	for _, kv := range [][2]string{
		{"", ""}, {"x", "y"}, {"f\x00retry", ""}, {"f\x00retry", "\x09"}, {"f\x00parked/0000000100000000", "\x01"}, {"f\x00deadline/d", "\x01\x01"},
		{evil + "\x00parked/0000000100000000", parked},
		{evil + "\x00retry", "\x01\x00\x80\x80\x80\x80\x10\x03\x01\x02" + text(evil)},
		{evil + "\x00deadline/" + evil, "\x01\x01\x01\x01" + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"},
	} {
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "till.journal", Key: []byte(kv[0]), Value: []byte(kv[1])}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"ls", "--service=till"}, {"ls", "--service=till", "--output=json"},
		{"retry", "--service=till", "--all", "--reason=x", "--dry-run"}, {"retry", "--service=till", "--all", "--reason=x", "--dry-run", "--output=json"},
	} {
		out := stuckTool(t, 0, args...)
		for line := range strings.Lines(out) {
			if strings.HasPrefix(line, "choreo: all is well") || strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(c rune) bool { return unicode.IsControl(c) }) {
				t.Errorf("%v says %q", args, line)
			}
		}
	}
	if out := stuckTool(t, 0, "ls", "--service=till"); !strings.Contains(out, "note: 4 records cannot be read") || !strings.HasSuffix(out, "till.journal: 2 stuck, 0 events wait behind them\n") {
		t.Errorf("ls says\n%s", out)
	}
}

// Every command does with the rights that it asks for, and says which is missing.
func TestRightsOfStuckCommands(t *testing.T) {
	allow := func(topic string, op kmsg.ACLOperation) kfake.ACL {
		return kfake.ACL{Resource: kmsg.ACLResourceTypeTopic, Name: topic, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: op, Allow: true}
	}
	read := allow("till.journal", kmsg.ACLOperationRead)
	write := allow("till.inbox", kmsg.ACLOperationWrite)
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "till.dlq", "till.inbox", "till.journal"), kfake.EnableSASL(), kfake.EnableACLs(),
		kfake.Superuser("PLAIN", "admin", "admin"), kfake.User("PLAIN", "nobody", "secret"), kfake.User("PLAIN", "looks", "secret", read),
		kfake.User("PLAIN", "asks", "secret", read, write), kfake.User("PLAIN", "listens", "secret", read, write, allow("till.dlq", kmsg.ACLOperationRead)),
		kfake.User("PLAIN", "erases", "secret", write, allow("till.dlq", kmsg.ACLOperationRead)))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	t.Setenv("KAFKA_BROKERS", cluster.ListenAddrs()[0])
	t.Setenv("KAFKA_SASL_MECHANISM", "PLAIN")
	t.Setenv("KAFKA_SASL_USERNAME", "admin")
	t.Setenv("KAFKA_SASL_PASSWORD", "admin")
	cfg, err := choreo.LoadConfig(os.Environ())
	if err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(cfg.KafkaOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	deadline := &kgo.Record{Topic: "till.journal", Key: []byte("f\x00deadline/d"), Value: []byte("\x01\x01\x01\x01" + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")}
	if err := cl.ProduceSync(t.Context(), deadline).FirstErr(); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KAFKA_SASL_PASSWORD", "secret")
	retry, erase := []string{"stuck", "retry", "--service=till", "--reason=x", "--all", "--wait=20ms"}, []string{"flow", "erase", "--service=till", "--reason=x", "--wait=20ms", "f"}
	for _, c := range []struct {
		user string
		code int
		want string
		args []string
	}{
		{"nobody", 1, "till.journal", []string{"stuck", "ls", "--service=till"}},
		{"looks", 0, "1 stuck", []string{"stuck", "ls", "--service=till"}},
		{"looks", 1, `nothing was sent, because the answers could not be read (--wait=0 does without)`, retry},
		{"looks", 1, `no right to write to topic "till.inbox"`, append(retry[:5:5], "--wait=0")},
		{"asks", 1, `nothing was sent, because the answers could not be read`, retry},
		{"asks", 0, "1 unanswered", append(retry[:5:5], "--wait=0")},
		{"listens", 0, "1 unanswered", retry},
		{"erases", 0, "1 unanswered", erase},
		{"erases", 1, "till.journal", append(erase[:5:5], "--dry-run", "f")},
	} {
		t.Setenv("KAFKA_SASL_USERNAME", c.user)
		code, out, errs := verdict(t, c.args...)
		if out += errs; code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("as %s, %v ended with %d and does not say %q:\n%s", c.user, c.args, code, c.want, out)
		}
	}
}

func TestStuckSaysThatItsOutputIsLost(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "till.dlq", "till.inbox", "till.journal"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	t.Setenv("KAFKA_BROKERS", cluster.ListenAddrs()[0])
	for _, args := range [][]string{
		{"stuck", "ls"}, {"stuck", "ls", "--output=json"}, {"flow", "erase", "--reason=x", "--dry-run", "f"}, {"flow", "erase", "--reason=x", "--wait=0", "f"},
	} {
		var errs strings.Builder
		if code := run(t.Context(), append(args, "--service=till"), broken{}, &errs); code != exitFailed || !strings.Contains(errs.String(), "disk full") {
			t.Errorf("%v ended with %d: %s", args, code, errs.String())
		}
	}
}

func TestFlowsAreErased(t *testing.T) {
	var mended atomic.Bool
	s := choreotest.Start(t, bank(&mended), choreotest.With(func(c *choreo.Config) { c.Logger = slog.New(slog.DiscardHandler) }))
	t.Setenv("KAFKA_BROKERS", strings.Join(s.Brokers(), ","))
	erase := func(code int, args ...string) string {
		t.Helper()
		got, out, errs := verdict(t, append([]string{"flow", "erase", "--service=till", "--reason=asked for by the customer"}, args...)...)
		if got != code {
			t.Fatalf("choreo flow erase %v ended with %d, want %d:\n%s%s", args, got, code, out, errs)
		}
		return out + errs
	}
	for _, f := range []string{"f1", "f2"} {
		s.Publish(f, cardLost.New(card{"4111", "rich"}))
	}
	s.Publish("stuck", cardGiven.New(card{"4111", "poor"}))
	s.ExpectStuck("stuck", "charge")
	if text := erase(0, "--dry-run", "f1", "nobody"); !strings.Contains(text, "till.journal holds 1 slots of flow f1") || !strings.Contains(text, "holds 0 slots of flow nobody") {
		t.Errorf("a dry run says\n%s", text)
	}
	text := erase(1, "f1", "stuck", "nobody")
	for _, want := range []string{"done: erase flow f1: 1 slots erased", "refused: erase flow stuck: events of the flow are parked", "refused: erase flow nobody: nothing is remembered"} {
		if !strings.Contains(text, want) {
			t.Errorf("erase does not say %q:\n%s", want, text)
		}
	}
	if text := erase(0, "--dry-run", "f1", "f2"); !strings.Contains(text, "holds 0 slots of flow f1") || !strings.Contains(text, "holds 1 slots of flow f2") {
		t.Errorf("after it a dry run says\n%s", text)
	}
	if code, _, errs := verdict(t, "flow", "erase", "--service=till", "--reason=x", ""); code != exitUsage || !strings.Contains(errs, "a flow has no id") {
		t.Errorf("without an id it ended with %d: %s", code, errs)
	}
}

// A join that waits is no failure: it is counted, and shown on demand.
func TestJoinsThatWaitAreShown(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "till.journal"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	t.Setenv("KAFKA_BROKERS", cluster.ListenAddrs()[0])
	cl, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "till.journal", Key: []byte("f\x00join/ship"), Value: []byte("\x01\x01\x01")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if text := stuckTool(t, 0, "ls", "--service=till"); text != "note: 1 joins wait for another event; see --kind=join\ntill.journal: 0 stuck, 0 events wait behind them\n" {
		t.Errorf("ls says\n%s", text)
	}
	list := decoded[listSaid](t, stuckTool(t, 0, "ls", "--service=till", "--kind=join", "--output=json"))
	if len(list.Items) != 1 || list.Items[0].Kind != operator.Join || list.Items[0].Flow != "f" || list.Items[0].Step != "ship" || list.Items[0].Age < 1e9 {
		t.Errorf("joins are %+v", list)
	}
}
