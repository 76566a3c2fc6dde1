package choreo

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/deadletter"
	"github.com/choreography-go/choreography/choreo/internal/sched"
	"github.com/choreography-go/choreography/choreo/internal/txn"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// ledger is a pipeline that commits what it is given in its order, as far as it is
// told, and forgets the rest.
type ledger struct {
	pipeline
	mu        sync.Mutex
	committed []*kgo.Record
	under     []*txn.Result
	kept      [][]*kgo.Record // the records of what is under way
	finished  func(offset int64)
}

func (l *ledger) Submit(r *txn.Result) {
	var kept []*kgo.Record
	for _, rec := range r.Records {
		own := *rec // it is used again
		kept = append(kept, &own)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.under, l.kept = append(l.under, r), append(l.kept, kept)
}

func (l *ledger) commit(n int) {
	l.mu.Lock()
	n = min(n, len(l.under))
	done := l.under[:n]
	for i, r := range done {
		l.committed = append(l.committed, l.kept[i]...)
		if r.Source != nil {
			l.finished(r.Offset)
		}
	}
	l.under, l.kept = l.under[n:], l.kept[n:]
	l.mu.Unlock()
	for _, r := range done {
		r.Done.Done(true)
	}
}

// crash loses what is under way.
func (l *ledger) crash() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.under, l.kept = nil, nil
}

// of are the committed records of a topic.
func (l *ledger) of(topic string) (all []*kgo.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, rec := range l.committed {
		if rec.Topic == topic {
			all = append(all, rec)
		}
	}
	return all
}

var (
	halfA = Event[string]{Type: "test.a", Topic: "a"}
	halfB = Event[string]{Type: "test.b", Topic: "b"}
	halfC = Event[string]{Type: "test.c", Topic: "c"}
	both  = Event[string]{Type: "test.both", Topic: "both"}

	off     = Event[string]{Type: "test.off", Topic: "off"}
	neither = Event[string]{Type: "test.neither", Topic: "both"}
)

func glue(x ...string) string { return strings.Join(x, "+") }

// joinAll is a step that joins all three, or fewer, and calls do.
func joinAll(on Trigger[string], do func(context.Context, string) (string, error)) Step[string, string] {
	return Step[string, string]{Name: "join", On: on, Do: do, Emit: both, Retry: Retry{Attempts: 1}}
}

func ofTwo() Trigger[string] {
	return Both(halfA, halfB, func(a, b string) string { return glue(a, b) })
}

// joiner is an engine of one task that runs a service of its own.
type joiner struct {
	t *testing.T
	*engine
	ledger *ledger
	owned  *owned
}

func newJoiner(t *testing.T) *joiner {
	e, in := bareEngine(t)
	in.owned.inc.Close(nil)
	j := &joiner{t: t, engine: e, ledger: &ledger{pipeline: e.pipe, finished: func(int64) {}}}
	e.pipe = j.ledger
	return j
}

// open begins an ownership by a version of the service, of what is committed.
func (j *joiner) open(tb interface{ Fatal(...any) }, d ...Declaration) {
	if j.owned != nil { // nothing of it is at work any more when the plan changes
		j.owned.inc.Close(nil)
		synctest.Wait()
	}
	j.plan = newPlan(NewService("joiner", append(d, Tasks(1))...))
	if err := j.plan.err(); err != nil {
		tb.Fatal(err)
	}
	j.names = namesOf("joiner", "")
	j.metrics = newMetrics(prometheus.NewRegistry(), j.plan)
	j.ledger.crash()
	o := j.newOwned(0, j.fence.Open(0), j.newStore())
	for _, rec := range j.ledger.of(j.names.journal) {
		o.store.Apply(rec)
	}
	if err := o.store.Restored(); err != nil {
		tb.Fatal(err)
	}
	j.owned = o
	j.recall(o)
	j.rejoin(o)
	synctest.Wait()
}

// hear handles an event of flow f, which lies at an offset.
func (j *joiner) hear(typ, id string, offset int64) {
	h := j.plan.hears[typ]
	if h == nil {
		return
	}
	data, _ := json.Marshal(id) // a string
	ev := cloudevent.Event{ID: id, Source: "/test", Type: typ, CorrelationID: "f", Time: time.Now(), Data: data, DataContentType: "application/json"}
	rec := &kgo.Record{Topic: "in", Offset: offset}
	if err := ev.Fill(rec); err != nil {
		panic(err)
	}
	r := &run{event: ev}
	r.begin(j.engine, &input{owned: j.owned, Source: &txn.Source{Topic: "in"}}, rec, h)
	if !j.room.Try(size(r.rec)) {
		panic("no room")
	}
	j.sched.Submit(sched.Key{Name: r.key}, r)
	synctest.Wait()
}

// replay handles a replay of the first dead letter.
func (j *joiner) replay(t *testing.T) {
	t.Helper()
	letters := j.ledger.of(j.names.dlq)
	if len(letters) == 0 {
		t.Fatal("there is no dead letter")
	}
	letter, ok := deadletter.ReadLetter(letters[0])
	if !ok {
		t.Fatal("it is no dead letter")
	}
	again, err := letter.Replay(letters[0], j.names.inbox, false)
	if err != nil {
		t.Fatal(err)
	}
	if !j.room.Try(size(again)) {
		t.Fatal("no room")
	}
	var b batch
	j.acceptReplayed(&input{owned: j.owned, Source: &txn.Source{Topic: j.names.inbox}}, again, &b)
	j.dispatch(&b)
	synctest.Wait()
}

// letters say why there are dead letters.
func (j *joiner) letters() (reasons []string) {
	for _, rec := range j.ledger.of(j.names.dlq) {
		if letter, ok := deadletter.ReadLetter(rec); ok {
			reasons = append(reasons, letter.Reason)
		}
	}
	return reasons
}

// said are the payloads of what is committed.
func (j *joiner) said() (all []string) {
	for _, rec := range j.ledger.of(both.Topic) {
		var text string
		if err := json.Unmarshal(rec.Value, &text); err != nil {
			panic(err)
		}
		all = append(all, text)
	}
	return all
}

// Whatever the order of the halves, however often each comes, and wherever the
// process dies and is started again: the join runs once, on the first event of each
// half, and every attempt at it has the same idempotency key.
func TestAJoinRunsExactlyOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		types := []string{halfA.Type, halfB.Type}
		step := joinAll(ofTwo(), nil)
		if rapid.Bool().Draw(rt, "three") {
			types = append(types, halfC.Type)
			step.On = All3(halfA, halfB, halfC, func(a, b, c string) string { return glue(a, b, c) })
		}
		// Of each type the events lie in one partition, so they stay in their order.
		events, first := map[string][]string{}, ""
		for _, typ := range types {
			ids := []string{typ + "1", typ + "2", typ + "3"}
			events[typ] = append(ids[:1:1], rapid.SliceOfN(rapid.SampledFrom(ids), 0, 3).Draw(rt, "further events of "+typ)...)
			first = strings.TrimPrefix(first+"+"+ids[0], "+")
		}
		fails, calls, keys := rapid.IntRange(0, 2).Draw(rt, "attempts that fail"), 0, map[string]bool{}
		step.Do = func(ctx context.Context, s string) (string, error) {
			keys[Meta(ctx).IdempotencyKey] = true
			if calls++; calls <= fails {
				return "", errors.New("not yet")
			}
			return s, nil
		}
		step.Retry = Retry{Attempts: 10, InPlace: 1, First: time.Second}
		synctest.Test(t, func(t *testing.T) {
			j := newJoiner(t)
			heard, committed, at := map[string]int{}, map[string]int{}, []string{}
			j.ledger.finished = func(offset int64) { committed[at[offset]]++ }
			j.open(rt, step)
			for {
				var left []string
				for _, typ := range types {
					if heard[typ] < len(events[typ]) {
						left = append(left, typ)
					}
				}
				if len(left) == 0 {
					break
				}
				switch rapid.SampledFrom([]string{"hear", "hear", "hear", "commit", "wait", "die"}).Draw(rt, "next") {
				case "hear":
					typ := rapid.SampledFrom(left).Draw(rt, "type")
					at = append(at, typ)
					j.hear(typ, events[typ][heard[typ]], int64(len(at)-1))
					heard[typ]++
				case "commit":
					j.ledger.commit(rapid.IntRange(0, 3).Draw(rt, "results"))
				case "wait":
					time.Sleep(time.Minute)
					synctest.Wait()
				case "die":
					j.open(rt, step)
					heard = maps.Clone(committed)
				}
			}
			for range 10 {
				j.ledger.commit(1 << 30)
				time.Sleep(time.Minute)
				synctest.Wait()
			}
			if got := j.said(); !slices.Equal(got, []string{first}) {
				rt.Fatalf("said is %q, want %q once", got, first)
			}
			if len(keys) != 1 {
				rt.Fatalf("attempts were made under %d keys", len(keys))
			}
			j.owned.inc.Close(nil)
		})
	})
}

// What waits for a half that a new version does not declare any more runs when its
// task is restored.
func TestAJoinRunsWithoutWhatIsNotDeclaredAnyMore(t *testing.T) {
	ofThree := All3(halfA, halfB, halfC, func(a, b, c string) string { return glue(a, b, c) })
	alone := AnyOf(halfA)
	either := Both(AnyOf(halfA, halfC), halfB, func(ac, b string) string { return glue(ac, b) }) // the first one counts
	for name, c := range map[string]struct {
		before Trigger[string]
		heard  []Event[string]
		after  Trigger[string]
		then   []Event[string] // heard after it
		says   []string
		fails  int
	}{
		"three, then two":               {ofThree, []Event[string]{halfA, halfB}, ofTwo(), nil, []string{"test.a+test.b"}, 0},
		"three, then two, fails":        {ofThree, []Event[string]{halfB, halfA}, ofTwo(), nil, []string{"test.a+test.b"}, 3},
		"three, then two that wait":     {ofThree, []Event[string]{halfA, halfC}, ofTwo(), []Event[string]{halfB}, []string{"test.a+test.b"}, 0},
		"two, then one":                 {ofTwo(), []Event[string]{halfA}, alone, []Event[string]{halfA}, []string{"test.a"}, 0},
		"two, then one, fails":          {ofTwo(), []Event[string]{halfA}, alone, []Event[string]{halfA}, []string{"test.a"}, 3},
		"two, then the other one":       {ofTwo(), []Event[string]{halfB}, alone, []Event[string]{halfA}, []string{"test.a"}, 0},
		"three, then two alone":         {ofThree, []Event[string]{halfC, halfA}, AnyOf(halfA, halfC), nil, []string{"test.c", "test.a"}, 0},
		"it ran, then one":              {ofTwo(), []Event[string]{halfB, halfA}, alone, nil, []string{"test.a+test.b"}, 0},
		"one, then two":                 {alone, []Event[string]{halfA}, ofTwo(), []Event[string]{halfB, halfA}, []string{"test.a"}, 0},
		"three, then either of two":     {ofThree, []Event[string]{halfC, halfA}, either, []Event[string]{halfB}, []string{"test.c+test.b"}, 0},
		"two, then two, the same":       {ofTwo(), []Event[string]{halfA}, ofTwo(), []Event[string]{halfB}, []string{"test.a+test.b"}, 0},
		"nothing was heard, then three": {ofTwo(), nil, ofThree, []Event[string]{halfC, halfB, halfA}, []string{"test.a+test.b+test.c"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j, calls := newJoiner(t), 0
				fails := c.fails
				do := func(_ context.Context, s string) (string, error) {
					if calls++; calls <= fails {
						return "", errors.New("not yet")
					}
					return s, nil
				}
				version := func(on Trigger[string]) Step[string, string] {
					s := joinAll(on, do)
					s.Retry = Retry{Attempts: 10, InPlace: 2, First: time.Second}
					return s
				}
				j.open(t, version(c.before))
				for n, e := range c.heard {
					j.hear(e.Type, e.Type, int64(n))
				}
				j.ledger.commit(1 << 30)
				for range 3 { // dies, and is started again, which must repeat nothing
					j.open(t, version(c.after))
					for range 5 {
						time.Sleep(time.Minute)
						synctest.Wait()
						j.ledger.commit(1 << 30)
					}
				}
				for n, e := range c.then {
					j.hear(e.Type, e.Type, int64(10+n))
				}
				j.ledger.commit(1 << 30)
				if got := j.said(); !slices.Equal(got, c.says) {
					t.Errorf("said is %q, want %q", got, c.says)
				}
				if n := len(j.owned.store.JoinsOf("f")); n != 0 && name != "two, then the other one" {
					t.Errorf("%d joins wait", n)
				}
				if calls != fails+len(c.says) {
					t.Errorf("%d calls", calls)
				}
				j.owned.inc.Close(nil)
			})
		})
	}
}

// What an earlier version has parked on a half that is not heard any more goes on with
// the other one.
func TestAParkedJoinGoesOnWithoutTheHalfThatIsGone(t *testing.T) {
	ofThree := All3(halfA, halfB, halfC, func(a, b, c string) string { return glue(a, b, c) })
	for name, c := range map[string]struct {
		before, after Trigger[string]
		heard         []Event[string]
		says          []string
	}{
		"the last one is gone":           {ofTwo(), AnyOf(halfA), []Event[string]{halfA, halfB}, []string{"test.a"}},
		"the first one is gone":          {ofTwo(), AnyOf(halfA), []Event[string]{halfB, halfA}, []string{"test.a"}},
		"of three the last one is gone":  {ofThree, ofTwo(), []Event[string]{halfB, halfA, halfC}, []string{"test.a+test.b"}},
		"of three the last two are gone": {ofThree, AnyOf(halfB), []Event[string]{halfB, halfA, halfC}, []string{"test.b"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := newJoiner(t)
				before := joinAll(c.before, func(context.Context, string) (string, error) { return "", errors.New("not yet") })
				before.Retry = Retry{Attempts: 1000, InPlace: 1, First: time.Second}
				j.open(t, before)
				for n, e := range c.heard {
					j.hear(e.Type, e.Type, int64(n))
				}
				j.ledger.commit(1 << 30)
				if j.owned.store.Parked() != 1 {
					t.Fatalf("%d are parked", j.owned.store.Parked())
				}
				for range 2 {
					j.open(t, joinAll(c.after, func(_ context.Context, s string) (string, error) { return s, nil }))
					for range 3 {
						time.Sleep(time.Minute)
						synctest.Wait()
						j.ledger.commit(1 << 30)
					}
				}
				if got := j.said(); !slices.Equal(got, c.says) {
					t.Errorf("said is %q, want %q", got, c.says)
				}
				if n := len(j.ledger.of(j.names.dlq)); n != 0 || j.owned.store.Parked() != 0 {
					t.Errorf("%d dead letters, %d events are parked", n, j.owned.store.Parked())
				}
				j.owned.inc.Close(nil)
			})
		})
	}
}

// A half that a version does not hear is kept for one that joins it again.
func TestAHalfIsKeptWhileItIsNotJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJoiner(t)
		do := func(_ context.Context, s string) (string, error) { return s, nil }
		j.open(t, joinAll(ofTwo(), do))
		j.hear(halfB.Type, "b", 1)
		j.ledger.commit(1)
		j.open(t, joinAll(AnyOf(halfA), do))
		if len(j.ledger.under) != 0 {
			t.Errorf("%d results came of the restore", len(j.ledger.under))
		}
		j.open(t, joinAll(ofTwo(), do))
		j.hear(halfA.Type, "a", 2)
		j.ledger.commit(1)
		if got := j.said(); !slices.Equal(got, []string{"a+b"}) {
			t.Errorf("said is %q", got)
		}
		j.owned.inc.Close(nil)
	})
}

// What becomes of a flow when its step comes to join events, and when it does no more.
// What has run or was cancelled stands; what is parked or a dead letter goes on as the
// next version has it.
func TestAStepThatBecomesAJoin(t *testing.T) {
	one, two := AnyOf(halfA), ofTwo()
	parks, dies := Retry{Attempts: 1000, InPlace: 1, First: time.Second}, Retry{Attempts: 1}
	for name, c := range map[string]struct {
		before  Trigger[string]
		retry   Retry    // of attempts that all fail; zero: none does
		heard   []string // before the next version, and after it
		after   Trigger[string]
		then    []string
		says    []string
		letters []string // why there are dead letters, after all
	}{
		"nothing was heard":       {one, Retry{}, nil, two, []string{"b", "a"}, []string{"a+b"}, nil},
		"it ran":                  {one, Retry{}, []string{"a"}, two, []string{"b", "a"}, []string{"a"}, nil},
		"its attempts are parked": {one, parks, []string{"a"}, two, []string{"b", "a"}, []string{"a+b"}, nil},
		"it is a dead letter":     {one, dies, []string{"a"}, two, []string{"b", "a", "replay", "b"}, []string{"a+b"}, []string{"retries_exhausted"}},
		"its letter is replayed before the other half": {one, dies, []string{"a"}, two, []string{"replay", "replay", "b"}, []string{"a+b"}, []string{"retries_exhausted"}},
		"it was cancelled":                {one, Retry{}, []string{"off"}, two, []string{"b", "a", "off"}, []string{"off"}, nil},
		"it was cancelled before it came": {one, Retry{}, []string{"off", "a"}, two, []string{"a", "b"}, []string{"off"}, nil},

		"back, its attempts are parked":        {two, parks, []string{"a", "b"}, one, []string{"a", "b"}, []string{"a"}, nil},
		"back, it ran":                         {two, Retry{}, []string{"a", "b"}, one, []string{"b"}, []string{"a+b"}, nil},
		"back, it ran, and comes again":        {two, Retry{}, []string{"a", "b"}, one, []string{"a", "a"}, []string{"a+b"}, nil},
		"back, it died, and comes again":       {two, dies, []string{"a", "b"}, one, []string{"a"}, nil, []string{"retries_exhausted"}},
		"back, it is parked, and comes again":  {two, parks, []string{"b", "a"}, one, []string{"a"}, []string{"a"}, nil},
		"back, it waited, and comes again":     {two, Retry{}, []string{"a"}, one, []string{"a"}, []string{"a"}, nil},
		"back, it is a letter of what stays":   {two, dies, []string{"b", "a"}, one, []string{"replay", "replay"}, nil, []string{"retries_exhausted", "flow_forgotten"}},
		"back, it is a letter of what is gone": {two, dies, []string{"a", "b"}, one, []string{"replay"}, nil, []string{"retries_exhausted", "not_heard"}},
		"back, it was cancelled":               {two, Retry{}, []string{"off"}, one, []string{"a", "off"}, []string{"off"}, nil},
		"back, it was cancelled as it waited":  {two, Retry{}, []string{"a", "off"}, one, []string{"a"}, []string{"off"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := newJoiner(t)
				tell := func(all []string) {
					for _, what := range all {
						if what == "replay" {
							j.replay(t)
						} else {
							j.hear("test."+what, what, int64(len(j.ledger.committed)))
						}
						j.ledger.commit(1 << 30)
					}
				}
				version := func(on Trigger[string], retry Retry) Step[string, string] {
					s := joinAll(on, func(_ context.Context, s string) (string, error) {
						if retry.Attempts > 0 {
							return "", errors.New("not yet")
						}
						return s, nil
					})
					s.Cancel = []Cancellation{CancelOn(off, func(s string) string { return s }, neither)}
					s.Retry = retry
					return s
				}
				j.open(t, version(c.before, c.retry))
				tell(c.heard)
				for range 2 { // dies, and is started again, which must repeat nothing
					j.open(t, version(c.after, Retry{}))
					time.Sleep(time.Minute)
					synctest.Wait()
					j.ledger.commit(1 << 30)
				}
				tell(c.then)
				if got := j.said(); !slices.Equal(got, c.says) {
					t.Errorf("said is %q, want %q", got, c.says)
				}
				if got := j.letters(); !slices.Equal(got, c.letters) {
					t.Errorf("there are dead letters because of %q, want %q", got, c.letters)
				}
				if n := j.owned.store.Parked(); n != 0 {
					t.Errorf("%d events are parked", n)
				}
				j.owned.inc.Close(nil)
			})
		})
	}
}
