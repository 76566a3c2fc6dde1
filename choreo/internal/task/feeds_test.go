package task

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// told is a data client that notes what it is told.
type told struct {
	added            map[partition]kgo.Offset
	removed, resumed [][]partition
}

func flat(parts map[string][]int32) (all []partition) {
	for topic, nums := range parts {
		for _, num := range nums {
			all = append(all, partition{topic, num})
		}
	}
	return all
}

func (c *told) AddConsumePartitions(parts map[string]map[int32]kgo.Offset) {
	for topic, at := range parts {
		for num, offset := range at {
			c.added[partition{topic, num}] = offset
		}
	}
}

func (c *told) RemoveConsumePartitions(parts map[string][]int32) {
	c.removed = append(c.removed, flat(parts))
}
func (c *told) ResumeFetchPartitions(parts map[string][]int32) {
	c.resumed = append(c.resumed, flat(parts))
}
func (c *told) PauseFetchPartitions(map[string][]int32) map[string][]int32 {
	return nil
}
func (c *told) PollRecords(context.Context, int) kgo.Fetches { return nil }

// standing is a reader that does not run, over a client that notes what it is told.
type standing struct {
	*reader
	cl     *told
	took   []string // what the engine took
	room   map[string]int
	failed []string
	said   int
}

func newStanding() *standing {
	x := &standing{cl: &told{added: map[partition]kgo.Offset{}}, room: map[string]int{}}
	x.reader = newReader(context.Background(), x.cl, taking{x: x}, 10)
	x.reader.failed = func(_ *Task, p partition, err error) {
		x.failed = append(x.failed, fmt.Sprint(p.topic, "/", p.num, " ", err))
	}
	x.notice = func(string, int32, error) { x.said++ }
	return x
}

type taking struct {
	Engine
	x *standing
}

func (e taking) Deliver(_ context.Context, src *Source, recs []*kgo.Record) int {
	n := min(e.x.room[src.Topic], len(recs))
	for _, rec := range recs[:n] {
		e.x.took = append(e.x.took, fmt.Sprint(src.Topic, "/", src.Partition, "@", rec.Offset))
	}
	return n
}

// task has one partition, 0, of each of the topics.
func (x *standing) task(topics ...string) *Task {
	t := &Task{Incarnation: held(nil)}
	for i, topic := range topics {
		t.Sources = append(t.Sources, &Source{Task: t, Topic: topic, TopicID: [16]byte{byte(i + 1)}, LeaderEpoch: int32(i) - 1})
	}
	return t
}

func (x *standing) hold(topic string, offsets ...int64) {
	f := x.feeds[partition{topic, 0}]
	for _, at := range offsets {
		f.held = append(f.held, &kgo.Record{Topic: topic, Offset: at})
	}
	x.queue(f)
}

// Reading starts at the committed leader epoch, if there is one, so that a
// truncated log is noticed (KIP-320).
func TestReadingStartsAtOffsetAndEpoch(t *testing.T) {
	x := newStanding()
	task := x.task("a", "b", "c")
	task.Sources[2].Offset = 9
	x.apply(command{task: task})
	for topic, want := range map[string]kgo.EpochOffset{"a": {Epoch: -1}, "b": {Epoch: 0}, "c": {Epoch: 1, Offset: 9}} {
		if got := x.cl.added[partition{topic, 0}].EpochOffset(); got != want {
			t.Errorf("%s is read from %+v, want %+v", topic, got, want)
		}
	}
}

// A removal is of the sources of one ownership: those of the next one stay, and
// what is not read is passed over.
func TestARemovalIsOfOneOwnership(t *testing.T) {
	x := newStanding()
	old, next := x.task("a", "b"), x.task("a")
	x.apply(command{task: x.task("c"), remove: true})
	if len(x.cl.removed)+len(x.cl.resumed) != 0 {
		t.Error("the client is told of nothing")
	}
	x.apply(command{task: old})
	x.apply(command{task: next})
	x.hold("b", 1)
	x.deliver(t.Context()) // has no room
	if x.blocked.Load() != 1 {
		t.Fatalf("%d feeds are blocked", x.blocked.Load())
	}
	x.apply(command{task: old, remove: true})
	if len(x.feeds) != 1 || x.feeds[partition{"a", 0}].src != next.Sources[0] || x.blocked.Load() != 0 {
		t.Errorf("feeds %v, %d blocked", x.feeds, x.blocked.Load())
	}
	if want := [][]partition{{{"b", 0}}}; fmt.Sprint(x.cl.removed) != fmt.Sprint(want) || fmt.Sprint(x.cl.resumed) != fmt.Sprint(want) {
		t.Errorf("removed %v, resumed %v", x.cl.removed, x.cl.resumed)
	}
}

// What had no room is offered again, each feed once, and the feeds that wait are
// counted: wake asks for them only.
func TestFeedsThatWaitForRoom(t *testing.T) {
	x := newStanding()
	x.apply(command{task: x.task("a", "b")})
	x.queue(x.feeds[partition{"b", 0}]) // holds nothing
	x.hold("a", 1, 2)
	x.hold("a", 3)
	if len(x.ready) != 1 {
		t.Fatalf("%d feeds are ready", len(x.ready))
	}
	x.deliver(t.Context())
	f := x.feeds[partition{"a", 0}]
	if x.blocked.Load() != 1 || !f.blocked || f.src.last.Load() != 0 {
		t.Errorf("%d are blocked, last taken from at %d", x.blocked.Load(), f.src.last.Load())
	}
	x.room["a"] = 2
	x.unblock()
	if x.blocked.Load() != 0 || len(x.ready) != 1 || fmt.Sprint(x.cl.resumed) != fmt.Sprint([][]partition{{{"a", 0}}}) {
		t.Errorf("%d are blocked, %d are ready, resumed %v", x.blocked.Load(), len(x.ready), x.cl.resumed)
	}
	x.deliver(t.Context())
	if !slices.Equal(x.took, []string{"a/0@1", "a/0@2"}) || f.src.last.Load() == 0 || len(f.held) != 1 {
		t.Errorf("took %v, %d are left", x.took, len(f.held))
	}
	x.unblock()
	before := x.wakes.Load()
	x.wakes.Add(1) // room comes while the engine says that it has none
	x.block(f, before)
	if x.blocked.Load() != 0 || f.blocked || len(x.ready) != 1 {
		t.Errorf("%d are blocked, %d are ready", x.blocked.Load(), len(x.ready))
	}
}

// Feeds that have nothing any more do not keep others from their turn.
func TestFeedsWithoutAnythingArePassedOver(t *testing.T) {
	x := newStanding()
	gone, lost := x.task("a"), x.task("b")
	for _, task := range []*Task{gone, lost, x.task("c")} {
		x.apply(command{task: task})
	}
	x.room = map[string]int{"a": 9, "b": 9, "c": 9}
	x.hold("a", 1)
	x.hold("b", 2)
	x.hold("c", 3)
	x.apply(command{task: gone, remove: true})
	lost.Incarnation.Close(errLost)
	x.deliver(t.Context())
	if !slices.Equal(x.took, []string{"c/0@3"}) || x.ready != nil {
		t.Errorf("took %v", x.took)
	}
}

// Of what is polled, each partition is judged by itself.
func TestWhatIsPolledIsSortedToItsFeeds(t *testing.T) {
	x := newStanding()
	task := x.task("a", "b", "a")
	task.Sources[2].Partition = 1
	x.apply(command{task: task})
	x.room = map[string]int{"a": 9, "b": 9}
	part := func(num int32, offsets ...int64) kgo.FetchPartition {
		p := kgo.FetchPartition{Partition: num}
		for _, at := range offsets {
			p.Records = append(p.Records, &kgo.Record{Partition: num, Offset: at})
		}
		return p
	}
	var polled kgo.Fetch
	polled.Topics = append(polled.Topics,
		kgo.FetchTopic{Topic: "a", TopicID: [16]byte{9}, Partitions: []kgo.FetchPartition{part(0, 1)}}, // created anew
		kgo.FetchTopic{Topic: "b", Partitions: []kgo.FetchPartition{part(1), part(2, 5), part(0, 7, 8)}},
		kgo.FetchTopic{Topic: "a", TopicID: [16]byte{9}, Partitions: []kgo.FetchPartition{part(0, 2), part(3, 4), part(1, 6)}},
		kgo.FetchTopic{Topic: "a", TopicID: [16]byte{1}, Partitions: []kgo.FetchPartition{part(0, 3)}},
	)
	x.take(kgo.Fetches{polled})
	x.deliver(t.Context())
	if !slices.Equal(x.took, []string{"b/0@7", "b/0@8", "a/0@3"}) {
		t.Errorf("took %v", x.took)
	}
	anew := kerr.UnknownTopicID.Error()
	if want := []string{"a/0 " + anew, "a/0 " + anew, "a/1 " + anew}; !slices.Equal(x.failed, want) {
		t.Errorf("failed: %v", x.failed)
	}
}

// An error ends the reading of its partition, or of its topic; ends of contexts
// and clients are none.
func TestErrorsOfReading(t *testing.T) {
	oops := errors.New("oops")
	for _, c := range []struct {
		num    int32
		err    error
		said   int
		failed []string
	}{
		{0, oops, 1, []string{"a/0 oops"}},
		{1, oops, 1, []string{"a/1 oops"}},
		{-1, oops, 1, []string{"a/0 oops", "a/1 oops"}},
		{0, kerr.NotLeaderForPartition, 1, nil},
		{0, context.Canceled, 0, nil},
		{0, context.DeadlineExceeded, 0, nil},
		{0, kgo.ErrClientClosed, 0, nil},
	} {
		x := newStanding()
		task := x.task("a", "a", "b")
		task.Sources[1].Partition = 1
		x.apply(command{task: task})
		x.fault(partition{"a", c.num}, c.err)
		slices.Sort(x.failed)
		if x.said != c.said || !slices.Equal(x.failed, c.failed) {
			t.Errorf("%v of %d: said %d times, failed %v", c.err, c.num, x.said, x.failed)
		}
	}
}
