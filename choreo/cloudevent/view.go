package cloudevent

import (
	"math"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Mode is how a record holds an event.
type Mode uint8

const (
	// NotCloudEvent is a record that does not claim to hold an event.
	NotCloudEvent Mode = iota
	// Binary has the attributes in headers and the data in the value.
	Binary
	// Structured has all of it in the value, in some event format; only JSON is read.
	Structured
)

// String returns the mode's name in lower case.
func (m Mode) String() string {
	switch m {
	case Binary:
		return "binary"
	case Structured:
		return "structured"
	}
	return "no cloudevent"
}

// View finds an event's attributes in the headers of a record, without copying, allocating or checking them: enough to route
// a record, not to trust it. It agrees with [Read] on which header counts.
//
// The slices that its methods return are the record's own memory: nil if the attribute is absent, not to be changed, and to be
// copied by whoever keeps them, since they hold on to the whole fetched batch. A map lookup by string(v.Type()) does not
// allocate. Of a record in structured mode only Mode and ContentType are known; use Read.
type View struct {
	record *kgo.Record
	// at is the position of each attribute's header, plus one.
	at [attributeCount]int32
	// others is set if a header names an attribute that has no field.
	others bool
	mode   Mode
}

// ViewOf looks at the headers of a record. The view is valid as long as the record's headers are not changed.
func ViewOf(r *kgo.Record) View {
	v := View{record: r}
	for i := range r.Headers {
		key := r.Headers[i].Key
		var a attribute
		switch {
		case len(key) > len(headerPrefix) && key[:len(headerPrefix)] == headerPrefix:
			switch a = attributeNamed(key[len(headerPrefix):]); a {
			case attrNone:
				a = v.rareHeader(key)
			case attrDataContentType:
				a = attrNone // its header is content-type
			}
		case key == contentTypeHeader:
			a = attrDataContentType
		default:
			a = v.rareHeader(key)
		}
		if a != attrNone {
			v.at[a] = int32(i) + 1 // a record has far fewer than 2^31 headers
		}
	}
	switch {
	case hasPrefixFold(mediaType(v.value(attrDataContentType)), structuredAny):
		v.mode = Structured
	case v.at[attrSpecVersion] != 0, v.at[attrID] != 0, v.at[attrSource] != 0, v.at[attrType] != 0:
		v.mode = Binary
	}
	return v
}

// rareHeader finds the attribute of a header that is none of the known ones in lower case: another letter case, an extension,
// or nothing of ours.
func (v *View) rareHeader(key string) attribute {
	if equalFold(key, contentTypeHeader) {
		return attrDataContentType
	}
	if !hasPrefixFold(key, headerPrefix) {
		return attrNone
	}
	// Longer names than any known one cannot be known; a buffer on the stack does for the others.
	var lower [16]byte
	name := key[len(headerPrefix):]
	a := attrNone
	if len(name) <= len(lower) {
		for i := range len(name) {
			lower[i] = lowerASCII(name[i])
		}
		a = attributeNamed(string(lower[:len(name)]))
	}
	if a == attrNone {
		v.others = true
	}
	if a == attrDataContentType {
		return attrNone
	}
	return a
}

func (v *View) value(a attribute) []byte {
	if i := v.at[a]; i > 0 {
		return v.record.Headers[i-1].Value
	}
	return nil
}

// get is value for the attributes that only a view of a binary event knows.
func (v *View) get(a attribute) []byte {
	if v.mode != Binary {
		return nil
	}
	return v.value(a)
}

// Mode says whether the record claims to be an event, and how it holds it.
func (v *View) Mode() Mode { return v.mode }

// ContentType is the header content-type: of a binary event the type of its data, of a structured one its event format.
func (v *View) ContentType() []byte { return v.value(attrDataContentType) }

// SpecVersion is the attribute specversion.
func (v *View) SpecVersion() []byte { return v.get(attrSpecVersion) }

// ID is the attribute id.
func (v *View) ID() []byte { return v.get(attrID) }

// Source is the attribute source.
func (v *View) Source() []byte { return v.get(attrSource) }

// Type is the attribute type.
func (v *View) Type() []byte { return v.get(attrType) }

// Subject is the attribute subject.
func (v *View) Subject() []byte { return v.get(attrSubject) }

// Time is the attribute time as it was written, normally RFC 3339.
func (v *View) Time() []byte { return v.get(attrTime) }

// CorrelationID is the attribute correlationid.
func (v *View) CorrelationID() []byte { return v.get(attrCorrelationID) }

// CausationID is the attribute causationid.
func (v *View) CausationID() []byte { return v.get(attrCausationID) }

// TraceParent is the attribute traceparent.
func (v *View) TraceParent() []byte { return v.get(attrTraceParent) }

// PartitionKey is the attribute partitionkey, which need not be the record's key.
func (v *View) PartitionKey() []byte { return v.get(attrPartitionKey) }

// Service is the attribute choreoservice.
func (v *View) Service() []byte { return v.get(attrService) }

// Step is the attribute choreostep.
func (v *View) Step() []byte { return v.get(attrStep) }

// Kind is the attribute choreokind; see [Kind].
func (v *View) Kind() []byte { return v.get(attrKind) }

// Outcome is the attribute choreooutcome.
func (v *View) Outcome() []byte { return v.get(attrOutcome) }

// Attempt is the attribute choreoattempt, 0 if it is absent or no number.
func (v *View) Attempt() int { return count(v.get(attrAttempt)) }

// Hops is the attribute choreohops, 0 if it is absent or no number (which Read refuses).
func (v *View) Hops() int { return count(v.get(attrHops)) }

// count parses a CloudEvents Integer that is not negative, without allocating; anything else is 0.
func count(digits []byte) int {
	n := 0
	for _, c := range digits {
		if c < '0' || c > '9' || n > math.MaxInt32/10 {
			return 0
		}
		n = n*10 + int(c-'0')
	}
	if n > math.MaxInt32 {
		return 0
	}
	return n
}
