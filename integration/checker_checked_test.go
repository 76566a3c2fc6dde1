package integration

import (
	"fmt"
	"strings"
	"testing"
)

// TestCheckerFindsWhatIsWrong breaks a correct history in each way that the
// checker must find.
func TestCheckerFindsWhatIsWrong(t *testing.T) {
	jobs := []fed{
		{job: job{Flow: "a", N: 1}, id: "a1"}, {job: job{Flow: "a", N: 2}, id: "a2"},
		{job: job{Flow: "b", N: 1}, id: "b1"}, {job: job{Flow: "b", N: 2, Fail: failMisfit}, id: "b2"},
	}
	event := func(topic string, offset int64, flow string, n int, cause string) said {
		return said{topic: topic, offset: offset, id: fmt.Sprint(topic, offset), typ: "t", flow: flow, n: n, cause: cause}
	}
	history := func() map[string][]said {
		return map[string][]said{
			topicDone: {event(topicDone, 0, "a", 1, "a1"), event(topicDone, 1, "b", 1, "b1"),
				event(topicDone, 2, "a", 2, "a2"), event(topicDone, 3, "b", 2, "b2")},
			topicShipped: {event(topicShipped, 0, "a", 1, "done0"), event(topicShipped, 1, "b", 1, "done1"), event(topicShipped, 2, "a", 2, "done2")},
			topicMisfits: {event(topicMisfits, 0, "b", 2, "done3")},
			topicRefunds: {event(topicRefunds, 0, "b", 2, "misfits0"), event(topicRefunds, 1, "b", 1, "misfits0")},
		}
	}
	for name, c := range map[string]struct {
		spoil func(map[string][]said)
		want  string // empty: nothing is wrong
	}{
		"nothing":          {func(map[string][]said) {}, ""},
		"a lost event":     {func(h map[string][]said) { h[topicShipped] = h[topicShipped][:2] }, "shipped: a/2 is lost"},
		"a lost refund":    {func(h map[string][]said) { h[topicRefunds] = h[topicRefunds][:1] }, "refunds: b/1 is lost"},
		"a doubled effect": {func(h map[string][]said) { h[topicDone] = append(h[topicDone], event(topicDone, 4, "b", 2, "b2")) }, "done: b/2 was said 1 times too often"},
		"an id twice":      {func(h map[string][]said) { h[topicDone][3].id = "done0" }, "id done0 of flow b was said twice"},
		"the wrong order":  {func(h map[string][]said) { h[topicDone][0].offset, h[topicDone][2].offset = 2, 0 }, "flow a: 1 comes after 2"},
		"refunds in order": {func(h map[string][]said) { h[topicRefunds][0].offset, h[topicRefunds][1].offset = 1, 0 }, "flow b: 2 comes after 1"},
		"a foreign cause":  {func(h map[string][]said) { h[topicShipped][0].cause = "done1" }, `its cause "done1" is an event of flow "b"`},
		"an unknown cause": {func(h map[string][]said) { h[topicShipped][0].cause = "x" }, `its cause "x"`},
		"a refund too many": {func(h map[string][]said) {
			h[topicRefunds] = append(h[topicRefunds], event(topicRefunds, 2, "a", 1, "misfits0"))
		}, "refunds: a/1 was said 1 times too often"},
		"a dead letter":  {func(h map[string][]said) { h["work.dlq"] = []said{{topic: "work.dlq"}} }, "a dead letter"},
		"a broken event": {func(h map[string][]said) { h[topicDone][0].bad = "no payload" }, "no payload"},
	} {
		t.Run(name, func(t *testing.T) {
			h := history()
			c.spoil(h)
			got := strings.Join((&reader{said: h}).problems(jobs, expectations(jobs, nil)), "\n")
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("found %q, want %q", got, c.want)
			}
		})
	}
}
