package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/choreography-go/choreography/choreo"
)

// The choreography under test. A plain producer puts jobs on a topic. Service
// work does each of them (a step, compensated by a refund) and keeps a tally of
// each flow; service ship ships what was done, or says that it failed, by the
// job's content alone. A failure refunds every job of its flow.

// job is what is fed: the n-th of its flow.
type job struct {
	Flow string `json:"flow"`
	N    int    `json:"n"`
	// Fail says how shipping fails, if it does: on a topic with as many
	// partitions as there are tasks, or with another number.
	Fail string `json:"fail,omitempty"`
	// Millis is how long doing it takes.
	Millis int `json:"millis,omitempty"`
	// Together is how many such jobs must be at work at once before one of them is
	// done.
	Together int `json:"together,omitempty"`
}

const (
	failFitting = "fitting"
	failMisfit  = "misfit"
)

// effect is the payload of everything that follows from a job.
type effect struct {
	Flow string `json:"flow"`
	N    int    `json:"n"`
	Fail string `json:"fail,omitempty"`
}

// tally is the state that work keeps of a flow.
type tally struct {
	Count int `json:"count"`
	Sum   int `json:"sum"`
	Last  int `json:"last"`
}

// Topics, without prefix.
const (
	topicJobs     = "jobs"
	topicDone     = "done"
	topicShipped  = "shipped"
	topicFailures = "failures"
	topicMisfits  = "misfits"
	topicRefunds  = "refunds"
	topicExtras   = "extras"
	topicAudits   = "audits"
	topicLapses   = "lapses"
)

const (
	tasks            = 8
	misfitPartitions = 5
)

// Types of the plain producer's events.
const (
	typeJob   = "integration.job.v1"
	typeExtra = "integration.extra.v1"
)

var (
	jobs     = choreo.Event[job]{Type: typeJob, Topic: topicJobs}
	done     = choreo.Event[effect]{Type: "integration.done.v1", Topic: topicDone}
	shipped  = choreo.Event[effect]{Type: "integration.shipped.v1", Topic: topicShipped}
	failed   = choreo.Event[effect]{Type: "integration.failed.v1", Topic: topicFailures}
	misfit   = choreo.Event[effect]{Type: "integration.misfit.v1", Topic: topicMisfits}
	refunded = choreo.Event[effect]{Type: "integration.refunded.v1", Topic: topicRefunds}
	extras   = choreo.Event[job]{Type: typeExtra, Topic: topicExtras}
	audited  = choreo.Event[effect]{Type: "integration.audited.v1", Topic: topicAudits}
	lapsed   = choreo.Event[effect]{Type: "integration.lapsed.v1", Topic: topicLapses}
)

var misfits = choreo.Topic{Name: topicMisfits, Partitions: misfitPartitions}

// services by the name under which a process of this binary runs them.
var services = map[string]func() *choreo.Service{
	"work": func() *choreo.Service { return work() },
	// The next version of work has a step more, on a topic of its own.
	"work-next": func() *choreo.Service {
		s := work()
		s.Add(choreo.Step[job, effect]{
			Name: "audit", On: extras, Emit: audited,
			Do: func(_ context.Context, j job) (effect, error) { return effect{Flow: j.Flow, N: j.N}, nil },
		})
		return s
	},
	"ship": ship,
	// keep remembers one run of each flow, and nothing else.
	"keep": func() *choreo.Service { return choreo.NewService("keep", choreo.Tasks(tasks), doStep()) },
	// clerk has a provider that is not always there.
	"clerk": clerk,
}

func work() *choreo.Service {
	t := &choreo.State[tally]{Name: "tally", When: []choreo.Transition[tally]{
		choreo.When(jobs, func(t *tally, j job) { t.Count++; t.Sum += j.N; t.Last = j.N }),
	}}
	s := choreo.NewService("work", choreo.Tasks(tasks), misfits, doStep(misfit), t)
	if addr := os.Getenv("INTEGRATION_HTTP"); addr != "" {
		s.Add(choreo.HTTP{Addr: addr, Handler: tallyHandler(t)})
	}
	return s
}

func doStep(also ...choreo.AnyEvent) choreo.Declaration {
	others := gathering{all: make(chan struct{})}
	return choreo.Step[job, effect]{
		Name: "do", On: jobs, Emit: done,
		Do: func(ctx context.Context, j job) (effect, error) {
			note("do", j.Flow, j.N)
			if j.Together > 0 {
				if err := others.await(ctx, j.Together); err != nil {
					return effect{}, err
				}
			}
			if j.Millis > 0 {
				select {
				case <-time.After(time.Duration(j.Millis) * time.Millisecond):
				case <-ctx.Done():
					return effect{}, context.Cause(ctx)
				}
			}
			return effect{Flow: j.Flow, N: j.N, Fail: j.Fail}, nil
		},
		Compensate: choreo.Undo(func(_ context.Context, j job, _ effect) (effect, error) {
			note("undo", j.Flow, j.N)
			return effect{Flow: j.Flow, N: j.N}, nil
		}, refunded, append(also, failed)...),
	}
}

// gathering is of handlers that wait for each other.
type gathering struct {
	mu   sync.Mutex
	here int
	once sync.Once
	all  chan struct{} // closed when so many were there at once
}

func (g *gathering) await(ctx context.Context, n int) error {
	g.add(1, n)
	select {
	case <-g.all:
		return nil
	case <-ctx.Done():
		g.add(-1, n)
		return context.Cause(ctx)
	}
}

func (g *gathering) add(x, n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.here += x; g.here >= n {
		g.once.Do(func() { close(g.all) })
	}
}

func ship() *choreo.Service {
	return choreo.NewService("ship", choreo.Tasks(tasks), misfits, choreo.Reaction[effect]{
		Name: "ship", On: done, Emits: choreo.Events{shipped, failed, misfit},
		Do: func(_ context.Context, d effect) (choreo.Emissions, error) {
			switch d.Fail {
			case "":
				return choreo.Emit(shipped.New(d)), nil
			case failFitting:
				return choreo.Emit(failed.New(d)), nil
			case failMisfit:
				return choreo.Emit(misfit.New(d)), nil
			}
			return nil, fmt.Errorf("no such failure: %q", d.Fail)
		},
	})
}

// tallyHandler answers GET /tally/{flow}.
func tallyHandler(t *choreo.State[tally]) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /tally/{flow}", func(w http.ResponseWriter, r *http.Request) {
		v, err := t.Get(r.Context(), r.PathValue("flow"))
		switch {
		case errors.Is(err, choreo.ErrNoFlow):
			http.Error(w, err.Error(), http.StatusNotFound)
		case err != nil:
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		default:
			_ = json.NewEncoder(w).Encode(v)
		}
	})
	return mux
}

// notes is where handlers write what they did to the world: one line per call,
// in a file that outlives the process.
var notes = sync.OnceValue(func() *os.File {
	path := os.Getenv("INTEGRATION_NOTES")
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	return f
})

func note(what, flow string, n int) {
	if f := notes(); f != nil {
		if _, err := fmt.Fprintf(f, "%s %s %d\n", what, flow, n); err != nil {
			panic(err)
		}
	}
}
