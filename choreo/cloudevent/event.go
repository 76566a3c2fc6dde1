package cloudevent

import (
	"fmt"
	"iter"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kind says what the run that published an event did.
type Kind string

// The kinds of events that choreo publishes. Readers must bear unknown ones.
const (
	// KindDid: a step ran and this is what it says.
	KindDid Kind = "did"
	// KindFailed: a step was refused by a rule of its domain.
	KindFailed Kind = "failed"
	// KindGaveUp: a step used up its retries.
	KindGaveUp Kind = "gaveup"
	// KindUndone: a compensation ran.
	KindUndone Kind = "undone"
	// KindCancelled: a step will not run any more in this flow.
	KindCancelled Kind = "cancelled"
	// KindExpired: a deadline passed.
	KindExpired Kind = "expired"
)

// Event is a CloudEvent 1.0 with the extensions that choreo uses. A zero field is an absent attribute. An Event has no hidden
// state: it may be copied, but copies share CausationIDs, Extensions and Data.
type Event struct {
	// ID names the event; together with Source it is unique. Required, at most MaxIDBytes.
	ID string
	// Source is a URI-reference that names who published the event. Required, at most MaxSourceBytes.
	Source string
	// Type says what happened. Required, at most MaxTypeBytes.
	Type string
	// Subject names what it happened to.
	Subject string
	// Time is when it happened; written in UTC with nanoseconds. Zero means absent.
	Time time.Time
	// DataContentType is the media type of Data. In binary mode it is the header content-type.
	DataContentType string
	// DataSchema is the URI of the schema of Data. Relative references, which CloudEvents forbids, are let through.
	DataSchema string

	// CorrelationID names the flow (attribute correlationid of the Correlation extension). At most MaxCorrelationIDBytes.
	CorrelationID string
	// CausationID is the id of the event that caused this one (attribute causationid of the Correlation extension).
	CausationID string
	// CausationIDs are the ids of all causes of an event that joins several (attribute causationids: the ids separated by commas,
	// a comma or percent sign within one written as %2C or %25).
	CausationIDs []string
	// TraceParent is the W3C trace context (Distributed Tracing extension).
	TraceParent string
	// TraceState goes with TraceParent.
	TraceState string
	// PartitionKey becomes the record's key (Partitioning extension).
	PartitionKey string

	// Service is the service that published the event (attribute choreoservice).
	Service string
	// Step is its step (attribute choreostep).
	Step string
	// Kind says what the step did (attribute choreokind).
	Kind Kind
	// Attempt counts the attempts of the run, from 1 (attribute choreoattempt). 0 means absent.
	Attempt int
	// Hops counts the events on the longest causal path that leads here (attribute choreohops). 0 is not written.
	Hops int
	// Outcome is set if the event ends its flow, and says how (attribute choreooutcome).
	Outcome string
	// Started is when the flow's first event was said (attribute choreostarted, in milliseconds since 1970). With it a service
	// can tell a flow that it never heard of from one that it has forgotten.
	Started time.Time
	// Began is when the run that says the event began its first attempt (attribute choreobegan, in milliseconds since 1970);
	// Time is its end.
	Began time.Time
	// Undoes is the id of the event that an undone run had said: it tells which of a step's runs it was (attribute
	// choreoundoes).
	Undoes string

	// Extensions are all other attributes by name ([a-z0-9]+), in their canonical string form.
	Extensions map[string]string

	// Data is the payload, nil if there is none. Of an event that was read it shares memory with the record.
	Data []byte
}

// text returns the field that holds a textual attribute, or nil if the attribute is no text or no field.
func (e *Event) text(a attribute) *string {
	switch a {
	case attrID:
		return &e.ID
	case attrSource:
		return &e.Source
	case attrType:
		return &e.Type
	case attrSubject:
		return &e.Subject
	case attrDataContentType:
		return &e.DataContentType
	case attrDataSchema:
		return &e.DataSchema
	case attrCorrelationID:
		return &e.CorrelationID
	case attrCausationID:
		return &e.CausationID
	case attrTraceParent:
		return &e.TraceParent
	case attrTraceState:
		return &e.TraceState
	case attrPartitionKey:
		return &e.PartitionKey
	case attrService:
		return &e.Service
	case attrStep:
		return &e.Step
	case attrKind:
		return (*string)(&e.Kind)
	case attrOutcome:
		return &e.Outcome
	case attrUndoes:
		return &e.Undoes
	}
	return nil
}

// has says whether a known attribute is present.
func (e *Event) has(a attribute) bool {
	switch a {
	case attrSpecVersion:
		return true
	case attrTime:
		return !e.Time.IsZero()
	case attrCausationIDs:
		return len(e.CausationIDs) > 0
	case attrAttempt:
		return e.Attempt != 0
	case attrHops:
		return e.Hops != 0
	case attrStarted:
		return !e.Started.IsZero()
	case attrBegan:
		return !e.Began.IsZero()
	}
	return *e.text(a) != ""
}

// appendValue appends the canonical string form of a known attribute, nothing if it is absent.
func (e *Event) appendValue(dst []byte, a attribute) []byte {
	switch a {
	case attrSpecVersion:
		return append(dst, SpecVersion...)
	case attrTime:
		if e.Time.IsZero() {
			return dst
		}
		return e.Time.UTC().AppendFormat(dst, time.RFC3339Nano)
	case attrCausationIDs:
		return appendIDs(dst, e.CausationIDs)
	case attrAttempt:
		return appendInt(dst, e.Attempt)
	case attrHops:
		return appendInt(dst, e.Hops)
	case attrStarted:
		return appendMillis(dst, e.Started)
	case attrBegan:
		return appendMillis(dst, e.Began)
	}
	return append(dst, *e.text(a)...)
}

func appendInt(dst []byte, n int) []byte {
	if n == 0 {
		return dst
	}
	return strconv.AppendInt(dst, int64(n), 10)
}

func appendMillis(dst []byte, t time.Time) []byte {
	if t.IsZero() {
		return dst
	}
	return strconv.AppendInt(dst, t.UnixMilli(), 10)
}

// Attributes returns all attributes that are present, by name and canonical string form: specversion first, then the known
// ones in a fixed order, then Extensions by name. datacontenttype is among them, data is not.
func (e Event) Attributes() iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		var buf [64]byte
		for a := range attributeCount {
			if !e.has(a) {
				continue
			}
			var value string
			if text := e.text(a); text != nil {
				value = *text
			} else {
				value = string(e.appendValue(buf[:0], a))
			}
			if !yield(attributes[a].name, value) {
				return
			}
		}
		for _, name := range e.extensionNames() {
			if !yield(name, e.Extensions[name]) {
				return
			}
		}
	}
}

// extensionNames returns the names of Extensions in order. (slices.Sorted of maps.Keys would do, at five allocations.)
func (e *Event) extensionNames() []string {
	if len(e.Extensions) == 0 {
		return nil
	}
	names := make([]string, 0, len(e.Extensions))
	for name := range e.Extensions {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// SetAttribute sets an attribute, known or extension, from its canonical string form. An empty value removes a known one. It
// checks what [Event.Validate] checks of one attribute, and on an error (an [*InvalidError]) changes nothing.
func (e *Event) SetAttribute(name, value string) error {
	var bad problems
	a := attributeNamed(name)
	if a != attrNone {
		e.parse(a, value, &bad)
		return bad.err()
	}
	checkExtension(name, value, &bad)
	if len(bad) == 0 {
		if e.Extensions == nil {
			e.Extensions = make(map[string]string, 1)
		}
		e.Extensions[name] = value
	}
	return bad.err()
}

// parse sets a known attribute from its canonical string form, or says what is wrong with it.
func (e *Event) parse(a attribute, value string, bad *problems) {
	spec := &attributes[a]
	if problem := valueProblem(value, spec.limit); problem != "" {
		bad.addValue(spec.name, problem, value)
		return
	}
	switch a {
	case attrSpecVersion:
		if value != SpecVersion {
			bad.addValue(spec.name, "must be \"1.0\"", value)
		}
	case attrTime:
		if value == "" {
			e.Time = time.Time{}
			return
		}
		t, ok := parseTime(value)
		if !ok {
			bad.addValue(spec.name, "is no RFC 3339 timestamp", value)
			return
		}
		e.Time = t
	case attrCausationIDs:
		e.CausationIDs = nil
		if value != "" {
			e.CausationIDs = splitIDs(value)
		}
	case attrAttempt:
		parseCount(&e.Attempt, spec.name, value, bad)
	case attrHops:
		parseCount(&e.Hops, spec.name, value, bad)
	case attrStarted:
		parseMillis(&e.Started, spec.name, value, bad)
	case attrBegan:
		parseMillis(&e.Began, spec.name, value, bad)
	default:
		if problem := a.textProblem(value); problem != "" {
			bad.addValue(spec.name, problem, value)
			return
		}
		*e.text(a) = value
	}
}

// textProblem says what is wrong with a textual attribute beyond what holds for all, or "".
func (a attribute) textProblem(value string) string {
	if value != "" && (a == attrSource || a == attrDataSchema) && !isURIReference(value) {
		return "is no URI-reference (RFC 3986)"
	}
	return ""
}

// parseTime reads an RFC 3339 timestamp, whose T and Z may be in lower case (RFC 3339, section 5.6). It refuses what
// package time lets through and the RFC does not: an hour of one digit, a comma for the point, an offset of 24 hours.
func parseTime(value string) (t time.Time, ok bool) {
	const shortest = len("2006-01-02T15:04:05Z")
	if len(value) < shortest || value[len("2006-01-02T15")] != ':' || value[shortest-1] == ',' || strings.HasSuffix(value, "24:00") {
		return time.Time{}, false
	}
	if c := value[len("2006-01-02")]; c == 't' || value[len(value)-1] == 'z' {
		value = strings.ToUpper(value)
	}
	t, err := time.Parse(time.RFC3339Nano, value)
	return t.UTC(), err == nil
}

// parseCount reads a CloudEvents Integer that must not be negative.
func parseCount(n *int, name, value string, bad *problems) {
	if value == "" {
		*n = 0
		return
	}
	parsed, err := strconv.ParseInt(value, 10, 32)
	if err != nil || parsed < 0 || value[0] == '+' {
		bad.addValue(name, fmt.Sprintf("is no whole number from 0 to %d", math.MaxInt32), value)
		return
	}
	*n = int(parsed)
}

// parseMillis reads a time in milliseconds since 1970.
func parseMillis(t *time.Time, name, value string, bad *problems) {
	if value == "" {
		*t = time.Time{}
		return
	}
	parsed, err := strconv.ParseInt(value, 10, 64)
	if err != nil || parsed < 0 || value[0] == '+' {
		bad.addValue(name, "is no whole number of milliseconds since 1970", value)
		return
	}
	*t = time.UnixMilli(parsed).UTC()
}

func checkExtension(name, value string, bad *problems) {
	if !validName(name) {
		bad.add(printableName(name), "is no attribute name: lower-case letters a-z and digits, and not \"data\"")
		return
	}
	if problem := valueProblem(value, MaxAttributeBytes); problem != "" {
		bad.addValue(printableName(name), problem, value)
	}
}

// Validate says whether the event is a CloudEvent within the limits of this package: id, source and type present, source a
// URI-reference, values valid text without control characters, names valid, sizes within the limits. It returns nil or an
// [*InvalidError] with every mistake.
func (e Event) Validate() error {
	var bad problems
	e.check(&noForm, &bad)
	return bad.err()
}

// check notes every mistake of the event beyond the form. It returns how many attributes there are beyond it, and at least the
// length of all their values together, as they are written.
func (e *Event) check(f *Form, bad *problems) (present, size int) {
	names := f.size
	for _, a := range f.rest {
		text := e.text(a)
		if text == nil {
			continue
		}
		if *text == "" {
			if a.required() {
				bad.add(attributes[a].name, missing)
			}
			continue
		}
		present++
		names += len(attributes[a].name)
		size += len(*text)
		e.checkText(a, bad)
	}
	if len(e.CausationIDs) > 0 {
		present++
		names += len(attributes[attrCausationIDs].name)
		size += e.checkCausationIDs(bad)
	}
	for name, value := range e.Extensions {
		present++
		names += len(name)
		size += len(value)
		if attributeNamed(name) != attrNone {
			bad.add(name, "has a field of its own and must not be among Extensions")
			continue
		}
		checkExtension(name, value, bad)
	}
	numbers, length := e.checkNumbers(bad)
	present += numbers
	size += length
	checkTotal(names+size, bad)
	return present, size
}

// checkText notes what is wrong with a textual attribute that is present.
func (e *Event) checkText(a attribute, bad *problems) {
	text := *e.text(a)
	problem := valueProblem(text, attributes[a].limit)
	if problem == "" {
		problem = a.textProblem(text)
	}
	if problem != "" {
		bad.addValue(attributes[a].name, problem, text)
	}
}

// checkNumbers is check for specversion, times and numbers.
func (e *Event) checkNumbers(bad *problems) (present, size int) {
	const longestTime = len("2006-01-02T15:04:05.999999999Z")
	const longestNumber = len("9223372036854775807")
	present, size = 1, len(SpecVersion)
	if !e.Time.IsZero() {
		present++
		size += longestTime
		if year := e.Time.UTC().Year(); year < 0 || year > 9999 {
			bad.add("time", fmt.Sprintf("is in the year %d, which RFC 3339 cannot write", year))
		}
	}
	for _, count := range [...]struct {
		a attribute
		n int
	}{{attrAttempt, e.Attempt}, {attrHops, e.Hops}} {
		if count.n != 0 {
			present++
			size += longestNumber
		}
		if count.n < 0 || count.n > math.MaxInt32 {
			bad.add(attributes[count.a].name, fmt.Sprintf("is %d, not from 0 to %d", count.n, math.MaxInt32))
		}
	}
	for _, at := range [...]struct {
		a attribute
		t *time.Time
	}{{attrStarted, &e.Started}, {attrBegan, &e.Began}} {
		if at.t.IsZero() {
			continue
		}
		present++
		size += longestNumber
		if at.t.UnixMilli() < 0 {
			bad.add(attributes[at.a].name, "is before 1970")
		}
	}
	return present, size
}

func checkTotal(total int, bad *problems) {
	if total > MaxAttributesBytes {
		bad.add("", fmt.Sprintf("has %d bytes of attributes, at most %d are allowed", total, MaxAttributesBytes))
	}
}

// checkCausationIDs returns the length of the value of causationids.
func (e *Event) checkCausationIDs(bad *problems) int {
	const name = "causationids"
	size := idsSize(e.CausationIDs)
	if size > MaxAttributeBytes {
		bad.add(name, fmt.Sprintf("has %d bytes, at most %d are allowed", size, MaxAttributeBytes))
		return size
	}
	for _, id := range e.CausationIDs {
		if id == "" {
			bad.add(name, "has an empty id")
		} else if problem := valueProblem(id, MaxIDBytes); problem != "" {
			bad.addValue(name, problem, id)
		}
	}
	return size
}
