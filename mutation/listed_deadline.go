package main

const (
	deadlineFile  = "choreo/deadline.go"
	lapseFile     = "choreo/lapse.go"
	deadlineSlots = "choreo/internal/journal/deadline.go"
	deadlineTests = "Deadline|Overdue|TheAgendaForgets"
)

var deadlineMutants = []Mutant{
	{
		Name: "a further event sets a deadline anew", File: deadlineFile,
		Old: `if r.store().DeadlineStatus(r.flow, s.deadline) != 0 {`, New: `if r.store().DeadlineStatus(r.flow, s.deadline) > 1 {`,
		Breaks: "the first event sets a deadline", By: runtime(deadlineTests),
	},
	{
		Name: "a deadline that is met is set nevertheless", File: deadlineFile,
		Old: `if r.store().DeadlineStatus(r.flow, s.deadline) != 0 {`, New: `if r.store().DeadlineStatus(r.flow, s.deadline) == journal.Pending {`,
		Breaks: "what meets a deadline may be heard first", By: runtime(deadlineTests),
	},
	{
		Name: "a deadline cannot be met before it is set", File: deadlineFile,
		Old: `was == 0 || was == journal.Pending {`, New: `was == journal.Pending {`,
		Breaks: "what meets a deadline may be heard first", By: runtime(deadlineTests),
	},
	{
		Name: "a deadline that has fired is met afterwards", File: deadlineFile,
		Old: `was == 0 || was == journal.Pending {`, New: `was != journal.Met {`,
		Breaks: "a deadline fires or is met, never both", By: runtime(deadlineTests),
	},
	{
		Name: "a time that is none is taken", File: deadlineFile,
		Old: `err == nil {
		err = checkWithin(within)
	}`, New: `err != nil {
		err = checkWithin(within)
	}`,
		Breaks: "a time that is none shows as a dead letter", By: runtime(deadlineTests),
	},
	{
		Name: "a deadline is forgotten by the agenda", File: deadlineFile,
		Old: `o.deadlines.Add(c.Flow(), o.remaining(d))`, New: `_ = o.remaining(d)`,
		Breaks: "a deadline fires", By: runtime(deadlineTests),
	},
	{
		Name: "deadlines hear an event in the order of declarations", File: "choreo/plan.go",
		Old: "\t\th.deadlinesFirst()\n", New: "\t\t_ = h.deadlinesFirst\n",
		Breaks: "failures of other handlers do not delay deadlines", By: runtime("TestADeadline"),
	},
	{
		Name: "a deadline fires before its time", File: lapseFile,
		Old: `x.e.stopping.Load() || x.o.remaining(d) > 0 {`, New: `x.e.stopping.Load() || x.o.remaining(d) > 24*time.Hour {`,
		Breaks: "no deadline fires early", By: runtime(deadlineTests),
	},
	{
		Name: "a deadline is set by what the wall clock shows by now", File: deadlineFile,
		Old: `Set: o.clock.wall(r.now()).Add`, New: `Set: r.now().Add`,
		Breaks: "setting the wall clock moves no deadline of a running process", By: runtime("TestTheWallClockMay"),
	},
	{
		Name: "a fraction of a millisecond is cut off", File: deadlineFile,
		Old: `Add(time.Millisecond - 1).Truncate(time.Millisecond), Within`, New: `Truncate(time.Millisecond), Within`,
		Breaks: "no deadline fires early", By: runtime(deadlineTests),
	},
	{
		Name: "a deadline that has fired stays pending", File: lapseFile,
		Old: `r.changes = append(r.changes, r.store().Fired(r.flow, s.deadline, r.now()))`, New: `_ = r.store().Fired(r.flow, s.deadline, r.now())`,
		Breaks: "a deadline fires once", By: runtime(deadlineTests),
	},
	{
		Name: "what is parked has not followed", File: lapseFile,
		Old: `if s.follows(r) || `, New: `if s.follows(r) && false || `,
		Breaks: "what was heard meets a deadline", By: runtime(deadlineTests),
	},
	{
		Name: "a deadline that fails is not repeated", File: lapseFile,
		Old: "\to.deadlines.Add(r.flow, wait)\n", New: "",
		Breaks: "a deadline is repeated until it succeeds", By: runtime(deadlineTests),
	},
	{
		Name: "a deadline that is met shows as failing", File: deadlineFile,
		Old: "\tr.in.owned.late.forget(r.flow, d.deadline)\n", New: "",
		Breaks: "what is shown as failing fails", By: runtime(deadlineTests),
	},
	{
		Name: "pending deadlines are not recalled", File: lapseFile,
		Old: `o.deadlines.Add(flow, time.Until(o.clock.local(set.Add(within))))`, New: `_ = time.Until(o.clock.local(set.Add(within)))`,
		Breaks: "deadlines outlive the process", By: runtime(deadlineTests),
	},
	{
		Name: "a clock that was set back puts deadlines off", File: lapseFile,
		Old: `{ o.clock.notBefore(set) })`, New: `{ _ = o.clock.notBefore })`,
		Breaks: "a deadline fires no later than its whole time after a restart", By: runtime(deadlineTests),
	},
	{
		Name: "overdue deadlines take all handlers", File: lapseFile,
		Old: `mostQueued: max(1, c.MaxHandlers/4),`, New: `mostQueued: max(1, c.MaxHandlers),`,
		Breaks: "deadlines leave room for records", By: runtime(deadlineTests),
	},
	{
		Name: "deadlines under way are not bounded", File: lapseFile,
		Old: `if n := min(most, l.mostQueued-l.queued, l.mostUnsettled-l.unsettled); n > 0 {`, New: `if n := min(most, l.mostQueued-l.queued); n > 0 {`,
		Breaks: "deadlines leave room for records", By: runtime(deadlineTests),
	},
	{
		Name: "what has fired gives its room back never", File: "choreo/work.go",
		Old: "\t\tr.e.lapses.settled()\n", New: "",
		Breaks: "all deadlines fire", By: runtime(deadlineTests),
	},
	{
		Name: "the time of a deadline that is met stays", File: lapseFile,
		Old: `o.deadlines.Sweep(o.store.IsPending)`, New: `_ = o.store.IsPending`,
		Breaks: "deadlines that are met leave nothing behind", By: runtime(deadlineTests),
	},
	{
		Name: "what the broker refuses is sent again and again", File: lapseFile,
		Old: `if err := r.refused(s.emit, s.deadline, kindExpired, 0); err != nil {`, New: `if err := r.refused(s.emit, s.deadline, kindExpired, 1); err != nil {`,
		Breaks: "a deadline whose event is too large stops nothing else", By: runtime(deadlineTests),
	},
	{
		Name: "what a deadline says begins a trace of its own", File: deadlineFile,
		Old: "\td.TraceParent, d.TraceState = passOn(&r.event)\n", New: "",
		Breaks: "what a deadline says belongs to the flow's trace", By: runtime(deadlineTests),
	},
	{
		Name: "a flow is dropped while a deadline is pending", File: "choreo/internal/journal/expiry.go",
		Old: "\t\tif own.pendingDeadline() {\n", New: "\t\tif own.pendingDeadline() && false {\n",
		Breaks: "a flow is kept while a deadline of it is pending", By: journalled("Deadline"),
	},
	{
		Name: "a wait of any length is read", File: deadlineSlots,
		Old: `b = binary.AppendUvarint(b, r.limit(maxWait))`, New: `b = binary.AppendUvarint(b, r.uvarint())`,
		Breaks: "a damaged journal stops its task", By: journalled("TestWhatCannotBeRead"),
	},
	{
		Name: "a deadline that is met keeps its event", File: deadlineSlots,
		Old: "\tif d.Status != Pending {\n\t\treturn b\n\t}\n", New: "",
		Breaks: "the journal's format", By: journalled("TestFormat|TestMemory"),
	},
}
