package choreo_test

import (
	"context"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"
)

var aclRow = regexp.MustCompile(`(?m)^\| (Group|TransactionalId|Topic) \| (.*?) \| (.*?) \|`)

// documentedACLs are those of the table of docs/running-a-service.md, for a
// service payment that hears and says events on the given topics.
func documentedACLs(t *testing.T, prefix string, topics map[string][]string) []kfake.ACL {
	t.Helper()
	page, err := os.ReadFile("../docs/running-a-service.md")
	if err != nil {
		t.Fatal(err)
	}
	var all []kfake.ACL
	for _, row := range aclRow.FindAllStringSubmatch(string(page), -1) {
		resource := map[string]kmsg.ACLResourceType{
			"Group": kmsg.ACLResourceTypeGroup, "TransactionalId": kmsg.ACLResourceTypeTransactionalId, "Topic": kmsg.ACLResourceTypeTopic,
		}[row[1]]
		pattern := kmsg.ACLResourcePatternTypeLiteral
		if strings.Contains(row[2], "prefixed") {
			pattern = kmsg.ACLResourcePatternTypePrefixed
		}
		names := topics[row[2]]
		for _, c := range codeSpan.FindAllStringSubmatch(row[2], -1) {
			names = append(names, strings.TrimPrefix(c[1], "P"))
		}
		for _, name := range names {
			for op := range strings.SplitSeq(row[3], ", ") {
				operation, known := map[string]kmsg.ACLOperation{
					"Read": kmsg.ACLOperationRead, "Write": kmsg.ACLOperationWrite, "DescribeConfigs": kmsg.ACLOperationDescribeConfigs,
				}[op]
				if !known {
					t.Errorf("the table names operation %q", op)
				}
				all = append(all, kfake.ACL{Resource: resource, Name: prefix + name, Pattern: pattern, Operation: operation, Allow: true})
			}
		}
	}
	if len(all) == 0 {
		t.Fatal("no table of access control was found in docs/running-a-service.md")
	}
	return all
}

// A service may do all that it needs with the documented rights: it reads, says,
// publishes, remembers and makes dead letters.
func TestDocumentedAccessControlIsEnough(t *testing.T) {
	t.Parallel()
	const prefix = "it."
	acls := documentedACLs(t, prefix, map[string][]string{"what it hears": {"jobs", "calls", "work"}, "what it says": {"work", "jobs"}})
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.EnableACLs(),
		kfake.Superuser("PLAIN", "admin", "admin"), kfake.User("PLAIN", "payment", "secret", acls...))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*choreotest.Patience)
	defer cancel()

	w := &worker{}
	state := &choreo.State[job]{Name: "job", When: []choreo.Transition[job]{choreo.When(jobDone, func(j *job, d work) { j.What = d.By })}}
	svc := choreo.NewService("payment", choreo.Tasks(2), w.step(), state, choreo.Starts(jobGiven))
	cfg := choreo.Config{
		Brokers: cluster.ListenAddrs(), TopicPrefix: prefix, InstanceID: "payment-0", IdleCommit: 5 * time.Millisecond,
		SASL:   plain.Auth{User: "payment", Pass: "secret"}.AsMechanism(),
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	admin := cfg
	admin.SASL = plain.Auth{User: "admin", Pass: "admin"}.AsMechanism()
	if err := svc.CreateTopics(ctx, admin); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	running, stop := context.WithCancel(ctx)
	go func() { stopped <- svc.Run(running, cfg) }()
	defer func() {
		stop()
		if err := <-stopped; err != nil {
			t.Errorf("the service ended with: %v", err)
		}
	}()
	for look := time.NewTicker(5 * time.Millisecond); svc.Ready() != nil; {
		select {
		case <-look.C:
		case err := <-stopped:
			stopped <- nil
			t.Fatalf("the service did not run: %v", err)
		case <-ctx.Done():
			t.Fatalf("not ready: %v", svc.Ready())
		}
	}

	flow, err := svc.Publish(ctx, jobGiven.New(job{"1", "lawn"}), choreo.IdempotencyKey("1"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := state.Await(ctx, flow, func(j job) bool { return j.What == "lawn" }); err != nil {
		t.Fatalf("%+v, %v", got, err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.SASL(admin.SASL), kgo.ConsumeTopics(prefix+"payment.dlq"),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	broken, err := svc.Encode("2", jobGiven.New(job{"2", "hedge"}))
	if err != nil {
		t.Fatal(err)
	}
	broken.Topic, broken.Value = prefix+broken.Topic, []byte("{")
	if err := cl.ProduceSync(ctx, broken).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if dead := cl.PollFetches(ctx).Records(); len(dead) != 1 || header(dead[0], "choreo-dlq-reason") != "undecodable" {
		t.Errorf("dead letters: %v", dead)
	}
}
