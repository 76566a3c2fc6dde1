package choreo

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
)

func TestTopicsAreCreatedAsDeclared(t *testing.T) {
	cfg, adm := sampleBroker(t)
	p := samplePlan(t)
	ctx := sampleContext(t)

	err := verifyTopics(ctx, adm, p, cfg)
	wrong, ok := errors.AsType[*TopicsError](err)
	if !ok || len(wrong.Problems) != 7 || !isFinal(err) {
		t.Fatalf("without any topics: %v", err)
	}
	for _, x := range wrong.Problems {
		if got, want := x.String(), fmt.Sprintf("topic %q does not exist: run `sample topics --apply`", x.Topic); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}

	var done []string
	say := func(format string, a ...any) { done = append(done, fmt.Sprintf(format, a...)) }
	if err := applyTopics(ctx, adm, p, cfg, say); err != nil {
		t.Fatal(err)
	}
	if len(done) != 7 {
		t.Errorf("it did %q", done)
	}
	details, err := adm.ListTopics(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for name, partitions := range map[string]int{
		"it.sample.inbox": 3, "it.sample.journal": 3, "it.sample.dlq": 3, "it.orders": 4, "it.payments": 3, "it.shipments": 3, "it.scans": 3,
	} {
		if n := len(details[name].Partitions); n != partitions {
			t.Errorf("%s has %d partitions, want %d", name, n, partitions)
		}
	}
	for _, c := range []struct{ topic, setting, want string }{
		{"it.sample.journal", "cleanup.policy", "compact"}, {"it.sample.journal", "segment.ms", "600000"},
		{"it.sample.inbox", "cleanup.policy", "delete"}, {"it.sample.dlq", "max.message.bytes", "17825792"},
		{"it.orders", "retention.ms", "86400000"},
	} {
		if got := setting(t, adm, c.topic, c.setting); got != c.want {
			t.Errorf("%s of %s is %q, want %q", c.setting, c.topic, got, c.want)
		}
	}
	if err := verifyTopics(ctx, adm, p, cfg); err != nil {
		t.Errorf("after apply: %v", err)
	}
	done = nil
	if err := applyTopics(ctx, adm, p, cfg, say); err != nil || len(done) != 0 {
		t.Errorf("applied again it did %q: %v", done, err)
	}
}

func setting(t *testing.T, adm *kadm.Client, topic, key string) string {
	t.Helper()
	all, err := adm.DescribeTopicConfigs(sampleContext(t), topic)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all[0].Configs {
		if c.Key == key {
			return c.MaybeValue()
		}
	}
	return ""
}

func TestTopicDifferences(t *testing.T) {
	for _, c := range []struct {
		name       string
		topic      string
		partitions int32
		config     map[string]string
		want       string // the problem; empty: none
		harmless   bool
		mended     bool // by apply
	}{
		{"the journal's partitions", "it.sample.journal", 5, nil, "has 5 partitions and the service has 3 tasks: declare Tasks(5), or", false, false},
		{"the inbox's partitions", "it.sample.inbox", 2, nil, "has 2 partitions and the service has 3 tasks: declare Tasks(2), or", false, false},
		{"declared partitions", "it.orders", 1, nil, "has 1 partitions and 4 are declared: declare Partitions: 1, or", false, false},
		{"undeclared partitions", "it.payments", 12, nil, "", false, false},
		{"a journal that is not compacted", "it.sample.journal", 3, map[string]string{"cleanup.policy": "delete"}, "has cleanup.policy=delete, not compact: run `sample topics --apply`", false, true},
		{"a journal that forgets", "it.sample.journal", 3, map[string]string{"cleanup.policy": "compact,delete"}, "has cleanup.policy=compact,delete, not compact: run", false, true},
		{"a compacted inbox", "it.sample.inbox", 3, map[string]string{"cleanup.policy": "compact"}, "has cleanup.policy=compact, not delete: run", false, true},
		{"dead letters that do not fit", "it.sample.dlq", 3, map[string]string{"max.message.bytes": "1000"}, "has max.message.bytes=1000 and needs at least 17825792: run", false, true},
		{"dead letters with room to spare", "it.sample.dlq", 3, map[string]string{"max.message.bytes": "99999999"}, "", false, false},
		{"a slow journal", "it.sample.journal", 3, map[string]string{"segment.ms": "1"}, "has segment.ms=1, not 600000: run", true, true},
		{"a declared setting", "it.orders", 4, map[string]string{"retention.ms": "1"}, "has retention.ms=1, not 86400000: run", true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, adm := sampleBroker(t)
			p := samplePlan(t)
			ctx := sampleContext(t)
			config := map[string]*string{}
			for _, s := range topicsOf(p, cfg) {
				if s.name == c.topic {
					for k, v := range s.config {
						config[k] = &v
					}
				}
			}
			for k, v := range c.config {
				config[k] = &v
			}
			if _, err := adm.CreateTopic(ctx, c.partitions, 1, config, c.topic); err != nil {
				t.Fatal(err)
			}
			ignore := func(string, ...any) {}
			problems := func() (all []TopicProblem) {
				found, err := topicProblems(ctx, adm, p, cfg)
				if err != nil {
					t.Fatal(err)
				}
				for _, x := range found {
					if x.Topic == c.topic {
						all = append(all, x)
					}
				}
				return all
			}
			before := problems()
			if c.want == "" {
				if len(before) > 0 {
					t.Fatalf("got %v", before)
				}
			} else if len(before) != 1 || !strings.HasPrefix(before[0].String(), fmt.Sprintf("topic %q %s", c.topic, c.want)) || before[0].Harmless != c.harmless {
				t.Fatalf("got %v, want %s", before, c.want)
			}
			err := applyTopics(ctx, adm, p, cfg, ignore)
			if left := problems(); (len(left) == 0) != (c.mended || c.want == "") || (err == nil) != (len(left) == 0) {
				t.Errorf("after apply: %v, %v", left, err)
			}
			details, err := adm.ListTopics(ctx, c.topic)
			if err != nil || len(details[c.topic].Partitions) != int(c.partitions) {
				t.Errorf("apply changed the partitions: %v", err)
			}
			if err := verifyTopics(ctx, adm, p, cfg); (err == nil) != (c.mended || c.want == "") {
				t.Errorf("verify: %v", err)
			}
		})
	}
}

func TestLargeEventsNeedLargeTopics(t *testing.T) {
	cfg := Config{MaxEventBytes: 4 << 20}.withDefaults()
	for _, s := range topicsOf(samplePlan(t), cfg) {
		if s.name != "sample.dlq" && s.name != "sample.journal" && s.config["max.message.bytes"] != "4325376" {
			t.Errorf("%s: %v", s.name, s.config)
		}
	}
}
