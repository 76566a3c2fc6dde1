package operator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/deadletter"
	"github.com/choreography-go/choreography/choreo/internal/journal"
	"github.com/twmb/franz-go/pkg/kgo"
)

var start = time.UnixMilli(1_700_000_000_123)

// task writes the journal of one task, and what is read of it.
type task struct {
	t    *testing.T
	s    *journal.Store
	n    int32
	j    *Journal
	next int64
}

func newTask(t *testing.T, n int32, j *Journal) *task {
	return &task{t, journal.New(journal.Config{Steps: []string{"pay", "ship"}, Reactions: []string{"mail"}, Deadlines: []string{"in-time"}}), n, j, 0}
}

func (x *task) apply(changes ...journal.Change) {
	for _, c := range changes {
		rec := c.Record("payment.journal", x.n, start)
		rec.Partition, rec.Offset = x.n, x.next
		x.next++
		x.j.Apply(rec)
	}
}

func (x *task) park(key, at, event string) uint64 {
	x.t.Helper()
	rec, err := cloudevent.Event{ID: event, Source: "/shop", Type: "placed", CorrelationID: key, Data: []byte("{}")}.Record("orders")
	if err != nil {
		x.t.Fatal(err)
	}
	c, err := x.s.Park(key, journal.Parked{At: at, Record: rec}, start)
	if err != nil {
		x.t.Fatal(err)
	}
	x.apply(c)
	return c.Seq()
}

func (x *task) tried(key string, seq uint64, attempts uint32, undo bool) {
	x.apply(x.s.PutRetry(key, journal.Retry{Seq: seq, Attempts: attempts, Began: start, Next: start.Add(time.Minute), Undo: undo, Error: "no"}, start))
}

func stuck(j *Journal) (all []string) {
	for _, i := range j.Stuck(start.Add(time.Hour)) {
		all = append(all, fmt.Sprintf("%s %d/%s at %s after %d, %d wait", i.Kind, i.Task, i.Key, i.Name, i.Attempts, i.Waiting))
	}
	return all
}

func expectStuck(t *testing.T, j *Journal, want ...string) {
	t.Helper()
	if got := stuck(j); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("stuck are %q, want %q", got, want)
	}
}

func TestWhatIsStuckByTheJournal(t *testing.T) {
	var j Journal
	a, b := newTask(t, 0, &j), newTask(t, 1, &j)
	expectStuck(t, &j)
	seq := a.park("f", "pay", "e1")
	expectStuck(t, &j, "step 0/f at pay after 0, 0 wait") // it may not be tried now
	a.tried("f", seq, 3, false)
	expectStuck(t, &j, "step 0/f at pay after 3, 0 wait")
	i := j.Stuck(start)[0]
	want := Item{
		Target: Target{Kind: Step, Task: 0, Key: "f", Name: "pay", Seq: seq, Began: start}, Since: start, Attempts: 3, Next: start.Add(time.Minute), Error: "no",
		Flow: "f", Type: "placed", Source: "/shop", ID: "e1",
	}
	if !i.Began.Equal(start) || !i.Next.Equal(want.Next) {
		t.Errorf("times of %+v", i)
	}
	i.Began, i.Since, i.Next = want.Began, want.Since, want.Next
	if i != want {
		t.Errorf("stuck is %+v, want %+v", i, want)
	}
	second := a.park("f", "", "e2")
	a.tried("f", seq, 4, true)
	other := b.park("f", "mail", "e1") // the same key in another task
	b.tried("f", other, 1, false)
	expectStuck(t, &j, "undo 0/f at pay after 4, 1 wait", "step 1/f at mail after 1, 0 wait")
	// what has come before the head is due
	c, err := a.s.Park("f", journal.Parked{Alone: true, At: "ship", Record: &kgo.Record{Timestamp: start}}, start)
	if err != nil {
		t.Fatal(err)
	}
	a.apply(c)
	expectStuck(t, &j, "step 0/f at ship after 0, 2 wait", "step 1/f at mail after 1, 0 wait")
	a.apply(a.s.Unpark("f", c.Seq())...)
	a.apply(a.s.Unpark("f", seq)...)
	expectStuck(t, &j, "step 1/f at mail after 1, 0 wait")
	a.apply(a.s.Unpark("f", second)...)
	b.apply(b.s.Unpark("f", other)...)
	expectStuck(t, &j)
	if len(j.queues) != 0 || j.Unreadable != 0 {
		t.Errorf("%d queues are kept, %d records were not read", len(j.queues), j.Unreadable)
	}
}

func TestDeadlinesThatArePassed(t *testing.T) {
	var j Journal
	a := newTask(t, 0, &j)
	put := func(flow string, d journal.Deadline) {
		d.Name = "in-time"
		c, err := a.s.PutDeadline(flow, d, start)
		if err != nil {
			t.Fatal(err)
		}
		a.apply(c)
	}
	put("late", journal.Deadline{Status: journal.Pending, Set: start, Within: time.Hour - time.Millisecond})
	put("not", journal.Deadline{Status: journal.Pending, Set: start, Within: time.Hour})
	put("met", journal.Deadline{Status: journal.Pending, Set: start, Within: time.Second})
	put("met", journal.Deadline{Status: journal.Met})
	expectStuck(t, &j, "deadline 0/late at in-time after 0, 0 wait")
	a.apply(a.s.Erase("late")...)
	expectStuck(t, &j)
	if len(j.deadlines) != 1 {
		t.Errorf("%d deadlines are kept", len(j.deadlines))
	}
}

// A join that waits is told of, and is not stuck.
func TestJoinsThatWait(t *testing.T) {
	var j Journal
	a := newTask(t, 2, &j)
	put := func(flow string, x journal.Join) {
		x.Step = "ship"
		c, err := a.s.PutJoin(flow, x, start)
		if err != nil {
			t.Fatal(err)
		}
		a.apply(c)
	}
	half := journal.Half{Event: journal.Event{Source: "/s", ID: "1", Type: "paid"}, Heard: start}
	put("waits", journal.Join{Status: journal.JoinWaiting, Halves: []journal.Half{half}})
	put("done", journal.Join{Status: journal.JoinWaiting, Halves: []journal.Half{half}})
	put("done", journal.Join{Status: journal.JoinDone, Halves: []journal.Half{half}})
	put("erased", journal.Join{Status: journal.JoinWaiting, Halves: []journal.Half{half}})
	a.apply(a.s.Erase("erased")...)
	expectStuck(t, &j)
	all := j.Joins()
	if len(all) != 1 || all[0].Kind != Join || all[0].Flow != "waits" || all[0].Name != "ship" || !all[0].Since.Equal(start) || all[0].Task != 2 || j.Unreadable != 0 {
		t.Errorf("waiting are %+v, %d records were not read", all, j.Unreadable)
	}
	j.Apply(&kgo.Record{Partition: 2, Key: []byte("waits\x00join/ship"), Value: []byte{9}})
	if j.Unreadable != 1 || len(j.Joins()) != 0 {
		t.Errorf("what cannot be read is not told of")
	}
}

// What names something is never the same for something else.
func TestTargetsHaveNamesOfTheirOwn(t *testing.T) {
	all := map[string]Target{}
	for _, kind := range []Kind{Step, Undo} {
		for _, task := range []int32{0, 1} {
			for _, key := range []string{"a", "ab", ""} {
				for _, name := range []string{"bc", "c", ""} {
					for _, seq := range []uint64{1, 2} {
						for _, began := range []time.Time{start, start.Add(time.Millisecond)} {
							x := Target{kind, task, key, name, seq, began}
							if other, taken := all[x.Hash()]; taken {
								t.Errorf("%+v and %+v have one name", x, other)
							}
							all[x.Hash()] = x
						}
					}
				}
			}
		}
	}
	if x := (Target{Began: start}); x.Hash() != (Target{Began: start.Add(time.Microsecond)}).Hash() {
		t.Error("what the journal does not keep is part of the name")
	}
}

func command() Command {
	return Command{ID: "c1", Do: Resolve, Target: Target{Kind: Undo, Task: 3, Key: "f", Name: "pay", Seq: 7, Began: start}, By: "ann", Why: "paid by hand", Data: []byte(`{"a":1}`)}
}

func TestCommandsAreReadAsTheyAreWritten(t *testing.T) {
	for _, do := range Dos {
		c := command()
		if c.Do = do; do != Resolve {
			c.Data = nil
		}
		rec := c.Record("payment.inbox")
		if rec.Topic != "payment.inbox" || rec.Partition != 3 || string(rec.Key) != "f" || rec.Value == nil || !IsCommand(rec) {
			t.Errorf("its record is %+v", rec)
		}
		got, err := ReadCommand(rec)
		if err != nil || !got.Began.Equal(c.Began) {
			t.Fatalf("it reads as %+v, %v", got, err)
		}
		if got.Began = c.Began; !reflect.DeepEqual(got, c) {
			t.Errorf("it reads as %+v, not as %+v", got, c)
		}
	}
	if IsCommand(&kgo.Record{Headers: []kgo.RecordHeader{{Key: headerID}}}) {
		t.Error("what asks for nothing is a command")
	}
}

func TestCommandsAreValidated(t *testing.T) {
	for want, spoil := range map[string]func(*Command){
		`"destroy", which is none of [retry skip resolve erase]`: func(c *Command) { c.Do = "destroy" },
		"its id has 0 bytes":              func(c *Command) { c.ID = "" },
		"its id has 65 bytes":             func(c *Command) { c.ID = strings.Repeat("x", 65) },
		`"join", which is none of`:        func(c *Command) { c.Kind = "join" },
		"it names no flow":                func(c *Command) { c.Key = "" },
		"who asks must be told in 1 to":   func(c *Command) { c.By = " " },
		"and is in 129":                   func(c *Command) { c.By = strings.Repeat("x", 129) },
		"why must be told in 1 to":        func(c *Command) { c.Why = "\xff" },
		"retry takes no payload":          func(c *Command) { c.Do = Retry },
		"allowed are 8388608":             func(c *Command) { c.Data = bytes.Repeat([]byte(" "), MaxData+1) },
		"its payload is not JSON":         func(c *Command) { c.Data = []byte("{") },
		"it names no flow\nwho asks must": func(c *Command) { c.Task, c.By = -1, "" },
	} {
		c := command()
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		spoil(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v; want %q", c, err, want)
		}
	}
	erase := Command{ID: "1", Do: Erase, Target: Target{Key: "f"}, By: "a", Why: "b"}
	if err := erase.Validate(); err != nil {
		t.Errorf("erasing a flow is about no kind: %v", err)
	}
}

func TestAuditsAreReadAsTheyAreWritten(t *testing.T) {
	c := command()
	a := Of(&c)
	a.Outcome, a.Time, a.Service, a.Instance, a.Attempts, a.Error = Failed, start.UTC(), "payment", "payment-0", 4, "no"
	a.Said, a.Dead = []string{"refunded"}, []string{"retries_exhausted"}
	rec, err := a.Record("payment.dlq", "/payment", []byte("f"))
	if err != nil {
		t.Fatal(err)
	}
	got, ok := ReadAudit(rec)
	if !ok || !reflect.DeepEqual(got, a) || got.Item != c.Hash() || got.By != "ann" || got.Kind != Undo {
		t.Errorf("it reads as %+v, not as %+v", got, a)
	}
	ev, err := cloudevent.Read(rec)
	if err != nil || ev.Type != AuditType || ev.ID != "c1" || ev.Source != "/payment" || ev.CorrelationID != "f" || string(rec.Key) != "f" {
		t.Errorf("as an event it is %+v, %v", ev, err)
	}
	if _, letter := deadletter.ReadLetter(rec); letter || deadletter.IsMark(rec) || !deadletter.IsAudit(rec) {
		t.Error("it is taken for something else")
	}
	erase := Command{ID: "1", Do: Erase, Target: Target{Key: "f"}, By: "a", Why: "b"}
	if a := Of(&erase); a.Item != "" || a.Flow != "f" || a.Do != Erase {
		t.Errorf("of erasing it is audited %+v", a)
	}
}

// FuzzRead reads garbage: whatever it is, texts are bounded and on one line, and
// what is read as a command is one.
func FuzzRead(f *testing.F) {
	c := command()
	rec := c.Record("i")
	f.Add(headerDo, []byte("retry"), headerSeq, []byte("-1"), []byte("k"), []byte("v"))
	f.Add(deadletter.HeaderAudit, []byte("x"), "a", []byte(nil), []byte("f\x00retry"), []byte(`{"by":"\u001b[31m","said":["`+strings.Repeat("x", 600)+`"]}`))
	f.Add("", []byte(nil), "", []byte(nil), []byte("f\x00parked/0000000100000000"), []byte{1, 0, 2, 'a'})
	f.Add("", []byte(nil), "", []byte(nil), []byte("f\x00deadline/x"), []byte{1, 1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, key1 string, value1 []byte, key2 string, value2, key, value []byte) {
		garbage := []kgo.RecordHeader{{Key: key1, Value: value1}, {Key: key2, Value: value2}}
		var texts []string
		if got, err := ReadCommand(&kgo.Record{Key: key, Value: value, Headers: append(rec.Headers[:len(rec.Headers):len(rec.Headers)], garbage...)}); err == nil {
			if err := got.Validate(); err != nil && got.By != "" && got.Why != "" {
				t.Errorf("%+v was read: %v", got, err)
			}
			texts = append(texts, got.ID, got.By, got.Why, got.Name)
		}
		if a, ok := ReadAudit(&kgo.Record{Key: key, Value: value, Headers: garbage}); ok {
			texts = append(append(append(texts, a.Command, a.By, a.Why, a.Error, a.Flow, a.Name, string(a.Do), string(a.Outcome)), a.Said...), a.Dead...)
			if _, err := json.Marshal(a); err != nil {
				t.Error(err)
			}
		}
		for _, s := range texts {
			if len(s) > 8*maxText || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
				t.Errorf("a text of %d bytes: %q", len(s), s)
			}
		}
		var j Journal
		j.Apply(&kgo.Record{Key: key, Value: value, Headers: garbage})
		j.Apply(&kgo.Record{Key: []byte("f\x00retry"), Value: value1})
		_ = j.Stuck(start)
		j.Apply(&kgo.Record{Key: key})
	})
}
