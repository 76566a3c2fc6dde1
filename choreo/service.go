package choreo

import (
	"net/http"
	"sync/atomic"
	"time"
)

// Declaration is a part of a service: Step, Reaction, *State, Starts, HTTP,
// Topic, Tasks, Retention. Only this package's types implement it.
type Declaration interface{ declare(*plan) }

// Service is a declared service. It is not running until [Service.Run].
type Service struct {
	name         string
	declarations []Declaration
	middleware   []Middleware
	claimed      atomic.Bool // by a Run, from its begin to its end
	running      runningService
}

// NewService declares a service. The name is durable: it is in the consumer
// group, in topics, transactional ids and event ids.
func NewService(name string, d ...Declaration) *Service {
	return &Service{name: name, declarations: d}
}

// Add adds declarations. It must not be called once the service runs.
func (s *Service) Add(d ...Declaration) { s.declarations = append(s.declarations, d...) }

// Name returns the service's name.
func (s *Service) Name() string { return s.name }

// Starts declares the events that the service may [Service.Publish].
func Starts(e ...AnyEvent) Declaration {
	d := make(starts, 0, len(e))
	for _, x := range e {
		d = append(d, x.decl())
	}
	return d
}

type starts []*eventDecl

// HTTP serves Handler beside the service: it listens from when the brokers and
// topics were found to do, which may be before the first task is ready, and is
// drained before the service stops.
type HTTP struct {
	// Addr is the address to listen on, such as ":8080".
	Addr    string
	Handler http.Handler
	// Listening, if set, is told the address when the server listens, which
	// matters where Addr asks for a free port.
	Listening func(addr string)
}

// Topic declares partitions, replication and where reading starts for a topic
// that the service hears or says. Topics without a declaration have the zero
// value's settings.
type Topic struct {
	// Name is without the environment's prefix.
	Name string
	// Partitions; zero means as many as the service has tasks.
	Partitions int32
	// Replication factor; zero means the broker's default.
	Replication int16
	// Inbox says that the topic's keys are not correlation ids. Steps and states
	// then hear its events by way of the service's inbox, one hop more.
	Inbox bool
	// From is where the service starts to read the topic when it hears it for
	// the first time.
	From From
	// Config holds further settings, such as "retention.ms".
	Config map[string]string
}

// From is where a service starts on a topic that is new to it.
type From uint8

const (
	// Earliest starts with the oldest event of the topic.
	Earliest From = iota
	// Latest starts with what is said after the service was first started.
	Latest
)

// Tasks declares how many tasks the service has: the partitions of its inbox
// and its journal, and so the most instances that can share its work. It
// cannot be changed later. Undeclared: 8.
type Tasks int32

// Retention says how long a service keeps what it knows of a flow.
type Retention struct {
	// Flow is how long after its last event a flow is forgotten. A
	// compensation that arrives later is a dead letter. Zero: 24 h.
	Flow time.Duration
	// Grace is how long after an outcome the flow's runs are kept, so that
	// late duplicates are still recognized. Zero: 1 minute.
	Grace time.Duration
}
