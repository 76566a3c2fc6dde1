package main

func pipeline(run string) []Tests { return []Tests{{"choreo/internal/txn", run}} }

const (
	gateFile        = "choreo/internal/txn/gate.go"
	transactionFile = "choreo/internal/txn/transaction.go"
	commitFile      = "choreo/internal/txn/offsets.go"
	laneFile        = "choreo/internal/txn/lane.go"
	silentFile      = "choreo/internal/txn/silent.go"
	producerFile    = "choreo/internal/producer/producer.go"
	settleFile      = "choreo/internal/producer/settle.go"
	sessionFile     = "choreo/internal/txn/session.go"
	fenceFile       = "choreo/internal/txn/fence.go"
	pipelineFile    = "choreo/internal/txn/pipeline.go"
	queueFile       = "choreo/internal/txn/queue.go"
)

// stages is how a transaction passes its stages.
const stages = `		if !t.s.doomed(t.seq) {
			if err := do(); err != nil {
				t.s.fail(t.seq, err)
			}
		}
		doomed := t.s.doomed(t.seq)
		l.pass(stage)
`

// early passes the turn of a stage on before the stage is done.
func early(stage string) string {
	return `		if stage == ` + stage + ` {
			l.pass(stage)
		}
		if !t.s.doomed(t.seq) {
			if err := do(); err != nil {
				t.s.fail(t.seq, err)
			}
		}
		doomed := t.s.doomed(t.seq)
		if stage != ` + stage + ` {
			l.pass(stage)
		}
`
}

var pipelineMutants = []Mutant{
	{
		Name: "what the client does not show is taken for committed", File: "choreo/internal/txn/transaction.go",
		Old: `err = t.shown()`, New: `err = nil`,
		Breaks: "an abort is not taken for a commit", By: []Tests{{"choreo/internal/txn", "TestNothingIsTaken"}},
	},
	{
		Name: "the gate lets results of a closed incarnation pass", File: gateFile,
		Old: `if r.Inc.closed {`, New: `if false && r.Inc.closed {`,
		Breaks: "what a lost task made is dropped", By: pipeline("TestRule7"),
	},
	{
		Name: "the gate forgets that a transaction holds the incarnation", File: gateFile,
		Old: "\t\t\t\tr.Inc.holders++\n", New: "",
		Breaks: "a revoke waits for the transactions of its task", By: pipeline("TestRule7"),
	},
	{
		Name: "the gate does not mark what passes as finished", File: gateFile,
		Old: `src.Offsets.Finish(r.Offset)`, New: `_ = src`,
		Breaks: "the offset rides with its output", By: pipeline("TestRule3"),
	},
	{
		Name: "the membership is read after the gate", File: transactionFile,
		Old: `commits: t.commits, as: t.as, who: t.who}`, New: `commits: t.commits, as: t.s.p.membership(), who: t.who}`,
		Breaks: "a generation newer than the fence's answer is not used unasked", By: pipeline("TestRule7"),
	},
	{
		Name: "offsets are finished when submitted, before the gate", File: pipelineFile,
		Old:    "\tp.gathered.push(r)\n",
		New:    "\tp.gathered.push(r)\n\tif r.Source != nil && r.Offset != NoOffset {\n\t\tr.Source.Offsets.Finish(r.Offset)\n\t}\n",
		Breaks: "metadata tells of an offset only when its output is in this transaction or an earlier one", By: pipeline("TestRule3"),
	},
	{
		Name: "offsets are committed out of order", File: transactionFile,
		Old: stages, New: early("stageOffsets"),
		Breaks: "the offsets appended last are the newest", By: pipeline("TestRule2"),
	},
	{
		Name: "outputs are produced out of order", File: transactionFile,
		Old: stages, New: early("stageRecords"),
		Breaks: "events of a key stay in order", By: pipeline("TestRule2"),
	},
	{
		Name: "transactions end out of order", File: transactionFile,
		Old: stages, New: early("stageEnd"),
		Breaks: "a transaction ends only after those before it", By: pipeline("TestRule2"),
	},
	{
		Name: "results are told out of order", File: transactionFile,
		Old: "\tfor _, r := range load.results {\n\t\tr.done(committed)\n", New: "\tfor i := range load.results {\n\t\tr := load.results[len(load.results)-1-i]\n\t\tr.done(committed)\n",
		Breaks: "Done is called in the order of submission", By: pipeline("TestExactlyOnce|TestRule1"),
	},
	{
		Name: "a refused record does not fail its transaction", File: transactionFile,
		Old: `if rec, err := t.acks.failure(); err != nil {`, New: `if rec, err := t.acks.failure(); false && err != nil {`,
		Breaks: "success is every promise nil", By: pipeline("TestRule5"),
	},
	{
		Name: "acknowledgements of another epoch count", File: transactionFile,
		Old: `if err == nil && (rec.ProducerID != a.who.ID || rec.ProducerEpoch != a.who.Epoch) {`, New: `if false {`,
		Breaks: "what is committed was produced under the epoch of stage (a)", By: pipeline("TestRule5"),
	},
	{
		Name: "a transaction ends though its epoch has changed", File: transactionFile,
		Old: `if err == nil && (id != t.who.ID || epoch != t.who.Epoch) {`, New: `if err == nil && id < 0 && epoch < 0 {`,
		Breaks: "nil from the client is no commit if id and epoch have changed", By: pipeline("TestOnlyTheTransaction"),
	},
	{
		Name: "the end's answer is not looked at", File: transactionFile,
		Old: `err = t.l.client.EndTransaction(t.ctx, kgo.TryCommit)`, New: `_ = t.l.client.EndTransaction(t.ctx, kgo.TryCommit)`,
		Breaks: "only what the broker confirms counts as committed", By: pipeline("TestRule5"),
	},
	{
		Name: "a lost answer to the offsets is retried blindly", File: commitFile,
		Old: "\t\tif err != nil {\n\t\t\treturn c.failure(ReasonNoAnswer, err)\n", New: "\t\tif err != nil {\n\t\t\tif ctx.Err() == nil {\n\t\t\t\tcontinue\n\t\t\t}\n\t\t\treturn c.failure(ReasonNoAnswer, err)\n",
		Breaks: "only an answer may be retried", By: pipeline("TestRule3|TestRule6"),
	},
	{
		Name: "the client retries the transaction's offsets", File: commitFile,
		Old: `c.client.Broker(int(coordinator)).Request(ctx, req)`, New: `c.client.Request(ctx, req)`,
		Breaks: "offsets are sent without hidden retries", By: pipeline("TestRule3"),
	},
	{
		Name: "the coordinator that moved away is asked again", File: commitFile,
		Old: "\t\t\tc.p.forgetCoordinator(coordinator)\n", New: "",
		Breaks: "a move of the coordinator fails nothing", By: pipeline("TestRule3"),
	},
	{
		Name: "the member id may be empty", File: commitFile,
		Old: `if c.as.member == "" {`, New: `if false {`,
		Breaks: "the broker must be able to check the membership", By: pipeline("TestRule7"),
	},
	{
		Name: "the new generation is taken though a task is gone", File: commitFile,
		Old: `if !c.p.cfg.Fence.ours(c.held) {`, New: `if false {`,
		Breaks: "after ILLEGAL_GENERATION every incarnation must still stand", By: pipeline("TestRule7"),
	},
	{
		Name: "the fence is asked before the generation is read", File: commitFile,
		Old: `		now := c.p.membership()
		if !c.p.cfg.Fence.ours(c.held) {`,
		New: `		ours := c.p.cfg.Fence.ours(c.held)
		now := c.p.membership()
		if !ours {`,
		Breaks: "what was ours after the generation was read was ours in it", By: pipeline("TestRule7"),
	},
	{
		Name: "another member id is taken for our own", File: commitFile,
		Old: `if c.as.member != "" && now.member != "" && now.member != c.as.member {`, New: `if false {`,
		Breaks: "a lost session voids what was begun in it", By: pipeline("TestRule7"),
	},
	{
		Name: "a refusal of one partition is overlooked", File: commitFile,
		Old: `if v > worst {`, New: `if v > worst && code == codes[0] {`,
		Breaks: "the worst answer counts", By: pipeline("TestRule3"),
	},
	{
		Name: "an answer that leaves partitions out is an acceptance", File: commitFile,
		Old: `if worst == accepted && len(codes) != asked {`, New: `if false {`,
		Breaks: "every offset of a commit is confirmed", By: pipeline("TestRule3"),
	},
	{
		Name: "offsets are committed by the topic's name alone", File: commitFile,
		Old:    "t := kmsg.NewTxnOffsetCommitRequestTopic()\n\t\t\tt.Topic, t.TopicID = cm.source.Topic, cm.source.TopicID\n",
		New:    "t := kmsg.NewTxnOffsetCommitRequestTopic()\n\t\t\tt.Topic = cm.source.Topic\n",
		Breaks: "topics are named and numbered, whatever the version", By: pipeline("TestRule3"),
	},
	{
		Name: "a revoke that waits does not count as ours", File: fenceFile,
		Old: `if i.closed && i.waiting == 0 {`, New: `if i.closed {`,
		Breaks: "a rebalance does not fail what it caught", By: pipeline("TestRule7"),
	},
	{
		Name: "a revoke does not wait for transactions", File: fenceFile,
		Old: `for i.holders > 0 {`, New: `for false && i.holders > 0 {`,
		Breaks: "the next owner finds all that was committed", By: pipeline("TestRule7"),
	},
	{
		Name: "incarnations open while the lanes are away", File: fenceFile,
		Old: `if f.down != nil {`, New: `if false {`,
		Breaks: "tasks are read only after the lanes are made anew", By: pipeline("TestFence|TestRule5"),
	},
	{
		Name: "a failure closes no incarnation", File: pipelineFile,
		Old: "\t\tp.cfg.Fence.CloseAll(cause)\n", New: "",
		Breaks: "after a failure the broker is the truth, never memory", By: pipeline("TestRule5|TestExactlyOnce"),
	},
	{
		Name: "nobody is told of a failure", File: pipelineFile,
		Old: "\t\tp.cfg.Failed(cause)\n", New: "",
		Breaks: "tasks rewind after a failure", By: pipeline("TestRule5"),
	},
	{
		Name: "transactions after one that failed go on", File: sessionFile,
		Old: `return seq >= s.failed`, New: `return seq == s.failed`,
		Breaks: "a failure fails all after it", By: pipeline("TestRule5"),
	},
	{
		Name: "transactions before one that failed are given up", File: sessionFile,
		Old: `return seq >= s.failed`, New: `return s.failed != math.MaxInt64`,
		Breaks: "a failure fails nothing before it", By: pipeline("TestRule5"),
	},
	{
		Name: "lanes are ready before their ids are initialized", File: laneFile,
		Old: `		id, epoch, err := client.ProducerID(ctx)
		if err == nil && id < 0 {`,
		New: `		var id int64
		var epoch int16
		var err error
		if err == nil && id < 0 {`,
		Breaks: "what a predecessor left open is ended and fenced before tasks are read", By: pipeline("TestRule5|TestDirectedEpoch"),
	},
	{
		Name: "a lane is made with an exhausted epoch", File: laneFile,
		Old: `if epoch < producer.MaxEpoch {`, New: `if epoch >= 0 {`,
		Breaks: "a lane at epoch 32766 is made anew before use", By: pipeline("TestDirectedEpoch|TestALaneHas"),
	},
	{
		Name: "a lane is used until its epoch is exhausted", File: laneFile,
		Old: `if err != nil || epoch < producer.MaxEpoch {`, New: `if err != nil || epoch >= 0 {`,
		Breaks: "a lane at epoch 32766 is made anew before use", By: pipeline("TestDirectedEpoch"),
	},
	{
		Name: "the epoch's limit is one too high", File: producerFile,
		Old: `const MaxEpoch = 32766`, New: `const MaxEpoch = 32767`,
		Breaks: "a lane at epoch 32766 is made anew before use", By: pipeline("TestTheEpochsLimit"),
	},
	{
		Name: "a silent commit runs beside transactions", File: silentFile,
		Old: `for stage := stageRecords; stage < stages; stage++ {`, New: `for stage := stages; stage < stages; stage++ {`,
		Breaks: "silent commits only with nothing in flight", By: pipeline("TestRule6"),
	},
	{
		Name: "transactions begin while a silent commit is under way", File: silentFile,
		Old: `defer l.pass(stageOffsets)`, New: `l.pass(stageOffsets)`,
		Breaks: "stage (a) is closed until a silent commit is through", By: pipeline("TestNoOffsetsAreSent"),
	},
	{
		Name: "a silent commit drops outputs that came meanwhile", File: silentFile,
		Old: `if slices.ContainsFunc(l.batch, func(r *Result) bool { return len(r.Records) > 0 }) {`, New: `if false && slices.Contains(l.batch, nil) {`,
		Breaks: "no output is lost", By: pipeline("TestAnOutputThatComes"),
	},
	{
		Name: "late silent commits are not fenced after a failure", File: laneFile,
		Old: "\twg.Go(func() { p.persist(failures, quiet.open) })\n", New: "",
		Breaks: "a late request changes nothing", By: pipeline("TestDirectedLateSilent"),
	},
	{
		Name: "a silent commit counts before its end is answered", File: silentFile,
		Old: "\tnext, err := producer.Commit(ctx, client, q.who)\n\tif err != nil {", New: "\tnext, err := producer.Commit(ctx, client, q.who)\n\tif false && err != nil {",
		Breaks: "only what the broker confirms counts as committed", By: pipeline("TestRule6"),
	},
	{
		Name: "a silent commit goes on with the epoch of the last one", File: silentFile,
		Old: "\tq.who = next\n", New: "\t_ = next\n",
		Breaks: "every transaction has an epoch of its own", By: pipeline("TestRule6"),
	},
	{
		Name: "silent commits use up all epochs", File: producerFile,
		Old: `i.Epoch >= 0 && i.Epoch < MaxEpoch`, New: `i.Epoch >= 0`,
		Breaks: "an id at epoch 32766 is initialized anew before use", By: pipeline("TestRule6"),
	},
	{
		Name: "what the last transaction left pending in the group stays", File: settleFile,
		Old: `if l.last.Outcome == Never {`, New: `if true {`,
		Breaks: "no offset of ours stays pending for ever", By: pipeline("TestDirectedWhatALane"),
	},
	{
		Name: "what was committed is ended as if it was aborted", File: settleFile,
		Old: `if as == Committed {`, New: `if as == Aborted {`,
		Breaks: "pending offsets end as their transaction did", By: []Tests{{"choreo/internal/producer", "TestLeftovers"}},
	},
	{
		Name: "a transaction that is being committed is taken for aborted", File: settleFile,
		Old: `case "PrepareCommit", "CompleteCommit":`, New: `case "CompleteCommit":`,
		Breaks: "pending offsets end as their transaction did", By: []Tests{{"choreo/internal/producer", "TestLastIs"}},
	},
	{
		Name: "what was committed before an aborted transaction is aborted with it", File: settleFile,
		Old: `if s.epoch >= l.last.Since {`, New: `if true {`,
		Breaks: "what is open in a partition ends as its transaction did", By: []Tests{{"choreo/internal/producer", "TestLeftovers"}},
	},
	{
		Name: "how the last transaction ended is asked again after a failure", File: settleFile,
		Old: "\t\tl.last = last\n", New: "\t\tdefer func() { l.last = Last{} }()\n\t\tl.last = last\n",
		Breaks: "what is open in a partition ends as its transaction did", By: []Tests{{"choreo/internal/producer", "TestLeftovers"}},
	},
	{
		Name: "what is put back comes after what came later", File: queueFile,
		Old: `	for _, r := range rs {
		q.push(r)
	}
	for _, r := range rest {
		q.push(r)
	}`,
		New: `	for _, r := range rest {
		q.push(r)
	}
	for _, r := range rs {
		q.push(r)
	}`,
		Breaks: "results are committed in the order of submission", By: pipeline("TestRule6|TestRule7"),
	},
	{
		Name: "a transaction takes more bytes than it may", File: queueFile,
		Old: `records > 0 && bytes > 0 {`, New: `records > 0 {`,
		Breaks: "transactions are bounded", By: pipeline("TestRule1"),
	},
	{
		Name: "a transaction takes more records than it may", File: queueFile,
		Old: `records > 0 && bytes > 0 {`, New: `bytes > 0 {`,
		Breaks: "transactions are bounded", By: pipeline("TestRule1"),
	},
	{
		Name: "several leaders are not announced", File: "choreo/internal/txn/spread.go",
		Old: `if !s.many {`, New: `if true {`,
		Breaks: "leaders do not wait for one another", By: pipeline("TestRule4"),
	},
	{
		Name: "an old transaction.version is accepted", File: "choreo/internal/txn/cluster.go",
		Old: `if level < 2 {`, New: `if level < 1 {`,
		Breaks: "transaction.version 2 is required", By: pipeline("TestRule9"),
	},
	{
		Name: "a transaction may take longer than the broker waits", File: sessionFile,
		Old: `d := s.p.deadline()`, New: `d := 20 * s.p.deadline()`,
		Breaks: "stages have a deadline below the transaction timeout", By: pipeline("TestRule5StagesHaveADeadline"),
	},
	{
		Name: "keys go to other partitions than Kafka's clients send them", File: "choreo/internal/txn/partition.go",
		Old: "r    = 24\n", New: "r    = 23\n",
		Breaks: "a flow's events meet on one partition number", By: pipeline("Partition|Murmur"),
	},
	{
		Name: "journal records go where their key says", File: "choreo/internal/txn/partition.go",
		Old: `if manual(topic) {`, New: `if false {`,
		Breaks: "a task writes its own journal partition", By: pipeline("TestManual"),
	},
}
