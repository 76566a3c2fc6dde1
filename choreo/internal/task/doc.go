// Package task decides which tasks this process owns, opens them and reads
// their inputs.
//
// A task is a partition number of a service. The consumer group subscribes to
// one topic, the service's inbox: whoever is assigned partition p of it owns
// task p, reads partition p of every input and alone writes partition p of the
// journal. Two clients do that. The group client joins the group and never
// fetches; the data client reads by direct assignment, read committed, and
// knows nothing of groups. So a step and its compensation always meet at one
// member, whatever topics each member of a rolling deploy reads.
//
// Opening a task is, in this order: a new [Incarnation]; a stable fetch of the
// committed offsets; the restore of the journal up to the high watermark taken
// after that; the check that what was begun is still there; and then records.
// Whatever happens later (a revoke, a lost session, a failed transaction) ends
// the incarnation, and the task is opened anew from the broker, which is the
// truth: nothing that was held in memory survives.
//
// The package owns the group client, the data client, the restore and the
// ending of transactions that a dead instance left open. It writes nothing: the
// engine and the pipeline write, also the records that say a partition was
// begun. It does not know what a journal record or an event means.
package task
