package task

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo/internal/txn"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Whoever owns partition p of the inbox reads partition p of every input, and
// of an input with twice as many partitions those that are p modulo the number
// of tasks, whatever the number of members.
func TestTaskIsOnePartitionNumberOfEveryInput(t *testing.T) {
	const tasks = 12
	r := newRig(t, map[string]int32{"inbox": tasks, "journal": tasks, "orders": tasks, "wide": 2 * tasks})
	for p := range int32(tasks) {
		r.produce("inbox", p, fmt.Sprintf("inbox-%d", p))
		r.produce("orders", p, fmt.Sprintf("orders-%d", p))
	}
	for p := range int32(2 * tasks) {
		r.produce("wide", p, fmt.Sprintf("wide-%d", p))
	}
	var all []*instance
	for n := range 3 {
		all = append(all, r.instance(fmt.Sprintf("i%d", n)).start(inputs(r, "orders", "wide")))
	}
	eventually(t, "three instances own all tasks between them", func() bool {
		n := 0
		for _, i := range all {
			own := i.owns()
			if len(own) != tasks/3 {
				return false
			}
			n += len(own)
		}
		return n == tasks
	})
	owner := map[int32]*instance{}
	for _, i := range all {
		for _, p := range i.owns() {
			if owner[p] != nil {
				t.Errorf("task %d has two owners", p)
			}
			owner[p] = i
		}
	}
	for p := range int32(tasks) {
		task := owner[p].task(p)
		var reads []string
		for _, s := range task.Sources {
			reads = append(reads, fmt.Sprintf("%s-%d", strings.TrimPrefix(s.Topic, r.group+"."), s.Partition))
		}
		want := []string{fmt.Sprintf("inbox-%d", p), fmt.Sprintf("orders-%d", p), fmt.Sprintf("wide-%d", p), fmt.Sprintf("wide-%d", p+tasks)}
		if !slices.Equal(reads, want) {
			t.Errorf("task %d reads %v, want %v", p, reads, want)
		}
		if task.Home() != task.Sources[0] || task.Home().Topic != r.topic("inbox") {
			t.Errorf("task %d: home is %v", p, task.Home().Topic)
		}
	}
	// Records produced now arrive there, once.
	for p := range int32(tasks) {
		r.produce("wide", p+tasks, "late")
	}
	for p := range int32(tasks) {
		eventually(t, fmt.Sprintf("late record of wide-%d", p+tasks), func() bool {
			v := owner[p].values("wide", p+tasks)
			return len(v) > 0 && v[len(v)-1] == "late"
		})
	}
}

// A static member that restarts, killed or closed in order, has its tasks back
// at once, and the others notice nothing: the generation stays.
func TestStaticRestartContinuesAtOnce(t *testing.T) {
	for _, how := range []string{"killed", "closed"} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t, map[string]int32{"inbox": 4, "journal": 4})
			a, b := r.instance("a").start(), r.instance("b").start()
			a.waitOpen(2)
			b.waitOpen(2)
			own := a.owns()
			claims := b.claimed()
			if how == "killed" {
				a.kill()
			} else {
				a.owner.StopReading()
				if err := a.owner.Close(context.Background()); err != nil {
					t.Fatal(err)
				}
				if err := <-a.ran; err != nil {
					t.Fatalf("Run after Close: %v", err)
				}
			}
			began := time.Now()
			again := r.instance("a").start()
			again.waitOpen(2)
			took := time.Since(began)
			t.Logf("restart to open tasks: %v", took.Round(time.Microsecond))
			if took > 2*time.Second {
				t.Errorf("restart took %v", took)
			}
			if now := again.owns(); !slices.Equal(now, own) {
				t.Errorf("owned %v before the restart and %v after it", own, now)
			}
			if now := b.claimed(); !maps.Equal(now, claims) {
				t.Errorf("ownerships begun by the other member: %v before the restart, %v after it", claims, now)
			}
		})
	}
}

// Without instance id a member leaves when it is closed, so the others have its
// tasks at once and not after the session timeout.
func TestDynamicMemberLeavesOnClose(t *testing.T) {
	r := newRig(t, map[string]int32{"inbox": 2, "journal": 2})
	dynamic := func(c *Config) { c.InstanceID, c.SessionTimeout = "", time.Minute }
	a, b := r.instance("").start(dynamic), r.instance("").start(dynamic)
	a.waitOpen(1)
	b.waitOpen(1)
	if err := a.owner.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	b.waitOpen(2)
}

// Before a task is given up, transactions that hold results of it have ended.
func TestRevokeWaitsForHolders(t *testing.T) {
	r := newRig(t, map[string]int32{"inbox": 2, "journal": 2})
	a := r.instance("a")
	holding, asked := make(chan struct{}), make(chan struct{}, 8)
	a.hold = func(ctx context.Context) error {
		asked <- struct{}{}
		select {
		case <-holding:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	a.start()
	a.waitOpen(2)
	b := r.instance("b").start()
	<-asked
	eventually(t, "the incarnation is closed while it is waited for", func() bool {
		open := 0
		for p := range int32(2) {
			if task := a.task(p); task != nil {
				if task.Incarnation.Context().Err() == nil {
					open++
				}
			}
		}
		return open == 1
	})
	if own := b.owns(); len(own) != 0 {
		t.Fatalf("the second instance owns %v while the first holds it", own)
	}
	close(holding)
	b.waitOpen(1)
	a.waitOpen(1)
}

// A lost session means another may own the tasks already: nothing is waited
// for, and the task is opened anew when it is assigned again.
func TestLostDoesNotWait(t *testing.T) {
	r := newRig(t, map[string]int32{"inbox": 1, "journal": 1})
	a := r.instance("a")
	a.hold = func(context.Context) error {
		t.Error("waited for transactions of a lost task")
		return nil
	}
	a.start()
	a.waitOpen(1)
	inc := a.task(0).Incarnation
	a.owner.lose([]int32{0})
	<-inc.Context().Done()
	if a.task(0) != nil {
		t.Error("the engine still has the task after it was lost")
	}
	if err := a.owner.Status().Ready(); err == nil || !strings.Contains(err.Error(), "not assigned tasks yet") {
		t.Errorf("ready after the session was lost: %v", err)
	}
	a.owner.assign([]int32{0})
	a.waitOpen(1)
	a.owner.cfg.Engine.(*instance).hold = func(context.Context) error { return nil }
}

// When the pipeline failed everything in memory is void: nothing more is
// delivered until the lanes are made anew, and then each task is opened again
// from what was committed.
func TestRewindReopensFromTheBroker(t *testing.T) {
	r := newRig(t, map[string]int32{"inbox": 2, "journal": 2})
	a := r.instance("a").start()
	a.waitOpen(2)
	r.produce("inbox", 0, seq("v", 10)...)
	eventually(t, "ten delivered", func() bool { return len(a.values("inbox", 0)) == 10 })
	first := a.task(0)
	if err := a.commit(t.Context(), first.Home(), 4); err != nil {
		t.Fatal(err)
	}
	a.owner.PipelineFailed(errors.New("lane 2: no answer"))
	if first.Incarnation.Context().Err() == nil {
		t.Error("an incarnation is open after PipelineFailed")
	}
	eventually(t, "the engine dropped everything", func() bool { return a.task(0) == nil && a.task(1) == nil })
	if err := a.owner.Status().Ready(); err == nil || !strings.Contains(err.Error(), "lane 2: no answer") {
		t.Errorf("readiness while the pipeline is down: %v", err)
	}
	r.produce("inbox", 0, "v10")
	a.owner.PipelineReady()
	a.waitOpen(2)
	eventually(t, "delivered again from the commit", func() bool { return len(a.values("inbox", 0)) == 10+7 })
	want := append(seq("v", 10), seq("v", 11)[4:]...)
	if got := a.values("inbox", 0); !slices.Equal(got, want) {
		t.Errorf("delivered %v, want %v", got, want)
	}
	if second := a.task(0); second == first || second.Incarnation == first.Incarnation {
		t.Error("the task has its old incarnation")
	}
	if err := a.owner.Status().Ready(); err != nil {
		t.Errorf("not ready after the rewind: %v", err)
	}
}

// What the pipeline calls an incarnation is one here.
var _ Incarnation = (*txn.Incarnation)(nil)

// No task is opened before the lanes are made for the first time: making them
// ends what the last process of this instance left open.
func TestNothingOpensBeforeThePipelineIsReady(t *testing.T) {
	r := newRig(t, map[string]int32{"inbox": 1, "journal": 1})
	a := r.instance("a")
	a.early = true
	a.start()
	eventually(t, "the task is assigned", func() bool { return len(a.owner.Status().Tasks) == 1 })
	if err := a.owner.Status().Ready(); err == nil || !strings.Contains(err.Error(), "lanes are not made yet") {
		t.Errorf("readiness before the pipeline: %v", err)
	}
	if n := a.claimed(); len(n) != 0 {
		t.Errorf("claimed %v before the pipeline is ready", n)
	}
	a.owner.PipelineReady()
	a.waitOpen(1)
}

// The next ownership of a task begins when the engine has dropped the last one.
func TestNextOwnershipWaitsForTheEndOfTheLast(t *testing.T) {
	r := newRig(t, map[string]int32{"inbox": 1, "journal": 1})
	a := r.instance("a")
	dropping, dropped := make(chan struct{}), make(chan struct{})
	a.closing = func() { close(dropping); <-dropped; a.closing = nil }
	a.start()
	a.waitOpen(1)
	a.owner.PipelineFailed(errors.New("no answer"))
	<-dropping
	a.owner.PipelineReady()
	r.produce("inbox", 0, "v") // time for the broker to answer, and for an opening that does not wait
	if n := a.claimed()[0]; n != 1 {
		t.Errorf("%d ownerships begun while the engine drops the first", n)
	}
	close(dropped)
	eventually(t, "the next ownership begins", func() bool { return a.claimed()[0] == 2 }) // until then the first one may seem open
	a.waitOpen(1)
}

// A process was suspended while it joined, its session ended, and the answer to
// the join says so: then it is another member, and what it owned may have been
// another's meanwhile, although the group gives it back.
func TestAnotherMemberIDEndsWhatWasOwned(t *testing.T) {
	c := startCluster(t)
	r := newRigOn(t, c.ListenAddrs(), groupName(t), map[string]int32{"inbox": 1, "journal": 1})
	a := r.instance("a").start()
	a.waitOpen(1)
	before, _ := a.owner.Membership()
	old := a.task(0).Incarnation
	c.ControlKey(int16(kmsg.JoinGroup), func(req kmsg.Request) (kmsg.Response, error, bool) {
		join := req.(*kmsg.JoinGroupRequest)
		if join.MemberID == "" {
			c.KeepControl()
			return nil, nil, false
		}
		resp := join.ResponseKind().(*kmsg.JoinGroupResponse)
		resp.ErrorCode = kerr.UnknownMemberID.Code
		return resp, nil, true
	})
	between, looked := make(chan struct{}), make(chan struct{})
	c.ControlKey(int16(kmsg.SyncGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
		close(between) // the client has its new member id, and has not been told of tasks
		<-looked
		return nil, nil, false
	})
	c.ControlKey(int16(kmsg.Heartbeat), func(req kmsg.Request) (kmsg.Response, error, bool) {
		resp := req.ResponseKind().(*kmsg.HeartbeatResponse)
		resp.ErrorCode = kerr.RebalanceInProgress.Code
		return resp, nil, true
	})
	select {
	case <-between:
	case <-time.After(deadline):
		t.Fatal("it has not joined again")
	}
	if now, _ := a.owner.Membership(); now != before || old.Context().Err() != nil {
		t.Errorf("what was owned as %q may commit as %q", before, now)
	}
	close(looked)
	eventually(t, "it is another member, and its task is open anew", func() bool {
		now, _ := a.owner.Membership()
		return now != before && now != "" && len(a.owns()) == 1 && a.task(0) != nil && a.task(0).Incarnation != old
	})
}

// A task whose reading failed is ours still, and a transaction may be under way
// of which the broker has heard nothing yet: what is committed is not asked for
// before it has ended.
func TestReopeningWaitsForTransactionsUnderWay(t *testing.T) {
	r := newRig(t, map[string]int32{"inbox": 1, "journal": 1})
	a := r.instance("a")
	waits, over := make(chan struct{}), make(chan struct{})
	a.hold = func(ctx context.Context) error {
		select {
		case waits <- struct{}{}:
		case <-over: // closed once the test has seen it wait
			return nil
		}
		select {
		case <-over:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	a.start()
	a.waitOpen(1)
	a.owner.reopen(a.task(0), errors.New("the broker cannot read"))
	eventually(t, "it waits for the transaction", func() bool {
		select {
		case <-waits:
			return true
		default:
			return false
		}
	})
	if n := a.claimed()[0]; n != 1 {
		t.Errorf("%d ownerships begun while a transaction holds results of the first", n)
	}
	close(over)
	eventually(t, "it is open again", func() bool { return a.claimed()[0] == 2 && len(a.owns()) == 1 })
}

// After StopReading has returned nothing is delivered, and what is owned stays
// owned until Close.
func TestStopReadingTakesNothingNew(t *testing.T) {
	r := newRig(t, map[string]int32{"inbox": 1, "journal": 1})
	a := r.instance("a")
	entered, blocked := make(chan struct{}, 1), make(chan struct{})
	stopping := make(chan struct{})
	a.deliver = func(ctx context.Context, _ *Source, _ []*kgo.Record) int {
		select {
		case <-stopping:
			t.Error("delivered after StopReading")
		default:
		}
		entered <- struct{}{}
		<-ctx.Done() // no room at all, until told to come back
		close(blocked)
		return 0
	}
	a.start()
	a.waitOpen(1)
	r.produce("inbox", 0, "v")
	<-entered
	a.owner.StopReading()
	<-blocked
	close(stopping)
	if got := a.owns(); len(got) != 1 {
		t.Errorf("owns %v after StopReading", got)
	}
	if err := a.owner.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-a.ran; err != nil {
		t.Fatal(err)
	}
}
