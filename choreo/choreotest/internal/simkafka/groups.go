package simkafka

import (
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// rebalances keeps those of classic groups from lasting for ever. kfake counts
// the members that have joined wrongly when one is removed that waits in
// SyncGroup: it then waits for one more than there is, until a deadline that each
// JoinGroup moves. Kafka counts right, and its deadline stands.
type rebalances struct {
	mu    sync.Mutex
	since map[string]rebalance // by group, the one that was seen last
}

type rebalance struct {
	generation int32
	began      time.Time
}

func (r *rebalances) watch(c *kfake.Cluster) {
	c.ControlKey(int16(kmsg.JoinGroup), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := kreq.(*kmsg.JoinGroupRequest)
		var g *kfake.GroupInfo
		c.SleepControl(func() { g = c.GroupInfo(req.Group) })
		if g == nil || !r.refuses(req, g, time.Now()) {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.JoinGroupResponse)
		resp.ErrorCode = kerr.CoordinatorLoadInProgress.Code
		return resp, nil, true
	})
}

// refuses has who replaces a member wait until that one no longer waits in
// SyncGroup, and who joins after the deadline until kfake's has passed.
func (r *rebalances) refuses(req *kmsg.JoinGroupRequest, g *kfake.GroupInfo, now time.Time) bool {
	switch g.State {
	case "CompletingRebalance":
		return req.InstanceID != nil && req.MemberID == "" && slices.ContainsFunc(g.Members, func(m kfake.GroupMember) bool {
			return m.InstanceID != nil && *m.InstanceID == *req.InstanceID
		})
	case "PreparingRebalance":
		r.mu.Lock()
		defer r.mu.Unlock()
		going, ok := r.since[g.Group]
		if !ok || going.generation != g.Epoch {
			r.since[g.Group] = rebalance{g.Epoch, now}
			return false
		}
		return now.Sub(going.began) >= time.Duration(req.RebalanceTimeoutMillis)*time.Millisecond
	}
	return false
}
