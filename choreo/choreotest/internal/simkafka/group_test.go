//go:build synctests

package simkafka

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// member is one of a classic group, driven by hand.
type member struct {
	*rig
	*kgo.Client
	group, id string
	instance  *string
}

const sessionTimeout = 6 * time.Second

func (m *member) join(ctx context.Context) (*kmsg.JoinGroupResponse, error) {
	for {
		req := kmsg.NewPtrJoinGroupRequest()
		req.Group, req.MemberID, req.InstanceID, req.ProtocolType = m.group, m.id, m.instance, "test"
		req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = int32(sessionTimeout.Milliseconds()), 30_000
		p := kmsg.NewJoinGroupRequestProtocol()
		p.Name, p.Metadata = "any", []byte(time.Now().String())
		req.Protocols = append(req.Protocols, p)
		resp, err := req.RequestWith(ctx, m)
		if err != nil {
			return nil, err
		}
		m.id = resp.MemberID
		if err := kerr.ErrorForCode(resp.ErrorCode); !errors.Is(err, kerr.MemberIDRequired) {
			return resp, err
		}
	}
}

// sync gives every member its part, and waits for its own.
func (m *member) sync(generation int32, members ...string) {
	m.Helper()
	if err := m.trySync(generation, members...); err != nil {
		m.Fatal(err)
	}
}

func (m *member) trySync(generation int32, members ...string) error {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.MemberID, req.InstanceID, req.Generation = m.group, m.id, m.instance, generation
	for _, id := range members {
		a := kmsg.NewSyncGroupRequestGroupAssignment()
		a.MemberID, a.MemberAssignment = id, []byte("part")
		req.GroupAssignment = append(req.GroupAssignment, a)
	}
	resp, err := req.RequestWith(m.Context(), m)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	return err
}

// untilRebalance keeps the session alive and tells how long it lasts.
func (m *member) untilRebalance(generation int32, limit time.Duration) time.Duration {
	m.Helper()
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		if time.Since(began) > limit {
			return limit
		}
		req := kmsg.NewPtrHeartbeatRequest()
		req.Group, req.MemberID, req.InstanceID, req.Generation = m.group, m.id, m.instance, generation
		resp, err := req.RequestWith(m.Context(), m)
		if err != nil {
			m.Fatal(err)
		}
		if err := kerr.ErrorForCode(resp.ErrorCode); errors.Is(err, kerr.RebalanceInProgress) {
			return time.Since(began)
		} else if err != nil {
			m.Fatal(err)
		}
	}
}

// TestAGroupLetsAMemberGoThatDiedWhileItWaitedToJoin needs several groups: kfake
// alone forgets the member's session timeout every other time.
func TestAGroupLetsAMemberGoThatDiedWhileItWaitedToJoin(t *testing.T) {
	run(t, 0, func(r *rig) {
		for n := range 10 {
			name := fmt.Sprintf("group-%d", n)
			host := r.net.Host(name)
			dying, err := kgo.NewClient(kgo.SeedBrokers(r.cluster.Addrs()...), kgo.Dialer(host.Dial), kgo.RequestRetries(0))
			if err != nil {
				r.Fatal(err)
			}
			a, b := &member{r, r.client(), name, "", nil}, &member{r, dying, name, "", nil}
			joined, err := a.join(r.Context())
			if err != nil {
				r.Fatal(err)
			}
			a.sync(joined.Generation, a.id)
			over := make(chan error)
			go func() {
				_, err := b.join(r.Context())
				over <- err
			}()
			a.untilRebalance(joined.Generation, time.Minute)
			host.Kill()
			if err := <-over; err == nil {
				r.Error("who is dead has joined")
			}
			b.Close()
			if joined, err = a.join(r.Context()); err != nil {
				r.Fatal(err)
			}
			a.sync(joined.Generation, a.id, b.id)
			if took := a.untilRebalance(joined.Generation, time.Minute); took > sessionTimeout+time.Second {
				r.Errorf("group %d: %v after it died the member is still there, its session timeout is %v", n, took, sessionTimeout)
			}
			a.Close()
		}
	})
}

// TestARebalanceEndsThoughAMemberIsReplacedThatWaitsForItsPart lets a static
// member start again while its predecessor waits in SyncGroup. Two clients whose
// requests time out at different times would move kfake's deadline for ever.
func TestARebalanceEndsThoughAMemberIsReplacedThatWaitsForItsPart(t *testing.T) {
	run(t, 0, func(r *rig) {
		names := []string{"a", "b"}
		a, b := &member{r, r.client(), "group", "", &names[0]}, &member{r, r.client(), "group", "", &names[1]}
		again := &member{r, r.client(), "group", "", &names[1]}
		defer a.Close()
		defer b.Close()
		defer again.Close()
		joined, err := a.join(r.Context())
		if err != nil {
			r.Fatal(err)
		}
		a.sync(joined.Generation, a.id)
		over := make(chan error, 1)
		go func() {
			joined, err := b.join(r.Context())
			if err == nil {
				err = b.trySync(joined.Generation)
			}
			over <- err
		}()
		a.untilRebalance(joined.Generation, time.Minute)
		if joined, err = a.join(r.Context()); err != nil {
			r.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond) // b waits in SyncGroup
		began := time.Now()
		back := make(chan error, 1)
		go func() {
			joined, err := again.join(r.Context())
			if err == nil {
				err = again.trySync(joined.Generation)
			}
			back <- err
		}()
		time.Sleep(100 * time.Millisecond)
		if err := a.trySync(joined.Generation, a.id, b.id); err == nil {
			a.untilRebalance(joined.Generation, time.Minute)
		} else if !errors.Is(err, kerr.RebalanceInProgress) {
			r.Fatal(err)
		}
		if joined, err = a.join(r.Context()); err != nil {
			r.Fatalf("join again, after %v: %v", time.Since(began), err)
		}
		a.sync(joined.Generation, a.id)
		<-over
		if err := <-back; err != nil {
			r.Error(err)
		}
		if took := time.Since(began); took > time.Second {
			r.Errorf("the new member has its part after %v", took)
		}
	})
}

func TestAJoinAfterTheDeadlineOfARebalanceWaits(t *testing.T) {
	req := kmsg.NewPtrJoinGroupRequest()
	req.RebalanceTimeoutMillis = 30_000
	r := &rebalances{since: map[string]rebalance{}}
	g := &kfake.GroupInfo{Group: "group", State: "PreparingRebalance", Epoch: 3}
	began := time.Now()
	for _, step := range []struct {
		after time.Duration
		state string
		epoch int32
		want  bool
	}{
		{0, "PreparingRebalance", 3, false},
		{29 * time.Second, "PreparingRebalance", 3, false},
		{30 * time.Second, "PreparingRebalance", 3, true},
		{31 * time.Second, "CompletingRebalance", 4, false},
		{32 * time.Second, "Stable", 4, false},
		{33 * time.Second, "PreparingRebalance", 4, false},
		{62 * time.Second, "PreparingRebalance", 4, false},
		{63 * time.Second, "PreparingRebalance", 4, true},
	} {
		g.State, g.Epoch = step.state, step.epoch
		if got := r.refuses(req, g, began.Add(step.after)); got != step.want {
			t.Errorf("after %v, in %s of generation %d: refused is %v", step.after, step.state, step.epoch, got)
		}
	}
}
