// Package contract holds what services promise each other as data: which types
// of events a service hears, which it says, on which topics and with which
// payloads; and Check, which finds where the promises of several services do not
// fit together, before they are deployed.
//
// It owns the data, its JSON encoding and the rules of compatibility. It knows
// nothing of the runtime: a contract is made by choreo.Service.Contract, printed
// by the contract command and served under /contract.
package contract

import (
	"encoding/json"
	"fmt"

	"github.com/google/jsonschema-go/jsonschema"
)

// Version is the version of the JSON encoding. It grows when a reader of the
// older one would misunderstand; fields and roles may be added without that.
const Version = 1

// Contract is what one service promises.
type Contract struct {
	// Service is the service's name.
	Service string `json:"service"`
	// Tasks is the number of partitions of its inbox and journal.
	Tasks int `json:"tasks"`
	// Hears are the types of events that it hears, by type.
	Hears []Heard `json:"hears"`
	// Says are the types of events that it says, by type.
	Says []Said `json:"says"`
	// Deadlines are what it waits for, in the order of the declarations.
	Deadlines []Deadline `json:"deadlines,omitempty"`
	// Joins are the steps that wait for several events of a flow, in the order of
	// the declarations.
	Joins []Join `json:"joins,omitempty"`
	// Limits are how it spares what it calls, in the order of the declarations.
	Limits []Limit `json:"limits,omitempty"`
}

// Event is a type of event as one service sees it.
type Event struct {
	// Type is the CloudEvents type.
	Type string `json:"type"`
	// Topic carries it, without the environment's prefix.
	Topic string `json:"topic"`
	// ContentType is the datacontenttype of its payload.
	ContentType string `json:"contentType"`
	// Schema describes the payload; nil if it is not JSON or cannot be
	// described, see Note.
	Schema *jsonschema.Schema `json:"schema,omitempty"`
	// Note says why there is no schema.
	Note string `json:"note,omitempty"`
}

// Heard is a type of event that a service hears.
type Heard struct {
	Event
	// ViaInbox says that its topic is declared not to be keyed by correlation
	// id, so that stateful handlers hear it through the service's inbox.
	ViaInbox bool `json:"viaInbox,omitempty"`
	// By are the handlers that hear it, in the order in which they are called.
	By []Hearer `json:"by"`
}

// Hearer is a handler that hears an event.
type Hearer struct {
	// Name is the name of the step, reaction, state or deadline.
	Name string `json:"name"`
	// Role is what the handler does with the event. Readers must bear others
	// than those named here.
	Role Role `json:"role"`
}

// Role is what a handler does with an event.
type Role string

// The roles.
const (
	Runs        Role = "runs"        // the event sets a step off
	Compensates Role = "compensates" // the event undoes a step's runs, and cancels it if there are none
	Cancels     Role = "cancels"     // the event cancels a step that has not run
	Changes     Role = "changes"     // the event changes a state
	Reacts      Role = "reacts"      // the event sets a reaction off
	Sets        Role = "sets"        // the event sets a deadline
	Meets       Role = "meets"       // the event meets a deadline
	Joins       Role = "joins"       // the event is one of those that set a step off together
)

// Said is a type of event that a service says.
type Said struct {
	Event
	// Outcome is "succeeded" or "failed" if the event ends its flow.
	Outcome string `json:"outcome,omitempty"`
	// By are the occasions on which it is said.
	By []Sayer `json:"by"`
}

// Sayer is an occasion on which an event is said.
type Sayer struct {
	// Name is the name of the step, reaction, state or deadline; empty for what is
	// published outside handlers.
	Name string `json:"name,omitempty"`
	// Kind is the choreokind of the events: started, did, failed, gaveup, undone,
	// cancelled or expired. Readers must bear others.
	Kind string `json:"kind"`
}

// Deadline says that unless one of some events follows another in a flow, the
// service says an event.
type Deadline struct {
	// Name is the name of the deadline.
	Name string `json:"name"`
	// After and Unless are the types of events that set and that meet it.
	After  []string `json:"after"`
	Unless []string `json:"unless"`
	// Within is how long it waits, as Go writes durations; empty if that depends
	// on the event.
	Within string `json:"within,omitempty"`
	// Emits is the type of the event that it says.
	Emits string `json:"emits"`
}

// Join says that a step runs when several events of a flow have come.
type Join struct {
	// Name is the name of the step.
	Name string `json:"name"`
	// Halves are what it waits for: of each half the types of events that will do.
	Halves [][]string `json:"halves"`
	// Emits is the type of the event that it says.
	Emits string `json:"emits"`
}

// Limit says how a step or reaction spares what it calls.
type Limit struct {
	// Name is the name of the step or reaction.
	Name string `json:"name"`
	// MaxConcurrent is how many attempts an instance makes at once; zero if there
	// is no such limit.
	MaxConcurrent int `json:"maxConcurrent,omitempty"`
	// Breaker keeps attempts from it while it is away; nil if there is none.
	Breaker *Breaker `json:"breaker,omitempty"`
}

// Breaker is a circuit breaker: so many Failures of the last attempts open it, and
// while it is half-open it lets so many Probes through.
type Breaker struct {
	Failures int `json:"failures"`
	Of       int `json:"of"`
	Probes   int `json:"probes"`
	// Open is how long it stays open, as Go writes durations.
	Open string `json:"open"`
}

// MarshalJSON adds the version.
func (c Contract) MarshalJSON() ([]byte, error) {
	type plain Contract
	p := plain(c)
	if p.Hears == nil {
		p.Hears = []Heard{}
	}
	if p.Says == nil {
		p.Says = []Said{}
	}
	return json.Marshal(struct {
		Version int `json:"version"`
		plain
	}{Version, p})
}

// UnmarshalJSON refuses versions that this package does not know, and ignores
// unknown fields.
func (c *Contract) UnmarshalJSON(b []byte) error {
	type plain Contract
	var v struct {
		Version int `json:"version"`
		plain
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return fmt.Errorf("read a contract: %w", err)
	}
	if v.Version < 1 || v.Version > Version {
		return fmt.Errorf("read a contract: its version is %d, this program reads 1 to %d; use a program that is as new as the service", v.Version, Version)
	}
	*c = Contract(v.plain)
	return nil
}
