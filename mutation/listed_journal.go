package main

func journal(run string) []Tests { return []Tests{{"choreo/internal/journal", run}} }

const (
	storeFile  = "choreo/internal/journal/store.go"
	flowFile   = "choreo/internal/journal/flow.go"
	stateFile  = "choreo/internal/journal/committed.go"
	slotFile   = "choreo/internal/journal/slot.go"
	expiryFile = "choreo/internal/journal/expiry.go"
	formatFile = "choreo/internal/journal/codec.go"
)

var journalMutants = []Mutant{
	{
		Name: "runs are undone oldest first", File: flowFile,
		Old: `cmp.Compare(b.Seq, a.Seq)`, New: `cmp.Compare(a.Seq, b.Seq)`,
		Breaks: "runs are undone newest first", By: journal("TestRuns"),
	},
	{
		Name: "the key of a run leaves out half of its event", File: slotFile,
		Old: `AppendEncode(append(b, '/'), i.hash[:])`, New: `AppendEncode(append(b, '/'), i.hash[:8])`,
		Breaks: "each run has its own slot", By: journal("TestFormat|TestMemory"),
	},
	{
		Name: "a cancellation is kept under a state's key", File: slotFile,
		Old: `return append(append(b, wordCancelled...), name...)`, New: `return append(append(b, wordState...), name...)`,
		Breaks: "a restored step stays cancelled", By: journal("TestFormat|TestMemory"),
	},
	{
		Name: "memory dates a slot later than its record", File: slotFile,
		Old: `return binary.BigEndian.AppendUint32(append(b, flags), at)`, New: `return binary.BigEndian.AppendUint32(append(b, flags), at+1)`,
		Breaks: "memory and journal agree on when a slot was put", By: journal("TestFormat|TestMemory|TestExpiry"),
	},
	{
		Name: "uncommitted states are shown", File: stateFile,
		Old: `own = p.committed`, New: `own = s.peek(flow, i)`,
		Breaks: "Get reads as of the last commit", By: journal("TestCommitted"),
	},
	{
		Name: "a commit confirms later changes, too", File: stateFile,
		Old: `for len(p.versions) > 0 && p.versions[0].number <= c.version {`, New: `for len(p.versions) > 0 {`,
		Breaks: "Get reads as of the last commit", By: journal("TestCommitted"),
	},
	{
		Name: "an ended flow is dropped without grace", File: expiryFile,
		Old: `since(max(last, f.ended)) >= s.grace`, New: `since(max(last, f.ended)) >= 0`,
		Breaks: "state is dropped after a grace", By: journal("TestExpiry"),
	},
	{
		Name: "the grace counts from the outcome, not from the last change", File: expiryFile,
		Old: `since(max(last, f.ended)) >= s.grace`, New: `since(f.ended) >= s.grace`,
		Breaks: "a flow that is still touched is not dropped", By: journal("TestExpiry|TestAFlowTouched"),
	},
	{
		Name: "states go with their flow", File: expiryFile,
		Old: `return d.idle >= s.names.retain[i.name]`, New: `return d.rest`,
		Breaks: "each state is retained as declared", By: journal("TestExpiry"),
	},
	{
		Name: "a flow touched since it was found is dropped", File: expiryFile,
		Old: `		if due.slot(s, own.id()) {`, New: `		if true {`,
		Breaks: "only what has expired is dropped", By: journal("TestExpiry|TestAFlowTouched"),
	},
	{
		Name: "records under earlier names stay behind", File: eraseFile,
		Old: `for _, earlier := range s.names.earlier(i) {`, New: `for _, earlier := range s.names.earlier(i)[:0] {`,
		Breaks: "a dropped or erased flow does not come back at the next restore", By: journal("TestFormerly|TestErase"),
	},
	{
		Name: "unknown slots are passed over", File: storeFile,
		Old: `return &UnknownSlotError{Place: where()}`, New: `return nil`,
		Breaks: "what cannot be read stops the task", By: journal("TestWhat"),
	},
	{
		Name: "slots of steps no longer declared are passed over", File: storeFile,
		Old: `return &UnknownNameError{Place: where(), Kind: kind, Name: rest}`, New: `return nil`,
		Breaks: "a slot of an unknown step stops the task", By: journal("TestWhat"),
	},
	{
		Name: "newer formats are read as the present one", File: storeFile,
		Old: `case value[0] > version:`, New: `case false:`,
		Breaks: "what cannot be read stops the task", By: journal("TestWhat"),
	},
	{
		Name: "what follows a value is passed over", File: storeFile,
		Old: `if r.bad || len(r.rest) > 0 {`, New: `if r.bad {`,
		Breaks: "damage is found", By: journal("TestDamage|TestWhat"),
	},
	{
		Name: "an unreadable record stays a fault after a readable one", File: storeFile,
		Old: `delete(s.faults, string(rec.Key))`, New: `_ = rec`,
		Breaks: "the outcome does not depend on compaction", By: journal("TestAReadable"),
	},
	{
		Name: "a deletion in the journal deletes nothing", File: storeFile,
		Old: "\t\t\ts.remove(f, i)\n", New: "\t\t\t_ = f\n",
		Breaks: "memory is the fold of the records", By: journal("TestMemory"),
	},
	{
		Name: "run numbers begin anew after a restore", File: storeFile,
		Old: `s.seq = max(s.seq, seq)`, New: `_ = seq`,
		Breaks: "runs are undone newest first, also after a restart", By: journal("TestRuns|TestMemory"),
	},
	{
		Name: "a second trigger replaces the first", File: flowFile,
		Old: `all = readCancelled(own.body(), s.table.texts)`, New: `_ = own`,
		Breaks: "a cancelled step remembers all its triggers", By: journal("TestMemory|TestWhatIsPut"),
	},
	{
		Name: "a state forgets which events changed it", File: flowFile,
		Old: `applied, _ = readState(own.body())
	}
	n := `,
		New: `_ = own
	}
	n := `,
		Breaks: "an event changes a state once", By: journal("TestMemory|TestWhatIsPut"),
	},
	{
		Name: "what is taken back stays", File: flowFile,
		Old: `case c.before != "":`, New: `case false:`,
		Breaks: "impossible results leave no trace", By: journal("TestRevert"),
	},
	{
		Name: "a record too large for the journal is put", File: flowFile,
		Old: `if len(b) > s.maxRecord && !s.mayExceed(string(b[:flow]), i) {`, New: `if len(b) > 2*s.maxRecord {`,
		Breaks: "no record fails its transaction again and again", By: journal("TestTooLarge"),
	},
	{
		Name: "source and id are hashed without a border", File: "choreo/internal/journal/event.go",
		Old: "\ttext = append(text, 0)\n", New: "",
		Breaks: "two events never share a hash", By: journal(""),
	},
	{
		Name: "empty data is journalled as none", File: formatFile,
		Old: `if e.Data == nil {`, New: `if len(e.Data) == 0 {`,
		Breaks: "payloads are the original bytes", By: journal("TestMemory|TestFormat"),
	},
	{
		Name: "answers are not remembered", File: formatFile,
		Old: `return append(b, flag(t.Answered))`, New: `return append(b, flag(false))`,
		Breaks: "every trigger is answered once", By: journal("TestMemory|TestFormat"),
	},
	{
		Name: "flow state takes any memory", File: "choreo/run.go",
		Old: `return e.journalBytes.Load() >= e.cfg.MaxJournalBytes`, New: `return false`,
		Breaks: "memory is bounded, and readiness tells", By: runtime("TestAtTheBoundOfFlowState"),
	},
	{
		Name: "reading goes on at the bound of flow state", File: "choreo/run.go",
		Old: "\te.room.Closed = e.journalFull\n", New: "",
		Breaks: "memory is bounded", By: runtime("TestAtTheBoundOfFlowState"),
	},
	{
		Name: "reading does not go on when flows have expired", File: "choreo/run.go",
		Old: "\t\te.room.Changed()\n", New: "",
		Breaks: "at the bound of memory nothing is stuck", By: runtime("TestAtTheBoundOfFlowState"),
	},
}
