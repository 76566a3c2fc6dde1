//go:build synctests

package simkafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo/choreotest/internal/simnet"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const roundTrip = 4 * time.Millisecond // at most

// always has all transactions that end get late markers.
func (r *rig) always(most time.Duration) {
	r.cluster.LateMarkers(most, time.Now().Add(1000*time.Hour))
}

// request sends a request about the lane's transactional id to its coordinator.
func request[A kmsg.Response](l *lane, req kmsg.Request) A {
	l.Helper()
	kresp, err := l.admin.Broker(int(l.cluster.CoordinatorFor(l.id))).Request(context.Background(), req)
	if err != nil {
		l.Fatal(err)
	}
	return kresp.(A)
}

// endAs sends EndTxn once.
func (l *lane) endAs(epoch int16, commit bool) (int16, error) {
	l.Helper()
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = l.id, l.pid, epoch, commit
	resp := request[*kmsg.EndTxnResponse](l, req)
	return resp.ProducerEpoch, kerr.ErrorForCode(resp.ErrorCode)
}

// takeOver sends InitProducerID once, as another process with the same id.
func (l *lane) takeOver() error {
	l.Helper()
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.TransactionTimeoutMillis = &l.id, 60000
	return kerr.ErrorForCode(request[*kmsg.InitProducerIDResponse](l, req).ErrorCode)
}

func is(t *testing.T, what string, got error, want *kerr.Error) {
	t.Helper()
	if want == nil && got != nil || want != nil && !errors.Is(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// until waits for what comes by itself, and says when it came.
func (r *rig) until(what string, holds func() bool) time.Time {
	r.Helper()
	for range 100_000 {
		if holds() {
			return time.Now()
		}
		time.Sleep(time.Millisecond)
	}
	r.Fatalf("%s does not come", what)
	return time.Time{}
}

func TestMarkersComeAfterTheAnswer(t *testing.T) {
	run(t, 0, func(r *rig) {
		r.always(10 * time.Second)
		l := r.lane("payment/0/0")
		defer l.Close()
		rd := r.reader("out")
		defer rd.Close()

		l.begin()
		l.commits(0, 7)
		l.produce("out", "paid")
		l.end()
		answered := time.Now()

		_, _, err := r.committed(0)
		is(t, "a stable fetch of the offset", err, kerr.UnstableOffsetCommit)
		if end := r.endOf("out", 0, 1); end != 0 {
			t.Errorf("the last stable offset is %d, want that of the record, 0", end)
		}
		if end := r.endOf("out", 0, 0); end == 0 {
			t.Error("the log is empty for a reader of what is not committed")
		}
		if got := r.next(rd, 20*time.Second); got != "paid" {
			t.Fatalf("read %q", got)
		}
		if d := time.Since(answered); d < 10*time.Millisecond || d > 10*time.Second+roundTrip {
			t.Errorf("the record was read %v after the answer", d)
		}
		r.until("the offset", func() bool { _, _, err := r.committed(0); return err == nil })
		if at, meta, _ := r.committed(0); at != 7 || meta != "at 7" {
			t.Errorf("committed %d, %q", at, meta)
		}
		if end := r.endOf("out", 0, 1); end != 2 {
			t.Errorf("the last stable offset is %d, want that after the marker, 2", end)
		}
	})
}

// The marker of the offsets comes before and after that of the journal.
func TestMarkersComeInAnyOrder(t *testing.T) {
	run(t, 0, func(r *rig) {
		r.always(10 * time.Second)
		before, after := 0, 0
		for i := range 20 {
			l := r.lane(fmt.Sprintf("payment/0/%d", i))
			l.begin()
			l.commits(0, int64(i))
			l.produce("journal", "run")
			end := r.endOf("journal", 0, 0)
			l.end()
			var offsets, journal time.Time
			r.until("both", func() bool {
				if _, _, err := r.committed(0); err == nil && offsets.IsZero() {
					offsets = time.Now()
				}
				if r.endOf("journal", 0, 1) > end && journal.IsZero() {
					journal = time.Now()
				}
				return !offsets.IsZero() && !journal.IsZero()
			})
			if offsets.Before(journal) {
				before++
			} else {
				after++
			}
			l.Close()
		}
		if before == 0 || after == 0 {
			t.Errorf("the offsets' marker came first %d times, the journal's %d times", before, after)
		}
	})
}

func TestRecordsBehindAreHeldWhileOthersPass(t *testing.T) {
	run(t, 0, func(r *rig) {
		l := r.lane("a")
		defer l.Close()
		other := r.client()
		defer other.Close()
		say := func(topic, value string) {
			if err := other.ProduceSync(context.Background(), &kgo.Record{Topic: topic, Value: []byte(value)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		out, in := r.reader("out"), r.reader("in")
		defer out.Close()
		defer in.Close()
		say("out", "first")
		l.begin()
		l.produce("out", "second")
		r.always(10 * time.Second)
		start := time.Now()
		l.end()
		say("out", "third")
		say("in", "free")
		if got := r.next(out, time.Second); got != "first" {
			t.Errorf("what stands before it: read %q", got)
		}
		if got := r.next(in, time.Second); got != "free" || time.Since(start) > 100*time.Millisecond {
			t.Errorf("another topic: read %q after %v", got, time.Since(start))
		}
		var got []string
		for range 2 {
			got = append(got, r.next(out, 20*time.Second))
		}
		if !slices.Equal(got, []string{"second", "third"}) {
			t.Errorf("read %q", got)
		}
	})
}

func TestAbortedStaysUnseen(t *testing.T) {
	run(t, 0, func(r *rig) {
		r.always(time.Second)
		l := r.lane("a")
		defer l.Close()
		rd := r.reader("out")
		defer rd.Close()
		l.begin()
		l.commits(0, 5)
		l.produce("out", "wrong")
		if err := l.EndTransaction(context.Background(), kgo.TryAbort); err != nil {
			t.Fatal(err)
		}
		l.begin()
		l.commits(0, 3)
		l.produce("out", "right")
		l.end()
		if got := r.next(rd, 10*time.Second); got != "right" {
			t.Errorf("read %q", got)
		}
		r.until("the offset", func() bool { at, _, err := r.committed(0); return err == nil && at == 3 })
	})
}

func TestNextTransactionIsRefusedUntilTheLastIsComplete(t *testing.T) {
	run(t, 0, func(r *rig) {
		r.always(10 * time.Second)
		l := r.lane("a")
		defer l.Close()
		l.begin()
		l.commits(0, 1)
		l.produce("out", "one")
		l.end()
		old := l.epoch
		l.begin()
		if l.epoch != old+1 {
			t.Fatalf("epoch %d after %d", l.epoch, old)
		}
		start := time.Now()
		is(t, "TxnOffsetCommit", l.commit(0, 2), kerr.ConcurrentTransactions)
		if d := time.Since(start); d > roundTrip {
			t.Errorf("it was refused after %v, not at once", d)
		}
		add := kmsg.NewPtrAddPartitionsToTxnRequest()
		add.TransactionalID, add.ProducerID, add.ProducerEpoch = l.id, l.pid, l.epoch
		at := kmsg.NewAddPartitionsToTxnRequestTopic()
		at.Topic, at.Partitions = "out", []int32{0}
		add.Topics = append(add.Topics, at)
		added, err := add.RequestWith(context.Background(), l.admin) // it sends version 3: later ones are for brokers
		if err != nil {
			t.Fatal(err)
		}
		is(t, "AddPartitionsToTxn", kerr.ErrorForCode(added.Topics[0].Partitions[0].ErrorCode), kerr.ConcurrentTransactions)
		is(t, "InitProducerID", l.takeOver(), kerr.ConcurrentTransactions)
		_, err = l.endAs(old, true)
		is(t, "the same EndTxn", err, kerr.ConcurrentTransactions)
		_, err = l.endAs(old, false)
		is(t, "EndTxn the other way", err, kerr.InvalidTxnState)
		_, err = l.endAs(l.epoch, true)
		is(t, "EndTxn of the next", err, kerr.ProducerFenced)

		complete := r.until("the end of it", func() bool { return l.commit(0, 2) == nil })
		if d := complete.Sub(start); d < 20*time.Millisecond || d > 10*time.Second+roundTrip {
			t.Errorf("it is complete after %v", d)
		}
		if end := r.endOf("out", 0, 1); end != 2 {
			t.Errorf("it is complete, and the last stable offset is %d, want 2", end)
		}
		if _, err := l.endAs(l.epoch, true); err != nil { // the client sends no EndTxn for offsets alone
			t.Fatal(err)
		}
		r.until("the second offset", func() bool { at, _, err := r.committed(0); return err == nil && at == 2 })
	})
}

func TestProduceWaitsInTheBroker(t *testing.T) {
	for _, late := range []time.Duration{60 * time.Millisecond, 10 * time.Second} {
		t.Run(late.String(), func(t *testing.T) {
			run(t, 0, func(r *rig) {
				l := r.lane("a")
				defer l.Close()
				l.begin()
				l.produce("out", "one")
				l.produce("journal", "one")
				r.always(late)
				l.end()
				complete := make(chan time.Time, 1)
				go func() {
					complete <- r.until("both markers", func() bool { return r.endOf("out", 0, 1) == 2 && r.endOf("journal", 0, 1) == 2 })
				}()
				l.begin()
				var sent, answered []time.Time
				for i := range 1000 {
					r.host.On(simnet.Trigger{Key: 0, Nth: i + 1, When: simnet.BeforeSent, Do: func(*simnet.Exchange) { sent = append(sent, time.Now()) }})
					r.host.On(simnet.Trigger{Key: 0, Nth: i + 1, When: simnet.AfterAnswered, Do: func(*simnet.Exchange) { answered = append(answered, time.Now()) }})
				}
				l.produce("out", "two")
				if done := <-complete; len(answered) == 0 || answered[len(answered)-1].Before(done.Add(-3*roundTrip)) {
					t.Errorf("appended at %v, the last transaction was complete at %v", answered, done)
				}
				for i, at := range answered {
					took := at.Sub(sent[i])
					if most := produceMost + roundTrip; took > most {
						t.Errorf("answer %d of %d took %v", i+1, len(answered), took)
					}
					if last := i == len(answered)-1; !last && took < produceMost {
						t.Errorf("answer %d of %d: refused after %v", i+1, len(answered), took)
					}
					if rest := took % produceLook; rest > roundTrip {
						t.Errorf("answer %d of %d took %v, no multiple of %v", i+1, len(answered), took, produceLook)
					}
				}
			})
		})
	}
}

func TestTakeOverAbortsAndWaits(t *testing.T) {
	run(t, 0, func(r *rig) {
		r.always(time.Second)
		l := r.lane("a")
		defer l.Close()
		l.begin()
		l.commits(0, 5)
		l.produce("out", "one")
		is(t, "the first try", l.takeOver(), kerr.ConcurrentTransactions)
		is(t, "the old producer", l.commit(0, 6), kerr.ProducerFenced)
		r.until("the take-over", func() bool { return l.takeOver() == nil })
		if end := r.endOf("out", 0, 1); end != 2 {
			t.Errorf("the last stable offset is %d, want that after the marker, 2", end)
		}
		if _, _, err := r.committed(0); !errors.Is(err, kerr.GroupIDNotFound) {
			t.Errorf("an aborted offset is committed: %v", err)
		}
		is(t, "a take-over of nothing", l.takeOver(), nil)
	})
}

// An EndTxn that is not executed changes nothing.
func TestRefusedEndHoldsNothing(t *testing.T) {
	run(t, 0, func(r *rig) {
		l := r.lane("a")
		defer l.Close()
		l.begin()
		l.commits(0, 1)
		r.always(time.Hour)
		r.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.CoordinatorLoadInProgress})
		_, err := l.endAs(l.epoch, true)
		is(t, "EndTxn", err, kerr.CoordinatorLoadInProgress)
		is(t, "TxnOffsetCommit", l.commit(0, 2), nil)
		r.always(time.Second)
		_, err = l.endAs(l.epoch, true)
		is(t, "EndTxn", err, nil)
		start := time.Now()
		at := r.until("the offset", func() bool { at, _, err := r.committed(0); return err == nil && at == 2 })
		if d := at.Sub(start); d > time.Second+roundTrip {
			t.Errorf("the offset came after %v", d)
		}
	})
}

func TestMarkersAtOnce(t *testing.T) {
	run(t, -1, func(r *rig) {
		l := r.lane("a")
		defer l.Close()
		for i := range int64(10) {
			l.begin()
			is(t, "TxnOffsetCommit", l.commit(0, i), nil)
			l.produce("out", "x")
			l.end()
			if at, _, err := r.committed(0); err != nil || at != i {
				t.Errorf("committed %d, %v, want %d", at, err, i)
			}
		}
	})
}
