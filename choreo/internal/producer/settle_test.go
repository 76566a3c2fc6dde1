package producer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// active is a producer in a partition: from is where its transaction begins there,
// -1 if none is open.
type active struct {
	topic     string
	partition int32
	id        int64
	epoch     int32
	from      int64
}

// codeOf is the answer for a partition, or else for its topic.
func codeOf(codes map[string]*kerr.Error, topic string, partition int32) int16 {
	for _, key := range []string{fmt.Sprintf("%s/%d", topic, partition), topic} {
		if err := codes[key]; err != nil {
			return err.Code
		}
	}
	return 0
}

// metadata has two partitions for each topic that is asked for.
func metadata(req *kmsg.MetadataRequest, codes map[string]*kerr.Error) *kmsg.MetadataResponse {
	resp := req.ResponseKind().(*kmsg.MetadataResponse)
	for _, asked := range req.Topics {
		t := kmsg.NewMetadataResponseTopic()
		t.Topic = asked.Topic
		if err := codes[*asked.Topic]; err != nil {
			t.ErrorCode = err.Code
		}
		for n := range int32(2) {
			p := kmsg.NewMetadataResponseTopicPartition()
			p.Partition, p.ErrorCode = n, codeOf(codes, *asked.Topic, n)
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp
}

func producers(req *kmsg.DescribeProducersRequest, codes map[string]*kerr.Error, open []active) *kmsg.DescribeProducersResponse {
	resp := req.ResponseKind().(*kmsg.DescribeProducersResponse)
	for _, asked := range req.Topics {
		t := kmsg.NewDescribeProducersResponseTopic()
		t.Topic = asked.Topic
		for _, n := range asked.Partitions {
			p := kmsg.NewDescribeProducersResponseTopicPartition()
			p.Partition, p.ErrorCode = n, codeOf(codes, asked.Topic, n)
			for _, a := range open {
				if a.topic == asked.Topic && a.partition == n {
					x := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
					x.ProducerID, x.ProducerEpoch, x.CurrentTxnStartOffset = a.id, a.epoch, a.from
					p.ActiveProducers = append(p.ActiveProducers, x)
				}
			}
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp
}

func added(req *kmsg.AddPartitionsToTxnRequest, codes map[string]*kerr.Error) *kmsg.AddPartitionsToTxnResponse {
	resp := req.ResponseKind().(*kmsg.AddPartitionsToTxnResponse)
	for _, asked := range req.Topics {
		t := kmsg.NewAddPartitionsToTxnResponseTopic()
		t.Topic = asked.Topic
		for _, n := range asked.Partitions {
			p := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
			p.Partition, p.ErrorCode = n, codeOf(codes, asked.Topic, n)
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp
}

// told is what was asked, in short, with what matters of it.
func (s *script) told() []string {
	var all []string
	for _, req := range s.asked {
		switch req := req.(type) {
		case *kmsg.DescribeTransactionsRequest:
			all = append(all, "last")
		case *kmsg.InitProducerIDRequest:
			all = append(all, "begin")
		case *kmsg.MetadataRequest:
			all = append(all, "topics")
		case *kmsg.DescribeProducersRequest:
			all = append(all, "open")
		case *kmsg.AddPartitionsToTxnRequest:
			text := fmt.Sprintf("touch %s of %d, %d:", req.TransactionalID, req.ProducerID, req.ProducerEpoch)
			for _, t := range req.Topics {
				text += fmt.Sprintf(" %s %v", t.Topic, t.Partitions)
			}
			all = append(all, text)
		case *kmsg.AddOffsetsToTxnRequest:
			all = append(all, fmt.Sprintf("touch %s of %d, %d: group %s", req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group))
		case *kmsg.EndTxnRequest:
			all = append(all, fmt.Sprintf("end %s of %d, %d: %t", req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit))
		}
	}
	return all
}

func TestLastIsWhatTheCoordinatorKnows(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer answer
		want   Last
		says   string
	}{
		{"never used", answer{code: kerr.TransactionalIDNotFound}, Last{Never, 0}, ""},
		{"committed", answer{state: "CompleteCommit", epoch: 9}, Last{Committed, 0}, ""},
		{"being committed", answer{state: "PrepareCommit", epoch: 9}, Last{Committed, 0}, ""},
		{"aborted", answer{state: "CompleteAbort", epoch: 9}, Last{Aborted, 7}, ""},
		{"being aborted", answer{state: "PrepareAbort", epoch: 9}, Last{Aborted, 7}, ""},
		{"open", answer{state: "Ongoing", epoch: 9}, Last{Aborted, 9}, ""},
		{"empty", answer{state: "Empty", epoch: 9}, Last{Aborted, 0}, ""},
		{"not allowed", answer{code: kerr.TransactionalIDAuthorizationFailed}, Last{}, "asking how the last transaction of " + id + " ended"},
		{"none in the answer", answer{states: -1}, Last{}, "the answer is of 0 transactional ids"},
		{"two in the answer", answer{states: 1}, Last{}, "the answer is of 2 transactional ids"},
	} {
		s := &script{answers: []answer{tc.answer}}
		got, err := LastOf(t.Context(), s, id)
		if got != tc.want || (err == nil) != (tc.says == "") || err != nil && !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %+v, %v; want %+v, %q", tc.name, got, err, tc.want, tc.says)
		}
		if ids := s.asked[0].(*kmsg.DescribeTransactionsRequest).TransactionalIDs; !slices.Equal(ids, []string{id}) {
			t.Errorf("asked for %q", ids)
		}
	}
}

func leftovers(topics ...string) *Leftovers {
	return &Leftovers{TransactionalID: id, Group: "payment", Topics: topics, Timeout: time.Second, Log: slog.New(slog.DiscardHandler)}
}

// What is left pending is ended as its transaction was: only what was committed
// is committed, and nothing is done for an id that left nothing.
func TestLeftoversEndAsTheirTransactionsEnded(t *testing.T) {
	group := func(epoch int) string { return fmt.Sprintf("touch %s of 7, %d: group payment", id, epoch) }
	commit := func(epoch int) string { return fmt.Sprintf("end %s of 7, %d: true", id, epoch) }
	touch := func(epoch int, what string) string {
		return fmt.Sprintf("touch %s of 7, %d: %s", id, epoch, what)
	}
	committed, aborted := answer{state: "CompleteCommit", epoch: 9}, answer{state: "CompleteAbort", epoch: 9}
	ours := func(epoch int32, topic string, n int32) active { return active{topic, n, 7, epoch, 55} }
	for _, tc := range []struct {
		name    string
		topics  []string
		answers []answer
		asks    []string
	}{
		{"never used", []string{"out"}, []answer{{code: kerr.TransactionalIDNotFound}}, []string{"last"}},
		{"committed", nil, []answer{committed, {id: 7, epoch: 10}}, []string{"last", "begin", group(10), commit(10)}},
		{"aborted", nil, []answer{aborted, {id: 7, epoch: 10}}, []string{"last", "begin", group(10)}},
		{"the epochs are used up", nil, []answer{committed, {id: 7, epoch: MaxEpoch}}, []string{"last", "begin"}},
		{"nothing is open", []string{"out"}, []answer{committed, {id: 7, epoch: 10}},
			[]string{"last", "begin", "topics", "open", group(10), commit(10)}},
		{"open are others and none", []string{"out"}, []answer{
			committed, {id: 7, epoch: 10}, {}, {open: []active{{"out", 0, 8, 3, 55}, {"out", 1, 7, 8, -1}}}, {},
		}, []string{"last", "begin", "topics", "open", group(10), commit(10)}},
		{"open of the committed", []string{"journal", "out"}, []answer{
			committed, {id: 7, epoch: 10}, {}, {open: []active{ours(8, "out", 0), ours(8, "out", 1), ours(8, "journal", 1)}}, {}, {}, {id: 7, epoch: 12},
		}, []string{
			"last", "begin", "topics", "open", touch(10, "journal [1] out [0 1]"), commit(10),
			"begin", "topics", "open", group(12), commit(12),
		}},
		{"open of the aborted", []string{"out"}, []answer{
			aborted, {id: 7, epoch: 10}, {}, {open: []active{ours(7, "out", 0), {"out", 0, 7, 7, 0}}}, {}, {id: 7, epoch: 13},
		}, []string{"last", "begin", "topics", "open", touch(10, "out [0 0]"), "begin", "topics", "open", group(13)}},
		{"open of the aborted and of one before it", []string{"out"}, []answer{
			aborted, {id: 7, epoch: 10}, {}, {open: []active{ours(6, "out", 0), ours(7, "out", 1)}}, {},
			{id: 7, epoch: 13}, {}, {open: []active{ours(6, "out", 0)}}, {}, {},
			{id: 7, epoch: 15}, {},
		}, []string{
			"last", "begin", "topics", "open", touch(10, "out [1]"),
			"begin", "topics", "open", touch(13, "out [0]"), commit(13),
			"begin", "topics", "open", group(15),
		}},
		{"what is not there or not ours to read", []string{"gone", "secret", "hidden", "out"}, []answer{
			committed, {id: 7, epoch: 10},
			{codes: map[string]*kerr.Error{"gone": kerr.UnknownTopicOrPartition, "hidden": kerr.TopicAuthorizationFailed}},
			{codes: map[string]*kerr.Error{"secret": kerr.TopicAuthorizationFailed}, open: []active{ours(8, "out", 1)}},
			{}, {}, {id: 7, epoch: 12},
		}, []string{
			"last", "begin", "topics", "open", touch(10, "out [1]"), commit(10),
			"begin", "topics", "open", group(12), commit(12),
		}},
		{"nothing to read", []string{"hidden"}, []answer{
			aborted, {id: 7, epoch: 10}, {codes: map[string]*kerr.Error{"hidden": kerr.TopicAuthorizationFailed}}, {},
		}, []string{"last", "begin", "topics", group(10)}},
	} {
		s := &script{answers: tc.answers}
		if err := leftovers(tc.topics...).End(t.Context(), s); err != nil || !slices.Equal(s.told(), tc.asks) {
			t.Errorf("%s: asked %q: %v; want %q", tc.name, s.told(), err, tc.asks)
		}
	}
}

// An operator reads which partitions were left open, and what became of them.
func TestLeftoversAreTold(t *testing.T) {
	for _, tc := range []struct {
		state, committed string
		epoch            int32
	}{{"CompleteCommit", "committed=true", 8}, {"CompleteAbort", "committed=false", 7}} {
		var said strings.Builder
		l := leftovers("out")
		l.Log = slog.New(slog.NewTextHandler(&said, nil))
		s := &script{answers: []answer{
			{state: tc.state, epoch: 9}, {id: 7, epoch: 10}, {}, {open: []active{{"out", 1, 7, tc.epoch, 55}}}, {}, {}, {id: 7, epoch: 12},
		}}
		if tc.state == "CompleteAbort" {
			s.answers = slices.Delete(s.answers, 5, 6) // nothing is committed
		}
		if err := l.End(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if got := said.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, tc.committed) || !strings.Contains(got, "out") {
			t.Errorf("%s: said %q, want one line with %s", tc.state, got, tc.committed)
		}
	}
}

// Whatever fails ends the attempt. The next one does not ask again how the last
// transaction ended.
func TestLeftoversAreEndedAgainAfterAFailure(t *testing.T) {
	committed, who := answer{state: "CompleteCommit"}, answer{id: 7, epoch: 10}
	open := answer{open: []active{{"out", 0, 7, 8, 55}}}
	denied, cut := kerr.GroupAuthorizationFailed, io.ErrUnexpectedEOF
	for _, tc := range []struct {
		name    string
		answers []answer
		err     error
	}{
		{"not initialized", []answer{committed, {code: denied}}, denied},
		{"no topics", []answer{committed, who, {err: cut}}, cut},
		{"a topic is refused", []answer{committed, who, {codes: map[string]*kerr.Error{"out": kerr.InvalidTopicException}}}, kerr.InvalidTopicException},
		{"no producers", []answer{committed, who, {}, {err: cut}}, cut},
		{"producers are refused", []answer{committed, who, {}, {codes: map[string]*kerr.Error{"out/1": kerr.InvalidRequest}}}, kerr.InvalidRequest},
		{"not added", []answer{committed, who, {}, open, {err: cut}}, cut},
		{"adding is refused", []answer{committed, who, {}, open, {codes: map[string]*kerr.Error{"out": kerr.ProducerFenced}}}, kerr.ProducerFenced},
		{"not ended", []answer{committed, who, {}, open, {}, {code: denied}}, denied},
		{"the group is not allowed", []answer{committed, who, {}, {}, {code: denied}}, denied},
		{"no answer from the group", []answer{committed, who, {}, {}, {err: cut}}, cut},
		{"the group's is not ended", []answer{committed, who, {}, {}, {}, {code: denied}}, denied},
	} {
		s, l := &script{answers: tc.answers}, leftovers("out")
		if err := l.End(t.Context(), s); !errors.Is(err, tc.err) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.err)
		}
		again := &script{answers: []answer{who}}
		if err := l.End(t.Context(), again); err != nil || slices.Contains(again.told(), "last") || !strings.HasSuffix(again.told()[4], "true") {
			t.Errorf("%s: then asked %q: %v", tc.name, again.told(), err)
		}
	}
}

// A partition without a leader gets no marker: the attempt waits for one.
func TestLeftoversWaitForLeaders(t *testing.T) {
	none := map[string]*kerr.Error{"out/1": kerr.LeaderNotAvailable}
	moved := map[string]*kerr.Error{"out/1": kerr.NotLeaderForPartition}
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: []answer{{state: "CompleteAbort"}, {id: 7, epoch: 10}, {codes: none}, {}, {codes: moved}, {}}}
		if err := leftovers("out").End(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		want := []string{"last", "begin", "topics", "topics", "open", "topics", "open"}
		if got := s.told(); !slices.Equal(got[:len(got)-1], want) {
			t.Errorf("asked %q, want %q and the group", got, want)
		}
	})
}

// What cannot be ended is named, and tried again later rather than at once.
func TestLeftoversThatStayOpenAreNamed(t *testing.T) {
	s := &script{answers: []answer{{state: "CompleteCommit"}, {id: 7, epoch: 10, open: []active{{"out", 1, 7, 8, 55}}}}}
	err := leftovers("out").End(t.Context(), s)
	if err == nil || !strings.Contains(err.Error(), "out/1 from offset 55") || !strings.Contains(err.Error(), "kafka-transactions.sh") {
		t.Errorf("ended with %v", err)
	}
	if n := len(s.asked); n != 1+3*5 {
		t.Errorf("asked %d times: %q", n, s.told())
	}
}

// The partition that is refused is the reason, not those that were left out for it.
func TestTheReasonOfARefusalIsFound(t *testing.T) {
	for _, codes := range []map[string]*kerr.Error{
		{"a": kerr.OperationNotAttempted, "b": kerr.TopicAuthorizationFailed},
		{"b": kerr.OperationNotAttempted, "a": kerr.TopicAuthorizationFailed},
	} {
		s := &script{answers: []answer{{codes: codes}}}
		err := touch(context.Background(), s, Identity{id, 7, 3}, []span{{"a", 0, 2, 5}, {"b", 1, 2, 5}})
		if !errors.Is(err, kerr.TopicAuthorizationFailed) || !strings.Contains(err.Error(), "a/0 from offset 5 and 1 more") {
			t.Errorf("refused with %v", err)
		}
	}
}
