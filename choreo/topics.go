package choreo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// topicNames are the names that the broker knows: with the environment's prefix.
type topicNames struct{ inbox, journal, dlq, group, prefix string }

func namesOf(service, prefix string) topicNames {
	group := prefix + service
	return topicNames{inbox: group + ".inbox", journal: group + ".journal", dlq: group + ".dlq", group: group, prefix: prefix}
}

// topic is the name of a declared topic.
func (n topicNames) topic(declared string) string { return n.prefix + declared }

// TopicsError says in which ways the brokers' topics are not as the service
// needs them. The topics command with --apply mends what can be mended.
type TopicsError struct {
	Service  string
	Problems []TopicProblem
}

// TopicProblem is one difference.
type TopicProblem struct {
	// Topic is the name with the environment's prefix.
	Topic string
	// What is different, and Remedy what to do about it, as clauses.
	What, Remedy string
	// Missing: the topic does not exist.
	Missing bool
	// Harmless differences do not keep the service from running.
	Harmless bool

	setting string // the setting that is different, if it is one
}

// String is the problem on one line.
func (p TopicProblem) String() string {
	return fmt.Sprintf("topic %q %s: %s", p.Topic, p.What, p.Remedy)
}

// Error has one line for each problem.
func (e *TopicsError) Error() string {
	lines := []string{fmt.Sprintf("choreo: the topics of service %q are not as it needs them:", e.Service)}
	for _, p := range e.Problems {
		lines = append(lines, p.String())
	}
	return strings.Join(lines, "\n")
}

// topicSpec is a topic as the service needs it.
type topicSpec struct {
	name        string
	partitions  int32 // to create it with
	fixed       bool  // it must have as many
	replication int16 // 0: the broker's default
	config      map[string]string
	essential   map[string]string // parts of config without which the service must not run
	least       map[string]int64  // settings that must not be lower, essential too
	own         bool              // the runtime's own topic
}

// Settings of the runtime's topics, as Kafka names them.
const (
	settingCleanup    = "cleanup.policy"
	settingMaxMessage = "max.message.bytes"

	defaultMaxMessage = 1_048_588 // Kafka's max.message.bytes where nothing is set
	deadLetterKept    = 30 * 24 * time.Hour
)

// topicsOf lists the topics of a service: its own, what it hears and what it
// says, by name.
func topicsOf(p *plan, cfg Config) []topicSpec {
	names := namesOf(p.service, cfg.TopicPrefix)
	declared := func(name string) Topic { return p.topics[strings.TrimPrefix(name, cfg.TopicPrefix)] }
	own := func(name string, config map[string]string, least int) topicSpec {
		d := declared(name)
		t := topicSpec{
			name: name, partitions: p.tasks, fixed: name != names.dlq, replication: d.Replication, own: true,
			config: config, essential: map[string]string{settingCleanup: config[settingCleanup]}, least: map[string]int64{settingMaxMessage: int64(least)},
		}
		maps.Copy(t.config, d.Config)
		t.config[settingCleanup] = t.essential[settingCleanup]
		t.config[settingMaxMessage] = strconv.Itoa(least)
		return t
	}
	all := []topicSpec{
		own(names.inbox, map[string]string{settingCleanup: "delete"}, eventTopicBytes(cfg)),
		// Restoring reads the whole topic, so it is kept short: small segments are
		// closed soon, and compacted as soon as a tenth of them is outdated.
		// Deletions stay for an hour, longer than any restore or view reads on.
		own(names.journal, map[string]string{
			settingCleanup: "compact", "min.cleanable.dirty.ratio": "0.1", "segment.bytes": "33554432", "segment.ms": "600000",
			"delete.retention.ms": "3600000", "max.compaction.lag.ms": "1800000",
		}, max(defaultMaxMessage, p.journalRecordBytes(cfg.MaxEventBytes)+64<<10)),
		own(names.dlq, map[string]string{
			settingCleanup: "delete", "retention.ms": strconv.FormatInt(deadLetterKept.Milliseconds(), 10),
		}, maxDeadLetter+1<<20),
	}
	used := map[string]bool{}
	for _, e := range p.events {
		used[e.Topic] = true
	}
	for name := range p.topics {
		used[name] = true
	}
	for _, t := range all {
		delete(used, strings.TrimPrefix(t.name, cfg.TopicPrefix))
	}
	for name := range used {
		d := p.topics[name]
		t := topicSpec{name: names.topic(name), partitions: d.Partitions, fixed: d.Partitions > 0, replication: d.Replication, config: map[string]string{}}
		orDefault(&t.partitions, p.tasks)
		maps.Copy(t.config, d.Config)
		if n := eventTopicBytes(cfg); n > defaultMaxMessage {
			if _, set := t.config[settingMaxMessage]; !set {
				t.config[settingMaxMessage] = strconv.Itoa(n)
			}
		}
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b topicSpec) int { return strings.Compare(a.name, b.name) })
	return all
}

// eventTopicBytes is the largest batch of events that the service sends.
func eventTopicBytes(cfg Config) int { return max(defaultMaxMessage, cfg.MaxEventBytes+128<<10) }

// verifyTopics checks that the topics are such that the service can run. It
// returns a *TopicsError with all that is wrong, or another error if the brokers
// do not answer.
func verifyTopics(ctx context.Context, adm *kadm.Client, p *plan, cfg Config) error {
	problems, err := topicProblems(ctx, adm, p, cfg)
	if err != nil {
		return err
	}
	problems = slices.DeleteFunc(problems, func(p TopicProblem) bool { return p.Harmless })
	if len(problems) > 0 {
		return &TopicsError{p.service, problems}
	}
	return nil
}

// topicProblems compares all topics with what the brokers have.
func topicProblems(ctx context.Context, adm *kadm.Client, p *plan, cfg Config) ([]TopicProblem, error) {
	specs := topicsOf(p, cfg)
	names := make([]string, 0, len(specs))
	for _, t := range specs {
		names = append(names, t.name)
	}
	details, err := adm.ListTopics(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("ask the brokers for topics: %w", err)
	}
	var there []string
	for _, n := range names {
		d := details[n]
		switch {
		case d.Err == nil:
			there = append(there, n)
		case !errors.Is(d.Err, kerr.UnknownTopicOrPartition):
			return nil, fmt.Errorf("ask the brokers for topic %q: %w", n, d.Err)
		}
	}
	configs := map[string]map[string]string{}
	if len(there) > 0 {
		described, err := adm.DescribeTopicConfigs(ctx, there...)
		if err != nil {
			return nil, fmt.Errorf("ask the brokers for the settings of topics: %w", err)
		}
		for _, r := range described {
			if errors.Is(r.Err, kerr.UnknownTopicOrPartition) {
				// Another broker than the one that listed it, which has not heard
				// of it yet.
				there = slices.DeleteFunc(there, func(n string) bool { return n == r.Name })
				continue
			}
			if r.Err != nil {
				return nil, fmt.Errorf("ask the brokers for the settings of topic %q: %w", r.Name, r.Err)
			}
			configs[r.Name] = map[string]string{}
			for _, c := range r.Configs {
				configs[r.Name][c.Key] = c.MaybeValue()
			}
		}
	}
	apply := fmt.Sprintf("run `%s topics --apply`", p.service)
	var all []TopicProblem
	for _, t := range specs {
		d := details[t.name]
		if !slices.Contains(there, t.name) {
			all = append(all, TopicProblem{Topic: t.name, What: "does not exist", Remedy: apply, Missing: true})
			continue
		}
		all = append(all, t.differences(d, configs[t.name], apply)...)
	}
	return all, nil
}

func (t *topicSpec) differences(d kadm.TopicDetail, config map[string]string, apply string) []TopicProblem {
	var all []TopicProblem
	add := func(harmless bool, setting, remedy, format string, a ...any) {
		all = append(all, TopicProblem{Topic: t.name, What: fmt.Sprintf(format, a...), Remedy: remedy, Harmless: harmless, setting: setting})
	}
	if n := int32(len(d.Partitions)); n != t.partitions && t.fixed {
		if t.own {
			add(false, "", fmt.Sprintf("declare Tasks(%d), or drain the service and create its topics anew; a changed count moves flows away from their state", n),
				"has %d partitions and the service has %d tasks", n, t.partitions)
		} else {
			add(false, "", fmt.Sprintf("declare Partitions: %d, or create the topic anew; a changed count breaks the order of its keys", n),
				"has %d partitions and %d are declared", n, t.partitions)
		}
	}
	if n := int16(d.Partitions.NumReplicas()); t.replication > 0 && n != t.replication {
		add(true, "", "reassign its partitions with kafka-reassign-partitions.sh, or change the declaration", "has %d replicas and %d are declared", n, t.replication)
	}
	for _, k := range slices.Sorted(maps.Keys(t.config)) {
		want, is := t.config[k], config[k]
		if least, ok := t.least[k]; ok {
			if n, err := strconv.ParseInt(is, 10, 64); err != nil || n < least {
				add(false, k, apply, "has %s=%s and needs at least %d", k, is, least)
			}
			continue
		}
		if is != want {
			_, essential := t.essential[k]
			add(!essential, k, apply, "has %s=%s, not %s", k, is, want)
		}
	}
	return all
}

// applyTopics creates what is missing and sets what is set otherwise than
// declared, and waits until all of it is there. It deletes nothing and never
// changes partition counts or replicas. What it did it tells to done.
func applyTopics(ctx context.Context, adm *kadm.Client, p *plan, cfg Config, done func(format string, a ...any)) error {
	problems, err := topicProblems(ctx, adm, p, cfg)
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range topicsOf(p, cfg) {
		for _, x := range problems {
			if x.Topic != t.name {
				continue
			}
			if err := t.mend(ctx, adm, x, done); err != nil {
				errs = append(errs, err)
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return awaitTopics(ctx, adm, p, cfg)
}

func (t *topicSpec) mend(ctx context.Context, adm *kadm.Client, x TopicProblem, done func(string, ...any)) error {
	switch {
	case x.Missing:
		config := map[string]*string{}
		for k, v := range t.config {
			config[k] = kadm.StringPtr(v)
		}
		replication := t.replication
		orDefault(&replication, -1)
		_, err := adm.CreateTopic(ctx, t.partitions, replication, config, t.name)
		if errors.Is(err, kerr.TopicAlreadyExists) {
			return nil // another service that shares it was faster
		}
		if err != nil {
			return fmt.Errorf("create topic %q with %d partitions and %d replicas: %w", t.name, t.partitions, t.replication, err)
		}
		done("topic %q created with %d partitions", t.name, t.partitions)
	case x.setting != "":
		value := t.config[x.setting]
		set := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: x.setting, Value: &value}}
		responses, err := adm.AlterTopicConfigs(ctx, set, t.name)
		if err == nil {
			for _, r := range responses {
				err = errors.Join(err, r.Err)
			}
		}
		if err != nil {
			return fmt.Errorf("set %s=%s of topic %q: %w", x.setting, value, t.name, err)
		}
		done("topic %q: %s set to %s", t.name, x.setting, value)
	}
	return nil
}

// awaitTopics waits until every broker that is asked knows the topics and a
// leader for each partition, and returns what is still wrong with them.
func awaitTopics(ctx context.Context, adm *kadm.Client, p *plan, cfg Config) error {
	for {
		problems, err := topicProblems(ctx, adm, p, cfg)
		if err != nil {
			return err
		}
		pending := slices.ContainsFunc(problems, func(p TopicProblem) bool { return p.Missing || p.setting != "" })
		if !pending {
			if pending, err = leaderless(ctx, adm, p, cfg); err != nil {
				return err
			}
		}
		if !pending {
			if len(problems) > 0 {
				return &TopicsError{p.service, problems}
			}
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("wait for the topics to appear: %w", context.Cause(ctx))
		}
	}
}

func leaderless(ctx context.Context, adm *kadm.Client, p *plan, cfg Config) (bool, error) {
	var names []string
	for _, t := range topicsOf(p, cfg) {
		names = append(names, t.name)
	}
	details, err := adm.ListTopics(ctx, names...)
	if err != nil {
		return false, fmt.Errorf("ask the brokers for topics: %w", err)
	}
	for _, d := range details {
		for _, x := range d.Partitions {
			if x.Leader < 0 || x.Err != nil { // an error of the partition means that it has no leader yet
				return true, nil //nolint:nilerr // which is the answer
			}
		}
	}
	return false, nil
}

// CreateTopics creates the topics that the service needs and that are missing,
// and sets their declared settings, as the topics command does with --apply. It
// returns when they are there; a *[TopicsError] tells what it could not mend.
func (s *Service) CreateTopics(ctx context.Context, cfg Config) error {
	p := newPlan(s)
	if err := p.err(); err != nil {
		return err
	}
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return err
	}
	cl, err := adminClient(cfg)
	if err != nil {
		return err
	}
	defer cl.Close()
	return applyTopics(ctx, kadm.NewClient(cl), p, cfg, func(string, ...any) {})
}

// adminClient is a client that sees at once what it changed: kgo answers
// questions about topics from memory for 5 s otherwise.
func adminClient(cfg Config, more ...kgo.Opt) (*kgo.Client, error) {
	cl, err := kgo.NewClient(cfg.kafka(append(more, clientLogger(cfg.Logger), kgo.MetadataMinAge(10*time.Millisecond))...)...)
	if err != nil {
		return nil, fmt.Errorf("make the admin client: %w", err)
	}
	return cl, nil
}
