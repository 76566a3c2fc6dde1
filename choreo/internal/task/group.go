package task

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// join makes the group client. It subscribes to the inbox and never fetches it:
// reading is the data client's, so that every input of a task is read where the
// inbox partition of that number is owned.
//
// The client's own fetch of committed offsets is of no use to us and does no
// harm: it is independent of the callbacks, which come first.
func (o *Owner) join(ctx context.Context) (*kgo.Client, error) {
	opts := []kgo.Opt{
		kgo.WithContext(ctx), // done in shut when leaving takes too long, as it does amid a rebalance
		kgo.ConsumerGroup(o.cfg.Group),
		kgo.ConsumeTopics(o.cfg.Inbox),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.SessionTimeout(o.cfg.SessionTimeout),
		kgo.HeartbeatInterval(o.cfg.Heartbeat),
		kgo.RebalanceTimeout(o.cfg.RebalanceTimeout),
		kgo.DisableAutoCommit(),
		kgo.WithHooks(groupErrors{o}),
		kgo.OnPartitionsAssigned(func(_ context.Context, cl *kgo.Client, parts map[string][]int32) {
			o.rejoined(cl.GroupMetadata())
			o.assign(parts[o.cfg.Inbox])
		}),
		kgo.OnPartitionsRevoked(func(_ context.Context, cl *kgo.Client, parts map[string][]int32) {
			o.rejoined(cl.GroupMetadata())
			o.revoke(parts[o.cfg.Inbox])
		}),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
			o.lose(parts[o.cfg.Inbox])
		}),
	}
	if o.cfg.InstanceID != "" {
		opts = append(opts, kgo.InstanceID(o.cfg.InstanceID))
	}
	if o.cfg.ServerAssignor {
		opts = append(opts, kgo.ServerSideBalancer())
	}
	cl, err := o.client(opts...)
	if err != nil {
		return nil, err
	}
	cl.PauseFetchTopics(o.cfg.Inbox) // before the first assignment, which takes round trips
	return cl, nil
}

// membership is what the group knows us by.
type membership struct {
	member     string
	generation int32
}

// rejoined takes note of the membership. Under another member id the session
// was over in between, and others may have had our tasks: nothing that was owned
// before counts. kgo says that tasks are lost when a heartbeat tells it so, but
// not when the answer to a join does, as it does to a process that was suspended
// while it joined: then it joins anew and takes what it owned for its own still.
func (o *Owner) rejoined(member string, generation int32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.as.member == member {
		o.as.generation = generation
		return
	}
	for num, t := range o.tenures {
		t.close(errLost)
		if o.assigned[num] {
			delete(o.assigned, num)
			o.kept[num] = true
		}
		o.background.Go(func() { o.end(t, errLost) })
	}
	o.as = membership{member, generation} // from here on what is open may commit: nothing is
	if len(o.kept) > 0 {
		o.log.Warn("the group session ended unnoticed: tasks are opened anew", "tasks", slices.Sorted(maps.Keys(o.kept)))
	}
}

// revoke gives tasks up when the group asks for them: it returns when no
// transaction of ours holds anything of them, so that who gets them next finds
// all that was committed. The wait is bounded, for a member that answers too
// late loses everything.
func (o *Owner) revoke(nums []int32) {
	if len(nums) == 0 {
		return
	}
	began := time.Now()
	list := o.take(nums)
	if o.ctx.Err() == nil { // else the client is being closed, and Close has waited already
		ctx, cancel := context.WithTimeout(o.ctx, o.cfg.RebalanceTimeout*3/4)
		defer cancel()
		o.settleAll(ctx, list, errRevoked)
	}
	o.endAll(list, errRevoked)
	o.forget(list)
	o.log.Info("tasks revoked", "tasks", nums, "after", time.Since(began).Round(time.Millisecond))
}

// lose gives tasks up that are another's already: there is nothing to wait for.
func (o *Owner) lose(nums []int32) {
	o.mu.Lock()
	o.joined = false
	o.mu.Unlock()
	if len(nums) == 0 {
		return
	}
	list := o.take(nums)
	o.endAll(list, errLost)
	o.forget(list)
	o.log.Warn("tasks lost: the group session ended", "tasks", nums)
}

// groupErrors learns why a group session ended. kgo joins again by itself;
// errors that this cannot mend end Run.
type groupErrors struct{ o *Owner }

func (g groupErrors) OnGroupManageError(err error) {
	if errors.Is(err, context.Canceled) || errors.Is(err, kgo.ErrClientClosed) {
		return
	}
	g.o.contact.failed(err)
	if final := g.o.cfg.fatal(err); final != nil {
		g.o.cancel(final)
		return
	}
	g.o.log.Warn("group session ended: joining again", "group", g.o.cfg.Group, "error", err)
}

// drain takes what kgo has for the group client's poll: notices of errors,
// which groupErrors has seen, so that they do not pile up.
func (o *Owner) drain(cl *kgo.Client) {
	for {
		if fetches := cl.PollFetches(o.ctx); fetches.IsClientClosed() || o.ctx.Err() != nil {
			return
		}
	}
}
