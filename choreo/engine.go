package choreo

import "context"

type engine struct{}

func (e *engine) publish(ctx context.Context, em Emission, p publication) (string, error) {
	return "", ErrNotRunning
}

type verdict int

type run struct {
	trigger *triggerEvent
}
type triggerEvent struct {
	Type string
	Data []byte
}

func (r *run) metadata() Metadata { return Metadata{} }

type stepRun struct {
	*stepPlan
	on *alternativePlan
}
type stepTrigger struct {
	*stepPlan
	trigger *triggerPlan
}
type stateApply struct {
	*statePlan
	when    *transitionPlan
	allowed map[string]*eventDecl
}
type reactionRun struct {
	*reactionPlan
	allowed map[string]*eventDecl
	react   func(ctx context.Context, data []byte) (Emissions, error)
}

func (s *stepRun) handle(r *run) verdict     { return 0 }
func (s *stepTrigger) handle(r *run) verdict { return 0 }
func (s *stateApply) handle(r *run) verdict  { return 0 }
func (s *reactionRun) handle(r *run) verdict { return 0 }

func (s *stepRun) name() string     { return s.step }
func (s *stepTrigger) name() string { return s.step }
func (s *stateApply) name() string  { return s.state }
func (s *reactionRun) name() string { return s.reaction }

func (s *stepRun) settings() policy     { return s.policy }
func (s *stepTrigger) settings() policy { return s.policy }
func (s *stateApply) settings() policy  { return policy{} }
func (s *reactionRun) settings() policy { return s.policy }
