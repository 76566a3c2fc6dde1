package main

func runtime(run string) []Tests { return []Tests{{"choreo", run}} }

const (
	barrierFile = "choreo/barrier.go"
	workFile    = "choreo/work.go"
	sayFile     = "choreo/say.go"
	engineFile  = "choreo/engine.go"
	applyFile   = "choreo/apply.go"
)

var barrierMutants = []Mutant{
	{
		Name: "a cancelled step runs", File: barrierFile,
		Old: "cancelled {\n\t\treturn s.skip(r)", New: "false && cancelled {\n\t\treturn s.skip(r)",
		Breaks: "barrier case 3: after its cancellation a step does not run", By: runtime("TestBarrier|TestTheRuntime"),
	},
	{
		Name: "what an attempt did that was lost before the cancellation is left", File: barrierFile,
		Old: "\t\tif s.unknown == nil {\n\t\t\treturn done", New: "\t\tif true {\n\t\t\treturn done",
		Breaks: "no effect is left of a step that says it was cancelled", By: runtime("TestBarrier"),
	},
	{
		Name: "Unknown is given up for an event of a cancelled step", File: barrierFile,
		Old: "\t\t\treturn s.undoFailed(r, err)\n\t\t}\n\t}\n\tr.e.stuck.remove(r)", New: "\t\t\treturn done\n\t\t}\n\t}\n\tr.e.stuck.remove(r)",
		Breaks: "a compensation is repeated until it succeeds", By: runtime("TestBarrier"),
	},
	{
		Name: "a trigger that comes twice is answered twice", File: barrierFile,
		Old: "cancelled {\n\t\tm.duplicates.Inc()", New: "false && cancelled {\n\t\tm.duplicates.Inc()",
		Breaks: "barrier case 1: every trigger is answered once", By: runtime("TestBarrier|TestTheRuntime"),
	},
	{
		Name: "an event that comes twice runs its step twice", File: barrierFile,
		Old: "if ran {\n\t\tif r.replay", New: "if false && ran {\n\t\tif r.replay",
		Breaks: "a step runs once per event", By: runtime("TestBarrier|TestTheRuntime"),
	},
	{
		Name: "a step that never ran is not kept cancelled", File: barrierFile,
		Old:    "\tr.journal(s.step)(r.store().PutCancelled(",
		New:    "\tif !r.answered {\n\t\treturn done\n\t}\n\tr.journal(s.step)(r.store().PutCancelled(",
		Breaks: "barrier case 2 and 3: a cancelled step stays cancelled", By: runtime("TestBarrier|TestTheRuntime"),
	},
	{
		Name: "a pivot is undone", File: barrierFile,
		Old: `if s.pivot && (`, New: `if false && (`,
		Breaks: "a pivot that ran has answered", By: runtime("TestBarrier|TestTheRuntime"),
	},
	{
		Name: "only the newest run is undone", File: barrierFile,
		Old: `r.undoing, r.attempt, r.began = r.undoing[1:], 0`, New: `r.undoing, r.attempt, r.began = nil, 0`,
		Breaks: "barrier case 5: all runs are undone", By: runtime("TestBarrier|TestTheRuntime"),
	},
	{
		Name: "Cancel's event is said after an undo, too", File: barrierFile,
		Old: `if !r.answered && s.trigger.cancel != nil {`, New: `if s.trigger.cancel != nil {`,
		Breaks: "every trigger is answered once", By: runtime("TestBarrier|TestTheRuntime"),
	},
	{
		Name: "Cancel's event is never said", File: barrierFile,
		Old: `if !r.answered && s.trigger.cancel != nil {`, New: `if false {`,
		Breaks: "barrier case 2: a step that never ran answers", By: runtime("TestBarrier|TestTheRuntime"),
	},
	{
		Name: "Unknown does not run for what was given up", File: barrierFile,
		Old: `&& x.Attempts > 0 && s.unknown != nil:`, New: `&& x.Attempts > 0 && s.unknown != nil && false:`,
		Breaks: "what may have happened is undone", By: runtime("TestBarrier|TestTheRuntime"),
	},
	{
		Name: "a trigger that only cancels undoes a run", File: barrierFile,
		Old: `if x.Status == journal.Did && !s.trigger.undoes {`, New: `if false {`,
		Breaks: "a cancellation leaves alone what ran", By: runtime("TestBarrier|TestTheRuntime"),
	},
	{
		Name: "a compensation of a forgotten flow cancels", File: barrierFile,
		Old: `if len(runs) == 0 && r.forgotten() {`, New: `if len(runs) < 0 {`,
		Breaks: "a compensation that comes too late is a dead letter", By: runtime(""),
	},
	{
		Name: "a compensation that fails is given up", File: barrierFile,
		Old: "\treturn v\n}\n\n// answer says", New: "\treturn done\n}\n\n// answer says",
		Breaks: "compensations are repeated until they succeed", By: runtime("TestBarrier|TestTheRuntime|TestRetries|TestMeta"),
	},
	{
		Name: "a compensation that is rejected is taken for done", File: barrierFile,
		Old: "\t\t\terr = s.undoNewest(r)\n", New: "\t\t\tif err = s.undoNewest(r); rejected(err) {\n\t\t\t\terr = nil\n\t\t\t}\n",
		Breaks: "compensations are repeated until they succeed", By: runtime("TestAnUndoThatRejects"),
	},
	{
		Name: "a compensation that is rejected fails as any other", File: barrierFile,
		Old: "ok {\n\t\terr = fmt.Errorf(\"a compensation must", New: "ok && false {\n\t\terr = fmt.Errorf(\"a compensation must",
		Breaks: "a mistake of its programmer is told", By: runtime("TestAnUndoThatRejects"),
	},
	{
		Name: "an outage is taken for a rejection", File: barrierFile,
		Old: "\tif v, ok := r.again(s.policy.retry, err, false); ok {\n", New: "\tif v, ok := r.again(s.policy.retry, err, false); false && ok {\n",
		Breaks: "failures are retried", By: runtime("TestBarrier|TestTheRuntime|TestRetries"),
	},
	{
		Name: "one attempt too many", File: workFile,
		Old: `if r.attempt >= p.Attempts ||`, New: `if r.attempt > p.Attempts ||`,
		Breaks: "attempts are bounded as declared", By: runtime("TestTheRuntime|TestUsedUp"),
	},
	{
		Name: "a run works on though its task is gone", File: workFile,
		Old: `		if !r.in.owned.inc.Standing() {`, New: `		if false {`,
		Breaks: "no handler starts for a task that is gone", By: runtime("TestARun"),
	},
	{
		Name: "a run waits on though its task is gone", File: workFile,
		Old: "\t\t\tr.wakeWhenLost()\n", New: "",
		Breaks: "the next owner's events do not wait behind the last one's", By: runtime("TestARun"),
	},
	{
		Name: "what was not committed is shown as committed", File: workFile,
		Old: "\tif !committed {\n", New: "\tif false && !committed {\n",
		Breaks: "Get and Await see committed changes only", By: runtime("TestOnlyWhatIsCommitted"),
	},
	{
		Name: "journal records are written to another task's partition", File: workFile,
		Old: `c.Record(r.e.names.journal, r.in.owned.partition, r.at)`, New: `c.Record(r.e.names.journal, (r.in.owned.partition+1)%r.e.plan.tasks, r.at)`,
		Breaks: "a task restores what it wrote", By: runtime("TestStateIsRead|TestStopAndRun|TestBarrier"),
	},
	{
		Name: "ids do not depend on the causing event", File: sayFile,
		Old: `derive(r.cause(), r.e.plan.service, step, number, kind, "/", d.Type)`, New: `derive(journal.Hash{}, r.e.plan.service, step, number, kind, "/", d.Type)`,
		Breaks: "two runs never say the same event", By: runtime("TestReaction|TestHeaders|TestTheRuntime|TestBarrier"),
	},
	{
		Name: "ids do not depend on the step", File: sayFile,
		Old: `derive(r.cause(), r.e.plan.service, step, number, kind, "/", d.Type)`, New: `derive(r.cause(), r.e.plan.service, "", number, kind, "/", d.Type)`,
		Breaks: "two steps never say the same event", By: runtime("TestReaction|TestHeaders|TestSeveral"),
	},
	{
		Name: "several events of one run have one id", File: sayFile,
		Old: `derive(r.cause(), r.e.plan.service, step, number, kind, "/", d.Type)`, New: `derive(r.cause(), r.e.plan.service, step, 0, kind, "/", d.Type)`,
		Breaks: "a run's events are told apart", By: runtime("TestReaction|TestBarrier"),
	},
	{
		Name: "the cause told is the cause's cause", File: sayFile,
		Old: `CausationID:     r.event.ID,`, New: `CausationID:     r.event.CausationID,`,
		Breaks: "causation ids tell what caused an event", By: runtime("TestHeaders|TestReaction|TestBarrier"),
	},
	{
		Name: "the flow told is the causing event's id", File: sayFile,
		Old: `CorrelationID:   r.flow,`, New: `CorrelationID:   r.event.ID,`,
		Breaks: "correlation ids name the flow", By: runtime("TestHeaders|TestReaction|TestBarrier"),
	},
	{
		Name: "hops are not counted", File: sayFile,
		Old: `r.event.Hops + 1,`, New: `r.event.Hops,`,
		Breaks: "cycles end", By: runtime("TestHeaders|TestBadInput|TestReaction"),
	},
	{
		Name: "events go round for ever", File: engineFile,
		Old: `if ev.Hops < maxHops {`, New: `if true {`,
		Breaks: "cycles end", By: runtime("TestBadInput"),
	},
	{
		Name: "an event of another task's flow is worked on here", File: engineFile,
		Old: `home != in.owned.partition {`, New: `false && home != in.owned.partition {`,
		Breaks: "a flow's events meet at its task", By: runtime("TestForeignKeys"),
	},
	{
		Name: "a truncated log is read on", File: engineFile,
		Old: `if rec.Offset < next {`, New: `if false {`,
		Breaks: "lost events are said", By: runtime("TestATruncated"),
	},
	{
		Name: "a record's room is never bounded", File: "choreo/internal/room/room.go",
		Old: `if r.records > 0 && (`, New: `if false && (`,
		Breaks: "what is in flight is bounded", By: []Tests{{"choreo/internal/room", ""}},
	},
	{
		Name: "an event changes a state twice", File: applyFile,
		Old: `if r.store().Applied(r.flow, s.state, r.hash) {`, New: `if false && r.store().Applied(r.flow, s.state, r.hash) {`,
		Breaks: "an event changes a state once", By: runtime("TestState|TestTheRuntime"),
	},
	{
		Name: "a Reaction that runs once runs twice", File: applyFile,
		Old: `r.seenBy(s.reaction)); seen {`, New: `r.seenBy(s.reaction)); false && seen {`,
		Breaks: "Once means once", By: runtime("TestReactionOnce"),
	},
	{
		Name: "an idempotency key publishes twice", File: "choreo/inbox.go",
		Old: `data, seen := r.store().Seen(r.flow, id); seen {`, New: `data, seen := r.store().Seen(r.flow, id); false && seen {`,
		Breaks: "an idempotency key publishes once", By: runtime("TestPublish"),
	},
	{
		Name: "a forwarded event loses its flow's key", File: "choreo/inbox.go",
		Old: `Partition: home, Key: []byte(flow), Value: rec.Value,`, New: `Partition: home, Key: rec.Key, Value: rec.Value,`,
		Breaks: "a flow's events meet at its task", By: runtime("TestForeignKeys"),
	},
	{
		Name: "a dead letter loses its key", File: "choreo/deadletter.go",
		Old: `Key: rec.Key, Value: rec.Value, Headers`, New: `Value: rec.Value, Headers`,
		Breaks: "dead letters keep what they were", By: runtime("TestBadInput|TestUsedUp"),
	},
}
