package task

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// From says where an input starts that the group has never read.
type From int

const (
	// Earliest starts at the oldest record that is still there.
	Earliest From = iota
	// Latest starts behind the last committed record; what is there already is
	// not read.
	Latest
)

// Input is a topic that every task reads its partitions of.
type Input struct {
	Topic string
	From  From
}

// Config says whose tasks an [Owner] owns and how. Zero durations take the
// default given with each.
type Config struct {
	// Command is how the service is started, for the remedies that errors
	// name ("payment topics --apply"). Default: Group.
	Command string

	// Group is the consumer group, and Inbox the one topic it subscribes to.
	Group, Inbox string

	// Journal is the topic that the tasks' state is restored from.
	Journal string

	// InstanceID is the static member id: stable across restarts, unique among
	// the processes of the group. Empty: the member is dynamic, and every
	// restart is a rebalance.
	InstanceID string

	// Inputs are the topics read besides the inbox.
	Inputs []Input

	// InboxFrom is where the inbox starts. Default Earliest.
	InboxFrom From

	// TransactionalPrefix begins the transactional ids of all instances of
	// the service ("payment/"), OwnPrefix those of this instance
	// ("payment/payment-0/"). Open transactions under the first and not under
	// the second are ended when they keep a task from opening.
	TransactionalPrefix, OwnPrefix string

	// TransactionTimeout is given to the coordinator when a transaction is
	// ended for another instance. Default 10 s.
	TransactionTimeout time.Duration

	// Options are given to every client: seed brokers, TLS, SASL, metrics.
	Options []kgo.Opt

	// Engine receives tasks and records.
	Engine Engine

	// Logger is never nil after New. Default: slog.Default().
	Logger *slog.Logger

	// SessionTimeout is after how long without heartbeat the group gives our
	// tasks to others. Default 10 s, with Heartbeat a tenth of it, at most 3 s.
	SessionTimeout, Heartbeat time.Duration

	// RebalanceTimeout bounds a rebalance, and with a margin of a quarter how
	// long a revoke waits for transactions. Default 30 s.
	RebalanceTimeout time.Duration

	// ServerAssignor uses the group protocol of KIP-848 in place of the
	// classic one. A restart then takes as long as the broker's own session
	// timeout (45 s), so it is off by default.
	ServerAssignor bool

	// Patience is how long a stable offset fetch or a restore may stay blocked
	// before open transactions of other instances are ended. Default 1 s.
	Patience time.Duration

	// WatchInterval is how often partition counts and topic ids are compared
	// with those at start. Default 30 s.
	WatchInterval time.Duration

	// RecommitAfter is how long a source may be without a delivered record
	// before its offset is committed again. Default 24 h; the broker forgets
	// offsets after 7 days by default.
	RecommitAfter time.Duration

	// Restores is how many tasks are restored at once. Default 4.
	Restores int

	// PollRecords bounds the records taken from the client at once. As long as
	// the client holds any of a broker it asks that broker for no more, so it is
	// best more than one answer holds: then the next one is under way while these
	// are worked on. Default 20,000.
	PollRecords int
}

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

func (c *Config) normalize() error {
	var errs []error
	need := func(name, v string) {
		if v == "" {
			errs = append(errs, fmt.Errorf("task: %s is empty: name it", name))
		}
	}
	need("Group", c.Group)
	need("Inbox", c.Inbox)
	need("Journal", c.Journal)
	need("TransactionalPrefix", c.TransactionalPrefix)
	if c.Engine == nil {
		errs = append(errs, errors.New("task: Engine is nil: it takes the tasks and their records"))
	}
	if !strings.HasPrefix(c.OwnPrefix, c.TransactionalPrefix) || c.OwnPrefix == c.TransactionalPrefix {
		errs = append(errs, fmt.Errorf("task: OwnPrefix %q must begin with TransactionalPrefix %q and be longer", c.OwnPrefix, c.TransactionalPrefix))
	}
	seen := map[string]bool{c.Inbox: true, c.Journal: true}
	if c.Inbox == c.Journal {
		errs = append(errs, fmt.Errorf("task: inbox and journal are both topic %q: give each its own", c.Inbox))
	}
	for _, in := range c.Inputs {
		if in.Topic == "" {
			errs = append(errs, errors.New("task: an input has no topic: name it"))
		} else if seen[in.Topic] {
			errs = append(errs, fmt.Errorf("task: input topic %q is named twice, or is the inbox or the journal: name each input once", in.Topic))
		}
		seen[in.Topic] = true
	}
	orDefault(&c.Command, c.Group)
	orDefault(&c.TransactionTimeout, 10*time.Second)
	orDefault(&c.SessionTimeout, 10*time.Second)
	// What a rebalance takes to reach every member is added to what a takeover takes.
	orDefault(&c.Heartbeat, min(3*time.Second, c.SessionTimeout/10))
	orDefault(&c.RebalanceTimeout, 30*time.Second)
	orDefault(&c.Patience, time.Second)
	orDefault(&c.WatchInterval, 30*time.Second)
	orDefault(&c.RecommitAfter, 24*time.Hour)
	orDefault(&c.Restores, 4)
	orDefault(&c.PollRecords, 20_000)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Heartbeat >= c.SessionTimeout {
		errs = append(errs, fmt.Errorf("task: Heartbeat %v must be shorter than SessionTimeout %v", c.Heartbeat, c.SessionTimeout))
	}
	return errors.Join(errs...)
}
