package txn

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Of the records that went to one partition together the largest is blamed, the
// first of several, and none that went elsewhere.
func TestTheLargestRecordOfThePartitionIsBlamed(t *testing.T) {
	record := func(topic string, p int32, size int) *kgo.Record {
		return &kgo.Record{Topic: topic, Partition: p, Value: []byte(strings.Repeat("x", size))}
	}
	small, large, same := record("out", 0, 10), record("out", 0, 100), record("out", 0, 100)
	first := &Result{Records: []*kgo.Record{record("other", 0, 5000), record("out", 1, 4000), small}}
	second := &Result{Records: []*kgo.Record{record("out", 1, 3000), large}}
	third := &Result{Records: []*kgo.Record{same, record("other", 1, 2000)}}
	tx := &transaction{s: &session{p: &Pipeline{cfg: Config{BatchBytes: func(string) int32 { return 99 }}}}}
	tx.results = []*Result{first, second, third}
	if got, want := tx.largest(small), RecordSize(large)+batchOverhead; got.Result != second || got.Bytes != want || got.Limit != 99 || got.Topic != "out" {
		t.Errorf("blamed %+v, want the second result with %d bytes", got, want)
	}
}

// gauge keeps what the observer is told of transactions.
type gauge struct {
	blind
	bytes chan int
}

func (g gauge) Committed(_ time.Duration, _, _, bytes int) { g.bytes <- bytes }

func TestTheObserverIsToldAllBytes(t *testing.T) {
	g := gauge{bytes: make(chan int, 10)}
	r := newRig(t, rigConfig{change: func(c *Config) { c.Observer = g }})
	inc, src := r.fence.Open(0), r.source(0, 10)
	a, da := result(inc, src, 0, "a", "bb")
	b, db := result(inc, src, 1, "ccc")
	want := a.size() + b.size()
	r.pipe.SubmitAll([]*Result{a, b})
	da.is(t, true)
	db.is(t, true)
	if got := receive(t, g.bytes, "the measurement"); got != want {
		t.Errorf("told %d bytes, want %d", got, want)
	}
}

// When nothing is left of what was silent, nothing is committed.
func TestNothingIsCommittedForClosedIncarnationsAlone(t *testing.T) {
	r := newRig(t, rigConfig{change: func(c *Config) { c.SilentAfter = time.Millisecond }})
	gone, src := r.fence.Open(0), r.source(0, 10)
	gone.Close(nil)
	r.submit(gone, src, 0).is(t, false)
	kept, other := r.fence.Open(1), r.source(1, 10)
	r.submit(kept, other, 0).is(t, true)
	for _, c := range r.calls(kTxnCommit) {
		if len(partitionsOf(c)) == 0 {
			t.Error("a commit of nothing was sent")
		}
	}
	r.hasCommitted(0, -1)
	r.hasCommitted(1, 1)
}

// A timer's doing finishes no offset of its home, whatever its Offset says.
func TestATimersDoingFinishesNothing(t *testing.T) {
	r := newRig(t, rigConfig{})
	inc, home := r.fence.Open(0), r.source(0, 1)
	inc.SetHome(home)
	res, d := result(inc, nil, 0, "tick")
	r.pipe.Submit(res)
	d.is(t, true)
	r.hasCommitted(0, 0)
	if n := home.Offsets.InFlight(); n != 1 {
		t.Errorf("%d records are in flight, want the one that was handed out", n)
	}
}
