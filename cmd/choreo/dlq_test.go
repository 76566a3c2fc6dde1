package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
	"github.com/choreography-go/choreography/choreo/deadletter"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

type (
	card    struct{ Number, Holder string }
	charged struct{ Holder string }
)

var (
	cardGiven   = choreo.Event[card]{Type: "shop.card.given.v1", Topic: "cards"}
	cardCharged = choreo.Event[charged]{Type: "shop.card.charged.v1", Topic: "charges"}
)

// till is a service whose provider is away until it is mended.
func till(t *testing.T) (s *choreotest.Service, mend func()) {
	t.Helper()
	var mended atomic.Bool
	s = choreotest.Start(t, choreo.NewService("till", choreo.Tasks(2), choreo.Step[card, charged]{
		Name: "charge", On: cardGiven, Emit: cardCharged, Retry: choreo.Retry{Attempts: 1},
		Do: func(_ context.Context, c card) (charged, error) {
			if !mended.Load() {
				return charged{}, fmt.Errorf("no provider for card %q", c.Number)
			}
			return charged{c.Holder}, nil
		},
	}))
	t.Setenv("KAFKA_BROKERS", strings.Join(s.Brokers(), ","))
	return s, func() { mended.Store(true) }
}

// tool runs choreo dlq and returns what it says, and fails unless it ends with
// that code.
func tool(t *testing.T, want int, args ...string) string {
	t.Helper()
	code, out, errs := verdict(t, append([]string{"dlq"}, args...)...)
	if code != want {
		t.Fatalf("choreo dlq %s ended with %d, want %d:\n%s%s", strings.Join(args, " "), code, want, out, errs)
	}
	return out + errs
}

func decoded[T any](t *testing.T, out string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	return v
}

type itemsSaid struct {
	Items []struct {
		Letter, Group, Flow, Type, ID, Step, Payload, Left, Error, Origin string
		Attributes                                                        map[string]string
		Became                                                            *struct{ Outcome, By, Why string }
	}
	Letters, Shown, Done, Left, Settled int
	DryRun                              bool
	Error                               string
}

func TestDeadLettersAreListedShownReplayedAndDiscarded(t *testing.T) {
	s, mend := till(t)
	for _, f := range []string{"f1", "f2", "f3"} {
		s.Publish(f, cardGiven.New(card{"4111 " + f, f}))
		s.ExpectDeadLetter(f)
	}
	broken := s.Record("f4", cardGiven.New(card{}))
	broken.Value = []byte("{\x1b[31m")
	s.PublishRecord(broken)
	s.ExpectDeadLetter("f4")

	list := decoded[dlqGroups](t, tool(t, 0, "ls", "--service=till", "--output=json"))
	if len(list.Groups) != 2 || list.Groups[0].Reason != "undecodable" || list.Groups[1].Letters != 3 || list.Groups[1].Step != "charge" ||
		list.Groups[1].Last.Before(list.Groups[1].First) || list.Strange != 0 {
		t.Fatalf("the groups are %+v", list)
	}
	group := list.Groups[1].Fingerprint
	text := tool(t, 0, "ls", "--service=till")
	if got := lastLine(text); got != "till.dlq: 4 letters, 2 groups; 0 letters are settled" || !strings.Contains(text, group+"  3 ") {
		t.Errorf("ls says\n%s", text)
	}

	text = tool(t, 0, "show", "--service=till", "--flow=f4")
	for _, want := range []string{"reason    undecodable, step charge, after 0 attempts", "origin    cards/", `  {\u001b[31m`, "  correlationid: f4", "1 of 1 letters shown"} {
		if !strings.Contains(text, want) {
			t.Errorf("show does not say %q:\n%s", want, text)
		}
	}
	shown := decoded[itemsSaid](t, tool(t, 0, "show", "--service=till", "--output=json", "--limit=2", group))
	if shown.Letters != 3 || shown.Shown != 2 || len(shown.Items) != 2 || !strings.Contains(shown.Items[0].Payload, "4111 f1") || shown.Items[0].Attributes["type"] != cardGiven.Type {
		t.Fatalf("shown is %+v", shown)
	}

	// what would be sent, and nothing is
	mend()
	dry := decoded[itemsSaid](t, tool(t, 0, "replay", "--service=till", "--dry-run", "--output=json", group))
	if !dry.DryRun || dry.Done != 3 || len(dry.Items) != 3 {
		t.Errorf("a dry run says %+v", dry)
	}
	if text := tool(t, 0, "replay", "--service=till", "--dry-run", group); !strings.Contains(text, "would be sent to the inbox: till.dlq/") || !strings.Contains(text, "flow f1  shop.card.given.v1") {
		t.Errorf("a dry run says\n%s", text)
	}
	s.ExpectNothingMore("f1")

	// by id, by flow, by position, by group, all
	tool(t, 0, "replay", "--service=till", shown.Items[0].ID)
	s.Expect("f1", cardCharged.New(charged{"f1"}))
	tool(t, 0, "replay", "--service=till", "--flow=f2")
	s.Expect("f2", cardCharged.New(charged{"f2"}))
	s.ExpectNothingMore("f2")
	again := decoded[itemsSaid](t, tool(t, 0, "replay", "--service=till", "--output=json", group))
	if again.Done != 1 || again.Settled != 2 {
		t.Errorf("replaying the rest says %+v", again)
	}
	s.Expect("f3", cardCharged.New(charged{"f3"}))
	for _, f := range []string{"f1", "f2", "f3"} {
		s.ExpectNothingMore(f)
	}
	refused := decoded[itemsSaid](t, tool(t, 0, "replay", "--service=till", "--output=json", shown.Items[0].Letter))
	if refused.Done != 0 || len(refused.Items) != 1 || !strings.Contains(refused.Items[0].Left, "it is settled: succeeded at ") {
		t.Errorf("replaying what has succeeded says %+v", refused)
	}

	// a replay that fails is another letter; that is discarded
	tool(t, 0, "replay", "--service=till", "--flow=f4")
	s.ExpectDeadLetter("f4")
	s.ExpectNothingMore("f4")
	text = tool(t, 0, "discard", "--service=till", "--flow=f4", "--reason=test data", "--by=ann", "--dry-run")
	if !strings.Contains(text, "1 letters would be discarded, 0 cannot be, 1 were settled before") {
		t.Errorf("a dry run of discard says\n%s", text)
	}
	tool(t, 0, "discard", "--service=till", "--all", "--reason=test data", "--by=ann")
	if text := tool(t, 0, "ls", "--service=till"); lastLine(text) != "till.dlq: 0 letters, 0 groups; 5 letters are settled" {
		t.Errorf("in the end ls says\n%s", text)
	}
	if text := tool(t, 0, "ls", "--service=till", "--all"); !strings.Contains(text, "(1 discarded, 1 failed)") || !strings.Contains(text, "(3 succeeded)") {
		t.Errorf("in the end ls --all says\n%s", text)
	}
	last := decoded[itemsSaid](t, tool(t, 0, "show", "--service=till", "--all", "--flow=f4", "--output=json")).Items
	if len(last) != 2 || last[0].Became.Outcome != "failed" || last[1].Became == nil || last[1].Became.By != "ann" || last[1].Became.Why != "test data" {
		t.Errorf("the letters of f4 are %+v", last)
	}
	if text := tool(t, 0, "show", "--service=till", "--all", "--flow=f4"); !strings.Contains(text, "replay of "+last[0].Letter) || !strings.Contains(text, "by ann: test data") {
		t.Errorf("show says\n%s", text)
	}
}

// mistake is a command that cannot be done, and what is said about it.
type mistake struct {
	brokers string // KAFKA_BROKERS
	code    int
	want    string
	args    []string
}

// mistakes makes them with a tool.
func mistakes(t *testing.T, tool func(t *testing.T, want int, args ...string) string, all []mistake) {
	t.Helper()
	for _, m := range all {
		t.Setenv("KAFKA_BROKERS", m.brokers)
		if out := tool(t, m.code, m.args...); !strings.Contains(out, m.want) {
			t.Errorf("%v does not say %q:\n%s", m.args, m.want, out)
		}
	}
}

func TestDlqMistakes(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	mistakes(t, tool, []mistake{
		{"", 1, "KAFKA_BROKERS: is missing", []string{"ls", "--service=till"}},
		{cluster.ListenAddrs()[0], 1, `there is no topic "till.dlq"`, []string{"ls", "--service=till"}},
		{"", 2, "--service", []string{"ls"}},
		{"", 2, `--service="a/b"`, []string{"ls", "--service=a/b"}},
		{"", 2, "--timeout=1ms", []string{"ls", "--service=till", "--timeout=1ms"}},
		{"", 2, "or give --all", []string{"replay", "--service=till"}},
		{"", 2, "or give --all", []string{"discard", "--service=till", "--reason=x", "--all", "x"}},
		{"", 2, "--reason", []string{"discard", "--service=till", "--all"}},
		{"", 2, "--reason: is empty", []string{"discard", "--service=till", "--all", "--reason="}},
		{"", 2, "--limit=0", []string{"show", "--service=till", "--limit=0"}},
		{"", 2, "--bytes=-1", []string{"show", "--service=till", "--bytes=-1"}},
	})
}

// shelf is a dead-letter topic with whatever is put there.
func shelf(t *testing.T, records ...*kgo.Record) *kgo.Client {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "x.till.dlq", "x.till.inbox"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	cl, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ConsumeTopics("x.till.inbox"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	for _, rec := range records {
		rec.Topic = "x.till.dlq"
		if err := cl.ProduceSync(t.Context(), rec).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("KAFKA_BROKERS", cluster.ListenAddrs()[0])
	t.Setenv("TOPIC_PREFIX", "x.")
	return cl
}

// headers makes headers of pairs.
func headers(pairs ...string) (all []kgo.RecordHeader) {
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, kgo.RecordHeader{Key: pairs[i], Value: []byte(pairs[i+1])})
	}
	return all
}

// Whatever lies on the topic, nothing of it moves a terminal's cursor, forges a
// line, or fills the screen.
func TestGarbageOnTheTopic(t *testing.T) {
	const evil = "\x1b[2J\r\nchoreo: all is well\u202e\x00"
	long := strings.Repeat("%s%n\u2066", 10_000)
	shelf(t,
		&kgo.Record{Value: []byte("no letter")},
		&kgo.Record{Value: []byte{}, Headers: headers(deadletter.HeaderTime, evil)},
		&kgo.Record{Key: []byte(evil), Value: []byte(evil), Headers: headers(deadletter.HeaderReason, evil, deadletter.HeaderStep, evil, deadletter.HeaderError, evil,
			deadletter.HeaderFingerprint, evil, deadletter.HeaderOrigin, evil, deadletter.HeaderAttempts, evil, deadletter.HeaderTime, evil, "ce_id", evil, "ce_"+evil, evil)},
		&kgo.Record{Key: []byte(long), Value: []byte(long), Headers: headers(deadletter.HeaderReason, long, deadletter.HeaderStep, long, deadletter.HeaderError, long,
			deadletter.HeaderFingerprint, long, "ce_type", long, "content-type", "application/cloudevents+json")},
		&kgo.Record{Partition: 1, Value: nil, Headers: headers("choreo-dlq-mark", "x.till.dlq/0/99", "choreo-dlq-outcome", evil)},
		&kgo.Record{Partition: 1, Value: nil, Headers: headers("choreo-dlq-mark", evil)},
		&kgo.Record{Partition: 1, Value: nil, Headers: headers("choreo-dlq-mark", "other.dlq/0/2", "choreo-dlq-outcome", "succeeded")},
		&kgo.Record{Partition: 2, Value: []byte("\xff\xfe"), Headers: headers(deadletter.HeaderReason, "x", deadletter.HeaderTruncated, "", "choreo-dlq-replay", evil)},
	)
	for _, args := range [][]string{
		{"ls", "--service=till"}, {"ls", "--service=till", "--output=json"}, {"show", "--service=till"}, {"show", "--service=till", "--output=json"},
		{"replay", "--service=till", "--all", "--dry-run"}, {"replay", "--service=till", "--all", "--dry-run", "--output=json"},
	} {
		code := 0
		if args[0] == "replay" {
			code = 1 // a truncated letter cannot be
		}
		out := tool(t, code, args...)
		isJSON := args[len(args)-1] == "--output=json"
		for line := range strings.Lines(out) {
			if strings.HasPrefix(line, "choreo: all is well") || strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(c rune) bool {
				return unicode.IsControl(c) || !isJSON && !unicode.IsPrint(c)
			}) {
				t.Errorf("%v says %q", args, line)
			}
		}
		if len(out) > 60_000 {
			t.Errorf("%v says %d bytes", args, len(out))
		}
		if isJSON && !json.Valid([]byte(out)) {
			t.Errorf("%v says no JSON: %s", args, out)
		}
	}
	if out := tool(t, 0, "ls", "--service=till"); !strings.Contains(out, "note: 3 records of the topic are no dead letters") || !strings.Contains(lastLine(out), " 3 letters, 3 groups; 0 ") {
		t.Errorf("ls says\n%s", out)
	}
}

// Letters of a flow that lie on several partitions are sent in the order of
// their times; those of a partition in its order, whatever their times say.
func TestReplayKeepsTheOrderOfLetters(t *testing.T) {
	at := func(partition int32, second int, id string) *kgo.Record {
		return &kgo.Record{Partition: partition, Value: []byte(id), Headers: headers(
			deadletter.HeaderReason, "x", deadletter.HeaderTime, time.Unix(int64(1_700_000_000+second), 0).Format(time.RFC3339Nano), deadletter.HeaderFingerprint, "g",
			"ce_specversion", "1.0", "ce_id", id, "ce_type", "t", "ce_source", "/s", "ce_correlationid", "f")}
	}
	var letters []*kgo.Record
	want := ""
	for i := range 400 { // several chunks and rounds
		letters = append(letters, at(int32(i%2), 10+i, fmt.Sprint(i)))
		letters[i].Value = fmt.Append(letters[i].Value, strings.Repeat(" ", 5000))
		want += fmt.Sprint(i, " ")
	}
	letters = append(letters, at(2, 1000, "last"), at(2, 1, "after it"))
	want += "last after it "
	cl := shelf(t, letters...)
	if out := tool(t, 0, "replay", "--service=till", "--dry-run", "--output=json", "till.dlq/0/0", "x.till.dlq/2/1"); decoded[itemsSaid](t, out).Done != 2 {
		t.Errorf("two letters by their places, one without the prefix: %s", out)
	}
	tool(t, 0, "replay", "--service=till", "--all")
	got := ""
	for n := 0; n < len(letters); {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		fs := cl.PollFetches(ctx)
		cancel()
		if fs.Err() != nil {
			t.Fatalf("only %d letters were sent: %v", n, fs.Err())
		}
		fs.EachRecord(func(rec *kgo.Record) {
			id, _, _ := strings.Cut(string(rec.Value), "   ")
			got += id + " "
			n++
			if string(rec.Key) != "f" {
				t.Errorf("it is sent by key %q", rec.Key)
			}
		})
	}
	if got != want {
		t.Errorf("sent were %s", got)
	}
}

// A letter too large for the inbox ends the replay, and says so.
func TestReplayOfALetterTooLargeForTheInbox(t *testing.T) {
	large := make([]byte, 900_000)
	for i := range large { // what compresses is not large
		large[i] = byte(rand.Uint32())
	}
	cl := shelf(t, &kgo.Record{Value: large, Headers: headers(deadletter.HeaderReason, "x", "ce_id", "1")})
	value := "100000"
	if _, err := kadm.NewClient(cl).AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &value}}, "x.till.inbox"); err != nil {
		t.Fatal(err)
	}
	out := tool(t, 1, "replay", "--service=till", "--all", "--output=json")
	if !strings.Contains(out, `topic \"x.till.inbox\" takes no record as large as that`) || !strings.Contains(out, `"done": 0`) {
		t.Errorf("it says %s", out)
	}
}

// Every command does with the rights that it asks for, and says which is missing.
func TestRightsOfDlqCommands(t *testing.T) {
	allow := func(topic string, op kmsg.ACLOperation) kfake.ACL {
		return kfake.ACL{Resource: kmsg.ACLResourceTypeTopic, Name: topic, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: op, Allow: true}
	}
	read := allow("till.dlq", kmsg.ACLOperationRead)
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "till.dlq", "till.inbox"), kfake.EnableSASL(), kfake.EnableACLs(),
		kfake.Superuser("PLAIN", "admin", "admin"), kfake.User("PLAIN", "nobody", "secret"),
		kfake.User("PLAIN", "looks", "secret", read),
		kfake.User("PLAIN", "replays", "secret", read, allow("till.inbox", kmsg.ACLOperationWrite)),
		kfake.User("PLAIN", "discards", "secret", read, allow("till.dlq", kmsg.ACLOperationWrite)))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	t.Setenv("KAFKA_BROKERS", cluster.ListenAddrs()[0])
	t.Setenv("KAFKA_SASL_MECHANISM", "PLAIN")
	as := func(user string) { t.Setenv("KAFKA_SASL_USERNAME", user) }
	as("admin")
	t.Setenv("KAFKA_SASL_PASSWORD", "admin")
	cfg, err := choreo.LoadConfig([]string{"KAFKA_BROKERS=" + cluster.ListenAddrs()[0], "KAFKA_SASL_MECHANISM=PLAIN", "KAFKA_SASL_USERNAME=admin", "KAFKA_SASL_PASSWORD=admin"})
	if err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(cfg.KafkaOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for _, id := range []string{"1", "2"} {
		rec := &kgo.Record{Topic: "till.dlq", Value: []byte(id), Headers: headers(deadletter.HeaderReason, "x", "ce_id", id)}
		if err := cl.ProduceSync(t.Context(), rec).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("KAFKA_SASL_PASSWORD", "secret")
	replay, discard := []string{"replay", "--service=till", "1"}, []string{"discard", "--service=till", "--reason=x", "2"}
	for _, c := range []struct {
		user string
		code int
		want string
		args []string
	}{
		{"nobody", 1, "till.dlq", []string{"ls", "--service=till"}},
		{"looks", 0, "2 letters", []string{"ls", "--service=till"}},
		{"looks", 0, "2 letters", []string{"show", "--service=till"}},
		{"looks", 1, `no right to write to topic "till.inbox"`, replay},
		{"looks", 1, `no right to write to topic "till.dlq"`, discard},
		{"replays", 0, "1 letters sent to the inbox", replay},
		{"discards", 0, "1 letters discarded", discard},
	} {
		as(c.user)
		if out := tool(t, c.code, c.args...); !strings.Contains(out, c.want) {
			t.Errorf("as %s, %v does not say %q:\n%s", c.user, c.args, c.want, out)
		}
	}
}

// broken is a writer that takes nothing.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestDlqSaysThatItsOutputIsLost(t *testing.T) {
	shelf(t, &kgo.Record{Value: []byte("x"), Headers: headers(deadletter.HeaderReason, "x", "ce_id", "1")})
	for _, args := range [][]string{{"ls"}, {"show"}, {"show", "--output=json"}, {"replay", "--all", "--dry-run"}} {
		var errs strings.Builder
		if code := run(t.Context(), append(append([]string{"dlq"}, args...), "--service=till"), broken{}, &errs); code != exitFailed || !strings.Contains(errs.String(), "disk full") {
			t.Errorf("%v ended with %d: %s", args, code, errs.String())
		}
	}
}

// Letters that must go before their time are deleted with all that lies before
// them in their partitions; what lies behind is there as before.
func TestDeadLettersThatAreDeleted(t *testing.T) {
	s, mend := till(t)
	at := map[string]deadletter.Position{}
	for _, f := range []string{"f1", "f2", "f3", "f4", "f5", "f6"} {
		s.Publish(f, cardGiven.New(card{"4111 " + f, f}))
		at[f] = deadletter.PositionOf(s.ExpectDeadLetter(f).Record)
	}
	tool(t, 0, "discard", "--service=till", "--flow=f2", "--reason=asked for by the customer")
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Brokers()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	var before kadm.Offsets
	gone := at["f2"]
	before.AddOffset(gone.Topic, gone.Partition, gone.Offset+1, -1)
	if _, err := kadm.NewClient(cl).DeleteRecords(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	left := 0
	for f, p := range at {
		is := p.Partition != gone.Partition || p.Offset > gone.Offset
		if is {
			left++
		}
		if shown := decoded[itemsSaid](t, tool(t, 0, "show", "--service=till", "--all", "--flow="+f, "--output=json")); (len(shown.Items) == 1) != is {
			t.Errorf("of flow %s there is shown %+v", f, shown.Items)
		}
	}
	if text := tool(t, 0, "ls", "--service=till"); !strings.HasPrefix(lastLine(text), fmt.Sprintf("till.dlq: %d letters, ", left)) {
		t.Errorf("ls says\n%s", text)
	}
	mend()
	if said := decoded[itemsSaid](t, tool(t, 0, "replay", "--service=till", "--all", "--output=json")); said.Done != left {
		t.Errorf("replaying what is left says %+v", said)
	}
}
