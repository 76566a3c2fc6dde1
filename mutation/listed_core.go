package main

func scheduler(run string) []Tests { return []Tests{{"choreo/internal/sched", run}} }
func tracker(run string) []Tests   { return []Tests{{"choreo/internal/offsets", run}} }
func events(run string) []Tests    { return []Tests{{"choreo/cloudevent", run}} }

const (
	schedFile    = "choreo/internal/sched/sched.go"
	trackerFile  = "choreo/internal/offsets/tracker.go"
	metadataFile = "choreo/internal/offsets/metadata.go"
	binaryFile   = "choreo/cloudevent/binary.go"
)

var coreMutants = []Mutant{
	{
		Name: "two attempts of one item run at once", File: schedFile,
		Old:    "\tq.items.push(it)\n",
		New:    "\tq.items.push(it)\n\tif q.running && s.ready.n == 0 {\n\t\ts.ready.push(q)\n\t}\n",
		Breaks: "never two attempts of one run at once", By: scheduler("TestModel|TestBehaviour"),
	},
	{
		Name: "items of a key run last in, first out", File: "choreo/internal/sched/queue.go",
		Old: `	it := f.ring[f.head]
	f.ring[f.head] = nil
	f.head = (f.head + 1) & (len(f.ring) - 1)
`,
		New: `	last := (f.head + f.n - 1) & (len(f.ring) - 1)
	it := f.ring[last]
	f.ring[last] = nil
`,
		Breaks: "items of a key run as submitted", By: scheduler("TestModel|TestBehaviour"),
	},
	{
		Name: "an item that is repeated lets others of its key pass", File: schedFile,
		Old:    "\tcase again >= 0:\n",
		New:    "\tcase again >= 0:\n\t\tq.items.push(q.current)\n\t\tq.current = nil\n\t\ts.stats.QueuedItems++\n",
		Breaks: "retries keep the order of their key", By: scheduler("TestModel|TestBehaviour"),
	},
	{
		Name: "a wake-up is lost while the item runs", File: schedFile,
		Old: `q.woken = true`, New: `q.woken = false`,
		Breaks: "a wake-up is never lost", By: scheduler("TestModel|TestBehaviour"),
	},
	{
		Name: "a late timer ends another wait", File: schedFile,
		Old: `if q.timer != nil && q.timer == *t {`, New: `if q.timer != nil {`,
		Breaks: "an item waits as long as it asked to", By: scheduler("TestLateTimer"),
	},
	{
		Name: "any number of items run at once", File: schedFile,
		Old: `!s.waking && s.workers < s.limit {`, New: `!s.waking {`,
		Breaks: "at most a given number run at once", By: scheduler("TestModel|TestBehaviour"),
	},
	{
		Name: "items start after Close", File: schedFile,
		Old: "\tif s.closed {\n\t\treturn\n\t}\n\ts.submit(h, key, it)\n", New: "\ts.submit(h, key, it)\n",
		Breaks: "nothing starts after Close", By: scheduler("TestModel|TestWait|TestBehaviour"),
	},
	{
		Name: "a slow key holds up the others", File: schedFile,
		Old: "\t\ts.stats.Running++\n\t\ts.wake()\n", New: "\t\ts.stats.Running++\n",
		Breaks: "a slow key delays only itself", By: scheduler("TestSlowKey|TestBehaviour|TestModel"),
	},
	{
		Name: "keys of two tasks are one", File: schedFile,
		Old:    "func (s *Scheduler) submit(hash uint64, key Key, it Item) {\n",
		New:    "func (s *Scheduler) submit(_ uint64, key Key, it Item) {\n\tkey.Task = 0\n\thash := hash(s.seed, key)\n",
		Breaks: "tasks do not wait for one another", By: scheduler("TestModel|TestBehaviour"),
	},
	{
		Name: "the prefix passes an unfinished offset", File: trackerFile,
		Old: `if from == t.head {`, New: `if from >= t.head {`,
		Breaks: "the committed offset is the finished prefix", By: tracker("TestCommit|TestModel"),
	},
	{
		Name: "what is finished beyond the prefix is not told", File: trackerFile,
		Old: `c.Metadata = e.end()`, New: `_ = e.end()`,
		Breaks: "nothing finished is handed out again", By: tracker("TestCommit|TestModel"),
	},
	{
		Name: "there is room until the metadata is full", File: trackerFile,
		Old: `return t.cost+maxStep <= t.budget`, New: `return t.cost <= t.budget`,
		Breaks: "metadata never exceeds the broker's limit", By: tracker("TestRoom|TestModel"),
	},
	{
		Name: "what the predecessor finished is handed out again", File: trackerFile,
		Old: `return !finished`, New: `return true`,
		Breaks: "a successor is handed exactly the unfinished", By: tracker("TestSuccessor|TestModel"),
	},
	{
		Name: "what the predecessor finished is forgotten in the next commit", File: trackerFile,
		Old: "\tfor _, s := range inherited {\n\t\te.finished(s)\n\t}\n", New: "\t_ = inherited\n",
		Breaks: "a successor is handed exactly the unfinished", By: tracker("TestSuccessor|TestModel"),
	},
	{
		Name: "an offset is committed with the epoch of another record", File: trackerFile,
		Old: `c.Offset, c.LeaderEpoch = first.offset, first.epoch`, New: `c.Offset, c.LeaderEpoch = first.offset, t.epoch`,
		Breaks: "truncation is seen and never imagined", By: tracker("TestCommit|TestModel"),
	},
	{
		Name: "metadata of another offset is read", File: metadataFile,
		Old: `metadata[1:headerLen] != string(sum[:]) {`, New: `false && metadata[1:headerLen] != string(sum[:]) {`,
		Breaks: "translated offsets skip no event", By: tracker("TestRefused"),
	},
	{
		Name: "metadata of a newer version is read", File: metadataFile,
		Old: `if metadata[0] != version {`, New: `if false {`,
		Breaks: "what cannot be read stops the task", By: tracker("TestRefused"),
	},
	{
		Name: "empty data becomes a tombstone", File: binaryFile,
		Old: `r.Value = []byte{} // nil would be a tombstone`, New: `r.Value = nil`,
		Breaks: "an event without data survives compaction", By: events("TestEmptyData"),
	},
	{
		Name: "foreign headers make an event unreadable", File: binaryFile,
		Old: `return name, validName(name) && attributeNamed(name) == attrNone`, New: `return name, attributeNamed(name) == attrNone`,
		Breaks: "foreign headers are ignored", By: events("TestForeign"),
	},
	{
		Name: "the record's key is the flow's", File: binaryFile,
		Old: `if a == attrPartitionKey {`, New: `if a == attrCorrelationID {`,
		Breaks: "the partition key decides the partition", By: events("TestPartitionKey"),
	},
	{
		Name: "the letter case of headers and media types counts", File: "choreo/cloudevent/mediatype.go",
		Old: `if lowerASCII(s[i]) != lower[i] {`, New: `if s[i] != lower[i] {`,
		Breaks: "structured events are found in any letter case", By: events("TestStructuredContentType|TestHeaderKeys"),
	},
	{
		Name: "parameters belong to the media type", File: "choreo/cloudevent/mediatype.go",
		Old: `for end < len(contentType) && contentType[end] != ';' {`, New: `for end < len(contentType) {`,
		Breaks: "structured events are found with parameters", By: events("TestIsJSON|TestStructuredContentType|TestReadStructured"),
	},
	{
		Name: "the first of several headers counts", File: "choreo/cloudevent/view.go",
		Old: `if a != attrNone {`, New: `if a != attrNone && v.at[a] == 0 {`,
		Breaks: "view and reader agree: the last header counts", By: events("TestLastOf|TestViewAgrees"),
	},
	{
		Name: "commas split causation ids", File: "choreo/cloudevent/attribute.go",
		Old: `dst = append(dst, "%2C"...)`, New: `dst = append(dst, ',')`,
		Breaks: "causes are told apart", By: events("TestCausationIDs"),
	},
	{
		Name: "structured data is read as text", File: "choreo/cloudevent/structured.go",
		Old: `case IsJSON(p.event.DataContentType):`, New: `case false:`,
		Breaks: "structured and binary events have the same data", By: events("TestReadStructured|TestWritten"),
	},
}
