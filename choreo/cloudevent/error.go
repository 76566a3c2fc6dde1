package cloudevent

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrNotCloudEvent is returned by [Read] for a record that does not claim to be a CloudEvent. It is nobody's mistake: such
// records are to be ignored.
var ErrNotCloudEvent = errors.New("record is no CloudEvent: no ce_ headers and no CloudEvents content type")

// ErrBatch is wrapped by the error of [Read] for a record that holds a batch of events (application/cloudevents-batch+json).
// The Kafka binding has no batches: one record is one event.
var ErrBatch = errors.New("batches are not part of the Kafka binding: publish one record per event")

// ErrFormat is wrapped by the error of [Read] for a record in structured mode whose event format is not JSON.
var ErrFormat = errors.New("only the JSON event format application/cloudevents+json is read")

// InvalidError says that something that claims to be a CloudEvent is none. It holds every mistake that was found, at least one.
type InvalidError struct {
	Problems []*AttributeError
}

// Error lists all mistakes on one line.
func (e *InvalidError) Error() string {
	var b strings.Builder
	b.WriteString("invalid CloudEvent: ")
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(p.Error())
	}
	return b.String()
}

// Unwrap returns the mistakes, for [errors.Is] and [errors.As].
func (e *InvalidError) Unwrap() []error {
	errs := make([]error, len(e.Problems))
	for i, p := range e.Problems {
		errs[i] = p
	}
	return errs
}

// maxQuoted bounds how many bytes of an offending value an error shows.
const maxQuoted = 64

// AttributeError is one mistake of an event.
type AttributeError struct {
	// Attribute is the attribute's name, "data" for the data, or "" if the mistake concerns the event as a whole. A name that an
	// event's author chose badly is quoted and cut like Value.
	Attribute string
	// Problem says what is wrong, and holds no part of the value.
	Problem string
	// Value is the offending value in Go quotes, ASCII only, cut to a few dozen bytes: safe to print. It is empty if there is none.
	Value string
	// Err is ErrBatch, ErrFormat or nil.
	Err error
}

// Error is on one line and bounded, whatever the event held.
func (e *AttributeError) Error() string {
	var b strings.Builder
	if e.Attribute == "" {
		b.WriteString("event ")
	} else {
		b.WriteString(e.Attribute)
		b.WriteByte(' ')
	}
	b.WriteString(e.Problem)
	if e.Value != "" {
		b.WriteString(": ")
		b.WriteString(e.Value)
	}
	return b.String()
}

// Unwrap returns Err.
func (e *AttributeError) Unwrap() error { return e.Err }

// problems gathers mistakes. The zero value has none.
type problems []*AttributeError

func (p *problems) add(attribute, problem string) {
	*p = append(*p, &AttributeError{Attribute: attribute, Problem: problem})
}

func (p *problems) addValue(attribute, problem, value string) {
	*p = append(*p, &AttributeError{Attribute: attribute, Problem: problem, Value: quote(value)})
}

func (p *problems) err() error {
	if len(*p) == 0 {
		return nil
	}
	return &InvalidError{Problems: *p}
}

// quote makes a value of unknown origin printable: quoted, ASCII, at most maxQuoted of its bytes.
func quote(value string) string {
	if len(value) <= maxQuoted {
		return strconv.QuoteToASCII(value)
	}
	return fmt.Sprintf("%s… (%d bytes)", strconv.QuoteToASCII(value[:maxQuoted]), len(value))
}

// printableName returns an attribute's name if it is a valid one of usual length, or else quotes it.
func printableName(name string) string {
	if validName(name) && len(name) <= maxQuoted {
		return name
	}
	return quote(name)
}
