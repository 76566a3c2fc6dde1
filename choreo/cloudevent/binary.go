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
	switch v.mode {
	case Binary:
		return readBinary(r, &v)
	case Structured:
		media := mediaType(v.ContentType())
		switch {
		case equalFold(media, structuredJSON):
			return readJSON(r.Value)
		case equalFold(media, batchJSON):
			return Event{}, formatError("is a batch of events", v.ContentType(), ErrBatch)
		default:
			return Event{}, formatError("names an unknown event format", v.ContentType(), ErrFormat)
		}
	}
	return Event{}, ErrNotCloudEvent
}

func formatError(problem string, contentType []byte, err error) error {
	return &InvalidError{Problems: []*AttributeError{{
		Attribute: contentTypeHeader,
		Problem:   fmt.Sprintf("%s (%v)", problem, err),
		Value:     quote(string(contentType[:min(len(contentType), MaxAttributeBytes)])),
		Err:       err,
	}}}
}

func readBinary(r *kgo.Record, v *View) (Event, error) {
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
		return Event{}, bad.err()
	}

	var text strings.Builder
	text.Grow(total)
	copied := func(value []byte) string {
		start := text.Len()
		text.Write(value)
		return text.String()[start:]
	}

	e := Event{Data: r.Value}
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
		return Event{}, err
	}
	return e, nil
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
	err := e.Validate()
	if err == nil && hasPrefixFold(mediaType(e.DataContentType), structuredAny) {
		err = &InvalidError{Problems: []*AttributeError{{
			Attribute: attributes[attrDataContentType].name,
			Problem:   "would turn a binary record into a structured one; write the event with Structured",
			Value:     quote(e.DataContentType),
		}}}
	}
	if err != nil {
		return nil, fmt.Errorf("write event for topic %q: %w", topic, err)
	}
	size, present := 0, len(e.Extensions)
	for a := range attributeCount {
		if e.has(a) {
			present++
			size += e.sizeHint(a)
		}
	}
	for _, value := range e.Extensions {
		size += len(value)
	}
	// All values share one buffer: an event costs a few allocations, however many attributes it has.
	buf := make([]byte, 0, size)
	headers := make([]kgo.RecordHeader, 0, present)
	for a := range attributeCount {
		if e.has(a) {
			start := len(buf)
			buf = e.appendValue(buf, a)
			headers = append(headers, kgo.RecordHeader{Key: attributes[a].header, Value: buf[start:len(buf):len(buf)]})
		}
	}
	for _, name := range e.extensionNames() {
		start := len(buf)
		buf = append(buf, e.Extensions[name]...)
		headers = append(headers, kgo.RecordHeader{Key: headerPrefix + name, Value: buf[start:len(buf):len(buf)]})
	}
	return e.record(topic, e.Data, headers), nil
}

func (e *Event) record(topic string, value []byte, headers []kgo.RecordHeader) *kgo.Record {
	r := &kgo.Record{Topic: topic, Value: value, Headers: headers}
	if r.Value == nil {
		r.Value = []byte{} // a nil value would be a tombstone
	}
	if e.PartitionKey != "" {
		r.Key = []byte(e.PartitionKey)
	}
	return r
}

// sizeHint is at least the length of a known attribute that is present.
func (e *Event) sizeHint(a attribute) int {
	if text := e.text(a); text != nil {
		return len(*text)
	}
	if a == attrCausationIDs {
		return idsSize(e.CausationIDs)
	}
	const longest = len("2006-01-02T15:04:05.999999999Z")
	return longest
}
