package journal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The journal outlives the program: these bytes are what earlier versions wrote.
func TestFormatStaysAsItIs(t *testing.T) {
	event := HashOf("shop", "e-1")
	trigger := Trigger{Hash: HashOf("ship", "f-1"), ID: "f-1", Type: "ship.failed", Answered: true}
	run := Run{
		Step: "authorize", Hash: event, Status: Undone, Attempts: 300,
		In:  Event{Source: "shop", ID: "e-1", Type: "placed", ContentType: "application/json", Data: []byte("{}")},
		Out: Event{Source: "pay", ID: "o-1", Type: "authorized", Data: []byte{}},
		By:  trigger,
	}
	const eventKey, eventHex, triggerHex = "kMoRP2t-2GaTmJO6QB9aPQ", "90ca113f6b7ed866939893ba401f5a3d", "5d2efcde47016a96642c54b61852f660"
	parked := Parked{At: "ship", Done: []string{"mail"}, Answered: true, Record: &kgo.Record{
		Topic: "orders", Partition: 3, Offset: 300, Timestamp: time.UnixMilli(1000), Key: []byte("k"), Value: []byte{},
		Headers: []kgo.RecordHeader{{Key: "ce_id", Value: []byte("1")}, {Key: "x"}},
	}}
	s := New(config())
	for _, c := range []struct {
		name       string
		made       Change
		key, value string // the value in hex
	}{
		{"run", must(s.PutRun("f", run, start)), "f\x00run/authorize/" + eventKey,
			"01" + "05" + "01" + "ac02" +
				"0873686f70" + "06652d31" + "0c706c61636564" + "206170706c69636174696f6e2f6a736f6e" + "037b7d" +
				"06706179" + "066f2d31" + "14617574686f72697a6564" + "00" + "01" +
				"01" + triggerHex + "06662d31" + "16736869702e6661696c6564" + "01"},
		{"cancelled", must(s.PutCancelled("f", Cancelled{Step: "ship", By: []Trigger{trigger}}, start)), "f\x00cancelled/ship",
			"01" + "01" + triggerHex + "06662d31" + "16736869702e6661696c6564" + "01"},
		{"state", must(s.PutState("f", "order", []byte("xyz"), event, start)), "f\x00state/order",
			"01" + "01" + eventHex + "78797a"},
		{"seen", must(s.PutSeen("f", event, 0x0102030405060708, start)), "f\x00seen",
			"01" + eventHex + "0102030405060708"},
		{"parked", must(s.Park("f", parked, start)), "f\x00parked/0000000100000000",
			"01" + "02" + "0873686970" + "01" + "086d61696c" + "0c6f7264657273" + "03" + "ac02" + "e807" +
				"02" + "0a63655f6964" + "0231" + "0278" + "00" + "026b" + "01"},
		{"parked before it", must(s.Park("f", Parked{Alone: true, Answered: true, Record: &kgo.Record{Timestamp: time.UnixMilli(0)}}, start)), "f\x00parked/00000000ffffffff",
			"01" + "03" + "00" + "00" + "00" + "00" + "00" + "00" + "00" + "00" + "00"},
		{"parked replay", must(s.Park("f", Parked{Failed: true, Cancelled: true, Record: &kgo.Record{Timestamp: time.UnixMilli(0)}}, start)), "f\x00parked/0000000100000001",
			"01" + "0c" + "00" + "00" + "00" + "00" + "00" + "00" + "00" + "00" + "00"},
		{"retry", s.PutRetry("f", Retry{Seq: 300, Attempts: 3, Began: time.UnixMilli(1), Next: time.UnixMilli(2), Undo: true, Error: "no"}, start), "f\x00retry",
			"01" + "01" + "ac02" + "03" + "01" + "02" + "046e6f"},
		{"deadline", must(s.PutDeadline("f", Deadline{
			Name: "payment", Status: Pending, Set: time.UnixMilli(300), Within: 2 * time.Second, Hops: 3, Time: time.Unix(0, 4), Started: time.Unix(0, 0),
			After:       Event{Source: "shop", ID: "e-1", Type: "placed", ContentType: "application/json", Data: []byte("{}")},
			TraceParent: "00-a", TraceState: "b",
		}, start)), "f\x00deadline/payment",
			"01" + "01" + "ac02" + "d00f" +
				"0873686f70" + "06652d31" + "0c706c61636564" + "206170706c69636174696f6e2f6a736f6e" + "037b7d" +
				"03" + "05" + "01" + "000830302d61" + "0262"},
		{"deadline in a trace", must(s.PutDeadline("f", Deadline{Name: "payment", Status: Pending, Set: start, TraceParent: traceParents[1]}, start)), "f\x00deadline/payment",
			"01" + "01" + "80d095ffbc31" + "00" + "00" + "00" + "00" + "00" + "00" + "00" + "00" + "00" +
				"01" + "00" + "0af7651916cd43dd8448eb211c80319c" + "b7ad6b7169203331" + "01" + "00"},
		{"deadline met", must(s.PutDeadline("f", Deadline{Name: "payment", Status: Met, Set: start}, start)), "f\x00deadline/payment", "01" + "02"},
		{"deadline fired", must(s.PutDeadline("f", Deadline{Name: "reply", Status: Fired}, start)), "f\x00deadline/reply", "01" + "03"},
		{"join that waits", must(s.PutJoin("f", Join{Step: "ship", Status: JoinWaiting, Halves: []Half{{
			Event: Event{Source: "shop", ID: "e-1", Type: "placed", ContentType: "application/json", Data: []byte("{}")},
			Topic: "orders", Partition: 3, Offset: 300, Heard: time.UnixMilli(300), Hops: 3, Time: time.Unix(0, 4), Started: time.Unix(0, 0), TraceParent: "00-a", TraceState: "b",
		}}}, start)), "f\x00join/ship",
			"01" + "01" + "ac02" + "01" +
				"0873686f70" + "06652d31" + "0c706c61636564" + "206170706c69636174696f6e2f6a736f6e" + "037b7d" +
				"0c6f7264657273" + "03" + "ac02" + "ac02" + "03" + "05" + "01" + "000830302d61" + "0262"},
		{"join that is done", must(s.PutJoin("f", Join{Step: "ship", Status: JoinDone, Halves: []Half{
			{Event: Event{ID: "1"}, Heard: time.UnixMilli(2)}, {Event: Event{ID: "2"}, Heard: time.UnixMilli(1)},
		}}, start)), "f\x00join/ship",
			"01" + "02" + "01" + "02" + "00" + "0231" + "00" + "00" + "00" + "000000" + "02" + "00" + "00" + "00" + "0000" + "00" +
				"00" + "0232" + "00" + "00" + "00" + "000000" + "01" + "00" + "00" + "00" + "0000" + "00"},
		{"input", s.PutBegun("or/ders", 7, TopicID{0xab}), "\x00input/or/ders/7",
			"01" + "ab" + strings.Repeat("00", 15)},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := string(c.made.Key); got != c.key {
				t.Errorf("key %q, want %q", got, c.key)
			}
			if got := hex.EncodeToString(c.made.Value); got != c.value {
				t.Errorf("value\n%s, want\n%s", got, c.value)
			}
		})
	}
}

func record(key string, value []byte, offset int64) *kgo.Record {
	return &kgo.Record{Key: []byte(key), Value: value, Partition: 3, Offset: offset, Timestamp: start}
}

func TestWhatCannotBeReadStopsTheTask(t *testing.T) {
	s := New(config())
	event := HashOf("shop", "1").String()
	good := must(s.PutRun("f", Run{Step: "ship", Hash: HashOf("shop", "1"), Status: Did}, start)).Value
	edit := func(at int, b byte) []byte {
		value := bytes.Clone(good)
		value[at] = b
		return value
	}
	hostile := "a\nlevel=ERROR msg=\"forged\" " + strings.Repeat("x", 10_000)
	for _, c := range []struct {
		name, key string
		value     []byte
		want      any
		says      []string
	}{
		{"newer version", "f\x00run/ship/" + event, edit(0, 2), new(*FormatError), []string{"version 2 is newer than 1", "offset 42", `flow "f"`, `slot "run/ship/` + event, "partition 3"}},
		{"no version", "f\x00run/ship/" + event, edit(0, 0), new(*FormatError), []string{"version 0"}},
		{"empty value", "f\x00run/ship/" + event, []byte{}, new(*FormatError), []string{"empty"}},
		{"cut short", "f\x00run/ship/" + event, good[:len(good)-1], new(*FormatError), []string{"damaged"}},
		{"too long", "f\x00run/ship/" + event, append(bytes.Clone(good), 0), new(*FormatError), []string{"damaged"}},
		{"status of a later version", "f\x00run/ship/" + event, edit(1, byte(statuses)), new(*FormatError), []string{"damaged"}},
		{"number of a text", "f\x00run/ship/" + event, edit(4, 1), new(*FormatError), []string{"damaged"}},
		{"seen, half an entry", "f\x00seen", make([]byte, 13), new(*FormatError), nil},
		{"state, count without hashes", "f\x00state/order", []byte{1, 200, 1, 0}, new(*FormatError), []string{"damaged"}},
		{"cancelled, count without triggers", "f\x00cancelled/ship", []byte{1, 5}, new(*FormatError), []string{"damaged"}},
		{"no hash", "f\x00run/ship", good, new(*FormatError), []string{"names no event"}},
		{"bad hash", "f\x00run/ship/" + strings.Repeat("!", 22), good, new(*FormatError), []string{"names no event"}},
		{"hash with loose bits", "f\x00run/ship/" + strings.Repeat("_", 22), good, new(*FormatError), []string{"names no event"}},
		{"no slot", "order-17", good, new(*FormatError), []string{"names no slot"}},
		{"input of a flow", "f\x00input/orders/1", make([]byte, 17), new(*FormatError), []string{"names no input"}},
		{"input without partition", "\x00input/orders/x", make([]byte, 17), new(*FormatError), []string{"names no input"}},
		{"input written otherwise", "\x00input/orders/01", make([]byte, 17), new(*FormatError), []string{"names no input"}},
		{"input cut short", "\x00input/orders/1", []byte{1, 2}, new(*FormatError), []string{"damaged"}},
		{"later kind of slot", "f\x00lease/1", good, new(*UnknownSlotError), []string{`slot "lease/1"`, "newer"}},
		{"parked at no place", "f\x00parked/1", good, new(*FormatError), []string{"names no place"}},
		{"parked at a place written otherwise", "f\x00parked/00000000FFFFFFFF", good, new(*FormatError), []string{"names no place"}},
		{"parked at a place too long", "f\x00parked/0000000100000000f", good, new(*FormatError), []string{"names no place"}},
		{"parked at an unknown handler", "f\x00parked/0000000100000000", parkedAt("bill"), new(*UnknownNameError), []string{`handler "bill"`, "Formerly"}},
		{"parked by a newer version", "f\x00parked/0000000100000000", append([]byte{2}, parkedAt("ship")[1:]...), new(*FormatError), []string{"version 2 is newer than 1"}},
		{"parked with a flag of a later version", "f\x00parked/0000000100000000", append([]byte{1, 16}, parkedAt("ship")[2:]...), new(*FormatError), []string{"damaged"}},
		{"retry with a flag of a later version", "f\x00retry", []byte{1, 2, 0, 0, 0, 0, 0}, new(*FormatError), []string{"damaged"}},
		{"nearly a known kind", "f\x00seen/x", good, new(*UnknownSlotError), nil},
		{"unknown step", "f\x00run/bill/" + event, good, new(*UnknownNameError), []string{`step "bill"`, "Formerly"}},
		{"unknown step cancelled", "f\x00cancelled/bill", good, new(*UnknownNameError), []string{`step "bill"`}},
		{"unknown deadline", "f\x00deadline/bill", []byte{1, 2}, new(*UnknownNameError), []string{`deadline "bill"`, "Formerly"}},
		{"deadline of a newer version", "f\x00deadline/payment", []byte{2, 2}, new(*FormatError), []string{"version 2 is newer than 1"}},
		{"deadline with a status of a later version", "f\x00deadline/payment", []byte{1, byte(deadlineStatuses)}, new(*FormatError), []string{"damaged"}},
		{"deadline without a status", "f\x00deadline/payment", []byte{1, 0}, new(*FormatError), []string{"damaged"}},
		{"deadline that is met, and more", "f\x00deadline/payment", []byte{1, 2, 0}, new(*FormatError), []string{"damaged"}},
		{"deadline in 100,000 years", "f\x00deadline/payment", pendingValue(maxMillis+1, 1), new(*FormatError), []string{"damaged"}},
		{"deadline that waits too long", "f\x00deadline/payment", pendingValue(1, maxWait+1), new(*FormatError), []string{"damaged"}},
		{"join of an unknown step", "f\x00join/bill", []byte{1, 1, 0, 1}, new(*UnknownNameError), []string{`step "bill"`, "Formerly"}},
		{"join of a newer version", "f\x00join/ship", []byte{2, 1, 0, 1}, new(*FormatError), []string{"version 2 is newer than 1"}},
		{"join with a status of a later version", "f\x00join/ship", joinValue(byte(joinStatuses), 1), new(*FormatError), []string{"damaged"}},
		{"join without a status", "f\x00join/ship", joinValue(0, 1), new(*FormatError), []string{"damaged"}},
		{"join without halves", "f\x00join/ship", []byte{1, 1, 0, 0}, new(*FormatError), []string{"damaged"}},
		{"join of more halves than there are", "f\x00join/ship", joinValue(1, 2), new(*FormatError), []string{"damaged"}},
		{"unknown state", "f\x00state/cart", good, new(*UnknownNameError), []string{`state "cart"`}},
		{"hostile flow", hostile + "\x00lease/1", good, new(*UnknownSlotError), []string{`"a\nlevel=ERROR msg=\"forged\" xxx`, "bytes)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := New(config())
			s.Apply(record(c.key, c.value, 42))
			err := s.Restored()
			if err == nil || !errors.As(err, c.want) {
				t.Fatalf("got %v, want a %T", err, c.want)
			}
			for _, part := range c.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
			if text := err.Error(); strings.Contains(text, "\n") || len(text) > 1000 {
				t.Errorf("message of %d bytes can break a log: %s", len(text), text)
			}
			if s.Flows() != 0 || len(s.inputs) != 0 {
				t.Error("the record was folded nevertheless")
			}
			// What was deleted, or replaced by what can be read, stops nothing: compaction
			// could have removed it before.
			s.Apply(record(c.key, nil, 43))
			if err := s.Restored(); err != nil {
				t.Errorf("after its deletion: %v", err)
			}
		})
	}
}

// A value of fixed order is damaged wherever it is cut, and whatever length it claims.
func TestDamageIsFoundEverywhere(t *testing.T) {
	s := New(config())
	by := Trigger{ID: "t", Type: "ship.failed"}
	event := Event{Source: "shop", ID: "1", Type: "placed", ContentType: "application/json", Data: []byte("{}")}
	for _, c := range []Change{
		must(s.PutRun("f", Run{Step: "ship", Hash: Hash{1}, Status: Undone, Attempts: 300, In: event, Out: event, By: by}, start)),
		must(s.PutCancelled("f", Cancelled{Step: "ship", By: []Trigger{by, {Hash: Hash{1}}}}, start)),
		s.PutBegun("orders", 1, TopicID{1}),
		must(s.Park("f", Parked{At: "ship", Done: []string{"mail", "notify"}, Record: &kgo.Record{
			Topic: "orders", Offset: 300, Timestamp: start, Key: []byte("k"), Value: []byte("{}"), Headers: []kgo.RecordHeader{{Key: "x", Value: []byte("y")}},
		}}, start)),
		s.PutRetry("f", Retry{Seq: 300, Attempts: 300, Began: start, Next: start, Error: "no"}, start),
		must(s.PutDeadline("f", Deadline{Name: "payment", Status: Pending, Set: start, Within: time.Hour, After: event, Time: start, TraceParent: "00"}, start)),
		must(s.PutJoin("f", Join{Step: "ship", Status: JoinWaiting, Halves: []Half{
			{Event: event, Heard: start, Hops: 300, Time: start, TraceParent: "00"}, {Event: event, TraceParent: traceParents[1], TraceState: "x"},
		}}, start)),
	} {
		for cut := range c.Value {
			for _, tail := range [][]byte{{}, bytes.Repeat([]byte{0xff}, 9), append(bytes.Repeat([]byte{0xff}, 9), 1)} {
				s := New(config())
				s.Apply(record(string(c.Key), append(bytes.Clone(c.Value[:cut]), tail...), 1))
				if err := s.Restored(); err == nil && len(tail) == 0 {
					t.Errorf("%q cut after %d of %d bytes is read nevertheless", c.Key, cut, len(c.Value))
				}
			}
		}
	}
}

func TestAReadableRecordReplacesAFault(t *testing.T) {
	s := New(config())
	made := must(New(config()).PutSeen("f", Hash{1}, 2, start))
	s.Apply(record(string(made.Key), []byte{9}, 1))
	s.Apply(record(string(made.Key), made.Value, 2))
	if err := s.Restored(); err != nil {
		t.Error(err)
	}
}

func TestFaultsAreReportedInOrderAndBounded(t *testing.T) {
	s := New(config())
	for n := range int64(100) {
		s.Apply(record(fmt.Sprintf("f%d\x00lease/1", n*7%100), []byte{1}, n))
	}
	var restore *RestoreError
	if !errors.As(s.Restored(), &restore) {
		t.Fatal("no *RestoreError")
	}
	if restore.Total != 100 || len(restore.Faults) != 10 || !strings.Contains(restore.Error(), "and 90 more") {
		t.Errorf("reported %d of %d: %v", len(restore.Faults), restore.Total, restore)
	}
	for k, fault := range restore.Faults {
		var unknown *UnknownSlotError
		if !errors.As(fault, &unknown) || unknown.Offset != int64(k) {
			t.Errorf("fault %d is %v", k, fault)
		}
	}
}

// A run keeps its place if it was written under an earlier name, and goes under all of them.
func TestFormerlyLeadsToThePresentName(t *testing.T) {
	c := config()
	old := c
	old.Steps, old.Formerly = []string{"charge"}, nil
	var l log
	was := New(old)
	event, later := HashOf("shop", "1"), HashOf("shop", "2")
	l.write(start, must(was.PutRun("f", Run{Step: "charge", Hash: event, Status: Did}, start)),
		must(was.PutCancelled("f", Cancelled{Step: "charge", By: []Trigger{{ID: "t"}}}, start)))
	s := restore(t, c, l.records)
	if run, ok := s.Run("f", "authorize", event); !ok || run.Step != "authorize" {
		t.Errorf("the run of the earlier name is %+v, %t", run, ok)
	}
	if c, ok := s.Cancelled("f", "authorize"); !ok || c.Step != "authorize" {
		t.Errorf("the cancellation of the earlier name is %+v, %t", c, ok)
	}
	l.write(start, must(s.PutRun("f", Run{Step: "authorize", Hash: event, Status: Undone}, start)),
		must(s.PutRun("f", Run{Step: "authorize", Hash: later, Status: Did}, start)))
	s = restore(t, c, l.records)
	if runs := s.Runs("f", "authorize"); len(runs) != 2 || runs[0].Hash != later || runs[1].Status != Undone {
		t.Errorf("runs are %+v", runs)
	}
	l.write(start, s.Drop("f", start.Add(DefaultRetain))...)
	for _, rec := range compact(l.records, func(int) bool { return false }) {
		if rec.Value != nil {
			t.Errorf("%q outlives its flow", rec.Key)
		}
	}
}

func TestTooLargeChangesNothing(t *testing.T) {
	c := config()
	c.MaxRecord = 2000
	s := New(c)
	event := HashOf("shop", "1")
	must(s.PutState("f", "order", []byte("kept"), event, start))
	must(s.PutRun("f", Run{Step: "ship", Hash: event, Status: Did}, start))
	before := dump(s)
	big := make([]byte, 2000)
	var many []Trigger
	for range 100 {
		many = append(many, Trigger{Hash: HashOf("", fmt.Sprint(len(many))), ID: "t"})
	}
	for name, put := range map[string]func() (Change, error){
		"run": func() (Change, error) {
			return s.PutRun("f", Run{Step: "ship", Hash: event, Status: Did, In: Event{Data: big}}, start)
		},
		"new flow": func() (Change, error) {
			return s.PutRun("g", Run{Step: "ship", Hash: event, Status: Did, In: Event{Data: big}}, start)
		},
		"state":     func() (Change, error) { return s.PutState("f", "order", big, HashOf("shop", "2"), start) },
		"cancelled": func() (Change, error) { return s.PutCancelled("f", Cancelled{Step: "ship", By: many}, start) },
		"flow id":   func() (Change, error) { return s.PutSeen(string(big), event, 1, start) },
	} {
		_, err := put()
		var large *TooLargeError
		if !errors.As(err, &large) || large.Limit != 2000 || large.Size <= 2000 || !strings.Contains(err.Error(), "2000") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := dump(s); got != before || len(s.pending) != 1 {
		t.Errorf("memory has changed:\n%s\nwant:\n%s", got, before)
	}
}

func TestUndeclaredNamesArePanics(t *testing.T) {
	s := New(config())
	for name, do := range map[string]func(){
		"step":                   func() { s.Run("f", "bill", Hash{}) },
		"earlier name of a step": func() { s.Run("f", "charge", Hash{}) },
		"state":                  func() { s.State("f", "cart") },
		"handler":                func() { _, _ = s.Park("f", Parked{At: "bill", Record: &kgo.Record{}}, start) },

		"deadline":                   func() { s.Deadline("f", "bill") },
		"earlier name of a deadline": func() { s.Deadline("f", "answer") },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			do()
		}()
	}
}

// Hostile sources and content types fill the table up to its bound; declared texts
// keep their place, and what does not fit is kept with its slot.
func TestTableIsBounded(t *testing.T) {
	c := config()
	s := New(c)
	for n := range 5 * tableEntries {
		id := fmt.Sprint(n)
		run := Run{Step: "ship", Hash: HashOf(id, id), Status: Did, In: Event{Source: id, ContentType: strings.Repeat(id, 40), Type: c.Common[1]}}
		must(s.PutRun("f", run, start))
		if got, _ := s.Run("f", "ship", run.Hash); got.In.Source != id || got.In.ContentType != run.In.ContentType || got.In.Type != c.Common[1] {
			t.Fatalf("run %d came back as %+v", n, got)
		}
	}
	if len(s.table.texts) != tableEntries || len(s.table.numbers) != tableEntries {
		t.Errorf("the table has %d texts, want %d", len(s.table.texts), tableEntries)
	}
	if s.table.texts[1] != c.Common[1] {
		t.Error("a declared text has lost its place")
	}
}

// No key and value from a topic makes Apply or a reader panic, or takes memory out of
// proportion.
func FuzzApply(f *testing.F) {
	s := New(config())
	event := HashOf("shop", "1")
	for _, c := range []Change{
		must(s.PutRun("f", Run{Step: "ship", Hash: event, Status: Undone, In: Event{ID: "1", Data: []byte("{}")}, By: Trigger{ID: "t"}}, start)),
		must(s.PutCancelled("f", Cancelled{Step: "ship", By: []Trigger{{ID: "t"}}}, start)),
		must(s.PutState("f", "order", []byte("x"), event, start)),
		must(s.PutSeen("f", event, 1, start)),
		s.PutBegun("orders", 1, TopicID{1}),
		{Key: []byte("f\x00parked/0000000100000000"), Value: parkedAt("charge")},
		s.PutRetry("f", Retry{Seq: 1, Error: "no"}, start),
		{Key: []byte("f\x00run/charge/" + event.String()), Value: []byte{1, 1, 0, 0, 1}},
	} {
		f.Add(c.Key, c.Value)
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		s := New(config())
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		s.Apply(&kgo.Record{Key: key, Value: value, Timestamp: start})
		err := s.Restored()
		runtime.ReadMemStats(&after)
		if taken := after.TotalAlloc - before.TotalAlloc; taken > uint64(100_000+20*(len(key)+len(value))) {
			t.Errorf("%d bytes taken for a record of %d", taken, len(key)+len(value))
		}
		first := dump(s) // reads all
		if err != nil && (s.Flows() > 0 || len(s.inputs) > 0) {
			t.Errorf("refused with %v, and folded", err)
		}
		if s.Flows() == 1 {
			for flow := range s.flows {
				for p, _, ok := s.Head(flow); ok; p, _, ok = s.Head(flow) {
					s.Unpark(flow, p.Seq)
				}
				for _, c := range s.Drop(flow, start.Add(1000*time.Hour)) {
					s.Apply(&kgo.Record{Key: c.Key, Timestamp: start})
				}
			}
			if s.Flows() != 0 || s.Slots() != 0 || s.Bytes() != 0 {
				t.Errorf("dropped, there remain %d flows, %d slots, %d bytes of:\n%s", s.Flows(), s.Slots(), s.Bytes(), first)
			}
		}
	})
}
