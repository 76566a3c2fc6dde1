package integration

import (
	"fmt"
	"testing"
	"time"
)

// expectedTallies is what the state of each flow must be.
func (f *feeder) expectedTallies() map[string]tally {
	jobs, _ := f.all()
	want := map[string]tally{}
	for _, j := range jobs {
		v := want[j.Flow]
		want[j.Flow] = tally{Count: v.Count + 1, Sum: v.Sum + j.N, Last: max(v.Last, j.N)}
	}
	return want
}

func checkTallies(t *testing.T, when string, p *process, want map[string]tally) {
	t.Helper()
	wrong := 0
	for flow, w := range want {
		if got, err := p.tally(flow); err != nil || got != w {
			if wrong++; wrong <= 5 {
				t.Errorf("%s: %v says of flow %s: %+v, %v; want %+v", when, p, flow, got, err, w)
			}
		}
	}
	if wrong > 5 {
		t.Errorf("%s: %d of %d flows are wrong", when, wrong, len(want))
	}
}

func TestStateIsRestoredFromJournal(t *testing.T) {
	w := newWorld(t, anyBrokers(t))
	work, _ := w.begin()
	w.feeder.during(load{rate: 1000, flows: 1500}, func() { time.Sleep(4 * time.Second) })
	w.settle(20 * time.Second)
	want := w.feeder.expectedTallies()
	checkTallies(t, "before", work, want)
	work.kill()
	work = w.start("work", "work-0")
	work.awaitReady(10 * time.Second)
	checkTallies(t, "after SIGKILL and restart", work, want)
	second := w.start("work", "work-1")
	w.awaitTasks(20*time.Second, work, second)
	checkTallies(t, "half of it owned by another", work, want)
	checkTallies(t, "half of it owned by another", second, want)
	// The state goes on where it was.
	w.feeder.during(load{rate: 1000, flows: 1500}, func() { time.Sleep(time.Second) })
	w.check(20 * time.Second)
	checkTallies(t, "after more jobs", second, w.feeder.expectedTallies())
}

// restored is how many journal records the last start of the process restored,
// and how long that took: from the begin of the first restore to the end of the
// last, tasks being restored side by side.
func (p *process) restored() (records int, took time.Duration) {
	p.t.Helper()
	var first, last time.Time
	for _, l := range p.log(p.started) {
		if l.Message != "task open" {
			continue
		}
		restore, err := time.ParseDuration(l.Restore)
		if err != nil {
			p.t.Fatalf("%v logs %q: how long did the restore take?", p, l.raw)
		}
		records += int(l.Journal)
		if began := l.Time.Add(-restore); first.IsZero() || began.Before(first) {
			first = began
		}
		if l.Time.After(last) {
			last = l.Time
		}
	}
	return records, last.Sub(first)
}

func TestRestoreRateAndSizeOfIdleFlows(t *testing.T) {
	const flows, limit = 300_000, 500 // flows, bytes each
	// 200,000 flows/s are the aim on two cores that do nothing else.
	const rate, least = 200_000, 100_000
	w := newSilentWorld(t, anyBrokers(t), "keep")
	p := w.start("keep", "keep-0", "INTEGRATION_NOTES=")
	p.awaitReady(20 * time.Second)
	began := time.Now()
	for i := range flows {
		w.feeder.put(topicJobs, typeJob, job{Flow: fmt.Sprintf("flow-%08d", i), N: 1})
	}
	w.feeder.flush()
	within(t, 3*time.Minute, "all flows are journalled", func() bool {
		n, err := p.readMetric("choreo_journal_flows")
		busy, busyErr := p.readMetric("choreo_in_flight_records")
		return err == nil && busyErr == nil && n == flows && busy == 0
	})
	t.Logf("%d flows journalled in %v", flows, time.Since(began).Round(time.Millisecond))
	p.terminate(20 * time.Second)

	p = w.start("keep", "keep-0", "INTEGRATION_NOTES=")
	p.awaitReady(time.Minute)
	ready := time.Since(p.started)
	records, took := p.restored()
	if n := p.metric("choreo_journal_flows"); n != flows {
		t.Errorf("%v flows were restored, not %d", n, flows)
	}
	size := p.metric("choreo_journal_bytes") / flows
	perSecond := flows / took.Seconds()
	t.Logf("%d journal records of %d flows restored in %v: %.0f flows/s; ready %v after the start; by the runtime's own account %.0f bytes per idle flow",
		records, flows, took.Round(time.Millisecond), perSecond, ready.Round(time.Millisecond), size)
	if records < flows {
		t.Errorf("%d journal records were restored, fewer than flows", records)
	}
	if perSecond < least {
		t.Errorf("%.0f flows/s: the aim is %d, and below %d something is wrong", perSecond, rate, least)
	}
	if size > limit {
		t.Errorf("%.0f bytes per idle flow, must be at most %d", size, limit)
	}
	p.terminate(20 * time.Second)

	// What the flows take really: collected often, the heap is little more than
	// what lives.
	p = w.start("keep", "keep-0", "INTEGRATION_NOTES=", "GOGC=5")
	p.awaitReady(time.Minute)
	heap := p.metric("go_memstats_heap_alloc_bytes")
	for range 20 {
		time.Sleep(50 * time.Millisecond)
		heap = min(heap, p.metric("go_memstats_heap_alloc_bytes"))
	}
	t.Logf("the whole heap is %.0f bytes per idle flow", heap/flows)
	if heap/flows > limit {
		t.Errorf("the whole heap is %.0f bytes per idle flow, must be at most %d", heap/flows, limit)
	}
}
