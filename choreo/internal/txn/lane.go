package txn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/choreography-go/choreography/choreo/internal/producer"
	"github.com/twmb/franz-go/pkg/kgo"
)

// lane is one transactional producer, and the goroutine that drives it. Turns
// in each stage go from lane to lane in a ring.
type lane struct {
	number int
	id     string // transactional id
	client *kgo.Client
	turns  [stages]chan struct{}
	next   *lane
	left   producer.Leftovers // of those who had the id before

	batch []*Result // reused
}

func (p *Pipeline) newLane(number int) *lane {
	id := p.cfg.TransactionalID(number)
	l := &lane{number: number, id: id, left: p.leftovers(id)}
	for s := range l.turns {
		l.turns[s] = make(chan struct{}, 1)
	}
	return l
}

// open makes the lane's client and initializes its transactional id, which ends
// what a predecessor left open and fences its late requests. ctx bounds it; when
// it fails it is called again.
func (p *Pipeline) open(ctx context.Context, l *lane) error {
	client, err := p.newClient(l.id)
	if err != nil {
		return err
	}
	if err := l.left.End(ctx, client); err != nil {
		p.discard(client)
		return err
	}
	return p.connect(ctx, l, client)
}

// leftovers are what was left of a transactional id's last transactions.
func (p *Pipeline) leftovers(id string) producer.Leftovers {
	return producer.Leftovers{TransactionalID: id, Group: p.cfg.Group, Topics: p.cfg.Topics, Timeout: p.cfg.Timeout, Log: p.cfg.Logger}
}

// connect gives the lane a client: this one, or one after it.
func (p *Pipeline) connect(ctx context.Context, l *lane, client *kgo.Client) error {
	for {
		id, epoch, err := client.ProducerID(ctx)
		if err == nil && id < 0 {
			err = errors.New("the broker gave no producer id")
		}
		if err != nil {
			p.discard(client)
			return fmt.Errorf("initializing transactional id %s: %w", l.id, err)
		}
		if epoch < producer.MaxEpoch {
			l.client = client
			return nil
		}
		p.discard(client) // the next initialization gets a new id and epoch 0
		if client, err = p.newClient(l.id); err != nil {
			return err
		}
	}
}

// newClient makes clients one at a time: making one writes to what the given
// options share (the codecs of ProducerBatchCompression).
func (p *Pipeline) newClient(transactionalID string) (*kgo.Client, error) {
	p.making.Lock()
	defer p.making.Unlock()
	client, err := kgo.NewClient(p.options(transactionalID)...)
	if err != nil {
		return nil, fmt.Errorf("making the client of %s: %w", transactionalID, err)
	}
	return client, nil
}

// renew replaces the client of a lane whose epoch is exhausted.
func (p *Pipeline) renew(ctx context.Context, l *lane) error {
	_, epoch, err := l.client.ProducerID(ctx)
	if err != nil || epoch < producer.MaxEpoch {
		return err
	}
	p.discard(l.client)
	l.client = nil
	client, err := p.newClient(l.id)
	if err != nil {
		return err
	}
	return p.connect(ctx, l, client)
}

// discard closes a client in the background: it neither flushes nor aborts, but
// may wait for a connection being made. Run waits for all of them at its end.
func (p *Pipeline) discard(client *kgo.Client) {
	if client != nil {
		p.closing.Go(client.Close)
	}
}

// options are those of a lane's client.
func (p *Pipeline) options(transactionalID string) []kgo.Opt {
	stage := p.deadline()
	return append(append([]kgo.Opt{}, p.cfg.ClientOptions...),
		kgo.TransactionalID(transactionalID),
		kgo.TransactionTimeout(p.cfg.Timeout),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(partitioner(p.cfg.Manual)),
		kgo.ProducerBatchMaxBytesFn(p.cfg.BatchBytes),
		kgo.BrokerMaxWriteBytes(2*maxBatchBytes),
		// A transaction's records are buffered whole and then sent, so that each
		// partition's are one batch and each broker's one request.
		kgo.ProducerLinger(0),
		kgo.ManualFlushing(),
		kgo.MaxBufferedRecords(1<<30),
		// All that may hang ends with the transaction's own deadline.
		kgo.RecordDeliveryTimeout(max(stage, time.Second)), // it takes no less
		kgo.ProduceRequestTimeout(stage),
		kgo.RequestTimeoutOverhead(max(stage/2, 100*time.Millisecond)),
		kgo.RetryTimeout(stage),
		kgo.RetryBackoffFn(func(tries int) time.Duration {
			return min(time.Millisecond<<min(tries, 8), 250*time.Millisecond)
		}),
		kgo.ConcurrentTransactionsBackoff(5*time.Millisecond),
		kgo.MetadataMinAge(100*time.Millisecond),
		kgo.DisableClientMetrics(),
		kgo.WithLogger(laneLogger{p.cfg.Logger.With("transactional_id", transactionalID)}),
	)
}

// deadline is how long after the gate a transaction must be through: well below
// the time-out after which the broker aborts it, so that none is aborted that
// is still going to be ended.
func (p *Pipeline) deadline() time.Duration { return p.cfg.Timeout / 10 * 8 }

// openAll makes all lanes and the producer of silent offsets side by side, each
// again and again until it works: one that gets no answer does not hold up the
// others, which stay as they are. It reports every failure in turn and returns
// nil when the pipeline is to stop.
func (p *Pipeline) openAll(failed func(error)) ([]*lane, *silent) {
	lanes, quiet := make([]*lane, p.cfg.Lanes), &silent{p: p, left: p.leftovers(p.cfg.OffsetsID)}
	failures, opened := make(chan error), make(chan struct{})
	var wg sync.WaitGroup
	for i := range lanes {
		l := p.newLane(i)
		lanes[i] = l
		wg.Go(func() { p.persist(failures, func(ctx context.Context) error { return p.open(ctx, l) }) })
	}
	wg.Go(func() { p.persist(failures, quiet.open) })
	go func() {
		defer close(opened)
		wg.Wait()
	}()
	for all := false; !all; {
		select {
		case err := <-failures:
			failed(err)
		case <-opened:
			all = true
		}
	}
	if p.ctx.Err() != nil {
		for _, l := range lanes {
			p.discard(l.client)
		}
		return nil, nil
	}
	for i, l := range lanes {
		l.next = lanes[(i+1)%len(lanes)]
	}
	return lanes, quiet
}

// persist calls open until it works or the pipeline is to stop.
func (p *Pipeline) persist(failures chan<- error, open func(context.Context) error) {
	backoff := newBackoff(p.cfg.RetryMin, p.cfg.RetryMax)
	for {
		ctx, cancel := context.WithTimeout(p.ctx, p.cfg.Timeout)
		err := open(ctx)
		cancel()
		if err == nil || p.ctx.Err() != nil {
			return
		}
		failures <- err
		if pause(p.ctx, backoff.next(), err) != nil {
			return
		}
	}
}

// laneLogger passes warnings of a lane's client on, and what the client says of
// every single transaction at level debug only.
type laneLogger struct{ log *slog.Logger }

// Level is what the client may skip to format.
func (l laneLogger) Level() kgo.LogLevel {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		return kgo.LogLevelInfo
	}
	return kgo.LogLevelWarn
}

// Log writes one line.
func (l laneLogger) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	to := slog.LevelDebug
	if level == kgo.LogLevelWarn || level == kgo.LogLevelError {
		to = slog.LevelWarn // an error of the client is one that the pipeline mends
	}
	l.log.Log(context.Background(), to, "kafka client: "+msg, keyvals...)
}
