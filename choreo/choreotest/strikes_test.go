//go:build synctests

package choreotest

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest/internal/schedule"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// witness notes what a fault leaves behind that no event tells: what happened,
// and when.
type witness struct {
	mu    sync.Mutex
	notes map[string][]time.Duration
}

func (n *witness) note(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	what := fmt.Sprintf(format, args...)
	n.notes[what] = append(n.notes[what], sinceItBegan(time.Now()))
}

// forget is for the next run. What was noted stays with the last one's sighting.
func (n *witness) forget() { n.notes = map[string][]time.Duration{} }

// sinceItBegan is the time in a bubble: all of them begin at one time.
func sinceItBegan(t time.Time) time.Duration {
	return t.Sub(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC))
}

// requests notes those that the brokers get from now on, in full: one that is
// sent once more is the same.
func (n *witness) requests(w *World, keys ...kmsg.Key) {
	w.cluster.Fault(kfake.Fault{Keys: keys, TopLevel: true, Observe: true, Count: -1, When: func(req kmsg.Request) bool {
		n.note("%s %x", kmsg.NameForKey(req.Key()), req.AppendTo(nil))
		return true
	}})
}

const (
	ledBy         = " is led by "
	coordinatedBy = " is coordinated by "
)

// places notes who leads partitions and who coordinates groups.
func (n *witness) places(w *World) {
	for _, t := range w.sim.topics() {
		for p := range t.partitions {
			n.note("%s/%d%s%d", t.name, p, ledBy, w.cluster.LeaderFor(t.name, int32(p)))
		}
	}
	for g := range 20 {
		n.note("group %d%s%d", g, coordinatedBy, w.cluster.CoordinatorFor(fmt.Sprint("group ", g)))
	}
}

// connections notes what an instance's connections tell.
type connections struct {
	*witness
	instance string
}

func (c connections) OnBrokerRead(kgo.BrokerMetadata, int16, int, time.Duration, time.Duration, error) {
	c.note("%s hears an answer", c.instance)
}

func (c connections) OnBrokerDisconnect(kgo.BrokerMetadata, net.Conn) {
	c.note("%s is disconnected", c.instance)
}

// sighting is a run and what its witness noted.
type sighting struct {
	result
	notes map[string][]time.Duration
}

// sight lets some faults strike two halls, of which there is a next version, and
// one bank. Flows begin at 3, 5.5, 8 and 10.5 s, of which the second and the fourth
// are paid. All must end.
func sight(t *testing.T, faults string) sighting {
	t.Helper()
	n := &witness{}
	n.forget()
	version := func(v int) func() *choreo.Service {
		return func() *choreo.Service {
			n.note("hall %d is made", v)
			return hall()
		}
	}
	pay := func(ctx context.Context, s seat) (seat, error) {
		m := choreo.Meta(ctx)
		n.note("attempt %d at %s of %s", m.Attempt, s.Seat, m.Flow)
		return charge(ctx, s)
	}
	begin := func(w *World, flow string) error {
		switch flow {
		case "flow-1":
			n.requests(w, kmsg.Produce, kmsg.EndTxn)
			n.places(w)
		case "flow-4":
			n.places(w)
		}
		return book(w, flow)
	}
	s, err := newSimulation(
		[]Simulated{{New: version(1), Next: []func() *choreo.Service{version(2)}}, {New: bank(pay), Instances: 1}},
		Workload{Flows: 4, Begin: begin}, nil,
		Options{Faults: []FaultKind{}, For: 10 * time.Second, Settle: time.Minute, Reset: n.forget, Configure: func(c *choreo.Config) {
			n.note("%s is started", c.InstanceID)
			c.ClientOptions = append(c.ClientOptions, kgo.WithHooks(connections{n, c.InstanceID}))
		}},
	)
	if err != nil {
		t.Fatal(err)
	}
	given, err := schedule.Parse(faults)
	if err != nil {
		t.Fatal(err)
	}
	r := s.run(t, 1, given)
	if wantViolations(t, r.violations); t.Failed() {
		t.FailNow()
	}
	return sighting{r, n.notes}
}

// attempts are those at one seat of flow-2, as the handler saw them.
func (s sighting) attempts(number int, seat string) []time.Duration {
	return s.notes[fmt.Sprintf("attempt %d at %s of flow-2", number, seat)]
}

// started is when an instance was started again, or joined.
func (s sighting) started(instance string) []time.Duration {
	return between(s.notes[instance+" is started"], warmUp, s.simulated)
}

// thanked is when the thanks for the seats of a flow were said.
func (s sighting) thanked(flow string) (all []time.Duration) {
	for _, e := range s.history.all[flow] {
		if e.Type == thanked.Type {
			all = append(all, sinceItBegan(e.Time))
		}
	}
	return all
}

// logged is when an instance logged a message.
func (s sighting) logged(instance, message string) (all []time.Duration) {
	for _, line := range s.log {
		if !strings.Contains(line, fmt.Sprintf("msg=%q", message)) || !strings.Contains(line+" ", " instance="+instance+" ") {
			continue
		}
		at, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if d, err := time.ParseDuration(at); err == nil {
			all = append(all, d)
		}
	}
	return all
}

// again is how often one request of a type was sent again, at most.
func (s sighting) again(request string) int {
	most := 0
	for what, at := range s.notes {
		if strings.HasPrefix(what, request+" ") {
			most = max(most, len(at)-1)
		}
	}
	return most
}

// moved are the places where something is in the end, and was not in the
// beginning.
func (s sighting) moved(by string) (places []string) {
	for what, at := range s.notes {
		if strings.Contains(what, by) && len(at) == 1 && at[0] > 10*time.Second {
			places = append(places, what)
		}
	}
	return places
}

// between are the times from one to another.
func between(all []time.Duration, from, to time.Duration) (some []time.Duration) {
	for _, at := range all {
		if at >= from && at < to {
			some = append(some, at)
		}
	}
	return some
}

// justAfter reports whether there is one time, and it is just after another.
func justAfter(moment time.Duration, all ...time.Duration) bool {
	return len(all) == 1 && all[0] >= moment && all[0] < moment+time.Second/2
}

// strikes are faults of every kind, and what each leaves behind that would not be
// there without it.
var strikes = []struct {
	kind   schedule.Kind
	faults string
	shows  func(s sighting) bool
}{
	{schedule.BrokerError, "5s error request=EndTxn err=COORDINATOR_LOAD_IN_PROGRESS count=2", func(s sighting) bool {
		return s.again("EndTxn") == 2
	}},
	{schedule.BrokerError, "5s error request=Produce err=NOT_ENOUGH_REPLICAS count=2", func(s sighting) bool {
		return s.again("Produce") == 2
	}},
	// What is refused for longer than the faults last is healed.
	{schedule.BrokerError, "10s error request=EndTxn err=COORDINATOR_NOT_AVAILABLE count=1000000", func(s sighting) bool {
		return s.again("EndTxn") > 2 && s.thanked("flow-4")[0] > 13*time.Second
	}},
	// The broker gets the request a second time: it had got the first one.
	{schedule.LostAnswer, "5s lost bank-0 after=EndTxn nth=1", func(s sighting) bool {
		return s.again("EndTxn") == 1 && len(s.attempts(1, "A1")) == 1
	}},
	{schedule.LateRequest, "5s late bank-0 before=Produce nth=1 for=4s", func(s sighting) bool {
		return justAfter(5500*time.Millisecond, s.attempts(1, "A1")...) && justAfter(9500*time.Millisecond, s.thanked("flow-2")[:1]...)
	}},
	{schedule.LateMarker, "5s markers for=5s", func(s sighting) bool {
		return s.thanked("flow-2")[0] > 6500*time.Millisecond && justAfter(10500*time.Millisecond, s.thanked("flow-4")[:1]...)
	}},
	{schedule.Cut, "5s cut bank-0", func(s sighting) bool {
		return len(between(s.notes["bank-0 is disconnected"], 5*time.Second, 5100*time.Millisecond)) > 0 && len(s.started("bank-0")) == 0
	}},
	// It hears meanwhile, and cannot answer.
	{schedule.Slow, "5s slow bank-0 for=4s", func(s sighting) bool {
		return len(between(s.notes["bank-0 hears an answer"], 5*time.Second, 9*time.Second)) > 0 && justAfter(9*time.Second, s.thanked("flow-2")[:1]...)
	}},
	// It hears nothing meanwhile, and then goes on.
	{schedule.Freeze, "5s freeze bank-0 for=4s", func(s sighting) bool {
		return len(between(s.notes["bank-0 hears an answer"], 5*time.Second, 9*time.Second)) == 0 && justAfter(9*time.Second, s.thanked("flow-2")[:1]...) &&
			len(s.started("bank-0")) == 0
	}},
	{schedule.LeaderMove, "5s leader bookings/0 node=2", func(s sighting) bool {
		return slices.Equal(s.moved(ledBy), []string{"bookings/0" + ledBy + "2"})
	}},
	{schedule.LeaderMove, "5s leader * node=2", func(s sighting) bool {
		moved := s.moved(ledBy)
		return len(moved) > 0 && !slices.ContainsFunc(moved, func(what string) bool {
			return !strings.HasSuffix(what, "/0"+ledBy+"2") && !strings.HasSuffix(what, "/1"+ledBy+"0")
		})
	}},
	{schedule.CoordinatorMove, "5s coordinator", func(s sighting) bool { return len(s.moved(coordinatedBy)) > 0 }},
	{schedule.Kill, "5s kill bank-0 for=3s", func(s sighting) bool {
		return justAfter(8*time.Second, s.started("bank-0")...) && justAfter(8*time.Second, s.attempts(1, "A1")...) &&
			len(between(s.logged("bank-0", "service stops"), 0, 13*time.Second)) == 0
	}},
	// What was not committed is done again, and what was is not.
	{schedule.Kill, "5s kill bank-0 before=EndTxn nth=2 for=3s", func(s sighting) bool {
		return justAfter(8500*time.Millisecond, s.started("bank-0")...) && len(s.attempts(1, "A1")) == 1 && len(s.attempts(1, "A2")) == 2
	}},
	{schedule.Kill, "5s kill bank-0 after=EndTxn nth=1 for=3s", func(s sighting) bool {
		return justAfter(8500*time.Millisecond, s.started("bank-0")...) && len(s.attempts(1, "A1")) == 1
	}},
	{schedule.Leave, "5s leave bank-0 for=3s", func(s sighting) bool {
		return justAfter(5*time.Second, between(s.logged("bank-0", "service stops"), 0, 13*time.Second)...) && justAfter(8*time.Second, s.started("bank-0")...)
	}},
	{schedule.Join, "5s join bank for=4s", func(s sighting) bool {
		return justAfter(5*time.Second, s.started("bank-1")...) && len(s.logged("bank-1", "task open")) == 1 &&
			justAfter(9*time.Second, s.logged("bank-1", "service has stopped")...)
	}},
	{schedule.Deploy, "5s deploy hall for=2s", func(s sighting) bool {
		return justAfter(7*time.Second, s.started("hall-0")...) && justAfter(9*time.Second, s.started("hall-1")...) &&
			slices.Equal(s.notes["hall 2 is made"], slices.Concat(s.started("hall-0"), s.started("hall-1")))
	}},
	// The handler runs and fails, does not run, and runs and fails.
	{schedule.HandlerError, "5s handler-error bank count=3", func(s sighting) bool {
		return len(s.attempts(1, "A1")) == 1 && len(s.attempts(2, "A1")) == 0 && len(s.attempts(3, "A1")) == 1 && len(s.attempts(4, "A1")) == 1
	}},
	{schedule.HandlerPanic, "5s handler-panic bank count=2", func(s sighting) bool {
		return len(s.attempts(1, "A1")) == 0 && len(s.attempts(2, "A1")) == 0 && len(s.attempts(3, "A1")) == 1
	}},
	{schedule.HandlerSlow, "5s handler-slow bank count=1 for=4s", func(s sighting) bool {
		return justAfter(9500*time.Millisecond, s.attempts(1, "A1")...)
	}},
	// The last but one is the first of the two of flow-2.
	{schedule.Duplicate, "7.5s duplicate payments nth=2", func(s sighting) bool {
		all := s.history.all["flow-2"]
		first := all[slices.IndexFunc(all, func(e FlowEvent) bool { return e.Type == "paid" })]
		name := eventName{first.Source, first.ID}
		return len(s.history.extra) == 1 && s.history.extra[name] == 1 && count(all, name) == 2
	}},
	{schedule.Reorder, "5s reorder count=2", func(s sighting) bool {
		first, second := s.attempts(1, "A1"), s.attempts(1, "A2")
		return len(first) == 1 && len(second) == 1 && second[0] < first[0]
	}},
}

// A fault that no longer struck would go unnoticed: all else holds without it too.
func TestEveryFaultStrikes(t *testing.T) {
	calm := sight(t, "")
	struck := map[schedule.Kind]bool{}
	for _, c := range strikes {
		struck[c.kind] = true
		t.Run(c.faults, func(t *testing.T) {
			if c.shows(calm) {
				t.Error("what it leaves behind is there without it")
			}
			s := sight(t, c.faults)
			if len(s.faults) != 1 || s.faults[0].Kind != c.kind {
				t.Fatalf("the faults are %v, want one of kind %q", s.faults, c.kind)
			}
			if !c.shows(s) {
				t.Errorf("it has left nothing behind\n%s", strings.Join(s.log, "\n"))
			}
		})
	}
	for _, k := range schedule.Kinds() {
		if !struck[k] {
			t.Errorf("nothing shows that a fault of kind %q strikes", k)
		}
	}
}

// A fault that finds nothing to strike says so.
func TestAFaultThatCannotStrikeSaysSo(t *testing.T) {
	s := sight(t, strings.Join([]string{
		"1s duplicate mails nth=1",
		"3.5s join bank for=3s", "4s join bank for=1s",
		"7s deploy hall for=100ms", "8s deploy hall for=100ms",
		"9s kill bank-0 for=2s", "9.5s cut bank-0", "9.6s kill bank-0", "9.7s leave bank-0",
		"12s lost bank-0 after=CreateTopics nth=1",
	}, ";"))
	for _, want := range []string{
		"1s duplicate mails nth=1: nothing was said lately",
		"4s join bank for=1s: it is there already",
		"8s deploy hall for=100ms: the last version is deployed already",
		"9.5s cut bank-0: it is down already",
		"9.6s kill bank-0: it is down already",
		"9.7s leave bank-0: it is down already",
		"12s lost bank-0 after=CreateTopics nth=1: there was no such request",
	} {
		if !slices.ContainsFunc(s.log, func(line string) bool { return strings.HasSuffix(line, "fault: "+want) }) {
			t.Errorf("nobody says %q", want)
		}
	}
	if t.Failed() {
		t.Log(strings.Join(s.log, "\n"))
	}
}
