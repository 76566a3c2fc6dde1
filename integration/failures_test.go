package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
)

// lapse is how long clerk waits for the first job of a flow to be done.
const lapse = 2 * time.Second

// clerk does jobs with a provider, tells which flows have waited for that for too
// long, and audits extras, of which the second of a flow fails while it is refused.
func clerk() *choreo.Service {
	do := func(while string, only func(job) bool) func(context.Context, job) (effect, error) {
		return func(_ context.Context, j job) (effect, error) {
			switch _, err := os.Stat(os.Getenv("INTEGRATION_NOTES") + "." + while); {
			case err == nil && only(j):
				return effect{}, errors.New("the provider is " + while)
			case err != nil && !errors.Is(err, os.ErrNotExist):
				return effect{}, err
			}
			return effect{Flow: j.Flow, N: j.N}, nil
		}
	}
	return choreo.NewService("clerk", choreo.Tasks(tasks), choreo.Retention{Flow: 1000 * time.Hour},
		choreo.Step[job, effect]{
			Name: "file", On: jobs, Emit: done, Do: do("away", func(job) bool { return true }),
			Retry:   choreo.Retry{InPlace: 2, First: 10 * time.Millisecond, Max: 200 * time.Millisecond, Attempts: 20},
			Breaker: choreo.Breaker{Failures: 10, Open: 200 * time.Millisecond},
		},
		choreo.Deadline[job, effect]{
			Name: "late", After: jobs, Within: choreo.Fixed[job](lapse), Unless: choreo.Events{done}, Emit: lapsed,
			Do: func(_ context.Context, j job) (effect, error) { return effect{Flow: j.Flow, N: j.N}, nil },
		},
		choreo.Step[job, effect]{
			Name: "stamp", On: extras, Emit: audited, Do: do("refusing", func(j job) bool { return j.N == 2 }),
			Retry: choreo.Retry{InPlace: 1, First: 400 * time.Hour, Max: 400 * time.Hour, Attempts: 3}, // the next one is an operator's
		})
}

// provider lets clerk's provider be something, or not any more.
func (w *world) provider(is string, so bool) {
	w.t.Helper()
	path := w.notes + "." + is
	var err error
	if so {
		err = os.WriteFile(path, nil, 0o600)
	} else {
		err = os.Remove(path)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// newClerksWorld has clerk's topics, and one process of it.
func newClerksWorld(t *testing.T) (*world, *process) {
	t.Helper()
	w := newSilentWorld(t, anyBrokers(t), "clerk")
	w.reader = newReader(w)
	p := w.start("clerk", "clerk-0")
	p.awaitReady(30 * time.Second)
	return w, p
}

// What waits for a provider, the deadlines that pass meanwhile, and the counts of
// attempts are in the journal: whatever is killed, every job is done once and in
// order when the provider is back, none is given up for its absence, and each flow
// that waited for too long was told of once.
func TestProviderAwayWhileKilled(t *testing.T) {
	const kills, flows = 8, 200
	rnd := seedOf(t)
	w, p := newClerksWorld(t)
	w.expects = func(jobs, _ []fed) map[string][]fed {
		want := map[string][]fed{topicDone: jobs}
		for _, j := range jobs {
			if j.N == 1 {
				want[topicLapses] = append(want[topicLapses], j)
			}
		}
		return want
	}
	w.provider("away", true)
	w.feeder.during(load{rate: 300, flows: flows}, func() {
		within(t, 20*time.Second, "jobs are parked", func() bool {
			n, err := p.readMetric("choreo_parked_events")
			return err == nil && n > flows
		})
		for range kills {
			time.Sleep(time.Duration(rnd.Int64N(int64(lapse / 4)))) // the random moment
			p.kill()
			p = w.start("clerk", "clerk-0")
			p.awaitReady(20 * time.Second)
		}
		within(t, lapse+20*time.Second, "all flows are late", func() bool { return w.reader.count(topicLapses) >= flows })
		if n := w.reader.count(topicDone); n > 0 {
			t.Errorf("%d jobs are done without the provider", n)
		}
		w.provider("away", false)
		within(t, 20*time.Second, "the provider is asked again", func() bool { return w.reader.count(topicDone) >= flows })
		p.kill() // while what is parked is worked off
		p = w.start("clerk", "clerk-0")
	})
	w.check(30 * time.Second)
	within(t, 10*time.Second, "nothing is parked", func() bool {
		_, err := p.readMetric("choreo_parked_events")
		return errors.Is(err, errNoSeries)
	})
}

// tool runs the command-line tool as an operator would, and reads its JSON.
func (w *world) tool(into any, args ...string) {
	w.t.Helper()
	bin := filepath.Join(w.dir, "choreo")
	if _, err := os.Stat(bin); err != nil {
		build := exec.CommandContext(timeout(w.t, 3*time.Minute), "go", "build", "-o", bin, "github.com/choreography-go/choreography/cmd/choreo")
		if out, err := build.CombinedOutput(); err != nil {
			w.t.Fatalf("build the tool: %v\n%s", err, out)
		}
	}
	cmd := exec.CommandContext(timeout(w.t, time.Minute), bin, append(args, "--service=clerk", "--output=json")...)
	cmd.Env = append(os.Environ(), "KAFKA_BROKERS="+strings.Join(w.cluster.brokers, ","), "TOPIC_PREFIX="+w.prefix)
	out, err := cmd.Output() // it ends with 1 if a command has failed, and prints that
	if wrong := json.Unmarshal(out, into); wrong != nil {
		var stderr []byte
		if x, ok := errors.AsType[*exec.ExitError](err); ok {
			stderr = x.Stderr
		}
		w.t.Fatalf("choreo %s: %v: %v\n%s%s", strings.Join(args, " "), err, wrong, out, stderr)
	}
}

// answers is what the tool prints of commands, as far as it is looked at.
type answers struct {
	Answers []struct {
		Outcome string `json:"outcome"`
		Flow    string `json:"flow"`
	} `json:"answers"`
}

func (a answers) expect(t *testing.T, outcome string, flows ...string) {
	t.Helper()
	var got []string
	for _, x := range a.Answers {
		if x.Outcome != outcome {
			t.Errorf("flow %s: the command is %s, want %s", x.Flow, x.Outcome, outcome)
		}
		got = append(got, x.Flow)
	}
	if slices.Sort(got); !slices.Equal(got, flows) {
		t.Errorf("answered for the flows %q, want %q", got, flows)
	}
}

// audits waits until the flow has been audited so, in this order.
func (w *world) audits(flow string, want ...int) {
	w.t.Helper()
	var got []int
	within(w.t, 20*time.Second, fmt.Sprintf("flow %s is audited %v", flow, want), func() bool {
		got = nil
		for _, e := range inOrder(w.reader.since(topicAudits, 0)) {
			if e.flow == flow {
				got = append(got, e.n)
			}
		}
		return len(got) >= len(want)
	})
	if !slices.Equal(got, want) {
		w.t.Errorf("flow %s is audited %v, want %v", flow, got, want)
	}
}

// An operator sees what is stuck, also after a kill, lets one flow go on without
// what fails, another when that is mended, replays what was left out, once however
// often that is asked for, and has a flow forgotten.
func TestOperatorOnRealBrokers(t *testing.T) {
	w, p := newClerksWorld(t)
	extra := func(flow string, all ...int) {
		for _, n := range all {
			w.feeder.put(topicExtras, typeExtra, job{Flow: flow, N: n})
		}
		w.feeder.flush()
	}
	w.provider("refusing", true)
	for _, flow := range []string{"mended", "skipped"} {
		extra(flow, 1, 2, 3)
		w.audits(flow, 1)
	}
	extra("healthy", 1)
	w.audits("healthy", 1)
	within(t, 10*time.Second, "both are parked, each with one behind it", func() bool {
		n, err := p.readMetric("choreo_parked_events")
		return err == nil && n == 4
	})
	p.kill()
	p = w.start("clerk", "clerk-0")
	p.awaitReady(20 * time.Second)

	var stuck struct {
		Items []struct {
			Flow, Step, Kind, Error string
			Waiting                 int
		}
	}
	w.tool(&stuck, "stuck", "ls")
	for _, x := range stuck.Items {
		if x.Step != "stamp" || x.Kind != "step" || x.Waiting != 1 || !strings.Contains(x.Error, "the provider is refusing") {
			t.Errorf("stuck: %+v", x)
		}
	}
	if len(stuck.Items) != 2 {
		t.Errorf("%d are stuck: %+v", len(stuck.Items), stuck.Items)
	}
	var did answers
	w.tool(&did, "stuck", "retry", "--reason=is it back?", "--flow=mended", "--wait=20s")
	did.expect(t, "failed", "mended")
	w.tool(&did, "stuck", "skip", "--reason=it is not needed", "--flow=skipped", "--wait=20s")
	did.expect(t, "done", "skipped")
	w.audits("skipped", 1, 3)

	w.provider("refusing", false)
	w.tool(&did, "stuck", "retry", "--reason=it is back", "--all", "--wait=20s")
	did.expect(t, "done", "mended")
	w.audits("mended", 1, 2, 3)
	var letters struct {
		Groups []struct{ Letters int }
	}
	w.tool(&letters, "dlq", "ls")
	if len(letters.Groups) != 1 || letters.Groups[0].Letters != 1 {
		t.Errorf("dead letters: %+v", letters)
	}
	var replayed any
	w.tool(&replayed, "dlq", "replay", "--flow=skipped")
	w.tool(&replayed, "dlq", "replay", "--flow=skipped") // nobody has seen what came of the first
	w.audits("skipped", 1, 3, 2)

	w.tool(&did, "flow", "erase", "--reason=asked for", "healthy", "--wait=20s")
	did.expect(t, "done", "healthy")
	extra("healthy", 1) // nothing is known of it any more
	w.audits("healthy", 1, 1)
	extra("skipped", 1, 2, 3) // of this, all
	extra("last", 1)
	w.audits("last", 1)
	w.settleEmpty(p)
	w.audits("skipped", 1, 3, 2)
}

// settleEmpty returns when the process has nothing in work and all that it said is read.
func (w *world) settleEmpty(p *process) {
	w.t.Helper()
	within(w.t, 10*time.Second, "nothing is in work", func() bool {
		n, err := p.readMetric("choreo_in_flight_records")
		return err == nil && n == 0
	})
	w.reader.readAll(20 * time.Second)
}
