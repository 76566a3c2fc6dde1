package choreo_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

// All that happens to a flow lies on one topic, so that its order is known.
type order struct {
	What  string
	Fails int // attempts that fail first
}

var (
	heardWork  = choreo.Event[order]{Type: "m.work", Topic: "m.in"}
	heardShip  = choreo.Event[order]{Type: "m.ship", Topic: "m.in"}
	heardOff   = choreo.Event[order]{Type: "m.off", Topic: "m.in"}
	heardOff2  = choreo.Event[order]{Type: "m.off2", Topic: "m.in"}
	heardClose = choreo.Event[order]{Type: "m.close", Topic: "m.in"}

	saidDid       = choreo.Event[order]{Type: "m.did", Topic: "m.out"}
	saidRefused   = choreo.Event[order]{Type: "m.refused", Topic: "m.out"}
	saidGaveUp    = choreo.Event[order]{Type: "m.gaveup", Topic: "m.out"}
	saidUndone    = choreo.Event[order]{Type: "m.undone", Topic: "m.out"}
	saidDropped   = choreo.Event[order]{Type: "m.dropped", Topic: "m.out"}
	saidShipped   = choreo.Event[order]{Type: "m.shipped", Topic: "m.out"}
	saidUnshipped = choreo.Event[order]{Type: "m.unshipped", Topic: "m.out"}
	saidCount     = choreo.Event[order]{Type: "m.count", Topic: "m.out"}
	saidClosed    = choreo.Event[order]{Type: "m.closed", Topic: "m.out"}
)

func modelled() *choreo.Service {
	do := func(ctx context.Context, o order) (order, error) {
		switch {
		case o.What == "never" || choreo.Meta(ctx).Attempt <= o.Fails:
			return order{}, errNotYet
		case strings.HasPrefix(o.What, "refuse"):
			return order{}, notMyJob
		}
		return o, nil
	}
	echo := func(o order) order { return o }
	refused := choreo.Failures[order]{choreo.FailWith(func(o order, _ *choreo.Rejection) order { return o }, saidRefused)}
	return choreo.NewService("model", choreo.Tasks(2),
		&choreo.State[order]{Name: "count", When: []choreo.Transition[order]{
			choreo.When(heardWork, func(s *order, _ order) { s.Fails++ }),
			choreo.Then(heardClose, func(s *order, _ order) (order, bool) { return *s, true }, saidCount),
		}},
		choreo.Step[order, order]{
			Name: "work", On: heardWork, Do: do, Emit: saidDid, Fail: refused,
			GiveUp: choreo.GiveUpAs(func(o order, _ error) order { return o }, saidGaveUp),
			Compensate: choreo.Undo(func(ctx context.Context, _, o order) (order, error) { return do(ctx, o) }, saidUndone, heardOff, heardOff2).
				Unknown(func(context.Context, order) error { return nil }),
			Cancel: []choreo.Cancellation{choreo.CancelOn(heardOff, echo, saidDropped)},
			Retry:  quickly,
		},
		choreo.Step[order, order]{
			Name: "ship", On: heardShip, Do: do, Emit: saidShipped, Fail: refused, Pivot: true,
			Cancel: []choreo.Cancellation{choreo.CancelOn(heardOff, echo, saidUnshipped)}, Retry: quickly,
		},
		choreo.Reaction[order]{Name: "close", On: heardClose, Once: true, Emits: choreo.Events{saidClosed},
			Do: func(_ context.Context, o order) (choreo.Emissions, error) { return choreo.Emit(saidClosed.New(o)), nil }},
		choreo.Topic{Name: "m.out", Partitions: 3})
}

// reference is what a flow's service must say: the barrier, in memory.
type reference struct {
	heard                                 map[int]bool // by the number of the event
	undo                                  []string     // what did, oldest first
	workCancelled, shipCancelled, shipped bool
	count                                 int
	says                                  []string
}

func (m *reference) say(event, what string) { m.says = append(m.says, event+" "+what) }

func (m *reference) hear(number int, event, what string) {
	if m.heard[number] {
		return
	}
	m.heard[number] = true
	refuse := strings.HasPrefix(what, "refuse")
	switch event {
	case heardWork.Type:
		m.count++
		switch {
		case m.workCancelled:
		case what == "never":
			m.say(saidGaveUp.Type, what)
		case refuse:
			m.say(saidRefused.Type, what)
		default:
			m.undo = append(m.undo, what)
			m.say(saidDid.Type, what)
		}
	case heardShip.Type:
		switch {
		case m.shipCancelled:
		case refuse:
			m.shipped = true // it has answered
			m.say(saidRefused.Type, what)
		default:
			m.shipped = true
			m.say(saidShipped.Type, what)
		}
	case heardOff.Type, heardOff2.Type:
		if !m.workCancelled {
			for _, did := range slices.Backward(m.undo) {
				m.say(saidUndone.Type, did)
			}
			if len(m.undo) == 0 && event == heardOff.Type {
				m.say(saidDropped.Type, what)
			}
			m.workCancelled = true
		}
		if event == heardOff.Type && !m.shipCancelled && !m.shipped {
			m.say(saidUnshipped.Type, what)
			m.shipCancelled = true
		}
	case heardClose.Type:
		m.say(saidCount.Type, fmt.Sprint(m.count))
		m.say(saidClosed.Type, what)
	}
}

// said is what a reader has seen of all flows.
type outputs struct {
	mu      sync.Mutex
	flows   map[string][]string
	ids     map[string]int
	changed chan struct{}
}

func (o *outputs) add(svc *choreo.Service, rec *kgo.Record) error {
	em, ev, err := svc.Decode(rec)
	if err != nil {
		return err
	}
	text := em.Data.(order).What
	if ev.Type == saidCount.Type {
		text = fmt.Sprint(em.Data.(order).Fails)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.flows[ev.CorrelationID] = append(o.flows[ev.CorrelationID], ev.Type+" "+text)
	o.ids[ev.ID]++
	close(o.changed)
	o.changed = make(chan struct{})
	return nil
}

func (o *outputs) of(flow string) ([]string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.flows[flow]), o.changed
}

// cuts drops the connections of some of the pipeline's requests, so that what
// came of them is not known to it.
type cuts struct{ left, after atomic.Int32 }

func (c *cuts) control(k *kfake.Cluster, key kmsg.Key) {
	k.ControlKey(key.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		k.KeepControl()
		if c.left.Load() > 0 && c.after.Add(-1) < 0 && c.left.Add(-1) >= 0 {
			return nil, errors.New("cut"), true
		}
		return nil, nil, false
	})
}

// TestTheRuntimeSaysWhatTheModelSays plays random sequences of events with
// duplicates, failing attempts, restarts and cut connections to two instances:
// what they say, flow by flow and in order, is what the model says, once.
func TestTheRuntimeSaysWhatTheModelSays(t *testing.T) {
	t.Parallel()                                      // members take seconds to notice each other
	const budget, fewest = 2500 * time.Millisecond, 5 // on a slow machine the sequences count
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	var cut cuts
	cut.control(cluster, kmsg.EndTxn)
	cut.control(cluster, kmsg.TxnOffsetCommit)
	cut.control(cluster, kmsg.Produce)
	brokers := cluster.ListenAddrs()
	svcs := [2]*choreo.Service{modelled(), modelled()}
	var runs [2]*instance
	createTopics(t, svcs[0], configFor(brokers, "x"))
	restart := func(i int) {
		if runs[i] != nil {
			if err := runs[i].stop(); err != nil {
				t.Errorf("an instance ended with %v", err)
			}
		}
		cfg := configFor(brokers, string(rune('a'+i)))
		cfg.StopTimeout = time.Second
		runs[i] = runInstance(t, svcs[i], cfg)
	}
	restart(0)
	restart(1)
	produce, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ProducerLinger(0), kgo.ConsumeTopics("m.out"),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	out := &outputs{flows: map[string][]string{}, ids: map[string]int{}, changed: make(chan struct{})}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for {
			fs := produce.PollFetches(context.Background())
			if fs.IsClientClosed() {
				return
			}
			for _, rec := range fs.Records() {
				if err := out.add(svcs[0], rec); err != nil {
					t.Errorf("read what was said: %v", err)
				}
			}
		}
	}()
	t.Cleanup(func() { produce.Close(); <-read })
	for i, r := range runs {
		r.awaitReady(t, svcs[i])
	}

	sequences, restarts := 0, 0
	expected := map[string][]string{}
	began := time.Now()
	rapid.Check(t, func(rt *rapid.T) {
		if time.Since(began) > budget && sequences >= fewest {
			return
		}
		sequences++
		flows := rapid.IntRange(1, 4).Draw(rt, "flows")
		name := func(f int) string { return fmt.Sprintf("s%d-f%d", sequences, f) }
		model := make([]*reference, flows)
		foreign := make([]bool, flows) // keyed otherwise: goes through the inbox
		for f := range model {
			model[f] = &reference{heard: map[int]bool{}}
			foreign[f] = rapid.Bool().Draw(rt, "foreign")
		}
		type sent struct {
			flow        int
			event, what string
			rec         *kgo.Record
		}
		var all []sent
		publish := func(number int) {
			s := all[number]
			rec := *s.rec
			if err := produce.ProduceSync(context.Background(), &rec).FirstErr(); err != nil {
				rt.Fatal(err)
			}
			model[s.flow].hear(number, s.event, s.what)
		}
		send := func(f int, e choreo.Event[order], o order) {
			rec, err := svcs[0].Encode(name(f), e.New(o))
			if err != nil {
				rt.Fatal(err)
			}
			if foreign[f] {
				rec.Key = []byte("customer of " + name(f))
			}
			all = append(all, sent{f, e.Type, o.What, rec})
			publish(len(all) - 1)
		}
		for range rapid.IntRange(1, 25).Draw(rt, "length") {
			f := rapid.IntRange(0, flows-1).Draw(rt, "flow")
			switch op := rapid.SampledFrom([]string{"work", "work", "work", "work", "ship", "off", "off2", "again", "again", "restart", "cut"}).Draw(rt, "op"); op {
			case "work", "ship":
				kinds := []string{"ok", "refuse"}
				if op == "work" { // ship has no GiveUp
					kinds = []string{"ok", "ok", "ok", "refuse", "never"}
				}
				what := rapid.SampledFrom(kinds).Draw(rt, "what")
				if what != "never" {
					what += fmt.Sprint(len(all))
				}
				o := order{what, rapid.IntRange(0, 2).Draw(rt, "fails")}
				if op == "work" {
					send(f, heardWork, o)
				} else {
					send(f, heardShip, o)
				}
			case "off":
				send(f, heardOff, order{What: fmt.Sprint(len(all))})
			case "off2":
				send(f, heardOff2, order{What: fmt.Sprint(len(all))})
			case "again":
				if len(all) > 0 {
					publish(rapid.IntRange(0, len(all)-1).Draw(rt, "which"))
				}
			case "restart":
				restarts++
				restart(rapid.IntRange(0, 1).Draw(rt, "instance"))
			case "cut":
				cut.after.Store(int32(rapid.IntRange(0, 5).Draw(rt, "after")))
				cut.left.Store(1)
			}
		}
		for f := range model {
			send(f, heardClose, order{What: "end"})
			publish(len(all) - 1)
		}
		deadline := time.After(20 * time.Second)
		for f, m := range model {
			expected[name(f)] = m.says
			for {
				got, changed := out.of(name(f))
				if len(got) > 0 && strings.HasPrefix(got[len(got)-1], saidClosed.Type) {
					if !slices.Equal(got, m.says) {
						rt.Fatalf("of flow %s was said\n%s\nwant\n%s", name(f), strings.Join(got, "\n"), strings.Join(m.says, "\n"))
					}
					break
				}
				select {
				case <-changed:
				case <-deadline:
					rt.Fatalf("of flow %s was said only\n%s\nwant\n%s\n(a: %v, b: %v)", name(f), strings.Join(got, "\n"), strings.Join(m.says, "\n"), svcs[0].Ready(), svcs[1].Ready())
				}
			}
		}
	})
	t.Logf("%d sequences, %d restarts", sequences, restarts)
	if sequences < fewest && !t.Failed() {
		t.Errorf("only %d sequences were played", sequences)
	}
	for _, r := range runs { // what was late would show by the end
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	}
	if t.Failed() {
		return
	}
	got := map[string][]string{}
	for _, rec := range readToEnd(t, brokers, "m.out") {
		em, ev, err := svcs[0].Decode(rec)
		if err != nil {
			t.Fatal(err)
		}
		got[ev.CorrelationID] = append(got[ev.CorrelationID], em.Type)
	}
	for flow, says := range expected {
		if len(got[flow]) != len(says) {
			t.Errorf("in the end %d events of flow %s lie on the topic, want %d: %v", len(got[flow]), flow, len(says), got[flow])
		}
	}
	for id, n := range out.ids {
		if n != 1 {
			t.Errorf("event %s was said %d times", id, n)
		}
	}
}
