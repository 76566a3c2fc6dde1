package task

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// brokers answer every request by a function.
type brokers func(kmsg.Request) (kmsg.Response, error)

func (b brokers) Request(_ context.Context, req kmsg.Request) (kmsg.Response, error) { return b(req) }

// What a broker says beside the topics that exist: that one does not, that one
// has no leader, and topics without a name.
func TestTopologyIsWhatTheBrokersSay(t *testing.T) {
	oops := errors.New("oops")
	named := func(name string, partitions int, e *kerr.Error) kmsg.MetadataResponseTopic {
		x := kmsg.NewMetadataResponseTopic()
		x.Topic, x.TopicID, x.Partitions = &name, [16]byte{byte(partitions)}, make([]kmsg.MetadataResponseTopicPartition, partitions)
		if e != nil {
			x.ErrorCode = e.Code
		}
		return x
	}
	for _, c := range []struct {
		name    string
		answer  []kmsg.MetadataResponseTopic
		failure error
		want    topology
		says    string
	}{
		{"missing", []kmsg.MetadataResponseTopic{named("a", 0, kerr.UnknownTopicOrPartition), named("b", 2, nil)}, nil, topology{"b": {[16]byte{2}, 2}}, ""},
		{"without a name", []kmsg.MetadataResponseTopic{kmsg.NewMetadataResponseTopic(), named("b", 2, nil)}, nil, topology{"b": {[16]byte{2}, 2}}, ""},
		{"an error beside partitions", []kmsg.MetadataResponseTopic{named("a", 1, kerr.LeaderNotAvailable)}, nil, topology{"a": {[16]byte{1}, 1}}, ""},
		{"nothing but an error", []kmsg.MetadataResponseTopic{named("a", 0, kerr.LeaderNotAvailable)}, nil, nil, `topic "a": LEADER_NOT_AVAILABLE`},
		{"no partitions and no error", []kmsg.MetadataResponseTopic{named("a", 0, nil)}, nil, topology{"a": {}}, ""},
		{"no answer", nil, oops, nil, `topics ["a" "b"]: oops`},
	} {
		t.Run(c.name, func(t *testing.T) {
			top, err := describe(t.Context(), brokers(func(req kmsg.Request) (kmsg.Response, error) {
				if n := len(req.(*kmsg.MetadataRequest).Topics); n != 2 {
					t.Errorf("asked for %d topics", n)
				}
				resp := req.ResponseKind().(*kmsg.MetadataResponse)
				resp.Topics = c.answer
				return resp, c.failure
			}), []string{"a", "b"})
			if !maps.Equal(top, c.want) || (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, %v; want %v, %q", top, err, c.want, c.says)
			}
		})
	}
}

// Every problem is told, and none twice: of a topic that does not exist it is not
// also said how many partitions it should have.
func TestTopicsThatDoNotFit(t *testing.T) {
	c := Config{Inbox: "inbox", Journal: "journal", Inputs: []Input{{Topic: "orders"}}, Command: "pay"}
	for _, x := range []struct {
		name string
		top  topology
		want []string
	}{
		{"all there", topology{"inbox": {partitions: 2}, "journal": {partitions: 2}, "orders": {partitions: 5}}, nil},
		{"nothing there", topology{}, []string{`"inbox" does not exist`, `"orders" does not exist`, `"journal" does not exist`}},
		{"no inbox", topology{"journal": {partitions: 2}, "orders": {partitions: 2}}, []string{`"inbox" does not exist`}},
		{"no journal", topology{"inbox": {partitions: 2}, "orders": {partitions: 2}}, []string{`"journal" does not exist`}},
		{"another number", topology{"inbox": {partitions: 2}, "journal": {partitions: 1}, "orders": {partitions: 2}}, []string{`"journal" has 1 partitions and the inbox "inbox" has 2`}},
	} {
		t.Run(x.name, func(t *testing.T) {
			var lines []string
			if err := c.check(x.top); err != nil {
				lines = strings.Split(err.Error(), "\n")
			}
			if len(lines) != len(x.want) {
				t.Fatalf("%q, want %q", lines, x.want)
			}
			for i, want := range x.want {
				if !strings.Contains(lines[i], want) {
					t.Errorf("%q does not say %q", lines[i], want)
				}
			}
		})
	}
}
