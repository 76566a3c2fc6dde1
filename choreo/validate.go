package choreo

import (
	"regexp"
	"slices"
	"time"
)

// Validate reports all mistakes of the service's declarations at once, as a
// *[DeclarationError], without connecting to anything.
func (s *Service) Validate() error { return newPlan(s).err() }

var (
	// durableName fits in topic names, transactional ids and journal keys.
	durableName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)
	topicName   = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,200}$`)
	eventType   = regexp.MustCompile(`^[!-~]{1,255}$`)
)

// longestWait is far beyond what anybody waits for, or remembers a flow; what is
// added to it or doubled still is a time.
const longestWait = 10 * 365 * 24 * time.Hour

const nameRule = "lower-case letters, digits, '.', '_' and '-', at most 63"

func (p *plan) validate() {
	if !durableName.MatchString(p.service) {
		p.mistake("service name %q: use %s", p.service, nameRule)
	}
	p.validateNames()
	p.validateEvents()
	for _, s := range p.steps {
		p.validateStep(s)
	}
	for _, r := range p.reacts {
		p.validateRetry("reaction", r.reaction, r.policy)
	}
	for _, d := range p.deadlines {
		p.validateDeadline(d)
	}
	for _, s := range p.states {
		switch {
		case s.retain == p.retain.Flow: // which is validated
		case s.retain < 0:
			p.mistake("state %q: Retain is %v; it must not be negative", s.state, s.retain)
		case s.retain > longestWait:
			p.mistake("state %q: Retain is %v; it must be at most %v", s.state, s.retain, longestWait)
		}
		seen := map[string]bool{}
		for _, t := range s.when {
			if seen[t.on.Type] {
				p.mistake("state %q: When has event %q twice", s.state, t.on.Type)
			}
			seen[t.on.Type] = true
		}
	}
	if len(p.steps)+len(p.reacts)+len(p.states)+len(p.deadlines)+len(p.starts) == 0 {
		p.mistake("nothing is declared: a service hears an event (Step, Reaction, State, Deadline) or says one (Starts)")
	}
}

// validateNames finds durable names that are malformed or not unique. Runs of
// different declarations must not share journal keys or event ids.
func (p *plan) validateNames() {
	used := map[string]string{}
	note := func(kind, name, field string) {
		if name == "" {
			p.mistake("%s: Name is missing; it is durable, so choose it well", kind)
			return
		}
		if !durableName.MatchString(name) {
			p.mistake("%s %q: %s: use %s", kind, name, field, nameRule)
		}
		if other, ok := used[name]; ok {
			p.mistake("%s %q: %s is already used by a %s; names are unique in a service", kind, name, field, other)
		}
		used[name] = kind
	}
	for _, s := range p.steps {
		note("step", s.step, "Name")
		for _, f := range s.formerly {
			note("step", f, "Formerly")
		}
	}
	for _, r := range p.reacts {
		note("reaction", r.reaction, "Name")
	}
	for _, s := range p.states {
		note("state", s.state, "Name")
	}
	for _, d := range p.deadlines {
		note("deadline", d.deadline, "Name")
		for _, f := range d.formerly {
			note("deadline", f, "Formerly")
		}
	}
}

func (p *plan) validateEvents() {
	types := make([]string, 0, len(p.events))
	for t := range p.events {
		types = append(types, t)
	}
	slices.Sort(types)
	own := []string{p.service + ".inbox", p.service + ".journal", p.service + ".dlq"}
	for _, t := range types {
		e := p.events[t]
		if t == "" {
			p.mistake("an event on topic %q: Type is missing", e.Topic)
			continue
		}
		if !eventType.MatchString(t) {
			p.mistake("event %q: Type must be 1 to 255 printable ASCII characters without spaces", t)
		}
		if e.Topic == "" {
			p.mistake("event %q: Topic is missing", t)
		} else if !topicName.MatchString(e.Topic) {
			p.mistake("event %q: Topic %q is not a Kafka topic name: letters, digits, '.', '_' and '-', at most 200", t, e.Topic)
		} else if slices.Contains(own, e.Topic) {
			p.mistake("event %q: Topic %q belongs to the runtime", t, e.Topic)
		}
		if e.Outcome > Failed {
			p.mistake("event %q: Outcome is %d; use Succeeded or Failed", t, e.Outcome)
		}
		if h := p.hears[t]; h != nil && h.stateful && e.key != nil && !p.topics[e.Topic].Inbox {
			p.mistake("event %q: Key is not the correlation id, but a step, state or deadline hears it; leave Key nil, or declare Topic{Name: %q, Inbox: true} to hear it by way of the inbox", t, e.Topic)
		}
	}
	for name, t := range p.topics {
		if !topicName.MatchString(name) {
			p.mistake("topic %q is not a Kafka topic name: letters, digits, '.', '_' and '-', at most 200", name)
		}
		if t.Partitions < 0 || t.Replication < 0 {
			p.mistake("topic %q: Partitions is %d and Replication is %d; neither may be negative", name, t.Partitions, t.Replication)
		}
		if t.From > Latest {
			p.mistake("topic %q: From is %d; use Earliest or Latest", name, t.From)
		}
	}
}

func (p *plan) validateRetention(r Retention) {
	if p.retains {
		p.mistake("Retention is declared twice; declare Flow and Grace in one")
	}
	if r.Flow < 0 || r.Grace < 0 {
		p.mistake("Retention: Flow is %v and Grace is %v; neither may be negative", r.Flow, r.Grace)
	}
	if r.Flow > longestWait {
		p.mistake("Retention: Flow is %v; it must be at most %v", r.Flow, longestWait)
	}
	if r.Grace > longestWait {
		p.mistake("Retention: Grace is %v; it must be at most %v", r.Grace, longestWait)
	}
}

func (p *plan) validateStep(s *stepPlan) {
	heard := map[string]bool{}
	for _, a := range s.on {
		if heard[a.event.Type] {
			p.mistake("step %q: On has event %q twice", s.step, a.event.Type)
		}
		heard[a.event.Type] = true
	}
	for _, t := range s.triggers {
		if heard[t.on.Type] {
			p.mistake("step %q: event %q sets the step off and compensates it; it can only do one", s.step, t.on.Type)
		}
		if s.emit != nil && t.on.Type == s.emit.Type {
			p.mistake("step %q: event %q is what the step says, and would compensate it at once", s.step, t.on.Type)
		}
	}
	if s.pivot && s.undone != nil {
		p.mistake("step %q: a Pivot has no Compensate: after it the flow only goes forward", s.step)
	}
	if s.giveUp != nil && s.undone != nil && s.unknown == nil {
		p.mistake("step %q: GiveUp and Compensate without Unknown: when the step was given up its effect may have happened, so say with Compensate.Unknown how to find out and undo it", s.step)
	}
	if s.giveUp != nil {
		for _, f := range s.fail {
			if f.event.Type == s.giveUp.event.Type {
				p.mistake("step %q: GiveUp says the business rejection %q; an outage must not be taken for a refusal", s.step, f.event.Type)
			}
		}
	}
	p.validateRetry("step", s.step, s.policy)
}

func (p *plan) validateDeadline(d *deadlinePlan) {
	after, unless := map[string]bool{}, map[string]bool{}
	for _, a := range d.after {
		if after[a.event.Type] {
			p.mistake("deadline %q: After has event %q twice", d.deadline, a.event.Type)
		}
		after[a.event.Type] = true
	}
	for _, e := range d.unless {
		switch {
		case after[e.Type]:
			p.mistake("deadline %q: event %q sets the deadline and meets it; it can only do one", d.deadline, e.Type)
		case unless[e.Type]:
			p.mistake("deadline %q: Unless has event %q twice", d.deadline, e.Type)
		}
		unless[e.Type] = true
	}
	if d.fixed > p.retain.Flow {
		p.mistake("deadline %q: Within is %v, longer than Retention.Flow, %v: what meets it may be forgotten before it is set; declare a longer Retention", d.deadline, d.fixed, p.retain.Flow)
	}
	p.validateRetry("deadline", d.deadline, d.policy)
}

func (p *plan) validateRetry(kind, name string, x policy) {
	p.validateLimits(kind, name, x)
	r := x.retry
	if r.Attempts < 0 {
		p.mistake("%s %q: Retry.Attempts is %d; it must be at least 1, or 0 for the default of %d", kind, name, r.Attempts, defaultAttempts)
	}
	if full := r.withDefaults(); r.InPlace < 0 || r.Attempts >= 0 && full.InPlace > full.Attempts {
		p.mistake("%s %q: Retry.InPlace is %d; it must be 1 to Retry.Attempts, %d, or 0 for the default of %d", kind, name, r.InPlace, full.Attempts, defaultInPlace)
	}
	for _, d := range []struct {
		field string
		value time.Duration
	}{{"Retry.First", r.First}, {"Retry.Max", r.Max}, {"Retry.Over", r.Over}, {"Timeout", x.timeout}} {
		if d.value < 0 {
			p.mistake("%s %q: %s is %v; it must not be negative", kind, name, d.field, d.value)
		} else if d.value > longestWait {
			p.mistake("%s %q: %s is %v; it must be at most %v", kind, name, d.field, d.value, longestWait)
		}
	}
	full := r.withDefaults()
	if full.First > full.Max {
		p.mistake("%s %q: Retry.First is %v, longer than Retry.Max, %v", kind, name, full.First, full.Max)
	}
	if kind == "deadline" || p.retain.Flow < 0 { // the former's attempts have no end
		return
	}
	if r.Over > p.retain.Flow && r.Over <= longestWait {
		p.mistake("%s %q: Retry.Over is %v, longer than Retention.Flow, %v: "+outlives, kind, name, r.Over, p.retain.Flow)
	}
	if full.First < 0 || full.First > full.Max || full.Max > longestWait { // there is no saying how long they wait
		return
	}
	if x.limits != nil && x.limits.breaker.Failures != 0 { // it adds attempts, so only each wait has a bound
		if wait := full.lastWait(); wait > p.retain.Flow {
			p.mistake("%s %q: a wait of Retry takes up to %v, longer than Retention.Flow, %v: "+outlives+", or a shorter Retry.First or Retry.Max",
				kind, name, wait, p.retain.Flow)
		}
	} else if waits := full.waits(); r.Over == 0 && waits > p.retain.Flow {
		p.mistake("%s %q: the %d waits of Retry take up to %v, longer than Retention.Flow, %v: "+outlives+", fewer Retry.Attempts, or Retry.Over",
			kind, name, full.Attempts-1, waits, p.retain.Flow)
	}
}

const outlives = "what others remember of the flow may be forgotten before it is given up; declare a longer Retention"

// waits is how long the waits between all attempts may take together, at most
// longestWait.
func (r Retry) waits() (all time.Duration) {
	wait := r.First
	for left := r.Attempts - 1; left > 0; left-- {
		if wait >= r.Max {
			if r.Max > 0 && time.Duration(left) > (longestWait-all)/r.Max {
				return longestWait
			}
			return all + time.Duration(left)*r.Max
		}
		if all += wait; all > longestWait {
			return longestWait
		}
		wait *= 2
	}
	return all
}

// lastWait is how long the wait before the last attempt may take: no other takes
// longer.
func (r Retry) lastWait() time.Duration {
	if r.Attempts < 2 {
		return 0
	}
	wait := r.First
	for left := r.Attempts - 2; left > 0 && wait < r.Max; left-- {
		wait *= 2
	}
	return min(wait, r.Max)
}

func (r Retry) withDefaults() Retry {
	if r.Attempts == 0 {
		r.Attempts = defaultAttempts
	}
	if r.InPlace == 0 {
		r.InPlace = min(defaultInPlace, r.Attempts)
	}
	if r.First == 0 {
		r.First = defaultFirst
	}
	if r.Max == 0 {
		r.Max = max(defaultMax, r.First)
	}
	return r
}
