package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/cmd/choreo/internal/dlq"
)

// dlqCommand is `choreo dlq`: what became dead letters of a service, and what to
// do with them. It connects by the same environment variables as services do.
type dlqCommand struct {
	Ls      dlqList    `cmd:"" help:"List the dead letters, one line for each cause. Needs the right Read on the service's dlq topic."`
	Show    dlqShow    `cmd:"" help:"Show letters in full: event, error, origin, and what has become of them. Needs Read, as ls does."`
	Replay  dlqReplay  `cmd:"" help:"Send letters to their service again, in their order. Replaying one twice has the effect of once. Needs Write on the service's inbox, too."`
	Discard dlqDiscard `cmd:"" help:"Put letters aside, for good, and note by whom and why. Needs Write on the dlq topic, too."`
}

// dlqTarget says whose dead letters are meant.
type dlqTarget struct{ target }

func (d *dlqTarget) topic() (*dlq.Topic, error) {
	cfg, err := choreo.LoadConfig(os.Environ())
	if err != nil {
		return nil, err
	}
	return &dlq.Topic{Options: cfg.KafkaOptions(), Service: d.Service, Prefix: cfg.TopicPrefix, Patience: d.Timeout}, nil
}

func (d *dlqTarget) look(ctx context.Context, which dlq.Selection) (*dlq.Topic, *dlq.Index, error) {
	t, err := d.topic()
	if err != nil {
		return nil, nil, err
	}
	x, err := t.Look(ctx, which)
	return t, x, err
}

// dlqWhich says which letters are meant.
type dlqWhich struct {
	Which []string `arg:"" optional:"" help:"Groups, as ls shows them; letters, as topic/partition/offset; or ids of events."`
	Flow  []string `help:"Letters of the flow with this correlation id; may be repeated." placeholder:"ID" sep:"none"`
}

func (w *dlqWhich) selection() dlq.Selection { return dlq.Selection{Names: w.Which, Flows: w.Flow} }

func (w *dlqWhich) none() bool { return len(w.Which)+len(w.Flow) == 0 }

type dlqList struct {
	dlqTarget
	dlqWhich
	All bool `help:"Also letters of which something has become: replayed, or discarded."`
}

// Validate is called by the parser.
func (d *dlqList) Validate() error { return d.problems() }

// Run lists the groups.
func (d *dlqList) Run(ctx context.Context, s streams) error {
	t, x, err := d.look(ctx, d.selection())
	if err != nil {
		return err
	}
	return writeGroups(s.out, d.Output, dlqGroups{
		Service: t.Service, Topic: t.Name(), Groups: x.Groups(d.All), Settled: x.Settled(), Strange: x.Strange,
	})
}

type dlqShow struct {
	dlqTarget
	dlqWhich
	All   bool `help:"Also letters of which something has become."`
	Limit int  `help:"Show at most so many." default:"10"`
	Bytes int  `help:"Show at most so many bytes of a payload." default:"2048"`
}

const (
	mostShown      = 1000
	mostShownBytes = 1 << 20
)

// Validate is called by the parser.
func (d *dlqShow) Validate() error {
	all := []error{d.problems()}
	if d.Limit < 1 || d.Limit > mostShown {
		all = append(all, fmt.Errorf("--limit=%d: must be from 1 to %d", d.Limit, mostShown))
	}
	if d.Bytes < 0 || d.Bytes > mostShownBytes {
		all = append(all, fmt.Errorf("--bytes=%d: must be from 0 to %d", d.Bytes, mostShownBytes))
	}
	return errors.Join(all...)
}

// Run shows letters.
func (d *dlqShow) Run(ctx context.Context, s streams) error {
	_, x, err := d.look(ctx, d.selection())
	if err != nil {
		return err
	}
	w := newItems(s.out, d.Output, d.Bytes)
	w.full = true
	total, err := x.Show(ctx, d.All, d.Limit, w.item)
	if err != nil {
		return err
	}
	return w.end(map[string]any{"letters": total, "shown": min(total, d.Limit)}, fmt.Sprintf("%d of %d letters shown", min(total, d.Limit), total))
}

// dlqAct is what replay and discard have in common.
type dlqAct struct {
	dlqTarget
	dlqWhich
	All    bool `help:"All letters of which nothing has become yet."`
	DryRun bool `help:"Tell what would be done, and do nothing."`
}

// Validate is called by the parser.
func (d *dlqAct) Validate() error {
	err := d.problems()
	if d.All != d.none() {
		err = errors.Join(err, errors.New("name groups, letters, event ids or flows, or give --all"))
	}
	return err
}

// act does something with the letters and reports it.
func (d *dlqAct) act(ctx context.Context, s streams, what string, do func(*dlq.Topic, *dlq.Index, func(dlq.Item) error) (dlq.Acted, error)) error {
	t, x, err := d.look(ctx, d.selection())
	if err != nil {
		return err
	}
	if d.DryRun {
		what = "would be " + what
	}
	w := newItems(s.out, d.Output, 0)
	w.what = what
	done, err := do(t, x, w.item)
	if err != nil {
		_ = w.end(map[string]any{"dryRun": d.DryRun, "done": done.Done, "left": done.Left, "settled": done.Settled, "error": err.Error()}, "")
		return err
	}
	err = w.end(map[string]any{"dryRun": d.DryRun, "done": done.Done, "left": done.Left, "settled": done.Settled},
		fmt.Sprintf("%s: %d letters %s, %d cannot be, %d were settled before", t.Name(), done.Done, what, done.Left, done.Settled))
	if err == nil && done.Done+done.Left+done.Settled == 0 && !d.All {
		return fmt.Errorf("no dead letter of %s is meant by that; see choreo dlq ls --service=%s", t.Name(), t.Service)
	}
	if err == nil && done.Left > 0 {
		return errFailed
	}
	return err
}

type dlqReplay struct {
	dlqAct
	Forgotten bool `help:"Run a step even if its service remembers nothing of the flow any more, so that it cannot tell whether the step was cancelled. Look before you do."`
}

// Run replays letters.
func (d *dlqReplay) Run(ctx context.Context, s streams) error {
	return d.act(ctx, s, "sent to the inbox", func(_ *dlq.Topic, x *dlq.Index, each func(dlq.Item) error) (dlq.Acted, error) {
		return x.Replay(ctx, dlq.ReplayOptions{DryRun: d.DryRun, Forgotten: d.Forgotten}, each)
	})
}

type dlqDiscard struct {
	dlqAct
	Reason string `required:"" help:"Why; kept with the letter." placeholder:"TEXT"`
	By     string `help:"Who; kept with the letter. Default: the user's name." placeholder:"NAME"`
}

// Validate is called by the parser.
func (d *dlqDiscard) Validate() error {
	err := d.dlqAct.Validate()
	if d.Reason == "" {
		err = errors.Join(err, errors.New("--reason: is empty; say why"))
	}
	return err
}

// Run discards letters.
func (d *dlqDiscard) Run(ctx context.Context, s streams) error {
	by := userOr(d.By)
	return d.act(ctx, s, "discarded", func(_ *dlq.Topic, x *dlq.Index, each func(dlq.Item) error) (dlq.Acted, error) {
		return x.Discard(ctx, by, d.Reason, d.DryRun, each)
	})
}
