package txn

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo/internal/offsets"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// world is an engine in small, with everything that may go wrong around it. Its
// inputs exist in its head only: partition p has records 0 to size-1; what was
// finished it knows from the broker alone.
type world struct {
	*rig
	in, out string
	group   string
	size    int
	keys    int // per partition
	calm    atomic.Bool
	mu      sync.Mutex
	rng     *rand.Rand
	trouble map[string]int
}

func (w *world) chance(percent float64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rng.Float64()*100 < percent
}

func (w *world) n(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rng.IntN(n)
}

// silent inputs have no output.
func (w *world) silent(p int32, offset int) bool { return (offset*7+int(p))%4 == 0 }
func (w *world) key(p int32, offset int) int     { return (offset*13 + int(p)) % w.keys }

// went notes what went wrong.
func (w *world) went(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trouble[what]++
}

// disturb is what happens to requests on the way to the broker, or in it.
func (w *world) disturb(c call) (kmsg.Response, error, bool) {
	if w.calm.Load() {
		return nil, nil, false
	}
	if w.chance(10) {
		delay := time.Duration(w.n(3000)) * time.Microsecond
		w.cluster.SleepControl(func() { time.Sleep(delay) })
	}
	if !w.chance(2) {
		return nil, nil, false
	}
	wrong := map[int16][]*kerr.Error{
		kTxnCommit: {nil, kerr.ConcurrentTransactions, kerr.NotCoordinator, kerr.UnknownMemberID, kerr.RebalanceInProgress, kerr.InvalidProducerEpoch},
		kProduce:   {nil, kerr.NotLeaderForPartition, kerr.InvalidProducerEpoch, kerr.InvalidRecord, kerr.ConcurrentTransactions},
		kEnd:       {nil, kerr.ConcurrentTransactions, kerr.InvalidTxnState, kerr.UnknownServerError, kerr.CoordinatorNotAvailable},
		kInit:      {nil, kerr.ConcurrentTransactions, kerr.CoordinatorLoadInProgress},
	}[c.key]
	if wrong == nil {
		return nil, nil, false
	}
	err := wrong[w.n(len(wrong))]
	if err == nil {
		w.went(kmsg.NameForKey(c.key) + " lost")
		return lose(c)
	}
	w.went(kmsg.NameForKey(c.key) + " " + err.Message)
	return refusal(c.req, err), nil, true
}

// brittle is a connection on which an answer may get lost, after the broker has
// done what was asked.
type brittle struct {
	net.Conn
	w *world
}

func (b brittle) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	if err == nil && !b.w.calm.Load() && b.w.chance(0.4) {
		b.w.went("answer lost")
		_ = b.Close()
		return 0, errors.New("the answer is lost")
	}
	return n, err
}

// run handles a partition until all of it is committed: it opens an ownership,
// asks the broker where to go on, hands results in, each key in order and the
// keys in any, and now and then gives the ownership up in the midst.
func (w *world) run(p int32) error {
	for end := time.Now().Add(2 * patience); time.Now().Before(end); {
		inc := w.fence.Open(p)
		if !inc.Standing() {
			time.Sleep(100 * time.Microsecond) // until Ready
			continue
		}
		done, err := w.own(p, inc)
		if err != nil || done {
			return err
		}
		inc.Close(errRevoked)
		if err := inc.Wait(context.Background()); err != nil {
			return err
		}
	}
	return fmt.Errorf("partition %d is not through in time", p)
}

func (w *world) own(p int32, inc *Incarnation) (bool, error) {
	at, metadata, err := w.fetch(p)
	if err != nil {
		return false, err
	}
	tracker, err := offsets.New(max(at, 0), metadata)
	if err != nil {
		return false, err
	}
	src := &Source{Topic: w.in, TopicID: w.ids[w.in], Partition: p, Offsets: tracker}
	waiting := make([][]int, w.keys) // per key, in order
	todo := 0
	for o := int(max(at, 0)); o < w.size; o++ {
		if tracker.Begin(int64(o), 0) {
			k := w.key(p, o)
			waiting[k] = append(waiting[k], o)
			todo++
		}
	}
	if todo == 0 {
		return true, nil
	}
	told := make(chan bool, todo)
	flying := 0
	for todo > 0 || flying > 0 {
		if todo > 0 && flying < 30 {
			k := w.n(w.keys)
			if len(waiting[k]) == 0 {
				continue
			}
			o := waiting[k][0]
			waiting[k] = waiting[k][1:]
			todo--
			flying++
			res := &Result{Inc: inc, Source: src, Offset: int64(o), Done: DoneFunc(func(ok bool) { told <- ok })}
			if !w.silent(p, o) {
				res.Records = []*kgo.Record{{Topic: w.out, Key: fmt.Appendf(nil, "%d.%d", p, k), Value: fmt.Appendf(nil, "%d.%d", p, o)}}
			}
			w.pipe.Submit(res)
			if !w.calm.Load() && w.chance(0.3) {
				w.went("given up")
				return false, nil
			}
			continue
		}
		select {
		case ok := <-told:
			if !ok {
				return false, nil
			}
			flying--
		case <-inc.Context().Done():
			return false, nil
		}
	}
	return false, nil // and ask the broker whether it is so
}

// fetch is a stable fetch of the group's offset.
func (w *world) fetch(p int32) (int64, string, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.RequireStable = true
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = w.group
	gt := kmsg.NewOffsetFetchRequestGroupTopic()
	gt.Topic, gt.TopicID, gt.Partitions = w.in, w.ids[w.in], []int32{p}
	g.Topics = append(g.Topics, gt)
	req.Groups = append(req.Groups, g)
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKey, find.CoordinatorKeys = w.group, []string{w.group}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		found, err := find.RequestWith(context.Background(), w.admin)
		if err != nil {
			return 0, "", err
		}
		// By hand: the client would sleep 1 s on an unstable offset.
		kresp, err := w.admin.Broker(int(found.Coordinators[0].NodeID)).Request(context.Background(), req)
		if err != nil {
			return 0, "", err
		}
		resp := kresp.(*kmsg.OffsetFetchResponse)
		got := resp.Groups[0].Topics[0].Partitions[0]
		switch err := kerr.ErrorForCode(got.ErrorCode); {
		case err == nil && got.Metadata == nil:
			return got.Offset, "", nil
		case err == nil:
			return got.Offset, *got.Metadata, nil
		case !errors.Is(err, kerr.UnstableOffsetCommit):
			return 0, "", err
		}
	}
	return 0, "", errors.New("the offset stays unstable")
}

// TestExactlyOnceInOrderWhateverFails: whatever requests are lost or refused,
// and whenever ownerships end, a read-committed reader sees the output of every
// input once, and those of a key in the order of the inputs.
func TestExactlyOnceInOrderWhateverFails(t *testing.T) {
	seeds := []uint64{1, 2, 3, 4, 5, 6, 7, 8}
	if s, err := strconv.ParseUint(os.Getenv("TXN_SEED"), 10, 64); err == nil {
		seeds = []uint64{s}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := &world{in: "in", out: "out", group: group, size: 600, keys: 7, rng: rand.New(rand.NewPCG(seed, 0)), trouble: map[string]int{}}
			w.calm.Store(true)
			w.rig = newRig(t, rigConfig{brokers: 1 + int(seed)%3, change: func(c *Config) {
				c.Lanes = 1 + int(seed)%5
				c.MaxRecords = 1 + int(seed*37)%50
				c.SilentAfter = time.Duration(1+w.n(10)) * time.Millisecond
				c.Timeout = 2 * time.Second
				c.Ready, c.Failed = nil, func(err error) {
					var e *Error
					errors.As(err, &e)
					w.went("reset: " + string(e.Reason))
				}
				c.ClientOptions = append(slices.Clone(c.ClientOptions), kgo.Dialer(func(ctx context.Context, network, host string) (net.Conn, error) {
					conn, err := new(net.Dialer).DialContext(ctx, network, host)
					return brittle{conn, w}, err
				}))
			}, idle: true})
			w.start()
			w.intercept(w.disturb)
			w.calm.Store(false)

			errs := make(chan error, 4)
			for p := range int32(4) {
				go func() { errs <- w.run(p) }()
			}
			for range 4 {
				if err := <-errs; err != nil {
					t.Fatal(err)
				}
			}
			w.calm.Store(true)
			t.Log(w.trouble)

			w.check(t)
		})
	}
}

// check reads what came of it.
func (w *world) check(t *testing.T) {
	last := map[string]int{}
	seen := map[string]int{}
	for _, rec := range w.records(w.out) {
		var p, o int
		if _, err := fmt.Sscanf(string(rec.Value), "%d.%d", &p, &o); err != nil {
			t.Fatal(err)
		}
		seen[string(rec.Value)]++
		if before, ok := last[string(rec.Key)]; ok && before >= o {
			t.Errorf("key %s: %d after %d", rec.Key, o, before)
		}
		last[string(rec.Key)] = o
	}
	for p := range int32(4) {
		for o := range w.size {
			want := 1
			if w.silent(p, o) {
				want = 0
			}
			if got := seen[fmt.Sprintf("%d.%d", p, o)]; got != want {
				t.Errorf("output of in-%d at %d was seen %d times, want %d", p, o, got, want)
			}
		}
		if at, _, err := w.fetch(p); err != nil || at != int64(w.size) {
			t.Errorf("partition %d is committed at %d, %v", p, at, err)
		}
	}
}
