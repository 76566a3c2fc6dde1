package journal

import (
	"fmt"
	"strings"
)

// Place says which record of the journal is meant.
type Place struct {
	Flow      string // correlation id, as found: untrusted
	Slot      string
	Partition int32
	Offset    int64
}

// String names the place in one line that a hostile correlation id can neither
// forge nor flood.
func (p Place) String() string {
	return fmt.Sprintf("journal partition %d offset %d, flow %s, slot %s", p.Partition, p.Offset, quote(p.Flow), quote(p.Slot))
}

// quote bounds and quotes text that came from outside.
func quote(s string) string {
	const most = 128
	if len(s) > most {
		return fmt.Sprintf("%.*q… (%d bytes)", most, s[:most], len(s))
	}
	return fmt.Sprintf("%q", s)
}

// FormatError is a record that this version cannot read: written by a newer
// version, or damaged.
type FormatError struct {
	Place
	Problem string
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("%s: cannot read the record: %s; run the version that wrote it, or a newer one", e.Place, e.Problem)
}

// UnknownSlotError is a slot of a kind that this version does not have.
type UnknownSlotError struct{ Place }

func (e *UnknownSlotError) Error() string {
	return fmt.Sprintf("%s: this version knows no such kind of slot; run the version that wrote it, or a newer one", e.Place)
}

// UnknownNameError is a slot of a step or a state that the service does not declare.
type UnknownNameError struct {
	Place
	Kind string // "step", "state", "deadline", or "handler" of a parked event
	Name string
}

func (e *UnknownNameError) Error() string {
	remedy := "declare the state again until its flows have ended"
	switch e.Kind {
	case "handler":
		remedy = "an event is parked at it: declare it again until its events are done, or list this name in the Formerly of the step that it is now"
	case "deadline":
		remedy = "if the deadline was renamed list this name in its Formerly; if it was removed declare it again until its flows have ended"
	case "step":
		remedy = "if the step was renamed list this name in its Formerly; if it was removed declare it again until its flows have ended"
	}
	return fmt.Sprintf("%s: the service declares no %s %s; %s", e.Place, e.Kind, quote(e.Name), remedy)
}

// TooLargeError is a record that the broker would refuse. Nothing has changed.
type TooLargeError struct {
	Flow, Slot  string
	Size, Limit int // bytes of key and value
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("flow %s, slot %s: a journal record of %d bytes exceeds the limit of %d; make the events smaller, "+
		"spread them over more flows, or raise the limit here, of the topic and of the broker", quote(e.Flow), quote(e.Slot), e.Size, e.Limit)
}

// RestoreError holds what a restore found and could not read. Unwrap yields the
// single faults, in the order of their offsets.
type RestoreError struct {
	Faults []error // the first ones
	Total  int
}

func (e *RestoreError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the journal cannot be restored, %d of its slots stop it", e.Total)
	for _, fault := range e.Faults {
		b.WriteString("; ")
		b.WriteString(fault.Error())
	}
	if more := e.Total - len(e.Faults); more > 0 {
		fmt.Fprintf(&b, "; and %d more", more)
	}
	return b.String()
}

// Unwrap gives the single faults to errors.Is and errors.As.
func (e *RestoreError) Unwrap() []error { return e.Faults }
