package task

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// bare is an Owner that is connected to nothing. Its engine ends the Owner's
// context when a task is claimed, so that nothing is opened.
type bare struct {
	*Owner
	logged *logged
}

type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// times is how often the log has said something since it was last asked.
func (l *logged) times(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.b.Reset()
	return strings.Count(l.b.String(), what)
}

func (l *logged) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

type claiming struct {
	Engine
	claim func()
}

func (c *claiming) Claim(task int32) Incarnation {
	c.claim()
	return held(nil)
}

func (c *claiming) Closed(*Task) {}

// held is an incarnation that transactions hold until wait returns.
func held(wait func(context.Context) error) *incarnation {
	if wait == nil {
		wait = func(context.Context) error { return nil }
	}
	i := &incarnation{hold: wait}
	i.ctx, i.end = context.WithCancelCause(context.Background())
	return i
}

func newBare(t *testing.T) *bare {
	t.Helper()
	x := &bare{logged: &logged{}}
	engine := &claiming{claim: func() { x.cancel(errClosed) }}
	o, err := New(Config{
		Command: "pay", Group: "pay", InstanceID: "a", Inbox: "inbox", Journal: "journal", TransactionalPrefix: "pay/", OwnPrefix: "pay/a/",
		Engine: engine, Logger: slog.New(slog.NewTextHandler(x.logged, nil)), Patience: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	x.Owner = o
	o.down = false
	r := newReader(o.ctx, nil, engine, 1)
	r.stopped = true
	close(r.done)
	o.reader.Store(r)
	t.Cleanup(func() {
		o.cancel(errClosed)
		for _, x := range o.tenures {
			<-x.opened
		}
	})
	return x
}

// unreachable gives the Owner a client that is closed: every request fails at once.
func (x *bare) unreachable(t *testing.T) {
	t.Helper()
	cl, err := kgo.NewClient()
	if err != nil {
		t.Fatal(err)
	}
	cl.Close()
	x.meta = cl
}

// backedOff checks that attempts were made less and less often, for 20 s.
func (x *bare) backedOff(t *testing.T) {
	t.Helper()
	said := x.logged.text()
	for _, in := range []string{"100ms", "200ms", "400ms", "800ms", "1.6s", "3.2s", "5s"} {
		if n := strings.Count(said, " in="+in+" "); n == 0 || n > 1 && in != "5s" {
			t.Errorf("the next attempt was %d times after %s", n, in)
		}
	}
}

// tenure is one whose opening is over.
func (x *bare) tenure(num int32) *tenure {
	ctx, cancel := context.WithCancel(x.ctx)
	t := &tenure{num: num, ctx: ctx, cancel: cancel, opened: make(chan struct{}), ended: make(chan struct{}), since: time.Now()}
	close(t.opened)
	x.tenures[num] = t
	return t
}

// What the group assigns is ours; it is opened as soon as there is a pipeline.
func TestAssignedTasksAreOpenedUnlessTheyCannotBe(t *testing.T) {
	for name, c := range map[string]struct {
		set    func(*bare)
		opened int
	}{
		"all":                      {func(*bare) {}, 3},
		"the pipeline is down":     {func(x *bare) { x.down = true }, 0},
		"the service stops":        {func(x *bare) { x.closing = true }, 0},
		"one that is still opened": {func(x *bare) { x.tenure(0) }, 2},
	} {
		t.Run(name, func(t *testing.T) {
			x := newBare(t)
			x.kept[2] = true
			c.set(x)
			before := len(x.tenures)
			x.assign([]int32{0, 1})
			if got := len(x.tenures) - before; got != c.opened {
				t.Errorf("%d tasks are opened, want %d", got, c.opened)
			}
			if !x.joined || len(x.assigned) != 3 || len(x.kept) != 0 {
				t.Errorf("joined: %v, assigned %v, kept %v", x.joined, x.assigned, x.kept)
			}
		})
	}
}

// A task that is tried again shows since when it has been stopped.
func TestATaskThatIsTriedAgainShowsAsStopped(t *testing.T) {
	x := newBare(t)
	oops := errors.New("oops")
	last := x.tenure(0)
	last.since = time.Now().Add(-time.Hour)
	close(last.ended)
	x.begin(0, oops)
	if s := x.tenures[0].status(time.Now()); s.Phase != Stopped || !errors.Is(s.Err, oops) || !s.Since.Equal(last.since) {
		t.Errorf("%+v", s)
	}
	before := time.Now()
	x.begin(1, oops) // there was none
	if s := x.tenures[1].status(time.Now()); s.Phase != Stopped || s.Since.Before(before) {
		t.Errorf("%+v", s)
	}
}

// Only who gives a task up too early says so.
func TestSettleWarnsOfWhatIsNotSettled(t *testing.T) {
	x := newBare(t)
	for _, c := range []struct {
		inc   Incarnation
		warns int
	}{
		{nil, 0},
		{held(nil), 0},
		{held(func(context.Context) error { return context.DeadlineExceeded }), 1},
	} {
		y := x.tenure(0)
		y.inc = c.inc
		x.settle(t.Context(), y)
		if n := x.logged.times("still holds results"); n != c.warns {
			t.Errorf("%d warnings, want %d", n, c.warns)
		}
	}
}

// Why a task is stopped is said once, though it is tried again and again.
func TestAStoppedTaskIsToldOfOnce(t *testing.T) {
	x := newBare(t)
	y := x.tenure(0)
	for _, c := range []struct {
		err   string
		phase Phase // before
		said  int
	}{
		{"one", Opening, 1},
		{"one", Stopped, 0},
		{"another", Stopped, 1},
		{"another", Waiting, 1}, // it was the last failure until now
	} {
		y.phase = c.phase
		x.stop(y, errors.New(c.err))
		if n := x.logged.times("task stopped"); n != c.said {
			t.Errorf("%q was said %d times after %v, want %d", c.err, n, c.phase, c.said)
		}
		if s := y.status(time.Now()); s.Phase != Stopped || s.Err.Error() != c.err {
			t.Errorf("%+v", s)
		}
	}
}

// A task is opened anew if it is still the same ownership, and still ours.
func TestReopeningIsForWhoStillOwnsTheTask(t *testing.T) {
	for name, c := range map[string]struct {
		before, pause func(*bare, *tenure)
		ends, opens   bool
	}{
		"ours":                     {ends: true, opens: true},
		"forgotten":                {before: func(x *bare, _ *tenure) { delete(x.tenures, 0) }},
		"over":                     {before: func(_ *bare, y *tenure) { y.cancel() }},
		"the service stops":        {before: func(x *bare, _ *tenure) { x.closing = true }},
		"another ownership":        {before: func(_ *bare, y *tenure) { y.task = &Task{} }},
		"another ownership since":  {pause: func(x *bare, _ *tenure) { x.tenure(0) }, ends: true},
		"not assigned any more":    {pause: func(x *bare, _ *tenure) { delete(x.assigned, 0) }, ends: true},
		"the pipeline has failed":  {pause: func(x *bare, _ *tenure) { x.down = true }, ends: true},
		"the service stops by now": {pause: func(x *bare, _ *tenure) { x.closing = true }, ends: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newBare(t)
				task := &Task{}
				y := x.tenure(0)
				y.task, y.inc = task, held(nil)
				x.assigned[0] = true
				if c.before != nil {
					c.before(x, y)
				}
				x.reopen(task, errors.New("oops"))
				synctest.Wait()
				x.mu.Lock()
				if c.pause != nil {
					c.pause(x, y)
				}
				present := x.tenures[0]
				x.mu.Unlock()
				time.Sleep(2 * reopenPause)
				x.background.Wait()
				x.mu.Lock()
				opened := x.tenures[0] != present
				x.mu.Unlock()
				ended, said := y.ending.Load(), x.logged.times("opened anew") == 1
				if ended != c.ends || said != c.ends || opened != c.opens {
					t.Errorf("ended: %v, said: %v, opened anew: %v", ended, said, opened)
				}
			})
		})
	}
}
