package task

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Whoever asks why the service is not ready gets every reason, in words.
func TestReadyTellsEveryReason(t *testing.T) {
	oops := errors.New("oops")
	for _, c := range []struct {
		name string
		s    Status
		want string
	}{
		{"ready", Status{Joined: true, Tasks: []TaskStatus{{Phase: Open, Err: oops}}}, ""},
		{"not joined", Status{}, "the consumer group has not assigned tasks yet"},
		{"away", Status{Joined: true, Away: 5 * time.Second}, "no broker has answered for 5s"},
		{"away, and why", Status{Joined: true, Away: 5 * time.Second, LastError: oops}, "no broker has answered for 5s: oops"},
		{"lanes", Status{Joined: true, PipelineDown: oops}, "transactions are being reset: oops"},
		{"tasks", Status{Joined: true, Tasks: []TaskStatus{
			{Partition: 0, Phase: Open}, {Partition: 1, Phase: Waiting}, {Partition: 2, Phase: Opening},
			{Partition: 3, Phase: Restoring, RestoreRecords: 7}, {Partition: 4, Phase: Stopped, Err: oops}, {Partition: 5, Phase: Restoring, Err: oops},
		}}, "task 1 is waiting\ntask 2 is opening\ntask 3 is restoring: 7 journal records so far\ntask 4 is stopped: oops\ntask 5 is restoring: oops"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			if err := c.s.Ready(); err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// A restore that runs shows how long it has done so; one that is over how long
// it took.
func TestStatusOfATenure(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	now := time.Now()
	x := &tenure{num: 3, ctx: ctx, phase: Restoring, restoreBegan: now.Add(-time.Minute), restoreTook: time.Hour, records: 9}
	if got := x.status(now); got.Partition != 3 || got.Phase != Restoring || got.Restore != time.Minute || got.RestoreRecords != 9 {
		t.Errorf("%+v", got)
	}
	x.phase = Open
	if got := x.status(now); got.Phase != Open || got.Restore != time.Hour {
		t.Errorf("%+v", got)
	}
	cancel()
	if got := x.status(now); got.Phase != Waiting {
		t.Errorf("%v, though it has ended", got.Phase)
	}
	x.phase = Stopped
	if got := x.status(now); got.Phase != Stopped {
		t.Errorf("%v, though it was stopped", got.Phase)
	}
}

// Brokers are away when none has answered for longer than the group lets pass
// without a heartbeat, because of what failed since.
func TestContactTellsHowLongNobodyAnswers(t *testing.T) {
	oops := errors.New("oops")
	began := time.Now()
	c := &contact{last: began, quiet: time.Second}
	expect := func(after, away time.Duration, err error) {
		t.Helper()
		if d, why := c.away(c.last.Add(after)); d != away || !errors.Is(why, err) || err == nil && why != nil {
			t.Errorf("after %v: away for %v, %v; want %v, %v", after, d, why, away, err)
		}
	}
	expect(time.Second, 0, nil)
	expect(time.Second+1, time.Second+1, nil)
	c.OnBrokerConnect(kgo.BrokerMetadata{}, 0, nil, nil)
	expect(2*time.Second, 2*time.Second, nil)
	c.OnBrokerConnect(kgo.BrokerMetadata{}, 0, nil, oops)
	expect(2*time.Second, 2*time.Second, oops)
	expect(time.Second, 0, nil)
	c.OnBrokerE2E(kgo.BrokerMetadata{}, 0, kgo.BrokerE2E{})
	expect(2*time.Second, 2*time.Second, nil)
	if c.last.Before(began) || c.last.Equal(began) {
		t.Error("an answer was not noted")
	}
	last := c.last
	c.OnBrokerE2E(kgo.BrokerMetadata{}, 0, kgo.BrokerE2E{ReadErr: oops})
	expect(2*time.Second, 2*time.Second, oops)
	if !c.last.Equal(last) {
		t.Error("a failure was noted as an answer")
	}
}
