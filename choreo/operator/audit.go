package operator

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/deadletter"
	"github.com/twmb/franz-go/pkg/kgo"
)

// AuditType is the type of audit events.
const AuditType = "choreo.audit.v1"

// Outcome is what became of a command.
type Outcome string

// The outcomes.
const (
	Done    Outcome = "done"    // it was done: nothing of it is stuck any more
	Failed  Outcome = "failed"  // the attempt that was asked for has failed, and will be repeated
	Refused Outcome = "refused" // it was not done: what it names is not stuck any more, or it asks for what cannot be
)

// Outcomes are all there are.
var Outcomes = []Outcome{Done, Failed, Refused}

// Audit tells what was asked of a service, by whom and why, and what became of
// it. Its fields are those of the event's payload.
type Audit struct {
	Command  string    `json:"command"` // its id
	Do       Do        `json:"do"`
	Outcome  Outcome   `json:"outcome"`
	Time     time.Time `json:"time"`
	By       string    `json:"by"` // as they have said: whoever may write to the inbox can say any name
	Why      string    `json:"why"`
	Service  string    `json:"service"`
	Instance string    `json:"instance"`
	Kind     Kind      `json:"kind,omitempty"`
	Item     string    `json:"item,omitempty"` // Target.Hash
	Flow     string    `json:"flow"`
	Name     string    `json:"name,omitempty"`     // of the step, reaction or deadline
	Attempts int       `json:"attempts,omitempty"` // that were made before
	Error    string    `json:"error,omitempty"`    // why it failed or was refused; of what is done, that of the last attempt before
	Said     []string  `json:"said,omitempty"`     // types of the events that were said with it
	Dead     []string  `json:"dead,omitempty"`     // reasons of dead letters that came of it
	Erased   int       `json:"erased,omitempty"`   // slots of the journal
}

// Of begins the audit of a command.
func Of(c *Command) Audit {
	a := Audit{Command: c.ID, Do: c.Do, By: c.By, Why: c.Why, Flow: deadletter.Line([]byte(c.Key), maxText)}
	if c.Do != Erase {
		a.Kind, a.Name, a.Item = c.Kind, c.Name, c.Hash()
	}
	return a
}

// Record makes the event's record for the dead-letter topic. Its id is that of the
// command, so that there is one of each.
func (a *Audit) Record(topic, source string, key []byte) (*kgo.Record, error) {
	data, err := json.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("encode an audit event: %w", err)
	}
	ev := cloudevent.Event{ID: a.Command, Source: source, Type: AuditType, Time: a.Time, DataContentType: "application/json", Service: a.Service, Data: data}
	if cloudevent.ValidCorrelationID(string(key)) {
		ev.CorrelationID = string(key)
	}
	rec, err := ev.Record(topic)
	if err != nil {
		return nil, fmt.Errorf("write an audit event: %w", err)
	}
	rec.Key = key
	rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: deadletter.HeaderAudit, Value: []byte(a.Command)})
	return rec, nil
}

// ReadAudit reads an audit event. It returns false if the record is none.
func ReadAudit(rec *kgo.Record) (Audit, bool) {
	var a Audit
	if !deadletter.IsAudit(rec) || json.Unmarshal(rec.Value, &a) != nil {
		return Audit{}, false
	}
	for _, s := range []*string{&a.Command, &a.By, &a.Why, &a.Service, &a.Instance, &a.Item, &a.Flow, &a.Name, (*string)(&a.Do), (*string)(&a.Outcome), (*string)(&a.Kind)} {
		*s = line(*s, maxText)
	}
	a.Error = line(a.Error, 4*maxText)
	for _, all := range [][]string{a.Said, a.Dead} {
		for i := range all {
			all[i] = line(all[i], maxText)
		}
	}
	return a, true
}
