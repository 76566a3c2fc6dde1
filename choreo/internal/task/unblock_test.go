package task

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// coordinator has transactions open, and notes when it is asked for them and
// which it is told to end.
type coordinator struct {
	began time.Time
	open  []openTransaction
	gone  []string // listed, and no more when they are described
	over  []string // listed, and ending when they are described
	fail  error
	keep  string // a transactional id that cannot be initialized
	did   []string
}

func (c *coordinator) answer(req kmsg.Request) (kmsg.Response, error) {
	note := func(what string) { c.did = append(c.did, fmt.Sprint(time.Since(c.began).Milliseconds(), " ", what)) }
	switch req := req.(type) {
	case *kmsg.ListTransactionsRequest:
		note("list")
		resp := req.ResponseKind().(*kmsg.ListTransactionsResponse)
		ids := slices.Concat(c.gone, c.over)
		for _, t := range c.open {
			ids = append(ids, t.id)
		}
		for _, id := range ids {
			resp.TransactionStates = append(resp.TransactionStates, kmsg.ListTransactionsResponseTransactionState{TransactionalID: id})
		}
		return resp, c.fail
	case *kmsg.DescribeTransactionsRequest:
		resp := req.ResponseKind().(*kmsg.DescribeTransactionsResponse)
		for _, id := range req.TransactionalIDs {
			s := kmsg.NewDescribeTransactionsResponseTransactionState()
			s.TransactionalID, s.ErrorCode = id, kerr.TransactionalIDNotFound.Code
			if slices.Contains(c.over, id) {
				s.ErrorCode, s.State = 0, "PrepareAbort"
			}
			for _, t := range c.open {
				if t.id == id {
					s.ErrorCode, s.State, s.ProducerID, s.ProducerEpoch = 0, "Ongoing", t.pid, t.epoch
				}
			}
			resp.TransactionStates = append(resp.TransactionStates, s)
		}
		return resp, nil
	case *kmsg.InitProducerIDRequest:
		note("end " + *req.TransactionalID)
		resp := req.ResponseKind().(*kmsg.InitProducerIDResponse)
		resp.ProducerID = 1
		if *req.TransactionalID == c.keep {
			resp.ErrorCode = kerr.TransactionalIDAuthorizationFailed.Code
		}
		return resp, nil
	}
	return nil, errors.New("not expected")
}

// Who is blocked looks early which transactions are open, and ends those that
// are still open when its patience is over; later ones when they have been open
// for nearly as long.
func TestWhatStaysOpenIsEndedWhenThePatienceIsOver(t *testing.T) {
	a1, a2, b := openTransaction{"pay/other/0", 5, 1}, openTransaction{"pay/other/0", 5, 2}, openTransaction{"pay/third/0", 7, 0}
	own, foreign := openTransaction{"pay/a/0", 8, 0}, openTransaction{"stock/a/0", 9, 0}
	for _, c := range []struct {
		name string
		at   map[int][]openTransaction // what is open from then on, by ms
		fail map[int]error
		want string
	}{
		{"one", map[int][]openTransaction{0: {a1}}, nil, "100 list, 1000 list, 1000 end pay/other/0, 1800 list, 1800 end pay/other/0"},
		{"one that ends by itself", map[int][]openTransaction{0: {a1}, 500: {}}, nil, "100 list, 1000 list, 1800 list"},
		{"another one of the same id", map[int][]openTransaction{0: {a1}, 500: {a2}}, nil, "100 list, 1000 list, 1800 list, 1800 end pay/other/0"},
		{"one that came later, before one that did not", map[int][]openTransaction{0: {b}, 500: {a1, b}, 1500: {a1}}, nil,
			"100 list, 1000 list, 1000 end pay/third/0, 1800 list, 1800 end pay/other/0"},
		{"one that is seen at the end of the patience only", map[int][]openTransaction{1000: {a1}}, nil, "100 list, 1000 list, 1800 list, 1800 end pay/other/0"},
		{"our own, and those of other services", map[int][]openTransaction{0: {own, foreign}}, nil, "100 list, 1000 list, 1800 list"},
		{"no answer at first", map[int][]openTransaction{0: {a1}}, map[int]error{100: errors.New("oops"), 300: nil},
			"100 list, 200 list, 300 list, 1100 list, 1100 end pay/other/0, 1900 list, 1900 end pay/other/0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newBare(t)
				k := &coordinator{began: time.Now()}
				r := x.relief("a test", nil)
				r.brokers = brokers(k.answer)
				for ms := 0; ms < 2000; ms += 100 {
					if open, ok := c.at[ms]; ok {
						k.open = open
					}
					if fail, ok := c.fail[ms]; ok {
						k.fail = fail
					}
					if err := r.blocked(t.Context()); !errors.Is(err, k.fail) {
						t.Errorf("at %d ms: %v", ms, err)
					}
					time.Sleep(100 * time.Millisecond)
				}
				if got := strings.Join(k.did, ", "); got != c.want {
					t.Errorf("it did %q, want %q", got, c.want)
				}
			})
		})
	}
}

// What was blocked and goes on is new when it is blocked again.
func TestPatienceBeginsAnewAfterProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBare(t)
		k := &coordinator{began: time.Now(), open: []openTransaction{{"pay/other/0", 5, 1}}}
		r := x.relief("a test", nil)
		r.brokers = brokers(k.answer)
		for ms := 0; ms < 2000; ms += 100 {
			if ms == 900 {
				r.progressed()
			}
			if err := r.blocked(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if want := []string{"100 list", "1000 list", "1900 list", "1900 end pay/other/0"}; !slices.Equal(k.did, want) {
			t.Errorf("it did %q, want %q", k.did, want)
		}
	})
}

// Where nothing of the service's is open, whoever reads the log learns what may
// help, now and then.
func TestWhatNobodyHasOpenIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBare(t)
		r := x.relief("a test", nil)
		k := &coordinator{began: time.Now()}
		r.brokers = brokers(k.answer)
		var said []int
		for s := range 40 {
			if s == 25 { // whoever has one open is told of otherwise
				k.open = []openTransaction{{"pay/other/0", 5, 1}}
			}
			if err := r.blocked(t.Context()); err != nil {
				t.Fatal(err)
			}
			if x.logged.times("find-hanging") > 0 {
				said = append(said, s)
			}
			time.Sleep(time.Second)
		}
		if !slices.Equal(said, []int{11, 22}) {
			t.Errorf("it was said after %v s, want whenever ten times the patience, a second, was exceeded", said)
		}
	})
}

// What is over when it is looked at hides nothing, and one that cannot be ended
// does not keep others open.
func TestEveryOpenTransactionIsLookedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBare(t)
		k := &coordinator{
			began: time.Now(), gone: []string{"pay/gone/0"}, over: []string{"pay/over/0"},
			open: []openTransaction{{"pay/other/0", 5, 1}, {"pay/third/0", 7, 0}}, keep: "pay/other/0",
		}
		r := x.relief("a test", nil)
		r.brokers = brokers(k.answer)
		var errs []error
		for range 11 {
			errs = append(errs, r.blocked(t.Context()))
			time.Sleep(100 * time.Millisecond)
		}
		err := errors.Join(errs...)
		if !errors.Is(err, kerr.TransactionalIDAuthorizationFailed) || !strings.Contains(err.Error(), "allowed to WRITE") || errors.Join(errs[:10]...) != nil {
			t.Errorf("%v", errs)
		}
		if want := []string{"100 list", "1000 list", "1000 end pay/other/0", "1000 end pay/third/0"}; !slices.Equal(k.did, want) {
			t.Errorf("it did %q, want %q", k.did, want)
		}
	})
}
