package choreo

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/choreography-go/choreography/choreo/internal/sched"
)

// newDoors makes the doors of a running service, by step.
func (e *engine) newDoors() map[string]*door {
	var doors map[string]*door
	add := func(name string, l *limits) {
		if l == nil {
			return
		}
		d := &door{
			step: name, maxConcurrent: l.maxConcurrent, answered: l.answered, log: e.log.With("step", name), stopping: &e.stopping,
			waiting: map[sched.Key]*waiter{}, summon: e.summon,
		}
		d.opened, d.open, d.full = e.metrics.door(name)
		if l.breaker.Failures > 0 {
			d.circuit = newCircuit(l.breaker)
		}
		if doors == nil {
			doors = map[string]*door{}
		}
		doors[name] = d
	}
	for _, s := range e.plan.steps {
		add(s.step, s.policy.limits)
	}
	for _, r := range e.plan.reacts {
		add(r.reaction, r.policy.limits)
	}
	return doors
}

// doorOf is the door of a handler, nil if it has none.
func (e *engine) doorOf(p policy, name string) *door {
	if p.limits == nil {
		return nil
	}
	return e.doors[name]
}

// summon is how a waiter comes that was called.
func (e *engine) summon(key sched.Key, o *owned, parked bool) {
	if parked {
		e.sched.Submit(key, &summons{resumption{e: e, o: o, key: key.Name}})
	}
	e.sched.Wake(key) // or what waits of the key in memory looks after its queue
}

// summons goes on with the head of a queue that was called to a door.
type summons struct{ resumption }

// Run gives the promise back if the event does not want to pass the door any more.
func (s *summons) Run() time.Duration {
	again := s.resumption.Run()
	for _, d := range s.e.doors {
		d.forget(sched.Key{Task: s.o.partition, Name: s.key})
	}
	return again
}

// doorsBehind are the doors of what the events of a topic set off.
func (e *engine) doorsBehind(topic string) (all []*door) {
	for name, d := range e.doors {
		if e.plan.sets(name, func(heard *eventDecl) bool { return e.names.topic(heard.Topic) == topic }) {
			all = append(all, d)
		}
	}
	return all
}

// sets reports whether an event of that kind sets a step or reaction off.
func (p *plan) sets(name string, is func(*eventDecl) bool) bool {
	for _, h := range p.hears {
		for _, x := range h.handlers {
			switch x.(type) {
			case *stepRun, *reactionRun:
				if x.name() == name && is(h.event) {
					return true
				}
			}
		}
	}
	return false
}

// letIn reports whether a source may be read although what it sets off waits at
// doors. It may not when those who wait in memory take an eighth of the room, or
// when a provider is away and all but an eighth of what may be parked in the task
// is: the rest is for others.
func (e *engine) letIn(in *input) bool {
	for _, d := range in.doors {
		if d.inMemory.Load() >= int64(e.partOfRoom()) || d.away.Load() && in.owned.store.Parked() >= e.nearlyParked() {
			return false
		}
	}
	return true
}

// nearlyParked is how much may be parked in a task because a provider is away.
func (e *engine) nearlyParked() int {
	return e.cfg.MaxParkedPerTask - e.cfg.MaxParkedPerTask/8
}

// partOfRoom is how many records may wait in memory for one reason.
func (e *engine) partOfRoom() int { return max(1, e.cfg.MaxInFlight/8) }

// doorStates are the states of all doors, by their steps.
func (e *engine) doorStates() []doorStatus {
	all := make([]doorStatus, 0, len(e.doors))
	for _, name := range slices.Sorted(maps.Keys(e.doors)) {
		all = append(all, e.doors[name].status())
	}
	return all
}

// doorReasons says which tasks are not read because a provider is away.
func (e *engine) doorReasons(parked []taskParking) (all []string) {
	states := e.doorStates()
	for _, p := range parked {
		for _, s := range states {
			if e.doors[s.Step].away.Load() && p.Events >= e.nearlyParked() && p.Events < e.cfg.MaxParkedPerTask {
				all = append(all, fmt.Sprintf("task %d: the breaker of %q is %s, and %d events are parked, nearly MAX_PARKED_PER_TASK, %d: the reading of what sets it off pauses until its provider answers",
					p.task, s.Step, s.Breaker, p.Events, e.cfg.MaxParkedPerTask))
			}
		}
	}
	slices.Sort(all)
	return all
}

// closeDoors ends what doors have started.
func (e *engine) closeDoors() {
	for _, d := range e.doors {
		d.close()
	}
}
