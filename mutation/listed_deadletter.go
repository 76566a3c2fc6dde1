package main

const (
	replaysFile    = "choreo/replay.go"
	deadLetterFile = "choreo/deadletter.go"
	letterFile     = "choreo/deadletter/replay.go"
)

var (
	replays = runtime("TestReplay")
	letters = []Tests{{"choreo/deadletter", ""}}
	dlqTool = []Tests{{"cmd/choreo", "TestReplay|TestDeadLetters"}}
)

var deadLetterMutants = []Mutant{
	{
		Name: "a replay that comes twice is worked on twice", File: replaysFile,
		Old: "; seen {\n\t\tr.e.metrics.replayed(replayDuplicate)", New: "; false && seen {\n\t\tr.e.metrics.replayed(replayDuplicate)",
		Breaks: "replaying a letter twice has the effect of once", By: replays,
	},
	{
		Name: "the journal does not remember a replayed letter", File: replaysFile,
		Old: "\tr.journal(p.Step)(r.store().PutSeen(r.flow, p.hash(), 0, r.now()))\n", New: "",
		Breaks: "replaying a letter twice has the effect of once", By: replays,
	},
	{
		Name: "a replay gives another room than it took", File: replaysFile,
		Old: "r.size, r.key = size(sent), r.flow", New: "r.key = r.flow",
		Breaks: "records in flight are bounded", By: runtime("TestAReplayGives"),
	},
	{
		Name: "a replay of a flow of another task is worked on here", File: replaysFile,
		Old: "} else if home := txn.Partition([]byte(r.flow), e.plan.tasks); home != in.owned.partition {", New: "} else if home := txn.Partition([]byte(r.flow), e.plan.tasks); false {",
		Breaks: "a flow's events meet at its task", By: runtime("TestAReplayGives|TestReplay"),
	},
	{
		Name: "a replayed letter is not marked", File: replaysFile,
		Old: "\tr.records = append(r.records, m.Record(r.e.names.dlq, p.Key))\n", New: "",
		Breaks: "what became of a letter lies behind it", By: replays,
	},
	{
		Name: "a replay is for all handlers", File: replaysFile,
		Old: "h = all.only(again.Step)", New: `h = all.only("")`,
		Breaks: "a letter is replayed for the handler that it names alone", By: replays,
	},
	{
		Name: "a replay does not find a step by its earlier name", File: replaysFile,
		Old: " || slices.Contains(formerNames(x), name)", New: "",
		Breaks: "a letter finds its step though it was renamed", By: replays,
	},
	{
		Name: "a step runs of whose letter nothing is remembered", File: replaysFile,
		Old: "return p.of(step) && !p.Forgotten", New: "return false",
		Breaks: "a replay does not run a step that may be cancelled", By: replays,
	},
	{
		Name: "an event passes for a published one by its letter", File: replaysFile,
		Old: ` && strings.HasPrefix(again.Origin, e.names.inbox+"/")`, New: "",
		Breaks: "headers of events are not taken for the inbox's own", By: replays,
	},
	{
		Name: "letters of another service are taken", File: replaysFile,
		Old: "err == nil && again.Letter.Topic != e.names.dlq", New: "false && err == nil",
		Breaks: "a service works on replays of its own letters only", By: replays,
	},
	{
		Name: "an event passes for a replay by its headers", File: "choreo/inbox.go",
		Old: "|| ours && foreign", New: "|| ours && h.Key == headerPublish && foreign",
		Breaks: "headers of events are not taken for the inbox's own", By: replays,
	},
	{
		Name: "a replay that failed is marked as succeeded", File: deadLetterFile,
		Old: "l.replay.failed = true", New: "l.replay.failed = false",
		Breaks: "the mark says what became of the letter", By: replays,
	},
	{
		Name: "the origin of a letter is lost by its replay", File: deadLetterFile,
		Old: `if p.Origin != "" {`, New: `if false {`,
		Breaks: "a letter names where its event was read", By: replays,
	},
	{
		Name: "a structured event keeps its payload when it is redacted", File: deadLetterFile,
		Old: "\td.Value, d.Headers = plain.Value, plain.Headers\n", New: "",
		Breaks: "of a payload a letter keeps what Redact leaves", By: runtime("TestRedacted"),
	},
	{
		Name: "what a decoder says of a payload is kept", File: deadLetterFile,
		Old: "ok && e.cfg.Redact != nil {\n\t\treturn fmt.Sprintf", New: "false && ok {\n\t\treturn fmt.Sprintf",
		Breaks: "of a payload a letter keeps what Redact leaves", By: runtime("TestRedacted"),
	},
	{
		Name: "the text of an error is kept whole", File: deadLetterFile,
		Old: "{ text = e.cfg.RedactError(text) }", New: "{ e.cfg.RedactError(text) }",
		Breaks: "of an error nothing is kept but what RedactError leaves", By: runtime("TestRedacted"),
	},
	{
		Name: "an error's text is in its log line", File: barrierFile,
		Old: `"attempt", r.attempt, "in", time.Duration(v), "error", r.e.errorText(err))
		return v`, New: `"attempt", r.attempt, "in", time.Duration(v), "error", err)
		return v`,
		Breaks: "of an error nothing is shown but what RedactError leaves", By: runtime("TestRedacted"),
	},
	{
		Name: "a replay of a cancelled step is marked as succeeded", File: barrierFile,
		Old: "\t\tr.replay.cancelled = true\n", New: "",
		Breaks: "the mark says what became of the letter", By: replays,
	},
	{
		Name: "a replay runs a step that has run", File: barrierFile,
		Old: "r.replay == nil || x.Status != journal.Dead {", New: "r.replay == nil {",
		Breaks: "a step runs once per event", By: replays,
	},
	{
		Name: "a replay forgets the attempts before it", File: barrierFile,
		Old: "r.attempt + r.replay.before()", New: "r.attempt",
		Breaks: "a compensation knows of attempts whose result is not known", By: replays,
	},
	{
		Name: "a replay for a reaction that runs once is dropped", File: applyFile,
		Old: " && !r.replay.of(s.reaction)", New: "",
		Breaks: "a letter of every handler can be replayed", By: replays,
	},
	{
		Name: "a replay is keyed as its event was", File: letterFile,
		Old: "Key: []byte(key), Value: rec.Value", New: "Key: rec.Key, Value: rec.Value",
		Breaks: "a replay reaches the task of its flow", By: letters,
	},
	{
		Name: "a redacted letter is replayed", File: letterFile,
		Old: `if l.Redacted != "" {`, New: `if false {`,
		Breaks: "what is not the original is not worked on", By: letters,
	},
	{
		Name: "letters are sent against their order", File: "cmd/choreo/internal/dlq/index.go",
		Old: "left[p][0].nanos < next.nanos", New: "left[p][0].nanos > next.nanos",
		Breaks: "letters of a flow are replayed in their order", By: dlqTool,
	},
	{
		Name: "settled letters are sent again", File: "cmd/choreo/internal/dlq/act.go",
		Old: "\t\tif f.now == waiting {\n\t\t\treturn do(i, rec)", New: "\t\tif true {\n\t\t\treturn do(i, rec)",
		Breaks: "what is settled is left out", By: dlqTool,
	},
}
