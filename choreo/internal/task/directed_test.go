package task

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// directed runs a test of what random faults hardly meet on the embedded broker
// and, with KAFKA_BROKERS, on real ones. The topics have one partition.
func directed(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Helper()
	topics := map[string]int32{"inbox": 1, "journal": 1}
	t.Run("embedded", func(t *testing.T) { test(t, newRig(t, topics)) })
	if brokers := os.Getenv("KAFKA_BROKERS"); brokers != "" {
		t.Run("kafka", func(t *testing.T) {
			r := newRigOn(t, strings.Split(brokers, ","), fmt.Sprintf("directed%d", time.Now().UnixNano()), topics)
			t.Cleanup(func() { _, _ = r.adm.DeleteTopics(context.Background(), r.topic("inbox"), r.topic("journal")) })
			test(t, r)
		})
	}
}

// The offsets of a transaction are there already, and the marker of its journal
// records is not: the restore waits for it, or the task would go on behind events
// of which it remembers nothing. Kafka writes the markers of a transaction's
// partitions in any order; here the journal's comes from a transaction of its own.
func TestDirectedJournalMarkerLaterThanTheOffsets(t *testing.T) {
	directed(t, func(t *testing.T, r *rig) {
		r.produce("inbox", 0, seq("v", 3)...)
		late := r.lane("elsewhere/" + r.group)
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
	})
}

// The offsets of a group expire when it was empty for long enough. Its journal
// says that there were some: the task is stopped, and nothing is read again or
// left out. Deleting them leaves what expiring does, and does not take the
// minutes that a broker waits before it looks.
func TestDirectedOffsetsExpired(t *testing.T) {
	directed(t, func(t *testing.T, r *rig) {
		r.produce("inbox", 0, seq("v", 4)...)
		r.begun("inbox", 0, r.id("inbox"), 0)
		r.commit("inbox", 0, 2)
		gone, err := r.adm.DeleteOffsets(t.Context(), r.group, kadm.TopicsSet{r.topic("inbox"): {0: {}}})
		if err == nil {
			err = gone.Error()
		}
		if err != nil {
			t.Fatal(err)
		}
		a := r.instance("a").start()
		err = a.waitStopped(0)
		if _, ok := errors.AsType[*OffsetsError](err); !ok || !strings.Contains(err.Error(), "no committed offset") || !strings.Contains(err.Error(), "pay topics --reset") {
			t.Errorf("stopped with %v", err)
		}
		if a.task(0) != nil || len(a.values("inbox", 0)) > 0 {
			t.Error("a stopped task was handed to the engine")
		}
		if at := r.committed("inbox", 0); at != -1 {
			t.Errorf("an offset was committed: %d", at)
		}
	})
}

// The second process under one instance id gets it; the first one ends with an
// error that names the id and what to do.
func TestDirectedInstanceIDUsedTwice(t *testing.T) {
	directed(t, func(t *testing.T, r *rig) {
		a := r.instance("same").start()
		a.waitOpen(1)
		b := r.instance("same").start()
		err := <-a.ran
		if _, ok := errors.AsType[*InstanceInUseError](err); !ok || !strings.Contains(err.Error(), `INSTANCE_ID "same" is in use by another process`) {
			t.Fatalf("the first ended with %v", err)
		}
		b.waitOpen(1)
		r.produce("inbox", 0, "v0")
		eventually(t, "the second goes on", func() bool { return slices.Equal(b.values("inbox", 0), []string{"v0"}) })
	})
}
