package main

func tasks(run string) []Tests { return []Tests{{"choreo/internal/task", run}} }

const (
	openFile    = "choreo/internal/task/open.go"
	ownerFile   = "choreo/internal/task/owner.go"
	restoreFile = "choreo/internal/task/restore.go"
	tenureFile  = "choreo/internal/task/tenure.go"
	groupFile   = "choreo/internal/task/group.go"
	readerFile  = "choreo/internal/task/reader.go"
	unblockFile = "choreo/internal/task/unblock.go"
	topicsFile  = "choreo/internal/task/topics.go"
	watchFile   = "choreo/internal/task/watch.go"
)

var taskMutants = []Mutant{
	{
		Name: "what was owned under another member id goes on", File: groupFile,
		Old: `if o.as.member == member {`, New: `if o.as.member != "" {`,
		Breaks: "what others may have had meanwhile is not committed", By: tasks("TestAnotherMember"),
	},
	{
		Name: "a new member id commits what was owned before", File: ownerFile,
		Old: `member != as.member {`, New: `false {`,
		Breaks: "what others may have had meanwhile is not committed", By: tasks("TestAnotherMember"),
	},
	{
		Name: "a task is opened while a transaction holds results of it", File: tenureFile,
		Old: `if last.wait(ctx) != nil {`, New: `if false {`,
		Breaks: "what is on its way to the broker is not handled again", By: tasks("TestReopening"),
	},
	{
		Name: "unstable offsets are taken", File: "choreo/internal/task/committed.go",
		Old: `req.RequireStable = true`, New: `req.RequireStable = false`,
		Breaks: "offsets of open transactions are waited for", By: tasks("TestRestore|TestOpenTransaction|TestLive"),
	},
	{
		Name: "inputs are read uncommitted", File: ownerFile,
		Old: `kgo.FetchIsolationLevel(kgo.ReadCommitted())`, New: `kgo.FetchIsolationLevel(kgo.ReadUncommitted())`,
		Breaks: "nobody reacts to an aborted event", By: tasks(""),
	},
	{
		Name: "the journal is restored uncommitted", File: restoreFile,
		Old: `kgo.FetchIsolationLevel(kgo.ReadCommitted())`, New: `kgo.FetchIsolationLevel(kgo.ReadUncommitted())`,
		Breaks: "the journal is the fold of what was committed", By: tasks("TestRestore"),
	},
	{
		Name: "the journal is restored to the last stable offset only", File: restoreFile,
		Old: `listOffsets(ctx, o.meta, []partition{p}, highWatermark)`, New: `listOffsets(ctx, o.meta, []partition{p}, lastStable)`,
		Breaks: "what the journal's markers still hide is waited for", By: tasks("TestRestore|TestOpenTransaction"),
	},
	{
		Name: "the journal is restored before the offsets are fetched", File: openFile,
		Old: `	if err := o.stableOffsets(ctx, t.num, task.Sources); err != nil {
		return err
	}

	if task.Store, err = o.restoreStore(t); err != nil {
		return err
	}
`,
		New: `	if task.Store, err = o.restoreStore(t); err != nil {
		return err
	}
	if err := o.stableOffsets(ctx, t.num, task.Sources); err != nil {
		return err
	}
`,
		Breaks: "the journal knows all whose offsets are committed", By: tasks("TestRestore|TestOpen"),
	},
	{
		Name: "lost offsets are reset", File: openFile,
		Old: `case begun && !committed:`, New: `case false:`,
		Breaks: "never reset silently", By: tasks("TestBegunCheck"),
	},
	{
		Name: "a topic created anew is read on", File: openFile,
		Old: `case begun && id != s.TopicID:`, New: `case false:`,
		Breaks: "another topic id stops the task", By: tasks("TestBegunCheck"),
	},
	{
		Name: "what retention removed unread is passed over at start", File: openFile,
		Old: `case s.Offset < starts[p]:`, New: `case false:`,
		Breaks: "lost events are said", By: tasks("TestBegunCheck"),
	},
	{
		Name: "what an election cut off is passed over at start", File: openFile,
		Old: `case s.Offset > ends[p]:`, New: `case false:`,
		Breaks: "lost events are said", By: tasks("TestBegunCheck"),
	},
	{
		Name: "what retention removes under a reader is passed over", File: ownerFile,
		Old: `kgo.ConsumeResetOffset(kgo.NoResetOffset()), // what`, New: `kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), // what`,
		Breaks: "lost events are said", By: tasks("TestRetention"),
	},
	{
		Name: "latest passes over what open transactions commit later", File: openFile,
		Old: `s.Offset, s.LeaderEpoch = stable[p], -1`, New: "_ = stable\n\t\t\ts.Offset, s.LeaderEpoch = ends[p], -1",
		Breaks: "From: Latest misses nothing that is committed after the start", By: tasks("TestLatest"),
	},
	{
		Name: "the journal is not told that an input was begun", File: openFile,
		Old: `if !s.begun {`, New: `if false {`,
		Breaks: "expired offsets are noticed", By: tasks("TestBegunCheck|TestTask"),
	},
	{
		Name: "a task is revoked before its transactions have ended", File: groupFile,
		Old: `o.settleAll(ctx, list, errRevoked)`, New: `_ = ctx`,
		Breaks: "the next owner finds all that was committed", By: tasks("TestRevoke"),
	},
	{
		Name: "an ownership begins before the last one has ended", File: tenureFile,
		Old: "\t\t\t<-last.ended\n\t\t\tif last", New: "\t\t\tif last",
		Breaks: "one ownership of a task at a time", By: tasks("TestNextOwnership"),
	},
	{
		Name: "records of an ended incarnation are delivered", File: readerFile,
		Old: `if f.src.Task.Incarnation.Context().Err() != nil {`, New: `if false {`,
		Breaks: "no handler starts for a task that is gone", By: tasks(""),
	},
	{
		Name: "tasks open before the pipeline is ready", File: ownerFile,
		Old: `down:      true, // until`, New: `down:      false, // until`,
		Breaks: "tasks are read only after the lanes are made", By: tasks("TestNothingOpens"),
	},
	{
		Name: "tasks go on from memory after a failure", File: ownerFile,
		Old: "\to.down, o.cause = true, cause\n\tlist := o.all()\n", New: "\to.down, o.cause = false, cause\n\tvar list []*tenure\n",
		Breaks: "after a failure the broker is the truth, never memory", By: tasks("TestRewind"),
	},
	{
		Name: "idle offsets are left to expire", File: watchFile,
		Old: `o.cfg.Engine.Recommit(s)`, New: `_ = s`,
		Breaks: "idle offsets are committed again daily", By: tasks("TestIdle"),
	},
	{
		Name: "an instance ends its own transactions", File: unblockFile,
		Old: ` && !strings.HasPrefix(t.TransactionalID, o.cfg.OwnPrefix) {`, New: ` {`,
		Breaks: "a live lane is not fenced by its own instance", By: tasks("TestTransactionsOfOthers|TestLive|TestOpenTransaction"),
	},
	{
		Name: "an instance ends transactions of other services", File: unblockFile,
		Old: `strings.HasPrefix(t.TransactionalID, o.cfg.TransactionalPrefix) && `, New: ``,
		Breaks: "other services' transactions are left alone", By: tasks("TestTransactionsOfOthers"),
	},
	{
		Name: "live transactions are ended", File: unblockFile,
		Old: `if !slices.Contains(r.seen, t) {`, New: `if false {`,
		Breaks: "only what stays open is ended", By: tasks("TestLive"),
	},
	{
		Name: "transactions of dead instances are left open", File: unblockFile,
		Old: `if err := r.o.endTransaction(ctx, r.brokers, t.id); err != nil {`, New: `if err := error(nil); err != nil {`,
		Breaks: "a successor waits a second, not twenty", By: tasks("TestOpenTransaction"),
	},
	{
		Name: "another partition count goes unnoticed", File: topicsFile,
		Old: `case i.partitions != w.partitions:`, New: `case false:`,
		Breaks: "a change of partition count stops the tasks", By: tasks("TestChangedTopic"),
	},
	{
		Name: "of a wider input only one partition is read", File: topicsFile,
		Old: `q += tasks {`, New: `q += max(tasks, t.partitions) {`,
		Breaks: "every partition of every input is some task's", By: tasks("TestTaskIs"),
	},
	{
		Name: "a journal of another width is accepted", File: topicsFile,
		Old: `if tasks > 0 && journal > 0 && tasks != journal {`, New: `if false && journal > tasks {`,
		Breaks: "each task has a journal partition", By: tasks("TestMissing|TestChanged"),
	},
	{
		Name: "a wake-up is lost when it comes amid a delivery", File: readerFile,
		Old: `if r.wakes.Load() != before {`, New: `if false && r.wakes.Load() != before {`,
		Breaks: "a source with room is never left waiting", By: tasks("TestReader"),
	},
	{
		Name: "the marker at the end of a log is dropped", File: readerFile,
		Old: `if i == len(recs)-1 || !rec.Attrs.IsControl() {`, New: `if i < 0 || !rec.Attrs.IsControl() {`,
		Breaks: "the committed offset reaches the end of the log", By: tasks("TestTrailing|TestReader"),
	},
	{
		Name: "a restore does not count markers", File: restoreFile,
		Old: "\t\tkgo.KeepControlRecords(),\n", New: "",
		Breaks: "a restore ends though the log ends in markers", By: tasks("TestRestore"),
	},
	{
		Name: "records of a topic created anew are taken for the old one's", File: readerFile,
		Old: `if t.TopicID != f.src.TopicID && t.TopicID != [16]byte{} {`, New: `if false {`,
		Breaks: "another topic id stops the task", By: tasks(""),
	},
	{
		Name: "an instance id in use is tried for ever", File: groupFile,
		Old: `if final := g.o.cfg.fatal(err); final != nil {`, New: `if final := g.o.cfg.fatal(err); false && final != nil {`,
		Breaks: "an instance id used twice ends the run", By: tasks("TestDirectedInstanceIDUsedTwice"),
	},
}
