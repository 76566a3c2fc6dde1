package cloudevent

// jsonMembers calls member for each member of a JSON object, in order, with the name decoded and the value as it was written,
// sharing document's memory. It returns false if the document is no object. The document must be valid JSON; because it is,
// finding where a value ends takes no parser, and the data of an event stays byte for byte what its author wrote.
func jsonMembers(document []byte, member func(name string, value []byte)) bool {
	i := skipBlank(document, 0)
	if i >= len(document) || document[i] != '{' {
		return false
	}
	i = skipBlank(document, i+1)
	for document[i] != '}' {
		end := jsonValueEnd(document, i)
		name, ok := unquoteJSON(document[i:end])
		i = skipBlank(document, end) // at the colon
		i = skipBlank(document, i+1) // at the value
		end = jsonValueEnd(document, i)
		if ok { // a name with an unpaired surrogate can be no attribute's
			member(name, document[i:end:end])
		}
		if i = skipBlank(document, end); document[i] == ',' {
			i = skipBlank(document, i+1)
		}
	}
	return true
}

func skipBlank(document []byte, i int) int {
	for i < len(document) && (document[i] == ' ' || document[i] == '\t' || document[i] == '\n' || document[i] == '\r') {
		i++
	}
	return i
}

// jsonValueEnd returns where the value that begins at i ends.
func jsonValueEnd(document []byte, i int) int {
	switch document[i] {
	case '"':
		for i++; document[i] != '"'; i++ {
			if document[i] == '\\' {
				i++
			}
		}
		return i + 1
	case '{', '[':
		depth := 0
		for {
			switch document[i] {
			case '"':
				i = jsonValueEnd(document, i)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
	}
	for i < len(document) {
		switch document[i] {
		case ',', '}', ']', ' ', '\t', '\n', '\r':
			return i
		}
		i++
	}
	return i
}
