package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// reader is another service: it reads, committed records only, everything that
// the services under test say, all the time. It shares no code with the runtime.
type reader struct {
	w      *world
	client *kgo.Client
	done   chan struct{}

	mu      sync.Mutex
	said    map[string][]said          // by topic, without prefix, in the order of arrival
	next    map[string]map[int32]int64 // offset after the last record read
	changed chan struct{}              // closed and replaced at every arrival
}

// said is one event as it was read.
type said struct {
	topic     string
	partition int32
	offset    int64
	id, typ   string
	flow      string
	cause     string
	time      time.Time // when it was said, by its own account
	at        time.Time // when it was read
	n         int
	bad       string // why it is no event as expected
}

// newReader reads the events that the services say, and their dead letters.
func newReader(w *world) *reader {
	w.t.Helper()
	var topics []string
	for _, t := range []string{topicDone, topicShipped, topicFailures, topicMisfits, topicRefunds, topicAudits, topicLapses, "work.dlq", "ship.dlq", "keep.dlq", "clerk.dlq"} {
		topics = append(topics, w.topic(t))
	}
	there, err := w.admin.ListTopics(timeout(w.t, 30*time.Second), topics...)
	if err != nil {
		w.t.Fatal(err)
	}
	topics = slices.DeleteFunc(topics, func(t string) bool { return there[t].Err != nil })
	r := &reader{w: w, done: make(chan struct{}), said: map[string][]said{}, next: map[string]map[int32]int64{}, changed: make(chan struct{})}
	r.client, err = kgo.NewClient(kgo.SeedBrokers(w.cluster.brokers...), kgo.ConsumeTopics(topics...),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.FetchMaxWait(250*time.Millisecond), kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		w.t.Fatal(err)
	}
	go r.run()
	return r
}

func (r *reader) close() {
	r.client.Close()
	<-r.done
}

// also reads one topic more.
func (r *reader) also(topic string) { r.client.AddConsumeTopics(r.w.topic(topic)) }

func (r *reader) run() {
	defer close(r.done)
	for {
		fetches := r.client.PollFetches(context.Background())
		if fetches.IsClientClosed() {
			return
		}
		at := time.Now()
		r.mu.Lock()
		fetches.EachRecord(func(rec *kgo.Record) {
			topic := strings.TrimPrefix(rec.Topic, r.w.prefix)
			if r.next[topic] == nil {
				r.next[topic] = map[int32]int64{}
			}
			r.next[topic][rec.Partition] = rec.Offset + 1
			if rec.Attrs.IsControl() {
				return
			}
			r.said[topic] = append(r.said[topic], parse(topic, rec, at))
		})
		close(r.changed)
		r.changed = make(chan struct{})
		r.mu.Unlock()
	}
}

// parse reads the headers of a CloudEvent in binary mode, and the payload.
func parse(topic string, rec *kgo.Record, at time.Time) said {
	s := said{topic: topic, partition: rec.Partition, offset: rec.Offset, at: at}
	for _, h := range rec.Headers {
		v := string(h.Value)
		switch h.Key {
		case "ce_id":
			s.id = v
		case "ce_type":
			s.typ = v
		case "ce_correlationid":
			s.flow = v
		case "ce_causationid":
			s.cause = v
		case "ce_time":
			s.time, _ = time.Parse(time.RFC3339Nano, v)
		}
	}
	var e struct {
		Flow string `json:"flow"`
		N    int    `json:"n"`
	}
	err := json.Unmarshal(rec.Value, &e)
	s.n = e.N
	switch {
	case err != nil:
		s.bad = "payload: " + err.Error()
	case s.id == "" || s.typ == "" || s.cause == "" || s.time.IsZero():
		s.bad = "an attribute is missing"
	case e.Flow != s.flow || string(rec.Key) != s.flow:
		s.bad = fmt.Sprintf("correlation id %q, key %q, payload of flow %q", s.flow, rec.Key, e.Flow)
	}
	return s
}

// count is how many events of a topic were read.
func (r *reader) count(topic string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.said[topic])
}

// since returns the events of a topic from the i-th on.
func (r *reader) since(topic string, i int) []said {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]said(nil), r.said[topic][i:]...)
}

// first waits for an event of the topic, from the i-th on, that is such.
func (r *reader) first(topic string, i int, within time.Duration, such func(said) bool) (said, bool) {
	until := time.NewTimer(within)
	defer until.Stop()
	for {
		r.mu.Lock()
		all, changed := r.said[topic], r.changed
		for ; i < len(all); i++ {
			if such(all[i]) {
				defer r.mu.Unlock()
				return all[i], true
			}
		}
		r.mu.Unlock()
		select {
		case <-changed:
		case <-until.C:
			return said{}, false
		}
	}
}

// readAll returns when everything that is committed now has been read.
func (r *reader) readAll(within time.Duration) {
	r.w.t.Helper()
	ctx := timeout(r.w.t, within)
	r.mu.Lock()
	topics := slices.Clone(r.client.GetConsumeTopics())
	r.mu.Unlock()
	starts, err := r.w.admin.ListStartOffsets(ctx, topics...)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		r.w.t.Fatalf("ask for the first offsets: %v", err)
	}
	ends, err := r.w.admin.ListCommittedOffsets(ctx, topics...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		r.w.t.Fatalf("ask for the last offsets: %v", err)
	}
	for {
		r.mu.Lock()
		changed := r.changed
		behind := ""
		ends.Each(func(o kadm.ListedOffset) {
			start, _ := starts.Lookup(o.Topic, o.Partition)
			if next := max(start.Offset, r.next[strings.TrimPrefix(o.Topic, r.w.prefix)][o.Partition]); next < o.Offset {
				behind = fmt.Sprintf("%s/%d is at %d of %d", o.Topic, o.Partition, next, o.Offset)
			}
		})
		r.mu.Unlock()
		if behind == "" {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			r.w.t.Fatalf("the reader has not read everything within %v: %s", within, behind)
		}
	}
}

// expectations are what work and ship must have said, by topic.
func expectations(jobs, extras []fed) map[string][]fed {
	want := map[string][]fed{}
	failing := map[string]bool{}
	for _, j := range jobs {
		if j.Fail != "" {
			failing[j.Flow] = true
		}
	}
	for _, j := range jobs {
		want[topicDone] = append(want[topicDone], j)
		switch j.Fail {
		case "":
			want[topicShipped] = append(want[topicShipped], j)
		case failFitting:
			want[topicFailures] = append(want[topicFailures], j)
		case failMisfit:
			want[topicMisfits] = append(want[topicMisfits], j)
		}
		if failing[j.Flow] {
			want[topicRefunds] = append(want[topicRefunds], j)
		}
	}
	want[topicAudits] = extras
	return want
}

// settle waits until everything that was fed has had its effects, as far as
// their number tells, and then until nothing is left to be read.
func (w *world) settle(limit time.Duration) {
	w.t.Helper()
	jobs, extras := w.feeder.all()
	want := w.expects(jobs, extras)
	began := time.Now()
	until := began.Add(limit)
	for topic, all := range want {
		for {
			w.reader.mu.Lock()
			n, changed := len(w.reader.said[topic]), w.reader.changed
			w.reader.mu.Unlock()
			if n >= len(all) {
				break
			}
			if time.Now().After(until) {
				w.t.Errorf("%s: %d of %d events %v after the last job", topic, n, len(all), limit)
				break
			}
			select {
			case <-changed:
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
	w.reader.readAll(30 * time.Second)
}

// check settles and then proves: every job has each of its effects exactly
// once, of one flow in order on every topic, refunds newest first; no id twice;
// every event was caused by one of its own flow that was said; no dead letters.
func (w *world) check(limit time.Duration) {
	w.t.Helper()
	w.settle(limit)
	jobs, extras := w.feeder.all()
	problems := w.reader.problems(append(jobs, extras...), w.expects(jobs, extras))
	w.t.Logf("%d jobs, %d events read", len(jobs), w.reader.total())
	if len(problems) == 0 {
		return
	}
	const most = 30
	shown := problems[:min(most, len(problems))]
	w.t.Errorf("%d wrong, among them:\n%s", len(problems), strings.Join(shown, "\n"))
}

func (r *reader) total() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, s := range r.said {
		n += len(s)
	}
	return n
}

// problems are what is wrong with what was said after what was fed, if that is wanted
// and nothing else.
func (r *reader) problems(fed []fed, want map[string][]fed) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	wrong := func(format string, a ...any) { all = append(all, fmt.Sprintf(format, a...)) }

	ids := map[string]string{} // flow by id
	for _, j := range fed {
		ids[j.id] = j.Flow
	}
	for topic, events := range r.said {
		for _, e := range events {
			where := fmt.Sprintf("%s/%d/%d", e.topic, e.partition, e.offset)
			if strings.HasSuffix(topic, ".dlq") {
				wrong("%s: a dead letter of flow %s, %s", where, e.flow, e.typ)
				continue
			}
			if e.bad != "" {
				wrong("%s: %s", where, e.bad)
			}
			if _, twice := ids[e.id]; twice {
				wrong("%s: id %s of flow %s was said twice", where, e.id, e.flow)
			}
			ids[e.id] = e.flow
		}
	}
	for topic, want := range want {
		left := map[string]int{}
		for _, j := range want {
			left[fmt.Sprintf("%s/%d", j.Flow, j.N)]++
		}
		for _, e := range r.said[topic] {
			left[fmt.Sprintf("%s/%d", e.flow, e.n)]--
		}
		for key, n := range left {
			switch {
			case n > 0:
				wrong("%s: %s is lost", topic, key)
			case n < 0:
				wrong("%s: %s was said %d times too often", topic, key, -n)
			}
		}
		last := map[string]int{}
		for _, e := range inOrder(r.said[topic]) {
			was, any := last[e.flow]
			if disorder := e.n <= was; any && disorder != (topic == topicRefunds) {
				wrong("%s/%d/%d: flow %s: %d comes after %d", topic, e.partition, e.offset, e.flow, e.n, was)
			}
			last[e.flow] = e.n
			if cause, ok := ids[e.cause]; !ok || cause != e.flow {
				wrong("%s/%d/%d: flow %s: its cause %q is an event of flow %q", topic, e.partition, e.offset, e.flow, e.cause, cause)
			}
		}
	}
	sort.Strings(all)
	return all
}

// inOrder sorts events as their partitions hold them.
func inOrder(events []said) []said {
	s := append([]said(nil), events...)
	slices.SortStableFunc(s, func(a, b said) int {
		if a.partition != b.partition {
			return int(a.partition - b.partition)
		}
		return int(a.offset - b.offset)
	})
	return s
}
