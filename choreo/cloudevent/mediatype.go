package cloudevent

import "strings"

// The media types of the JSON event format, of one event and of several.
const (
	structuredJSON = "application/cloudevents+json"
	batchJSON      = "application/cloudevents-batch+json"
	structuredAny  = "application/cloudevents"
)

// mediaType cuts the parameters from a content type. The letter case stays.
func mediaType[T ~string | ~[]byte](contentType T) T {
	end := 0
	for end < len(contentType) && contentType[end] != ';' {
		end++
	}
	start := 0
	for start < end && isBlank(contentType[start]) {
		start++
	}
	for end > start && isBlank(contentType[end-1]) {
		end--
	}
	return contentType[start:end]
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// equalFold compares ASCII text with lower, which is in lower case, and allocates nothing.
func equalFold[T ~string | ~[]byte](s T, lower string) bool {
	return len(s) == len(lower) && hasPrefixFold(s, lower)
}

func hasPrefixFold[T ~string | ~[]byte](s T, lower string) bool {
	if len(s) < len(lower) {
		return false
	}
	for i := range len(lower) {
		if lowerASCII(s[i]) != lower[i] {
			return false
		}
	}
	return true
}

func lowerASCII(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// IsJSON says whether a content type declares JSON: its media type is */json or */*+json, whatever its parameters and letter
// case (CloudEvents JSON format 1.0.2, section 3.1.1).
func IsJSON(contentType string) bool {
	media := mediaType(contentType)
	slash := strings.IndexByte(media, '/')
	if slash < 0 {
		return false
	}
	subtype := media[slash+1:]
	const suffix = "+json"
	return equalFold(subtype, "json") ||
		len(subtype) >= len(suffix) && equalFold(subtype[len(subtype)-len(suffix):], suffix)
}

// isUTF8Text says whether a content type declares text or XML in UTF-8, which the JSON format can hold as a string.
func isUTF8Text(contentType string) bool {
	media := mediaType(contentType)
	text := hasPrefixFold(media, "text/") || equalFold(media, "application/xml") ||
		len(media) > 4 && equalFold(media[len(media)-4:], "+xml")
	if !text {
		return false
	}
	_, parameters, _ := strings.Cut(contentType, ";")
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(parameter, "=")
		if equalFold(strings.TrimSpace(name), "charset") {
			value = strings.Trim(strings.TrimSpace(value), `"`)
			return equalFold(value, "utf-8") || equalFold(value, "us-ascii")
		}
	}
	return true
}
