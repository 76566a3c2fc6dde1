package cloudevent

import (
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Read reads the event that a record holds, in binary or structured mode.
//
// It returns [ErrNotCloudEvent] if the record does not claim to hold one, and an [*InvalidError] with every mistake if the
// claim is wrong; the event is then the zero Event. [ErrBatch] and [ErrFormat] are wrapped in an InvalidError.
//
// Data of the event shares memory with the record's value (unless it had to be decoded from a JSON string or base64). The
// attributes share one allocation of their own and none with the record; clone one that is kept for long on its own.
// The record's key is not looked at.
func Read(r *kgo.Record) (Event, error) {
	v := ViewOf(r)
	var e Event
	err := v.Read(&e)
	return e, err
}

// Read reads the event that the record holds, as [Read] does, into e.
func (v *View) Read(e *Event) (err error) {
	*e = Event{}
	switch v.mode {
	case Binary:
		return v.readBinary(e)
	case Structured:
		media := mediaType(v.ContentType())
		switch {
		case equalFold(media, structuredJSON):
			*e, err = readJSON(v.record.Value)
			return err
		case equalFold(media, batchJSON):
			return formatError("is a batch of events", v.ContentType(), ErrBatch)
		default:
			return formatError("names an unknown event format", v.ContentType(), ErrFormat)
		}
	}
	return ErrNotCloudEvent
}

func formatError(problem string, contentType []byte, err error) error {
	return &InvalidError{Problems: []*AttributeError{{
		Attribute: contentTypeHeader,
		Problem:   fmt.Sprintf("%s (%v)", problem, err),
		Value:     quote(string(contentType[:min(len(contentType), MaxAttributeBytes)])),
		Err:       err,
	}}}
}

func (v *View) readBinary(e *Event) error {
	r := v.record
	var bad problems
	total := 0
	for a := range attributeCount {
		total += len(v.value(a))
	}
	if v.others {
		for i := range r.Headers {
			if name, ok := extensionName(r.Headers[i].Key); ok {
				total += len(name) + len(r.Headers[i].Value)
			}
		}
	}
	// Checked before anything is copied.
	if checkTotal(total, &bad); len(bad) > 0 {
		return bad.err()
	}

	var text strings.Builder
	text.Grow(total)
	copied := func(value []byte) string {
		start := text.Len()
		text.Write(value)
		return text.String()[start:]
	}

	e.Data = r.Value
	for a := range attributeCount {
		if value := v.value(a); len(value) > 0 {
			e.parse(a, copied(value), &bad)
		} else if a.required() {
			bad.add(attributes[a].name, missing)
		}
	}
	if v.others {
		for i := range r.Headers {
			name, ok := extensionName(r.Headers[i].Key)
			if !ok {
				continue
			}
			if e.Extensions == nil {
				e.Extensions = make(map[string]string)
			}
			if r.Headers[i].Value == nil {
				delete(e.Extensions, name) // a null header is an absent attribute, and the last one counts
				continue
			}
			e.Extensions[name] = copied(r.Headers[i].Value)
		}
		for name, value := range e.Extensions {
			checkExtension(name, value, &bad)
		}
	}
	if err := bad.err(); err != nil {
		*e = Event{}
		return err
	}
	return nil
}

// extensionName returns the attribute's name of a header, if it is a valid one without a field in Event.
func extensionName(key string) (string, bool) {
	if !hasPrefixFold(key, headerPrefix) {
		return "", false
	}
	name := strings.ToLower(key[len(headerPrefix):])
	return name, validName(name) && attributeNamed(name) == attrNone
}

// Record returns the event as a record for topic, in binary mode. It returns an [*InvalidError] if [Event.Validate] does.
//
// The record's key is PartitionKey, nil if that is empty; the caller may set another. Its value is Data itself, not a copy, and
// is empty but never nil if there is no data. Extensions are written in the order of their names. An event whose data is itself
// a CloudEvent in some event format cannot be written like this, because readers would take the record for that event in
// structured mode: use [Event.Structured].
func (e Event) Record(topic string) (*kgo.Record, error) {
	r := &kgo.Record{Topic: topic}
	if err := e.Fill(r); err != nil {
		return nil, err
	}
	return r, nil
}

// Fill is Record for a record that is there already: it sets its key, value and headers, whatever they were, or on an error
// nothing. The key and the values of the headers share memory.
func (e *Event) Fill(r *kgo.Record) error { return noForm.Fill(r, e, nil) }

// Form is what many events have in common: checked and encoded once, it makes writing them cheap. The records share the values
// of its headers. It does not change and may be used by any number of goroutines. Make one with [NewForm].
type Form struct {
	headers []kgo.RecordHeader
	size    int         // names and values
	rest    []attribute // those not in the form
}

// noForm has nothing in it.
var noForm = Form{rest: allAttributes()}

func allAttributes() []attribute {
	all := make([]attribute, attributeCount)
	for a := range all {
		all[a] = attribute(a)
	}
	return all
}

// NewForm makes a form of the textual attributes of an event that have fields of their own. It returns an [*InvalidError] if one
// of them is invalid.
func NewForm(common Event) (*Form, error) {
	f := &Form{}
	var bad problems
	for _, a := range noForm.rest {
		text := common.text(a)
		if a != attrSpecVersion && (text == nil || *text == "" || a == attrPartitionKey) {
			f.rest = append(f.rest, a) // the key of a record is its own
			continue
		}
		if text != nil {
			common.checkText(a, &bad)
		}
		value := common.appendValue(nil, a)
		f.headers = append(f.headers, kgo.RecordHeader{Key: attributes[a].header, Value: value})
		f.size += len(attributes[a].name) + len(value)
	}
	common.checkBinary(&bad)
	return f, bad.err()
}

// Space is memory for the headers of one record, to be part of something that is allocated anyway.
type Space struct {
	headers [20]kgo.RecordHeader
	values  [256]byte
}

// of returns memory for so many headers and bytes of values: new one where the space does not do or is nil.
func (s *Space) of(headers, values int) ([]kgo.RecordHeader, []byte) {
	if s == nil || headers > len(s.headers) {
		return make([]kgo.RecordHeader, 0, headers), make([]byte, 0, values)
	}
	if values > len(s.values) {
		return s.headers[:0], make([]byte, 0, values)
	}
	return s.headers[:0], s.values[:0]
}

// Fill is [Event.Fill] for an event of this form, whose attributes that are in the form are not looked at. The record takes the
// space, which may be nil, and nothing else may use it from then on.
func (f *Form) Fill(r *kgo.Record, e *Event, space *Space) error {
	var bad problems
	present, size := e.check(f, &bad)
	e.checkBinary(&bad)
	if err := bad.err(); err != nil {
		return fmt.Errorf("write event for topic %q: %w", r.Topic, err)
	}
	// All values share one buffer: an event costs a few allocations, however many attributes it has.
	headers, buf := space.of(len(f.headers)+present, size)
	headers = append(headers, f.headers...)
	r.Key = nil
	for _, a := range f.rest {
		start := len(buf)
		if buf = e.appendValue(buf, a); len(buf) == start {
			continue // absent
		}
		value := buf[start:len(buf):len(buf)]
		headers = append(headers, kgo.RecordHeader{Key: attributes[a].header, Value: value})
		if a == attrPartitionKey {
			r.Key = value
		}
	}
	for _, name := range e.extensionNames() {
		start := len(buf)
		buf = append(buf, e.Extensions[name]...)
		headers = append(headers, kgo.RecordHeader{Key: headerPrefix + name, Value: buf[start:len(buf):len(buf)]})
	}
	r.Headers = headers
	if r.Value = e.Data; r.Value == nil {
		r.Value = []byte{} // nil would be a tombstone
	}
	return nil
}

// checkBinary notes a content type that would turn a binary record into a structured one.
func (e *Event) checkBinary(bad *problems) {
	if hasPrefixFold(mediaType(e.DataContentType), structuredAny) {
		bad.addValue(attributes[attrDataContentType].name,
			"would turn a binary record into a structured one; write the event with Structured", e.DataContentType)
	}
}
