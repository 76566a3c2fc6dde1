package schedule

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"time"
)

// Shape is what there is to break, and how often.
type Shape struct {
	// Services and their instances, in the order of their declaration.
	Services []Service
	// Topics whose events may be said twice, and whose leaders move.
	Topics []Topic
	// Brokers is how many there are, numbered from 0.
	Brokers int
	// Kinds are those wanted.
	Kinds []Kind
	// From and To bound the times of the faults, Every is the mean time between
	// two of them.
	From, To, Every time.Duration
}

// Service is what a schedule must know of a service.
type Service struct {
	Name      string
	Instances int
	Versions  int // how many there are to deploy beyond the first one
}

// Topic is what a schedule must know of a topic.
type Topic struct {
	Name       string
	Partitions int
	Events     bool // it carries events of flows
}

// Instance names an instance of a service: its INSTANCE_ID.
func Instance(service string, number int) string { return service + "-" + strconv.Itoa(number) }

// Requests are the types of requests that services make, and the errors with
// which a broker in trouble answers them.
var Requests = []struct {
	Name string
	Errs []string
}{
	{"Produce", []string{"NOT_LEADER_FOR_PARTITION", "REQUEST_TIMED_OUT", "NOT_ENOUGH_REPLICAS", "NOT_ENOUGH_REPLICAS_AFTER_APPEND", "KAFKA_STORAGE_ERROR"}},
	{"Fetch", []string{"NOT_LEADER_FOR_PARTITION", "UNKNOWN_LEADER_EPOCH", "KAFKA_STORAGE_ERROR", "UNKNOWN_SERVER_ERROR"}},
	{"ListOffsets", []string{"NOT_LEADER_FOR_PARTITION", "LEADER_NOT_AVAILABLE", "OFFSET_NOT_AVAILABLE"}},
	{"Metadata", []string{"LEADER_NOT_AVAILABLE"}},
	{"TxnOffsetCommit", []string{"COORDINATOR_NOT_AVAILABLE", "COORDINATOR_LOAD_IN_PROGRESS", "NOT_COORDINATOR", "REQUEST_TIMED_OUT"}},
	{"OffsetFetch", []string{"NOT_COORDINATOR", "COORDINATOR_LOAD_IN_PROGRESS", "UNSTABLE_OFFSET_COMMIT"}},
	{"FindCoordinator", []string{"COORDINATOR_NOT_AVAILABLE"}},
	{"JoinGroup", []string{"NOT_COORDINATOR", "COORDINATOR_LOAD_IN_PROGRESS", "UNKNOWN_MEMBER_ID"}},
	{"SyncGroup", []string{"NOT_COORDINATOR", "REBALANCE_IN_PROGRESS", "UNKNOWN_MEMBER_ID"}},
	{"Heartbeat", []string{"NOT_COORDINATOR", "COORDINATOR_NOT_AVAILABLE", "ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "REBALANCE_IN_PROGRESS"}},
	{"InitProducerID", []string{"NOT_COORDINATOR", "COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE", "CONCURRENT_TRANSACTIONS"}},
	{"AddPartitionsToTxn", []string{"NOT_COORDINATOR", "COORDINATOR_LOAD_IN_PROGRESS", "CONCURRENT_TRANSACTIONS"}},
	{"AddOffsetsToTxn", []string{"NOT_COORDINATOR", "COORDINATOR_LOAD_IN_PROGRESS", "CONCURRENT_TRANSACTIONS"}},
	{"EndTxn", []string{"NOT_COORDINATOR", "COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE", "CONCURRENT_TRANSACTIONS"}},
	{"OffsetForLeaderEpoch", []string{"NOT_LEADER_FOR_PARTITION", "UNKNOWN_LEADER_EPOCH", "FENCED_LEADER_EPOCH"}},
	{"DescribeTransactions", []string{"NOT_COORDINATOR", "COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE"}},
	{"DescribeProducers", []string{"NOT_LEADER_FOR_PARTITION", "LEADER_NOT_AVAILABLE"}},
	{"ListTransactions", []string{"COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE"}},
	{"DescribeConfigs", []string{"REQUEST_TIMED_OUT", "UNKNOWN_SERVER_ERROR"}},
}

// awaited are the requests around which instances are killed and whose answers
// are lost: those that change something, more often, and those that read.
var awaited = append(slices.Concat(changing, changing),
	"OffsetFetch", "Fetch", "JoinGroup", "SyncGroup", "Heartbeat", "ListOffsets", "LeaveGroup",
)

var changing = []string{"Produce", "TxnOffsetCommit", "EndTxn", "InitProducerID", "AddPartitionsToTxn"}

// Generate makes a schedule from a seed: the same one for the same seed and
// shape. The kinds are drawn alike often.
func Generate(seed uint64, shape Shape) Schedule {
	g := generator{rand.New(rand.NewPCG(seed, 0x5c4ed)), shape}
	kinds := slices.DeleteFunc(slices.Clone(shape.Kinds), func(k Kind) bool { return !g.possible(k) })
	if len(kinds) == 0 || shape.Every <= 0 {
		return nil
	}
	var s Schedule
	for at := shape.From + g.gap(); at < shape.To; at += g.gap() {
		s = append(s, g.fault(at, kinds[g.IntN(len(kinds))]))
	}
	return s
}

type generator struct {
	*rand.Rand
	Shape
}

// gap is the time to the next fault, to the millisecond.
func (g generator) gap() time.Duration {
	return (time.Duration(g.ExpFloat64()*float64(g.Every)) + time.Millisecond).Truncate(time.Millisecond)
}

func (g generator) possible(k Kind) bool {
	switch k {
	case LeaderMove:
		return g.Brokers > 1 && len(g.Topics) > 0
	case CoordinatorMove:
		return g.Brokers > 1
	case Deploy:
		return slices.ContainsFunc(g.Services, func(s Service) bool { return s.Versions > 0 })
	case Duplicate:
		return len(g.events()) > 0
	case BrokerError, Reorder, LateMarker:
		return true
	}
	return len(g.Services) > 0
}

func (g generator) events() (all []Topic) {
	for _, t := range g.Topics {
		if t.Events {
			all = append(all, t)
		}
	}
	return all
}

func (g generator) fault(at time.Duration, k Kind) Fault {
	f := Fault{At: at, Kind: k}
	switch k {
	case BrokerError:
		r := Requests[g.IntN(len(Requests))]
		f.Request, f.Err, f.Count = r.Name, r.Errs[g.IntN(len(r.Errs))], 1+g.IntN(3)
	case LostAnswer:
		f.Target = g.instance()
		f.When, f.Request, f.Nth = After, pick(g, awaited), 1+g.IntN(3)
	case LateRequest:
		f.Target, f.For = g.instance(), g.between(time.Second, 20*time.Second)
		f.When, f.Request, f.Nth = Before, pick(g, changing), 1+g.IntN(3)
	case LateMarker:
		f.For = g.between(100*time.Millisecond, 5*time.Second)
	case Cut:
		f.Target = g.instance()
	case Slow:
		f.Target, f.For = g.instance(), g.between(50*time.Millisecond, 8*time.Second)
	case Freeze:
		f.Target, f.For = g.instance(), g.between(500*time.Millisecond, 25*time.Second)
	case LeaderMove:
		f.Target = "*"
		if g.IntN(4) > 0 {
			t := pick(g, g.Topics)
			f.Target = t.Name + "/" + strconv.Itoa(g.IntN(t.Partitions))
		}
		f.Node = g.IntN(g.Brokers)
	case Kill:
		f.Target, f.For = g.instance(), g.between(0, 20*time.Second)
		if g.IntN(2) == 0 {
			f.When, f.Request, f.Nth = []Moment{Before, After}[g.IntN(2)], pick(g, awaited), 1+g.IntN(5)
		}
	case Leave:
		f.Target, f.For = g.instance(), g.between(0, 15*time.Second)
	case Join:
		f.Target, f.For = pick(g, g.Services).Name, g.between(time.Second, 20*time.Second)
	case Deploy:
		var all []Service
		for _, s := range g.Services {
			if s.Versions > 0 {
				all = append(all, s)
			}
		}
		f.Target, f.For = pick(g, all).Name, g.between(0, 5*time.Second)
	case HandlerError, HandlerPanic:
		f.Target, f.Count = pick(g, g.Services).Name, 1+g.IntN(3)
	case HandlerSlow:
		f.Target, f.Count, f.For = pick(g, g.Services).Name, 1+g.IntN(3), g.between(10*time.Millisecond, 4*time.Second)
	case Duplicate:
		f.Target, f.Nth = pick(g, g.events()).Name, 1+g.IntN(5)
	case Reorder:
		f.Count = 2 + g.IntN(3)
	}
	return f
}

func (g generator) instance() string {
	s := pick(g, g.Services)
	return Instance(s.Name, g.IntN(s.Instances))
}

// between prefers short times: half of them are in the lowest quarter.
func (g generator) between(low, high time.Duration) time.Duration {
	x := g.Float64()
	return (low + time.Duration(x*x*float64(high-low))).Truncate(time.Millisecond)
}

func pick[T any](g generator, from []T) T { return from[g.IntN(len(from))] }
