package task

import (
	"errors"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// committedAnswer is an answer of one group.
func committedAnswer(topics ...kmsg.OffsetFetchResponseGroupTopic) func(*kmsg.OffsetFetchResponse) {
	return func(resp *kmsg.OffsetFetchResponse) {
		resp.Groups = []kmsg.OffsetFetchResponseGroup{{Group: "pay", Topics: topics}}
	}
}

func committedIn(name string, id byte, parts ...kmsg.OffsetFetchResponseGroupTopicPartition) kmsg.OffsetFetchResponseGroupTopic {
	return kmsg.OffsetFetchResponseGroupTopic{Topic: name, TopicID: [16]byte{id}, Partitions: parts}
}

func committedAt(num int32, offset int64, metadata *string, e *kerr.Error) kmsg.OffsetFetchResponseGroupTopicPartition {
	p := kmsg.NewOffsetFetchResponseGroupTopicPartition()
	p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = num, offset, 3, metadata
	if e != nil {
		p.ErrorCode = e.Code
	}
	return p
}

// Topics come by name, or by id only (from version 10 of OffsetFetch). What was
// not asked for is passed over; what is left out is an error.
func TestCommittedOffsetsOfWhateverVersion(t *testing.T) {
	text := "metadata"
	for _, c := range []struct {
		name    string
		answer  func(*kmsg.OffsetFetchResponse)
		failure error
		want    [2]*Source
		says    string
	}{
		{"by name", committedAnswer(committedIn("a", 1, committedAt(0, 5, &text, nil)), committedIn("b", 2, committedAt(0, -1, nil, nil))), nil,
			[2]*Source{{Offset: 5, Metadata: text, LeaderEpoch: 3}, {Offset: -1, LeaderEpoch: 3}}, ""},
		{"by id", committedAnswer(committedIn("", 2, committedAt(0, 7, nil, nil)), committedIn("", 1, committedAt(0, -5, &text, nil))), nil,
			[2]*Source{{Offset: -1, Metadata: text, LeaderEpoch: 3}, {Offset: 7, LeaderEpoch: 3}}, ""},
		{"more than asked for", committedAnswer(committedIn("c", 9, committedAt(0, 1, nil, nil)), committedIn("a", 1, committedAt(8, 2, nil, nil), committedAt(0, 5, nil, nil)), committedIn("b", 2, committedAt(0, 6, nil, nil))), nil,
			[2]*Source{{Offset: 5, LeaderEpoch: 3}, {Offset: 6, LeaderEpoch: 3}}, ""},
		{"one is left out", committedAnswer(committedIn("a", 1, committedAt(0, 5, nil, nil))), nil, [2]*Source{}, `leaves out topic "b", partition 0`},
		{"one is refused", committedAnswer(committedIn("a", 1, committedAt(0, 5, nil, kerr.TopicAuthorizationFailed))), nil, [2]*Source{}, `topic "a", partition 0: TOPIC_AUTHORIZATION_FAILED`},
		{"one is unstable", committedAnswer(committedIn("a", 1, committedAt(0, 5, nil, kerr.UnstableOffsetCommit))), nil, [2]*Source{}, errUnstable.Error()},
		{"no group", func(*kmsg.OffsetFetchResponse) {}, nil, [2]*Source{}, "the answer is of 0 groups"},
		{"the group is refused", func(resp *kmsg.OffsetFetchResponse) {
			resp.Groups = []kmsg.OffsetFetchResponseGroup{{ErrorCode: kerr.GroupAuthorizationFailed.Code}}
		}, nil, [2]*Source{}, "GROUP_AUTHORIZATION_FAILED"},
		{"no answer", func(*kmsg.OffsetFetchResponse) {}, errors.New("oops"), [2]*Source{}, `of group "pay": oops`},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := &Source{Topic: "a", TopicID: [16]byte{1}}, &Source{Topic: "b", TopicID: [16]byte{2}}
			err := fetchCommitted(t.Context(), brokers(func(req kmsg.Request) (kmsg.Response, error) {
				if ask := req.(*kmsg.OffsetFetchRequest); !ask.RequireStable || len(ask.Groups) != 1 || len(ask.Groups[0].Topics) != 2 {
					t.Errorf("asked for %+v", ask)
				}
				resp := req.ResponseKind().(*kmsg.OffsetFetchResponse)
				c.answer(resp)
				return resp, c.failure
			}), "pay", []*Source{a, b})
			if c.says != "" {
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%v, want %q", err, c.says)
				}
				return
			}
			for i, got := range []*Source{a, b} {
				if want := c.want[i]; err != nil || got.Offset != want.Offset || got.Metadata != want.Metadata || got.LeaderEpoch != want.LeaderEpoch {
					t.Errorf("%v; %s: offset %d, metadata %q, epoch %d", err, got.Topic, got.Offset, got.Metadata, got.LeaderEpoch)
				}
			}
		})
	}
}

func TestErrorsOfListOffsetsNameThePartitions(t *testing.T) {
	down := brokers(func(kmsg.Request) (kmsg.Response, error) { return nil, errors.New("oops") })
	for want, parts := range map[string][]partition{
		`topic "a", partition 1: oops`: {{"a", 1}},
		`2 partitions: oops`:           {{"a", 1}, {"b", 0}},
	} {
		if _, err := listOffsets(t.Context(), down, parts, logStart); err == nil || !strings.HasSuffix(err.Error(), "log of "+want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
