package txn

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// outcome is how the last transaction of a lane ended.
type outcome int

const (
	unknown   outcome = iota // not asked yet
	never                    // there was none
	aborted                  // or nothing says that it was committed
	committed                // or being committed
)

// lastOutcome asks the coordinator how the last transaction of a transactional
// id ended. What is open is going to be aborted. It must be asked before the id
// is initialized, which makes the coordinator forget it.
func lastOutcome(ctx context.Context, client *kgo.Client, id string) (outcome, error) {
	req := kmsg.NewPtrDescribeTransactionsRequest()
	req.TransactionalIDs = []string{id}
	backoff := newBackoff(5*time.Millisecond, 100*time.Millisecond)
	for {
		resp, err := req.RequestWith(ctx, client)
		if err == nil && len(resp.TransactionStates) != 1 {
			err = fmt.Errorf("the answer is of %d transactional ids", len(resp.TransactionStates))
		}
		if err != nil {
			return unknown, fmt.Errorf("asking how the last transaction of %s ended: %w", id, err)
		}
		state := resp.TransactionStates[0]
		switch err := kerr.ErrorForCode(state.ErrorCode); {
		case errors.Is(err, kerr.TransactionalIDNotFound):
			return never, nil
		case err == nil && (state.State == "PrepareCommit" || state.State == "CompleteCommit"):
			return committed, nil
		case err == nil:
			return aborted, nil
		case !kerr.IsRetriable(err):
			return unknown, fmt.Errorf("asking how the last transaction of %s ended: %w", id, err)
		default:
			if err := pause(ctx, backoff.next(), err); err != nil {
				return unknown, err
			}
		}
	}
}

// settleGroup ends what the last transaction of the transactional id may have
// left pending in the group, as that transaction ended: a coordinator that finds
// no leader for the group's partition of __consumer_offsets, as when its broker
// was fenced for a moment, can take it for deleted and complete the transaction
// without its marker there (KAFKA-20734). Then the group's offsets stay unstable
// for ever; and the next commit of that producer, having the same producer id,
// would commit what was aborted.
//
// So it runs an empty transaction that touches the group and ends the same way.
// The id is initialized before, so that no late request gets into it, and must
// be afterwards, which waits for the markers.
func (p *Pipeline) settleGroup(ctx context.Context, client *kgo.Client, id string, last outcome) error {
	init := kmsg.NewPtrInitProducerIDRequest()
	init.TransactionalID, init.ProducerID, init.ProducerEpoch = &id, -1, -1
	init.TransactionTimeoutMillis = int32(p.cfg.Timeout.Milliseconds())
	var who txnIdentity
	err := repeat(ctx, func() (int16, error) {
		resp, err := init.RequestWith(ctx, client)
		if err != nil {
			return 0, err
		}
		who = txnIdentity{transactionalID: id, producerID: resp.ProducerID, epoch: resp.ProducerEpoch}
		return resp.ErrorCode, nil
	})
	if err != nil {
		return fmt.Errorf("initializing transactional id %s: %w", id, err)
	}
	if who.epoch >= maxEpoch {
		return nil // the next initialization gets another producer id, for which nothing is pending
	}
	add := kmsg.NewPtrAddOffsetsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = id, who.producerID, who.epoch, p.cfg.Group
	err = repeat(ctx, func() (int16, error) {
		resp, err := add.RequestWith(ctx, client)
		if err != nil {
			return 0, err
		}
		return resp.ErrorCode, nil
	})
	if err != nil {
		return fmt.Errorf("adding group %q to an empty transaction of %s: %w", p.cfg.Group, id, err)
	}
	if last != committed {
		return nil // the initialization that follows aborts it
	}
	end := kmsg.NewPtrEndTxnRequest()
	end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = id, who.producerID, who.epoch, true
	err = repeat(ctx, func() (int16, error) {
		resp, err := end.RequestWith(ctx, client)
		if err != nil {
			return 0, err
		}
		return resp.ErrorCode, nil
	})
	if err != nil {
		return fmt.Errorf("ending an empty transaction of %s: %w", id, err)
	}
	return nil
}

// repeat sends a request until the answer is none that may pass. All that it is
// used for may be repeated: it does the same again, or is refused.
func repeat(ctx context.Context, send func() (int16, error)) error {
	backoff := newBackoff(time.Millisecond, 100*time.Millisecond)
	for {
		code, err := send()
		if err != nil {
			return err
		}
		err = kerr.ErrorForCode(code)
		if err == nil || !kerr.IsRetriable(err) && !errors.Is(err, kerr.ConcurrentTransactions) {
			return err
		}
		if err := pause(ctx, backoff.next(), err); err != nil {
			return err
		}
	}
}
