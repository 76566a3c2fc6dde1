package task

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// logs is a data client over partitions in memory.
type logs struct {
	mu     sync.Mutex
	size   map[partition]int64
	cursor map[partition]int64 // only of those assigned
	paused map[partition]bool
	errs   []kgo.FetchError
	news   chan struct{} // replaced and closed at every change
}

func newLogs() *logs {
	return &logs{size: map[partition]int64{}, cursor: map[partition]int64{}, paused: map[partition]bool{}, news: make(chan struct{})}
}

func (l *logs) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	close(l.news)
	l.news = make(chan struct{})
}

func (l *logs) AddConsumePartitions(parts map[string]map[int32]kgo.Offset) {
	l.change(func() {
		for t, ps := range parts {
			for p, o := range ps {
				l.cursor[partition{t, p}] = o.EpochOffset().Offset
			}
		}
	})
}

func (l *logs) RemoveConsumePartitions(parts map[string][]int32) {
	each(parts, func(p partition) { delete(l.cursor, p) }, l)
}

func (l *logs) PauseFetchPartitions(parts map[string][]int32) map[string][]int32 {
	each(parts, func(p partition) { l.paused[p] = true }, l)
	return nil
}

func (l *logs) ResumeFetchPartitions(parts map[string][]int32) {
	each(parts, func(p partition) { delete(l.paused, p) }, l)
}

func each(parts map[string][]int32, f func(partition), l *logs) {
	l.change(func() {
		for t, ps := range parts {
			for _, p := range ps {
				f(partition{t, p})
			}
		}
	})
}

func (l *logs) PollRecords(ctx context.Context, max int) kgo.Fetches {
	for {
		l.mu.Lock()
		var ts []kgo.FetchTopic
		for p, at := range l.cursor {
			if l.paused[p] {
				continue
			}
			var recs []*kgo.Record
			for ; at < l.size[p] && len(recs) < max; at++ {
				recs = append(recs, &kgo.Record{Topic: p.topic, Partition: p.num, Offset: at})
			}
			l.cursor[p] = at
			if len(recs) > 0 {
				ts = append(ts, kgo.FetchTopic{Topic: p.topic, Partitions: []kgo.FetchPartition{{Partition: p.num, Records: recs}}})
			}
		}
		for _, e := range l.errs {
			ts = append(ts, kgo.FetchTopic{Topic: e.Topic, Partitions: []kgo.FetchPartition{{Partition: e.Partition, Err: e.Err}}})
		}
		l.errs = nil
		news := l.news
		l.mu.Unlock()
		if len(ts) > 0 {
			return kgo.Fetches{{Topics: ts}}
		}
		select {
		case <-news:
		case <-ctx.Done():
			return kgo.NewErrFetch(ctx.Err())
		}
	}
}

// sink is an engine with room for so many records per source, behind a gate for
// all of them.
type sink struct {
	Engine
	mu    sync.Mutex
	room  map[*Source]int
	got   map[*Source][]int64
	gone  map[*Source]bool
	late  map[*Source]int // room that comes while a delivery finds none
	wake  func()
	gate  chan struct{} // closed: open
	wrong []string
}

func (s *sink) Deliver(ctx context.Context, src *Source, recs []*kgo.Record) int {
	s.mu.Lock()
	gate := s.gate
	s.mu.Unlock()
	select {
	case <-gate:
	case <-ctx.Done():
		return 0
	case <-src.Task.Incarnation.Context().Done():
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone[src] {
		s.wrong = append(s.wrong, fmt.Sprintf("delivered %s/%d after its removal", src.Topic, src.Partition))
	}
	n := min(s.room[src], len(recs))
	s.room[src] -= n
	for _, rec := range recs[:n] {
		s.got[src] = append(s.got[src], rec.Offset)
	}
	if n < len(recs) && s.late[src] > 0 {
		s.room[src] += s.late[src]
		delete(s.late, src)
		s.wake()
	}
	return n
}

// action is one thing that happens to a reader.
type action struct {
	kind string
	part int32 // also the task's number
	n    int
}

// Whatever the order of assignments, removals, records, room and blocking: each
// incarnation of a source gets its records in order, without gap or double,
// from its offset on, nothing after its removal; and at rest it has got all
// that there was room for, however long others had none.
func TestReaderKeepsOrderAndNeverStalls(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		actions := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) action {
			return action{
				kind: rapid.SampledFrom([]string{"add", "add", "remove", "close", "produce", "produce", "room", "room", "late", "shut", "open", "wake", "settle"}).Draw(rt, "kind"),
				part: rapid.Int32Range(0, 1).Draw(rt, "part"),
				n:    rapid.IntRange(1, 12).Draw(rt, "n"),
			}
		}), 25, 90).Draw(rt, "actions")
		var wrong string
		synctest.Test(t, func(t *testing.T) { wrong = drive(t, actions) })
		if wrong != "" {
			rt.Fatal(wrong)
		}
	})
}

func drive(t *testing.T, actions []action) string {
	l := newLogs()
	open := make(chan struct{})
	close(open)
	s := &sink{room: map[*Source]int{}, got: map[*Source][]int64{}, gone: map[*Source]bool{}, late: map[*Source]int{}, gate: open}
	r := newReader(context.Background(), l, s, 7)
	s.wake = r.wake
	r.notice = func(string, int32, error) {}
	r.failed = func(*Task, partition, error) {}
	go r.run()
	defer r.stop()

	tasks := map[int32]*Task{}
	shut := false
	check := func(when string) string {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.wrong) > 0 {
			return s.wrong[0]
		}
		for src, got := range s.got {
			for i, off := range got {
				if off != src.Offset+int64(i) {
					return fmt.Sprintf("%s: %s/%d got %v from %d on", when, src.Topic, src.Partition, got, src.Offset)
				}
			}
		}
		if shut {
			return ""
		}
		for _, task := range tasks {
			if task.Incarnation.Context().Err() != nil {
				continue
			}
			for _, src := range task.Sources {
				p := partition{src.Topic, src.Partition}
				if held := l.cursor[p] - src.Offset - int64(len(s.got[src])); held > 7 {
					return fmt.Sprintf("%s: %s/%d holds %d records, more than one poll: it was not paused", when, src.Topic, src.Partition, held)
				}
				left := l.size[partition{src.Topic, src.Partition}] - src.Offset - int64(len(s.got[src]))
				if left > 0 && s.room[src] > 0 {
					return fmt.Sprintf("%s: %s/%d at rest with room for %d and %d left", when, src.Topic, src.Partition, s.room[src], left)
				}
			}
		}
		return ""
	}
	remove := func(num int32) {
		task := tasks[num]
		if task == nil {
			return
		}
		delete(tasks, num)
		r.remove(task)
		s.mu.Lock()
		for _, src := range task.Sources {
			s.gone[src] = true
		}
		s.mu.Unlock()
	}
	for i, a := range actions {
		switch a.kind {
		case "add":
			remove(a.part)
			ctx, end := context.WithCancelCause(context.Background())
			defer end(nil)
			task := &Task{Partition: a.part, Incarnation: &incarnation{ctx: ctx, end: end}}
			for _, topic := range []string{"x", "y"} {
				at := min(int64(a.n), l.size[partition{topic, a.part}])
				src := &Source{Task: task, Topic: topic, Partition: a.part, Offset: at, LeaderEpoch: -1}
				task.Sources = append(task.Sources, src)
			}
			tasks[a.part] = task
			if !r.add(ctx, task) {
				return "not added"
			}
		case "remove":
			remove(a.part)
		case "close":
			if task := tasks[a.part]; task != nil {
				task.Incarnation.Close(nil)
			}
		case "produce":
			l.change(func() { l.size[partition{[]string{"x", "y"}[a.n%2], a.part}] += int64(a.n) })
		case "room":
			if task := tasks[a.part]; task != nil {
				s.mu.Lock()
				s.room[task.Sources[a.n%2]] += a.n
				s.mu.Unlock()
				r.wake()
			}
		case "late":
			if task := tasks[a.part]; task != nil {
				s.mu.Lock()
				s.late[task.Sources[a.n%2]] += a.n
				s.mu.Unlock()
			}
		case "shut", "open":
			s.mu.Lock()
			if shut && a.kind == "open" {
				close(s.gate)
			} else if !shut && a.kind == "shut" {
				s.gate = make(chan struct{})
			}
			s.mu.Unlock()
			shut = a.kind == "shut"
		case "wake":
			r.wake()
		case "settle":
			synctest.Wait()
			if wrong := check(fmt.Sprintf("after action %d", i)); wrong != "" {
				return wrong
			}
		}
	}
	if shut {
		close(s.gate)
		shut = false
	}
	synctest.Wait()
	if wrong := check("at rest"); wrong != "" {
		return wrong
	}
	s.mu.Lock()
	for _, task := range tasks {
		for _, src := range task.Sources {
			s.room[src] = 1 << 20
		}
	}
	s.mu.Unlock()
	r.wake()
	synctest.Wait()
	return check("with room for everything")
}

// A partition without room is held and paused while the others go on, and goes
// on in order where it stopped once there is room.
func TestNoRoomStopsItsPartitionOnly(t *testing.T) {
	r := newRig(t, map[string]int32{"inbox": 2, "journal": 2})
	a := r.instance("a")
	var mu sync.Mutex
	room := 3
	a.deliver = func(_ context.Context, src *Source, recs []*kgo.Record) int {
		if src.Partition != 0 {
			return len(recs)
		}
		mu.Lock()
		defer mu.Unlock()
		n := min(room, len(recs))
		room -= n
		return n
	}
	a.start()
	a.waitOpen(2)
	r.produce("inbox", 0, seq("slow", 10)...)
	eventually(t, "three taken", func() bool { return len(a.values("inbox", 0)) == 3 })
	r.produce("inbox", 1, seq("fast", 500)...)
	eventually(t, "the other partition goes on", func() bool { return len(a.values("inbox", 1)) == 500 })
	r.produce("inbox", 0, "slow10")
	if got := a.values("inbox", 0); !slices.Equal(got, seq("slow", 3)) {
		t.Errorf("without room %v was delivered", got)
	}
	mu.Lock()
	room = 100
	mu.Unlock()
	a.owner.Wake()
	eventually(t, "the rest is delivered", func() bool { return slices.Equal(a.values("inbox", 0), seq("slow", 11)) })
}

// A delivery that waits for the engine's bounds does not keep another task from
// being revoked.
func TestBlockedDeliveryDoesNotBlockRevoke(t *testing.T) {
	r := newRig(t, map[string]int32{"inbox": 2, "journal": 2})
	a := r.instance("a")
	entered := make(chan struct{}, 1)
	a.deliver = func(ctx context.Context, _ *Source, _ []*kgo.Record) int {
		select {
		case entered <- struct{}{}:
		default:
		}
		<-ctx.Done()
		return 0
	}
	a.start()
	a.waitOpen(2)
	r.produce("inbox", 0, "v")
	r.produce("inbox", 1, "v")
	<-entered
	b := r.instance("b").start()
	b.waitOpen(1)
	num := b.owns()[0]
	eventually(t, "the new owner gets the record", func() bool { return len(b.values("inbox", num)) == 1 })
}

// kgo may begin a fetch while it closes if it has a partition left to read.
func TestStoppedReaderLeavesNothingToRead(t *testing.T) {
	l := newLogs()
	r := newReader(t.Context(), l, &sink{}, 1)
	go r.run()
	task := &Task{Incarnation: held(nil)}
	task.Sources = []*Source{{Topic: "inbox", Task: task}, {Topic: "inbox", Partition: 1, Task: task}, {Topic: "state", Task: task}}
	read := 0
	if r.add(t.Context(), task) {
		l.change(func() { read = len(l.cursor) })
	}
	r.stop()
	if read != 3 || len(l.cursor) != 0 {
		t.Errorf("%d partitions were read, and after stop %d; want 3 and none", read, len(l.cursor))
	}
}

// An error of a partition that does not pass opens its task anew; one that
// passes is noticed only; markers are dropped but for the last record.
func TestReaderSortsErrorsAndMarkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLogs()
		open := make(chan struct{})
		close(open)
		s := &sink{room: map[*Source]int{}, got: map[*Source][]int64{}, gone: map[*Source]bool{}, gate: open}
		r := newReader(context.Background(), l, s, 7)
		var noticed, failed []string
		r.notice = func(topic string, p int32, err error) { noticed = append(noticed, fmt.Sprint(topic, p, err)) }
		r.failed = func(task *Task, p partition, err error) {
			failed = append(failed, fmt.Sprint(task.Partition, p.topic, err))
		}
		go r.run()
		ctx, end := context.WithCancelCause(context.Background())
		task := &Task{Partition: 4, Incarnation: &incarnation{ctx: ctx, end: end}}
		task.Sources = []*Source{{Task: task, Topic: "x", Partition: 4, LeaderEpoch: -1}}
		r.add(ctx, task)
		l.change(func() {
			l.errs = []kgo.FetchError{
				{Topic: "x", Partition: 4, Err: kerr.NotLeaderForPartition},
				{Topic: "x", Partition: 5, Err: kerr.OffsetOutOfRange}, // of nobody
				{Topic: "x", Partition: 4, Err: kerr.OffsetOutOfRange},
				{Topic: "", Partition: 0, Err: context.Canceled},
			}
		})
		synctest.Wait()
		r.stop()
		end(nil)
		if len(noticed) != 3 || !slices.Equal(failed, []string{"4x" + kerr.OffsetOutOfRange.Error()}) {
			t.Errorf("noticed %q, failed %q", noticed, failed)
		}
	})
	marker := func(control bool) *kgo.Record {
		rec := &kgo.Record{}
		if control {
			rec.Attrs = controlAttrs(t)
		}
		return rec
	}
	for _, c := range []struct{ in, out []bool }{
		{nil, nil},
		{[]bool{false, false}, []bool{false, false}},
		{[]bool{true, false, true, true, false}, []bool{false, false}},
		{[]bool{false, true, true}, []bool{false, true}},
		{[]bool{true}, []bool{true}},
	} {
		var recs []*kgo.Record
		for _, m := range c.in {
			recs = append(recs, marker(m))
		}
		var got []bool
		for _, rec := range withoutMarkers(recs) {
			got = append(got, rec.Attrs.IsControl())
		}
		if !slices.Equal(got, c.out) {
			t.Errorf("of %v is left %v, want %v", c.in, got, c.out)
		}
	}
}

// controlAttrs has kgo make the attributes of a control record, which cannot be
// set from outside: it decodes one.
func controlAttrs(t *testing.T) kgo.RecordAttrs {
	t.Helper()
	r := newRig(t, map[string]int32{"markers": 1})
	lane := r.lane("elsewhere/0")
	r.begin(lane)
	r.write(lane, "markers", 0, "v")
	r.end(lane, kgoCommit)
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.brokers...), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{r.topic("markers"): {0: kgo.NewOffset().At(1)}}))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for {
		fetches := cl.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		for it := fetches.RecordIter(); !it.Done(); {
			if rec := it.Next(); rec.Attrs.IsControl() {
				return rec.Attrs
			}
		}
	}
}
