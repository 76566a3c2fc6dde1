package txn

import (
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// What earlier transactions left open is looked for in every topic that is
// written to, for each transactional id, before it is used; and how the last one
// ended is asked before anything else is done, once.
func TestRule5WhatIsOpenIsLookedForBeforeALaneIsUsed(t *testing.T) {
	r := newRig(t, rigConfig{change: func(c *Config) { c.Topics, c.Lanes = []string{"out", "journal", "nowhere"}, 2 }})
	if n := len(r.calls(kOpen)); n != 0 {
		t.Errorf("asked %d times for ids that were never used", n)
	}
	inc, src := r.fence.Open(0), r.source(0, 10)
	r.submit(inc, src, 0, "a").is(t, true)
	before := len(r.calls(kLast))
	refuse := once(kOpen, 1, func(c call) (kmsg.Response, error, bool) {
		req := c.req.(*kmsg.DescribeProducersRequest)
		resp := req.ResponseKind().(*kmsg.DescribeProducersResponse)
		rt, rp := kmsg.NewDescribeProducersResponseTopic(), kmsg.NewDescribeProducersResponseTopicPartition()
		rt.Topic, rp.ErrorCode = "out", kerr.InvalidRequest.Code
		rt.Partitions = append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
		return resp, nil, true
	})
	end := once(kEnd, 1, answer(kerr.ProducerFenced))
	r.intercept(func(c call) (kmsg.Response, error, bool) {
		if c.key == kOpen {
			return refuse(c)
		}
		return end(c)
	})
	r.submit(inc, src, 1, "b").is(t, false)
	r.hasFailed(ReasonFenced)
	r.isReady()
	asked := r.calls(kOpen)
	if len(asked) != 1+3 { // two lanes and the id of offsets alone, one of which is refused at first
		t.Errorf("asked %d times what is open", len(asked))
	}
	for _, c := range asked {
		got := map[string][]int32{}
		for _, rt := range c.req.(*kmsg.DescribeProducersRequest).Topics {
			got[rt.Topic] = slices.Sorted(slices.Values(rt.Partitions))
		}
		all := []int32{0, 1, 2, 3}
		if len(got) != 2 || !slices.Equal(got["out"], all) || !slices.Equal(got["journal"], all) {
			t.Errorf("asked for %v", got)
		}
	}
	if n := len(r.calls(kLast)) - before; n != 3 {
		t.Errorf("asked %d times how the last transaction ended", n)
	}
	r.submit(r.fence.Open(0), r.source(0, 10), 1, "c").is(t, true)
	equal(t, "outputs", r.values("out"), []string{"a", "c"})
}
