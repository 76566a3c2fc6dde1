package stuck

import (
	"slices"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo/operator"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Of all answers on the topic those to one's own commands are told, each once, and
// then those that were not answered.
func TestAnswersAreTold(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "x.till.inbox", "x.till.dlq"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	cl, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.ConsumeTopics("x.till.inbox"))
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan struct{})
	go func() { // the service
		defer close(answered)
		for n := 0; n < 3; {
			for _, rec := range cl.PollFetches(t.Context()).Records() {
				c, err := operator.ReadCommand(rec)
				if err != nil {
					t.Error(err)
					return
				}
				if n++; c.Key == "silent" {
					continue
				}
				if c.Task != rec.Partition || c.By != "me" || c.Why != "so" {
					t.Errorf("told is %+v on partition %d", c, rec.Partition)
				}
				others := c
				others.ID = "of another"
				for _, x := range []operator.Command{others, c, c} {
					a := operator.Of(&x)
					a.Outcome = operator.Done
					audit, err := a.Record("x.till.dlq", "/till", rec.Key)
					if err == nil {
						err = cl.ProduceSync(t.Context(), audit).FirstErr()
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			}
		}
	}()
	s := &Service{Options: []kgo.Opt{kgo.SeedBrokers(cluster.ListenAddrs()...)}, Name: "till", Prefix: "x.", Patience: 10 * time.Second}
	target := func(key string, task int32) operator.Command {
		return operator.Command{Do: operator.Retry, Target: operator.Target{Kind: operator.Step, Task: task, Key: key, Name: "charge", Began: time.Now()}}
	}
	var told []string
	err = s.Tell(t.Context(), Telling{By: "me", Why: "so", Wait: 2 * time.Second}, []operator.Command{target("silent", 0), target("a", 1), target("b", 0)}, func(a Answer) error {
		if a.Audit == nil {
			told = append(told, a.Key+" is not answered")
		} else {
			told = append(told, a.Key+" is "+string(a.Audit.Outcome))
		}
		return nil
	})
	<-answered
	cl.Close()
	if len(told) == 3 {
		slices.Sort(told[:2])
	}
	if err != nil || !slices.Equal(told, []string{"a is done", "b is done", "silent is not answered"}) {
		t.Errorf("told was %q, %v", told, err)
	}
	bad := target("a", 0)
	bad.Kind = "join"
	if err := s.Tell(t.Context(), Telling{By: "me", Why: "so"}, []operator.Command{bad}, nil); err == nil {
		t.Error("what is no command was sent")
	}
}
