package main

const (
	doorFile    = "choreo/door.go"
	doorsFile   = "choreo/doors.go"
	breakerFile = "choreo/breaker.go"
	doorTests   = "TestABreakerOpens|TestNobodyIs|TestOneThatFails|TestARefusalIs|TestCompensationsPass|TestABulkhead|TestAProbe|TestLateResults|TestAfterARestartThe|TestWaitingIs|TestTimeAtTheDoor|TestTheBudgetOfTime|TestTheTimeOfProbes|TestACompensationIsAsOld|TestAfterAnOutage|TestWho"
	awayTests   = "TestReadingPauses|TestWaitersInMemory|TestABreakerShows"
)

var policyMutants = []Mutant{
	{
		Name: "an open breaker lets everybody in", File: breakerFile,
		Old: "\t\treturn c.probing+promised < c.probes\n\t}\n\treturn false\n", New: "\t\treturn c.probing+promised < c.probes\n\t}\n\treturn true\n",
		Breaks: "no attempt is made while the breaker is open", By: runtime(doorTests),
	},
	{
		Name: "any number of probes at once", File: breakerFile,
		Old: `return c.probing+promised < c.probes`, New: `return true`,
		Breaks: "a half-open breaker lets so many probes in", By: runtime(doorTests),
	},
	{
		Name: "one probe more than is allowed", File: breakerFile,
		Old: `return c.probing+promised < c.probes`, New: `return c.probing+promised <= c.probes`,
		Breaks: "a half-open breaker lets so many probes in", By: runtime(doorTests),
	},
	{
		Name: "a refusal is no answer", File: breakerFile,
		Old: `return rejected(err) || slices.ContainsFunc`, New: `return slices.ContainsFunc(s.fail[:0], func(failurePlan) bool { return rejected(err) }) || !slices.ContainsFunc`,
		Breaks: "what the provider refuses, it has answered", By: runtime(doorTests),
	},
	{
		Name: "a breaker leaves an event its few attempts", File: breakerFile,
		Old: `r.Attempts = defaultAttempts + min(b.Failures, mostAttempts)`, New: `r.Attempts = defaultAttempts`,
		Breaks: "with a breaker an event has more attempts than it takes to open it", By: runtime("TestValidateNames"),
	},
	{
		Name: "fewer attempts than open the breaker are taken", File: breakerFile,
		Old: `attempts > 0 && attempts < b.Failures {`, New: `attempts > 0 && attempts < b.Failures-1 {`,
		Breaks: "senseless limits are refused", By: runtime("TestValidateNames"),
	},
	{
		Name: "a breaker without a timeout is taken", File: breakerFile,
		Old: "\tif x.timeout == 0 {\n\t\tp.mistake(\"%s %q: Breaker", New: "\tif x.timeout < -1<<62 {\n\t\tp.mistake(\"%s %q: Breaker",
		Breaks: "senseless limits are refused", By: runtime("TestValidateNames"),
	},
	{
		Name: "one more at once than is allowed", File: doorFile,
		Old: `d.maxConcurrent > 0 && d.within+promised >= d.maxConcurrent`, New: `d.maxConcurrent > 0 && d.within+promised > d.maxConcurrent`,
		Breaks: "at most MaxConcurrent attempts are made at once", By: runtime(doorTests),
	},
	{
		Name: "places are promised to nobody", File: doorFile,
		Old: `	promised := d.called
`, New: `	promised := 0 * d.called
`,
		Breaks: "who was called finds its place free", By: runtime(doorTests),
	},
	{
		Name: "who was called must not come in", File: doorFile,
		Old: "\t\tpromised-- // to this one\n", New: "",
		Breaks: "who waits comes in its turn", By: runtime(doorTests),
	},
	{
		Name: "the time at the door is part of Retry.Over", File: doorFile,
		Old: `r.began = r.began.Add(time.Since(w.since))`, New: `_ = w.since`,
		Breaks: "nothing is given up because the provider is away", By: runtime(doorTests),
	},
	{
		Name: "the time at the door before a restart is part of Retry.Over", File: parkingFile,
		Old: `r.began = r.began.Add(waited)`, New: `_ = waited`,
		Breaks: "nothing is given up because the provider is away", By: runtime(doorTests),
	},
	{
		Name: "a restart adds to the time for attempts what is still to be awaited", File: parkingFile,
		Old: `waited > 0 && !t.Undo`, New: `!t.Undo`,
		Breaks: "the time for attempts is counted on", By: runtime(doorTests),
	},
	{
		Name: "without a door the time for attempts stands still between two owners", File: parkingFile,
		Old: ` && r.e.doors[p.At] != nil {`, New: ` {`,
		Breaks: "the time for attempts is counted on", By: runtime(doorTests),
	},
	{
		Name: "a restart makes a failing compensation younger", File: parkingFile,
		Old: `waited > 0 && !t.Undo &&`, New: `waited > 0 &&`,
		Breaks: "stuck compensations show their age", By: runtime(doorTests),
	},
	{
		Name: "the time of probes is part of Retry.Over", File: doorFile,
		Old: `r.began = r.began.Add(time.Since(p.began)) // see enter`, New: `_ = p.began`,
		Breaks: "nothing is given up because the provider is away", By: runtime(doorTests),
	},
	{
		Name: "a probe that fails is counted", File: doorFile,
		Old: `uncounted = !answered && !abandoned && (p.probe != nil || c.round != p.round)`, New: `uncounted = !answered && !abandoned && p.probe == nil && c.round != p.round`,
		Breaks: "attempts at a provider that is away are not counted", By: runtime(doorTests),
	},
	{
		Name: "the failure that opens the breaker is counted", File: doorFile,
		Old: `(p.probe != nil || c.round != p.round)`, New: `p.probe != nil`,
		Breaks: "attempts at a provider that is away are not counted", By: runtime(doorTests),
	},
	{
		Name: "an attempt that is not counted is", File: doorFile,
		Old: "\t\tr.attempt--\n", New: "",
		Breaks: "attempts at a provider that is away are not counted", By: runtime(doorTests),
	},
	{
		Name: "late results count in another round", File: doorFile,
		Old: `if p.settled || c.round != p.round {`, New: `if p.settled {`,
		Breaks: "attempts that began before the breaker opened tell nothing when it is half-open", By: runtime(doorTests),
	},
	{
		Name: "a probe that hangs keeps the breaker half-open", File: doorFile,
		Old: `p.probe = time.AfterFunc(timeout, func() { d.overdue(p) })`, New: `p.probe = time.AfterFunc(timeout, func() {})`,
		Breaks: "a probe that hangs has failed", By: runtime(doorTests),
	},
	{
		Name: "a lost probe keeps the next one out", File: doorFile,
		Old: "\t\tc.probing--\n", New: "",
		Breaks: "a probe that is lost makes room for the next", By: runtime(doorTests),
	},
	{
		Name: "a lost attempt is a failure", File: doorFile,
		Old: "\tcase abandoned:\n", New: "\tcase false:\n",
		Breaks: "what was lost with its task tells nothing of the provider", By: runtime(doorTests),
	},
	{
		Name: "whoever leaves calls nobody", File: doorFile,
		Old: "\t\terr = &awaiting{door: d, cause: err, tried: true}\n\t}\n\td.unlockAndCall()\n", New: "\t\terr = &awaiting{door: d, cause: err, tried: true}\n\t}\n\td.mu.Unlock()\n",
		Breaks: "who waits comes in its turn", By: runtime(doorTests),
	},
	{
		Name: "all that wait are called at once", File: doorFile,
		Old: `	const most = 2
`, New: `	const most = 1000
`,
		Breaks: "those who wait come ever faster, not all at once", By: runtime(doorTests),
	},
	{
		Name: "whoever does not come keeps its place", File: doorsFile,
		Old: `		d.forget(sched.Key{Task: s.o.partition, Name: s.key})
`, New: "\t\t_ = d\n",
		Breaks: "who has no more need of its place gives it to the next", By: runtime(doorTests),
	},
	{
		Name: "what is called while it is parked never comes", File: doorFile,
		Old: "\tif called { // as what it was before\n", New: "\tif called && false {\n",
		Breaks: "nobody is forgotten at the door", By: runtime(doorTests),
	},
	{
		Name: "a process trusts a provider of which events are parked", File: doorFile,
		Old: "\t\tc.HalfOpen()\n", New: "",
		Breaks: "after a restart the provider is probed first", By: runtime(doorTests),
	},
	{
		Name: "an open breaker stays open", File: doorFile,
		Old: "\t\td.circuit.HalfOpen()\n\t}\n\td.unlockAndCall()\n", New: "\t}\n\td.unlockAndCall()\n",
		Breaks: "a breaker finds out when the provider is back", By: runtime(doorTests),
	},
	{
		Name: "a probe is awaited by nobody", File: doorFile,
		Old: "\t\td.circuit.HalfOpen()\n\t}\n\td.unlockAndCall()\n", New: "\t\td.circuit.HalfOpen()\n\t}\n\td.mu.Unlock()\n",
		Breaks: "a breaker finds out when the provider is back", By: runtime(doorTests),
	},
	{
		Name: "waiters in memory fill the room", File: doorsFile,
		Old: `d.inMemory.Load() >= int64(e.partOfRoom()) || `, New: ``,
		Breaks: "who waits for room at a step leaves memory to others", By: runtime(awayTests),
	},
	{
		Name: "an outage takes all that may be parked", File: doorsFile,
		Old: `return e.cfg.MaxParkedPerTask - e.cfg.MaxParkedPerTask/8`, New: `return e.cfg.MaxParkedPerTask`,
		Breaks: "reading pauses before the bound of parked events", By: runtime(awayTests),
	},
	{
		Name: "what an open breaker turns away waits in memory", File: "choreo/parking.go",
		Old: `inPlace: a.soon, undo:`, New: `inPlace: true, undo:`,
		Breaks: "what waits for a provider is parked", By: runtime(doorTests),
	},
	{
		Name: "waiting is written down again and again", File: "choreo/parking.go",
		Old: "f.door != nil && r.asParked(h) && !f.tried {", New: "false && r.asParked(h) {",
		Breaks: "waiting at a door writes nothing", By: runtime(doorTests),
	},
	{
		Name: "what waits shows as a failing compensation", File: "choreo/parking.go",
		Old: `undo: forever && r.attempt > 0, forever`, New: `undo: forever, forever`,
		Breaks: "what is shown as stuck fails", By: runtime(doorTests),
	},
	{
		Name: "undo passes by the breaker", File: "choreo/barrier.go",
		Old: "\t\t\tif v, ok := r.waits(s, err, true); ok {\n\t\t\t\treturn v\n\t\t\t}\n\t\t\treturn s.undoFailed(r, err)\n\t\t}\n\t\tr.e.stuck.remove(r)\n\t\tr.undoing", New: "\t\t\treturn s.undoFailed(r, err)\n\t\t}\n\t\tr.e.stuck.remove(r)\n\t\tr.undoing",
		Breaks: "compensations wait for the provider as attempts do", By: runtime(doorTests),
	},
	{
		Name: "a source that was full for a door is never read again", File: "choreo/run.go",
		Old: "\t\t\tfor _, in := range o.inputs {\n\t\t\t\te.gated(in)\n\t\t\t}\n", New: "",
		Breaks: "reading goes on when the provider is back", By: runtime(awayTests),
	},
	{
		Name: "readiness does not tell of handlers that ignore their context", File: "choreo/status.go",
		Old: `late := e.attempts.Overdue()`, New: `late := map[string]int{}`,
		Breaks: "what blocks a flow shows", By: runtime("TestAHandlerThatIgnores"),
	},
	{
		Name: "metrics do not tell of handlers that ignore their context", File: "choreo/status.go",
		Old: `overdue: e.attempts.Overdue(), `, New: ``,
		Breaks: "what blocks a flow shows", By: runtime("TestAHandlerThatIgnores"),
	},
}
