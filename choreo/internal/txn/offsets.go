package txn

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/choreography-go/choreography/choreo/internal/offsets"
	"github.com/choreography-go/choreography/choreo/internal/producer"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// commit is what the gate found to be committed for one source.
type commit struct {
	source *Source
	offsets.Commit
}

// membership is under which membership offsets are committed.
type membership struct {
	member     string
	generation int32
}

// verdict is what an answer to a commit of offsets means.
type verdict int

const (
	accepted verdict = iota
	askAgain         // the lane's last transaction is not through: 1 ms
	askOther         // the coordinator moves or loads: find it again
	askLater         // the group rebalances
	askAnew          // the group has another generation
	refused
)

// judge reads the answers for the partitions of one commit. They are the same
// for all of them, or nearly: the worst counts. Whatever was accepted for some
// may be sent again for all, because an answer came: it is appended later, and
// is the same.
func judge(codes []int16, asked int) (verdict, error) {
	worst, cause := accepted, error(nil)
	for _, code := range codes {
		v, err := accepted, kerr.ErrorForCode(code)
		switch {
		case err == nil:
		case errors.Is(err, kerr.ConcurrentTransactions):
			v = askAgain
		case errors.Is(err, kerr.NotCoordinator),
			errors.Is(err, kerr.CoordinatorNotAvailable),
			errors.Is(err, kerr.CoordinatorLoadInProgress):
			v = askOther
		case errors.Is(err, kerr.RebalanceInProgress):
			v = askLater
		case errors.Is(err, kerr.IllegalGeneration),
			errors.Is(err, kerr.StaleMemberEpoch):
			v = askAnew
		default:
			v = refused
		}
		if v > worst {
			worst, cause = v, err
		}
	}
	if worst == accepted && len(codes) != asked {
		return refused, fmt.Errorf("the answer has %d partitions of %d", len(codes), asked)
	}
	return worst, cause
}

// reasonOf files a broker's refusal.
func reasonOf(err error, otherwise Reason) Reason {
	switch {
	case errors.Is(err, kerr.ProducerFenced),
		errors.Is(err, kerr.InvalidProducerEpoch),
		errors.Is(err, kerr.InvalidProducerIDMapping),
		errors.Is(err, kerr.UnknownProducerID),
		errors.Is(err, kerr.OutOfOrderSequenceNumber),
		errors.Is(err, kerr.InvalidTxnState),
		errors.Is(err, kerr.TransactionAbortable):
		return ReasonFenced
	case errors.Is(err, kerr.UnknownMemberID),
		errors.Is(err, kerr.FencedInstanceID),
		errors.Is(err, kerr.GroupIDNotFound),
		errors.Is(err, kerr.IllegalGeneration),
		errors.Is(err, kerr.StaleMemberEpoch),
		errors.Is(err, kerr.RebalanceInProgress):
		return ReasonMembership
	case errors.Is(err, kerr.NotCoordinator),
		errors.Is(err, kerr.CoordinatorNotAvailable),
		errors.Is(err, kerr.CoordinatorLoadInProgress):
		return ReasonCoordinator
	case errors.As(err, new(*kerr.Error)):
		return otherwise
	}
	return ReasonNoAnswer // a connection's or a context's error
}

// committer is one commit of offsets on its way, in a transaction.
type committer struct {
	p       *Pipeline
	client  *kgo.Client
	held    []*Incarnation
	commits []commit
	as      membership
	who     producer.Identity
}

// send commits the offsets and returns when the broker has accepted them.
//
// Every request is sent once, without a retry by the client: only what was
// answered is sent again. A request whose answer was lost may still be in the
// broker, to be appended after the next transaction's, and would rewind the
// group.
func (c *committer) send(ctx context.Context) *Error {
	backoff := newBackoff(5*time.Millisecond, 100*time.Millisecond)
	for {
		if c.as.member == "" { // no membership (any more): the group client may be about to have one
			if err := c.renew(ctx, &backoff, true); err != nil {
				return err
			}
		}
		coordinator, err := c.p.coordinator(ctx, c.client)
		if err != nil {
			return c.failure(ReasonCoordinator, fmt.Errorf("finding the coordinator of group %q: %w", c.p.cfg.Group, err))
		}
		codes, err := c.request(ctx, coordinator)
		if err != nil {
			return c.failure(ReasonNoAnswer, err)
		}
		v, err := judge(codes, len(c.commits))
		switch v {
		case accepted:
			return nil
		case askAgain:
			c.p.cfg.Observer.Retried(RetryConcurrent)
			err = pause(ctx, time.Millisecond, err)
		case askOther:
			c.p.cfg.Observer.Retried(RetryCoordinator)
			c.p.forgetCoordinator(coordinator)
			err = pause(ctx, backoff.next(), err)
		case askLater, askAnew:
			c.p.cfg.Observer.Retried(RetryGeneration)
			if err := c.renew(ctx, &backoff, v == askAnew); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return c.failure(reasonOf(err, ReasonRefused), err)
		}
	}
}

// renew takes the group's newest membership, if all that the transaction holds
// is still ours. It waits until the group client knows one, another one than
// ours if ours will not do.
func (c *committer) renew(ctx context.Context, backoff *backoff, another bool) *Error {
	for first := true; ; first = false {
		// The membership is read before the fence is asked: what was ours after
		// that was ours in this generation.
		now := c.p.membership()
		if !c.p.cfg.Fence.ours(c.held) {
			return c.failure(ReasonRevoked, errors.New("the group has a new generation, and a task of this transaction was given up or lost"))
		}
		if c.as.member != "" && now.member != "" && now.member != c.as.member {
			return c.failure(ReasonMembership, errors.New("the member id changed: the session was lost in between"))
		}
		if now.member != "" && (now != c.as || !another && !first) {
			c.as = now
			return nil
		}
		if err := pause(ctx, backoff.next(), errors.New("the group is not joined (again) in time")); err != nil {
			return c.failure(ReasonMembership, err)
		}
	}
}

func (c *committer) failure(reason Reason, err error) *Error {
	return &Error{Reason: reason, Err: fmt.Errorf("commit offsets in transaction of %s for group %q (%s): %w",
		c.who.TransactionalID, c.p.cfg.Group, c.topics(), err)}
}

// topics names the first few of the partitions.
func (c *committer) topics() string {
	var b strings.Builder
	for i, cm := range c.commits {
		if i == 3 {
			fmt.Fprintf(&b, " and %d more", len(c.commits)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s-%d at %d", cm.source.Topic, cm.source.Partition, cm.Offset)
	}
	return b.String()
}

// request sends the commit to the broker once and returns the error codes of
// the partitions in the answer. Topics are given by name and by id: which of
// them counts depends on the version that the client and the broker agree on.
func (c *committer) request(ctx context.Context, coordinator int32) ([]int16, error) {
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = c.who.TransactionalID, c.who.ID, c.who.Epoch
	req.Group, req.MemberID, req.Generation = c.p.cfg.Group, c.as.member, c.as.generation
	req.InstanceID = c.p.instanceID()
	for i := range c.commits {
		cm := &c.commits[i]
		var topic *kmsg.TxnOffsetCommitRequestTopic
		for j := range req.Topics {
			if t := &req.Topics[j]; t.TopicID == cm.source.TopicID && t.Topic == cm.source.Topic {
				topic = t
			}
		}
		if topic == nil {
			t := kmsg.NewTxnOffsetCommitRequestTopic()
			t.Topic, t.TopicID = cm.source.Topic, cm.source.TopicID
			req.Topics = append(req.Topics, t)
			topic = &req.Topics[len(req.Topics)-1]
		}
		part := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		part.Partition, part.Offset, part.LeaderEpoch, part.Metadata = cm.source.Partition, cm.Offset, cm.LeaderEpoch, &cm.Metadata
		topic.Partitions = append(topic.Partitions, part)
	}
	kresp, err := c.client.Broker(int(coordinator)).Request(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("no answer from broker %d: %w", coordinator, err)
	}
	resp, ok := kresp.(*kmsg.TxnOffsetCommitResponse)
	if !ok {
		return nil, fmt.Errorf("broker %d answered with a %T", coordinator, kresp)
	}
	var codes []int16
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			codes = append(codes, p.ErrorCode)
		}
	}
	return codes, nil
}

func (p *Pipeline) membership() membership {
	member, generation := p.cfg.Membership()
	return membership{member, generation}
}

func (p *Pipeline) instanceID() *string {
	if p.cfg.InstanceID == "" {
		return nil
	}
	return &p.cfg.InstanceID
}

// coordinator is the node id of the group's coordinator, as last found. Asking
// for it changes nothing in the broker and is repeated until ctx is done.
func (p *Pipeline) coordinator(ctx context.Context, client *kgo.Client) (int32, error) {
	if id := p.coord.Load(); id >= 0 {
		return id, nil
	}
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorKey, req.CoordinatorKeys = p.cfg.Group, []string{p.cfg.Group}
	backoff := newBackoff(5*time.Millisecond, 100*time.Millisecond)
	for {
		resp, err := req.RequestWith(ctx, client)
		if err != nil {
			return -1, err
		}
		id, code := resp.NodeID, resp.ErrorCode
		if len(resp.Coordinators) > 0 {
			id, code = resp.Coordinators[0].NodeID, resp.Coordinators[0].ErrorCode
		}
		err = kerr.ErrorForCode(code)
		if err == nil {
			p.coord.Store(id)
			return id, nil
		}
		if !kerr.IsRetriable(err) {
			return -1, err
		}
		if err := pause(ctx, backoff.next(), err); err != nil {
			return -1, err
		}
	}
}

// forgetCoordinator lets it be found again, unless another lane did meanwhile.
func (p *Pipeline) forgetCoordinator(id int32) { p.coord.CompareAndSwap(id, -1) }
