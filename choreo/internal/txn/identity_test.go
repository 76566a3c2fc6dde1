package txn

import (
	"errors"
	"strings"
	"testing"

	"github.com/choreography-go/choreography/choreo/internal/producer"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// What the client would end is the transaction that was begun: if it has another
// producer id or epoch by now, nothing is ended.
func TestOnlyTheTransactionThatWasBegunIsEnded(t *testing.T) {
	r := newRig(t, rigConfig{idle: true})
	for _, tc := range []struct {
		name  string
		id    int64
		epoch int16
		ok    bool
	}{
		{"its own", 0, 0, true},
		{"another epoch", 0, 1, false},
		{"another id", 1, 0, false},
		{"another id and epoch", 1, 1, false},
	} {
		client, err := r.pipe.newClient("payment/0/0")
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		id, epoch, err := client.ProducerID(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := client.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		tx := &transaction{s: &session{p: r.pipe}, l: &lane{id: "payment/0/0", client: client}, ctx: t.Context(),
			who: producer.Identity{TransactionalID: "payment/0/0", ID: id + tc.id, Epoch: epoch + tc.epoch}}
		switch err := tx.end(); {
		case tc.ok && err != nil:
			t.Errorf("%s: %v", tc.name, err)
		case !tc.ok && (err == nil || !errors.Is(err, kerr.InvalidProducerEpoch) || err.Reason != ReasonFenced):
			t.Errorf("%s: %v, want that the epoch is invalid", tc.name, err)
		}
	}
}

// identified answers the first initialization of a lane with that identity.
func identified(id int64, epoch int16) func(call) (kmsg.Response, error, bool) {
	return once(kInit, 1, func(c call) (kmsg.Response, error, bool) {
		resp := c.req.ResponseKind().(*kmsg.InitProducerIDResponse)
		resp.ProducerID, resp.ProducerEpoch = id, epoch
		return resp, nil, true
	})
}

// A lane is made with an identity that can be used: a producer id, and an epoch
// below the limit.
func TestALaneHasAUsableIdentity(t *testing.T) {
	for _, tc := range []struct {
		name  string
		id    int64
		epoch int16
		inits int // -1: an error
	}{
		{"the first of all", 0, 0, 1},
		{"the last epoch but one", 7, producer.MaxEpoch - 1, 1},
		{"the limit", 7, producer.MaxEpoch, 2},
		{"no producer id", -1, 0, -1},
	} {
		r := newRig(t, rigConfig{idle: true})
		r.intercept(identified(tc.id, tc.epoch))
		client, err := r.pipe.newClient("payment/0/0")
		if err != nil {
			t.Fatal(err)
		}
		l := r.pipe.newLane(0)
		err = r.pipe.connect(t.Context(), l, client)
		if tc.inits < 0 {
			if err == nil || !strings.Contains(err.Error(), "gave no producer id") {
				t.Errorf("%s: %v", tc.name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if n := len(r.calls(kInit)); n != tc.inits {
			t.Errorf("%s: initialized %d times, want %d", tc.name, n, tc.inits)
		}
		r.pipe.discard(l.client)
		r.pipe.closing.Wait()
	}
}

// When a lane cannot be given a new identity, what is in flight on the others goes
// through: only transactions that begin after it fail.
func TestALaneThatCannotBeRenewedFailsNoneBeforeIt(t *testing.T) {
	r := newRig(t, rigConfig{idle: true, change: func(c *Config) { c.Lanes = 2 }})
	lanes, quiet := r.pipe.openAll(func(err error) { t.Error(err) })
	if lanes == nil {
		t.Fatal("no lanes were made")
	}
	r.pipe.discard(lanes[1].client)
	var err error
	if lanes[1].client, err = r.pipe.newClient("payment/0/1"); err != nil { // one that has no identity yet
		t.Fatal(err)
	}
	ends, goes := make(chan call, 1), make(chan struct{})
	r.intercept(func(c call) (kmsg.Response, error, bool) {
		switch c.key {
		case kInit:
			return answer(kerr.TransactionalIDAuthorizationFailed)(c)
		case kEnd:
			return r.hold(ends, goes)(c)
		}
		return nil, nil, false
	})
	r.fence.Reopen()
	s := newSession(t.Context(), r.pipe, lanes, quiet)
	ran := make(chan struct{})
	go func() { defer close(ran); s.run() }()
	first := r.submit(r.fence.Open(0), r.source(0, 10), 0, "a")
	receive(t, ends, "EndTxn")
	receive(t, s.broken, "the failure of the other lane")
	close(goes)
	first.is(t, true)
	receive(t, ran, "the end of the session")
	r.pipe.closing.Wait()
	if s.cause.Reason != ReasonOpen || !errors.Is(s.cause, kerr.TransactionalIDAuthorizationFailed) {
		t.Errorf("the session ended because of %v", s.cause)
	}
	equal(t, "outputs", r.values("out"), []string{"a"})
}

// A topic that was created anew is another one, whatever its name.
func TestTopicsOfOneNameAreToldApartByTheirIDs(t *testing.T) {
	r := newRig(t, rigConfig{})
	r.intercept(once(kTxnCommit, 1, answer(&kerr.Error{})))
	inc, old, anew := r.fence.Open(0), r.source(0, 1), r.source(1, 1)
	anew.TopicID[0]++
	a, da := result(inc, old, 0, "a")
	b, db := result(inc, anew, 0, "b")
	r.pipe.SubmitAll([]*Result{a, b})
	da.is(t, true)
	db.is(t, true)
	req := r.calls(kTxnCommit)[0].req.(*kmsg.TxnOffsetCommitRequest)
	if len(req.Topics) != 2 || len(req.Topics[0].Partitions) != 1 || len(req.Topics[1].Partitions) != 1 {
		t.Errorf("offsets are committed of %+v", req.Topics)
	}
}
