package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// parkedAt is the value of an event that is parked at a handler.
func parkedAt(handler string) []byte {
	return appendParked([]byte{version}, &Parked{At: handler, Record: &kgo.Record{Topic: "orders", Timestamp: start}})
}

// parkedIn counts what is parked by looking at all of it.
func parkedIn(s *Store) Parking {
	p := Parking{At: map[string]int{}}
	for name, f := range s.flows {
		q := f.queue()
		p.Events += len(q)
		if len(q) > 0 {
			p.Flows++
		}
		if len(q) >= s.maxParked {
			p.Full++
		}
		for _, own := range q {
			p.At[s.standsAt(own)]++
			if at := time.Unix(int64(own.at()), 0); p.Oldest.IsZero() || at.Before(p.Oldest) {
				p.Oldest = at
			}
		}
		if retry := s.peek(name, id{kind: kindRetry}); retry != "" && readRetry(retry.body()).Undo {
			p.Undo++
			if began := time.Unix(readRetry(retry.body()).Began.Unix(), 0); p.UndoSince.IsZero() || began.Before(p.UndoSince) {
				p.UndoSince = began
			}
		}
	}
	return p
}

// shown is all of a parked event; times in a form that does not depend on how they were made.
func shown(p Parked) string {
	rec := *p.Record
	p.Record = nil
	return fmt.Sprintf("%+v %s/%d/%d at %d key %#v value %#v headers %#v",
		p, rec.Topic, rec.Partition, rec.Offset, rec.Timestamp.UnixMilli(), rec.Key, rec.Value, rec.Headers)
}

func drawBytes(t *rapid.T, what string) []byte {
	return rapid.SampledFrom([][]byte{nil, {}, []byte("x"), {0, 255}}).Draw(t, what)
}

func drawParked(t *rapid.T, s *Store) Parked {
	handlers := append([]string{"", "mail"}, s.names.step...)
	p := Parked{
		At: rapid.SampledFrom(handlers).Draw(t, "at"), Alone: rapid.Bool().Draw(t, "alone"), Answered: rapid.Bool().Draw(t, "answered"),
		Failed: rapid.Bool().Draw(t, "failed"), Cancelled: rapid.Bool().Draw(t, "cancelled"),
		Record: &kgo.Record{
			Topic: rapid.SampledFrom([]string{"orders", "shop.order.placed.v1", ""}).Draw(t, "topic"), Partition: rapid.Int32Range(0, 1<<31-1).Draw(t, "partition"),
			Offset: rapid.Int64Range(0, 1<<62).Draw(t, "offset"), Timestamp: time.UnixMilli(rapid.Int64Range(-1, 1<<45).Draw(t, "timestamp")),
			Key: drawBytes(t, "key"), Value: drawBytes(t, "value"),
		},
	}
	for range rapid.IntRange(0, 2).Draw(t, "done") {
		p.Done = append(p.Done, rapid.SampledFrom(handlers[1:]).Draw(t, "done"))
	}
	for range rapid.IntRange(0, 2).Draw(t, "headers") {
		p.Record.Headers = append(p.Record.Headers, kgo.RecordHeader{Key: rapid.SampledFrom([]string{"ce_id", ""}).Draw(t, "header"), Value: drawBytes(t, "header's value")})
	}
	return p
}

// changeQueue makes one change of the queue of a flow.
func changeQueue(t *rapid.T, s *Store, flow string, at time.Time) []Change {
	before := s.Queue(flow)
	texts := func(all []Parked) (texts []string) {
		for _, p := range all {
			texts = append(texts, shown(p))
		}
		return texts
	}
	want := texts(before)
	var made []Change
	switch what := rapid.IntRange(0, 4).Draw(t, "change of the queue"); {
	case what == 0 || len(before) == 0:
		p := drawParked(t, s)
		made = []Change{must(s.Park(flow, p, at))}
		p.Seq = made[0].Seq()
		if p.Alone {
			want = append([]string{shown(p)}, want...)
		} else {
			want = append(want, shown(p))
		}
	case what == 1:
		p := drawParked(t, s)
		k := rapid.IntRange(0, len(before)-1).Draw(t, "changed")
		p.Seq = before[k].Seq
		made = []Change{must(s.Park(flow, p, at))}
		want[k] = shown(p)
	case what == 2:
		k := rapid.IntRange(0, len(before)-1).Draw(t, "unparked")
		made = s.Unpark(flow, before[k].Seq)
		want = slices.Delete(want, k, k+1)
	case what == 3:
		made = s.DropRetry(flow, before[0].Seq)
	default:
		r := Retry{
			Seq: before[0].Seq, Attempts: rapid.Uint32().Draw(t, "attempts"), Began: at, Next: at.Add(time.Millisecond),
			Undo: rapid.Bool().Draw(t, "undo"), Error: rapid.SampledFrom([]string{"", "no"}).Draw(t, "error"),
		}
		made = []Change{s.PutRetry(flow, r, at)}
		if _, got, ok := s.Head(flow); !ok || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", r) {
			t.Fatalf("put %+v, got %+v, %t", r, got, ok)
		}
	}
	if got := texts(s.Queue(flow)); !slices.Equal(got, want) {
		t.Fatalf("the queue is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if n := s.Waiting(flow); n != len(want) {
		t.Fatalf("%d events wait, want %d", n, len(want))
	}
	for _, c := range made {
		readAlone(t, s, c)
	}
	if got, want := fmt.Sprintf("%+v", s.Parking()), fmt.Sprintf("%+v", parkedIn(s)); got != want {
		t.Fatalf("counted as parked are %s, there are %s", got, want)
	}
	return made
}

// readAlone reads the record of a change without a Store.
func readAlone(t *rapid.T, s *Store, c Change) {
	rec := c.Record("journal", 3, start)
	key, seq, p, isParked, err1 := ReadParked(rec)
	key2, r, isRetry, err2 := ReadRetry(rec)
	if err1 != nil || err2 != nil || isParked == isRetry || isParked && (key != c.flow || seq != c.Seq()) || isRetry && key2 != c.flow {
		t.Fatalf("%q reads as parked %t, %v, as tried %t, %v", c.Key, isParked, err1, isRetry, err2)
	}
	if (p == nil) != (isRetry || c.Value == nil) || (r == nil) != (isParked || c.Value == nil) {
		t.Fatalf("%q reads as %v, %v", c.Key, p, r)
	}
	if p != nil {
		own, texts := s.slotOf(c.flow, c.id)
		if got, want := shown(*p), shown(s.readParked(own, texts)); got != want {
			t.Fatalf("read alone it is %s, want %s", got, want)
		}
	}
	if r != nil {
		own, _ := s.slotOf(c.flow, c.id)
		if got, want := fmt.Sprintf("%+v", *r), fmt.Sprintf("%+v", readRetry(own.body())); got != want {
			t.Fatalf("read alone it is %s, want %s", got, want)
		}
	}
}

func TestWhatCannotBeReadAloneIsSaid(t *testing.T) {
	s := New(config())
	c := must(s.Park("f", Parked{At: "ship", Record: &kgo.Record{Timestamp: start, Value: []byte("v")}}, start))
	r := s.PutRetry("f", Retry{Seq: c.Seq(), Attempts: 1, Began: start, Next: start}, start)
	for _, value := range [][]byte{{}, {0}, {2}, {1}, {1, 255}, append(slices.Clone(c.Value), 0), c.Value[:len(c.Value)-1]} {
		if _, _, p, ok, err := ReadParked(&kgo.Record{Key: c.Key, Value: value}); !ok || err == nil || p != nil {
			t.Errorf("%v reads as a parked event: %v, %v", value, p, err)
		}
		if _, got, ok, err := ReadRetry(&kgo.Record{Key: r.Key, Value: value}); !ok || err == nil || got != nil {
			t.Errorf("%v reads as attempts: %v, %v", value, got, err)
		}
	}
	for _, key := range []string{"", "f", "f\x00", "f\x00seen", "f\x00parked/", "f\x00parked/xyz", "f\x00parked/0000000100000000ff", "f\x000000000100000000", "f\x00retry/1"} {
		if _, _, _, ok, err := ReadParked(&kgo.Record{Key: []byte(key), Value: c.Value}); ok || err != nil {
			t.Errorf("%q is taken for a parked event: %v", key, err)
		}
		if _, _, ok, err := ReadRetry(&kgo.Record{Key: []byte(key), Value: r.Value}); ok || err != nil {
			t.Errorf("%q is taken for attempts: %v", key, err)
		}
	}
}

func TestAFlowDoesNotExpireWhileAnEventOfItIsParked(t *testing.T) {
	s := New(config())
	must(s.PutRun("f", Run{Step: "ship", Hash: Hash{1}, Status: Did}, start))
	must(s.Park("f", Parked{At: "ship", Record: &kgo.Record{Timestamp: start}}, start))
	s.Ended("f", start)
	late := start.Add(1000 * time.Hour)
	if due := s.Expirable(late, 100); len(due) > 0 || len(s.Drop("f", late)) > 0 {
		t.Errorf("%v has expired though an event of it is parked", due)
	}
	s.Unpark("f", firstSeq)
	if due := s.Expirable(late, 100); len(due) != 1 || len(s.Drop("f", late)) != 1 || s.Slots() != 0 {
		t.Errorf("%v has expired when nothing is parked, %d slots are left", due, s.Slots())
	}
}

// What is parked in one flow keeps no other.
func TestAFlowExpiresBesideOneThatIsParked(t *testing.T) {
	s := New(config())
	must(s.PutRun("f", Run{Step: "ship", Hash: Hash{1}, Status: Did}, start))
	must(s.Park("g", Parked{At: "ship", Record: &kgo.Record{Timestamp: start}}, start))
	s.Ended("f", start)
	late := start.Add(1000 * time.Hour)
	if due := s.Expirable(late, 100); !slices.Equal(due, []string{"f"}) || len(s.Drop("f", late)) != 1 {
		t.Errorf("%v has expired", due)
	}
	if at := s.Standing("f", "ship"); at != nil {
		t.Errorf("of a flow that is not known %v is parked", at)
	}
}

// Each head is told of with the time of its own next attempt.
func TestHeadsAreToldOfWithTheirNextAttempts(t *testing.T) {
	s := New(config())
	for _, flow := range []string{"tried", "new"} {
		must(s.Park(flow, Parked{At: "ship", Record: &kgo.Record{Timestamp: start}}, start))
	}
	next := start.Add(time.Minute).Truncate(time.Millisecond)
	s.PutRetry("tried", Retry{Seq: firstSeq, Attempts: 1, Began: start, Next: next}, start)
	must(s.Park("tried", Parked{Record: &kgo.Record{Timestamp: start}}, start))
	got, waiting := map[string]time.Time{}, map[string]int{}
	s.Heads(func(flow, _ string, behind int, at time.Time) { got[flow], waiting[flow] = at, behind })
	if waiting["tried"] != 1 || waiting["new"] != 0 {
		t.Errorf("behind the heads wait %v", waiting)
	}
	if len(got) != 2 || !got["tried"].Equal(next) || !got["new"].IsZero() {
		t.Errorf("the heads are due at %v", got)
	}
}

// A queue counts as full from Config.MaxParked events on, and until there are fewer.
func TestAQueueIsFullAsLongAsItHoldsTooMany(t *testing.T) {
	s := New(config()) // two are too many
	var seqs []uint64
	expect := func(when string, full int) {
		t.Helper()
		if got := s.Parking().Full; got != full {
			t.Errorf("%s %d queues are full", when, got)
		}
	}
	for n, full := range []int{0, 1, 1} {
		seqs = append(seqs, must(s.Park("f", Parked{Record: &kgo.Record{Timestamp: start}}, start)).Seq())
		expect(fmt.Sprintf("with %d events", n+1), full)
	}
	for n, full := range []int{1, 0, 0} {
		s.Unpark("f", seqs[n])
		expect(fmt.Sprintf("with %d events less", n+1), full)
	}
}

// Numbers that nothing can have written are damage.
func TestNumbersOfEventsAreBounded(t *testing.T) {
	s := New(config())
	for what, rec := range map[string]kgo.Record{"partition": {Partition: math.MinInt32}, "offset": {Offset: math.MinInt64}} {
		rec.Timestamp = start
		r := &reader[[]byte]{rest: appendParked(nil, &Parked{Record: &rec})}
		if copyParked(nil, r, &s.table); !r.bad {
			t.Errorf("a %s beyond all was read", what)
		}
		r = &reader[[]byte]{rest: appendJoin(nil, &Join{Status: JoinWaiting, Halves: []Half{{Partition: rec.Partition, Offset: rec.Offset}}})}
		if copyJoin(nil, r, &s.table); !r.bad {
			t.Errorf("a %s beyond all was read in a join", what)
		}
	}
	var b []byte
	for _, n := range []uint64{0, firstSeq, 1 << 32, 0, 0} { // flags, place, attempts, times
		b = binary.AppendUvarint(b, n)
	}
	r := &reader[[]byte]{rest: appendText(b, "")}
	if copyRetry(nil, r); !r.bad {
		t.Error("attempts beyond all were read")
	}
}

func TestTheHandlerOfAParkedEventMayHaveBeenRenamed(t *testing.T) {
	s := New(config())
	s.Apply(record("f\x00parked/0000000100000000", parkedAt("charge"), 1))
	if err := s.Restored(); err != nil {
		t.Fatal(err)
	}
	if at := s.Standing("f", "authorize"); len(at) != 1 || at[0].At != "authorize" {
		t.Errorf("at it stand %+v", at)
	}
	if at := s.Parking().At; len(at) != 1 || at["authorize"] != 1 {
		t.Errorf("parked are %v", at)
	}
}

func TestAnAttemptCountsForItsOwnEventOnly(t *testing.T) {
	s := New(config())
	put := func(at string, alone bool) {
		must(s.Park("f", Parked{At: at, Alone: alone, Record: &kgo.Record{Timestamp: start}}, start))
	}
	put("ship", false)
	head, _, _ := s.Head("f")
	s.PutRetry("f", Retry{Seq: head.Seq, Attempts: 3, Undo: true}, start)
	s.PutRetry("g", Retry{Seq: head.Seq, Attempts: 3, Undo: true}, start)
	if n := s.Parking().Undo; n != 2 {
		t.Errorf("%d compensations fail, want 2", n)
	}
	if made := s.DropRetry("g", head.Seq+1); len(made) != 0 {
		t.Errorf("%d records delete the attempts on another event", len(made))
	}
	if made := s.DropRetry("g", head.Seq); len(made) != 1 {
		t.Errorf("%d records delete the attempts on an event", len(made))
	}
	put("notify", true)
	if p, r, ok := s.Head("f"); !ok || p.At != "notify" || r != (Retry{}) {
		t.Errorf("the head stands at %q with %+v", p.At, r)
	}
	s.Heads(func(flow, at string, _ int, next time.Time) {
		if flow != "f" || at != "notify" || !next.IsZero() {
			t.Errorf("the head of %q, at %q, is due at %v", flow, at, next)
		}
	})
	if at := s.Standing("f", "ship"); len(at) != 1 || at[0].Seq != head.Seq {
		t.Errorf("behind it stand %+v", at)
	}
	if made := s.Unpark("f", head.Seq); len(made) != 2 || s.Parking().Undo != 0 {
		t.Errorf("%d records delete an event and its attempts, %d compensations fail", len(made), s.Parking().Undo)
	}
}

func TestAnAttemptIsRememberedHoweverSmallRecordsMustBe(t *testing.T) {
	c := config()
	c.MaxRecord = 20
	s := New(c)
	if made := s.PutRetry("f", Retry{Seq: 1, Error: strings.Repeat("x", 1000)}, start); len(made.Value) < 1000 {
		t.Errorf("a record of %d bytes", len(made.Value))
	}
	var large *TooLargeError
	if _, err := s.Park("f", Parked{Record: &kgo.Record{Value: bytes.Repeat([]byte("x"), 20)}}, start); !errors.As(err, &large) || s.Parked() > 0 {
		t.Errorf("%v, %d are parked", err, s.Parked())
	}
}

// What is there already may change, however small records must be since then: an
// event that is parked, and a deadline that fires.
func TestWhatIsThereMayChangeHoweverSmallRecordsMustBe(t *testing.T) {
	var l log
	s := New(config())
	p := Parked{At: "ship", Record: &kgo.Record{Timestamp: start, Value: bytes.Repeat([]byte("x"), 20)}}
	parked := must(s.Park("f", p, start))
	l.write(start, parked, must(s.PutDeadline("f", Deadline{Name: "payment", Status: Pending, Set: start}, start)))
	c := config()
	c.MaxRecord = 10
	s = restore(t, c, l.records)
	p.Seq, p.Done = parked.Seq(), []string{"mail", "notify"}
	if _, err := s.Park("f", p, start); err != nil || !slices.Equal(s.Queue("f")[0].Done, p.Done) {
		t.Errorf("it is parked as %+v: %v", s.Queue("f")[0], err)
	}
	if made := s.Fired("f", "payment", start); len(made.Value) == 0 || s.DeadlineStatus("f", "payment") != Fired {
		t.Errorf("the deadline is %s, its record is of %q", s.DeadlineStatus("f", "payment"), made.Key)
	}
}

// What is parked is told again and again, to all who ask whether the service is
// ready: how much it is must not matter.
func BenchmarkParking(b *testing.B) {
	for _, flows := range []int{1, 100_000} {
		b.Run(fmt.Sprint(flows), func(b *testing.B) {
			s := New(config())
			for k := range flows {
				must(s.Park(fmt.Sprint(k), Parked{At: "ship", Record: &kgo.Record{Timestamp: start}}, start.Add(time.Duration(k)*time.Second)))
			}
			for b.Loop() {
				if p := s.Parking(); p.Events != flows || !p.Oldest.Equal(start) {
					b.Fatalf("parked are %+v", p)
				}
			}
		})
	}
}
