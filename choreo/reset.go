package choreo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/choreography-go/choreography/choreo/internal/journal"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// resetTopic decides where a service goes on in a topic when that is no longer
// known: its committed offsets expired, or the topic was created anew. With all
// instances stopped it commits new offsets for every partition and notes in the
// journal that the topic, as it is now, was begun.
//
// The offsets come first. If it fails in between, the journal still contradicts
// the offsets of a topic that was created anew, so that the service does not run
// before the command is repeated.
func resetTopic(ctx context.Context, cfg Config, p *plan, topic string, from From, done func(format string, a ...any)) error {
	names := namesOf(p.service, cfg.TopicPrefix)
	topic, err := names.heard(p, topic)
	if err != nil {
		return err
	}
	cl, err := adminClient(cfg)
	if err != nil {
		return err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)

	if err := noMembers(ctx, adm, p.service, names.group); err != nil {
		return err
	}
	details, err := adm.ListTopics(ctx, topic, names.journal)
	if err != nil {
		return fmt.Errorf("ask the brokers for topics: %w", err)
	}
	for _, n := range []string{topic, names.journal} {
		if err := details[n].Err; err != nil {
			return fmt.Errorf("ask the brokers for topic %q: %w; if it does not exist, run `%s topics --apply` first", n, err, p.service)
		}
	}
	if n := len(details[names.journal].Partitions); n != int(p.tasks) {
		return fmt.Errorf("topic %q has %d partitions and the service has %d tasks; see `%s topics`", names.journal, n, p.tasks, p.service)
	}
	at, err := startOffsets(ctx, adm, topic, from)
	if err != nil {
		return err
	}
	if err := awaitStable(ctx, adm, names.group, topic); err != nil {
		return err
	}
	if err := adm.CommitAllOffsets(ctx, names.group, at); err != nil {
		return fmt.Errorf("commit offsets of %q for group %q: %w", topic, names.group, err)
	}
	if err := writeBegun(ctx, cfg, names, p.tasks, details[topic]); err != nil {
		return fmt.Errorf("%w; repeat the command", err)
	}
	for _, o := range at.Sorted() {
		done("topic %q, partition %d: the service goes on at offset %d", o.Topic, o.Partition, o.At)
	}
	return nil
}

// heard finds the topic that a command names, with or without the prefix.
func (n topicNames) heard(p *plan, topic string) (string, error) {
	all := []string{n.inbox}
	for _, t := range p.inputTopics() {
		all = append(all, n.topic(t))
	}
	for _, full := range all {
		if topic == full || n.prefix+topic == full {
			return full, nil
		}
	}
	return "", &usageError{fmt.Sprintf("--reset %q: the service does not read this topic; it reads %s", clip(topic), strings.Join(all, ", "))}
}

// noMembers refuses while instances of the service are in the group.
func noMembers(ctx context.Context, adm *kadm.Client, service, group string) error {
	groups, err := adm.DescribeGroups(ctx, group)
	if err != nil {
		return fmt.Errorf("ask the brokers for group %q: %w", group, err)
	}
	g := groups[group]
	if g.Err != nil && !errors.Is(g.Err, kerr.GroupIDNotFound) {
		return fmt.Errorf("ask the brokers for group %q: %w", group, g.Err)
	}
	var who []string
	for _, m := range g.Members {
		name := m.MemberID
		if m.InstanceID != nil {
			name = *m.InstanceID
		}
		who = append(who, fmt.Sprintf("%q at %s", clip(name), clip(m.ClientHost)))
	}
	if len(who) == 0 {
		return nil
	}
	slices.Sort(who)
	return fmt.Errorf("group %q has members: %s; stop all instances of %s first (after it was stopped or killed, an instance leaves the group within SESSION_TIMEOUT)", group, strings.Join(who, ", "), service)
}

// startOffsets are the offsets to go on at: the oldest records, or behind the
// last committed ones.
func startOffsets(ctx context.Context, adm *kadm.Client, topic string, from From) (kadm.Offsets, error) {
	list := adm.ListStartOffsets
	if from == Latest {
		list = adm.ListCommittedOffsets
	}
	listed, err := list(ctx, topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("ask the brokers for the offsets of topic %q: %w", topic, err)
	}
	var at kadm.Offsets
	listed.Each(func(o kadm.ListedOffset) { at.AddOffset(o.Topic, o.Partition, o.Offset, -1) })
	return at, nil
}

// awaitStable waits until no transaction that a killed instance left open could
// still commit offsets of the topic over the new ones.
func awaitStable(ctx context.Context, adm *kadm.Client, group, topic string) error {
	ctx = kadm.RequireStable(ctx)
	for {
		fetched, err := adm.FetchOffsetsForTopics(ctx, group, topic)
		if err == nil {
			err = fetched.Error()
		}
		if err == nil || errors.Is(err, kerr.GroupIDNotFound) {
			return nil
		}
		if !errors.Is(err, kerr.UnstableOffsetCommit) {
			return fmt.Errorf("ask the brokers for the offsets of group %q: %w", group, err)
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("group %q has offsets in a transaction that a killed instance left open; the broker ends it within 20 s, repeat the command then: %w", group, context.Cause(ctx))
		}
	}
}

// writeBegun notes in the journal, in a transaction, that all partitions of a
// topic were begun.
func writeBegun(ctx context.Context, cfg Config, names topicNames, tasks int32, topic kadm.TopicDetail) (err error) {
	cl, err := kgo.NewClient(cfg.kafka(clientLogger(cfg.Logger), kgo.TransactionalID(names.group+"/reset"),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(10*time.Millisecond))...)
	if err != nil {
		return fmt.Errorf("make the client that writes the journal: %w", err)
	}
	defer cl.Close()
	fail := func(err error) error {
		return fmt.Errorf("note in journal %q that topic %q was begun: %w", names.journal, topic.Topic, err)
	}
	if err := cl.BeginTransaction(); err != nil {
		return fail(err)
	}
	store, now := journal.New(journal.Config{}), time.Now()
	var records []*kgo.Record
	for _, d := range topic.Partitions {
		c := store.PutBegun(topic.Topic, d.Partition, journal.TopicID(topic.ID))
		records = append(records, c.Record(names.journal, d.Partition%tasks, now))
	}
	if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return fail(errors.Join(err, cl.EndTransaction(context.WithoutCancel(ctx), kgo.TryAbort)))
	}
	if err := cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return fail(err)
	}
	return nil
}
