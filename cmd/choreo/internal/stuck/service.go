// Package stuck looks for what is stuck in a service's journal, and tells the
// service what to do with it. It owns its clients and joins no group, and keeps
// of the journal what package operator does.
package stuck

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/choreography-go/choreography/choreo/operator"
	"github.com/choreography-go/choreography/cmd/choreo/internal/topic"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Service is the service that is asked for.
type Service struct {
	// Options connect clients to the brokers.
	Options []kgo.Opt
	// Name and Prefix make the names of its topics.
	Name, Prefix string
	// Patience is how long the brokers may say nothing.
	Patience time.Duration
}

// Journal is the name of the topic in which it is found what is stuck, Inbox that
// of the topic to which commands are sent, and Audits that of the topic on which
// they are answered.
func (s *Service) Journal() string { return s.Prefix + s.Name + ".journal" }

// Inbox is the topic to which commands are sent.
func (s *Service) Inbox() string { return s.Prefix + s.Name + ".inbox" }

// Audits is the topic on which commands are answered.
func (s *Service) Audits() string { return s.Prefix + s.Name + ".dlq" }

func (s *Service) topic(name string) *topic.Topic {
	return &topic.Topic{Options: s.Options, Service: s.Name, Prefix: s.Prefix, Name: name, Patience: s.Patience}
}

// Selection says what is meant: all that every named list allows.
type Selection struct {
	Items []string // as Hash has them
	Flows []string
	Steps []string // names of steps, reactions and deadlines
	Kinds []string
}

// None reports that nothing is named.
func (s Selection) None() bool { return len(s.Items)+len(s.Flows)+len(s.Steps)+len(s.Kinds) == 0 }

func (s Selection) matches(i operator.Item) bool {
	allows := func(names []string, any ...string) bool {
		return len(names) == 0 || slices.ContainsFunc(any, func(x string) bool { return slices.Contains(names, x) })
	}
	return allows(s.Items, i.Hash()) && allows(s.Flows, i.Flow, i.Key) && allows(s.Steps, i.Name) && allows(s.Kinds, string(i.Kind))
}

// Found is what is stuck.
type Found struct {
	Items      []operator.Item // that are meant, the oldest first
	Joins      int             // that wait for another event
	Unreadable int             // records that this version cannot read
}

// late is how long after its time a deadline may fire.
const late = 5 * time.Second

// Look reads the journal from its beginning to its end as it is now, committed
// only.
func (s *Service) Look(ctx context.Context, which Selection) (Found, error) {
	t := s.topic(s.Journal())
	spans, err := t.Spans(ctx)
	if err != nil {
		return Found{}, err
	}
	var j operator.Journal
	if err := t.Read(ctx, spans, j.Apply); err != nil {
		return Found{}, err
	}
	f := Found{Unreadable: j.Unreadable}
	joins := j.Joins()
	f.Joins = len(joins)
	all := j.Stuck(time.Now().Add(-late))
	if slices.Contains(which.Kinds, string(operator.Join)) {
		all = append(all, joins...)
	}
	for _, i := range all {
		if which.matches(i) {
			f.Items = append(f.Items, i)
		}
	}
	return f, nil
}

// Slots counts what the journal holds of flows.
func (s *Service) Slots(ctx context.Context, flows []string) (map[string]int, error) {
	t := s.topic(s.Journal())
	spans, err := t.Spans(ctx)
	if err != nil {
		return nil, err
	}
	there := map[string]bool{}
	err = t.Read(ctx, spans, func(rec *kgo.Record) {
		if cut := bytes.LastIndexByte(rec.Key, 0); cut >= 0 && slices.Contains(flows, string(rec.Key[:cut])) {
			if rec.Value == nil {
				delete(there, string(rec.Key))
			} else {
				there[string(rec.Key)] = true
			}
		}
	})
	slots := map[string]int{}
	for key := range there {
		slots[key[:bytes.LastIndexByte([]byte(key), 0)]]++
	}
	return slots, err
}

// Answer is a command, and what became of it; no Audit: that is not known yet.
type Answer struct {
	operator.Command
	Audit *operator.Audit
}

// Telling is how commands are given.
type Telling struct {
	By, Why string
	// Wait is how long the service may take to answer; 0: it is not asked.
	Wait time.Duration
	// ByKey sends commands to the tasks of their keys, rather than to those of their
	// targets.
	ByKey bool
}

// Tell sends commands, and tells each what became of it, in no order. Those that
// are not answered in time come last.
func (s *Service) Tell(ctx context.Context, how Telling, commands []operator.Command, each func(Answer) error) error {
	if len(commands) == 0 {
		return nil
	}
	waiting := map[string]operator.Command{}
	records := make([]*kgo.Record, len(commands))
	for i := range commands {
		c := &commands[i]
		c.ID, c.By, c.Why = rand.Text(), how.By, how.Why
		if err := c.Validate(); err != nil {
			return err
		}
		waiting[c.ID] = *c
		records[i] = c.Record(s.Inbox())
	}
	audits := s.topic(s.Audits())
	var from map[int32]topic.Span
	if how.Wait > 0 {
		var err error
		if from, err = audits.Ends(ctx); err != nil {
			return fmt.Errorf("nothing was sent, because the answers could not be read (--wait=0 does without): %w", err)
		}
	}
	options := []kgo.Opt{kgo.RecordPartitioner(kgo.ManualPartitioner())}
	if how.ByKey {
		options = nil
	}
	sender, err := s.topic(s.Inbox()).Sender(options...)
	if err != nil {
		return err
	}
	defer sender.Close()
	if err := sender.Send(ctx, records); err != nil {
		return fmt.Errorf("whether it was sent is not known; do the same again, what is done already is recognized: %w", err)
	}
	if how.Wait > 0 {
		listening, cancel := context.WithTimeout(ctx, how.Wait)
		defer cancel()
		err := audits.Follow(listening, from, func(rec *kgo.Record) (bool, error) {
			a, ok := operator.ReadAudit(rec)
			c, mine := waiting[a.Command]
			if !ok || !mine {
				return false, nil
			}
			delete(waiting, a.Command)
			return len(waiting) == 0, each(Answer{c, &a})
		})
		if err != nil && (ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded)) {
			return err
		}
	}
	for _, c := range commands {
		if _, is := waiting[c.ID]; is {
			if err := each(Answer{Command: c}); err != nil {
				return err
			}
		}
	}
	return nil
}
