package choreotest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/contract"
	"github.com/choreography-go/choreography/choreo/deadletter"
	"github.com/choreography-go/choreography/choreo/operator"
	"github.com/twmb/franz-go/pkg/kgo"
)

// topicKind is what a topic carries.
type topicKind int

const (
	eventTopic topicKind = iota
	inboxTopic
	journalTopic
	deadLetterTopic
)

type topic struct {
	name       string
	kind       topicKind
	service    string // whose it is; "" of events
	partitions int
}

// topics are all there are, in the order of the services.
func (s *simulation) topics() []topic {
	var all []topic
	add := func(t topic) {
		if !slices.ContainsFunc(all, func(x topic) bool { return x.name == t.name }) {
			all = append(all, t)
		}
	}
	for _, x := range s.services {
		for _, c := range x.contracts {
			for _, h := range c.Hears {
				add(topic{h.Topic, eventTopic, "", c.Tasks})
			}
			for _, said := range c.Says {
				add(topic{said.Topic, eventTopic, "", c.Tasks})
			}
			add(topic{x.name + ".inbox", inboxTopic, x.name, c.Tasks})
			add(topic{x.name + ".journal", journalTopic, x.name, c.Tasks})
			add(topic{x.name + ".dlq", deadLetterTopic, x.name, 1})
		}
	}
	return all
}

// inputs are the topics that a service reads in every version.
func (s *simulatedService) inputs() []string {
	all := []string{s.name + ".inbox"}
	for i, c := range s.contracts {
		var own []string
		for _, h := range c.Hears {
			own = append(own, h.Topic)
		}
		if i == 0 {
			all = append(all, own...)
		} else {
			all = slices.DeleteFunc(all, func(t string) bool { return t != all[0] && !slices.Contains(own, t) })
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// hearer is a handler that hears a type of event.
type hearer struct {
	service, event string
	contract.Hearer
}

// hearers are all handlers, in whatever version of a service.
func (s *simulation) hearers(yield func(hearer) bool) {
	for _, x := range s.services {
		for _, c := range x.contracts {
			for _, h := range c.Hears {
				for _, by := range h.By {
					if !yield(hearer{x.name, h.Type, by}) {
						return
					}
				}
			}
		}
	}
}

// hasAlways reports whether a handler hears an event in all versions of the
// service. What only some versions hear may have gone by while another one ran.
func (s *simulatedService) hasAlways(handler, event string) bool {
	for _, c := range s.contracts {
		if !slices.ContainsFunc(c.Hears, func(h contract.Heard) bool {
			return h.Type == event && slices.ContainsFunc(h.By, func(by contract.Hearer) bool { return by.Name == handler })
		}) {
			return false
		}
	}
	return true
}

// observer reads all that is committed, and keeps it.
type observer struct {
	client *kgo.Client
	done   chan struct{}
	kinds  map[string]topic
	last   int // of count, as settle saw it

	mu      sync.Mutex
	records []*kgo.Record              // in the order of reading: each partition's in its order
	next    map[string]map[int32]int64 // by topic and partition, the offset after the last one read
	ended   map[string]bool            // flows that have ended or show as stuck
	parked  parkedEvents
	waits   deadlines
	joins   joins
	stuck   map[string]*operator.Journal // by service
}

func (w *World) observe() (*observer, error) {
	o := &observer{done: make(chan struct{}), kinds: map[string]topic{}, next: map[string]map[int32]int64{}, ended: map[string]bool{}, parked: parkedEvents{}, waits: deadlines{}, joins: joins{}, stuck: map[string]*operator.Journal{}}
	var names []string
	for _, t := range w.sim.topics() {
		names = append(names, t.name)
		o.kinds[t.name] = t
		o.next[t.name] = map[int32]int64{}
		if t.kind == journalTopic {
			o.stuck[t.service] = &operator.Journal{}
		}
	}
	var err error
	o.client, err = kgo.NewClient(kgo.SeedBrokers(w.cluster.Addrs()...), kgo.Dialer(w.outside.Dial), kgo.DisableClientMetrics(), kgo.ConsumeTopics(names...),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.FetchMaxWait(fetchWait),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	if err != nil {
		return nil, fmt.Errorf("make the observer: %w", err)
	}
	go func() {
		defer close(o.done)
		for {
			fs := o.client.PollFetches(context.Background())
			if fs.IsClientClosed() {
				return
			}
			o.take(fs.Records())
		}
	}()
	return o, nil
}

func (o *observer) close() {
	o.client.Close()
	<-o.done
}

func (o *observer) take(recs []*kgo.Record) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, rec := range recs {
		at := o.next[rec.Topic]
		if rec.Offset < at[rec.Partition] {
			continue // read again after a move of the leader
		}
		at[rec.Partition] = rec.Offset + 1
		if rec.Attrs.IsControl() {
			continue
		}
		o.records = append(o.records, rec)
		switch o.kinds[rec.Topic].kind {
		case eventTopic:
			if v := cloudevent.ViewOf(rec); len(v.Outcome()) > 0 {
				o.ended[flowOfRecord(rec)] = true
			}
		case journalTopic:
			o.parked.take(rec)
			o.waits.take(rec)
			o.joins.take(rec)
			o.stuck[o.kinds[rec.Topic].service].Apply(rec)
		case deadLetterTopic:
			if !deadletter.IsMark(rec) && !deadletter.IsAudit(rec) {
				o.ended[flowOfRecord(rec)] = true
			}
		}
	}
}

// flowOfRecord is the flow that an event belongs to.
func flowOfRecord(rec *kgo.Record) string {
	v := cloudevent.ViewOf(rec)
	if id := v.CorrelationID(); len(id) > 0 {
		return string(id)
	}
	return string(rec.Key)
}

// count is how many records were read.
func (o *observer) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.records)
}

// letters are the dead letters of a flow that are not marked yet, in the order of
// reading.
func (o *observer) letters(topic, flow string) (all []*kgo.Record) {
	o.mu.Lock()
	defer o.mu.Unlock()
	marked := map[deadletter.Position]bool{}
	for _, rec := range slices.Backward(o.records) {
		if rec.Topic != topic {
			continue
		}
		if m, ok := deadletter.ReadMark(rec); ok {
			marked[m.Letter] = true
		} else if l, ok := deadletter.ReadLetter(rec); ok && l.Flow == flow && !marked[l.At] {
			all = append(all, rec)
		}
	}
	slices.Reverse(all)
	return all
}

// stuckAt is what of a service's flows is stuck.
func (o *observer) stuckAt(service string) []operator.Item {
	o.mu.Lock()
	defer o.mu.Unlock()
	if j := o.stuck[service]; j != nil {
		return j.Stuck(time.Now())
	}
	return nil
}

// waiting is the flow of some event that is parked, if there is one.
func (o *observer) waiting() (flow string, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.parked.any()
}

// pending is a deadline that is pending and due before a time, if there is any.
func (o *observer) pending(before time.Time) (of deadlineOf, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.waits.pending(before)
}

// incomplete tells of the joins of a flow that wait, "" if none does.
func (o *observer) incomplete(flow string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.joins.waiting(flow)
}

// over reports whether a flow has ended or shows as stuck.
func (o *observer) over(flow string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ended[flow]
}

func (o *observer) position(topic string, p int32) int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.next[topic][p]
}

// latest is the nth last event of a topic, if it was said after a time.
func (o *observer) latest(topic string, n int, after time.Time) (*kgo.Record, eventName) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, rec := range slices.Backward(o.records) {
		if rec.Topic != topic {
			continue
		}
		if rec.Timestamp.Before(after) {
			break
		}
		if n--; n > 0 {
			continue
		}
		ev, err := cloudevent.Read(rec)
		if err != nil {
			break
		}
		return rec, eventName{ev.Source, ev.ID}
	}
	return nil, eventName{}
}
