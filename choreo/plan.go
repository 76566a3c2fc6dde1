package choreo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/choreography-go/choreography/choreo/cloudevent"
)

// plan is a service's declarations, compiled: what the engine runs and what the
// contract is read from. It is built once and then only read.
type plan struct {
	service string
	tasks   int32
	retain  Retention
	retains bool // it is declared

	hears     map[string]*hearing // by event type
	steps     []*stepPlan
	deadlines []*deadlinePlan
	states    []*statePlan
	reacts    []*reactionPlan
	starts    []*eventDecl
	https     []HTTP
	topics    map[string]Topic // declared, by name without prefix

	events     map[string]*eventDecl // every declared event, by type
	forms      map[*eventDecl][]saidForm
	bindStates []func(stateReader) // give each State its reader once the service runs
	mistakes   []error
}

// hearing is what the service does with one type of event, deadlines first, then
// in the order of the declarations.
type hearing struct {
	event    *eventDecl
	handlers []handler
	stateful bool // some handler keeps flow state: the record must reach the flow's task
	passes   bool // it waits behind no parked event
}

// handler is one declaration's part in an event.
type handler interface {
	// handle works on the run's event. It returns waiting(d) to be called again
	// after d, or done.
	handle(r *run) verdict
	name() string
	settings() policy
}

// policy is what the engine keeps for a handler's attempts.
type policy struct {
	retry   Retry
	timeout time.Duration
	limits  *limits // nil: its attempts pass no door
}

const (
	defaultTasks    = 8
	defaultAttempts = 5
	defaultInPlace  = 3
	defaultFirst    = 100 * time.Millisecond
	defaultMax      = 30 * time.Second
	defaultTimeout  = 30 * time.Second
	defaultRetain   = 24 * time.Hour
	defaultGrace    = time.Minute
)

// alternativePlan reads one of the event types that a step accepts.
type alternativePlan struct {
	event  *eventDecl
	decode func([]byte) (any, error)
}

type failurePlan struct {
	event *eventDecl
	match func(error) (error, bool)
	make  func(in any, err error) any
}

// stepPlan is a Step without its type parameters.
type stepPlan struct {
	step      string
	formerly  []string
	on        []alternativePlan // of a join: of all its halves
	join      *joinPlan         // nil: each of them sets the step off
	do        func(ctx context.Context, in any) (any, error)
	emit      *eventDecl
	fail      []failurePlan
	giveUp    *failurePlan
	undo      func(ctx context.Context, in, out any) (any, error)
	undone    *eventDecl
	unknown   func(ctx context.Context, in any) error
	decodeOut func([]byte) (any, error)
	triggers  []triggerPlan
	pivot     bool
	policy    policy
}

// triggerPlan is one event that compensates or cancels a step.
type triggerPlan struct {
	on     *eventDecl
	undoes bool          // undoes runs
	cancel *Cancellation // answers when nothing ran; nil: in silence
}

// says lists every event the step may say, with the kind of saying.
func (s *stepPlan) says() []saying {
	all := []saying{{s.emit, kindDid}}
	for _, f := range s.fail {
		all = append(all, saying{f.event, kindFailed})
	}
	if s.giveUp != nil {
		all = append(all, saying{s.giveUp.event, kindGaveUp})
	}
	if s.undone != nil {
		all = append(all, saying{s.undone, kindUndone})
	}
	for _, t := range s.triggers {
		if t.cancel != nil {
			all = append(all, saying{t.cancel.emit, kindCancelled})
		}
	}
	return all
}

type saying struct {
	event *eventDecl
	kind  string
}

// Kinds of saying, as the choreokind attribute of events has them.
const (
	kindStarted   = "started"
	kindDid       = "did"
	kindFailed    = "failed"
	kindGaveUp    = "gaveup"
	kindUndone    = "undone"
	kindCancelled = "cancelled"
	kindExpired   = "expired"
)

type statePlan struct {
	state  string
	when   []transitionPlan
	retain time.Duration
	emits  []*eventDecl
}

type transitionPlan struct {
	on    *eventDecl
	emits []*eventDecl
	// apply folds an event into the encoded state; nil is the zero state.
	apply func(state, data []byte) (next []byte, out Emissions, err error)
}

type reactionPlan struct {
	reaction string
	on       []*eventDecl
	emits    []*eventDecl
	once     bool
	policy   policy
}

func newPlan(s *Service) *plan {
	p := &plan{
		service: s.name, hears: map[string]*hearing{}, topics: map[string]Topic{}, events: map[string]*eventDecl{},
	}
	for i, d := range s.declarations {
		if d == nil || reflect.ValueOf(d).Kind() == reflect.Pointer && reflect.ValueOf(d).IsNil() {
			p.mistake("declaration %d is nil", i+1)
			continue
		}
		d.declare(p)
	}
	for _, h := range p.hears {
		h.deadlinesFirst()
	}
	if p.tasks == 0 {
		p.tasks = defaultTasks
	}
	if p.retain.Flow == 0 {
		p.retain.Flow = defaultRetain
	}
	if p.retain.Grace == 0 {
		p.retain.Grace = defaultGrace
	}
	for _, st := range p.states {
		if st.retain == 0 {
			st.retain = p.retain.Flow
		}
	}
	p.validate()
	if len(p.mistakes) == 0 {
		p.makeForms()
	}
	return p
}

// saidForm is what the events have in common that a step, reaction, state or
// deadline says of one declaration.
type saidForm struct {
	step, kind string
	form       *cloudevent.Form
}

// form finds the form of what is said. Hardly ever do several say the same.
func (p *plan) form(d *eventDecl, step, kind string) *cloudevent.Form {
	for _, f := range p.forms[d] {
		if f.step == step && f.kind == kind {
			return f.form
		}
	}
	return nil
}

// makeForms prepares the writing of every event that handlers may say.
func (p *plan) makeForms() {
	p.forms = map[*eventDecl][]saidForm{}
	add := func(step, kind string, d *eventDecl) {
		form, err := cloudevent.NewForm(cloudevent.Event{
			Source: p.source(), Type: d.Type, DataContentType: d.codec.ContentType(), Service: p.service, Step: step,
			Kind: cloudevent.Kind(kind), Outcome: d.Outcome.String(),
		})
		if err != nil {
			p.mistake("%q cannot say event %q: %w", step, d.Type, err)
			return
		}
		p.forms[d] = append(p.forms[d], saidForm{step, kind, form})
	}
	for _, s := range p.steps {
		for _, say := range s.says() {
			add(s.step, say.kind, say.event)
		}
	}
	for _, s := range p.states {
		for _, d := range s.emits {
			add(s.state, kindDid, d)
		}
	}
	for _, r := range p.reacts {
		for _, d := range r.emits {
			add(r.reaction, kindDid, d)
		}
	}
	for _, d := range p.deadlines {
		add(d.deadline, kindExpired, d.emit)
	}
}

// source is the CloudEvents source of what the service says.
func (p *plan) source() string { return "/" + p.service }

func (p *plan) mistake(format string, a ...any) {
	p.mistakes = append(p.mistakes, fmt.Errorf(format, a...))
}

func (p *plan) err() error {
	if len(p.mistakes) == 0 {
		return nil
	}
	return &DeclarationError{Service: p.service, Mistakes: p.mistakes}
}

// DeclarationError lists every mistake of a service's declarations.
type DeclarationError struct {
	Service  string
	Mistakes []error
}

func (e *DeclarationError) Error() string {
	return fmt.Sprintf("choreo: service %q is declared wrongly:\n%v", e.Service, errors.Join(e.Mistakes...))
}

// Unwrap returns the mistakes.
func (e *DeclarationError) Unwrap() []error { return e.Mistakes }

// start is the event of that type which the service may publish, or nil.
func (p *plan) start(typ string) *eventDecl {
	for _, d := range p.starts {
		if d.Type == typ {
			return d
		}
	}
	return nil
}

// hear registers a handler for an event type.
func (p *plan) hear(d *eventDecl, h handler, stateful bool) {
	p.declareEvent(d)
	x := p.hears[d.Type]
	if x == nil {
		x = &hearing{event: d}
		p.hears[d.Type] = x
	}
	x.handlers = append(x.handlers, h)
	x.stateful = x.stateful || stateful
}

// deadlinesFirst lets deadlines hear the event before all others, whose failures
// must not delay them.
func (h *hearing) deadlinesFirst() {
	first := func(x handler) int {
		switch x.(type) {
		case *deadlineSet, *deadlineMet:
			return 0
		}
		return 1
	}
	slices.SortStableFunc(h.handlers, func(a, b handler) int { return first(a) - first(b) })
}

// declareEvent notes an event, and that one type is declared alike everywhere.
func (p *plan) declareEvent(d *eventDecl) {
	old, ok := p.events[d.Type]
	if !ok {
		p.events[d.Type] = d
		return
	}
	if old.Topic != d.Topic {
		p.mistake("event %q: Topic is %q in one place and %q in another; declare the event once and use it in both", d.Type, old.Topic, d.Topic)
	}
	if old.payload != d.payload {
		p.mistake("event %q: its payload is %v in one place and %v in another; a service has one view of an event", d.Type, old.payload, d.payload)
	}
	if reflect.TypeOf(old.codec) != reflect.TypeOf(d.codec) || old.codec.ContentType() != d.codec.ContentType() {
		p.mistake("event %q: Codec is %T in one place and %T in another", d.Type, old.codec, d.codec)
	}
	if old.Outcome != d.Outcome {
		p.mistake("event %q: Outcome is %q in one place and %q in another", d.Type, old.Outcome, d.Outcome)
	}
}

func (s Step[In, Out]) declare(p *plan) {
	x := &stepPlan{
		step: s.Name, formerly: s.Formerly, emit: s.Emit.decl(), pivot: s.Pivot,
		policy: policy{retry: s.Breaker.attempts(s.Retry), timeout: s.Timeout},
	}
	x.policy.limits = limitsOf(s.Breaker, s.MaxConcurrent, x.answered)
	if x.policy.timeout == 0 {
		x.policy.timeout = defaultTimeout
	}
	p.steps = append(p.steps, x)
	if s.On == nil {
		p.mistake("step %q: On is missing: say which event sets it off", s.Name)
	} else {
		var bad string
		x.on = plansOf(s.On.alternatives())
		if x.join, bad = s.On.joins(); bad != "" {
			p.mistake("step %q: On: %s", s.Name, bad)
		}
		if x.join == nil && len(x.on) == 0 {
			p.mistake("step %q: On names no event: give AnyOf at least one", s.Name)
		}
		if x.join != nil {
			for _, h := range x.join.halves {
				x.on = append(x.on, h.on...)
			}
			for _, bad := range x.join.mistakes() {
				p.mistake("step %q: On: %s", s.Name, bad)
			}
		}
	}
	if s.Do == nil {
		p.mistake("step %q: Do is missing: give the function to call", s.Name)
	} else {
		x.do = func(ctx context.Context, in any) (any, error) { return s.Do(ctx, in.(In)) }
	}
	x.decodeOut = func(b []byte) (any, error) { return guarded(decoder[Out](x.emit.codec), b) }
	for _, f := range s.Fail {
		if c := compileFailure(f); c != nil {
			x.fail = append(x.fail, *c)
		} else {
			p.mistake("step %q: Fail has an empty Failure; make it with FailAs or FailWith", s.Name)
		}
	}
	x.giveUp = compileFailure(s.GiveUp)
	if c := s.Compensate; c.declared() {
		x.undone = c.event
		if c.undo == nil {
			p.mistake("step %q: Compensate has no undo function", s.Name)
		} else {
			x.undo = func(ctx context.Context, in, out any) (any, error) { return c.undo(ctx, in.(In), out.(Out)) }
		}
		if c.unknown != nil {
			x.unknown = func(ctx context.Context, in any) error { return c.unknown(ctx, in.(In)) }
		}
		for _, on := range c.on {
			x.triggers = append(x.triggers, triggerPlan{on: on, undoes: true})
		}
		if len(c.on) == 0 {
			p.mistake("step %q: Compensate names no event that sets it off; give Undo at least one", s.Name)
		}
	} else if c.unknown != nil && s.Pivot {
		x.unknown = func(ctx context.Context, in any) error { return c.unknown(ctx, in.(In)) }
	} else if c.unknown != nil {
		p.mistake("step %q: Unknown without Undo; a run whose result is known must be undone too", s.Name)
	}
	for i := range s.Cancel {
		c := &s.Cancel[i]
		if c.on == nil {
			p.mistake("step %q: Cancel has an empty Cancellation; make it with CancelOn", s.Name)
			continue
		}
		found := false
		for j := range x.triggers {
			if x.triggers[j].on.Type == c.on.Type {
				if x.triggers[j].cancel != nil {
					p.mistake("step %q: Cancel answers event %q twice", s.Name, c.on.Type)
				}
				x.triggers[j].cancel, found = c, true
			}
		}
		if !found {
			x.triggers = append(x.triggers, triggerPlan{on: c.on, cancel: c})
		}
	}
	for i := range x.on {
		p.hear(x.on[i].event, &stepRun{x, &x.on[i]}, true)
	}
	for i := range x.triggers {
		p.hear(x.triggers[i].on, &stepTrigger{x, &x.triggers[i]}, true)
	}
	for _, say := range x.says() {
		p.declareEvent(say.event)
	}
}

func compileFailure[In any](f Failure[In]) *failurePlan {
	if f.event == nil {
		return nil
	}
	return &failurePlan{event: f.event, match: f.match, make: func(in any, err error) any { return f.make(in.(In), err) }}
}

func (r Reaction[In]) declare(p *plan) {
	x := &reactionPlan{reaction: r.Name, once: r.Once, policy: policy{
		retry: r.Breaker.attempts(r.Retry), timeout: r.Timeout, limits: limitsOf(r.Breaker, r.MaxConcurrent, rejected),
	}}
	p.reacts = append(p.reacts, x)
	allowed := map[string]*eventDecl{}
	for _, e := range r.Emits {
		d := e.decl()
		allowed[d.Type] = d
		x.emits = append(x.emits, d)
		p.declareEvent(d)
	}
	if r.Do == nil {
		p.mistake("reaction %q: Do is missing: give the function to call", r.Name)
	}
	if r.On == nil {
		p.mistake("reaction %q: On is missing: say which event sets it off", r.Name)
		return
	}
	if j, bad := r.On.joins(); j != nil || bad != "" {
		p.mistake("reaction %q: On joins events, which only a Step can: it has to keep what has come", r.Name)
		return
	}
	if len(r.On.alternatives()) == 0 {
		p.mistake("reaction %q: On names no event: give AnyOf at least one", r.Name)
	}
	for _, a := range r.On.alternatives() {
		x.on = append(x.on, a.event)
		p.hear(a.event, &reactionRun{reactionPlan: x, allowed: allowed, react: func(ctx context.Context, data []byte) (Emissions, error) {
			in, err := a.read(data)
			if err != nil {
				return nil, &decodeError{a.event.Type, err}
			}
			return r.Do(ctx, in)
		}}, r.Once)
	}
}

func (s *State[S]) declare(p *plan) {
	x := &statePlan{state: s.Name, retain: s.Retain}
	p.states = append(p.states, x)
	codec := s.codec()
	if len(s.When) == 0 {
		p.mistake("state %q: When is empty, so it never changes", s.Name)
	}
	for _, t := range s.When {
		if t.on == nil {
			p.mistake("state %q: When has an empty Transition; make it with When, Then or ThenAny", s.Name)
			continue
		}
		x.when = append(x.when, transitionPlan{on: t.on, emits: t.emits, apply: func(state, data []byte) ([]byte, Emissions, error) {
			var v S
			if state != nil {
				if err := codec.Unmarshal(state, &v); err != nil {
					return nil, nil, fmt.Errorf("read the kept state %q as %T: %w", s.Name, v, err)
				}
			}
			out, err := t.apply(&v, data)
			if err != nil {
				return nil, nil, err
			}
			next, err := codec.Marshal(v)
			if err != nil {
				return nil, nil, fmt.Errorf("encode state %q: %w", s.Name, err)
			}
			return next, out, nil
		}})
		x.emits = append(x.emits, t.emits...)
	}
	for i := range x.when {
		t := &x.when[i]
		allowed := map[string]*eventDecl{}
		for _, d := range t.emits {
			allowed[d.Type] = d
			p.declareEvent(d)
		}
		p.hear(t.on, &stateApply{x, t, allowed}, true)
	}
	p.bindStates = append(p.bindStates, func(r stateReader) { s.reader.Store(&r) })
}

func (d starts) declare(p *plan) {
	for _, e := range d {
		p.starts = append(p.starts, e)
		p.declareEvent(e)
	}
}

func (h HTTP) declare(p *plan) {
	if h.Handler == nil {
		p.mistake("HTTP %q: Handler is missing", h.Addr)
	}
	p.https = append(p.https, h)
}

func (t Topic) declare(p *plan) {
	if _, ok := p.topics[t.Name]; ok {
		p.mistake("topic %q is declared twice", t.Name)
	}
	p.topics[t.Name] = t
}

func (t Tasks) declare(p *plan) {
	if p.tasks != 0 {
		p.mistake("Tasks is declared twice")
	}
	if t < 1 {
		p.mistake("Tasks is %d; it must be at least 1", t)
	}
	p.tasks = int32(t)
}

func (r Retention) declare(p *plan) {
	p.validateRetention(r)
	p.retain, p.retains = r, true
}

// inputTopics are the topics that the service hears, without prefix, sorted.
func (p *plan) inputTopics() []string {
	seen := map[string]bool{}
	for _, h := range p.hears {
		seen[h.event.Topic] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

// outputTopics are the topics of what handlers say, without prefix, sorted.
func (p *plan) outputTopics() []string {
	seen := map[string]bool{}
	for said := range p.forms {
		seen[said.Topic] = true
	}
	return slices.Sorted(maps.Keys(seen))
}
