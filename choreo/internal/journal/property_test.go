package journal

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// dump writes down all that a Store remembers, as its readers see it. Run numbers
// are replaced by the order that they stand for.
func dump(s *Store) string {
	var b strings.Builder
	bytes := int64(0)
	for _, name := range slices.Sorted(maps.Keys(s.flows)) {
		f := s.flows[name]
		bytes += flowBytes(name)
		fmt.Fprintf(&b, "flow %q\n", name)
		for _, own := range f.slots {
			bytes += slotBytes(own)
			i := own.id()
			fmt.Fprintf(&b, " slot %d %q at %d renamed %t\n", i.kind, s.names.name(i), own.at(), own.renamed())
			if i.kind == kindRun {
				run, _ := s.Run(name, s.names.name(i), i.hash)
				run.Seq = 0
				fmt.Fprintf(&b, "  %+v\n", run)
			}
		}
		for _, step := range s.names.step {
			for _, run := range s.Runs(name, step) {
				fmt.Fprintf(&b, " then %s\n", run.Hash)
			}
			if c, ok := s.Cancelled(name, step); ok {
				fmt.Fprintf(&b, " cancelled %+v\n", c)
			}
		}
		for _, state := range s.names.state {
			if own, ok := s.State(name, state); ok {
				fmt.Fprintf(&b, " state %s %q %v\n", state, own.Payload, own.Applied)
			}
		}
		var retry Retry
		for k, p := range s.Queue(name) {
			if k == 0 {
				_, retry, _ = s.Head(name)
			}
			fmt.Fprintf(&b, " parked %s\n", shown(p))
		}
		fmt.Fprintf(&b, " retry %+v\n", retry)
		for _, step := range s.names.step {
			if j, ok := s.Join(name, step); ok {
				fmt.Fprintf(&b, " join %s\n", shownJoin(j))
			}
		}
		for _, deadline := range s.names.deadline {
			if d, ok := s.Deadline(name, deadline); ok {
				fmt.Fprintf(&b, " deadline %s\n", shownDeadline(d))
			}
		}
		for _, d := range s.PendingOf(name) {
			fmt.Fprintf(&b, " pending %s at %d\n", d.Name, d.Due().UnixMilli())
		}
		for _, id := range eventIDs {
			if data, ok := s.Seen(name, HashOf("shop", id)); ok {
				fmt.Fprintf(&b, " seen %s %d\n", id, data)
			}
		}
	}
	for _, in := range slices.SortedFunc(maps.Keys(s.inputs), func(a, b input) int {
		return strings.Compare(fmt.Sprint(a), fmt.Sprint(b))
	}) {
		fmt.Fprintf(&b, "input %v %x\n", in, s.inputs[in])
	}
	var pending []string
	s.EachPending(func(flow string, set time.Time, within time.Duration) {
		pending = append(pending, fmt.Sprintf("%q %d %v", flow, set.UnixMilli(), within))
	})
	slices.Sort(pending)
	fmt.Fprintf(&b, "pending %v %q\n", s.Pending(), pending)
	var joins []string
	s.EachJoin(func(flow string, j Join) { joins = append(joins, fmt.Sprintf("%q %s", flow, shownJoin(j))) })
	slices.Sort(joins)
	fmt.Fprintf(&b, "joining %v %q\n", s.Joining(), joins)
	fmt.Fprintf(&b, "parked %d %+v\n", s.Parked(), s.Parking())
	fmt.Fprintf(&b, "flows %d slots %d bytes %t\n", s.Flows(), s.Slots(), bytes == s.Bytes())
	return b.String()
}

// compact keeps the last record of each key, as a compacted topic does in the end;
// of the rest it keeps what keep says, as it does on the way there.
func compact(records []*kgo.Record, keep func(int) bool) []*kgo.Record {
	last := make(map[string]int)
	for k, rec := range records {
		last[string(rec.Key)] = k
	}
	var kept []*kgo.Record
	for k, rec := range records {
		if last[string(rec.Key)] == k || keep(k) {
			kept = append(kept, rec)
		}
	}
	return kept
}

var (
	flowIDs  = []string{"a", "b", "", "run/ship/x", "nul\x00seen", "line\nbreak", "\xff\xfe", strings.Repeat("long", 100)}
	eventIDs = []string{"1", "2", "3", "4", "\x00"}
)

func drawEvent(t *rapid.T) Event {
	e := Event{
		Source:      rapid.SampledFrom([]string{"shop", "bank", ""}).Draw(t, "source"),
		ID:          rapid.SampledFrom(eventIDs).Draw(t, "id"),
		Type:        rapid.SampledFrom([]string{"shop.order.placed.v1", "bank.charged.v1", ""}).Draw(t, "type"),
		ContentType: rapid.SampledFrom([]string{"application/json", "x"}).Draw(t, "content type"),
	}
	if rapid.Bool().Draw(t, "has data") {
		e.Data = rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "data")
	}
	return e
}

func drawTrigger(t *rapid.T) Trigger {
	id := rapid.SampledFrom(eventIDs).Draw(t, "trigger")
	return Trigger{Hash: HashOf("shop", id), ID: id, Type: "ship.failed", Answered: rapid.Bool().Draw(t, "answered")}
}

// change makes one change of any kind, and of the flow's expiry.
func change(t *rapid.T, s *Store, at time.Time) []Change {
	flow := rapid.SampledFrom(flowIDs).Draw(t, "flow")
	event := HashOf("shop", rapid.SampledFrom(eventIDs).Draw(t, "event"))
	step := rapid.SampledFrom(s.names.step).Draw(t, "step")
	switch rapid.IntRange(0, 12).Draw(t, "kind") {
	case 0, 1:
		run := Run{
			Step: step, Hash: event,
			Status:   Status(rapid.IntRange(1, int(statuses)-1).Draw(t, "status")),
			Attempts: rapid.Uint32().Draw(t, "attempts"),
			In:       drawEvent(t), Out: drawEvent(t),
		}
		if rapid.Bool().Draw(t, "undone") {
			run.By = drawTrigger(t)
		}
		made := must(s.PutRun(flow, run, at))
		got, ok := s.Run(flow, step, event)
		run.Seq, run.At = got.Seq, at
		if !ok || fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", run) {
			t.Fatalf("put run %#v, got %#v", run, got)
		}
		return []Change{made}
	case 2:
		c, _ := s.Cancelled(flow, step)
		for k := range c.By {
			c.By[k].Answered = true // those that are known may change
		}
		c.Step = step
		for range rapid.IntRange(0, 3).Draw(t, "triggers") {
			by := drawTrigger(t)
			if !slices.ContainsFunc(c.By, func(known Trigger) bool { return known.Hash == by.Hash }) {
				c.By = append(c.By, by)
			}
		}
		made := must(s.PutCancelled(flow, c, at))
		if got, ok := s.Cancelled(flow, step); !ok || fmt.Sprint(got) != fmt.Sprint(c) {
			t.Fatalf("put %v, got %v", c, got)
		}
		return []Change{made}
	case 3:
		data := rapid.Uint64().Draw(t, "data hash")
		made := must(s.PutSeen(flow, event, data, at))
		if got, ok := s.Seen(flow, event); !ok || got != data {
			t.Fatalf("put %d, got %d, %t", data, got, ok)
		}
		return []Change{made}
	case 4:
		name := rapid.SampledFrom(s.names.state).Draw(t, "state")
		payload := rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "payload")
		before, _ := s.State(flow, name)
		made := must(s.PutState(flow, name, payload, event, at))
		got, ok := s.State(flow, name)
		if !ok || !bytes.Equal(got.Payload, payload) || !s.Applied(flow, name, event) {
			t.Fatalf("put %q, got %q", payload, got.Payload)
		}
		if want := append(before.Applied, event); !slices.Equal(got.Applied, before.Applied) && !slices.Equal(got.Applied, want) {
			t.Fatalf("applied %v after %v", got.Applied, before.Applied)
		}
		return []Change{made}
	case 5:
		topic := rapid.SampledFrom([]string{"orders", "pay/ments"}).Draw(t, "topic")
		return []Change{s.PutBegun(topic, rapid.Int32Range(0, 2).Draw(t, "partition"), TopicID{rapid.Byte().Draw(t, "topic id")})}
	case 6, 7:
		return changeQueue(t, s, flow, at)
	case 8, 9:
		return []Change{changeDeadline(t, s, flow, at)}
	case 10, 11:
		return []Change{changeJoin(t, s, flow, at)}
	default:
		s.Ended(flow, at)
		var made []Change
		for _, due := range s.Expirable(at, 100) {
			made = append(made, s.Drop(due, at)...)
		}
		return made
	}
}

// Memory is the fold of the records that were written: all of them, any first part of
// them, and what compaction leaves of that. The service that reads them may have renamed its steps.
func TestMemoryIsTheFoldOfItsRecords(t *testing.T) {
	old := config()
	old.Steps, old.Deadlines, old.Formerly = []string{"ship", "charge", "notify"}, []string{"answer", "payment"}, nil
	rapid.Check(t, func(t *rapid.T) {
		var l log
		now := start
		c := config()
		s := New(c)
		var dumps []string // by number of records
		steps := func(n int) {
			for range n {
				now = now.Add(time.Duration(rapid.SampledFrom([]int{0, 1, 60, 400, 90_000, 180_000}).Draw(t, "seconds")) * time.Second)
				made := change(t, s, now)
				l.write(now, made...)
				for range made {
					dumps = append(dumps, "") // in the midst of a change: not a state of the memory
				}
				if len(made) > 0 {
					dumps[len(dumps)-1] = dump(s)
				}
			}
		}
		if rapid.Bool().Draw(t, "renamed") {
			s = New(old)
			steps(rapid.IntRange(0, 10).Draw(t, "before the renaming"))
			s = restore(t, c, l.records)
			for k := range dumps {
				dumps[k] = "" // of the old names
			}
		}
		steps(rapid.IntRange(0, 20).Draw(t, "changes"))
		n := len(l.records)
		if n == 0 {
			return
		}
		for _, n := range []int{n, rapid.IntRange(1, n).Draw(t, "prefix")} {
			want := dumps[n-1]
			if want == "" {
				want = dump(restore(t, c, l.records[:n]))
			}
			if got := dump(restore(t, c, l.records[:n])); got != want {
				t.Fatalf("restored from %d records:\n%s\nwant:\n%s", n, got, want)
			}
			mask := rapid.SliceOfN(rapid.Bool(), n, n).Draw(t, "not yet compacted")
			for _, keep := range []func(int) bool{func(int) bool { return false }, func(k int) bool { return mask[k] }} {
				if got := dump(restore(t, c, compact(l.records[:n], keep))); got != want {
					t.Fatalf("restored from %d records, compacted:\n%s\nwant:\n%s", n, got, want)
				}
			}
		}
	})
}

// Reverting what was made of an event leaves everything as it was.
func TestRevertTakesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := New(config())
		now := start
		for range rapid.IntRange(0, 10).Draw(t, "before") {
			now = now.Add(time.Minute)
			s.Commit(change(t, s, now)...)
		}
		s.inputs = map[input]TopicID{}
		want, committed := dump(s), committedOf(s)
		var made []Change
		for range rapid.IntRange(1, 10).Draw(t, "reverted") {
			made = append(made, change(t, s, now.Add(time.Hour))...)
		}
		s.Revert(made...)
		s.inputs = map[input]TopicID{}
		if got := dump(s); got != want {
			t.Fatalf("reverted:\n%s\nwant:\n%s", got, want)
		}
		if got := committedOf(s); got != committed {
			t.Fatalf("reverted, committed are\n%s\nwant\n%s", got, committed)
		}
		if len(s.pending) > 0 {
			t.Fatalf("%d states wait for a commit that will not come", len(s.pending))
		}
	})
}

func committedOf(s *Store) string {
	var b strings.Builder
	for _, flow := range flowIDs {
		for _, name := range s.names.state {
			payload, ok := s.Committed(flow, name)
			fmt.Fprintf(&b, "%q %s %q %t\n", flow, name, payload, ok)
		}
	}
	return b.String()
}

// Committed is what the last committed change put, however many are under way.
func TestCommittedFollowsTheCommits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := New(config())
		type want struct {
			payload string
			ok      bool
		}
		now := start
		var queue []Change
		var wants []want
		shown := want{}
		for k := range rapid.IntRange(1, 30).Draw(t, "actions") {
			switch rapid.IntRange(0, 3).Draw(t, "action") {
			case 0, 1:
				payload := fmt.Sprint(k)
				queue = append(queue, must(s.PutState("f", "order", []byte(payload), HashOf("", payload), now)))
				wants = append(wants, want{payload, true})
			case 2:
				n := rapid.IntRange(0, len(queue)).Draw(t, "committed")
				s.Commit(queue[:n]...)
				if n > 0 {
					shown = wants[n-1]
				}
				queue, wants = queue[n:], wants[n:]
			default:
				now = now.Add(50 * time.Hour)
				for _, c := range s.Drop("f", now) {
					queue, wants = append(queue, c), append(wants, want{})
				}
			}
			payload, ok := s.Committed("f", "order")
			if got := (want{string(payload), ok}); got != shown {
				t.Fatalf("committed is %v, want %v", got, shown)
			}
		}
		s.Commit(queue...)
		if len(s.pending) > 0 {
			t.Fatalf("%d states still wait after all is committed", len(s.pending))
		}
	})
}
