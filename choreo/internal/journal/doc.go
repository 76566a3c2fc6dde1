// Package journal keeps what one task remembers of its flows: which runs of a
// step were made, which steps are cancelled, the state of each flow, which events
// were seen, which deadlines are pending, which joins wait for another event, and
// which inputs were begun.
//
// It owns the memory of one task, the keys and values of the journal's records,
// the fold that turns records back into memory, and the rule by which flows
// expire. It may not touch the network, clocks, goroutines or logs: the caller
// reads records and hands them to Apply, writes the records that the Put methods
// return, and says what time it is.
//
// # Records
//
// The journal topic is compacted. A record's key is the correlation id of the
// flow, a NUL, and the slot:
//
//	run/<step>/<event hash>      a run of a step, by the event that caused it
//	cancelled/<step>             the step is cancelled, by which triggers
//	state/<name>                 the state of the flow and the events it has applied
//	seen                         events seen by reactions that run once, and starts
//	parked/<place>               an event in the queue of its key, as it was read
//	deadline/<name>              a deadline: pending, met or fired
//	join/<step>                  what has come of the events that a step joins
//	retry                        how far the attempts on the queue's head have come
//	input/<topic>/<partition>    of no flow: the input was begun, and its topic id
//
// The slot holds no NUL, so that the last NUL of a key ends the correlation id,
// whatever that holds. Values begin with a format version; a null value deletes the
// slot. Nothing that cannot be read is ever dropped: see Store.Restored.
//
// # Optimistic memory
//
// A Put changes memory at once, so that the flow's next event meets it, and
// returns the record to write in the transaction of the event's results. Memory is
// never rolled back: if a transaction fails the caller throws the Store away and
// restores a new one, because the broker is the truth. Only Committed looks at
// what is known to be committed.
package journal
