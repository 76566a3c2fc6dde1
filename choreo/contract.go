package choreo

import (
	"cmp"
	"mime"
	"slices"

	"github.com/choreography-go/choreography/choreo/contract"
)

// Contract returns what the service hears and says, as data: for comparison
// with those of other services (contract.Check), and for people. Its error is
// the *[DeclarationError] of [Service.Validate].
func (s *Service) Contract() (contract.Contract, error) {
	p := newPlan(s)
	if err := p.err(); err != nil {
		return contract.Contract{}, err
	}
	return p.contract(), nil
}

func (p *plan) contract() contract.Contract {
	c := contract.Contract{Service: p.service, Tasks: int(p.tasks)}
	for _, h := range p.hears {
		heard := contract.Heard{Event: h.event.contract(), ViaInbox: h.stateful && p.topics[h.event.Topic].Inbox}
		for _, x := range h.handlers {
			heard.By = append(heard.By, contract.Hearer{Name: x.name(), Role: roleOf(x)})
		}
		c.Hears = append(c.Hears, heard)
	}
	slices.SortFunc(c.Hears, func(a, b contract.Heard) int { return cmp.Compare(a.Type, b.Type) })

	said := map[string]*contract.Said{}
	say := func(d *eventDecl, by contract.Sayer) {
		x := said[d.Type]
		if x == nil {
			x = &contract.Said{Event: d.contract(), Outcome: d.Outcome.String()}
			said[d.Type] = x
		}
		if !slices.Contains(x.By, by) {
			x.By = append(x.By, by)
		}
	}
	for _, d := range p.starts {
		say(d, contract.Sayer{Kind: kindStarted})
	}
	for _, s := range p.steps {
		for _, x := range s.says() {
			say(x.event, contract.Sayer{Name: s.step, Kind: x.kind})
		}
	}
	for _, s := range p.states {
		for _, d := range s.emits {
			say(d, contract.Sayer{Name: s.state, Kind: kindDid})
		}
	}
	for _, r := range p.reacts {
		for _, d := range r.emits {
			say(d, contract.Sayer{Name: r.reaction, Kind: kindDid})
		}
	}
	for _, d := range p.deadlines {
		say(d.emit, contract.Sayer{Name: d.deadline, Kind: kindExpired})
		x := contract.Deadline{Name: d.deadline, Emits: d.emit.Type}
		for _, a := range d.after {
			x.After = append(x.After, a.event.Type)
		}
		for _, e := range d.unless {
			x.Unless = append(x.Unless, e.Type)
		}
		if d.fixed > 0 {
			x.Within = d.fixed.String()
		}
		c.Deadlines = append(c.Deadlines, x)
	}
	for _, s := range p.steps {
		c.Limits = s.policy.limits.contract(s.step, c.Limits)
		if s.join == nil {
			continue
		}
		x := contract.Join{Name: s.step, Emits: s.emit.Type}
		for _, h := range s.join.halves {
			var types []string
			for _, a := range h.on {
				types = append(types, a.event.Type)
			}
			x.Halves = append(x.Halves, types)
		}
		c.Joins = append(c.Joins, x)
	}
	for _, r := range p.reacts {
		c.Limits = r.policy.limits.contract(r.reaction, c.Limits)
	}
	for _, x := range said {
		c.Says = append(c.Says, *x)
	}
	slices.SortFunc(c.Says, func(a, b contract.Said) int { return cmp.Compare(a.Type, b.Type) })
	return c
}

// contract adds the limits of a handler, if it has any.
func (l *limits) contract(name string, all []contract.Limit) []contract.Limit {
	if l == nil {
		return all
	}
	x := contract.Limit{Name: name, MaxConcurrent: l.maxConcurrent}
	if b := l.breaker.withDefaults(); b.Failures > 0 {
		x.Breaker = &contract.Breaker{Failures: b.Failures, Of: b.Of, Probes: b.Probes, Open: b.Open.String()}
	}
	return append(all, x)
}

func roleOf(h handler) contract.Role {
	switch h := h.(type) {
	case *stepRun:
		if h.join != nil {
			return contract.Joins
		}
	case *stepTrigger:
		if h.trigger.undoes {
			return contract.Compensates
		}
		return contract.Cancels
	case *stateApply:
		return contract.Changes
	case *reactionRun:
		return contract.Reacts
	case *deadlineSet:
		return contract.Sets
	case *deadlineMet:
		return contract.Meets
	}
	return contract.Runs
}

func (d *eventDecl) contract() contract.Event {
	e := contract.Event{Type: d.Type, Topic: d.Topic, ContentType: d.codec.ContentType()}
	if t, _, err := mime.ParseMediaType(e.ContentType); err != nil || t != "application/json" {
		e.Note = "no JSON, so there is no schema"
		return e
	}
	schema, err := contract.SchemaOf(d.payload)
	if err != nil {
		e.Note = err.Error()
		return e
	}
	e.Schema = schema
	return e
}
