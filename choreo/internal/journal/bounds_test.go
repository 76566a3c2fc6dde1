package journal

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// Numbers are read as encoding/binary reads them, and what it refuses is
// damage.
func TestNumbersAreReadWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.OneOf(
			rapid.Map(rapid.Uint64(), func(n uint64) []byte { return binary.AppendUvarint(nil, n) }),
			rapid.Map(rapid.SampledFrom([]uint64{0, 1, 1<<63 - 1, 1 << 63, math.MaxUint64}), func(n uint64) []byte { return binary.AppendUvarint(nil, n) }),
			rapid.Custom(func(t *rapid.T) []byte { // as long as a number can be, and a little longer
				b := make([]byte, rapid.IntRange(8, 10).Draw(t, "length"))
				for i := range b {
					b[i] = 0x80
				}
				return append(b, rapid.Byte().Draw(t, "last"))
			}),
			rapid.SliceOfN(rapid.Byte(), 0, 12),
		).Draw(t, "bytes")
		want, length := binary.Uvarint(raw)
		r := reader[[]byte]{rest: raw}
		got := r.uvarint()
		if r.bad != (length <= 0) {
			t.Fatalf("%x: damaged %t, encoding/binary takes %d bytes", raw, r.bad, length)
		}
		if !r.bad && (got != want || len(r.rest) != len(raw)-length) {
			t.Fatalf("%x: %d with %d bytes left, want %d with %d", raw, got, len(r.rest), want, len(raw)-length)
		}
	})
}

// A run cannot have had more attempts than a run can count.
func TestTooManyAttemptsAreDamage(t *testing.T) {
	for attempts, ok := range map[uint64]bool{0: true, math.MaxUint32: true, math.MaxUint32 + 1: false, math.MaxUint32 + 2: false} {
		value := []byte{version, byte(Did)}
		value = binary.AppendUvarint(value, 1)
		value = binary.AppendUvarint(value, attempts)
		value = appendEvent(appendEvent(value, &Event{}), &Event{})
		value = append(value, 0)
		s := New(config())
		key := "f\x00run/ship/" + HashOf("shop", "1").String()
		s.Apply(&kgo.Record{Key: []byte(key), Value: value, Timestamp: start})
		err := s.Restored()
		if (err == nil) != ok {
			t.Errorf("%d attempts: %v", attempts, err)
		}
		if run, known := s.Run("f", "ship", HashOf("shop", "1")); known != ok || ok && uint64(run.Attempts) != attempts {
			t.Errorf("%d attempts are restored as %d", attempts, run.Attempts)
		}
	}
}

// A record may be exactly as large as the limit, and one that is larger is named
// by its slot.
func TestTheLimitItselfFits(t *testing.T) {
	event := HashOf("shop", "1")
	size := func(limit int) (int, *TooLargeError) {
		c := config()
		c.MaxRecord = limit
		change, err := New(c).PutState("flow", "order", []byte("payload"), event, start)
		var large *TooLargeError
		errors.As(err, &large)
		return len(change.Key) + len(change.Value), large
	}
	whole, _ := size(10_000)
	if got, large := size(whole); large != nil || got != whole {
		t.Errorf("a record of %d bytes does not fit its limit: %v", whole, large)
	}
	_, large := size(whole - 1)
	if large == nil || large.Flow != "flow" || large.Slot != "state/order" || large.Size != whole || large.Limit != whole-1 {
		t.Errorf("one byte too many: %+v", large)
	}
}

// A state that has expired goes although the rest of its flow stays.
func TestAStateMayGoBeforeItsFlow(t *testing.T) {
	c := config()
	c.States["basket"] = time.Hour
	s := New(c)
	event := HashOf("shop", "1")
	must(s.PutState("f", "basket", nil, event, start))
	must(s.PutRun("f", Run{Step: "ship", Hash: event, Status: Did}, start))
	now := start.Add(time.Hour)
	if due := s.Expirable(now, 100); len(due) != 1 {
		t.Errorf("expirable are %q", due)
	}
	if got := keys(t, s.Drop("f", now)); got != "state" {
		t.Errorf("dropped %q", got)
	}
	if !s.Known("f") {
		t.Error("the flow went with its state")
	}
}

func TestRestoreErrorsCountWhatTheyLeaveOut(t *testing.T) {
	for total, want := range map[int]bool{1: false, 2: true} {
		text := (&RestoreError{Faults: []error{errors.New("one")}, Total: total}).Error()
		if strings.Contains(text, "more") != want {
			t.Errorf("one of %d faults is shown as %q", total, text)
		}
	}
	whole := strings.Repeat("x", 128)
	if got := quote(whole); got != `"`+whole+`"` {
		t.Errorf("128 bytes are shown as %s", got)
	}
	if got := quote(whole + "y"); got == `"`+whole+`y"` || !strings.Contains(got, "129 bytes") {
		t.Errorf("129 bytes are shown as %s", got)
	}
}

// A run, a deadline or a join without a status is a mistake of the caller, as is a
// join of nothing, and nothing is put.
func TestWhatIsPutHasAStatus(t *testing.T) {
	type put func(*Store)
	run := func(status Status) put {
		return func(s *Store) { _, _ = s.PutRun("f", Run{Step: "ship", Status: status}, start) }
	}
	deadline := func(status DeadlineStatus) put {
		return func(s *Store) { _, _ = s.PutDeadline("f", Deadline{Name: "payment", Status: status}, start) }
	}
	join := func(status JoinStatus, halves ...Half) put {
		return func(s *Store) { _, _ = s.PutJoin("f", Join{Step: "ship", Status: status, Halves: halves}, start) }
	}
	for name, do := range map[string]put{
		"run without": run(0), "run, one more than the last": run(statuses), "run, two more": run(statuses + 1),
		"deadline without": deadline(0), "deadline, one more": deadline(deadlineStatuses), "deadline, two more": deadline(deadlineStatuses + 1),
		"join without": join(0, Half{}), "join, one more": join(joinStatuses, Half{}), "join, two more": join(joinStatuses+1, Half{}),
		"join of nothing": join(JoinWaiting),
	} {
		t.Run(name, func(t *testing.T) {
			s := New(config())
			defer func() {
				if p, ok := recover().(string); !ok || !strings.Contains(p, "has no status") {
					t.Errorf("put with %q", p)
				}
				if s.Flows() != 0 {
					t.Error("something is put")
				}
			}()
			do(s)
		})
	}
}
