// Package simkafka is the Kafka of a simulation: an embedded cluster (kfake)
// on a simnet network, and what Apache Kafka does where kfake is simpler. It
// owns how the brokers answer, and nothing behind: records, groups and
// producers are kfake's. It may not touch services, and it makes no faults of its
// own; those are made with kfake's Fault and simnet's hosts.
//
// What kfake does at once and Kafka does not: the end of a transaction. Kafka
// answers EndTxn when the decision is in the coordinator's log; the markers
// come later, at each partition on its own, the group's offsets being one of
// them. Until all are written the transaction is not complete, and
//
//   - TxnOffsetCommit, AddPartitionsToTxn and InitProducerID of its
//     transactional id are refused with CONCURRENT_TRANSACTIONS at once; so is the
//     same EndTxn once more, while an EndTxn with the next epoch is fenced;
//   - a Produce waits in the broker, looks again every 20 ms, and is refused
//     with NOT_ENOUGH_REPLICAS after 100 ms;
//   - an InitProducerID that finds an open transaction aborts it and is itself
//     refused;
//   - a read-committed Fetch or ListOffsets goes no further than the first
//     record of the transaction in a partition without its marker;
//   - a stable OffsetFetch of a partition of which the transaction committed an
//     offset answers UNSTABLE_OFFSET_COMMIT.
//
// And of several commits of one offset, in transactions or not, the one wins
// that was received last, whichever ends last.
//
// A rebalance of a classic group ends, as in Kafka, whatever dies in it: a static
// member that starts again while its predecessor waits in SyncGroup is asked to
// come back, and so is who joins after the rebalance's deadline.
//
// What differs from Kafka still: kfake has written the markers when it answers
// EndTxn, and it is the answers to others that do not show them. So a high
// watermark counts a marker before it is shown; ListTransactions and
// DescribeProducers show no transaction whose markers are being written; a
// Fetch that has nothing to show but held records is answered when the marker
// comes, with what was there when it was held. Timed-out transactions are
// aborted at once, not by a sweep every 10 s, and with their markers. A stable
// OffsetFetch is refused for all of a group's partitions while any open
// transaction has offsets of it (kfake), not for those partitions alone.
package simkafka
