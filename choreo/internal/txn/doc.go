// Package txn is the transaction pipeline: it takes the finished work on input
// records and commits outputs and offsets together, exactly once, several
// Kafka transactions in flight at a time.
//
// # Lanes and stages
//
// A lane is one transactional producer. Lanes are taken in turn. While no lane
// can begin a transaction, results gather, and the next transaction takes all
// of them: the batch sizes itself by load. A transaction passes three stages:
// (a) the gate and TxnOffsetCommit, (b) Produce, (c) EndTxn. Each stage is
// entered strictly in input order, so that no event overtakes another one of
// its key and no offset commit a later one, and yet a transaction is in every
// stage.
//
// # The gate
//
// Under the lock of the [Fence], which closing an [Incarnation] takes as well,
// the gate drops the results of closed incarnations, marks the offsets of the
// others as finished, and reads what each touched partition then commits. An
// offset therefore counts as finished only if its output is in this transaction
// or an earlier one. Results without outputs ride along; while there is nothing
// to ride along with, a transaction without outputs takes them, by a producer of
// its own and alone in the pipeline.
//
// # Failure
//
// A transaction has committed when every record was acknowledged under the
// producer id and epoch that its offsets were committed with, and EndTxn was
// answered. Anything else, silence included, fails it and all after it: those
// before it finish, every incarnation is closed, the lanes' clients are thrown
// away and made anew (InitProducerID ends what they left open), and the runtime
// opens its tasks from what the broker says. Memory is never trusted, and no
// request whose outcome is unknown is ever sent again.
//
// # Bounds of the package
//
// It owns the lane clients, the offsets committed under the group, and the
// fence. It does not consume, join the group, keep journals, know what a record
// means, or bound what is in flight: that is the engine's. It needs Apache
// Kafka 4.0 or later with transaction.version 2 ([CheckCluster]).
package txn
