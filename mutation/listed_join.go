package main

const (
	joinFile   = "choreo/join.go"
	rejoinFile = "choreo/rejoin.go"
	joinSlots  = "choreo/internal/journal/join.go"
	joinTests  = "Join|Half|Halves"
)

var joinMutants = []Mutant{
	{
		Name: "a join runs on what is not complete", File: joinFile,
		Old: `		if h == nil {
			return at, false
		}`, New: `		if h == nil && len(halves) == 0 {
			return at, false
		}`,
		Breaks: "a join waits for all halves", By: runtime(joinTests),
	},
	{
		Name: "a further event of a half takes its place", File: joinFile,
		Old: `at[p] == nil {`, New: `true {`,
		Breaks: "the first event of each half counts", By: runtime(joinTests),
	},
	{
		Name: "a further event of a half is taken up", File: joinFile,
		Old: `at[s.join.place(r.event.Type)] != nil {`, New: `at[s.join.place(r.event.Type)] == nil && false {`,
		Breaks: "the first event of each half counts", By: runtime(joinTests),
	},
	{
		Name: "what ran before it was a join is joined", File: joinFile,
		Old: `case journal.Did, journal.Failed, journal.GaveUp:
			return true`, New: `case journal.Did, journal.Failed, journal.GaveUp:
			return false`,
		Breaks: "a step that ran before it was a join does not run again", By: runtime(joinTests + "|TestAStepThatBecomes"),
	},
	{
		Name: "a half that waits is not written", File: joinFile,
		Old: `	if !r.journal(s.step)(r.store().PutJoin(r.flow, j, r.now())) {`, New: `	if c, err := r.store().PutJoin(r.flow, j, r.now()); c.Key == nil && err != nil {`,
		Breaks: "halves outlive the process", By: runtime(joinTests),
	},
	{
		Name: "the payloads of a run that is to be undone are dropped", File: joinFile,
		Old: "\tif !keep {\n", New: "\tif keep || !keep {\n",
		Breaks: "an undo gets what its run was given", By: runtime(joinTests),
	},
	{
		Name: "the halves of a dead run are dropped", File: "choreo/barrier.go",
		Old: `if s.recordHalves(r, keep || status == journal.Dead) &&`, New: `if s.recordHalves(r, keep) &&`,
		Breaks: "a dead letter of a joined run can be replayed", By: runtime(joinTests),
	},
	{
		Name: "a joined run is named by its last half", File: joinFile,
		Old: `	if r.joined != nil {
		return r.joined.hash
	}
	return r.hash`, New: `	return r.hash`,
		Breaks: "ids do not depend on the order of halves", By: runtime(joinTests),
	},
	{
		Name: "hops are those of the last half", File: "choreo/say.go",
		Old: `ev.CausationIDs, ev.Hops = r.joined.ids(), r.joined.hops+1`, New: `ev.CausationIDs = r.joined.ids()`,
		Breaks: "cycles of events end", By: runtime(joinTests),
	},
	{
		Name: "what is said names the last half alone", File: "choreo/say.go",
		Old: `ev.CausationIDs, ev.Hops = r.joined.ids(), r.joined.hops+1`, New: `ev.CausationIDs, ev.Hops = r.joined.ids()[1:], r.joined.hops+1`,
		Breaks: "every event carries its causes", By: runtime(joinTests),
	},
	{
		Name: "a flow began when its last half says", File: joinFile,
		Old: `h.Started.Before(x.started)) {`, New: `h.Started.After(x.started)) {`,
		Breaks: "a flow began with its first event", By: runtime(joinTests),
	},
	{
		Name: "a joined run that is tried again shows as waiting", File: "choreo/barrier.go",
		Old: "\t\ts.keepHalves(r)\n\t\tr.logger", New: "\t\tr.logger",
		Breaks: "what shows as waiting waits", By: runtime(joinTests),
	},
	{
		Name: "a join that is cancelled shows as waiting", File: "choreo/barrier.go",
		Old: "\ts.cancelJoin(r)\n", New: "",
		Breaks: "what shows as waiting waits", By: runtime(joinTests),
	},
	{
		Name: "a cancelled join forgets what may have been tried", File: joinFile,
		Old: `if s.unknown == nil || len(`, New: `if s.unknown != nil || len(`,
		Breaks: "the effect of a lost attempt is undone", By: runtime(joinTests),
	},
	{
		Name: "after its cancellation a join gathers nothing", File: "choreo/barrier.go",
		Old: `		if s.join != nil {
			if v, over := s.gather(r); over {
				return v
			}
		}
`, New: `		if s.join != nil {
			return done
		}
`,
		Breaks: "the effect of a lost attempt is undone", By: runtime(joinTests),
	},
	{
		Name: "a cancelled join waits again", File: joinFile,
		Old: "\tif cancelled {\n\t\tj.Status = journal.JoinCancelled\n\t}\n", New: "",
		Breaks: "what shows as waiting waits", By: runtime(joinTests),
	},
	{
		Name: "a half that cannot be read counts", File: joinFile,
		Old: `if _, err := s.on.decode(r.event.Data); err != nil {`, New: `if _, err := s.on.decode(r.event.Data); err != nil && r.replay != nil {`,
		Breaks: "what cannot be read is a dead letter at once", By: runtime(joinTests),
	},
	{
		Name: "a half of a forgotten flow is replayed", File: joinFile,
		Old: `case !ran && !cancelled && r.replay.forgot(s.step):`, New: `case !ran && cancelled && r.replay.forgot(s.step):`,
		Breaks: "a replay runs nothing of which nothing is remembered", By: runtime(joinTests),
	},
	{
		Name: "the cancellation of what waits is one of a forgotten flow", File: "choreo/barrier.go",
		Old: `!interrupted && !joins {`, New: `!interrupted && (!joins || len(runs) == 0) {`,
		Breaks: "what is remembered is not forgotten", By: runtime(joinTests),
	},
	{
		Name: "a parked half is taken for a joined run", File: "choreo/parking.go",
		Old: `		x.Hash = j.Hash()
`, New: ``,
		Breaks: "what is parked is found out about by its key", By: runtime(joinTests),
	},
	{
		Name: "a joined run's span stands alone", File: "choreo/tracing.go",
		Old: `, trace.WithLinks(t.links(a.joined)...))`, New: `, trace.WithLinks(t.links(nil)...))`,
		Breaks: "a joined run's span is linked to all halves", By: runtime("TestSpans"),
	},
	{
		Name: "what waits for a removed half waits for ever", File: "choreo/engine.go",
		Old: "\te.rejoin(o)\n", New: "\t_ = e.rejoin\n",
		Breaks: "a version that needs fewer halves runs what has waited", By: runtime("TestAStepThatDoesNotJoinAnyMore"),
	},
	{
		Name: "a step that joins no more runs on what waits again and again", File: rejoinFile,
		Old: `j.Status, j.Halves = journal.JoinDone, withoutData(j.Halves)`, New: `j.Halves = withoutData(j.Halves)`,
		Breaks: "what has waited runs once", By: runtime(joinTests),
	},
	{
		Name: "a half that is dropped is not told", File: "choreo/inbox.go",
		Old: `if missed == nil || slices.Contains(waiting, step) {`, New: `if missed != nil || slices.Contains(waiting, step) {`,
		Breaks: "a half that waits is not dropped in silence", By: runtime(joinTests),
	},
	{
		Name: "a reaction may join", File: "choreo/plan.go",
		Old: `if j, bad := r.On.joins(); j != nil || bad != "" {`, New: `if _, bad := r.On.joins(); bad != "" {`,
		Breaks: "wrong declarations are refused at start", By: runtime("TestValidate"),
	},
	{
		Name: "a join of nobody's event passes the check", File: "choreo/contract/check.go",
		Old: `if !slices.ContainsFunc(types, func(t string) bool { return len(said[t]) > 0 }) {`, New: `if !slices.ContainsFunc(types, func(t string) bool { return len(said[t]) >= 0 }) {`,
		Breaks: "who breaks is found before deploying", By: []Tests{{Package: "choreo/contract", Run: "Join"}},
	},
	{
		Name: "the oldest half that waits is the newest", File: joinSlots,
		Old: `Since: time.Unix(int64(counts[0].second), 0)}`, New: `Since: time.Unix(int64(counts[len(counts)-1].second), 0)}`,
		Breaks: "what waits shows with its age", By: journalled("Join"),
	},
	{
		Name: "a joined run's name depends on the order", File: joinSlots,
		Old: `	slices.SortFunc(all, func(a, b Hash) int { return bytes.Compare(a[:], b[:]) })
`, New: ``,
		Breaks: "ids do not depend on the order of halves", By: journalled("Join"),
	},
	{
		Name: "joins of flows that have ended are missed", File: joinSlots,
		Old: `if f == nil || f.ended > 0 {`, New: `if f == nil {`,
		Breaks: "a half goes with its flow's outcome", By: journalled("Join"),
	},
	{
		Name: "a join without halves is read", File: joinSlots,
		Old: "\tif n == 0 {\n\t\tr.fail()\n\t}\n", New: "",
		Breaks: "a damaged journal stops its task", By: journalled("TestWhatCannotBeRead"),
	},
	{
		Name: "who joined events runs again on one of them by another declaration", File: "choreo/rejoin.go",
		Old: `return ok && j.Status == journal.JoinDone && j.Find(r.hash) >= 0`, New: `return ok && j.Status == 0`,
		Breaks: "what has run stands when the flow is changed", By: runtime("TestAStepThatBecomesAJoin"),
	},
	{
		Name: "what waited in a join that is gone counts as joined", File: "choreo/rejoin.go",
		Old: `r.place != nil && (r.place.alone || r.place.at == s.step)`, New: `r.place != nil && r.place.at == s.step`,
		Breaks: "what waits only for what is gone goes on", By: runtime("TestAStepThatBecomesAJoin|TestAJoinRunsWithout"),
	},
	{
		Name: "what is parked counts as joined", File: "choreo/rejoin.go",
		Old: `r.place != nil && (r.place.alone || r.place.at == s.step)`, New: `r.place != nil && r.place.alone`,
		Breaks: "attempts that are parked go on when the flow is changed", By: runtime("TestAStepThatBecomesAJoin"),
	},
}
