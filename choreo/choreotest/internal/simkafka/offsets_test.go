//go:build synctests

package simkafka

import (
	"context"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo/choreotest/internal/simnet"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// plain commits in/p outside a transaction.
func (r *rig) plain(p int32, offset int64) error {
	r.Helper()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = group, -1
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic, rt.TopicID = "in", r.ids["in"]
	rp := kmsg.NewOffsetCommitRequestTopicPartition()
	rp.Partition, rp.Offset = p, offset
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	kresp, err := r.admin.Broker(int(r.cluster.CoordinatorFor(group))).Request(context.Background(), req)
	if err != nil {
		r.Fatal(err)
	}
	return kerr.ErrorForCode(kresp.(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode)
}

func TestTheCommitReceivedLastWins(t *testing.T) {
	type step func(r *rig, a, b *lane)
	var (
		commit = func(n int, offset int64) step {
			return func(_ *rig, a, b *lane) { []*lane{a, b}[n].commits(0, offset) }
		}
		finish = func(n int, commit bool) step { // the client sends no EndTxn for offsets alone
			return func(r *rig, a, b *lane) {
				l := []*lane{a, b}[n]
				if _, err := l.endAs(l.epoch, commit); err != nil {
					r.Fatal(err)
				}
			}
		}
		end   = func(n int) step { return finish(n, true) }
		abort = func(n int) step { return finish(n, false) }
		plain = func(offset int64, want *kerr.Error) step {
			return func(r *rig, _, _ *lane) { is(r.T, "a plain commit", r.plain(0, offset), want) }
		}
		fault = func(r *rig, _, _ *lane) {
			r.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.CoordinatorLoadInProgress})
		}
		replay = func(r *rig, _, _ *lane) { // of the next TxnOffsetCommit, a minute later
			r.host.On(simnet.Trigger{Key: 28, When: simnet.AfterAnswered, Do: func(x *simnet.Exchange) { x.Replay(time.Minute) }})
		}
		later = func(*rig, *lane, *lane) { time.Sleep(2 * time.Minute) }
	)
	tests := []struct {
		name  string
		steps []step
		want  int64
	}{
		{"ended in order", []step{commit(0, 5), commit(1, 9), end(0), end(1)}, 9},
		{"ended the other way round", []step{commit(0, 5), commit(1, 9), end(1), end(0)}, 9},
		{"the last one aborted", []step{commit(0, 5), commit(1, 9), abort(1), end(0)}, 5},
		{"a late duplicate in an open transaction rewinds", []step{replay, commit(0, 5), commit(1, 9), later, end(0), end(1)}, 5},
		{"a late duplicate of an ended transaction is fenced", []step{replay, commit(0, 5), end(0), commit(1, 9), end(1), later}, 9},
		{"a plain commit beside a transaction rewinds", []step{commit(0, 9), plain(5, nil), end(0)}, 5},
		{"a plain commit before it does not", []step{plain(5, nil), commit(0, 9), end(0)}, 9},
		{"a refused plain commit does not", []step{commit(0, 9), fault, plain(5, kerr.CoordinatorLoadInProgress), end(0)}, 9},
		{"the next commit ends it", []step{commit(0, 9), plain(5, nil), end(0), commit(1, 11), end(1)}, 11},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			run(t, 0, func(r *rig) {
				a, b := r.lane("a"), r.lane("b")
				defer func() { a.Close(); b.Close() }()
				a.begin()
				b.begin()
				for _, s := range tt.steps {
					s(r, a, b)
				}
				time.Sleep(time.Second)
				if at, _, err := r.committed(0); err != nil || at != tt.want {
					t.Errorf("committed %d, %v, want %d", at, err, tt.want)
				}
			})
		})
	}
}
