package task

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// topic is what identifies a topic and its partitions.
type topic struct {
	id         [16]byte
	partitions int32
}

// topology is the topics that the tasks stand on: inbox, journal and inputs.
type topology map[string]topic

// names lists the inbox first, then the inputs, then the journal.
func (c *Config) names() []string {
	names := []string{c.Inbox}
	for _, in := range c.Inputs {
		names = append(names, in.Topic)
	}
	return append(names, c.Journal)
}

// describe asks the brokers for the topology. Missing topics are left out of
// it; an error is one of the request or of an answer that says nothing.
func describe(ctx context.Context, cl kmsg.Requestor, names []string) (topology, error) {
	req := kmsg.NewPtrMetadataRequest()
	for _, name := range names {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, fmt.Errorf("asking for the partitions of topics %q: %w", names, err)
	}
	top := make(topology, len(names))
	for _, t := range resp.Topics {
		if t.Topic == nil {
			continue
		}
		switch err := kerr.ErrorForCode(t.ErrorCode); {
		case errors.Is(err, kerr.UnknownTopicOrPartition):
		case err != nil && len(t.Partitions) == 0:
			return nil, fmt.Errorf("asking for the partitions of topic %q: %w", *t.Topic, err)
		default:
			top[*t.Topic] = topic{id: t.TopicID, partitions: int32(len(t.Partitions))}
		}
	}
	return top, nil
}

// check tells all that keeps the topology from being worked with, or nil.
func (c *Config) check(top topology) error {
	var errs []error
	for _, name := range c.names() {
		if t := top[name]; t.partitions == 0 {
			errs = append(errs, &TopicError{Topic: name, What: "does not exist", Remedy: fmt.Sprintf("create it with `%s topics --apply`", c.Command)})
		}
	}
	tasks, journal := top[c.Inbox].partitions, top[c.Journal].partitions
	if tasks > 0 && journal > 0 && tasks != journal {
		errs = append(errs, &TopicError{
			Topic:  c.Journal,
			What:   fmt.Sprintf("has %d partitions and the inbox %q has %d", journal, c.Inbox, tasks),
			Remedy: fmt.Sprintf("the two must have the same number, for each task writes its own; create them anew with `%s topics --apply`", c.Command),
		})
	}
	return errors.Join(errs...)
}

// compare tells all that is not as it was, or nil.
func (c *Config) compare(was, is topology) error {
	var errs []error
	for _, name := range c.names() {
		w := was[name]
		i, ok := is[name]
		switch {
		case !ok:
			errs = append(errs, &TopicError{
				Topic:  name,
				What:   "was deleted while the service ran",
				Remedy: fmt.Sprintf("create it with `%s topics --apply`, decide where to start with `%s`, then restart", c.Command, c.reset(name)),
			})
		case i.id != w.id:
			errs = append(errs, &TopicError{
				Topic:  name,
				What:   fmt.Sprintf("was deleted and created anew while the service ran (topic id was %s, is %s)", idText(w.id), idText(i.id)),
				Remedy: fmt.Sprintf("decide where to start with `%s`, then restart", c.reset(name)),
			})
		case i.partitions != w.partitions:
			errs = append(errs, &TopicError{
				Topic: name,
				What:  fmt.Sprintf("had %d partitions and now has %d", w.partitions, i.partitions),
				Remedy: "keys have moved to other partitions, so their order and state would be lost: " +
					"let the flows in it end or move them to a topic made with the new number, then restart every instance",
			})
		}
	}
	return errors.Join(errs...)
}

func (c *Config) reset(topic string) string {
	return fmt.Sprintf("%s topics --reset %s --from earliest|latest", c.Command, topic)
}

func idText(id [16]byte) string { return fmt.Sprintf("%x", id[:]) }

// sources are the input partitions of a task, the inbox's first: of an input
// with more partitions than there are tasks, those whose number modulo the
// number of tasks is the task's.
func (c *Config) sources(top topology, partition int32) []*Source {
	tasks := top[c.Inbox].partitions
	list := []*Source{{Topic: c.Inbox, TopicID: top[c.Inbox].id, Partition: partition, from: c.InboxFrom}}
	for _, in := range c.Inputs {
		t := top[in.Topic]
		for q := partition; q < t.partitions; q += tasks {
			list = append(list, &Source{Topic: in.Topic, TopicID: t.id, Partition: q, from: in.From})
		}
	}
	return list
}
