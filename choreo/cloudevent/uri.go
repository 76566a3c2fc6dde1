package cloudevent

import (
	"net/url"
	"strings"
)

// isURIReference says whether value, not empty, is a URI-reference (RFC 3986, section 4.1). Characters beyond ASCII, which
// only IRIs may have, are let through, because other SDKs write them. Written by hand because it runs for every record:
// net/url would allocate for each, and lets spaces through.
func isURIReference(value string) bool {
	fragment := false
	segmentOver := false // the first path segment or the scheme has ended
	for i := 0; i < len(value); i++ {
		c := value[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c >= 0x80:
		case c == ':':
			// Before the first of "/?#" a colon can only end a scheme.
			if !segmentOver && !isScheme(value[:i]) {
				return false
			}
			segmentOver = true
		case c == '/', c == '?':
			segmentOver = true
		case c == '#':
			if fragment {
				return false
			}
			fragment, segmentOver = true, true
		case c == '%':
			if i+2 >= len(value) || !isHex(value[i+1]) || !isHex(value[i+2]) {
				return false
			}
		case c == '[', c == ']':
			// Only an authority may have these; hasAuthority leaves the judgement to net/url.
			if !hasAuthority(value) {
				return false
			}
		case strings.IndexByte("-._~!$&'()*+,;=@", c) >= 0:
		default:
			return false
		}
	}
	if hasAuthority(value) {
		_, err := url.Parse(value)
		return err == nil
	}
	return true
}

// hasAuthority says whether a URI-reference has the form "//host" or "scheme://host".
func hasAuthority(value string) bool {
	if colon := strings.IndexAny(value, ":/?#"); colon >= 0 && value[colon] == ':' {
		value = value[colon+1:]
	}
	return strings.HasPrefix(value, "//")
}

func isScheme(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		other := c >= '0' && c <= '9' || c == '+' || c == '-' || c == '.'
		if !letter && (i == 0 || !other) {
			return false
		}
	}
	return s != ""
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}
