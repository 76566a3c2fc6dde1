package choreo

import (
	"slices"
	"testing"

	"github.com/choreography-go/choreography/choreo/internal/txn"
	"github.com/twmb/franz-go/pkg/kgo"
)

// holding is a pipeline that keeps what is submitted until it is told what
// became of it.
type holding struct {
	*atOnce
	held chan *txn.Result
}

func (p *holding) Submit(r *txn.Result) { p.held <- r }

// The memory of what is said is used again, but only when it is committed: a
// client may hold for a while what was dropped.
func TestWhatIsSaidIsUsedAgainOnlyOnceItIsCommitted(t *testing.T) {
	x := newBelt(t, "reaction")
	p := &holding{atOnce: x.pipe, held: make(chan *txn.Result, beltBatch)}
	x.e.pipe = p
	type said struct {
		result *txn.Result
		rec    *kgo.Record
		was    kgo.Record
	}
	deliver := func() []said {
		for _, rec := range x.recs {
			rec.Offset = x.next
			x.next++
		}
		x.framework(x.recs)
		var all []said
		for range x.recs {
			r := <-p.held
			was := *r.Records[0]
			was.Key, was.Headers = slices.Clone(was.Key), slices.Clone(was.Headers)
			for i := range was.Headers {
				was.Headers[i].Value = slices.Clone(was.Headers[i].Value)
			}
			all = append(all, said{r, r.Records[0], was})
		}
		return all
	}
	untouched := func(what string, all []said) {
		t.Helper()
		for _, s := range all {
			if s.rec.Topic != s.was.Topic || string(s.rec.Key) != string(s.was.Key) || string(s.rec.Value) != string(s.was.Value) ||
				!slices.EqualFunc(s.rec.Headers, s.was.Headers, func(a, b kgo.RecordHeader) bool {
					return a.Key == b.Key && string(a.Value) == string(b.Value)
				}) {
				t.Fatalf("a record that is %s was written over: %+v, was %+v", what, s.rec, s.was)
			}
		}
	}
	done := func(all []said, committed bool) {
		for _, s := range all {
			s.result.Source.Offsets.Finish(s.result.Offset)
			s.result.Done.Done(committed)
		}
	}
	first, dropped := deliver(), deliver()
	done(dropped, false)
	for range 3 {
		again := deliver()
		untouched("under way", first)
		untouched("dropped", dropped)
		done(again, true)
	}
	untouched("under way", first)
	untouched("dropped", dropped)
	done(first, true)
}
