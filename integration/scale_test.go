package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// awaitTasks returns when the processes read all tasks between them, each its
// fair share.
func (w *world) awaitTasks(within time.Duration, all ...*process) {
	w.t.Helper()
	var last string
	until := time.Now().Add(within)
	for {
		open, fair, counts := 0.0, true, []string{}
		for _, p := range all {
			n, err := p.readMetric("choreo_tasks_owned", `phase="open"`)
			if err != nil {
				n = 0
			}
			open += n
			fair = fair && int(n) >= tasks/len(all)
			counts = append(counts, fmt.Sprintf("%v %v", p, n))
		}
		last = strings.Join(counts, ", ")
		if open == tasks && fair {
			return
		}
		if time.Now().After(until) {
			w.t.Fatalf("not all tasks are read, by all in equal shares, after %v: %s", within, last)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestInstancesAddedAndRemovedUnderLoad(t *testing.T) {
	w := newWorld(t, anyBrokers(t))
	work, _ := w.begin()
	running := []*process{work}
	w.feeder.during(load{rate: 300, flows: 300, fail: 10}, func() {
		for _, n := range []int{3, 2, 4, 1} {
			began, was := time.Now(), len(running)
			for len(running) < n {
				running = append(running, w.start("work", fmt.Sprintf("work-%d", len(running))))
			}
			for len(running) > n {
				running[len(running)-1].terminate(20 * time.Second)
				running = running[:len(running)-1]
			}
			// A static member that has stopped keeps its tasks until its session
			// ends, in case it returns.
			w.awaitTasks(w.session+10*time.Second, running...)
			t.Logf("from %d to %d instances: all tasks read after %v", was, n, time.Since(began).Round(time.Millisecond))
			for _, p := range running {
				p.awaitReady(10 * time.Second)
			}
			time.Sleep(time.Second) // under load
		}
	})
	w.check(30 * time.Second)
}

func TestRollingDeployAddsStepOnNewTopic(t *testing.T) {
	w := newWorld(t, anyBrokers(t))
	first, _ := w.begin()
	second := w.start("work", "work-1")
	w.awaitTasks(20*time.Second, first, second)
	w.feeder.during(load{rate: 300, flows: 300, fail: 10}, func() { time.Sleep(time.Second) })

	w.createTopics(services["work-next"]())
	w.reader.also(topicAudits)
	w.feeder.during(load{rate: 300, flows: 300, fail: 10, extra: true}, func() {
		time.Sleep(500 * time.Millisecond)
		second.terminate(20 * time.Second)
		second = w.start("work-next", "work-1")
		second.awaitReady(20 * time.Second)
		w.awaitTasks(20*time.Second, first, second)
		time.Sleep(2 * time.Second) // old and new side by side
		if w.reader.count(topicAudits) == 0 {
			t.Error("side by side with the old version, the new one has heard nothing on its new topic")
		}
		first.terminate(20 * time.Second)
		first = w.start("work-next", "work-0")
		first.awaitReady(20 * time.Second)
		time.Sleep(500 * time.Millisecond)
	})
	w.check(30 * time.Second)
	if _, extras := w.feeder.all(); len(extras) == 0 {
		t.Error("nothing was fed on the new topic")
	}
}

func TestRefundsOfThreeMembersWithFailuresOnAllPartitions(t *testing.T) {
	w := newWorld(t, anyBrokers(t))
	var members []*process
	for i := range 3 {
		members = append(members, w.start("work", fmt.Sprintf("work-%d", i)))
	}
	w.start("ship", "ship-0")
	w.start("ship", "ship-1")
	w.awaitTasks(30*time.Second, members...)
	w.feeder.during(load{rate: 150, fail: 1}, func() {
		time.Sleep(2 * time.Second)
		for _, p := range members {
			if n := p.metric("choreo_compensations_total"); n == 0 {
				t.Errorf("%v has undone nothing", p)
			}
		}
		members[1].kill()
		members[1] = w.start("work", "work-1")
		time.Sleep(2 * time.Second)
	})
	w.check(30 * time.Second)
	partitions := map[string]map[int32]bool{topicFailures: {}, topicMisfits: {}}
	for topic, seen := range partitions {
		for _, e := range w.reader.since(topic, 0) {
			seen[e.partition] = true
		}
	}
	if n, m := len(partitions[topicFailures]), len(partitions[topicMisfits]); n != tasks || m != misfitPartitions {
		t.Errorf("failures were on %d of %d partitions, misfits on %d of %d: the test proves less than it should", n, tasks, m, misfitPartitions)
	}
}
