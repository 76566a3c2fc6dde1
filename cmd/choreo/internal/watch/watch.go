// Package watch reads the topics of the order flow, read committed, as any
// other consumer would, and tells when no service has anything left to do. It
// owns its own client and joins no group; what the events mean is the business
// of package check.
package watch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/choreography-go/choreography/cmd/choreo/internal/check"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Config says what to watch.
type Config struct {
	Brokers []string
	// Prefix is that of all topics and groups.
	Prefix string
	// Topics carry events and must exist.
	Topics []string
	// Services have inboxes and consumer groups.
	Services []string
	// Each is called for each event of Topics, in the order of its partition,
	// with the time at which it was read. Calls do not overlap.
	Each func(e check.Event, at time.Time)
	// Malformed is called likewise for each record that is no event.
	Malformed func(error)
}

// Watcher reads from where the topics ended when it was started. Its methods
// may be called by any number of goroutines.
type Watcher struct {
	cfg    Config
	client *kgo.Client
	admin  *kadm.Client
	cancel context.CancelFunc
	done   chan struct{}

	mu       sync.Mutex
	position map[place]int64 // the next offset to read
	last     map[place]int64 // of the last record that is no marker
	moved    chan struct{}   // closed and replaced when position changes
	err      error
}

type place struct {
	topic     string
	partition int32
}

// Start begins to watch. The topics' and inboxes' ends are taken before it
// returns, so that all that is said later is seen. Close the Watcher.
func Start(ctx context.Context, cfg Config) (*Watcher, error) {
	admin, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.ClientID("choreo-demo"))
	if err != nil {
		return nil, fmt.Errorf("watch the topics: %w", err)
	}
	w := &Watcher{
		cfg: cfg, admin: kadm.NewClient(admin), done: make(chan struct{}),
		position: map[place]int64{}, last: map[place]int64{}, moved: make(chan struct{}),
	}
	ends, err := w.ends(ctx)
	if err != nil {
		admin.Close()
		return nil, fmt.Errorf("watch the topics: %w", err)
	}
	from := map[string]map[int32]kgo.Offset{}
	for p, end := range ends {
		if from[p.topic] == nil {
			from[p.topic] = map[int32]kgo.Offset{}
		}
		from[p.topic][p.partition] = kgo.NewOffset().At(end)
		w.position[p] = end
	}
	w.client, err = kgo.NewClient(
		kgo.SeedBrokers(cfg.Brokers...), kgo.ClientID("choreo-demo"),
		kgo.ConsumePartitions(from),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // a position that counts markers reaches the end
		kgo.FetchMaxWait(500*time.Millisecond),
	)
	if err != nil {
		admin.Close()
		return nil, fmt.Errorf("watch the topics: %w", err)
	}
	ctx, w.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go w.read(ctx)
	return w, nil
}

// Close stops reading.
func (w *Watcher) Close() {
	w.cancel()
	<-w.done
	w.client.Close()
	w.admin.Close()
}

// Done is closed when reading has ended, which before Close is an error; see
// Err.
func (w *Watcher) Done() <-chan struct{} { return w.done }

// Err returns why reading has ended.
func (w *Watcher) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

func (w *Watcher) read(ctx context.Context) {
	defer close(w.done)
	events := map[string]bool{}
	for _, t := range w.cfg.Topics {
		events[w.cfg.Prefix+t] = true
	}
	for {
		fetches := w.client.PollFetches(ctx)
		at := time.Now()
		if ctx.Err() != nil || fetches.IsClientClosed() {
			return
		}
		if err := fetches.Err(); err != nil {
			w.mu.Lock()
			w.err = fmt.Errorf("read the topics: %w", err)
			w.mu.Unlock()
			return
		}
		position, last := map[place]int64{}, map[place]int64{}
		fetches.EachRecord(func(r *kgo.Record) {
			p := place{r.Topic, r.Partition}
			position[p] = r.Offset + 1
			if r.Attrs.IsControl() {
				return
			}
			last[p] = r.Offset
			if !events[r.Topic] {
				return
			}
			if e, err := check.Parse(r, w.cfg.Prefix); err != nil {
				w.cfg.Malformed(err)
			} else {
				w.cfg.Each(e, at)
			}
		})
		w.mu.Lock()
		for p, o := range position {
			w.position[p] = o
		}
		for p, o := range last {
			w.last[p] = o
		}
		close(w.moved)
		w.moved = make(chan struct{})
		w.mu.Unlock()
	}
}

// Settle waits until everything that was said has been read here and worked on
// by every service that hears it, so that nothing more will be said: a reader
// that stopped at the last outcome would miss a second one. Topics with markers
// of unfinished transactions do not settle.
func (w *Watcher) Settle(ctx context.Context) error {
	why := errors.New("the topics' ends are not known")
	for {
		err := w.settled(ctx)
		if err == nil {
			return nil
		}
		if !errors.Is(err, ctx.Err()) {
			why = err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("wait until every service has worked on every event: %w; last: %w", context.Cause(ctx), why)
		}
		t := time.NewTimer(50 * time.Millisecond)
		select {
		case <-ctx.Done():
		case <-w.done:
			t.Stop()
			return errors.Join(w.Err(), errors.New("reading has ended"))
		case <-t.C:
		}
		t.Stop()
	}
}

func (w *Watcher) settled(ctx context.Context) error {
	before, err := w.ends(ctx)
	if err != nil {
		return err
	}
	if err := w.reach(ctx, before); err != nil {
		return err
	}
	for _, s := range w.cfg.Services {
		if err := w.worked(ctx, w.cfg.Prefix+s); err != nil {
			return err
		}
	}
	after, err := w.ends(ctx)
	if err != nil {
		return err
	}
	for p, end := range after {
		if before[p] != end {
			return errors.New("events are still being said")
		}
	}
	return nil
}

// worked reports what a consumer group has not committed yet of the topics it
// reads.
func (w *Watcher) worked(ctx context.Context, group string) error {
	offsets, err := w.admin.FetchOffsets(ctx, group)
	if err != nil {
		return fmt.Errorf("read the offsets of group %s: %w", group, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(offsets) == 0 && len(w.last) > 0 {
		return fmt.Errorf("group %s has committed nothing", group)
	}
	for p, last := range w.last {
		partitions, reads := offsets[p.topic]
		if !reads {
			continue
		}
		if o, ok := partitions[p.partition]; !ok || o.Err != nil || o.At <= last {
			return fmt.Errorf("group %s has not committed offset %d of %s/%d", group, last, p.topic, p.partition)
		}
	}
	return nil
}

// reach waits until the reader is at the ends.
func (w *Watcher) reach(ctx context.Context, ends map[place]int64) error {
	for {
		w.mu.Lock()
		moved := w.moved
		var behind error
		for p, end := range ends {
			if w.position[p] < end {
				behind = fmt.Errorf("of %s/%d offsets %d to %d cannot be read yet", p.topic, p.partition, w.position[p], end-1)
				break
			}
		}
		w.mu.Unlock()
		if behind == nil {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return behind
		case <-w.done:
			return behind
		}
	}
}

// ends returns the high watermarks.
func (w *Watcher) ends(ctx context.Context) (map[place]int64, error) {
	topics := make([]string, 0, len(w.cfg.Topics)+len(w.cfg.Services))
	for _, t := range w.cfg.Topics {
		topics = append(topics, w.cfg.Prefix+t)
	}
	for _, s := range w.cfg.Services {
		topics = append(topics, w.cfg.Prefix+s+".inbox")
	}
	listed, err := w.admin.ListEndOffsets(ctx, topics...)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("find the ends of %v: %w", topics, err)
	}
	all := map[place]int64{}
	listed.Each(func(o kadm.ListedOffset) { all[place{o.Topic, o.Partition}] = o.Offset })
	if missing := slices.DeleteFunc(topics, func(t string) bool { _, ok := listed[t]; return ok }); len(missing) > 0 {
		return nil, fmt.Errorf("find the ends of %v: there are no such topics", missing)
	}
	return all, nil
}

// RemoveTopics deletes all topics and groups that begin with the prefix, which
// must not be empty.
func (w *Watcher) RemoveTopics(ctx context.Context) error {
	if w.cfg.Prefix == "" {
		return errors.New("refusing to remove all topics: there is no prefix")
	}
	topics, err := w.admin.ListTopics(ctx)
	if err != nil {
		return fmt.Errorf("list the topics: %w", err)
	}
	names := slices.DeleteFunc(topics.Names(), func(t string) bool { return !strings.HasPrefix(t, w.cfg.Prefix) })
	if len(names) > 0 {
		if _, err := w.admin.DeleteTopics(ctx, names...); err != nil {
			return fmt.Errorf("remove the topics: %w", err)
		}
	}
	groups := make([]string, 0, len(w.cfg.Services))
	for _, s := range w.cfg.Services {
		groups = append(groups, w.cfg.Prefix+s)
	}
	if _, err := w.admin.DeleteGroups(ctx, groups...); err != nil {
		return fmt.Errorf("remove the groups: %w", err)
	}
	return nil
}
