package txn

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Config says how a Pipeline works. Zero values of the optional fields take the
// default given with each.
type Config struct {
	// Fence is shared with whoever ends ownerships. Required.
	Fence *Fence

	// Group is the consumer group under which offsets are committed. Required.
	Group string

	// InstanceID is the member's group.instance.id; empty if it has none.
	InstanceID string

	// Membership returns the group client's member id and generation
	// (kgo.Client.GroupMetadata). It must be able to answer at any time without
	// blocking. While the id is empty, nothing is committed. Required.
	Membership func() (memberID string, generation int32)

	// TransactionalID names a lane, from 0 on: "<service>/<instance>/<lane>".
	// Stable over restarts of the instance, used by nobody else. Required.
	TransactionalID func(lane int) string

	// OffsetsID is the transactional id of the transactions that hold offsets
	// alone: "<service>/<instance>/offsets". The same is true of it. Required.
	OffsetsID string

	// Topics are those that transactions write to: what an earlier transaction has
	// left open there without the coordinator's knowing is ended before a lane is
	// used. Default: none, and then nothing is looked for.
	Topics []string

	// Lanes is the number of transactions in flight. Default 4, at most 16.
	Lanes int

	// ClientOptions are given to every lane client: seed brokers, TLS, SASL,
	// hooks, compression. The pipeline's own options come after them.
	ClientOptions []kgo.Opt

	// Manual tells the topics whose records go to the partition that they name
	// (the journal). Records of all others go where Partition says. Default:
	// none. It must be fast and always give the same answer.
	Manual func(topic string) bool

	// BatchBytes is the size of the largest batch to send to a topic; no
	// greater than the topic's max.message.bytes, or the broker refuses it.
	// Default 1,000,012, below Kafka's own default, for all topics.
	BatchBytes func(topic string) int32

	// Timeout is the transaction timeout given to the broker. Default 10 s. A
	// transaction that is not through after 8/10 of it fails.
	Timeout time.Duration

	// MaxRecords and MaxBytes bound what one transaction takes: the results up
	// to and including the one that reaches either. Default 5000 and 8 MiB.
	MaxRecords int
	MaxBytes   int

	// Gather is how long a result may wait for others while transactions are in
	// flight. Default 2 ms; negative: not at all.
	Gather time.Duration
	// SilentAfter is how long offsets without outputs wait for a transaction
	// before they are committed in one of their own. Default 1 s.
	SilentAfter time.Duration

	// RetryMin and RetryMax bound the pause between attempts to make the lanes
	// while the broker is away. Default 50 ms and 2 s.
	RetryMin, RetryMax time.Duration

	// Failed is told that a transaction failed, or that making the lanes did
	// (once per outage): every incarnation is closed. Ready is told that the
	// lanes are made, at first and after each failure: now tasks may be opened,
	// from what the broker says. They are called by one goroutine in turn, with
	// no locks held, and must not block. Optional.
	Failed func(cause error)
	Ready  func()

	// Observer receives measurements. Optional.
	Observer Observer

	// Logger: default slog.Default().
	Logger *slog.Logger
}

// Observer receives the pipeline's measurements. Methods are called from
// several goroutines and must not block.
type Observer interface {
	// Committed: a transaction took seconds from the gate to the answer of its
	// end and held that many results and records; bytes as by RecordSize.
	Committed(took time.Duration, results, records, bytes int)
	// CommittedSilently: a transaction of so many results without outputs.
	CommittedSilently(took time.Duration, results int)
	// Failed: the pipeline failed and is reset.
	Failed(reason Reason)
	// Retried: stage (a) was answered with a reason to ask again.
	Retried(reason RetryReason)
	// LanesBusy: that many transactions are in flight now.
	LanesBusy(n int)
}

// RetryReason says in one word why stage (a) asked again.
type RetryReason string

// The reasons to ask again. There are no others.
const (
	// RetryConcurrent: the lane's last transaction is not through in the broker.
	RetryConcurrent RetryReason = "concurrent_transactions"
	// RetryCoordinator: the group's coordinator moves or loads.
	RetryCoordinator RetryReason = "coordinator"
	// RetryGeneration: the group has a new generation, and we are in it.
	RetryGeneration RetryReason = "generation"
)

const (
	defaultLanes      = 4
	maxLanes          = 16
	defaultBatchBytes = 1_000_012
	maxBatchBytes     = 64 << 20
	defaultTimeout    = 10 * time.Second
	minTimeout        = time.Second
	defaultMaxRecords = 5000
	maxMaxRecords     = 1 << 20
	defaultMaxBytes   = 8 << 20
	defaultGather     = 2 * time.Millisecond
	defaultSilent     = time.Second
	defaultFirstPause = 50 * time.Millisecond
	defaultLongPause  = 2 * time.Second
)

// normalize fills in defaults and returns all that is wrong.
func (c *Config) normalize() error {
	var errs []error
	need := func(missing bool, field, what string) {
		if missing {
			errs = append(errs, fmt.Errorf("txn.Config.%s is missing: %s", field, what))
		}
	}
	need(c.Fence == nil, "Fence", "give the one that ends ownerships")
	need(c.Group == "", "Group", "name the consumer group")
	need(c.Membership == nil, "Membership", "give the group client's GroupMetadata")
	need(c.TransactionalID == nil, "TransactionalID", "name the lanes")
	need(c.OffsetsID == "", "OffsetsID", "name the producer of offsets without outputs")

	fill(&c.Lanes, defaultLanes)
	fill(&c.Timeout, defaultTimeout)
	fill(&c.MaxRecords, defaultMaxRecords)
	fill(&c.MaxBytes, defaultMaxBytes)
	fill(&c.SilentAfter, defaultSilent)
	fill(&c.Gather, defaultGather)
	fill(&c.RetryMin, defaultFirstPause)
	fill(&c.RetryMax, max(defaultLongPause, c.RetryMin))
	within(&errs, "Lanes", c.Lanes, 1, maxLanes)
	within(&errs, "Timeout", c.Timeout, minTimeout, 15*time.Minute)
	within(&errs, "MaxRecords", c.MaxRecords, 1, maxMaxRecords)
	within(&errs, "MaxBytes", c.MaxBytes, 1, 1<<30)
	within(&errs, "SilentAfter", c.SilentAfter, time.Millisecond, time.Hour)
	within(&errs, "RetryMin", c.RetryMin, time.Millisecond, time.Minute)
	within(&errs, "RetryMax", c.RetryMax, c.RetryMin, time.Hour)

	if c.Manual == nil {
		c.Manual = func(string) bool { return false }
	}
	if c.BatchBytes == nil {
		c.BatchBytes = func(string) int32 { return defaultBatchBytes }
	}
	if c.Failed == nil {
		c.Failed = func(error) {}
	}
	if c.Ready == nil {
		c.Ready = func() {}
	}
	if c.Observer == nil {
		c.Observer = blind{}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return errors.Join(errs...)
}

func fill[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

func within[T int | time.Duration](errs *[]error, field string, v, lo, hi T) {
	if v < lo || v > hi {
		*errs = append(*errs, fmt.Errorf("txn.Config.%s is %v: allowed is %v to %v", field, v, lo, hi))
	}
}

// blind observes nothing.
type blind struct{}

func (blind) Committed(time.Duration, int, int, int) {}
func (blind) CommittedSilently(time.Duration, int)   {}
func (blind) Failed(Reason)                          {}
func (blind) Retried(RetryReason)                    {}
func (blind) LanesBusy(int)                          {}
