package main

const poisonedFile = "choreo/poisoned.go"

var refusals = runtime("Refuse|OtherHandlersOf|TestWhatAnOperator|TestOneOfSeveralUndos")

var poisonedMutants = []Mutant{
	{
		Name: "what was refused is said again", File: sayFile,
		Old: "if err := r.refused(d, step, kind, number); err != nil {", New: "if err := r.refused(d, step, kind, number); err != nil && false {",
		Breaks: "what the broker refuses for its size stops nothing for long", By: refusals,
	},
	{
		Name: "a step does again what cannot be said", File: barrierFile,
		Old: "if err := r.refused(s.emit, s.step, kindDid, 0); err != nil {", New: "if err := r.refused(s.emit, s.step, kindDid, 1); err != nil {",
		Breaks: "a step whose event was refused is not called once more", By: refusals,
	},
	{
		Name: "the attempt of which the broker refused what it said is not counted", File: barrierFile,
		Old: "\t\tr.attempt++ // the one that did it\n", New: "",
		Breaks: "what a step did whose event was refused is found out", By: refusals,
	},
	{
		Name: "an undo is made again that cannot be said", File: barrierFile,
		Old: "if err := r.refused(s.undone, s.step, kindUndone, int(x.Seq)); err != nil {", New: "if err := r.refused(s.undone, s.step, kindUndone, -1); err != nil {",
		Breaks: "an undo whose event was refused is not called once more", By: refusals,
	},
	{
		Name: "a cancellation is given up whose event was refused", File: barrierFile,
		Old: "*refusedError](err); refused {", New: "*refusedError](err); refused && false {",
		Breaks: "who waits for what Cancel says does not wait unseen", By: refusals,
	},
	{
		Name: "nobody can end what Cancel cannot say", File: barrierFile,
		Old: "\t\t\tif r.takes() == nil {\n\t\t\t\tr.attempt++", New: "\t\t\tif true {\n\t\t\t\tr.attempt++",
		Breaks: "what is stuck can be resolved", By: refusals,
	},
	{
		Name: "a state whose event was refused is said to have failed", File: applyFile,
		Old: "\t\t\treason = reasonUnsayable\n\t\t}\n\t\tr.deadLetter(s.state", New: "\t\t}\n\t\tr.deadLetter(s.state",
		Breaks: "a dead letter names its cause", By: refusals,
	},
	{
		Name: "what an operator says is blamed on the event", File: poisonedFile,
		Old: `if id == "" || r.told == nil || r.told.said != id {`, New: `if true {`,
		Breaks: "a payload that is too large is refused with its command", By: refusals,
	},
	{
		Name: "what comes after an operator's payload is blamed on it", File: poisonedFile,
		Old: `if id == "" || r.told == nil || r.told.said != id {`, New: `if id == "" || r.told == nil || r.told.said == "" {`,
		Breaks: "a command is refused for its own payload only", By: refusals,
	},
	{
		Name: "a command is obeyed whose payload was refused", File: directiveFile,
		Old:    "if err := d.e.poison.why(output{d.in.Topic, d.in.Partition, d.offset, anything}); err != nil {",
		New:    "if err := d.e.poison.why(output{d.in.Topic, d.in.Partition, -1, anything}); err != nil {",
		Breaks: "a payload that is too large is refused with its command", By: refusals,
	},
	{
		Name: "with an operator's payload all that was refused is said again", File: directiveFile,
		Old: `return d != nil && d.payload != nil && d.said == "" }`, New: `return d != nil && d.payload != nil }`,
		Breaks: "what is refused is not said by a command for something else", By: refusals,
	},
	{
		Name: "what an operator says in place of what was refused is not said", File: directiveFile,
		Old: `return d != nil && d.payload != nil && d.said == "" }`, New: `return d != nil && false }`,
		Breaks: "what is stuck can be resolved", By: refusals,
	},
	{
		Name: "the whole event is to blame for what one handler says", File: poisonedFile,
		Old: `if id != r.event.ID {`, New: `if false {`,
		Breaks: "other handlers of the event say what they say", By: refusals,
	},
	{
		Name: "what is published is taken for what a handler says", File: poisonedFile,
		Old: `if id != r.event.ID {`, New: `if true {`,
		Breaks: "what is published and too large becomes a dead letter", By: refusals,
	},
	{
		Name: "a replay is refused for what its letter tells of", File: poisonedFile,
		Old: `return output{rec.Topic, rec.Partition, rec.Offset, what}`, New: `return output{what: what}`,
		Breaks: "what was refused is replayed once the topic takes it", By: refusals,
	},
	{
		Name: "a dead letter that is too large is written again as it is", File: "choreo/deadletter.go",
		Old: `if e.poison.why(outputOf(rec, deadLetters)) != nil || size`, New: `if size`,
		Breaks: "what a dead letter's topic does not take is told of", By: refusals,
	},
}
