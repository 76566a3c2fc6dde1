package task

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// taker is an engine that takes all that it is given.
type taker struct {
	Engine
	got []int64
}

func (k *taker) Deliver(_ context.Context, _ *Source, recs []*kgo.Record) int {
	for _, rec := range recs {
		k.got = append(k.got, rec.Offset)
	}
	return len(recs)
}

// readerOf is a reader of one source that is driven by hand.
func readerOf(t *testing.T, k *taker) (*reader, *Source, context.CancelCauseFunc) {
	t.Helper()
	r := newReader(t.Context(), newLogs(), k, 10)
	ctx, end := context.WithCancelCause(t.Context())
	task := &Task{Partition: 1, Incarnation: &incarnation{ctx: ctx, end: end}}
	src := &Source{Task: task, Topic: "x", TopicID: [16]byte{1}, Partition: 1, LeaderEpoch: -1}
	task.Sources = []*Source{src}
	r.apply(command{task: task})
	t.Cleanup(func() {
		end(nil)
		r.cancel()
	})
	return r, src, end
}

func fetched(id [16]byte, offsets ...int64) kgo.Fetches {
	var recs []*kgo.Record
	for _, o := range offsets {
		recs = append(recs, &kgo.Record{Topic: "x", Partition: 1, Offset: o})
	}
	return kgo.Fetches{{Topics: []kgo.FetchTopic{{Topic: "x", TopicID: id, Partitions: []kgo.FetchPartition{{Partition: 1, Records: recs}}}}}}
}

// What was polled before an incarnation ended is not delivered after it.
func TestNothingIsDeliveredToAnEndedIncarnation(t *testing.T) {
	k := &taker{}
	r, _, end := readerOf(t, k)
	r.take(fetched([16]byte{1}, 0, 1))
	r.deliver(t.Context())
	r.take(fetched([16]byte{1}, 2, 3))
	end(errRevoked)
	r.deliver(t.Context())
	if !slices.Equal(k.got, []int64{0, 1}) {
		t.Errorf("delivered offsets %v, want 0 and 1", k.got)
	}
}

// Records of a topic that was deleted and created anew are other events under
// the same offsets. A broker that tells no id is believed.
func TestRecordsOfAnotherTopicIDAreNotDelivered(t *testing.T) {
	for _, tc := range []struct {
		name string
		id   [16]byte
		ok   bool
	}{{"its own", [16]byte{1}, true}, {"none", [16]byte{}, true}, {"another", [16]byte{2}, false}} {
		k := &taker{}
		r, _, _ := readerOf(t, k)
		var failures []error
		r.failed = func(_ *Task, _ partition, err error) { failures = append(failures, err) }
		r.take(fetched(tc.id, 0))
		r.deliver(t.Context())
		if (len(k.got) == 1) != tc.ok || (len(failures) == 0) != tc.ok {
			t.Errorf("%s: delivered %v, failures %v", tc.name, k.got, failures)
		}
		if !tc.ok && !errors.Is(failures[0], kerr.UnknownTopicID) {
			t.Errorf("%s: failed with %v", tc.name, failures[0])
		}
	}
}

// witness is an instance that acts when a journal was restored.
type witness struct {
	*instance
	restored func()
}

type witnessed struct {
	*store
	restored func()
}

func (s *witnessed) Restored() error {
	s.restored()
	return s.store.Restored()
}

func (w *witness) NewStore(num int32) Store {
	return &witnessed{w.instance.NewStore(num).(*store), w.restored}
}

// What is committed while a task opens is known to its journal if its offset is
// known: a transaction that ends after the restore has its offset read again.
func TestTheJournalIsNeverOlderThanTheOffsets(t *testing.T) {
	r := newRig(t, map[string]int32{"inbox": 1, "journal": 1})
	r.produce("inbox", 0, seq("v", 5)...)
	r.begun("inbox", 0, r.id("inbox"), 0)
	r.commit("inbox", 0, 1)
	lane := r.lane("elsewhere/0")
	a := r.instance("a")
	var once sync.Once
	a.start(func(c *Config) {
		c.Engine = &witness{a, func() {
			once.Do(func() {
				r.begin(lane)
				r.write(lane, "journal", 0, "late")
				r.commitIn(lane, "elsewhere/0", "inbox", 0, 3)
				r.end(lane, kgoCommit)
			})
		}}
	})
	a.waitOpen(1)
	task := a.task(0)
	knows := slices.Contains(task.Store.(*witnessed).applied, "late")
	if at := task.Sources[0].Offset; at == 3 && !knows {
		t.Error("the offset is of a transaction whose journal records were not restored")
	} else if at != 1 && at != 3 {
		t.Errorf("opened at offset %d", at)
	}
}

// buffered tells what the data client holds.
type buffered struct{ records chan int64 }

func (b buffered) OnFetchRecordBuffered(rec *kgo.Record) {
	select {
	case b.records <- rec.Offset:
	default:
	}
}

// What retention removes before a reader gets there is said: the reader does
// not go on behind the gap.
func TestAReaderDoesNotSkipWhatRetentionRemoves(t *testing.T) {
	r := newRig(t, map[string]int32{"inbox": 1, "journal": 1})
	a := r.instance("a")
	hook := buffered{make(chan int64, 1000)}
	entered, release := make(chan struct{}, 1), make(chan struct{})
	a.deliver = func(_ context.Context, _ *Source, recs []*kgo.Record) int {
		select {
		case entered <- struct{}{}:
		default:
		}
		<-release
		return len(recs)
	}
	a.start(func(c *Config) { c.Options = append(c.Options, kgo.WithHooks(hook)) })
	a.waitOpen(1)
	r.produce("inbox", 0, "v0")
	<-entered // nothing is polled from here on, and one fetch is held behind it
	r.produce("inbox", 0, "v1")
	held := func(want int64) {
		t.Helper()
		for timeout := time.After(deadline); ; {
			select {
			case at := <-hook.records:
				if at >= want {
					return
				}
			case <-timeout:
				t.Fatalf("offset %d was not fetched", want)
			}
		}
	}
	held(1)
	r.produce("inbox", 0, seq("w", 8)...)
	gone := make(kadm.Offsets)
	gone.AddOffset(r.topic("inbox"), 0, 10, -1)
	if _, err := r.adm.DeleteRecords(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	close(release)
	var lost *OffsetsError
	if err := a.waitStopped(0); !errors.As(err, &lost) {
		t.Errorf("stopped with %v", err)
	}
}
