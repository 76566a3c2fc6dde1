package choreotest

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// sessions ends the sessions of members of groups as Kafka does, where kfake
// forgets to:
//
//   - a member whose connection breaks while it waits to join gets no session
//     timer when the others go on: it keeps what it is assigned for ever;
//   - the time that a rebalance waits for members begins anew with every request
//     to join: members that have given up and ask again keep it waiting for ever
//     for one that is dead.
type sessions struct {
	cluster *cluster
	client  *kgo.Client
	log     *logbook
	groups  []string

	mu   sync.Mutex
	last map[member]sign
}

type member struct{ group, instance string }

// sign is the last sign of life of a member.
type sign struct {
	at      time.Time
	session time.Duration
}

// silence is longer than a living member says nothing while its group rebalances:
// the rebalance timeout, what its client adds to it before it asks again, and a
// pause.
const silence = 50 * time.Second

// watch looks after the groups until ctx ends.
func (s *sessions) watch(ctx context.Context) {
	s.last = map[member]sign{}
	seen := s.cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.JoinGroup, kmsg.SyncGroup, kmsg.Heartbeat}, TopLevel: true, Observe: true, Count: -1,
		When: func(req kmsg.Request) bool { s.heard(req); return true },
	})
	defer seen.Remove()
	states := map[string]kfake.GroupInfo{}
	since := map[string]time.Time{} // since when a group is in that state
	look := time.NewTicker(5 * time.Second)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		for _, group := range s.groups {
			info := s.cluster.GroupInfo(group)
			if info == nil {
				continue
			}
			if was := states[group]; was.State != info.State || was.Epoch != info.Epoch {
				states[group], since[group] = kfake.GroupInfo{State: info.State, Epoch: info.Epoch}, time.Now()
			}
			s.dismiss(ctx, info, time.Since(since[group]))
		}
	}
}

// heard notes a sign of life.
func (s *sessions) heard(req kmsg.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	note := func(group string, instance *string, session time.Duration) {
		if instance != nil {
			m := member{group, *instance}
			s.last[m] = sign{time.Now(), max(session, s.last[m].session)}
		}
	}
	switch r := req.(type) {
	case *kmsg.JoinGroupRequest:
		note(r.Group, r.InstanceID, time.Duration(r.SessionTimeoutMillis)*time.Millisecond)
	case *kmsg.SyncGroupRequest:
		note(r.Group, r.InstanceID, 0)
	case *kmsg.HeartbeatRequest:
		note(r.Group, r.InstanceID, 0)
	}
}

// dismiss takes those out of a group, which has been in its state for a while,
// whose sessions are over: who was not heard of for too long, and all that have
// one instance id, of which at most one can live.
func (s *sessions) dismiss(ctx context.Context, info *kfake.GroupInfo, inState time.Duration) {
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group = info.Group
	same := map[string]int{}
	for _, m := range info.Members {
		if m.InstanceID != nil {
			same[*m.InstanceID]++
		}
	}
	s.mu.Lock()
	for _, m := range info.Members {
		if m.InstanceID == nil {
			continue
		}
		x := s.last[member{info.Group, *m.InstanceID}]
		limit := x.session
		if info.State == "PreparingRebalance" {
			limit = max(limit, silence)
		}
		if inState > limit && (same[*m.InstanceID] > 1 || time.Since(x.at) > limit) {
			gone := kmsg.NewLeaveGroupRequestMember()
			gone.MemberID = m.MemberID
			req.Members = append(req.Members, gone)
		}
	}
	s.mu.Unlock()
	if len(req.Members) == 0 {
		return
	}
	for _, m := range req.Members {
		s.log.note("group %s: the session of member %s is over", info.Group, m.MemberID)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	// If it fails the next look tries again.
	_, _ = req.RequestWith(ctx, s.client)
}
