package producer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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

// Last is what is known of the last transaction of a transactional id.
type Last struct {
	Outcome Outcome
	// Since is the least epoch that it can have had. What has a lower one is of a
	// transaction before it, and those were committed: after one that was not,
	// the id is not used before it is settled.
	Since int16
}

// LastOf asks the coordinator how the last transaction of a transactional id
// ended. What is open is going to be aborted. It must be asked before the id is
// initialized, which makes the coordinator forget it.
func LastOf(ctx context.Context, client kmsg.Requestor, id string) (Last, error) {
	req := kmsg.NewPtrDescribeTransactionsRequest()
	req.TransactionalIDs = []string{id}
	var said kmsg.DescribeTransactionsResponseTransactionState
	err := repeat(ctx, func() (int16, error) {
		resp, err := req.RequestWith(ctx, client)
		if err != nil {
			return 0, err
		}
		if n := len(resp.TransactionStates); n != 1 {
			return 0, fmt.Errorf("the answer is of %d transactional ids", n)
		}
		said = resp.TransactionStates[0]
		return said.ErrorCode, nil
	})
	switch {
	case errors.Is(err, kerr.TransactionalIDNotFound):
		return Last{Outcome: Never}, nil
	case err != nil:
		return Last{}, fmt.Errorf("asking how the last transaction of %s ended: %w", id, err)
	}
	switch said.State {
	case "PrepareCommit", "CompleteCommit":
		return Last{Outcome: Committed}, nil
	case "Ongoing":
		return Last{Outcome: Aborted, Since: said.ProducerEpoch}, nil
	case "PrepareAbort", "CompleteAbort":
		// What the coordinator aborts it fences first: that takes an epoch, and the
		// end takes another one. Some aborts take one only; then the transaction
		// before is taken for this one.
		return Last{Outcome: Aborted, Since: said.ProducerEpoch - 2}, nil
	}
	return Last{Outcome: Aborted}, nil
}

// Leftovers are what the last transactions of a transactional id may have left
// pending in the group and open in partitions: a coordinator that finds no leader
// for a partition, as when its broker was fenced for a moment, can take it for
// deleted and complete the transaction without its marker there (KAFKA-20734).
// Then the group's offsets stay unstable and the partition's last stable offset
// stays where it is for ever; and what that producer does there next goes into
// the old transaction, having the same producer id, and may end it the other way.
type Leftovers struct {
	TransactionalID string
	Group           string   // the consumer group under which it commits offsets
	Topics          []string // what it writes to; of others nothing is ended
	Timeout         time.Duration
	Log             *slog.Logger

	last Last // asked once: afterwards the answer is another one
}

// End ends them, as their transactions ended, by empty transactions that touch
// the same places. When it fails it is to be called again, on the same value, and
// the id must not be used before it has worked.
//
// The id is initialized before, so that no late request gets in, and must be
// afterwards, which waits for the markers and aborts what is not committed.
func (l *Leftovers) End(ctx context.Context, client kmsg.Requestor) error {
	if l.last.Outcome == Unknown {
		last, err := LastOf(ctx, client, l.TransactionalID)
		if err != nil {
			return err
		}
		l.last = last
	}
	if l.last.Outcome == Never {
		return nil
	}
	var open []span
	for range 3 { // what the last one left open, what others did, and the group
		who, err := Initialize(ctx, client, l.TransactionalID, l.Timeout)
		if err != nil {
			return err
		}
		if !who.Usable() {
			return nil // the next initialization gets another producer id, and what is left is out of reach
		}
		if open, err = openOf(ctx, client, who.ID, l.Topics); err != nil {
			return fmt.Errorf("asking what %s has left open: %w", l.TransactionalID, err)
		}
		if len(open) == 0 {
			if err := touchGroup(ctx, client, who, l.Group); err != nil {
				return err
			}
			return end(ctx, client, who, l.last.Outcome)
		}
		if err := l.endOpen(ctx, client, who, open); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s stays open, though a transaction of %s that holds it was ended: if that goes on, kafka-transactions.sh abort ends it",
		open[0], l.TransactionalID)
}

// endOpen ends what is open of the last transaction, or else of others before it.
func (l *Leftovers) endOpen(ctx context.Context, client kmsg.Requestor, who Identity, open []span) error {
	var last, before []span
	for _, s := range open {
		if s.epoch >= l.last.Since {
			last = append(last, s)
		} else {
			before = append(before, s)
		}
	}
	outcome := l.last.Outcome
	if len(last) == 0 {
		last, outcome = before, Committed
	}
	for _, s := range last {
		l.Log.Warn("ending what a transaction left open that the brokers take for ended", "transactional_id", l.TransactionalID,
			"partition", s.String(), "epoch", s.epoch, "committed", outcome == Committed)
	}
	if err := touch(ctx, client, who, last); err != nil {
		return err
	}
	return end(ctx, client, who, outcome)
}

// end ends a transaction, unless the next initialization does.
func end(ctx context.Context, client kmsg.Requestor, who Identity, as Outcome) (err error) {
	if as == Committed {
		_, err = Commit(ctx, client, who)
	}
	return err
}

// touchGroup adds the group to a transaction.
func touchGroup(ctx context.Context, client kmsg.Requestor, who Identity, group string) error {
	add := kmsg.NewPtrAddOffsetsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = who.TransactionalID, who.ID, who.Epoch, group
	err := repeat(ctx, func() (int16, error) {
		resp, err := add.RequestWith(ctx, client)
		if err != nil {
			return 0, err
		}
		return resp.ErrorCode, nil
	})
	if err != nil {
		return fmt.Errorf("adding group %q to an empty transaction of %s: %w", group, who.TransactionalID, err)
	}
	return nil
}
