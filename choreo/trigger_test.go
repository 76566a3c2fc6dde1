package choreo_test

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A trigger that only cancels leaves alone what ran; one that compensates still
// undoes it later.
func TestBarrierATriggerThatOnlyCancelsUndoesNothing(t *testing.T) {
	w := &worker{}
	s := start(t, w, func(s *choreo.Step[job, work]) {
		s.Compensate = choreo.Undo(w.Undo, jobUndone, calledOff).Unknown(w.Unknown)
		s.Cancel = []choreo.Cancellation{choreo.CancelOn(calledOff2, dropped, jobDropped)}
	})
	s.Publish("f", jobGiven.New(job{"f", "a"}))
	s.Expect("f", jobDone.New(work{"f", "a"}))
	s.Publish("f", calledOff2.New(calloff{"f", "snow"}))
	s.ExpectNothingMore("f")
	s.Publish("f", calledOff.New(calloff{"f", "rain"}))
	s.Expect("f", jobUndone.New(note{"f", "undone: a"}))
	expectCalls(t, w, "do a", "undo a")
}

// What is not remembered of a flow that is older than its state is kept may
// have happened: its compensation is a dead letter, not a cancellation.
func TestACompensationOfAForgottenFlowIsADeadLetter(t *testing.T) {
	w := &worker{}
	s := start(t, w)
	for flow, c := range map[string]struct {
		age       time.Duration
		forgotten bool
	}{"old": {25 * time.Hour, true}, "young": {23 * time.Hour, false}} {
		rec := s.Record(flow, calledOff.New(calloff{flow, "rain"}))
		rec.Headers = slices.DeleteFunc(rec.Headers, func(h kgo.RecordHeader) bool { return h.Key == "ce_choreostarted" })
		rec.Headers = append(rec.Headers, kgo.RecordHeader{
			Key: "ce_choreostarted", Value: strconv.AppendInt(nil, time.Now().Add(-c.age).UnixMilli(), 10),
		})
		s.PublishRecord(rec)
		if !c.forgotten {
			s.Expect(flow, jobDropped.New(note{flow, "dropped: rain"}))
		} else if reason := s.ExpectDeadLetter(flow).Header("choreo-dlq-reason"); reason != "flow_forgotten" {
			t.Errorf("the dead letter's reason is %q", reason)
		}
		s.ExpectNothingMore(flow)
	}
	expectCalls(t, w)
}
