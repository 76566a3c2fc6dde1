package choreo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/internal/room"
	"github.com/choreography-go/choreography/choreo/internal/sched"
	"github.com/choreography-go/choreography/choreo/internal/txn"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
)

var (
	wanted   = Event[string]{Type: "test.wanted", Topic: "wanted"}
	bought   = Event[string]{Type: "test.bought", Topic: "bought"}
	denied   = Event[string]{Type: "test.denied", Topic: "bought"}
	forsaken = Event[string]{Type: "test.forsaken", Topic: "bought"}
	returned = Event[string]{Type: "test.returned", Topic: "bought"}
	dropped1 = Event[string]{Type: "test.dropped", Topic: "bought"}
	regret   = Event[string]{Type: "test.regret", Topic: "regrets"}
	looked   = Event[string]{Type: "test.looked", Topic: "looks"}
)

var errShut = errors.New("the shop does not answer")

// shop is a provider that a step calls.
type shop struct {
	mu     sync.Mutex
	shut   bool
	took   time.Duration  // by each call
	hangs  bool           // calls ignore their contexts, and last for an hour
	breaks map[string]int // by what is wanted: how many of its calls fail
	calls  []visit
	within int
	most   int // of within
}

type visit struct {
	what string // "buy x", "return x", "ask x"
	at   time.Time
	try  int
}

func (s *shop) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *shop) visit(ctx context.Context, doing, what string) error {
	s.mu.Lock()
	s.calls = append(s.calls, visit{doing + " " + what, time.Now(), Meta(ctx).Attempt})
	s.within++
	s.most = max(s.most, s.within)
	took, hangs := s.took, s.hangs
	s.mu.Unlock()
	switch {
	case hangs:
		time.Sleep(time.Hour)
	case took > 0:
		select {
		case <-time.After(took):
		case <-ctx.Done():
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.within--
	if err := ctx.Err(); err != nil {
		return err
	}
	if n := s.breaks[what]; n > 0 {
		s.breaks[what]--
		return errShut
	}
	if s.shut {
		return errShut
	}
	if what == "nonsense" {
		return Reject("nonsense", "not sold here")
	}
	return nil
}

// visits are the calls whose text begins so.
func (s *shop) visits(prefix string) (all []visit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.calls {
		if strings.HasPrefix(v.what, prefix) {
			all = append(all, v)
		}
	}
	return all
}

func (s *shop) step() Step[string, string] {
	return Step[string, string]{
		Name: "buy", On: wanted, Emit: bought,
		Do:     func(ctx context.Context, what string) (string, error) { return what, s.visit(ctx, "buy", what) },
		Fail:   Failures[string]{FailWith(func(what string, _ *Rejection) string { return what }, denied)},
		GiveUp: GiveUpAs(func(what string, _ error) string { return what }, forsaken),
		Compensate: Undo(func(ctx context.Context, what, _ string) (string, error) {
			return what, s.visit(ctx, "return", what)
		}, returned, regret).Unknown(func(ctx context.Context, what string) error { return s.visit(ctx, "ask", what) }),
		Cancel: []Cancellation{CancelOn(regret, func(what string) string { return what }, dropped1)},
		Retry:  Retry{First: time.Millisecond, Max: 2 * time.Millisecond}, Timeout: 5 * time.Second,
	}
}

// till is a pipeline that commits at once, and notes what is said.
type till struct {
	pipeline
	mu      sync.Mutex
	said    []string // as "type of flow: payload"
	journal []*kgo.Record
	offsets []int64 // that are finished
}

func (c *till) Submit(r *txn.Result) {
	c.mu.Lock()
	for _, rec := range r.Records {
		if strings.HasSuffix(rec.Topic, ".journal") {
			kept := *rec
			c.journal = append(c.journal, &kept)
			continue
		}
		view := cloudevent.ViewOf(rec)
		var ev cloudevent.Event
		if err := view.Read(&ev); err != nil {
			panic(err)
		}
		typ := strings.TrimPrefix(ev.Type, "test.")
		if strings.HasSuffix(rec.Topic, ".dlq") {
			typ = "dead " + typ
		}
		c.said = append(c.said, fmt.Sprintf("%s of %s: %s", typ, ev.CorrelationID, ev.Data))
	}
	if r.Source != nil {
		c.offsets = append(c.offsets, r.Offset)
	}
	c.mu.Unlock()
	r.Done.Done(true)
}

// answers are what was said, in its order.
func (c *till) answers() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.said)
}

// records are those of the journal.
func (c *till) records() []*kgo.Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.journal)
}

// count is how many were said of a type.
func (c *till) count(e AnyEvent) (n int) {
	for _, a := range c.answers() {
		if strings.HasPrefix(a, strings.TrimPrefix(e.decl().Type, "test.")+" ") {
			n++
		}
	}
	return n
}

// mall is an engine in a bubble.
type mall struct {
	*engine
	*till
	o   *owned
	in  *input
	seq int
}

func openMall(t *testing.T, change func(*Config), d ...Declaration) *mall {
	t.Helper()
	e, in := bareEngine(t)
	in.owned.inc.Close(nil)
	m := &mall{engine: e, till: &till{pipeline: e.pipe}}
	e.sched, e.room = sched.New(64), &room.Room{MaxRecords: 1 << 20, MaxBytes: 1 << 30}
	e.plan, e.pipe = newPlan(NewService("mall", d...)), m.till
	if err := e.plan.err(); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&e.cfg)
	}
	e.metrics = newMetrics(prometheus.NewRegistry(), e.plan)
	e.doors = e.newDoors()
	e.lapses = newLapses(e.cfg)
	t.Cleanup(func() {
		m.o.inc.Close(nil)
		e.sched.Close()
		_ = e.sched.Wait(context.Background())
		e.closeDoors()
	})
	m.restart(t, nil)
	return m
}

// restart begins an ownership with what is in the journal.
func (m *mall) restart(t *testing.T, journal []*kgo.Record) {
	t.Helper()
	m.o = m.own(t, journal, 0)
	m.in = &input{owned: m.o, Source: &txn.Source{Topic: "in"}}
	m.recall(m.o)
}

// hear lets a flow's event arrive.
func (m *mall) hear(flow string, em Emission) {
	m.seq++
	m.hearAt(m.seq, flow, em)
}

// hearAt is hear of what may have been read before.
func (m *mall) hearAt(offset int, flow string, em Emission) {
	r := &run{event: cloudevent.Event{ID: fmt.Sprint(offset), Source: "/test", Type: em.Type, CorrelationID: flow, Time: time.Now(), Data: fmt.Appendf(nil, "%q", em.Data), DataContentType: "application/json"}}
	rec, err := r.event.Record("in")
	if err != nil {
		panic(err)
	}
	rec.Timestamp, rec.Offset = time.Now(), int64(offset)
	r.begin(m.engine, m.in, rec, m.plan.hears[em.Type])
	if !m.room.Try(size(r.rec)) {
		panic("no room")
	}
	m.sched.Submit(sched.Key{Name: r.key}, r)
}

func (m *mall) state(step string) doorStatus { return m.doors[step].status() }

// settled checks that nobody is left at the door.
func (m *mall) settled(t *testing.T) {
	t.Helper()
	synctest.Wait()
	for _, d := range m.doors {
		if d.within != 0 || d.called != 0 || len(d.waiting) != 0 || d.line.Len() != 0 || d.inMemory.Load() != 0 || d.circuit != nil && d.circuit.probing != 0 {
			t.Errorf("at the door of %q: %d within, %d called, %d waiting, %d in line, %d in memory",
				d.step, d.within, d.called, len(d.waiting), d.line.Len(), d.inMemory.Load())
		}
	}
}

// seconds are the times of visits, since a time.
func seconds(visits []visit, since time.Time) (all []int) {
	for _, v := range visits {
		all = append(all, int(v.at.Sub(since)/time.Second))
	}
	return all
}
