package task

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/choreography-go/choreography/choreo/internal/producer"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// openTransaction is one transaction of the service that is not ended. With
// transaction.version 2 every transaction has an epoch of its own (KIP-890), so
// two equal values seen at different times are the same transaction.
type openTransaction struct {
	id    string
	pid   int64
	epoch int16
}

// relief ends the transactions that keep something of ours blocked. It is used
// by one goroutine.
type relief struct {
	o       *Owner
	brokers kmsg.Requestor
	what    string     // for the log: what is blocked
	on      *partition // if set, only transactions that wrote to it
	since   time.Time  // of the first blocked
	seen    []openTransaction
	checked time.Time
	said    time.Time // when the log was last told that nothing helps
}

func (o *Owner) relief(what string, on *partition) *relief {
	return &relief{o: o, brokers: o.meta, what: what, on: on}
}

// progressed forgets that anything was blocked.
func (r *relief) progressed() { r.since, r.seen = time.Time{}, nil }

// blocked is called each time that what we wait for is still blocked. It notes
// early which transactions of the service are open, and when the patience is
// over ends those that still are. An error is one of a request: the caller
// logs it and goes on, for the transaction's own timeout ends it, too.
func (r *relief) blocked(ctx context.Context) error {
	now := time.Now()
	patience := r.o.cfg.Patience
	switch {
	case r.since.IsZero():
		r.since, r.checked, r.seen = now, now, nil
		return nil
	case r.seen == nil && now.Sub(r.since) >= patience/10:
		seen, err := r.o.openTransactions(ctx, r.brokers, r.on)
		if err != nil {
			return err
		}
		r.seen = append(make([]openTransaction, 0, 1), seen...)
		r.checked = now
		return nil
	case now.Sub(r.since) < patience || now.Sub(r.checked) < patience*8/10:
		return nil
	}
	// One at a time, so that tasks that open together do not end a
	// transaction twice: the second one finds it gone.
	select {
	case r.o.relieving <- struct{}{}:
		defer func() { <-r.o.relieving }()
	case <-ctx.Done():
		return ctx.Err()
	}
	open, err := r.o.openTransactions(ctx, r.brokers, r.on)
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range open {
		if !slices.Contains(r.seen, t) {
			continue
		}
		r.o.log.Warn("ending a transaction that another instance left open",
			"transactional_id", t.id, "producer_id", t.pid, "epoch", t.epoch,
			"blocked", r.what, "for", now.Sub(r.since).Round(time.Millisecond))
		if err := r.o.endTransaction(ctx, r.brokers, t.id); err != nil {
			errs = append(errs, err)
		}
	}
	if waited := now.Sub(r.since); len(open) == 0 && waited > 10*patience && now.Sub(r.said) > 10*patience {
		r.said = now
		r.o.log.Warn("blocked by a transaction that no other instance of the service has open; the broker ends it at its timeout, or kafka-transactions.sh find-hanging finds it",
			"blocked", r.what, "for", waited.Round(time.Millisecond))
	}
	r.seen, r.checked = append(make([]openTransaction, 0, 1), open...), time.Now()
	return errors.Join(errs...)
}

// openTransactions lists the ongoing transactions of other instances of the
// service, on all brokers; with on, only those that wrote to that partition.
func (o *Owner) openTransactions(ctx context.Context, brokers kmsg.Requestor, on *partition) ([]openTransaction, error) {
	fail := func(err error) error {
		return fmt.Errorf("listing open transactions under %q: %w; is the principal allowed to DESCRIBE these transactional ids?", o.cfg.TransactionalPrefix, err)
	}
	list := kmsg.NewPtrListTransactionsRequest()
	list.StateFilters = []string{"Ongoing"}
	listed, err := list.RequestWith(ctx, brokers)
	if err != nil {
		return nil, fail(err)
	}
	if err := kerr.ErrorForCode(listed.ErrorCode); err != nil {
		return nil, fail(err)
	}
	desc := kmsg.NewPtrDescribeTransactionsRequest()
	for _, t := range listed.TransactionStates {
		if strings.HasPrefix(t.TransactionalID, o.cfg.TransactionalPrefix) && !strings.HasPrefix(t.TransactionalID, o.cfg.OwnPrefix) {
			desc.TransactionalIDs = append(desc.TransactionalIDs, t.TransactionalID)
		}
	}
	if len(desc.TransactionalIDs) == 0 {
		return nil, nil
	}
	described, err := desc.RequestWith(ctx, brokers)
	if err != nil {
		return nil, fail(err)
	}
	var open []openTransaction
	for _, t := range described.TransactionStates {
		switch err := kerr.ErrorForCode(t.ErrorCode); {
		case errors.Is(err, kerr.TransactionalIDNotFound):
			continue
		case err != nil:
			return nil, fail(fmt.Errorf("%q: %w", t.TransactionalID, err))
		}
		if t.State != "Ongoing" {
			continue
		}
		touches := on == nil
		for _, tp := range t.Topics {
			if on != nil && tp.Topic == on.topic && slices.Contains(tp.Partitions, on.num) {
				touches = true
			}
		}
		if touches {
			open = append(open, openTransaction{t.TransactionalID, t.ProducerID, t.ProducerEpoch})
		}
	}
	return open, nil
}

// endTransaction initializes a transactional id anew, which makes the
// coordinator abort what is open under it and fence whoever had it (KIP-98). It
// returns when the abort is complete.
func (o *Owner) endTransaction(ctx context.Context, brokers kmsg.Requestor, id string) error {
	if _, err := producer.Initialize(ctx, brokers, id, o.cfg.TransactionTimeout); err != nil {
		return fmt.Errorf("ending the open transaction of transactional id %q: %w; is the principal allowed to WRITE to it?", id, err)
	}
	return nil
}

// pause waits, or returns the context's error.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
