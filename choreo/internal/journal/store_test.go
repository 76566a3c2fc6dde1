package journal

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Unix(1_700_000_000, 0)

func config() Config {
	return Config{
		Steps:     []string{"authorize", "ship", "notify"},
		States:    map[string]time.Duration{"order": 48 * time.Hour, "basket": 0},
		Reactions: []string{"mail"},
		MaxParked: 2,
		Deadlines: []string{"payment", "reply"},
		Formerly:  map[string]string{"charge": "authorize", "pay": "authorize", "answer": "reply"},
		Common:    []string{"application/json", "shop.order.placed.v1"},
	}
}

// log is a journal partition: what a task has written.
type log struct{ records []*kgo.Record }

func (l *log) write(at time.Time, changes ...Change) {
	for _, c := range changes {
		rec := c.Record("shop.journal", 3, at)
		rec.Offset = int64(len(l.records))
		l.records = append(l.records, rec)
	}
}

func must(c Change, err error) Change {
	if err != nil {
		panic(err)
	}
	return c
}

func restore(t interface {
	Helper()
	Fatal(...any)
}, c Config, records []*kgo.Record) *Store {
	t.Helper()
	s := New(c)
	for _, rec := range records {
		s.Apply(rec)
	}
	if err := s.Restored(); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRunsAreNewestFirstAlsoAfterRestore(t *testing.T) {
	var l log
	s := New(config())
	for _, id := range []string{"b", "a", "c"} {
		l.write(start, must(s.PutRun("f", Run{Step: "ship", Hash: HashOf("shop", id), Status: Did, In: Event{ID: id}}, start)))
	}
	l.write(start, must(s.PutRun("f", Run{Step: "ship", Hash: HashOf("shop", "b"), Status: Undone, In: Event{ID: "b"}}, start)))
	check := func(s *Store) {
		t.Helper()
		got := ""
		for _, run := range s.Runs("f", "ship") {
			got += run.In.ID
		}
		if got != "cab" {
			t.Errorf("runs in order %q, want cab", got)
		}
	}
	check(s)
	s = restore(t, config(), l.records)
	check(s)
	must(s.PutRun("f", Run{Step: "ship", Hash: HashOf("shop", "d"), Status: Did, In: Event{ID: "d"}}, start))
	if first := s.Runs("f", "ship")[0]; first.In.ID != "d" {
		t.Errorf("after restore the newest run is %q, want d", first.In.ID)
	}
}

// Flows are handled at the same time, each by one at a time; readers of committed states,
// the expiry and the metrics come between.
func TestFlowsAtTheSameTime(t *testing.T) {
	const flows, events = 8, 200
	s := New(config())
	var all sync.WaitGroup
	stop := make(chan struct{})
	for n := range flows {
		flow := fmt.Sprint(n)
		all.Go(func() {
			for k := range events {
				event := HashOf(flow, fmt.Sprint(k))
				must(s.PutRun(flow, Run{Step: "ship", Hash: event, Status: Did, In: Event{Source: fmt.Sprint(flow, k)}}, start))
				state := must(s.PutState(flow, "order", fmt.Append(nil, k), event, start))
				if run, ok := s.Run(flow, "ship", event); !ok || run.In.Source != fmt.Sprint(flow, k) {
					t.Errorf("flow %s reads %+v", flow, run)
				}
				s.Commit(state)
				if got, _ := s.Committed(flow, "order"); string(got) != fmt.Sprint(k) {
					t.Errorf("flow %s has committed %s, want %d", flow, got, k)
				}
			}
		})
	}
	var readers sync.WaitGroup
	readers.Go(func() {
		for last := 0; ; {
			select {
			case <-stop:
				return
			default:
			}
			if got, ok := s.Committed("3", "order"); ok {
				n, err := strconv.Atoi(string(got))
				if err != nil || n < last {
					t.Errorf("committed went from %d to %q", last, got)
				}
				last = n
			}
			s.Runs("3", "ship")
			s.Expirable(start, 100)
			s.Bytes()
		}
	})
	all.Wait()
	close(stop)
	readers.Wait()
	if s.Flows() != flows || s.Slots() != flows*(events+1) {
		t.Errorf("%d flows with %d slots", s.Flows(), s.Slots())
	}
}

func TestWhatIsPutAgainIsKeptOnce(t *testing.T) {
	s := New(config())
	one, two := HashOf("shop", "1"), HashOf("shop", "2")
	for _, event := range []Hash{one, two, one} {
		must(s.PutState("f", "order", []byte("of 16 bytes or more"), event, start))
		must(s.PutSeen("f", event, 7, start))
		must(s.PutCancelled("f", Cancelled{Step: "ship", By: []Trigger{{Hash: event, ID: "t", Answered: event == one}}}, start))
	}
	if state, _ := s.State("f", "order"); !slices.Equal(state.Applied, []Hash{one, two}) || string(state.Payload) != "of 16 bytes or more" {
		t.Errorf("the state is %q, applied %v", state.Payload, state.Applied)
	}
	if c, _ := s.Cancelled("f", "ship"); !slices.Equal(c.By, []Trigger{{Hash: one, ID: "t", Answered: true}, {Hash: two, ID: "t"}}) {
		t.Errorf("cancelled by %+v", c.By)
	}
	if seen := len(s.peek("f", id{kind: kindSeen}).body().rest); seen != 2*seenSize {
		t.Errorf("seen events take %d bytes, want %d", seen, 2*seenSize)
	}
}
