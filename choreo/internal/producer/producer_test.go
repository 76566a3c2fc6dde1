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
	states int                    // how many more than one are told
	codes  map[string]*kerr.Error // by topic, or topic and partition
	open   []active
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
			state.ErrorCode, state.State, state.ProducerEpoch = code, a.state, a.epoch
			resp.TransactionStates = append(resp.TransactionStates, state)
		}
		return resp, nil
	case *kmsg.MetadataRequest:
		return metadata(req, a.codes), nil
	case *kmsg.DescribeProducersRequest:
		return producers(req, a.codes, a.open), nil
	case *kmsg.AddPartitionsToTxnRequest:
		return added(req, a.codes), nil
	}
	return nil, errors.New("not in the script")
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
		"ask": func(ctx context.Context, c kmsg.Requestor) error { _, err := LastOf(ctx, c, id); return err },
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
