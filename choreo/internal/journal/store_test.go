package journal

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Unix(1_700_000_000, 0)

func config() Config {
	return Config{
		Steps:    []string{"authorize", "ship", "notify"},
		States:   map[string]time.Duration{"order": 48 * time.Hour, "basket": 0},
		Formerly: map[string]string{"charge": "authorize", "pay": "authorize"},
		Common:   []string{"application/json", "shop.order.placed.v1"},
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
