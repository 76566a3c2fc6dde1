package task

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

func (r *rig) deleteRecords(name string, p int32, before int64) {
	r.t.Helper()
	os := make(kadm.Offsets)
	os.AddOffset(r.topic(name), p, before, -1)
	resps, err := r.adm.DeleteRecords(r.t.Context(), os)
	if err == nil {
		err = resps.Error()
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// What was committed, what the journal says was begun, and what the log holds
// must fit together. Where they do not the task is stopped with an error that
// says what to do, and nothing is reset; where they do, it reads from the right
// place.
func TestBegunCheck(t *testing.T) {
	old := [16]byte{0xde, 0xad}
	for _, c := range []struct {
		name    string
		from    From
		prepare func(r *rig)
		// Either:
		reads []string // from "orders", which holds v0 to v9
		begin bool     // the engine is asked to record that it is begun
		// Or:
		refused []string // all of it in the error
	}{
		{name: "new input, earliest", from: Earliest, reads: seq("v", 10), begin: true},
		{name: "new input, latest", from: Latest, reads: nil, begin: true},
		{
			name:    "new input, earliest, log truncated",
			prepare: func(r *rig) { r.deleteRecords("orders", 0, 3) },
			reads:   seq("v", 10)[3:], begin: true,
		},
		{
			name:    "committed and begun",
			prepare: func(r *rig) { r.commit("orders", 0, 4); r.begun("orders", 0, r.id("orders"), 0) },
			reads:   seq("v", 10)[4:],
		},
		{
			name:    "committed by a tool, not begun",
			prepare: func(r *rig) { r.commit("orders", 0, 7) },
			reads:   seq("v", 10)[7:], begin: true,
		},
		{
			name:    "begun, offsets gone",
			prepare: func(r *rig) { r.begun("orders", 0, r.id("orders"), 0) },
			refused: []string{"no committed offset", "pay topics --reset"},
		},
		{
			name:    "recreated, offsets still there",
			prepare: func(r *rig) { r.commit("orders", 0, 4); r.begun("orders", 0, old, 0) },
			refused: []string{"begun under topic id dead0000", "deleted and created anew", "pay topics --reset"},
		},
		{
			name: "recreated in fact",
			prepare: func(r *rig) {
				r.begun("orders", 0, r.id("orders"), 0)
				r.commit("orders", 0, 4)
				r.remove("orders")
				r.create("orders", 1)
			},
			refused: []string{"deleted and created anew", "pay topics --reset"},
		},
		{
			name: "removed by retention before it was read",
			prepare: func(r *rig) {
				r.commit("orders", 0, 4)
				r.begun("orders", 0, r.id("orders"), 0)
				r.deleteRecords("orders", 0, 6)
			},
			refused: []string{"committed offset is 4", "log begins at 6", "2 offsets were removed before they were read"},
		},
		{
			name:    "removed by retention up to what was read",
			prepare: func(r *rig) { r.commit("orders", 0, 6); r.deleteRecords("orders", 0, 6) },
			reads:   seq("v", 10)[6:], begin: true,
		},
		{
			name:    "beyond the end of the log",
			prepare: func(r *rig) { r.commit("orders", 0, 11); r.begun("orders", 0, r.id("orders"), 0) },
			refused: []string{"committed offset is 11", "log ends at 10"},
		},
		{
			name:    "at the end of the log",
			prepare: func(r *rig) { r.commit("orders", 0, 10); r.begun("orders", 0, r.id("orders"), 0) },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, map[string]int32{"inbox": 1, "journal": 1, "orders": 1})
			r.produce("orders", 0, seq("v", 10)...)
			if c.prepare != nil {
				c.prepare(r)
			}
			before := r.committed("orders", 0)
			a := r.instance("a").start(func(cfg *Config) { cfg.Inputs = []Input{{r.topic("orders"), c.from}} })
			if c.refused != nil {
				err := a.waitStopped(0)
				var oe *OffsetsError
				if !errors.As(err, &oe) || oe.Group != r.group || oe.Topic != r.topic("orders") || oe.Partition != 0 {
					t.Fatalf("stopped with %v", err)
				}
				for _, want := range append(c.refused, r.group, r.topic("orders"), "partition 0", "--from earliest|latest") {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("the error does not say %q: %v", want, err)
					}
				}
				if ready := a.owner.Status().Ready(); ready == nil || !strings.Contains(ready.Error(), err.Error()) {
					t.Errorf("readiness with a stopped task: %v", ready)
				}
				if a.task(0) != nil || len(a.values("orders", 0)) > 0 {
					t.Error("a stopped task was handed to the engine")
				}
				if now := r.committed("orders", 0); now != before {
					t.Errorf("the committed offset went from %d to %d", before, now)
				}
				return
			}
			a.waitOpen(1)
			if err := a.owner.Status().Ready(); err != nil {
				t.Errorf("not ready: %v", err)
			}
			r.produce("orders", 0, "last")
			want := append(slices.Clone(c.reads), "last")
			eventually(t, "the last record is delivered", func() bool {
				v := a.values("orders", 0)
				return len(v) > 0 && v[len(v)-1] == "last"
			})
			if got := a.values("orders", 0); !slices.Equal(got, want) {
				t.Errorf("delivered %v, want %v", got, want)
			}
			a.mu.Lock()
			_, began := a.beginnings[partition{r.topic("orders"), 0}]
			a.mu.Unlock()
			if began != c.begin {
				t.Errorf("the engine was asked to record the beginning: %v, want %v", began, c.begin)
			}
		})
	}
}

// Latest starts before the first open transaction: what that one commits later
// was not there at the start.
func TestLatestStartsBeforeOpenTransactions(t *testing.T) {
	r := newRig(t, map[string]int32{"inbox": 1, "journal": 1, "orders": 1})
	r.produce("orders", 0, "old")
	other := r.lane("elsewhere/0")
	r.begin(other)
	r.write(other, "orders", 0, "open")
	r.begun("inbox", 0, r.id("inbox"), 0) // so that only what is new is looked at anew
	r.commit("inbox", 0, 0)
	a := r.instance("a").start(func(cfg *Config) { cfg.Inputs = []Input{{r.topic("orders"), Latest}} })
	a.waitOpen(1)
	if s := a.task(0).Sources[1]; s.Offset != 1 || s.LeaderEpoch != -1 {
		t.Errorf("it starts at offset %d of epoch %d", s.Offset, s.LeaderEpoch)
	}
	r.end(other, kgoCommit)
	eventually(t, "the transaction's record is delivered", func() bool {
		return slices.Equal(a.values("orders", 0), []string{"open"})
	})
}

// What was aborted is not delivered. Markers are, also at the end of an input, so that
// the committed offset passes it: once retention has removed what was read, the
// log begins behind the marker.
func TestTrailingMarkersAreDelivered(t *testing.T) {
	r := newRig(t, map[string]int32{"inbox": 1, "journal": 1})
	a := r.instance("a").start()
	a.waitOpen(1)
	other := r.lane("elsewhere/0")
	if s := a.task(0).Home(); s.Offset != 0 || s.LeaderEpoch != -1 {
		t.Errorf("it starts at offset %d of epoch %d", s.Offset, s.LeaderEpoch)
	}
	for _, how := range []string{"abort", "commit", "abort"} {
		r.begin(other)
		r.write(other, "inbox", 0, how)
		if how == "commit" {
			r.end(other, kgoCommit)
		} else {
			r.end(other, kgoAbort)
		}
	}
	p := partition{r.topic("inbox"), 0}
	eventually(t, "the last marker is delivered", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.next[p] == 6 // three records, each with a marker
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	if got := a.got[p]; !slices.Equal(got, []string{"commit"}) {
		t.Errorf("delivered %q, want what was committed", got)
	}
}

// What the committed metadata says comes with the source.
func TestCommittedMetadataComesWithTheSource(t *testing.T) {
	r := newRig(t, map[string]int32{"inbox": 1, "journal": 1})
	r.produce("inbox", 0, seq("v", 5)...)
	os := make(kadm.Offsets)
	os.Add(kadm.Offset{Topic: r.topic("inbox"), Partition: 0, At: 2, LeaderEpoch: -1, Metadata: "1:3+2"})
	if err := r.adm.CommitAllOffsets(t.Context(), r.group, os); err != nil {
		t.Fatal(err)
	}
	a := r.instance("a").start()
	a.waitOpen(1)
	if s := a.task(0).Home(); s.Offset != 2 || s.Metadata != "1:3+2" || s.TopicID != r.id("inbox") {
		t.Errorf("source at %d, metadata %q, topic id %x", s.Offset, s.Metadata, s.TopicID)
	}
}

// An engine's refusal, such as of metadata it cannot read, stops the task.
func TestRefusedTaskIsStopped(t *testing.T) {
	r := newRig(t, map[string]int32{"inbox": 1, "journal": 1})
	a := &refusing{instance: r.instance("a")}
	a.start(func(c *Config) { c.Engine = a })
	if err := a.waitStopped(0); !strings.Contains(err.Error(), "metadata of a newer version") {
		t.Errorf("stopped with %v", err)
	}
}

type refusing struct{ *instance }

func (*refusing) Opened(*Task) error { return errors.New("metadata of a newer version") }

// What cannot be begun is opened anew, unless the task is not ours any more.
func TestATaskThatCannotBeBegunIsOpenedAnew(t *testing.T) {
	r := newRig(t, map[string]int32{"inbox": 1, "journal": 1})
	a := &beginning{instance: r.instance("a"), fails: 2}
	a.start(func(c *Config) { c.Engine = a })
	a.waitOpen(1)
	eventually(t, "it is opened until it works", func() bool {
		s := a.owner.Status()
		return s.Ready() == nil && a.claimed()[0] == 3
	})
}

// beginning cannot begin a few times.
type beginning struct {
	*instance
	fails int
}

func (b *beginning) Begin(ctx context.Context, t *Task, fresh []*Source) error {
	if b.fails--; b.fails >= 0 {
		return errors.New("not now")
	}
	return b.instance.Begin(ctx, t, fresh)
}

// The watch opens a stopped task once what stopped it has been decided.
func TestStoppedTaskGoesOnOnceDecided(t *testing.T) {
	r := newRig(t, map[string]int32{"inbox": 1, "journal": 1})
	r.produce("inbox", 0, seq("v", 3)...)
	r.begun("inbox", 0, r.id("inbox"), 0)
	a := r.instance("a").start(func(cfg *Config) { cfg.WatchInterval = 20 * time.Millisecond })
	a.waitStopped(0)
	eventually(t, "it was tried again", func() bool { return a.claimed()[0] > 2 })
	a.waitStopped(0)
	src := &Source{Topic: r.topic("inbox"), TopicID: r.id("inbox")}
	if err := a.commit(t.Context(), src, 1); err != nil { // as the command would
		t.Fatal(err)
	}
	a.waitOpen(1)
	eventually(t, "it reads from where the command said", func() bool {
		return slices.Equal(a.values("inbox", 0), seq("v", 3)[1:])
	})
}

// Everything that is wrong with the topics is said at once.
func TestMissingTopicsEndRun(t *testing.T) {
	r := newRig(t, map[string]int32{"inbox": 4, "journal": 3})
	a := r.instance("a").start(inputs(r, "orders", "payments"))
	err := <-a.ran
	var te *TopicError
	if !errors.As(err, &te) {
		t.Fatalf("Run: %v", err)
	}
	for _, want := range []string{
		`orders" does not exist: create it with ` + "`pay topics --apply`", `payments" does not exist`,
		`journal" has 3 partitions and the inbox`, "has 4",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
}

// Without a broker Run keeps trying and readiness says so; Close ends it.
func TestRunWithoutBrokerKeepsTrying(t *testing.T) {
	r := &rig{t: t, brokers: []string{"127.0.0.1:1"}, group: groupName(t)}
	a := r.instance("a").start()
	eventually(t, "readiness says why", func() bool {
		s := a.owner.Status()
		return s.Away > 0 && s.Ready() != nil && strings.Contains(s.Ready().Error(), "no broker has answered for")
	})
	if err := a.owner.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := <-a.ran; err != nil {
		t.Errorf("Run after Close: %v", err)
	}
}

// All mistakes of a configuration are reported at once.
func TestConfigReportsAllMistakes(t *testing.T) {
	_, err := New(Config{Inputs: []Input{{Topic: "a"}, {Topic: "a"}, {}}, TransactionalPrefix: "p/", OwnPrefix: "q/", SessionTimeout: 1, Heartbeat: 2})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"Group is empty", "Inbox is empty", "Journal is empty", "Engine is nil", `"a" is named twice`, "has no topic", `OwnPrefix "q/"`, "Heartbeat 2ns must be shorter"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("not reported: %s in %v", want, err)
		}
	}
}
