package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/choreography-go/choreography/choreo/deadletter"
	"github.com/choreography-go/choreography/choreo/operator"
)

// flowCommand is `choreo flow`: what a service remembers of a flow.
type flowCommand struct {
	Erase flowErase `cmd:"" help:"Have the service forget all that it remembers of flows, such as a person's data, whatever its retention. Flows that are stuck, or wait for a deadline, are refused. Needs Write on the inbox and, for the answer, Read on the dlq topic; with --dry-run Read on the journal topic."`
}

type flowErase struct {
	target
	account
	Flows []string `arg:"" help:"Correlation ids." name:"flow"`
}

// Validate is called by the parser.
func (f *flowErase) Validate() error {
	err := errors.Join(f.problems(), f.mistakes())
	for _, flow := range f.Flows {
		if flow == "" {
			err = errors.Join(err, errors.New("a flow has no id"))
		}
	}
	return err
}

// Run erases flows.
func (f *flowErase) Run(ctx context.Context, s streams) error {
	service, err := f.stuck()
	if err != nil {
		return err
	}
	if f.DryRun {
		slots, err := service.Slots(ctx, f.Flows)
		if err != nil {
			return err
		}
		if f.Output == "text" {
			for _, flow := range f.Flows {
				if _, err := fmt.Fprintf(s.out, "%s holds %d slots of flow %s\n", service.Journal(), slots[flow], deadletter.Line([]byte(flow), 256)); err != nil {
					return err
				}
			}
		}
	}
	var commands []operator.Command
	for _, flow := range f.Flows {
		commands = append(commands, operator.Command{Do: operator.Erase, Target: operator.Target{Key: flow}})
	}
	return f.tell(ctx, s, f.Output, service, true, commands)
}
