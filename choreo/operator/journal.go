package operator

import (
	"cmp"
	"slices"
	"time"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/deadletter"
	"github.com/choreography-go/choreography/choreo/internal/journal"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Journal finds in the records of a service's journal what is stuck. It is told
// all records that are committed, those of a partition in their order. Of an event
// it keeps its place and a few attributes.
type Journal struct {
	queues    map[place]*queue
	deadlines map[named]journal.Deadline
	joins     map[named]time.Time // when the first half came
	// Unreadable counts records that this version cannot read, or that are damaged.
	Unreadable int
}

// place is a key of one task.
type place struct {
	task int32
	key  string
}

// named is a deadline, or a step that joins.
type named struct {
	place
	name string
}

// queue is what waits under a key.
type queue struct {
	events map[uint64]event
	tried  *journal.Retry
}

type event struct {
	at, flow, typ, source, id string
	since                     time.Time // when it was parked there
}

// maxText bounds what is kept of an attribute, in bytes.
const maxText = 512

// Apply takes a record.
func (j *Journal) Apply(rec *kgo.Record) {
	if rec.Attrs.IsControl() {
		return
	}
	if key, seq, p, ok, err := journal.ReadParked(rec); ok {
		j.parked(place{rec.Partition, key}, seq, p, rec.Timestamp, err)
		return
	}
	if key, t, ok, err := journal.ReadRetry(rec); ok {
		j.tried(place{rec.Partition, key}, t, err)
		return
	}
	if key, d, ok := journal.ReadDeadline(rec); ok {
		j.deadline(named{place{rec.Partition, key}, d.Name}, d)
	} else if key, name, is := journal.DeadlineSlot(rec); is {
		delete(j.deadlines, named{place{rec.Partition, key}, name})
		if rec.Value != nil {
			j.Unreadable++
		}
	} else if key, step, is := journal.JoinSlot(rec); is {
		j.join(named{place{rec.Partition, key}, step}, rec)
	}
}

func (j *Journal) parked(at place, seq uint64, p *journal.Parked, since time.Time, err error) {
	if err != nil {
		j.Unreadable++
	}
	if p == nil {
		if q := j.queues[at]; q != nil {
			delete(q.events, seq)
			j.tidy(at, q)
		}
		return
	}
	e := event{at: p.At, since: since}
	var ev cloudevent.Event
	view := cloudevent.ViewOf(p.Record)
	if view.Read(&ev) == nil {
		short := func(s string) string { return deadletter.Line([]byte(s), maxText) }
		e.flow, e.typ, e.source, e.id = short(ev.CorrelationID), short(ev.Type), short(ev.Source), short(ev.ID)
	}
	q := j.queue(at)
	if q.events == nil {
		q.events = map[uint64]event{}
	}
	q.events[seq] = e
}

func (j *Journal) tried(at place, t *journal.Retry, err error) {
	if err != nil {
		j.Unreadable++
	}
	q := j.queue(at)
	q.tried = t
	j.tidy(at, q)
}

func (j *Journal) queue(at place) *queue {
	q := j.queues[at]
	if q == nil {
		if j.queues == nil {
			j.queues = map[place]*queue{}
		}
		q = &queue{}
		j.queues[at] = q
	}
	return q
}

// tidy forgets a queue with nothing in it.
func (j *Journal) tidy(at place, q *queue) {
	if len(q.events) == 0 && q.tried == nil {
		delete(j.queues, at)
	}
}

func (j *Journal) deadline(of named, d journal.Deadline) {
	if d.Status != journal.Pending {
		delete(j.deadlines, of)
		return
	}
	if j.deadlines == nil {
		j.deadlines = map[named]journal.Deadline{}
	}
	j.deadlines[of] = d
}

func (j *Journal) join(of named, rec *kgo.Record) {
	_, _, status, since, ok := journal.ReadJoin(rec)
	switch {
	case ok && status == journal.JoinWaiting:
		if j.joins == nil {
			j.joins = map[named]time.Time{}
		}
		j.joins[of] = since
		return
	case !ok && rec.Value != nil:
		j.Unreadable++
	}
	delete(j.joins, of)
}

// Joins are the steps that have heard some of the events that they join, the
// oldest first.
func (j *Journal) Joins() []Item {
	var all []Item
	for of, since := range j.joins {
		all = append(all, Item{Target: Target{Kind: Join, Task: of.task, Key: of.key, Name: of.name, Began: since}, Since: since, Flow: of.key})
	}
	slices.SortFunc(all, older)
	return all
}

// Stuck is what is stuck, the oldest first: the heads of queues that stand at a
// handler, because attempts have failed or its provider is not to be asked now,
// and the deadlines that were due before a time.
func (j *Journal) Stuck(due time.Time) []Item {
	var all []Item
	for at, q := range j.queues {
		if i, is := q.head(at); is {
			all = append(all, i)
		}
	}
	for of, d := range j.deadlines {
		if d.Due().Before(due) {
			all = append(all, Item{
				Target: Target{Kind: Deadline, Task: of.task, Key: of.key, Name: of.name, Began: d.Set},
				Since:  d.Due(), Flow: of.key,
			})
		}
	}
	slices.SortFunc(all, older)
	return all
}

func older(a, b Item) int {
	return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Task, b.Task), cmp.Compare(a.Name, b.Name))
}

// head is the first event of a queue, if it stands at a handler.
func (q *queue) head(at place) (Item, bool) {
	var seq uint64
	found := false
	for other := range q.events {
		if !found || other < seq {
			seq, found = other, true
		}
	}
	e := q.events[seq]
	if !found || e.at == "" {
		return Item{}, false
	}
	i := Item{
		Target: Target{Kind: Step, Task: at.task, Key: at.key, Name: e.at, Seq: seq},
		Since:  e.since, Waiting: len(q.events) - 1, Flow: e.flow, Type: e.typ, Source: e.source, ID: e.id,
	}
	if t := q.tried; t != nil && t.Seq == seq {
		i.Began, i.Since, i.Attempts, i.Next, i.Error = t.Began, t.Began, int(t.Attempts), t.Next, t.Error
		if t.Undo {
			i.Kind = Undo
		}
	}
	if i.Flow == "" {
		i.Flow = at.key
	}
	return i, true
}
