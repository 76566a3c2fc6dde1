package main

import (
	"errors"
	"fmt"
)

// explained are generated mutants that no test can notice, by file and name, and
// why that is so.
type explained struct {
	file string // from choreo/internal
	name string
	why  string
}

// explain gives the generated mutants their explanations. One that explains
// nothing is an error: the list must not outlive the code.
func explain(edits []edit) error {
	type place struct{ file, name string }
	of := map[place]*edit{}
	for i := range edits {
		of[place{edits[i].File, edits[i].Name}] = &edits[i]
	}
	var errs []error
	for _, x := range equivalents {
		e := of[place{"choreo/internal/" + x.file, x.name}]
		if e == nil {
			errs = append(errs, fmt.Errorf("%s: the explained mutant %q is not there any more: remove its explanation", x.file, x.name))
			continue
		}
		e.Equivalent = x.why
	}
	return errors.Join(errs...)
}

var equivalents = []explained{
	{"sched/sched.go", `sched.go work: break  [break to continue] #2`,
		"Close has emptied the ready list, and Submit adds nothing after it: the next round finds nothing and ends the worker as well"},
	{"sched/table.go", `table.go bucket: return &t.buckets[(hash^hash>>32)&uint64(len(t.buckets)-1)]  [^ to &]`,
		"takes the upper half of the hash: it spreads keys as well as both together"},
	{"sched/table.go", `table.go bucket: return &t.buckets[(hash^hash>>32)&uint64(len(t.buckets)-1)]  [>> to <<]`,
		"only spreads keys over the buckets, and the same key always goes to the same one"},
	{"offsets/tracker.go", `tracker.go find: if d := uint64(offset - t.at(lo).offset); d < hi-lo {  [- to +]`,
		"only narrows the search: without it the search looks at all records and finds the same one"},
	{"offsets/tracker.go", `tracker.go find: if t.at(hi-1).offset <= offset {  [<= to <]`,
		"a short cut: the search after it finds the same record"},
	{"agenda/agenda.go", `agenda.go set: case a.at == 0 || first < a.at:  [< to <=]`,
		"sets the timer to the time to which it is set"},
	{"agenda/agenda.go", `agenda.go push: if h[parent].at <= e.at {  [<= to <]`,
		"only orders keys that are due at the same time, of which none is promised to be first"},
	{"agenda/agenda.go", `agenda.go pop: if child+1 < len(h) && h[child+1].at < h[child].at {  [< to <=] #2`,
		"only orders keys that are due at the same time, of which none is promised to be first"},
	{"agenda/agenda.go", `agenda.go pop: if child >= len(h) || last.at <= h[child].at {  [<= to <]`,
		"only orders keys that are due at the same time, of which none is promised to be first"},
	{"timelimit/timelimit.go", `timelimit.go asked: case left <= 0:  [<= to <]`,
		"with no time left at all the timer ends the context in a moment"},
	{"journal/codec.go", `codec.go uvarint: for shift := uint(0); shift < 64; shift += 7 {  [< to <=]`,
		"shift is 63 or 70, never 64"},
	{"journal/codec.go", `codec.go uvarint: break  [break to continue]`,
		"at the end of the input every further round does nothing, and then it fails as well"},
	{"journal/codec.go", `codec.go uvarint: break  [break to continue] #2`,
		"the next round is the end of the loop, and then it fails as well"},
	{"journal/codec.go", `codec.go copyState: n := r.limit(uint64(len(r.rest) / len(Hash{})))  [/ to *]`,
		"the hashes are taken right after it, which fails if there are fewer"},
	{"journal/codec.go", `codec.go eventSize: return len(e.Source) + len(e.ID) + len(e.Type) + len(e.ContentType) + len(e.Data) + 12  [+ to -] #5`,
		"a guess at a buffer's size, which grows if it was wrong"},
	{"journal/flow.go", `flow.go Runs: break  [break to continue]`,
		"slots are sorted, so that no other one matches: only looks at more of them"},
	{"journal/flow.go", `flow.go PutSeen: b := s.begin(flow, i, len(entries)+seenSize)  [+ to -]`,
		"a guess at a buffer's size, which grows if it was wrong"},
	{"journal/flow.go", `flow.go PutState: b := s.begin(flow, i, len(applied)+len(event)+len(payload)+8)  [+ to -]`,
		"a guess at a buffer's size, which grows if it was wrong"},
	{"journal/flow.go", `flow.go PutState: b := s.begin(flow, i, len(applied)+len(event)+len(payload)+8)  [+ to -] #3`,
		"a guess at a buffer's size, which grows if it was wrong"},
	{"journal/deadline.go", `deadline.go PutDeadline: b := s.begin(flow, i, eventSize(&d.After)+len(d.TraceParent)+len(d.TraceState)+48)  [+ to -]`,
		"a guess at a buffer's size, which grows if it was wrong"},
	{"journal/deadline.go", `deadline.go PutDeadline: b := s.begin(flow, i, eventSize(&d.After)+len(d.TraceParent)+len(d.TraceState)+48)  [+ to -] #2`,
		"a guess at a buffer's size, which grows if it was wrong"},
	{"journal/deadline.go", `deadline.go PutDeadline: b := s.begin(flow, i, eventSize(&d.After)+len(d.TraceParent)+len(d.TraceState)+48)  [+ to -] #3`,
		"a guess at a buffer's size, which grows if it was wrong"},
	{"journal/join.go", `join.go Hash: b := make([]byte, 0, len(all)*len(Hash{}))  [* to /]`,
		"a guess at a buffer's size, which grows if it was wrong"},
	{"journal/join.go", `join.go PutJoin: size += eventSize(&h.Event) + len(h.Topic) + len(h.TraceParent) + len(h.TraceState) + 48  [+= to =]`,
		"a guess at a buffer's size, which grows if it was wrong"},
	{"journal/join.go", `join.go PutJoin: size += eventSize(&h.Event) + len(h.Topic) + len(h.TraceParent) + len(h.TraceState) + 48  [+ to -]`,
		"a guess at a buffer's size, which grows if it was wrong"},
	{"journal/join.go", `join.go PutJoin: size += eventSize(&h.Event) + len(h.Topic) + len(h.TraceParent) + len(h.TraceState) + 48  [+ to -] #2`,
		"a guess at a buffer's size, which grows if it was wrong"},
	{"journal/join.go", `join.go PutJoin: size += eventSize(&h.Event) + len(h.Topic) + len(h.TraceParent) + len(h.TraceState) + 48  [+ to -] #3`,
		"a guess at a buffer's size, which grows if it was wrong"},
	{"journal/expiry.go", `expiry.go due: if len(s.queues) > 0 && s.queues[f] > 0 {  [> to >=]`,
		"spares a look-up: nothing is found in an empty map"},
	{"journal/parked.go", `parked.go count: if before := s.queues[f]; before == s.maxParked-1 && n > 0 {  [> to >=]`,
		"n is 1 or -1"},
	{"journal/parked.go", `parked.go count: } else if before == s.maxParked && n < 0 {  [< to <=]`,
		"n is 1 or -1"},
	{"journal/parked.go", `parked.go parkedSize: n := 64 + len(p.At) + len(p.Record.Topic) + len(p.Record.Key) + len(p.Record.Value)  [+ to -]`,
		"a guess at a buffer's size, which grows if it was wrong"},
	{"journal/parked.go", `parked.go parkedSize: n := 64 + len(p.At) + len(p.Record.Topic) + len(p.Record.Key) + len(p.Record.Value)  [+ to -] #2`,
		"a guess at a buffer's size, which grows if it was wrong"},
	{"journal/parked.go", `parked.go parkedSize: n := 64 + len(p.At) + len(p.Record.Topic) + len(p.Record.Key) + len(p.Record.Value)  [+ to -] #3`,
		"a guess at a buffer's size, which grows if it was wrong"},
	{"journal/parked.go", `parked.go parkedSize: n := 64 + len(p.At) + len(p.Record.Topic) + len(p.Record.Key) + len(p.Record.Value)  [+ to -] #4`,
		"a guess at a buffer's size, which grows if it was wrong"},
	{"journal/parked.go", `parked.go parkedSize: n += len(done) + 2  [+= to -=]`,
		"a guess at a buffer's size, which grows if it was wrong"},
	{"journal/parked.go", `parked.go parkedSize: n += len(done) + 2  [+= to =]`,
		"a guess at a buffer's size, which grows if it was wrong"},
	{"journal/parked.go", `parked.go parkedSize: n += len(done) + 2  [+ to -]`,
		"a guess at a buffer's size, which grows if it was wrong"},
	{"journal/parked.go", `parked.go parkedSize: n += len(p.Record.Headers[i].Key) + len(p.Record.Headers[i].Value) + 6  [+= to -=]`,
		"a guess at a buffer's size, which grows if it was wrong"},
	{"journal/parked.go", `parked.go parkedSize: n += len(p.Record.Headers[i].Key) + len(p.Record.Headers[i].Value) + 6  [+= to =]`,
		"a guess at a buffer's size, which grows if it was wrong"},
	{"journal/parked.go", `parked.go parkedSize: n += len(p.Record.Headers[i].Key) + len(p.Record.Headers[i].Value) + 6  [+ to -]`,
		"a guess at a buffer's size, which grows if it was wrong"},
	{"journal/parked.go", `parked.go parkedSize: n += len(p.Record.Headers[i].Key) + len(p.Record.Headers[i].Value) + 6  [+ to -] #2`,
		"a guess at a buffer's size, which grows if it was wrong"},
	{"journal/parked.go", `parked.go appendParked: b = append(b, flag(p.Alone)*parkedAlone|flag(p.Answered)*parkedAnswered|flag(p.Failed)*parkedFailed|flag(p.Cancelled)*parkedCancelled)  [* to /]`,
		"parkedAlone is 1"},
	{"journal/parked.go", `parked.go appendRetry: b = append(b, flag(r.Undo)*retryUndo)  [* to /]`,
		"retryUndo is 1"},
	{"journal/parked.go", `parked.go readParked: if n := r.uvarint(); n > 0 {  [> to >=]`,
		"an empty list, where there is none"},
	{"journal/store.go", `store.go parse: if _, err := hex.Decode(i.hash[:placeID-shortID], place[:min(len(place), 2*(placeID-shortID))]); err != nil ||  [- to +]`,
		"the comparison after it refuses what is longer"},
	{"journal/store.go", `store.go parse: if _, err := hex.Decode(i.hash[:placeID-shortID], place[:min(len(place), 2*(placeID-shortID))]); err != nil ||  [- to +] #2`,
		"the comparison after it refuses what is longer"},
	{"journal/store.go", `store.go Apply: if len(s.faults) > 0 {  [> to >=]`,
		"spares a look-up: deleting from an empty map does nothing"},
	{"journal/table.go", `table.go number: look := (uint(len(text)) + 7*uint(text[len(text)/2])) % uint(len(t.recent))  [+ to -]`,
		"where a shortcut is kept: the table itself finds the same number"},
	{"journal/table.go", `table.go number: look := (uint(len(text)) + 7*uint(text[len(text)/2])) % uint(len(t.recent))  [* to /]`,
		"where a shortcut is kept: the table itself finds the same number"},
	{"task/open.go", `open.go (package): unstableRetry = 15 * time.Millisecond  [* to /]`,
		"only asks more often"},
	{"task/open.go", `open.go openOnce: if len(begin) > 0 {  [> to >=]`,
		"the engine is asked to begin nothing, and does nothing"},
	{"task/open.go", `open.go checkLogs: latest = latest || s.fresh && s.from == Latest  [&& to ||]`,
		"asks for last stable offsets that nobody looks at"},
	{"task/restore.go", `restore.go restore: if pos >= end {  [>= to >]`,
		"makes a client that reads nothing"},
	{"task/restore.go", `restore.go restore: break  [break to continue]`,
		"what follows in the answer lies behind the end as well"},
	{"task/unblock.go", `unblock.go openTransactions: continue  [continue to break]`,
		"it leaves the switch: what is not known has no state, and is passed over as well"},
	{"task/owner.go", `owner.go Membership: if group == nil || as.member == "" {  [|| to &&]`,
		"the member id is empty as well, and under that nothing is committed"},
	{"task/reader.go", `reader.go next: if r.pass.Err() != nil && !r.stopped {  [&& to ||]`,
		"makes a context anew that nobody has any more"},
	{"task/reader.go", `reader.go run: if len(r.ready) > 0 || ctx.Err() != nil {  [|| to &&]`,
		"feeds stay ready only when the context is done, and a poll returns at once then"},
	{"task/reader.go", `reader.go forget: if len(parts) > 0 {  [> to >=]`,
		"the client is asked to forget nothing, and does nothing"},
	{"txn/offsets.go", `offsets.go coordinator: return -1, err  [- to +]`,
		"callers look at the error first and then at no number"},
	{"txn/offsets.go", `offsets.go coordinator: return -1, err  [- to +] #2`,
		"callers look at the error first and then at no number"},
	{"txn/offsets.go", `offsets.go coordinator: return -1, err  [- to +] #3`,
		"callers look at the error first and then at no number"},
	{"txn/offsets.go", `offsets.go coordinator: if len(resp.Coordinators) > 0 {  [> to <=]`,
		"the client writes a single coordinator into the answer's own fields, too"},
	{"txn/offsets.go", `offsets.go coordinator: if len(resp.Coordinators) > 0 {  [> to >=]`,
		"brokers of the version that is required answer with a list"},
	{"txn/queue.go", `queue.go push: if len(q.items) == cap(q.items) && q.head > len(q.items)/2 {  [== to !=]`,
		"moves what is left more or less often: memory stays bounded, and the order the same"},
	{"txn/queue.go", `queue.go push: if len(q.items) == cap(q.items) && q.head > len(q.items)/2 {  [&& to ||]`,
		"moves what is left more or less often: memory stays bounded, and the order the same"},
	{"txn/queue.go", `queue.go push: if len(q.items) == cap(q.items) && q.head > len(q.items)/2 {  [> to >=]`,
		"moves what is left more or less often: memory stays bounded, and the order the same"},
	{"txn/pipeline.go", `pipeline.go add: return first || len(r.Records) > 0 && (p.gathered.loud == 1 || p.gathered.loud == p.enough())  [> to >=]`,
		"wakes who waits once more, or not at that size but at the next result or after Config.Gather"},
	{"txn/pipeline.go", `pipeline.go add: return first || len(r.Records) > 0 && (p.gathered.loud == 1 || p.gathered.loud == p.enough())  [&& to ||]`,
		"wakes who waits once more, or not at that size but at the next result or after Config.Gather"},
	{"txn/pipeline.go", `pipeline.go add: return first || len(r.Records) > 0 && (p.gathered.loud == 1 || p.gathered.loud == p.enough())  [== to !=] #2`,
		"wakes who waits once more, or not at that size but at the next result or after Config.Gather"},
	{"txn/lane.go", `lane.go options: kgo.RequestTimeoutOverhead(max(stage/2, 100*time.Millisecond)),  [* to /]`,
		"half a stage is longer with any time-out of transactions but those of tests"},
	{"txn/session.go", `session.go run: continue  [continue to break]`,
		"it is the last statement of a case: the break leaves the switch, and the next round begins as well"},
	{"txn/pipeline.go", `pipeline.go Run: break  [break to continue]`,
		"there are no lanes only when the context has ended, and with that the loop ends as well"},
	{"txn/pipeline.go", `pipeline.go Run: break  [break to continue] #2`,
		"the context has ended, and with that the loop ends as well"},
	{"txn/gate.go", `gate.go gate: f.mark++  [++ to --]`,
		"marks only have to differ from one transaction to the next"},
}
