package task

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// watch compares the topics with what they were at start, tries stopped tasks
// again and commits the offsets of idle sources anew, at every interval and
// when an error hints that a topic has changed.
func (o *Owner) watch() {
	tick := time.NewTicker(o.cfg.WatchInterval)
	defer tick.Stop()
	for {
		select {
		case <-o.ctx.Done():
			return
		case <-o.hint:
			o.compareTopics()
		case <-tick.C:
			o.compareTopics()
			o.retryStopped()
			o.recommitIdle(time.Now())
		}
	}
}

// compareTopics stops every task when a topic is not as it was: with another
// partition count keys have moved between tasks, and a recreated topic has
// other events under the same offsets.
func (o *Owner) compareTopics() {
	ctx, cancel := context.WithTimeout(o.ctx, o.cfg.SessionTimeout)
	defer cancel()
	is, err := describe(ctx, o.meta, o.cfg.names())
	if err != nil {
		if o.ctx.Err() == nil {
			o.log.Warn("looking whether the topics are as they were failed", "error", err)
		}
		return
	}
	o.mu.Lock()
	was := o.topology
	changed := o.cfg.compare(was, is)
	var list []*tenure
	if changed != nil && !o.closing {
		for _, t := range o.tenures {
			list = append(list, t)
		}
	}
	o.mu.Unlock()
	for _, t := range list {
		if t.ctx.Err() == nil {
			o.stop(t, changed)
			o.end(t, changed)
		}
	}
}

// retryStopped opens stopped tasks anew, which finds out whether what stopped
// them has been decided. They show as stopped until they are open.
func (o *Owner) retryStopped() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.down || o.closing {
		return
	}
	for num, t := range o.tenures {
		t.mu.Lock()
		stopped, why := t.phase == Stopped && t.ctx.Err() != nil, t.err
		t.mu.Unlock()
		if stopped && o.assigned[num] {
			o.background.Go(func() { o.end(t, why) })
			o.begin(num, why)
		}
	}
}

// recommitIdle commits the offsets of sources anew that nothing was delivered
// of for long: the broker forgets offsets that are not committed for
// offsets.retention.minutes (7 days), for the group does not subscribe to them.
func (o *Owner) recommitIdle(now time.Time) {
	o.mu.Lock()
	var idle []*Source
	for _, t := range o.tenures {
		t.mu.Lock()
		if t.phase == Open && t.ctx.Err() == nil {
			for _, s := range t.task.Sources {
				if now.Sub(time.Unix(0, s.last.Load())) >= o.cfg.RecommitAfter {
					s.last.Store(now.UnixNano())
					idle = append(idle, s)
				}
			}
		}
		t.mu.Unlock()
	}
	o.mu.Unlock()
	for _, s := range idle {
		o.cfg.Engine.Recommit(s)
	}
}

// noticed is told of errors of the data client that may pass.
func (o *Owner) noticed(topic string, num int32, err error) {
	o.contact.failed(err)
	level := slog.LevelWarn
	if kerr.IsRetriable(err) { // leaders move
		level = slog.LevelDebug
	}
	o.log.Log(o.ctx, level, "reading: the broker answers with an error", "topic", topic, "partition", num, "error", err)
	for _, hint := range []error{kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.InconsistentTopicID} {
		if errors.Is(err, hint) {
			select {
			case o.hint <- struct{}{}:
			default:
			}
			return
		}
	}
}
