package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/operator"
	"github.com/choreography-go/choreography/cmd/choreo/internal/stuck"
)

// stuckCommand is `choreo stuck`: the flows of a service that do not get on, and
// what to do with them.
type stuckCommand struct {
	Ls      stuckList    `cmd:"" help:"List what is stuck, the oldest first, as the service's journal tells, whether it runs or not. Needs the right Read on the journal topic."`
	Retry   stuckRetry   `cmd:"" help:"Make the next attempt now. Needs Write on the inbox and, for the answer, Read on the dlq topic, too."`
	Skip    stuckSkip    `cmd:"" help:"Give up what fails, and let what waits behind it go on: a step's event ends as when its retries are used up, a run that cannot be undone stays as it is, a deadline does not fire. Needs what retry does."`
	Resolve stuckResolve `cmd:"" help:"Say that a person has done what the step, the compensation or the deadline should have done. Needs what retry does."`
}

// stuckTarget says of which service what is meant.
type stuckTarget struct {
	target
	Items []string `arg:"" optional:"" help:"What is stuck, as ls names it in its first column."`
	Flow  []string `help:"What is stuck of the flow with this correlation id; may be repeated." placeholder:"ID" sep:"none"`
	Step  []string `help:"What is stuck at the step, reaction or deadline of this name; may be repeated." placeholder:"NAME" sep:"none"`
	Kind  []string `help:"What is stuck as step, undo or deadline; may be repeated. ls also knows join: steps that have heard some of the events that they join." placeholder:"KIND" enum:"step,undo,deadline,join" sep:"none"`
}

func (t *stuckTarget) selection() stuck.Selection {
	return stuck.Selection{Items: t.Items, Flows: t.Flow, Steps: t.Step, Kinds: t.Kind}
}

func (t *target) stuck() (*stuck.Service, error) {
	cfg, err := choreo.LoadConfig(os.Environ())
	if err != nil {
		return nil, err
	}
	return &stuck.Service{Options: cfg.KafkaOptions(), Name: t.Service, Prefix: cfg.TopicPrefix, Patience: t.Timeout}, nil
}

type stuckList struct {
	stuckTarget
	Limit int `help:"Show at most so many." default:"100"`
}

const mostStuck = 1_000_000

// Validate is called by the parser.
func (l *stuckList) Validate() error {
	err := l.problems()
	if l.Limit < 1 || l.Limit > mostStuck {
		err = errors.Join(err, fmt.Errorf("--limit=%d: must be from 1 to %d", l.Limit, mostStuck))
	}
	return err
}

// Run lists what is stuck.
func (l *stuckList) Run(ctx context.Context, s streams) error {
	service, err := l.stuck()
	if err != nil {
		return err
	}
	f, err := service.Look(ctx, l.selection())
	if err != nil {
		return err
	}
	return writeStuck(s.out, l.Output, service.Journal(), f, l.Limit, time.Now())
}

// account says who does something and why, and for how long its answer is awaited.
type account struct {
	Reason string        `required:"" help:"Why; kept in the audit event." placeholder:"TEXT"`
	By     string        `help:"Who; kept in the audit event. Default: the user's name." placeholder:"NAME"`
	Wait   time.Duration `help:"How long to wait for the service's answer; 0: not at all." default:"10s"`
	DryRun bool          `help:"Tell what would be asked for, and ask for nothing."`
}

func (a *account) mistakes() error {
	var all []error
	if strings.TrimSpace(a.Reason) == "" {
		all = append(all, errors.New("--reason: is empty; say why"))
	}
	for _, text := range []struct {
		flag, is string
		most     int
	}{{"reason", a.Reason, operator.MaxWhy}, {"by", a.By, operator.MaxBy}} {
		if len(text.is) > text.most || !utf8.ValidString(text.is) {
			all = append(all, fmt.Errorf("--%s: must be text of at most %d bytes, and has %d", text.flag, text.most, len(text.is)))
		}
	}
	if a.Wait < 0 {
		all = append(all, fmt.Errorf("--wait=%v: must not be negative", a.Wait))
	}
	return errors.Join(all...)
}

// stuckAct is what retry, skip and resolve have in common.
type stuckAct struct {
	stuckTarget
	account
	All bool `help:"All that is stuck."`
}

// Validate is called by the parser.
func (a *stuckAct) Validate() error {
	err := errors.Join(a.problems(), a.mistakes())
	if a.All != a.selection().None() {
		err = errors.Join(err, errors.New("name items, flows, steps or kinds, or give --all"))
	}
	if slices.Contains(a.Kind, string(operator.Join)) {
		err = errors.Join(err, errors.New("--kind=join: a join waits for another event, and nothing can be done about it here; ls shows it"))
	}
	return err
}

// act asks for something with all that is meant, and reports what came of it.
func (a *stuckAct) act(ctx context.Context, s streams, do operator.Do, data []byte) error {
	service, err := a.stuck()
	if err != nil {
		return err
	}
	f, err := service.Look(ctx, a.selection())
	if err != nil {
		return err
	}
	if data != nil && len(f.Items) > 1 {
		return fmt.Errorf("--data is the payload of one event, and %d items are meant; name one", len(f.Items))
	}
	var commands []operator.Command
	for _, i := range f.Items {
		commands = append(commands, operator.Command{Do: do, Target: i.Target, Data: data})
	}
	err = a.tell(ctx, s, a.Output, service, false, commands)
	if err == nil && len(commands) == 0 && !a.All {
		return fmt.Errorf("nothing that is stuck in %s is meant by that; see choreo stuck ls --service=%s", service.Journal(), a.Service)
	}
	return err
}

// tell gives commands and reports the answers.
func (a *account) tell(ctx context.Context, s streams, output string, service *stuck.Service, byKey bool, commands []operator.Command) error {
	w := &answers{w: s.out, json: output == "json", dry: a.DryRun}
	how := stuck.Telling{By: userOr(a.By), Why: a.Reason, Wait: a.Wait, ByKey: byKey}
	var err error
	if a.DryRun {
		for _, c := range commands {
			if err = w.answer(stuck.Answer{Command: c}); err != nil {
				break
			}
		}
	} else {
		err = service.Tell(ctx, how, commands, w.answer)
	}
	failed := ""
	if err != nil {
		failed = err.Error()
	}
	err = errors.Join(err, w.end(failed))
	if err == nil && w.count[operator.Refused]+w.count[operator.Failed] > 0 {
		return errFailed
	}
	return err
}

type stuckRetry struct{ stuckAct }

// Run makes attempts.
func (r *stuckRetry) Run(ctx context.Context, s streams) error {
	return r.act(ctx, s, operator.Retry, nil)
}

type stuckSkip struct{ stuckAct }

// Run gives up what fails.
func (r *stuckSkip) Run(ctx context.Context, s streams) error {
	return r.act(ctx, s, operator.Skip, nil)
}

type stuckResolve struct {
	stuckAct
	Data string `help:"The payload of the event to be said, as JSON, or @ and the name of a file that holds it. A step and a deadline need it; of a compensation that ran, nothing is said without." placeholder:"JSON"`
}

// Run says what was done by hand.
func (r *stuckResolve) Run(ctx context.Context, s streams) error {
	data, err := payloadOf(r.Data)
	if err != nil {
		return err
	}
	return r.act(ctx, s, operator.Resolve, data)
}

// payloadOf is a payload that was given as it is, or by the name of its file; nil:
// none was.
func payloadOf(data string) ([]byte, error) {
	if data == "" {
		return nil, nil
	}
	payload := []byte(data)
	if name, is := strings.CutPrefix(data, "@"); is {
		var err error
		if payload, err = os.ReadFile(name); err != nil {
			return nil, fmt.Errorf("--data: %w", err)
		}
	}
	payload = bytes.TrimSpace(payload)
	if len(payload) > operator.MaxData {
		return nil, fmt.Errorf("--data: has %d bytes, allowed are %d", len(payload), operator.MaxData)
	}
	if !json.Valid(payload) {
		return nil, errors.New("--data: is not JSON")
	}
	return payload, nil
}
