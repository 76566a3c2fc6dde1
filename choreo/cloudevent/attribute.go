package cloudevent

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// SpecVersion is the only value of the attribute specversion that is read or written (CloudEvents 1.0, any patch release).
const SpecVersion = "1.0"

// Limits in bytes on what an event may carry beside its data. They bound memory, log lines and journal keys against input that
// nobody vouches for; CloudEvents itself sets none. They hold for reading and for writing.
const (
	// MaxTypeBytes bounds type.
	MaxTypeBytes = 255
	// MaxIDBytes bounds id and causationid.
	MaxIDBytes = 1024
	// MaxSourceBytes bounds source.
	MaxSourceBytes = 1024
	// MaxCorrelationIDBytes bounds correlationid, which is part of every journal key of a flow.
	MaxCorrelationIDBytes = 256
	// MaxAttributeBytes bounds every attribute that has no limit of its own.
	MaxAttributeBytes = 4096
	// MaxAttributesBytes bounds names and values of all attributes of an event together.
	MaxAttributesBytes = 16384
)

// ValidCorrelationID reports whether s can name a flow: 1 to MaxCorrelationIDBytes bytes of UTF-8 without control characters.
func ValidCorrelationID(s string) bool {
	return s != "" && len(s) <= MaxCorrelationIDBytes && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// attribute numbers the attributes that have a field in Event, in the order in which they are written. The required ones
// come first.
type attribute uint8

const (
	attrSpecVersion attribute = iota
	attrID
	attrSource
	attrType
	attrSubject
	attrTime
	attrDataContentType
	attrDataSchema
	attrCorrelationID
	attrCausationID
	attrCausationIDs
	attrTraceParent
	attrTraceState
	attrPartitionKey
	attrService
	attrStep
	attrKind
	attrAttempt
	attrHops
	attrOutcome
	attrStarted
	attrBegan
	attrUndoes
	attributeCount
	attrNone = attributeCount
)

const headerPrefix = "ce_"

const contentTypeHeader = "content-type"

// attributes says for each known attribute its name, its header in binary mode and its limit in bytes.
var attributes = [attributeCount]struct {
	name, header string
	limit        int
}{
	attrSpecVersion:     {"specversion", "ce_specversion", MaxAttributeBytes},
	attrID:              {"id", "ce_id", MaxIDBytes},
	attrSource:          {"source", "ce_source", MaxSourceBytes},
	attrType:            {"type", "ce_type", MaxTypeBytes},
	attrSubject:         {"subject", "ce_subject", MaxAttributeBytes},
	attrTime:            {"time", "ce_time", MaxAttributeBytes},
	attrDataContentType: {"datacontenttype", contentTypeHeader, MaxAttributeBytes},
	attrDataSchema:      {"dataschema", "ce_dataschema", MaxAttributeBytes},
	attrCorrelationID:   {"correlationid", "ce_correlationid", MaxCorrelationIDBytes},
	attrCausationID:     {"causationid", "ce_causationid", MaxIDBytes},
	attrCausationIDs:    {"causationids", "ce_causationids", MaxAttributeBytes},
	attrTraceParent:     {"traceparent", "ce_traceparent", MaxAttributeBytes},
	attrTraceState:      {"tracestate", "ce_tracestate", MaxAttributeBytes},
	attrPartitionKey:    {"partitionkey", "ce_partitionkey", MaxAttributeBytes},
	attrService:         {"choreoservice", "ce_choreoservice", MaxAttributeBytes},
	attrStep:            {"choreostep", "ce_choreostep", MaxAttributeBytes},
	attrKind:            {"choreokind", "ce_choreokind", MaxAttributeBytes},
	attrAttempt:         {"choreoattempt", "ce_choreoattempt", MaxAttributeBytes},
	attrHops:            {"choreohops", "ce_choreohops", MaxAttributeBytes},
	attrOutcome:         {"choreooutcome", "ce_choreooutcome", MaxAttributeBytes},
	attrStarted:         {"choreostarted", "ce_choreostarted", MaxAttributeBytes},
	attrBegan:           {"choreobegan", "ce_choreobegan", MaxAttributeBytes},
	attrUndoes:          {"choreoundoes", "ce_choreoundoes", MaxIDBytes},
}

// attributeNamed returns the known attribute of a name, or attrNone. The switch is what makes the header view cheap: it costs
// no hash and no allocation.
func attributeNamed(name string) attribute {
	switch name {
	case "specversion":
		return attrSpecVersion
	case "id":
		return attrID
	case "source":
		return attrSource
	case "type":
		return attrType
	case "subject":
		return attrSubject
	case "time":
		return attrTime
	case "datacontenttype":
		return attrDataContentType
	case "dataschema":
		return attrDataSchema
	case "correlationid":
		return attrCorrelationID
	case "causationid":
		return attrCausationID
	case "causationids":
		return attrCausationIDs
	case "traceparent":
		return attrTraceParent
	case "tracestate":
		return attrTraceState
	case "partitionkey":
		return attrPartitionKey
	case "choreoservice":
		return attrService
	case "choreostep":
		return attrStep
	case "choreokind":
		return attrKind
	case "choreoattempt":
		return attrAttempt
	case "choreohops":
		return attrHops
	case "choreooutcome":
		return attrOutcome
	case "choreostarted":
		return attrStarted
	case "choreobegan":
		return attrBegan
	case "choreoundoes":
		return attrUndoes
	}
	return attrNone
}

// required says whether every event must have the attribute.
func (a attribute) required() bool { return a <= attrType }

// missing is the problem of a required attribute that is absent or empty.
const missing = "is required and missing"

// validName says whether name can name an attribute: [a-z0-9]+ and not "data" (CloudEvents 1.0.2, naming conventions).
func validName(name string) bool {
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return name != "" && name != "data"
}

// valueProblem says what is wrong with an attribute's value, or "". CloudEvents 1.0.2, type String: valid Unicode without
// control characters, surrogates or noncharacters.
func valueProblem(value string, limit int) string {
	if len(value) > limit {
		return fmt.Sprintf("has %d bytes, at most %d are allowed", len(value), limit)
	}
	for i := plain(value); i < len(value); {
		if c := value[i]; c < utf8.RuneSelf {
			if c < 0x20 || c == 0x7f {
				return fmt.Sprintf("has the control character U+%04X at byte %d", c, i)
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(value[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			return fmt.Sprintf("is not UTF-8 at byte %d", i)
		case r < 0xa0:
			return fmt.Sprintf("has the control character U+%04X at byte %d", r, i)
		case r&0xfffe == 0xfffe, r >= 0xfdd0 && r <= 0xfdef:
			return fmt.Sprintf("has the noncharacter U+%04X at byte %d", r, i)
		}
		i += size
	}
	return ""
}

// plain is the length of a part from the start of s that is printable ASCII: nearly always all of it, but for the last few
// bytes. It looks at eight bytes at once, because every attribute of every event comes through here.
func plain(s string) int {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(s); i += 8 {
		part := s[i : i+8]
		x := uint64(part[0]) | uint64(part[1])<<8 | uint64(part[2])<<16 | uint64(part[3])<<24 |
			uint64(part[4])<<32 | uint64(part[5])<<40 | uint64(part[6])<<48 | uint64(part[7])<<56
		control := x - 0x20*ones      // borrows where a byte is less than a blank
		del := (x ^ 0x7f*ones) - ones // borrows where a byte is DEL
		if (x|control|del)&high != 0 {
			break
		}
	}
	return i
}

// appendIDs writes several ids as one attribute: separated by commas, a comma or percent sign within an id written %2C or %25.
func appendIDs(dst []byte, ids []string) []byte {
	for i, id := range ids {
		if i > 0 {
			dst = append(dst, ',')
		}
		for j := range len(id) {
			switch id[j] {
			case ',':
				dst = append(dst, "%2C"...)
			case '%':
				dst = append(dst, "%25"...)
			default:
				dst = append(dst, id[j])
			}
		}
	}
	return dst
}

// idsSize is the length of what appendIDs writes.
func idsSize(ids []string) int {
	size := max(len(ids)-1, 0)
	for _, id := range ids {
		size += len(id)
		for i := range len(id) {
			if id[i] == ',' || id[i] == '%' {
				size += len("2C")
			}
		}
	}
	return size
}

// splitIDs undoes appendIDs. Any other percent sign stays as it is, so that no value is unreadable; empty ids are dropped.
func splitIDs(value string) []string {
	parts := strings.Split(value, ",")
	ids := parts[:0]
	for _, part := range parts {
		if part == "" {
			continue
		}
		if strings.Contains(part, "%") {
			part = strings.ReplaceAll(strings.ReplaceAll(part, "%2C", ","), "%25", "%")
		}
		ids = append(ids, part)
	}
	return ids
}
