package cloudevent

import "strings"

// isURIReference says whether value is a URI-reference (RFC 3986, section 4.1) and not empty. Characters beyond ASCII, which
// only IRIs may have, are let through, because other SDKs write them. Written by hand because it runs for every record: net/url
// allocates, and lets through spaces and more.
func isURIReference(value string) bool {
	rest := value
	// Before the first of "/?#" a colon can only end a scheme.
	if i := strings.IndexAny(value, ":/?#"); i >= 0 && value[i] == ':' {
		if !isScheme(value[:i]) {
			return false
		}
		rest = value[i+1:]
	}
	if afterSlashes, ok := strings.CutPrefix(rest, "//"); ok {
		end := strings.IndexAny(afterSlashes, "/?#")
		if end < 0 {
			end = len(afterSlashes)
		}
		if !isAuthority(afterSlashes[:end]) {
			return false
		}
		rest = afterSlashes[end:]
	}
	rest, fragment, _ := strings.Cut(rest, "#")
	return value != "" && onlyURI(rest, ":@/?") && onlyURI(fragment, ":@/?")
}

// isAuthority says whether s is [userinfo@]host[:port] (RFC 3986, section 3.2). Of an address in brackets only the characters
// are judged.
func isAuthority(s string) bool {
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		if !onlyURI(s[:i], ":") {
			return false
		}
		s = s[i+1:]
	}
	host, port := s, ""
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, ']') {
		host, port = s[:i], s[i+1:]
	}
	for i := range len(port) {
		if port[i] < '0' || port[i] > '9' {
			return false
		}
	}
	if strings.HasPrefix(host, "[") {
		return len(host) > 2 && strings.HasSuffix(host, "]") && onlyURI(host[1:len(host)-1], ":")
	}
	return onlyURI(host, "")
}

// onlyURI says whether s has only unreserved characters, sub-delimiters, percent-encoded bytes, characters beyond ASCII, and
// those of also (RFC 3986, section 2).
func onlyURI(s, also string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c >= 0x80:
		case c == '%':
			if i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2]) {
				return false
			}
			i += 2
		case strings.IndexByte("-._~!$&'()*+,;=", c) >= 0, strings.IndexByte(also, c) >= 0:
		default:
			return false
		}
	}
	return true
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
