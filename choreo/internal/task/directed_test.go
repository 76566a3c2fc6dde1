package task

import (
	"slices"
	"testing"
)

// The offsets of a transaction are there already, and the marker of its journal
// records is not: the restore waits for it, or the task would go on behind events
// of which it remembers nothing. Kafka writes the markers of a transaction's
// partitions in any order; here the journal's comes from a transaction of its own.
func TestDirectedJournalMarkerLaterThanTheOffsets(t *testing.T) {
	r := newRig(t, map[string]int32{"inbox": 1, "journal": 1})
	r.produce("inbox", 0, seq("v", 3)...)
	late := r.lane("elsewhere/0")
	r.begin(late)
	r.write(late, "journal", 0, "run of v0")
	r.commit("inbox", 0, 1)
	a := r.instance("a").start()
	eventually(t, "the task is restoring", func() bool {
		s := a.owner.Status().Tasks
		return len(s) == 1 && s[0].Phase == Restoring
	})
	if len(a.values("inbox", 0)) != 0 || a.task(0) != nil {
		t.Error("the task opened before its journal was there")
	}
	r.end(late, kgoCommit)
	a.waitOpen(1)
	if got := a.task(0).Store.(*store).applied; !slices.Equal(got, []string{"run of v0"}) {
		t.Errorf("applied %q", got)
	}
	eventually(t, "the rest is delivered", func() bool { return slices.Equal(a.values("inbox", 0), []string{"v1", "v2"}) })
}
