package task

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	kgoCommit = kgo.TryCommit
	kgoAbort  = kgo.TryAbort
)

// The restored store has exactly what was committed, in order, whatever the log
// ends in.
func TestRestoreEqualsWhatWasCommitted(t *testing.T) {
	type step struct {
		how  string // plain, commit, abort
		keys []string
	}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"empty", nil},
		{"plain records last", []step{{"commit", seq("a", 3)}, {"plain", seq("b", 2)}}},
		{"commit marker last", []step{{"plain", seq("a", 2)}, {"commit", seq("b", 3)}}},
		{"abort marker last", []step{{"commit", seq("a", 3)}, {"abort", seq("b", 3)}}},
		{"nothing but aborted", []step{{"abort", seq("a", 2)}, {"abort", seq("b", 2)}}},
		{"mixed", []step{{"commit", seq("a", 5)}, {"abort", seq("b", 5)}, {"commit", seq("c", 1)}, {"plain", seq("d", 4)}, {"abort", seq("e", 1)}, {"commit", seq("f", 2)}}},
		{"many", []step{{"commit", seq("a", 200)}, {"abort", seq("b", 200)}, {"commit", seq("c", 200)}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, map[string]int32{"inbox": 1, "journal": 1})
			lane := r.lane("elsewhere/0")
			var want []string
			for _, s := range c.steps {
				if s.how == "plain" {
					r.produce("journal", 0, s.keys...)
					want = append(want, s.keys...)
					continue
				}
				r.begin(lane)
				r.write(lane, "journal", 0, s.keys...)
				if s.how == "commit" {
					r.end(lane, kgoCommit)
					want = append(want, s.keys...)
				} else {
					r.end(lane, kgoAbort)
				}
			}
			a := r.instance("a").start()
			a.waitOpen(1)
			if got := a.task(0).Store.(*store).applied; !slices.Equal(got, want) {
				t.Errorf("applied %v, want %v", got, want)
			}
			if s := a.owner.Status().Tasks[0]; s.RestoreRecords != int64(len(want)) || s.Restore <= 0 {
				t.Errorf("status says %d records in %v, want %d", s.RestoreRecords, s.Restore, len(want))
			}
		})
	}
}

// A journal record that cannot be read stops the task and says where it is.
func TestUnreadableJournalStopsTheTask(t *testing.T) {
	r := newRig(t, map[string]int32{"inbox": 1, "journal": 1})
	r.produce("journal", 0, "good", "bad", "good")
	a := r.instance("a")
	a.refuse = "bad"
	a.start()
	err := a.waitStopped(0)
	var se *StoreError
	if !errors.As(err, &se) || se.Topic != r.topic("journal") || !strings.Contains(err.Error(), "offset 1: unknown format version 9") {
		t.Errorf("stopped with %v", err)
	}
}

// leave makes what a dead instance leaves behind: a transaction that is open.
func (r *rig) leave(id string, what string) *kgo.Client {
	r.t.Helper()
	lane := r.lane(id)
	r.begin(lane)
	if what == "offsets" {
		r.commitIn(lane, id, "inbox", 0, 2)
	} else {
		r.write(lane, "journal", 0, "left open by "+id)
	}
	return lane
}

// A transaction that another instance of the service left open blocks the
// stable fetch of the offsets, or the restore. It is ended when the patience is
// over, and what was in it is void.
func TestOpenTransactionOfDeadInstanceIsEnded(t *testing.T) {
	for _, c := range []struct{ name, what, id string }{
		{"offsets", "offsets", "0"},
		{"offsets alone, in the transaction for such", "offsets", "offsets"},
		{"journal", "journal", "0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, map[string]int32{"inbox": 1, "journal": 1})
			r.produce("inbox", 0, seq("v", 4)...)
			r.produce("journal", 0, "kept")
			r.commit("inbox", 0, 1)
			dead := r.leave(r.group+"/dead/"+c.id, c.what)
			began := time.Now()
			a := r.instance("a").start()
			a.waitOpen(1)
			took := time.Since(began)
			t.Logf("open after %v, with a patience of 200ms", took.Round(time.Millisecond))
			if took < 200*time.Millisecond || took > 5*time.Second {
				t.Errorf("open after %v", took)
			}
			task := a.task(0)
			if task.Home().Offset != 1 {
				t.Errorf("starts at %d, want 1: the open transaction's offset must not count", task.Home().Offset)
			}
			if got := task.Store.(*store).applied; !slices.Equal(got, []string{"kept"}) {
				t.Errorf("applied %q", got)
			}
			// Not dead after all: what it does next is refused.
			err := dead.ProduceSync(t.Context(), &kgo.Record{Topic: r.topic("inbox"), Value: []byte("zombie")}).FirstErr()
			if err == nil {
				err = dead.EndTransaction(t.Context(), kgoCommit)
			}
			if err == nil {
				t.Error("the dead instance could still commit")
			}
		})
	}
}

// Transactions of other services, and our own, are left alone, even when the
// task waits for them.
func TestTransactionsOfOthersAreLeftAlone(t *testing.T) {
	for _, c := range []struct{ name, id string }{
		{"another service", "elsewhere/x/0"},
		{"another service whose name begins like ours", "%s-other/x/0"},
		{"our own", "%s/a/0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, map[string]int32{"inbox": 1, "journal": 1})
			id := c.id
			if strings.Contains(id, "%s") {
				id = fmt.Sprintf(id, r.group)
			}
			lane := r.leave(id, "journal")
			a := r.instance("a").start()
			eventually(t, "the task is restoring", func() bool {
				s := a.owner.Status().Tasks
				return len(s) == 1 && s[0].Phase == Restoring
			})
			since := time.Now()
			eventually(t, "the patience is over three times", func() bool { return time.Since(since) > 3*a.owner.cfg.Patience })
			if len(a.owns()) != 0 {
				t.Error("the task opened over an open transaction")
			}
			r.end(lane, kgoCommit)
			a.waitOpen(1)
			if got := a.task(0).Store.(*store).applied; len(got) != 1 {
				t.Errorf("applied %q", got)
			}
		})
	}
}

// A live instance whose transactions follow each other is not hit, although one
// is open each time that we look: they are not the same.
func TestLiveTransactionsAreNotEnded(t *testing.T) {
	r := newRig(t, map[string]int32{"inbox": 1, "journal": 1})
	a := r.instance("a").start()
	a.waitOpen(1)
	id := r.group + "/live/0"
	lane := r.lane(id)
	blocked := a.owner.relief("a test", nil)
	blocked.since = time.Now().Add(-time.Hour)
	for n := range 4 {
		r.begin(lane)
		r.write(lane, "journal", 0, fmt.Sprint(n))
		blocked.checked = time.Now().Add(-time.Hour)
		if err := blocked.blocked(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(blocked.seen) != 1 {
			t.Fatalf("round %d: it saw %v", n, blocked.seen)
		}
		r.end(lane, kgoCommit) // fails if it was ended
	}
	r.begin(lane)
	r.write(lane, "journal", 0, "stuck")
	for range 2 {
		blocked.checked = time.Now().Add(-time.Hour)
		if err := blocked.blocked(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := lane.EndTransaction(t.Context(), kgoCommit); err == nil {
		t.Error("a transaction that was seen twice was not ended")
	}
}

// What is appended while a journal is restored is another's, who fences itself.
func TestRestoreEndsWhereTheLogEndedWhenItBegan(t *testing.T) {
	c := startCluster(t)
	r := newRigOn(t, c.ListenAddrs(), groupName(t), map[string]int32{"inbox": 1, "journal": 1})
	r.produce("journal", 0, "one", "two", "three", "four")
	c.ControlKey(int16(kmsg.ListOffsets), func(req kmsg.Request) (kmsg.Response, error, bool) {
		ask := req.(*kmsg.ListOffsetsRequest)
		if len(ask.Topics) != 1 || ask.Topics[0].Topic != r.topic("journal") || ask.Topics[0].Partitions[0].Timestamp != highWatermark.timestamp {
			c.KeepControl()
			return nil, nil, false
		}
		resp := ask.ResponseKind().(*kmsg.ListOffsetsResponse)
		p := kmsg.NewListOffsetsResponseTopicPartition()
		p.Offset = 2 // as it was before the last two
		resp.Topics = []kmsg.ListOffsetsResponseTopic{{Topic: r.topic("journal"), Partitions: []kmsg.ListOffsetsResponseTopicPartition{p}}}
		return resp, nil, true
	})
	a := r.instance("a").start()
	a.waitOpen(1)
	if got := a.task(0).Store.(*store).applied; !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("applied %q", got)
	}
}

// Whoever reads the log learns that a task waits for a transaction that cannot
// be ended, and only then.
func TestWhoIsBlockedSaysWhatCannotBeEnded(t *testing.T) {
	for _, what := range []string{"offsets", "journal"} {
		for _, refused := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, refused is %v", what, refused), func(t *testing.T) {
				c := startCluster(t)
				r := newRigOn(t, c.ListenAddrs(), "group", map[string]int32{"inbox": 1, "journal": 1})
				r.produce("inbox", 0, "v")
				r.leave("elsewhere/0", what)
				asked := make(chan struct{}, 100)
				c.ControlKey(int16(kmsg.ListTransactions), func(req kmsg.Request) (kmsg.Response, error, bool) {
					c.KeepControl()
					select {
					case asked <- struct{}{}:
					default:
					}
					if !refused {
						return nil, nil, false
					}
					resp := req.ResponseKind().(*kmsg.ListTransactionsResponse)
					resp.ErrorCode = kerr.ClusterAuthorizationFailed.Code
					return resp, nil, true
				})
				var l logged
				a := r.instance("a").start(func(cfg *Config) { cfg.Logger = slog.New(slog.NewTextHandler(&l, nil)) })
				for range 3 {
					<-asked
				}
				if _, _, err := r.lane("elsewhere/0").ProducerID(t.Context()); err != nil { // which ends it
					t.Fatal(err)
				}
				a.waitOpen(1)
				if n := l.times("cannot be ended"); (n > 0) != refused {
					t.Errorf("said %d times", n)
				}
			})
		}
	}
}
