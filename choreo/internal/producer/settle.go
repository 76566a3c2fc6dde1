package producer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Outcome is how the last transaction of a transactional id ended.
type Outcome int

// The outcomes.
const (
	Unknown   Outcome = iota // not asked yet
	Never                    // there was none
	Aborted                  // or nothing says that it was committed
	Committed                // or being committed
)

// LastOutcome asks the coordinator how the last transaction of a transactional
// id ended. What is open is going to be aborted. It must be asked before the id
// is initialized, which makes the coordinator forget it.
func LastOutcome(ctx context.Context, client kmsg.Requestor, id string) (Outcome, error) {
	req := kmsg.NewPtrDescribeTransactionsRequest()
	req.TransactionalIDs = []string{id}
	state := ""
	err := repeat(ctx, func() (int16, error) {
		resp, err := req.RequestWith(ctx, client)
		if err != nil {
			return 0, err
		}
		if n := len(resp.TransactionStates); n != 1 {
			return 0, fmt.Errorf("the answer is of %d transactional ids", n)
		}
		state = resp.TransactionStates[0].State
		return resp.TransactionStates[0].ErrorCode, nil
	})
	switch {
	case errors.Is(err, kerr.TransactionalIDNotFound):
		return Never, nil
	case err != nil:
		return Unknown, fmt.Errorf("asking how the last transaction of %s ended: %w", id, err)
	case state == "PrepareCommit" || state == "CompleteCommit":
		return Committed, nil
	}
	return Aborted, nil
}

// Settle ends what the last transaction of the transactional id may have left
// pending in the group, as that transaction ended: a coordinator that finds no
// leader for the group's partition of __consumer_offsets, as when its broker was
// fenced for a moment, can take it for deleted and complete the transaction
// without its marker there (KAFKA-20734). Then the group's offsets stay unstable
// for ever; and the next commit of that producer, having the same producer id,
// would commit what was aborted.
//
// So it runs an empty transaction that touches the group and ends the same way.
// The id is initialized before, so that no late request gets into it, and must
// be afterwards, which waits for the markers and aborts what is not committed.
func Settle(ctx context.Context, client kmsg.Requestor, id, group string, timeout time.Duration, last Outcome) error {
	if last == Never {
		return nil
	}
	who, err := Initialize(ctx, client, id, timeout)
	if err != nil {
		return err
	}
	if !who.Usable() {
		return nil // the next initialization gets another producer id, for which nothing is pending
	}
	add := kmsg.NewPtrAddOffsetsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = id, who.ID, who.Epoch, group
	err = repeat(ctx, func() (int16, error) {
		resp, err := add.RequestWith(ctx, client)
		if err != nil {
			return 0, err
		}
		return resp.ErrorCode, nil
	})
	if err != nil {
		return fmt.Errorf("adding group %q to an empty transaction of %s: %w", group, id, err)
	}
	if last == Committed {
		_, err = Commit(ctx, client, who)
	}
	return err
}
