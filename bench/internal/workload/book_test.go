package workload

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// out is a record of the output.
type out struct {
	partition int32
	key       string
	seq       int64
}

func noted(t *testing.T, n int64, outs []out) *Book {
	t.Helper()
	b := NewBook(n, 2)
	for i, o := range outs {
		v, err := json.Marshal(Order{Seq: o.seq, Customer: "c"})
		if err != nil {
			t.Fatal(err)
		}
		b.Note(o.partition, int64(i), []byte(o.key), v, time.UnixMilli(int64(i)))
	}
	return b
}

func TestBookFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	good := []out{{0, "flow-0", 0}, {1, "flow-1", 1}, {0, "flow-0", 2}, {1, "flow-1", 3}}
	change := func(f func([]out) []out) []out { return f(append([]out(nil), good...)) }
	for name, c := range map[string]struct {
		outs        []out
		exactlyOnce bool
		want        string
	}{
		"nothing":                 {good, true, ""},
		"missing":                 {good[:3], true, "1 of 4 orders did not come out, the first is 3"},
		"missing, at least once":  {good[1:], false, "1 of 4 orders did not come out, the first is 0"},
		"doubled":                 {append(good[:4:4], good[0]), true, "1 orders came out more than once"},
		"doubled, at least once":  {append(good[:4:4], good[0]), false, ""},
		"out of order":            {change(func(o []out) []out { o[0], o[2] = o[2], o[0]; return o }), false, "order 0 came out after 2"},
		"on two partitions":       {change(func(o []out) []out { o[3].partition = 0; return o }), true, "on partitions 1 and 0"},
		"under another key":       {change(func(o []out) []out { o[3].key = "flow-0"; return o }), true, `with key "flow-0", want "flow-1"`},
		"an order never fed":      {append(good[:4:4], out{0, "flow-0", 4}), true, "is no order that was fed"},
		"an order before the 1st": {append(good[:4:4], out{0, "flow-1", -1}), true, "is no order that was fed"},
	} {
		err := noted(t, 4, c.outs).Complete(c.exactlyOnce)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestBookRefusesWhatIsNoOrder(t *testing.T) {
	t.Parallel()
	for _, v := range []string{"", "{}", `{"seq":`, `{"seq":x,`, `{"seq":1}`, `{"customer":"c","seq":1,`} {
		b := NewBook(4, 2)
		b.Note(0, 0, []byte("flow-1"), []byte(v), time.Now())
		if b.Noted() != 0 || b.Complete(false) == nil {
			t.Errorf("%q was noted", v)
		}
	}
}

func TestRateLeavesOutTheBeginning(t *testing.T) {
	t.Parallel()
	b := NewBook(1000, 1)
	for i := range int64(1000) {
		at := i // one a millisecond
		if i == 0 {
			at = -60_000 // the first after a long start
		}
		v, _ := json.Marshal(Order{Seq: i, Customer: "c"})
		b.Note(0, i, []byte("flow-0"), v, time.UnixMilli(at))
	}
	if rate, err := b.Rate(); err != nil || rate != 1000 {
		t.Errorf("rate %v, %v, want 1000", rate, err)
	}
	for _, n := range []int64{0, 5} {
		b := NewBook(n, 1)
		for i := range n {
			v, _ := json.Marshal(Order{Seq: i, Customer: "c"})
			b.Note(0, i, []byte("flow-0"), v, time.UnixMilli(1))
		}
		if _, err := b.Rate(); err == nil {
			t.Errorf("%d orders at one time have a rate", n)
		}
	}
}

func TestOrdersAreAboutAsLargeAsIsSaid(t *testing.T) {
	t.Parallel()
	rec, err := record("in", "in", 123_456, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(rec.Value); n < 180 || n > 220 {
		t.Errorf("the payload has %d bytes: %s", n, rec.Value)
	}
	if seq, ok := seqOf(rec.Value); !ok || seq != 123_456 {
		t.Errorf("read back as %d, %v", seq, ok)
	}
	if string(rec.Key) != KeyOf(123_456, 1000) {
		t.Errorf("key %q", rec.Key)
	}
}
