package main

const (
	directiveFile = "choreo/directive.go"
	commandFile   = "choreo/operator/command.go"
	operatorFile  = "choreo/operator/journal.go"
	itemFile      = "choreo/operator/item.go"
	eraseFile     = "choreo/internal/journal/erase.go"
	stuckToolFile = "cmd/choreo/internal/stuck/service.go"
)

var (
	told      = runtime("Stuck|HasNotPassed|Commands|ACommand|Erasing|ARetryThat|ASkipped|WhatACommand")
	operators = []Tests{{"choreo/operator", ""}}
	stuckTool = []Tests{{"cmd/choreo", "Stuck|Journal|Erased"}}
)

var stuckMutants = []Mutant{
	{
		Name: "a command that is done is not finished", File: "choreo/work.go",
		Old: "r.result.Source, r.result.Offset = r.told.in.Source, r.told.offset", New: "r.result.Offset = r.told.offset",
		Breaks: "a command has its effect once", By: told,
	},
	{
		Name: "a command is taken for the head of the queue, whatever that is", File: directiveFile,
		Old: "case p.Seq != d.Seq:", New: "case false:",
		Breaks: "a command is for what it names alone", By: told,
	},
	{
		Name: "a command does not look at when the attempts began", File: directiveFile,
		Old: "t.Began.UnixMilli() != d.Began.UnixMilli() || (d", New: "(d",
		Breaks: "a command is for what it names alone", By: told,
	},
	{
		Name: "a command for a step is taken for its compensation", File: directiveFile,
		Old: " || (d.Kind == operator.Undo) != t.Undo", New: "",
		Breaks: "a command is for what it names alone", By: told,
	},
	{
		Name: "a command is taken for another step", File: directiveFile,
		Old: "case p.At != d.Name && !slices.Contains(formerNames(h), d.Name):", New: "case false:",
		Breaks: "a command is for what it names alone", By: told,
	},
	{
		Name: "a command passes the compensation of what it is for", File: directiveFile,
		Old: `overtaking != nil {`, New: `overtaking != nil && false {`,
		Breaks: "what is called off is not tried again", By: runtime("TestACommandFor"),
	},
	{
		Name: "a command that is refused leaves the compensation to wait", File: directiveFile,
		Old: "\t\to.agenda.Add(d.Key, 0)\n\t\treturn errCalledOff\n", New: "\t\treturn errCalledOff\n",
		Breaks: "barrier case 4: a trigger overtakes parked attempts", By: runtime("TestACommandFor"),
	},
	{
		Name: "a command makes all further attempts superfluous", File: directiveFile,
		Old: "\td.taken = true\n", New: "",
		Breaks: "a command is for what it names alone", By: told,
	},
	{
		Name: "a retry is taken for a resolution", File: directiveFile,
		Old: "d == nil || d.taken || d.Do == operator.Retry", New: "d == nil || d.taken",
		Breaks: "a retry calls the handler", By: told,
	},
	{
		Name: "a skipped step is tried again", File: "choreo/work.go",
		Old: "told && !forever {", New: "false && told {",
		Breaks: "what is skipped is not tried again", By: told,
	},
	{
		Name: "an undo that was skipped counts as done", File: directiveFile,
		Old: "s.mark(r, x, journal.Left)", New: "s.mark(r, x, journal.Undone)",
		Breaks: "what was not undone is not taken for undone", By: told,
	},
	{
		Name: "an undo that was skipped is answered as if there was none", File: directiveFile,
		Old: "\t\ts.mark(r, x, journal.Left)\n\t\tr.answered = true\n", New: "\t\ts.mark(r, x, journal.Left)\n",
		Breaks: "nothing is said that is not so", By: told,
	},
	{
		Name: "an undo that was resolved in silence is answered as if there was none", File: directiveFile,
		Old: "\t\t}\n\t\tr.answered = true\n", New: "\t\t\tr.answered = true\n\t\t}\n",
		Breaks: "nothing is said that is not so", By: told,
	},
	{
		Name: "a payload is taken where nothing is said", File: directiveFile,
		Old: "if d.Data != nil {\n\t\treturn fmt.Errorf(\"nothing is said", New: "if false {\n\t\treturn fmt.Errorf(\"nothing is said",
		Breaks: "a command that cannot be obeyed is refused", By: told,
	},
	{
		Name: "a payload may have fields that are not declared", File: directiveFile,
		Old: "\t\tdec.DisallowUnknownFields()\n", New: "",
		Breaks: "a slip of the pen is refused", By: told,
	},
	{
		Name: "a payload is not bounded", File: directiveFile,
		Old: "d.e.cfg.MaxEventBytes)\n", New: "1<<40)\n",
		Breaks: "a command that cannot be obeyed is refused", By: told,
	},
	{
		Name: "a deadline that has not passed is ended", File: directiveFile,
		Old: "wait > 0 {\n\t\treturn fmt.Errorf(\"the deadline has not", New: "false {\n\t\treturn fmt.Errorf(\"the deadline has not",
		Breaks: "a command is for what is stuck alone", By: told,
	},
	{
		Name: "a command is taken for a deadline that was set later", File: directiveFile,
		Old: " && x.Set.UnixMilli() == d.Began.UnixMilli()", New: "",
		Breaks: "a command is for what it names alone", By: told,
	},
	{
		Name: "a retry that fails is said to be done", File: directiveFile,
		Old: "a.Outcome, a.Error = operator.Failed,", New: "a.Outcome, a.Error = operator.Done,",
		Breaks: "an audit tells what came of a command", By: told,
	},
	{
		Name: "an attempt at a deadline that fails leaves its command without an answer", File: lapseFile,
		Old: "\t\tr.told.answer(operator.Failed, err)\n", New: "",
		Breaks: "every command is answered", By: told,
	},
	{
		Name: "a flow is erased while something of it is parked", File: directiveFile,
		Old: "case o.store.Waiting(d.Key) > 0:", New: "case false:",
		Breaks: "no event is lost by erasing", By: told,
	},
	{
		Name: "a flow is erased while a deadline of it is pending", File: directiveFile,
		Old: "case o.store.IsPending(d.Key):", New: "case false:",
		Breaks: "no event is lost by erasing", By: told,
	},
	{
		Name: "an event passes for a command by its headers", File: "choreo/inbox.go",
		Old: " || strings.HasPrefix(h.Key, operator.Prefix)", New: "",
		Breaks: "events cannot be commands", By: told,
	},
	{
		Name: "a command need not say who and why", File: commandFile,
		Old: `strings.TrimSpace(text.is) == "" || `, New: "",
		Breaks: "every command is accounted for", By: operators,
	},
	{
		Name: "what waits behind nothing is taken for stuck", File: operatorFile,
		Old: `!found || e.at == ""`, New: `!found`,
		Breaks: "stuck is what fails", By: operators,
	},
	{
		Name: "an event behind another is taken for the head", File: operatorFile,
		Old: "!found || other < seq {", New: "!found || other > seq {",
		Breaks: "what is listed is what is tried", By: operators,
	},
	{
		Name: "tasks are not told apart", File: operatorFile,
		Old: "j.tried(place{rec.Partition, key}, t, err)", New: "j.tried(place{0, key}, t, err)",
		Breaks: "what is listed is what is tried", By: operators,
	},
	{
		Name: "two that are stuck have one name", File: itemFile,
		Old: "b = binary.AppendUvarint(b, t.Seq)", New: "b = binary.AppendUvarint(b, 0)",
		Breaks: "a name is of one thing", By: operators,
	},
	{
		Name: "answers of other commands are taken for one's own", File: stuckToolFile,
		Old: "if !ok || !mine {", New: "if !ok || mine && false {",
		Breaks: "the tool tells what came of its commands", By: append(stuckTool, Tests{"cmd/choreo/internal/stuck", ""}),
	},
	{
		Name: "what is said to be done to some is done to all", File: stuckToolFile,
		Old: "return allows(s.Items, i.Hash()) && ", New: "return ",
		Breaks: "what is not named is left alone", By: stuckTool,
	},
	{
		Name: "a clock set ahead makes flows be forgotten", File: "choreo/parking.go",
		Old: "steady.Before(now) {\n\t\treturn steady", New: "steady.Before(now) {\n\t\treturn now",
		Breaks: "nothing is forgotten early", By: runtime("Clock|Bounds"),
	},
	{
		Name: "a clock set back hides that a flow is forgotten", File: "choreo/parking.go",
		Old: "steady.After(now) {\n\t\treturn steady", New: "steady.After(now) {\n\t\treturn now",
		Breaks: "what is forgotten is not taken for what never ran", By: runtime("Clock|Bounds"),
	},
	{
		Name: "retries may outlast what is remembered", File: "choreo/validate.go",
		Old: "r.Over == 0 && waits > p.retain.Flow", New: "r.Over == 0 && waits < 0",
		Breaks: "senseless values are refused", By: runtime("Validate"),
	},
	{
		Name: "one wait may outlast what is remembered", File: "choreo/validate.go",
		Old: "wait := full.lastWait(); wait > p.retain.Flow", New: "wait := full.lastWait(); wait < 0",
		Breaks: "senseless values are refused", By: runtime("Validate"),
	},
	{
		Name: "a flow may be remembered beyond all times", File: "choreo/validate.go",
		Old: "if r.Flow > longestWait {", New: "if false {",
		Breaks: "senseless values are refused", By: runtime("Validate"),
	},
	{
		Name: "of several retentions the last counts", File: "choreo/validate.go",
		Old: "if p.retains {", New: "if false {",
		Breaks: "nothing that is declared is passed over in silence", By: runtime("Validate"),
	},
	{
		Name: "the oldest compensation that fails is the latest", File: "choreo/internal/journal/parked.go",
		Old: "s.undoSince[0].second", New: "s.undoSince[len(s.undoSince)-1].second",
		Breaks: "metrics tell the age of what is stuck", By: runtime("TestStuckCompensations"),
	},
}
