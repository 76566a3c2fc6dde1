// Package measure runs contenders, one at a time and each as a process, on one
// broker or cluster, and takes their measures. It judges no figure, but a run
// whose output is wrong is an error.
package measure

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/choreography-go/choreography/bench/internal/workload"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Rig is what all runs have in common. Make it with NewRig. It does one thing
// at a time.
type Rig struct {
	brokers []string
	// Command starts a contender.
	command func(Contender) []string
	admin   *kadm.Client
	client  *kgo.Client
	prefix  string // of all names: nobody else's
	runs    int
	inputs  map[input]string // topics that are filled

	// Brokers is how many there are, Leaders over how many the partitions of an
	// output are spread.
	Brokers, Leaders int
}

// input tells inputs apart.
type input struct {
	n     int64
	flows int
}

const (
	partitions = 4
	lanes      = 4
)

// NewRig connects. command is the command line that starts a contender.
func NewRig(ctx context.Context, brokers []string, command func(Contender) []string) (*Rig, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.MetadataMinAge(50*time.Millisecond))
	if err != nil {
		return nil, fmt.Errorf("make the admin client: %w", err)
	}
	r := &Rig{
		brokers: brokers, command: command, client: client, admin: kadm.NewClient(client),
		prefix: fmt.Sprintf("bench-%x", time.Now().UnixMilli()), inputs: map[input]string{},
	}
	known, err := r.admin.ListBrokers(ctx)
	if err != nil {
		client.Close()
		return nil, fmt.Errorf("ask %s for the brokers; is KAFKA_BROKERS right? %w", strings.Join(brokers, ","), err)
	}
	r.Brokers = len(known)
	return r, nil
}

// Close deletes every topic and group of the rig and disconnects.
func (r *Rig) Close(ctx context.Context) error {
	defer r.client.Close()
	return r.forget(ctx, r.prefix)
}

// name is that of the next run.
func (r *Rig) name(c Contender) string {
	r.runs++
	return fmt.Sprintf("%s-%d-%s", r.prefix, r.runs, c)
}

// create makes a topic. The broker times what is appended to it, so that a run
// is timed without a reader.
func (r *Rig) create(ctx context.Context, topic string) error {
	appendTime := "LogAppendTime"
	if _, err := r.admin.CreateTopic(ctx, partitions, -1, map[string]*string{"message.timestamp.type": &appendTime}, topic); err != nil {
		return fmt.Errorf("create topic %s: %w", topic, err)
	}
	// Not every broker knows at once of a topic that was just created.
	for {
		topics, err := r.admin.ListTopics(ctx, topic)
		if err != nil {
			return fmt.Errorf("ask for topic %s: %w", topic, err)
		}
		leaders := map[int32]bool{}
		for _, p := range topics[topic].Partitions {
			if p.Err == nil && p.Leader >= 0 {
				leaders[p.Leader] = true
			}
		}
		if topics[topic].Err == nil && len(topics[topic].Partitions) == partitions && len(leaders) > 0 {
			r.Leaders = len(leaders)
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("wait for topic %s: %w", topic, context.Cause(ctx))
		}
	}
}

// filled is a topic with n orders of so many flows. Runs of the same kind read
// the same one.
func (r *Rig) filled(ctx context.Context, n int64, flows int) (string, error) {
	topic, ok := r.inputs[input{n, flows}]
	if ok {
		return topic, nil
	}
	topic = fmt.Sprintf("%s-in-%d-%d", r.prefix, n, flows)
	if err := r.create(ctx, topic); err != nil {
		return "", err
	}
	feeder, err := workload.NewFeeder(r.brokers, topic, flows)
	if err != nil {
		return "", err
	}
	defer feeder.Close()
	if err := feeder.Feed(ctx, n); err != nil {
		return "", err
	}
	r.inputs[input{n, flows}] = topic
	return topic, nil
}

// forget deletes the topics and groups whose names begin so.
func (r *Rig) forget(ctx context.Context, prefix string) error {
	topics, err := r.admin.ListTopics(ctx)
	if err != nil {
		return fmt.Errorf("list topics to delete: %w", err)
	}
	var names []string
	for _, t := range topics.Names() {
		if strings.HasPrefix(t, prefix) {
			names = append(names, t)
		}
	}
	if len(names) > 0 {
		deleted, err := r.admin.DeleteTopics(ctx, names...)
		if err == nil {
			err = deleted.Error()
		}
		if err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
			return fmt.Errorf("delete topics: %w", err)
		}
	}
	groups, err := r.admin.ListGroups(ctx)
	if err != nil {
		return fmt.Errorf("list groups to delete: %w", err)
	}
	names = names[:0]
	for _, g := range groups.Groups() {
		if strings.HasPrefix(g, prefix) {
			names = append(names, g)
		}
	}
	if len(names) == 0 {
		return nil
	}
	// One that is not empty yet, or not any more, goes when its offsets expire.
	_, err = r.admin.DeleteGroups(ctx, names...)
	if err != nil {
		return fmt.Errorf("delete groups: %w", err)
	}
	return nil
}
