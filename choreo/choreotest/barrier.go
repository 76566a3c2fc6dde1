package choreotest

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// joins ends rebalances as Kafka does. Kafka waits for the members to join for
// the group's rebalance timeout, and then goes on without those that have not.
// kfake begins to wait anew with every request to join; members that have given
// up and ask again keep it waiting for ever for one that is dead.
type joins struct {
	cluster *cluster
	admin   *kadm.Client
	groups  []string

	mu   sync.Mutex
	last map[member]time.Time // when a member has asked to join
}

type member struct{ group, instance string }

// patience is longer than it takes a living member to ask again: its rebalance
// timeout, what its client adds to it, and a pause.
const patience = 50 * time.Second

// watch looks after the groups until ctx ends.
func (j *joins) watch(ctx context.Context) {
	j.last = map[member]time.Time{}
	seen := j.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup}, Observe: true, Count: -1, TopLevel: true, When: func(req kmsg.Request) bool {
		if join, ok := req.(*kmsg.JoinGroupRequest); ok && join.InstanceID != nil {
			j.mu.Lock()
			j.last[member{join.Group, *join.InstanceID}] = time.Now()
			j.mu.Unlock()
		}
		return true
	}})
	defer seen.Remove()
	since := map[string]time.Time{} // when a group was found to rebalance, in this generation
	epochs := map[string]int32{}
	look := time.NewTicker(5 * time.Second)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		for _, group := range j.groups {
			info := j.cluster.GroupInfo(group)
			if info == nil || info.State != "PreparingRebalance" || epochs[group] != info.Epoch {
				since[group] = time.Now()
			}
			if info != nil {
				epochs[group] = info.Epoch
			}
			if time.Since(since[group]) > patience {
				j.dismiss(ctx, info)
			}
		}
	}
}

// dismiss takes the members out of a group that have not asked to join lately.
func (j *joins) dismiss(ctx context.Context, info *kfake.GroupInfo) {
	var gone []string
	j.mu.Lock()
	for _, m := range info.Members {
		if m.InstanceID != nil && time.Since(j.last[member{info.Group, *m.InstanceID}]) > patience {
			gone = append(gone, *m.InstanceID)
		}
	}
	j.mu.Unlock()
	if len(gone) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	// If it fails the next look tries again.
	_, _ = j.admin.LeaveGroup(ctx, kadm.LeaveGroup(info.Group).InstanceIDs(gone...))
}
