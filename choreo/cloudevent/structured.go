package cloudevent

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
)

// structuredContentType is written in the form of the binding's example.
const structuredContentType = structuredJSON + "; charset=UTF-8"

// readJSON reads the JSON event format (CloudEvents JSON format 1.0.2).
func readJSON(document []byte) (Event, error) {
	var bad problems
	switch {
	case document == nil:
		bad.add("", "in structured mode has a null value instead of a JSON document")
	case !utf8.Valid(document):
		bad.add("", "in structured mode is not UTF-8")
	case !json.Valid(document):
		bad.add("", "in structured mode is broken JSON")
	}
	if len(bad) > 0 {
		return Event{}, bad.err()
	}
	p := jsonEvent{}
	if !jsonMembers(document, p.member) {
		p.bad.add("", "in structured mode is JSON, but no object")
		return Event{}, p.bad.err()
	}
	return p.finish()
}

// jsonEvent is an event while its members are read.
type jsonEvent struct {
	event Event
	// data and base64 are the members' values as written, nil if absent.
	data, base64 []byte
	known        [attributeCount][]byte
	extensions   map[string][]byte
	total        int
	bad          problems
}

// member notes one member of the document. Of several of one name the last counts.
func (p *jsonEvent) member(name string, value []byte) {
	switch name {
	case "data":
		p.data = value
		return
	case "data_base64":
		p.base64 = value
		return
	}
	if a := attributeNamed(name); a != attrNone {
		p.known[a] = value
		return
	}
	if !validName(name) {
		return // somebody else's, as with headers
	}
	p.total += len(name) + len(value)
	if p.total > MaxAttributesBytes {
		return // refused in finish
	}
	if p.extensions == nil {
		p.extensions = make(map[string][]byte)
	}
	p.extensions[name] = value
}

func (p *jsonEvent) finish() (Event, error) {
	for a := range attributeCount {
		p.total += len(p.known[a])
	}
	if checkTotal(p.total, &p.bad); len(p.bad) > 0 {
		return Event{}, p.bad.err()
	}
	for a := range attributeCount {
		value, ok := p.attribute(attributes[a].name, p.known[a], a != attrAttempt && a != attrHops)
		switch {
		case ok && value != "":
			p.event.parse(a, value, &p.bad)
		case a.required() && (ok || isNull(p.known[a])):
			p.bad.add(attributes[a].name, missing)
		}
	}
	for name, raw := range p.extensions {
		value, ok := p.attribute(name, raw, false)
		if !ok {
			continue
		}
		if p.event.Extensions == nil {
			p.event.Extensions = make(map[string]string, len(p.extensions))
		}
		p.event.Extensions[name] = value
		checkExtension(name, value, &p.bad)
	}
	p.payload()
	if err := p.bad.err(); err != nil {
		return Event{}, err
	}
	return p.event, nil
}

func isNull(value []byte) bool { return value == nil || string(value) == "null" }

// attribute returns the canonical string form of an attribute's JSON value; false if it is absent, null or a mistake.
func (p *jsonEvent) attribute(name string, value []byte, onlyString bool) (string, bool) {
	if isNull(value) {
		return "", false
	}
	if value[0] == '"' {
		text, ok := unquoteJSON(value)
		if !ok {
			p.bad.addValue(printableName(name), "has an unpaired surrogate", string(value))
		}
		return text, ok
	}
	if !onlyString {
		switch value[0] {
		case 't', 'f':
			return string(value), true
		}
		if _, err := strconv.ParseInt(string(value), 10, 32); err == nil {
			return string(value), true
		}
		p.bad.addValue(printableName(name), "must be a JSON string, boolean or 32-bit integer", string(value))
		return "", false
	}
	p.bad.addValue(name, "must be a JSON string", string(value))
	return "", false
}

// payload sets the event's data (JSON format 1.0.2, section 3.1.2).
func (p *jsonEvent) payload() {
	switch {
	case !isNull(p.data) && !isNull(p.base64):
		p.bad.add("data", "is given twice, as data and as data_base64")
	case !isNull(p.base64):
		text, ok := "", false
		if p.base64[0] == '"' {
			text, ok = unquoteJSON(p.base64)
		}
		data, err := base64.StdEncoding.DecodeString(text)
		if !ok || err != nil {
			p.bad.addValue("data_base64", "is no base64 string (RFC 4648)", string(p.base64[:min(len(p.base64), 2*maxQuoted)]))
			return
		}
		p.event.Data = data
	case p.data == nil:
	case p.event.DataContentType == "":
		p.event.DataContentType = "application/json" // implied by data, section 3.1.2
		p.event.Data = p.data
	case IsJSON(p.event.DataContentType):
		p.event.Data = p.data
	case isNull(p.data):
	case p.data[0] == '"':
		text, ok := unquoteJSON(p.data)
		if !ok {
			p.bad.add("data", "has an unpaired surrogate")
			return
		}
		p.event.Data = []byte(text)
	default:
		p.bad.addValue("data", "of a content type that is not JSON must be a JSON string", p.event.DataContentType)
	}
}

// Structured returns the event as a record for topic, in structured mode with the JSON event format. It returns an
// [*InvalidError] if [Event.Validate] does. The record's key is as in [Event.Record].
//
// Data is written as a JSON value, byte for byte, if its content type declares JSON and it is JSON; as a string if the content
// type declares text or XML in UTF-8 and it is UTF-8; otherwise, and if there is no content type, as data_base64. Reading
// it again yields the same bytes in every case, but for white space around a JSON value.
func (e Event) Structured(topic string) (*kgo.Record, error) {
	if err := e.Validate(); err != nil {
		return nil, fmt.Errorf("write structured event for topic %q: %w", topic, err)
	}
	size := len(e.Data)*4/3 + 64
	for name, value := range e.Attributes() {
		size += len(name) + len(value) + len(`"":"",`)
	}
	doc := append(make([]byte, 0, size), '{')
	for name, value := range e.Attributes() {
		if len(doc) > 1 {
			doc = append(doc, ',')
		}
		doc = appendJSONString(doc, name)
		doc = append(doc, ':')
		if name == "choreoattempt" || name == "choreohops" {
			doc = append(doc, value...)
		} else {
			doc = appendJSONString(doc, value)
		}
	}
	doc = e.appendJSONData(doc)
	doc = append(doc, '}')
	r := &kgo.Record{
		Topic: topic, Value: doc,
		Headers: []kgo.RecordHeader{{Key: contentTypeHeader, Value: []byte(structuredContentType)}},
	}
	if e.PartitionKey != "" {
		r.Key = []byte(e.PartitionKey)
	}
	return r, nil
}

func (e *Event) appendJSONData(doc []byte) []byte {
	switch {
	case e.Data == nil:
		return doc
	case IsJSON(e.DataContentType) && utf8.Valid(e.Data) && json.Valid(e.Data):
		doc = append(doc, `,"data":`...)
		return append(doc, e.Data...)
	case isUTF8Text(e.DataContentType) && utf8.Valid(e.Data):
		doc = append(doc, `,"data":`...)
		return appendJSONString(doc, string(e.Data))
	}
	doc = append(doc, `,"data_base64":"`...)
	doc = base64.StdEncoding.AppendEncode(doc, e.Data)
	return append(doc, '"')
}

// appendJSONString appends valid UTF-8 as a JSON string.
func appendJSONString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"', c == '\\':
			dst = append(dst, '\\', c)
		case c < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// unquoteJSON decodes a JSON string that is known to be valid JSON. It returns false for an unpaired surrogate, which
// encoding/json would silently replace by U+FFFD.
func unquoteJSON(quoted []byte) (string, bool) {
	body := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(body, '\\') < 0 {
		return string(body), true
	}
	if !surrogatesPaired(body) {
		return "", false
	}
	var text string
	err := json.Unmarshal(quoted, &text)
	return text, err == nil
}

// surrogatesPaired says whether every surrogate among the escapes of a valid JSON string is half of a pair.
func surrogatesPaired(body []byte) bool {
	low := false // a low surrogate must follow at once
	for i := 0; i < len(body); {
		if body[i] != '\\' || body[i+1] != 'u' {
			if low {
				return false
			}
			if body[i] == '\\' {
				i++
			}
			i++
			continue
		}
		unit, err := strconv.ParseUint(string(body[i+2:i+6]), 16, 16)
		isLow := unit >= 0xdc00 && unit <= 0xdfff
		if err != nil || isLow != low {
			return false
		}
		low = unit >= 0xd800 && unit <= 0xdbff
		i += len(`\u0000`)
	}
	return !low
}
