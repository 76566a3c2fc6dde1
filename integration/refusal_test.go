package integration

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// command runs a command of a service's program, such as topics --reset, and
// returns what it printed.
func (w *world) command(service string, args ...string) (string, error) {
	w.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.CommandContext(timeout(w.t, time.Minute), exe, args...)
	cmd.Env = append(os.Environ(), childVariable+"="+service, "KAFKA_BROKERS="+strings.Join(w.cluster.brokers, ","), "TOPIC_PREFIX="+w.prefix)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// remedy finds the command that an error names between backquotes, and gives it
// as arguments, with the choice made where there is one.
func remedy(t *testing.T, text, choice string) []string {
	t.Helper()
	_, rest, ok := strings.Cut(text, "`work ")
	line, _, closed := strings.Cut(rest, "`")
	if !ok || !closed {
		t.Fatalf("no command is named in: %s", text)
	}
	return strings.Fields(strings.Replace(line, "earliest|latest", choice, 1))
}

// resetAsTold runs the command that readiness names, once the group has no
// members: it refuses before.
func (w *world) resetAsTold(reason, choice string) {
	w.t.Helper()
	args := remedy(w.t, reason, choice)
	var out string
	within(w.t, w.session+20*time.Second, "the command succeeds", func() bool {
		var err error
		if out, err = w.command("work", args...); err != nil {
			time.Sleep(500 * time.Millisecond)
		}
		return err == nil
	})
	w.t.Logf("work %s:\n%s", strings.Join(args, " "), strings.TrimSpace(out))
}

func TestOffsetsDeletedAreRefused(t *testing.T) {
	const lost = int32(3)
	w := newWorld(t, anyBrokers(t))
	work, _ := w.begin()
	w.feeder.during(load{rate: 300, flows: 200, fail: 10}, func() { time.Sleep(time.Second) })
	w.settle(10 * time.Second)
	work.terminate(20 * time.Second)

	ctx := timeout(t, 30*time.Second)
	was, err := w.admin.FetchOffsets(ctx, w.topic("work"))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := was.Lookup(w.topic(topicJobs), lost); !ok {
		t.Fatalf("nothing is committed of partition %d", lost)
	}
	deleted, err := w.admin.DeleteOffsets(ctx, w.topic("work"), kadm.TopicsSet{w.topic(topicJobs): {lost: {}}})
	if err == nil {
		err = deleted.Error()
	}
	if err != nil {
		t.Fatalf("delete offsets: %v", err)
	}

	work = w.start("work", "work-0")
	reason := work.awaitReason(20*time.Second, fmt.Sprintf("task %d is stopped", lost), w.topic(topicJobs), "topics --reset")
	t.Logf("readiness says: %s", reason)
	// The other tasks go on; this one does nothing, rather than do it again or leave it out.
	before := w.reader.count(topicDone)
	w.feeder.during(load{rate: 300, flows: 200, fail: 10}, func() { time.Sleep(time.Second) })
	others := map[int32]bool{}
	within(t, 20*time.Second, "the other tasks go on", func() bool {
		for _, e := range w.reader.since(topicDone, before) {
			others[e.partition] = true
		}
		return len(others) >= tasks-1
	})
	w.reader.readAll(10 * time.Second)
	for _, e := range w.reader.since(topicDone, before) {
		if e.partition == lost {
			t.Fatalf("task %d is stopped, and yet it said %s of flow %s", lost, e.typ, e.flow)
		}
	}
	work.terminate(20 * time.Second)

	// Decided for earliest, everything is read again, and what was done is known.
	w.resetAsTold(reason, "earliest")
	work = w.start("work", "work-0")
	work.awaitReady(20 * time.Second)
	w.check(30 * time.Second)
}

func TestTopicCreatedAnewIsRefused(t *testing.T) {
	w := newWorld(t, anyBrokers(t))
	work, ship := w.begin()
	w.feeder.during(load{rate: 300, flows: 200, fail: 10}, func() { time.Sleep(time.Second) })
	w.settle(10 * time.Second)
	work.terminate(20 * time.Second)

	w.createAnew(topicJobs)
	w.feeder.connect() // the producer has the old topic in mind
	work = w.start("work", "work-0")
	reason := work.awaitReason(20*time.Second, "is stopped", w.topic(topicJobs), "created anew", "topics --reset")
	t.Logf("readiness says: %s", reason)
	if ready, reasons, _ := ship.readiness(); !ready {
		t.Errorf("ship reads other topics, and is not ready: %v", reasons)
	}
	before := w.reader.count(topicDone)
	w.feeder.during(load{rate: 300, flows: 200, fail: 10}, func() { time.Sleep(500 * time.Millisecond) })
	w.reader.readAll(10 * time.Second)
	if n := w.reader.count(topicDone); n != before {
		t.Errorf("%d events were said by tasks that are stopped", n-before)
	}
	work.terminate(20 * time.Second)

	w.resetAsTold(reason, "earliest")
	work = w.start("work", "work-0")
	work.awaitReady(20 * time.Second)
	w.check(30 * time.Second)
}

// createAnew deletes a topic and creates it again, empty.
func (w *world) createAnew(name string) {
	w.t.Helper()
	ctx := timeout(w.t, 30*time.Second)
	if _, err := w.admin.DeleteTopic(ctx, w.topic(name)); err != nil {
		w.t.Fatalf("delete %s: %v", name, err)
	}
	within(w.t, 20*time.Second, "the topic is created anew", func() bool {
		_, err := w.admin.CreateTopic(ctx, tasks, -1, nil, w.topic(name))
		return err == nil // it may be there for a while
	})
	within(w.t, 20*time.Second, "the brokers show it", func() bool {
		shown, err := w.admin.ListTopics(ctx, w.topic(name))
		return err == nil && shown[w.topic(name)].Err == nil && len(shown[w.topic(name)].Partitions) == tasks
	})
}
