package producer

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// script is a coordinator that gives prepared answers in turn, the last one again
// and again, and keeps what it was asked.
type script struct {
	answers []answer
	asked   []kmsg.Request
	at      []time.Time
}

// answer is one answer, to whatever is asked.
type answer struct {
	code   *kerr.Error // nil: done
	id     int64
	epoch  int16
	state  string
	states int   // how many more than one are told
	err    error // instead of an answer
}

func (s *script) Request(_ context.Context, req kmsg.Request) (kmsg.Response, error) {
	a := s.answers[min(len(s.asked), len(s.answers)-1)]
	s.asked, s.at = append(s.asked, req), append(s.at, time.Now())
	if a.err != nil {
		return nil, a.err
	}
	var code int16
	if a.code != nil {
		code = a.code.Code
	}
	switch req := req.(type) {
	case *kmsg.InitProducerIDRequest:
		resp := req.ResponseKind().(*kmsg.InitProducerIDResponse)
		resp.ErrorCode, resp.ProducerID, resp.ProducerEpoch = code, a.id, a.epoch
		return resp, nil
	case *kmsg.EndTxnRequest:
		resp := req.ResponseKind().(*kmsg.EndTxnResponse)
		resp.ErrorCode, resp.ProducerID, resp.ProducerEpoch = code, a.id, a.epoch
		return resp, nil
	case *kmsg.AddOffsetsToTxnRequest:
		resp := req.ResponseKind().(*kmsg.AddOffsetsToTxnResponse)
		resp.ErrorCode = code
		return resp, nil
	case *kmsg.DescribeTransactionsRequest:
		resp := req.ResponseKind().(*kmsg.DescribeTransactionsResponse)
		for range 1 + a.states {
			state := kmsg.NewDescribeTransactionsResponseTransactionState()
			state.ErrorCode, state.State = code, a.state
			resp.TransactionStates = append(resp.TransactionStates, state)
		}
		return resp, nil
	}
	return nil, errors.New("not in the script")
}

// keys are the names of what was asked.
func (s *script) keys() []string {
	var all []string
	for _, req := range s.asked {
		all = append(all, kmsg.NameForKey(req.Key()))
	}
	return all
}

const id = "payment/0/offsets"

func TestAnIdentityIsUsableUpToTheLimit(t *testing.T) {
	for who, want := range map[Identity]bool{
		{}:                 false,
		{id, 0, 0}:         true,
		{id, 7, 32765}:     true,
		{id, 7, 32766}:     false, // given to nobody (KAFKA-20090)
		{id, -1, 0}:        false,
		{id, 7, -1}:        false,
		{"", 7, 3}:         false,
		{id, 1 << 40, 100}: true,
	} {
		if who.Usable() != want {
			t.Errorf("%+v is usable: %t", who, !want)
		}
	}
}

func TestInitializeGivesTheNextIdentity(t *testing.T) {
	s := &script{answers: []answer{{id: 7, epoch: 3}}}
	who, err := Initialize(t.Context(), s, id, 1500*time.Millisecond)
	if err != nil || who != (Identity{id, 7, 3}) {
		t.Errorf("%+v, %v", who, err)
	}
	req := s.asked[0].(*kmsg.InitProducerIDRequest)
	if *req.TransactionalID != id || req.ProducerID != -1 || req.ProducerEpoch != -1 || req.TransactionTimeoutMillis != 1500 {
		t.Errorf("asked with %+v", req)
	}
}

func TestCommitEndsItsTransactionAndGivesTheNextIdentity(t *testing.T) {
	s := &script{answers: []answer{{id: 7, epoch: 4}}}
	next, err := Commit(t.Context(), s, Identity{id, 7, 3})
	if err != nil || next != (Identity{id, 7, 4}) {
		t.Errorf("%+v, %v", next, err)
	}
	req := s.asked[0].(*kmsg.EndTxnRequest)
	if req.TransactionalID != id || req.ProducerID != 7 || req.ProducerEpoch != 3 || !req.Commit {
		t.Errorf("asked with %+v", req)
	}
}

// What may pass is asked again, everything else ends the attempt and is named
// with the transactional id.
func TestOnlyWhatMayPassIsAskedAgain(t *testing.T) {
	calls := map[string]func(context.Context, kmsg.Requestor) error{
		"initialize": func(ctx context.Context, c kmsg.Requestor) error {
			_, err := Initialize(ctx, c, id, time.Second)
			return err
		},
		"commit": func(ctx context.Context, c kmsg.Requestor) error {
			_, err := Commit(ctx, c, Identity{id, 7, 3})
			return err
		},
		"ask": func(ctx context.Context, c kmsg.Requestor) error { _, err := LastOutcome(ctx, c, id); return err },
	}
	for name, call := range calls {
		for _, tc := range []struct {
			name  string
			first answer
			again bool
		}{
			{"the last transaction is not through", answer{code: kerr.ConcurrentTransactions}, true},
			{"the coordinator loads", answer{code: kerr.CoordinatorLoadInProgress}, true},
			{"the coordinator is another", answer{code: kerr.NotCoordinator}, true},
			{"fenced", answer{code: kerr.ProducerFenced}, false},
			{"not allowed", answer{code: kerr.TransactionalIDAuthorizationFailed}, false},
			{"no answer", answer{err: io.ErrUnexpectedEOF}, false},
		} {
			synctest.Test(t, func(t *testing.T) {
				s := &script{answers: []answer{tc.first, {id: 7, epoch: 4, state: "Ongoing"}}}
				err := call(t.Context(), s)
				if tc.again && (err != nil || len(s.asked) != 2) {
					t.Errorf("%s, %s: asked %d times: %v", name, tc.name, len(s.asked), err)
				}
				if !tc.again && (err == nil || len(s.asked) != 1 || !strings.Contains(err.Error(), id)) {
					t.Errorf("%s, %s: asked %d times: %v", name, tc.name, len(s.asked), err)
				}
				want := tc.first.err
				if tc.first.code != nil {
					want = tc.first.code
				}
				if !tc.again && !errors.Is(err, want) {
					t.Errorf("%s, %s: %v", name, tc.name, err)
				}
			})
		}
	}
}

// Pauses double from 1 to 100 ms, and end with the context: then the last answer
// is in the error.
func TestPausesDoubleAndEndWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: []answer{{code: kerr.ConcurrentTransactions}}}
		ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
		defer cancel()
		began := time.Now()
		_, err := Initialize(ctx, s, id, time.Second)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, kerr.ConcurrentTransactions) {
			t.Errorf("the attempt ended with %v", err)
		}
		if took := time.Since(began); took != 400*time.Millisecond {
			t.Errorf("it ended after %v", took)
		}
		var pauses []time.Duration
		for i := range len(s.at) - 1 {
			pauses = append(pauses, s.at[i+1].Sub(s.at[i])/time.Millisecond)
		}
		if want := []time.Duration{1, 2, 4, 8, 16, 32, 64, 100, 100}; !slices.Equal(pauses, want) {
			t.Errorf("pauses of %v ms, want %v", pauses, want)
		}
	})
}

func TestLastOutcomeIsWhatTheCoordinatorKnows(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer answer
		want   Outcome
		says   string
	}{
		{"never used", answer{code: kerr.TransactionalIDNotFound}, Never, ""},
		{"committed", answer{state: "CompleteCommit"}, Committed, ""},
		{"being committed", answer{state: "PrepareCommit"}, Committed, ""},
		{"aborted", answer{state: "CompleteAbort"}, Aborted, ""},
		{"being aborted", answer{state: "PrepareAbort"}, Aborted, ""},
		{"open", answer{state: "Ongoing"}, Aborted, ""},
		{"empty", answer{state: "Empty"}, Aborted, ""},
		{"not allowed", answer{code: kerr.TransactionalIDAuthorizationFailed}, Unknown, "asking how the last transaction of " + id + " ended"},
		{"none in the answer", answer{states: -1}, Unknown, "the answer is of 0 transactional ids"},
		{"two in the answer", answer{states: 1}, Unknown, "the answer is of 2 transactional ids"},
	} {
		s := &script{answers: []answer{tc.answer}}
		got, err := LastOutcome(t.Context(), s, id)
		if got != tc.want || (err == nil) != (tc.says == "") || err != nil && !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %d, %v; want %d, %q", tc.name, got, err, tc.want, tc.says)
		}
		if ids := s.asked[0].(*kmsg.DescribeTransactionsRequest).TransactionalIDs; !slices.Equal(ids, []string{id}) {
			t.Errorf("asked for %q", ids)
		}
	}
}

// What is left pending is ended as its transaction was: only what was committed
// is committed, and nothing is done for an id that left nothing.
func TestSettleEndsWhatIsPendingAsItsTransactionEnded(t *testing.T) {
	begin, touch, end := "InitProducerID", "AddOffsetsToTxn", "EndTxn"
	denied := kerr.GroupAuthorizationFailed
	for _, tc := range []struct {
		name    string
		last    Outcome
		answers []answer
		asks    []string
		err     error
	}{
		{"never used", Never, []answer{{}}, nil, nil},
		{"committed", Committed, []answer{{id: 7, epoch: 3}}, []string{begin, touch, end}, nil},
		{"aborted", Aborted, []answer{{id: 7, epoch: 3}}, []string{begin, touch}, nil},
		{"the epochs are used up", Committed, []answer{{id: 7, epoch: MaxEpoch}}, []string{begin}, nil},
		{"not initialized", Committed, []answer{{code: denied}}, []string{begin}, denied},
		{"the group is not allowed", Committed, []answer{{id: 7, epoch: 3}, {code: denied}}, []string{begin, touch}, denied},
		{"no answer from the group", Aborted, []answer{{id: 7, epoch: 3}, {err: io.ErrUnexpectedEOF}}, []string{begin, touch}, io.ErrUnexpectedEOF},
		{"not ended", Committed, []answer{{id: 7, epoch: 3}, {}, {code: denied}}, []string{begin, touch, end}, denied},
	} {
		s := &script{answers: tc.answers}
		err := Settle(t.Context(), s, id, "payment", time.Second, tc.last)
		if !errors.Is(err, tc.err) || !slices.Equal(s.keys(), tc.asks) {
			t.Errorf("%s: asked %v: %v; want %v: %v", tc.name, s.keys(), err, tc.asks, tc.err)
		}
		for _, req := range s.asked {
			switch req := req.(type) {
			case *kmsg.AddOffsetsToTxnRequest:
				if req.TransactionalID != id || req.ProducerID != 7 || req.ProducerEpoch != 3 || req.Group != "payment" {
					t.Errorf("%s: touched the group with %+v", tc.name, req)
				}
			case *kmsg.EndTxnRequest:
				if !req.Commit || req.ProducerEpoch != 3 {
					t.Errorf("%s: ended with %+v", tc.name, req)
				}
			}
		}
	}
}
