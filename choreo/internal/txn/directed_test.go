package txn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo/internal/offsets"
	"github.com/choreography-go/choreography/choreo/internal/producer"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The directed tests are of what random faults hardly meet. They look at a
// broker from outside only, through the wire, and so run on the embedded one
// and, with KAFKA_BROKERS, on real ones.

func directed(t *testing.T, test func(t *testing.T, r *rig, w *wire)) {
	t.Helper()
	t.Run("embedded", func(t *testing.T) {
		c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		r, w := newWiredRig(t, c.ListenAddrs())
		test(t, r, w)
	})
	if brokers := os.Getenv("KAFKA_BROKERS"); brokers != "" {
		t.Run("kafka", func(t *testing.T) {
			r, w := newWiredRig(t, strings.Split(brokers, ","))
			r.real = true
			test(t, r, w)
		})
	}
}

// newWiredRig makes topics, a member and a pipeline whose lanes go through the
// wire. A transaction that gets no answer fails after 1.6 s.
func newWiredRig(t *testing.T, brokers []string) (*rig, *wire) {
	t.Helper()
	w := &wire{t: t}
	r := &rig{t: t, fence: new(Fence), prefix: fmt.Sprintf("directed%d.", time.Now().UnixNano()), ids: map[string][16]byte{},
		opts: []kgo.Opt{kgo.SeedBrokers(brokers...)}, ready: make(chan struct{}, 100), failed: make(chan error, 100), ran: make(chan error, 1)}
	r.admin = r.client()
	adm := kadm.NewClient(r.admin)
	made, err := adm.CreateTopics(t.Context(), 4, 1, nil, r.prefix+"in", r.prefix+"out")
	if err == nil {
		err = made.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = adm.DeleteTopics(context.Background(), r.prefix+"in", r.prefix+"out") })
	waitFor(t, "the topics", func() bool {
		there, err := adm.ListTopics(t.Context(), r.prefix+"in", r.prefix+"out")
		for name, d := range there {
			r.ids[name] = d.ID
			if d.Err != nil || len(d.Partitions) != 4 {
				return false
			}
		}
		return err == nil
	})
	r.join()
	r.rerun(w)
	return r, w
}

// rerun makes a pipeline in place of the last one, if any, as a restart does.
func (r *rig) rerun(w *wire) {
	r.t.Helper()
	p, err := New(Config{
		Fence: r.fence, Group: r.prefix + group, Membership: r.member.GroupMetadata,
		TransactionalID: func(lane int) string { return fmt.Sprintf("%spayment/0/%d", r.prefix, lane) },
		OffsetsID:       r.prefix + offsetsID,
		ClientOptions:   append(slices.Clip(r.opts), kgo.Dialer(w.dial)),
		Lanes:           2,
		Timeout:         2 * time.Second,
		SilentAfter:     time.Hour,
		Gather:          -1,
		RetryMin:        time.Millisecond,
		RetryMax:        10 * time.Millisecond,
		Ready:           func() { r.ready <- struct{}{} },
		Failed:          func(cause error) { r.failed <- cause },
		Logger:          slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.pipe = p
	ran := make(chan error, 1)
	go func() { ran <- p.Run(r.t.Context()) }()
	r.t.Cleanup(func() {
		w.set(nil)
		p.Close()
		<-ran
	})
	r.isReady()
}

// say submits the result of an offset that says its own number.
func (r *rig) say(inc *Incarnation, src *Source, offset int64) told {
	res, d := result(inc, src, offset, fmt.Sprint(offset))
	for _, rec := range res.Records {
		rec.Topic = r.prefix + rec.Topic
	}
	r.pipe.Submit(res)
	return d
}

// silence submits the result of an offset that says nothing, and has it committed.
func (r *rig) silence(inc *Incarnation, src *Source, offset int64) told {
	r.t.Helper()
	res, d := result(inc, src, offset)
	r.pipe.Submit(res)
	if err := r.pipe.Drain(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	return d
}

// opened is a task opened from what the broker says, as the runtime does it,
// with that many offsets more handed out.
func (r *rig) opened(p int32, more int) (*Incarnation, *Source) {
	r.t.Helper()
	inc := r.fence.Open(p)
	at, metadata := r.stable(p)
	tr, err := offsets.New(max(at, 0), metadata)
	if err != nil {
		r.t.Fatal(err)
	}
	for o := range more {
		tr.Begin(max(at, 0)+int64(o), 0)
	}
	return inc, &Source{Topic: r.prefix + "in", TopicID: r.ids[r.prefix+"in"], Partition: p, Offsets: tr}
}

// stable waits until nothing of the group is pending.
func (r *rig) stable(p int32) (at int64, metadata string) {
	r.t.Helper()
	waitFor(r.t, "stable offsets", func() (ok bool) {
		var err error
		if at, metadata, err = r.fetchStable(p); err != nil && !errors.Is(err, kerr.UnstableOffsetCommit) {
			r.t.Fatal(err)
		}
		return err == nil
	})
	return at, metadata
}

func (r *rig) is(p int32, at int64, outputs ...string) {
	r.t.Helper()
	if got, _ := r.stable(p); got != at {
		r.t.Fatalf("partition %d is committed at %d, want %d", p, got, at)
	}
	got := r.values(r.prefix + "out")
	slices.Sort(got)
	equal(r.t, "outputs", got, outputs)
}

// refusedLate checks that a late request was fenced.
func refusedLate(t *testing.T, resp kmsg.Response) {
	t.Helper()
	var code int16
	switch resp := resp.(type) {
	case *kmsg.TxnOffsetCommitResponse:
		code = resp.Topics[0].Partitions[0].ErrorCode
	case *kmsg.OffsetCommitResponse: // nothing fences it
		code = resp.Topics[0].Partitions[0].ErrorCode
	case *kmsg.EndTxnResponse:
		code = resp.ErrorCode
	}
	if err := kerr.ErrorForCode(code); !errors.Is(err, kerr.InvalidProducerEpoch) && !errors.Is(err, kerr.ProducerFenced) {
		t.Fatalf("the late request was answered with %v, want it fenced", err)
	}
}

// A batch was polled before its task moved to another instance and back, and is
// handed in afterwards: the generation is current and the broker would take it.
func TestDirectedABatchOfAnEarlierOwnershipIsNotCommitted(t *testing.T) {
	directed(t, func(t *testing.T, r *rig, _ *wire) {
		before, polled := r.opened(0, 3)
		before.Close(errRevoked) // and another instance handles 0 to 4
		between, theirs := r.opened(0, 5)
		for o := range 5 {
			r.say(between, theirs, int64(o)).is(t, true)
		}
		between.Close(errRevoked)
		now, ours := r.opened(0, 1)
		r.say(before, polled, 0).is(t, false)
		r.is(0, 5, "0", "1", "2", "3", "4")
		r.say(now, ours, 5).is(t, true)
		r.is(0, 6, "0", "1", "2", "3", "4", "5")
	})
}

// The broker has done a TxnOffsetCommit, its answer is lost: whatever it did is
// void, once.
func TestDirectedTxnOffsetCommitExecutedAnswerLost(t *testing.T) {
	directed(t, func(t *testing.T, r *rig, w *wire) {
		inc, src := r.opened(0, 2)
		r.say(inc, src, 0).is(t, true)
		w.first(unanswered, kTxnCommit)
		r.say(inc, src, 1).is(t, false)
		r.hasFailed(ReasonNoAnswer)
		r.isReady()
		r.is(0, 1, "0")
		inc, src = r.opened(0, 1)
		r.say(inc, src, 1).is(t, true)
		r.is(0, 2, "0", "1")
	})
}

// A TxnOffsetCommit, or its duplicate, comes late: after its lane was made anew,
// and after later offsets were committed. It neither rewinds nor blocks. (Until
// its transaction's marker is written a broker takes it for a part of that.)
func TestDirectedLateTxnOffsetCommitIsFenced(t *testing.T) {
	for _, what := range []fate{lost, unanswered, pass} {
		t.Run([]string{"duplicate of an answered one", "never delivered before", "duplicate of an unanswered one"}[what], func(t *testing.T) {
			directed(t, func(t *testing.T, r *rig, w *wire) {
				inc, src := r.opened(0, 6)
				caught := w.first(what, kTxnCommit)
				d := r.say(inc, src, 0)
				late := receive(t, caught, "the TxnOffsetCommit")
				if d.is(t, what == pass); what != pass {
					r.hasFailed(ReasonNoAnswer)
					r.isReady()
					inc, src = r.opened(0, 6)
					refusedLate(t, w.deliver(late))
					r.say(inc, src, 0).is(t, true)
				}
				r.stable(0)
				refusedLate(t, w.deliver(late))
				for o := 1; o < 5; o++ {
					r.say(inc, src, int64(o)).is(t, true)
				}
				refusedLate(t, w.deliver(late))
				r.is(0, 5, "0", "1", "2", "3", "4")
				r.say(inc, src, 5).is(t, true)
				r.is(0, 6, "0", "1", "2", "3", "4", "5")
			})
		})
	}
}

// Offsets without outputs are committed, the request is lost, and comes when the
// group has long been elsewhere: it does not rewind it.
func TestDirectedLateSilentCommitIsFenced(t *testing.T) {
	for _, what := range []fate{lost, unanswered, pass} {
		t.Run([]string{"duplicate of an answered one", "never delivered before", "duplicate of an unanswered one"}[what], func(t *testing.T) {
			directed(t, func(t *testing.T, r *rig, w *wire) {
				inc, src := r.opened(0, 6)
				caught := w.first(what, kTxnCommit, kCommit)
				d := r.silence(inc, src, 0)
				late := receive(t, caught, "the commit of offsets")
				if d.is(t, what == pass); what != pass {
					r.hasFailed(ReasonNoAnswer)
					r.isReady()
					inc, src = r.opened(0, 6)
					refusedLate(t, w.deliver(late))
					r.silence(inc, src, 0).is(t, true)
				}
				r.is(0, 1)
				refusedLate(t, w.deliver(late))
				r.say(inc, src, 1).is(t, true)
				r.silence(inc, src, 2).is(t, true)
				refusedLate(t, w.deliver(late))
				r.is(0, 3, "1")
				r.say(inc, src, 3).is(t, true)
				refusedLate(t, w.deliver(late))
				r.is(0, 4, "1", "3")
			})
		})
	}
}

// Whether an EndTxn was carried out nobody says: the broker is asked, by its
// committed offsets, and nothing is said twice or lost.
func TestDirectedEndTxnOutcomeUnknown(t *testing.T) {
	loud := func(r *rig, inc *Incarnation, src *Source) told { return r.say(inc, src, 0) }
	silent := func(r *rig, inc *Incarnation, src *Source) told { return r.silence(inc, src, 0) }
	for _, c := range []struct {
		name    string
		what    fate
		act     func(*rig, *Incarnation, *Source) told
		outputs []string
	}{
		{"executed", unanswered, loud, []string{"0"}},
		{"not executed", lost, loud, []string{"0"}},
		{"executed, of offsets alone", unanswered, silent, nil},
		{"not executed, of offsets alone", lost, silent, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			directed(t, func(t *testing.T, r *rig, w *wire) {
				inc, src := r.opened(0, 1)
				w.every(kEnd, c.what)
				c.act(r, inc, src).is(t, false)
				w.set(nil)
				r.hasFailed(ReasonNoAnswer)
				r.isReady()
				if c.what == lost {
					r.is(0, -1)
					inc, src = r.opened(0, 1)
					c.act(r, inc, src).is(t, true)
				}
				r.is(0, 1, c.outputs...)
			})
		})
	}
}

// A process dies between TxnOffsetCommit and Produce. Its successor ends the
// transaction; what was handed in is handled once.
func TestDirectedLaneDeadBetweenTxnOffsetCommitAndProduce(t *testing.T) {
	directed(t, func(t *testing.T, r *rig, w *wire) {
		inc, src := r.opened(0, 1)
		caught := w.every(kProduce, lost)
		d := r.say(inc, src, 0)
		receive(t, caught, "the Produce")
		r.pipe.Close()
		d.is(t, false)
		w.set(nil)
		r.rerun(w)
		r.is(0, -1)
		inc, src = r.opened(0, 1)
		r.say(inc, src, 0).is(t, true)
		r.is(0, 1, "0")
	})
}

// A process dies between the TxnOffsetCommit and the EndTxn of offsets without
// outputs. What was open is aborted before its successor is ready, and neither
// request does anything when it comes late.
func TestDirectedProcessDeadInASilentCommit(t *testing.T) {
	directed(t, func(t *testing.T, r *rig, w *wire) {
		inc, src := r.opened(0, 2)
		r.silence(inc, src, 0).is(t, true)
		ends, commits := make(chan *frame, 100), make(chan *frame, 100)
		w.set(func(f *frame) fate {
			switch f.key {
			case kTxnCommit:
				commits <- f
			case kEnd:
				ends <- f
				return lost
			}
			return pass
		})
		res, d := result(inc, src, 1)
		r.pipe.Submit(res)
		drained := make(chan error, 1)
		go func() { drained <- r.pipe.Drain(t.Context()) }()
		commit, end := receive(t, commits, "the TxnOffsetCommit"), receive(t, ends, "the EndTxn")
		r.pipe.Close()
		d.is(t, false)
		if err := receive(t, drained, "the end of Drain"); err != nil {
			t.Error(err)
		}
		w.set(nil)
		r.rerun(w)
		r.is(0, 1)
		refusedLate(t, w.deliver(commit))
		refusedLate(t, w.deliver(end))
		r.is(0, 1)
		inc, src = r.opened(0, 1)
		r.silence(inc, src, 1).is(t, true)
		r.is(0, 2)
		refusedLate(t, w.deliver(commit))
		refusedLate(t, w.deliver(end))
		r.is(0, 2)
	})
}

// Somebody initializes a lane's transactional id while its transaction is under
// way, as a successor does that finds it blocking: the transaction fails as a
// whole, wherever it was.
func TestDirectedProducerEpochBumpedInMidTransaction(t *testing.T) {
	for _, before := range []int16{kProduce, kEnd} {
		t.Run("before "+kmsg.NameForKey(before), func(t *testing.T) {
			directed(t, func(t *testing.T, r *rig, w *wire) {
				inc, src := r.opened(0, 1)
				var hit atomic.Bool
				w.set(func(f *frame) fate {
					if f.key == before && !hit.Swap(true) {
						r.bump(r.prefix + "payment/0/0")
					}
					return pass
				})
				r.say(inc, src, 0).is(t, false)
				r.hasFailed(ReasonFenced)
				r.isReady()
				r.is(0, -1)
				inc, src = r.opened(0, 1)
				r.say(inc, src, 0).is(t, true)
				r.is(0, 1, "0")
			})
		})
	}
}

// bump initializes a transactional id from outside.
func (r *rig) bump(id string) producer.Identity {
	who, err := producer.Initialize(r.t.Context(), r.admin, id, 10*time.Second)
	if err != nil {
		r.t.Error(err)
	}
	return who
}

// The metadata of a partition is full: that is what the broker must still take,
// and room comes when the gap closes.
func TestDirectedMetadataFull(t *testing.T) {
	directed(t, func(t *testing.T, r *rig, _ *wire) {
		inc, src := r.opened(0, 0)
		next := int64(0)
		for ; src.Offsets.Room(); next++ {
			src.Offsets.Begin(next, 0)
			if next%2 == 1 { // the even ones stay unfinished
				res, _ := result(inc, src, next)
				r.pipe.Submit(res)
			}
			if next%500 == 499 {
				if err := r.pipe.Drain(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		r.say(inc, src, 0).is(t, true)
		at, metadata := r.stable(0)
		if at != 2 || len(metadata) < 2000 || len(metadata) > 4096 {
			t.Fatalf("committed at %d with %d bytes of metadata after %d records", at, len(metadata), next)
		}
		for o := int64(2); o < next; o += 2 {
			res, _ := result(inc, src, o)
			r.pipe.Submit(res)
		}
		if err := r.pipe.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if at, metadata := r.stable(0); !src.Offsets.Room() || at < next-1 || metadata != "" {
			t.Errorf("after the gaps are closed: room %v, committed at %d of %d with metadata %q", src.Offsets.Room(), at, next, metadata)
		}
	})
}

// Offsets without outputs are not sent while a transaction is in flight, and no
// transaction begins beside them: whichever is appended last would count.
func TestDirectedSilentCommitBesideTransactions(t *testing.T) {
	directed(t, func(t *testing.T, r *rig, w *wire) {
		inc, src := r.opened(0, 4)
		held, release := make(chan string, 10), make(chan struct{})
		var commits atomic.Int32
		w.set(func(f *frame) fate {
			switch req := f.request(t).(type) {
			case *kmsg.TxnOffsetCommitRequest:
				commits.Add(1)
			case *kmsg.EndTxnRequest:
				held <- strings.TrimPrefix(req.TransactionalID, r.prefix)
				<-release
			}
			return pass
		})
		next := func(id string) {
			t.Helper()
			if got := receive(t, held, "an EndTxn"); got != id {
				t.Fatalf("%s ends a transaction, want %s", got, id)
			}
		}
		drained := make(chan error, 1)
		first := r.say(inc, src, 0)
		next("payment/0/0")
		res, silent := result(inc, src, 1)
		r.pipe.Submit(res)
		go func() { drained <- r.pipe.Drain(t.Context()) }()
		stays(t, "the offsets wait for the transaction", func() bool { return commits.Load() == 1 })
		release <- struct{}{}
		first.is(t, true)
		next(offsetsID)
		second := r.say(inc, src, 2)
		stays(t, "a transaction waits for the offsets", func() bool { return commits.Load() == 2 })
		silent.notYet(t)
		close(release)
		silent.is(t, true)
		second.is(t, true)
		if err := receive(t, drained, "the end of Drain"); err != nil {
			t.Fatal(err)
		}
		r.is(0, 3, "0", "2")
	})
}

// Transactional ids come to the last epoch but one: what follows is of another
// producer id, and epoch 32766, with which a broker can hang (KAFKA-20090), is in
// no transaction.
func TestDirectedEpoch32766(t *testing.T) {
	directed(t, func(t *testing.T, r *rig, w *wire) {
		r.pipe.Close()
		ids := []struct {
			id    string
			begin int16 // the epoch it has come to
			use   bool  // it comes to the limit while it is used, and not when it is opened
		}{
			{r.prefix + "payment/0/0", producer.MaxEpoch - 8, true},
			{r.prefix + "payment/0/1", producer.MaxEpoch - 2, false},
			{r.prefix + offsetsID, producer.MaxEpoch - 8, true},
		}
		first := make([]int64, len(ids))
		var wg sync.WaitGroup
		for i, c := range ids {
			wg.Go(func() { // every initialization takes an epoch
				for who := (producer.Identity{}); who.Epoch < c.begin && !t.Failed(); first[i] = who.ID {
					who = r.bump(c.id)
				}
			})
		}
		wg.Wait()
		type identity struct {
			pid   int64
			epoch int16
		}
		var mu sync.Mutex
		used := map[string][]identity{}
		w.set(func(f *frame) fate {
			if req, ok := f.request(t).(*kmsg.TxnOffsetCommitRequest); ok {
				mu.Lock()
				defer mu.Unlock()
				used[req.TransactionalID] = append(used[req.TransactionalID], identity{req.ProducerID, req.ProducerEpoch})
			}
			return pass
		})
		r.rerun(w)
		const all = 45
		inc, src := r.opened(0, all)
		var outputs []string
		for o := range int64(all) {
			if o%3 == 2 { // so that both lanes have outputs
				r.silence(inc, src, o).is(t, true)
				continue
			}
			r.say(inc, src, o).is(t, true)
			outputs = append(outputs, fmt.Sprint(o))
		}
		slices.Sort(outputs)
		r.is(0, all, outputs...)
		mu.Lock()
		defer mu.Unlock()
		for i, c := range ids {
			last := int16(-1)
			for _, u := range used[c.id] {
				if u.epoch >= producer.MaxEpoch {
					t.Errorf("%s used epoch %d", c.id, u.epoch)
				}
				if u.pid == first[i] {
					last = u.epoch
				}
			}
			if end := used[c.id][len(used[c.id])-1]; (last >= producer.MaxEpoch-2) != c.use || end.pid == first[i] {
				t.Errorf("%s used its first producer id up to epoch %d, and goes on with %+v: the test did not pass the limit", c.id, last, end)
			}
		}
	})
}

// Two processes have one instance id. Whoever initialized the transactional ids
// last has them; transactions of the other one fail as a whole, until the group
// ends one of the two (see the test of that name in package task).
func TestDirectedInstanceIDUsedTwice(t *testing.T) {
	for _, c := range []struct {
		name    string
		act     func(r *rig, inc *Incarnation, src *Source) told
		outputs []string
	}{
		{"outputs", func(r *rig, inc *Incarnation, src *Source) told { return r.say(inc, src, 0) }, []string{"0"}},
		{"offsets alone", func(r *rig, inc *Incarnation, src *Source) told { return r.silence(inc, src, 0) }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			directed(t, func(t *testing.T, r *rig, w *wire) {
				act := func(p *Pipeline, f *Fence, want bool) {
					t.Helper()
					r.pipe, r.fence = p, f
					inc, src := r.opened(0, 1)
					c.act(r, inc, src).is(t, want)
				}
				one, ones := r.pipe, r.fence
				r.fence = new(Fence)
				r.rerun(w)
				other, others := r.pipe, r.fence
				for range 2 {
					act(one, ones, false)
					r.hasFailed(ReasonFenced)
					r.isReady()
					act(other, others, false)
					r.hasFailed(ReasonFenced)
					r.isReady()
				}
				r.is(0, -1)
				one.Close()
				act(other, others, true)
				r.is(0, 1, c.outputs...)
			})
		})
	}
}

// What the coordinator says of a lane's last transaction is how an empty one
// that touches the group ends, before the lane is used.
func TestDirectedWhatALaneLeftPendingIsEndedAsItsTransactionWas(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(r *rig, w *wire, inc *Incarnation, src *Source)
		ends    int
	}{
		{"committed", func(r *rig, _ *wire, inc *Incarnation, src *Source) { r.say(inc, src, 0).is(r.t, true) }, 1},
		{"committed, offsets alone", func(r *rig, _ *wire, inc *Incarnation, src *Source) { r.silence(inc, src, 0).is(r.t, true) }, 1},
		{"open", func(r *rig, w *wire, inc *Incarnation, src *Source) {
			caught := w.every(kProduce, lost)
			r.say(inc, src, 0)
			receive(r.t, caught, "the Produce")
		}, 0},
		{"none", func(*rig, *wire, *Incarnation, *Source) {}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			directed(t, func(t *testing.T, r *rig, w *wire) {
				inc, src := r.opened(0, 1)
				c.prepare(r, w, inc, src)
				r.pipe.Close()
				added, ended := make(chan struct{}, 10), make(chan struct{}, 10)
				w.set(func(f *frame) fate {
					switch f.key {
					case 25: // AddOffsetsToTxn
						added <- struct{}{}
					case kEnd:
						ended <- struct{}{}
					}
					return pass
				})
				r.rerun(w)
				ends := c.ends
				if !r.real { // the embedded broker forgets how a transaction ended
					ends = 0
				}
				if len(added) != 3 || len(ended) != ends { // two lanes and the id of offsets alone
					t.Errorf("%d ids touched the group, want 3; %d committed, want %d", len(added), len(ended), ends)
				}
			})
		})
	}
}
