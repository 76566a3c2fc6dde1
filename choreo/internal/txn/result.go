package txn

import (
	"github.com/choreography-go/choreography/choreo/internal/offsets"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Source is one input partition of one incarnation. The pipeline knows sources
// by pointer: make one per partition and incarnation.
type Source struct {
	Topic     string
	TopicID   [16]byte
	Partition int32
	Offsets   *offsets.Tracker

	mark uint64 // of the last transaction that commits it; guarded by the fence's lock
}

// NoOffset as a Result's Offset finishes nothing: its source's offset is
// committed as it is at the gate.
const NoOffset int64 = -1

// Result is the finished work on one input record. It belongs to the pipeline
// from Submit until Done; its records must not be changed or used again even
// after Done(false), because the client may hold them a little longer.
type Result struct {
	// Inc is the incarnation under which the work was done. Required.
	Inc *Incarnation

	// Source and Offset say which record is finished, one that was begun and
	// not finished. Without a source, a timer's doing, or with NoOffset,
	// nothing is finished; the offset of the source, or of the incarnation's
	// home (see SetHome), is then committed again.
	Source *Source
	Offset int64

	// Records are the outputs, produced in this order. Without any, the result
	// is silent: its offset rides in the next transaction, or in one of its
	// own when there is none for a while.
	Records []*kgo.Record

	// Done, if not nil, is called exactly once: with true when the transaction
	// is known to have committed, with false when the result was dropped (then
	// the work may still have been committed, if an answer was lost; the broker
	// knows). Calls with true come in the order of submission, on goroutines of
	// the pipeline; after Run has returned Submit itself calls it. It must not
	// block nor call the pipeline's Drain or Close, but may Submit.
	Done Done

	bytes int
}

// Done is told what became of a result.
type Done interface{ Done(committed bool) }

// DoneFunc is a function as a Done.
type DoneFunc func(committed bool)

// Done calls f.
func (f DoneFunc) Done(committed bool) { f(committed) }

// source is the one whose offset is committed with the result.
func (r *Result) source() *Source {
	if r.Source != nil {
		return r.Source
	}
	return r.Inc.home.Load()
}

func (r *Result) done(committed bool) {
	if r.Done != nil {
		r.Done.Done(committed)
	}
}

// size is what the outputs take on the wire, about.
func (r *Result) size() int {
	n := 0
	for _, rec := range r.Records {
		n += RecordSize(rec)
	}
	return n
}

// RecordSize is about the number of bytes that a record takes in a batch, before
// compression: never less than that.
func RecordSize(rec *kgo.Record) int {
	n := recordOverhead + len(rec.Key) + len(rec.Value)
	for i := range rec.Headers {
		n += headerOverhead + len(rec.Headers[i].Key) + len(rec.Headers[i].Value)
	}
	return n
}

const (
	recordOverhead = 36 // length, attributes, deltas, lengths of key and value, number of headers: varints
	headerOverhead = 10 // two lengths
	batchOverhead  = 61 // of a batch, KIP-98
)
