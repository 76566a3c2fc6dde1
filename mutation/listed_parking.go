package main

const (
	parkingFile  = "choreo/parking.go"
	parkedFile   = "choreo/internal/journal/parked.go"
	agendaFile   = "choreo/internal/agenda/agenda.go"
	heldFile     = "choreo/held.go"
	backoffTests = "TestWaitsDouble"
	heldTests    = "TestTheOrderIsKept|TestWakeUpsDo|TestWhatIsHeld|TestADeadlineIsMetByWhat|TestNothing|TestACompensation|AtTheBound"
	parkingTests = "Park|Case4|TestAttemptsAre|TestAtTheBound|TestAnUndo|TestTheOrder|TestWhatIsToo|TestNextAttempts|TestTheBudget|TestAQueue|TestWhatIsLeft"
)

var parkedReplays = runtime("TestReplay|Case4")

func journalled(run string) []Tests { return []Tests{{"choreo/internal/journal", run}} }

var parkingMutants = []Mutant{
	{
		Name: "a compensation that was queued waits behind the attempts", File: parkingFile,
		Old: `if r := e.promote(o, key, p); r != nil {`, New: `if r := e.promote(o, key, p); r != nil && p.At == "" {`,
		Breaks: "barrier case 4: a trigger overtakes parked attempts", By: runtime("TestBarrierCase4"),
	},
	{
		Name: "a compensation that was queued waits for the next attempt after a restart", File: parkingFile,
		Old: `len(s.triggers) > 0 && behind > 0 {`, New: `len(s.triggers) > 0 && behind < 0 {`,
		Breaks: "barrier case 4: a trigger overtakes parked attempts", By: runtime("TestBarrierCase4"),
	},
	{
		Name: "a compensation that was queued waits behind a run that is tried alone", File: parkingFile,
		Old: `len(s.triggers) == 0 || o.store`, New: `len(s.triggers) == 0 || head.Alone || o.store`,
		Breaks: "barrier case 4: a trigger overtakes parked attempts", By: runtime("TestBarrierCase4"),
	},
	{
		Name: "a compensation forgets the attempts at another step", File: parkedFile,
		Old: "\tif _, tried := s.retryOf(flow, seq); tried {\n", New: "\tif _, tried := s.retryOf(flow, seq); tried || true {\n",
		Breaks: "attempts are those of their event", By: append(runtime("TestACompensationLeaves"), journalled("")...),
	},
	{
		Name: "an event passes those that are parked before it", File: parkingFile,
		Old: `!r.hears.passes && (r.store()`, New: `!r.hears.passes && false && (r.store()`,
		Breaks: "the order of a key is kept", By: runtime(parkingTests),
	},
	{
		Name: "an event is never parked", File: parkingFile,
		Old: `if f == nil || f.inPlace && !r.resumed() && (r.place == nil || !r.place.ahead) {`, New: `if !r.resumed() {`,
		Breaks: "a failing flow delays no other", By: runtime(parkingTests),
	},
	{
		Name: "there is no bound of a flow", File: parkingFile,
		Old: `o.store.Waiting(key) < e.cfg.MaxParkedPerFlow &&`, New: ``,
		Breaks: "what is parked is bounded", By: runtime(parkingTests),
	},
	{
		Name: "there is no bound of a task", File: parkingFile,
		Old: ` && o.store.Parked() < most`, New: ``,
		Breaks: "what is parked is bounded", By: runtime(parkingTests),
	},
	{
		Name: "attempts are counted anew after each", File: parkingFile,
		Old: `r.key, r.attempt, r.answered = key, int(t.Attempts), p.Answered`, New: `r.key, r.attempt, r.answered = key, 0, p.Answered`,
		Breaks: "a parked event's attempts are bounded", By: runtime(parkingTests),
	},
	{
		Name: "attempts are counted anew after a restart", File: parkingFile,
		Old: "func (e *engine) recall(o *owned) {\n", New: `func (e *engine) recall(o *owned) {
	var keys []string
	o.store.Heads(func(key, _ string, _ int, _ time.Time) { keys = append(keys, key) })
	for _, key := range keys {
		head, _, _ := o.store.Head(key)
		_ = o.store.DropRetry(key, head.Seq)
	}
`,
		Breaks: "attempts are counted on when the process is killed", By: runtime("TestAttemptsAreCountedOnOverAKill"),
	},
	{
		Name: "the time for attempts begins anew", File: parkingFile,
		Old: `r.began = c.local(t.Began)`, New: `r.began = time.Now()`,
		Breaks: "the time for attempts is counted on", By: runtime(parkingTests),
	},
	{
		Name: "handlers that are done have an event again", File: parkingFile,
		Old: `case !p.Alone && !slices.Contains(p.Done, name):`, New: `case !p.Alone:`,
		Breaks: "each handler has an event once", By: runtime(parkingTests),
	},
	{
		Name: "a compensation waits behind the attempts that it cancels", File: parkingFile,
		Old: "\t_, is := s.runOf(r, parked[0])\n\treturn is\n", New: "\t_, is := s.runOf(r, parked[0])\n\treturn is && false\n",
		Breaks: "barrier case 4: a trigger overtakes parked attempts", By: runtime(parkingTests),
	},
	{
		Name: "a compensation overtakes for all its handlers", File: heldFile,
		Old: `return r.replay != nil || len(`, New: `return true || len(`,
		Breaks: "other handlers have the trigger in its place", By: runtime(parkingTests),
	},
	{
		Name: "what came of parked attempts is not found out", File: barrierFile,
		Old: `interrupted && s.unknown != nil && (!ran || x`, New: `false && interrupted && (!ran || x`,
		Breaks: "barrier case 4: Unknown runs if an attempt was made", By: runtime(parkingTests),
	},
	{
		Name: "what came of parked attempts is found out again and again", File: barrierFile,
		Old: `interrupted && s.unknown != nil && (!ran || x`, New: `interrupted && s.unknown != nil && (true || !ran || x`,
		Breaks: "what is undone is not undone again", By: runtime(parkingTests),
	},
	{
		Name: "a compensation that failed waits behind what it overtook", File: parkedFile,
		Old: `len(q) > 0 && p.Alone {`, New: `len(q) > 0 && false {`,
		Breaks: "barrier case 4: there is no further attempt", By: runtime(parkingTests),
	},
	{
		Name: "an event stays parked when it is done", File: parkingFile,
		Old: `r.changes = append(r.changes, r.store().Unpark(r.key, r.place.seq)...)`, New: `_ = r.store().Unpark(r.key, r.place.seq)`,
		Breaks: "what is done is not done again after a restart", By: runtime(parkingTests),
	},
	{
		Name: "a restored queue is left to itself", File: parkingFile,
		Old: `o.agenda.Add(key, o.until(key, next))`, New: `o.until(key, next)`,
		Breaks: "what is parked goes on after a restart", By: runtime(parkingTests),
	},
	{
		Name: "waits do not grow from one attempt to the next", File: workFile,
		Old: `i < r.attempt && wait < p.Max`, New: `i < min(r.attempt, 1) && wait < p.Max`,
		Breaks: "attempts at what fails become fewer", By: runtime(backoffTests),
	},
	{
		Name: "waits have no jitter", File: workFile,
		Old: `rand.Int64N(int64(wait) + 1)`, New: `int64(wait) + rand.Int64N(1)`,
		Breaks: "flows which failed together do not return together", By: runtime(backoffTests),
	},
	{
		Name: "waits grow beyond the longest", File: workFile,
		Old: `wait = min(wait, p.Max)`, New: `wait = min(wait, 2*p.Max)`,
		Breaks: "no wait is longer than Retry.Max", By: runtime(backoffTests),
	},
	{
		Name: "a next attempt is awaited however late the clock says it is", File: parkingFile,
		Old: `if o.until(key, next) > longest {`, New: `if false {`,
		Breaks: "a jump of the clock holds up nothing", By: runtime(parkingTests),
	},
	{
		Name: "a next attempt is noted by what the wall clock shows by now", File: parkingFile,
		Old: `Next: o.clock.wall(time.Now().Add(wait))`, New: `Next: time.Now().Add(wait)`,
		Breaks: "setting the wall clock moves no attempt of a running process", By: runtime("TestTheWallClockMay"),
	},
	{
		Name: "what was awaited too long is never awaited again", File: parkingFile,
		Old: `ok && x.said.Equal(next) {`, New: `ok {`,
		Breaks: "there is a wait between two attempts", By: runtime(parkingTests),
	},
	{
		Name: "what cannot be parked takes all of the room", File: engineFile,
		Old: `(in.owned.held.Load() == 0 || `, New: `(true || `,
		Breaks: "at the bound of a task the others go on", By: runtime(parkingTests),
	},
	{
		Name: "a step runs in the queue of another key", File: parkingFile,
		Old: `if r.key != r.flow { // nothing`, New: `if false { // nothing`,
		Breaks: "what a flow's journal knows lies in its own task", By: runtime(parkingTests + "|TestAStepDoesNot"),
	},
	{
		Name: "the age of what is parked is not told", File: parkedFile,
		Old: `s.parkedAt.add(own.at(), n)`, New: ``,
		Breaks: "what is parked shows", By: journalled(""),
	},
	{
		Name: "a queue that is full stays so", File: parkedFile,
		Old: `s.full--`, New: ``,
		Breaks: "a service is ready again when it can park again", By: journalled(""),
	},
	{
		Name: "an attempt counts for whatever event is the head", File: parkedFile,
		Old: `r := readRetry(own.body()); r.Seq == seq {`, New: `r := readRetry(own.body()); true {`,
		Breaks: "attempts are those of their event", By: journalled(""),
	},
	{
		Name: "a flow expires though an event of it is parked", File: "choreo/internal/journal/expiry.go",
		Old: `if len(s.queues) > 0 && s.queues[f] > 0 {`, New: `if false {`,
		Breaks: "what a parked event needs is kept", By: journalled(""),
	},
	{
		Name: "what is parked at an unknown handler is restored", File: "choreo/internal/journal/store.go",
		Old: `unknown := s.names.unknownHandler(rec.Value); unknown {`, New: `unknown := s.names.unknownHandler(rec.Value); false && unknown {`,
		Breaks: "nothing that cannot be worked on is dropped", By: journalled(""),
	},
	{
		Name: "a compensation that is parked does not count as stuck", File: parkedFile,
		Old: "\t\t\ts.undo += n\n", New: "\t\t\t_ = n\n",
		Breaks: "stuck compensations show, over restarts", By: runtime(parkingTests),
	},
	{
		Name: "a replay that is parked goes on as the event of all handlers", File: parkingFile,
		Old: "if e.isReplay(p.Record) {\n", New: "if false {\n",
		Breaks: "a letter is replayed for the handler that it names alone, and is marked", By: parkedReplays,
	},
	{
		Name: "a parked event passes for a replay by its headers", File: replaysFile,
		Old: "rec.Topic == e.names.inbox && header", New: "header",
		Breaks: "headers of events are not taken for the inbox's own", By: parkedReplays,
	},
	{
		Name: "what a replay has come to is forgotten when it is parked", File: replaysFile,
		Old: ", failed: p.Failed, cancelled: p.Cancelled}", New: "}",
		Breaks: "the mark says what became of the letter", By: parkedReplays,
	},
	{
		Name: "a replay that waited does not ask whether it is a repetition", File: replaysFile,
		Old: "if p.At == \"\" {\n", New: "if false {\n",
		Breaks: "replaying a letter twice has the effect of once", By: parkedReplays,
	},
	{
		Name: "what came of a replay's parked attempts is not found out", File: barrierFile,
		Old: `(!ran || x.Status == journal.Dead) {`, New: `(!ran || false && x.Status == journal.Dead) {`,
		Breaks: "barrier case 4: Unknown runs if an attempt was made", By: parkedReplays,
	},
	{
		Name: "what a replay's lost attempt did is left when its step is cancelled", File: barrierFile,
		Old: `ran && (r.replay == nil || x.Status != journal.Dead) {`, New: `ran && (true || x.Status != journal.Dead) {`,
		Breaks: "no effect is left of a step that says it was cancelled", By: parkedReplays,
	},
	{
		Name: "a replayed compensation that was queued waits behind the attempts", File: parkingFile,
		Old: `slices.Contains(p.Done, s.step), e.unsayable`, New: `slices.Contains(p.Done, s.step), e.isReplay(p.Record), e.unsayable`,
		Breaks: "barrier case 4: a trigger overtakes parked attempts", By: parkedReplays,
	},
	{
		Name: "a replayed compensation that went first stays in the queue", File: parkingFile,
		Old: `r.changes = append(r.changes, o.store.Unpark(key, p.Seq)...)`, New: `_ = p.Seq`,
		Breaks: "replaying a letter has the effect of once", By: parkedReplays,
	},
	{
		Name: "a replay for all handlers overtakes", File: parkingFile,
		Old: `if r.replay != nil && r.replay.Step == "" {`, New: `if false {`,
		Breaks: "other handlers have the trigger in its place", By: parkedReplays,
	},
	{
		Name: "a replayed compensation is marked twice", File: heldFile,
		Old: `return r.replay != nil || len(`, New: `return len(`,
		Breaks: "what became of a letter lies behind it once", By: parkedReplays,
	},
	{
		Name: "what is held is not held for a task that is lost", File: heldFile,
		Old: "\tif x.closed {\n\t\treturn false\n\t}\n\tk :=", New: "\tk :=",
		Breaks: "what a lost task has in memory gives its room back", By: runtime(heldTests),
	},
	{
		Name: "what is held stays when the task is lost", File: engineFile,
		Old: "\t\to.overflow.close()\n", New: "",
		Breaks: "what a lost task has in memory gives its room back", By: runtime(heldTests),
	},
	{
		Name: "an event passes those that are held", File: parkingFile,
		Old: `(r.store().Waiting(r.key) > 0 || r.in.owned.holds(r.key))`, New: `r.store().Waiting(r.key) > 0`,
		Breaks: "the order of a key is kept", By: runtime(heldTests),
	},
	{
		Name: "an event is queued before those that are held", File: parkingFile,
		Old: `!r.in.owned.holds(r.key) && r.e.mayPark(`, New: `r.e.mayPark(`,
		Breaks: "the order of a key is kept", By: runtime(heldTests),
	},
	{
		Name: "nobody looks whether others have made room", File: heldFile,
		Old: `	if name, must := o.overflow.mustLook(key); must {`, New: `	if name, must := o.overflow.mustLook(key); must && false {`,
		Breaks: "what is held goes on when there is room", By: runtime(heldTests),
	},
	{
		Name: "wake-ups for what is held pile up", File: heldFile,
		Old: `k == nil || time.Until(k.look) > 0 {`, New: `k == nil {`,
		Breaks: "a key has one wake-up", By: runtime(heldTests),
	},
	{
		Name: "what is held when the queue ends is left to itself", File: parkingFile,
		Old: `return o.takeHeld(key)`, New: `return nil`,
		Breaks: "what is held goes on", By: runtime(heldTests),
	},
	{
		Name: "a compensation that is held waits behind the attempts", File: parkingFile,
		Old: `if r := e.promoteHeld(o, key); r != nil {`, New: `if r := e.promoteHeld(o, key); r != nil && false {`,
		Breaks: "barrier case 4: a trigger overtakes parked attempts", By: runtime(heldTests),
	},
	{
		Name: "a compensation waits behind what is held", File: parkingFile,
		Old: "\tif h != nil {\n\t\tahead = r.split(h)\n", New: "\tif false {\n\t\tahead = r.split(h)\n",
		Breaks: "barrier case 4: a trigger overtakes parked attempts", By: runtime(heldTests),
	},
	{
		Name: "a compensation fails unseen at the bound of a task", File: parkingFile,
		Old: `!r.resumed() && !f.forever && !r.e.mayPark(o, r.key, most)`, New: `!r.resumed() && !r.e.mayPark(o, r.key, most)`,
		Breaks: "a compensation that fails can be skipped", By: runtime(heldTests),
	},
	{
		Name: "a deadline fires though what meets it is held", File: "choreo/lapse.go",
		Old: `s.follows(r) || s.meetsHeld(r)`, New: `s.follows(r)`,
		Breaks: "a deadline is met by what was heard", By: runtime(heldTests),
	},
	{
		Name: "the agenda's timer stays at the later time", File: agendaFile,
		Old: `case a.at == 0 || first < a.at:`, New: `case a.at == 0:`,
		Breaks: "everything is told of at its time", By: []Tests{{"choreo/internal/agenda", ""}},
	},
	{
		Name: "the agenda forgets the rest of what is due", File: agendaFile,
		Old: "\ta.firing = false\n\ta.set()\n", New: "\ta.firing = false\n",
		Breaks: "everything is told of", By: []Tests{{"choreo/internal/agenda", ""}},
	},
}
