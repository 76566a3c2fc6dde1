// Package producer acts for a transactional id by plain requests to its
// coordinator, where a Kafka client's own producer does not help: for
// transactions that hold offsets alone, and to end what an id has left behind.
//
// It keeps nothing: whoever calls it knows who uses the id, and that
// initializing it fences them. Transactions are those of transaction.version 2
// (KIP-890), which have an epoch each.
package producer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// MaxEpoch is the first epoch that is not used: the next bump would overflow, and
// brokers before 4.3 can hang then (KAFKA-20090).
const MaxEpoch = 32766

// Identity is who a transaction is for the broker. The epoch is another one in
// every transaction.
type Identity struct {
	TransactionalID string
	ID              int64
	Epoch           int16
}

// Usable reports whether a transaction may be begun. The zero value is not.
func (i Identity) Usable() bool {
	return i.TransactionalID != "" && i.ID >= 0 && i.Epoch >= 0 && i.Epoch < MaxEpoch
}

// Initialize gives the transactional id its next identity. It aborts what is open
// under the last one, waits for that to be through, and fences every request of
// it. The identity is not usable if that was the last but one epoch: then the
// next initialization gets another producer id.
func Initialize(ctx context.Context, client kmsg.Requestor, id string, timeout time.Duration) (Identity, error) {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = &id, -1, -1
	req.TransactionTimeoutMillis = int32(timeout.Milliseconds())
	var who Identity
	err := repeat(ctx, func() (int16, error) {
		resp, err := req.RequestWith(ctx, client)
		if err != nil {
			return 0, err
		}
		who = Identity{TransactionalID: id, ID: resp.ProducerID, Epoch: resp.ProducerEpoch}
		return resp.ErrorCode, nil
	})
	if err != nil {
		return Identity{}, fmt.Errorf("initializing transactional id %s: %w", id, err)
	}
	return who, nil
}

// Commit ends a transaction and returns the identity of the next one. Without an
// answer its outcome is unknown.
func Commit(ctx context.Context, client kmsg.Requestor, who Identity) (Identity, error) {
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = who.TransactionalID, who.ID, who.Epoch, true
	next := who
	err := repeat(ctx, func() (int16, error) {
		resp, err := req.RequestWith(ctx, client)
		if err != nil {
			return 0, err
		}
		next.ID, next.Epoch = resp.ProducerID, resp.ProducerEpoch
		return resp.ErrorCode, nil
	})
	if err != nil {
		return Identity{}, fmt.Errorf("ending a transaction of %s: %w", who.TransactionalID, err)
	}
	return next, nil
}

// repeat sends a request until the answer is none that may pass. All that it is
// used for may be repeated: it does the same again, or is refused.
func repeat(ctx context.Context, send func() (int16, error)) error {
	const least, most = time.Millisecond, 100 * time.Millisecond
	for pause := least; ; pause = min(2*pause, most) {
		code, err := send()
		if err != nil {
			return err
		}
		err = kerr.ErrorForCode(code)
		if err == nil || !kerr.IsRetriable(err) && !errors.Is(err, kerr.ConcurrentTransactions) {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w (last answer: %w)", context.Cause(ctx), err)
		}
	}
}
