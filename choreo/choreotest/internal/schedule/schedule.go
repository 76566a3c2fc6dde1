// Package schedule holds the faults of a simulated run as data: which there
// are, how a whole schedule of them is made from a seed before the run begins,
// how it is written and read as text, and how a schedule that makes a run fail is
// made smaller.
//
// It owns the meaning of a fault's fields and the text. It may not touch a
// network, a clock or a goroutine: what a fault does is the business of package
// choreotest.
package schedule

import (
	"time"
)

// Kind is a kind of fault. The names are part of the text of a schedule.
type Kind string

// The kinds of faults.
const (
	// BrokerError answers the next Count requests of one type with Err.
	BrokerError Kind = "error"
	// LostAnswer cuts an instance's connection after the Nth request of one type
	// was executed, before it is answered.
	LostAnswer Kind = "lost"
	// LateRequest holds the Nth request of one type on its way: it arrives late,
	// whatever has become of who sent it.
	LateRequest Kind = "late"
	// LateMarker has the markers of transactions written late for a time.
	LateMarker Kind = "markers"
	// Cut closes all connections of an instance.
	Cut Kind = "cut"
	// Slow holds what an instance sends back for a time.
	Slow Kind = "slow"
	// LeaderMove moves the leader of one partition, or of all.
	LeaderMove Kind = "leader"
	// CoordinatorMove moves the coordinators of groups and transactions.
	CoordinatorMove Kind = "coordinator"
	// Kill ends an instance as SIGKILL does, at a time or around the Nth request
	// of one type, and starts it again after a time.
	Kill Kind = "kill"
	// Freeze stops what an instance hears and says for a time; what it said
	// meanwhile arrives later, whatever has become of it.
	Freeze Kind = "freeze"
	// Join adds an instance for a time.
	Join Kind = "join"
	// Leave stops an instance gracefully and starts it again after a time.
	Leave Kind = "leave"
	// Deploy replaces the instances of a service by its next version, one after
	// another, each after a time.
	Deploy Kind = "deploy"
	// HandlerError makes the next Count attempts of a service fail, half of them
	// after the handler has run.
	HandlerError Kind = "handler-error"
	// HandlerPanic makes the next Count attempts of a service panic.
	HandlerPanic Kind = "handler-panic"
	// HandlerSlow makes the next Count attempts of a service take a time longer.
	HandlerSlow Kind = "handler-slow"
	// Duplicate says one of the latest events of a topic once more.
	Duplicate Kind = "duplicate"
	// Reorder holds the next Count events that the workload says, and then says
	// them in the opposite order.
	Reorder Kind = "reorder"
)

// Kinds are all kinds of faults.
func Kinds() []Kind {
	return []Kind{
		BrokerError, LostAnswer, LateRequest, LateMarker, Cut, Slow, LeaderMove, CoordinatorMove, Kill, Freeze, Join, Leave, Deploy,
		HandlerError, HandlerPanic, HandlerSlow, Duplicate, Reorder,
	}
}

// Moment is when, around a request, a fault strikes.
type Moment string

// The moments. The zero Moment is none.
const (
	Before Moment = "before" // before the request is sent
	After  Moment = "after"  // after it was executed, before it is answered
)

// Fault is one fault. Fields that its kind does not use are zero.
type Fault struct {
	// At is when it strikes, or from when the requests are counted.
	At time.Duration
	// Kind is what happens.
	Kind Kind
	// Target is whom it strikes: an instance ("payment-1"), a service, a topic,
	// or a partition ("orders/3").
	Target string
	// For is how long it lasts.
	For time.Duration
	// Request is the type of requests that are counted or refused.
	Request string
	// When and Nth say around which of them it strikes; the first is 1.
	When Moment
	Nth  int
	// Err is the name of a Kafka error.
	Err string
	// Count is how many requests, attempts or events it strikes.
	Count int
	// Node is a broker.
	Node int
}

// Schedule is the faults of one run, in the order of their times.
type Schedule []Fault

// End is when the last fault is over, as far as the schedule tells.
func (s Schedule) End() time.Duration {
	var end time.Duration
	for _, f := range s {
		end = max(end, f.At+f.For)
	}
	return end
}
