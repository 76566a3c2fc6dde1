package journal

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// takers are the kinds of slots that a record is read as by whoever has no Store,
// and those whose slot it is said to be, whatever its value.
func takers(rec *kgo.Record) (read, slot []string) {
	if _, _, _, ok, err := ReadParked(rec); ok {
		if slot = append(slot, "parked"); err == nil {
			read = append(read, "parked")
		}
	}
	if _, _, ok, err := ReadRetry(rec); ok {
		if slot = append(slot, "retry"); err == nil {
			read = append(read, "retry")
		}
	}
	if _, _, ok := ReadDeadline(rec); ok {
		read = append(read, "deadline")
	}
	if _, _, ok := DeadlineSlot(rec); ok {
		slot = append(slot, "deadline")
	}
	if _, _, _, _, ok := ReadJoin(rec); ok {
		read = append(read, "join")
	}
	if _, _, ok := JoinSlot(rec); ok {
		slot = append(slot, "join")
	}
	return read, slot
}

// A record is read as what it is, and as nothing else.
func TestARecordIsReadAsWhatItIs(t *testing.T) {
	for _, flow := range []string{"f", "", "join/f", "nul\x00deadline/payment"} {
		s := New(config())
		deadline := Deadline{Name: "payment", Status: Pending, Set: start, Within: time.Hour}
		for want, c := range map[string]Change{
			"run":       must(s.PutRun(flow, Run{Step: "ship", Status: Did}, start)),
			"cancelled": must(s.PutCancelled(flow, Cancelled{Step: "ship", By: []Trigger{{ID: "t"}}}, start)),
			"state":     must(s.PutState(flow, "order", []byte("x"), Hash{1}, start)),
			"seen":      must(s.PutSeen(flow, Hash{1}, 1, start)),
			"input":     s.PutBegun("orders", 1, TopicID{1}),
			"parked":    must(s.Park(flow, Parked{At: "ship", Record: &kgo.Record{Timestamp: start}}, start)),
			"retry":     s.PutRetry(flow, Retry{Seq: 1, Attempts: 1, Began: start, Next: start}, start),
			"deadline":  must(s.PutDeadline(flow, deadline, start)),
			"join":      must(s.PutJoin(flow, Join{Step: "ship", Status: JoinWaiting, Halves: []Half{{Heard: start}}}, start)),
		} {
			rec := c.Record("shop.journal", 3, start)
			known := 1
			switch want {
			case "run", "cancelled", "state", "seen", "input":
				known = 0
			case "deadline":
				if of, d, _ := ReadDeadline(rec); of != flow || d.Name != "payment" || d.Status != Pending || !d.Due().Equal(start.Add(time.Hour)) {
					t.Errorf("of %q it reads as %q %+v", flow, of, d)
				}
				if of, name, _ := DeadlineSlot(rec); of != flow || name != "payment" {
					t.Errorf("of %q it is the slot of %q, %q", flow, of, name)
				}
			case "join":
				if of, step, status, since, _ := ReadJoin(rec); of != flow || step != "ship" || status != JoinWaiting || !since.Equal(start) {
					t.Errorf("of %q it reads as %q %q %s since %v", flow, of, step, status, since)
				}
				if of, step, _ := JoinSlot(rec); of != flow || step != "ship" {
					t.Errorf("of %q it is the slot of %q, %q", flow, of, step)
				}
			}
			read, slot := takers(rec)
			if len(read) != known || len(slot) != known || known == 1 && (read[0] != want || slot[0] != want) {
				t.Errorf("%s of %q is read as %v, its slot is one of %v", want, flow, read, slot)
			}
		}
	}
}

// What of a deadline or a join cannot be read is said to be none, but its slot is
// known; a key without a flow is nobody's.
func TestADeadlineOrJoinThatCannotBeReadHasItsSlot(t *testing.T) {
	for name, value := range map[string][]byte{
		"deleted": nil, "empty": {}, "no version": {0, 1, 0, 0}, "a newer version": {version + 1, 1, 0, 0}, "cut before the status": {version},
		"no status": {version, 0, 0, 0}, "a status of a later version": {version, max(byte(deadlineStatuses), byte(joinStatuses)), 0, 0}, "cut in a time": {version, 1, 255},
	} {
		for _, want := range []string{"deadline", "join"} {
			rec := &kgo.Record{Key: []byte("f\x00" + want + "/ship"), Value: value}
			if read, slot := takers(rec); len(read) != 0 || len(slot) != 1 || slot[0] != want {
				t.Errorf("%s, %s: read as %v, its slot is one of %v", want, name, read, slot)
			}
		}
	}
	for _, key := range []string{"", "deadline/payment", "join/ship"} {
		if read, slot := takers(&kgo.Record{Key: []byte(key), Value: []byte{version, 1, 0, 0}}); len(read)+len(slot) != 0 {
			t.Errorf("%q is read as %v, its slot is one of %v", key, read, slot)
		}
	}
}
