package journal

// Bounds of a table: values beyond them are kept in full with their slot, so that
// hostile sources or content types cost what they weigh and no more.
const (
	tableEntries = 1024
	tableText    = 128 // bytes of one entry
)

// table numbers texts that many slots have in common. It only grows, so a slice
// of its texts taken under the lock may be read without it.
type table struct {
	numbers map[string]uint32
	texts   []string
	recent  [64]uint32 // spares most look-ups the hash: the number last met for a look
}

func newTable(texts []string) table {
	t := table{numbers: make(map[string]uint32)}
	for _, text := range texts {
		t.number([]byte(text))
	}
	return t
}

// number finds or gives the number of a text, if there is room for it.
func (t *table) number(text []byte) (uint32, bool) {
	if len(text) == 0 || len(text) > tableText {
		return 0, false
	}
	look := (uint(len(text)) + 7*uint(text[len(text)/2])) % uint(len(t.recent))
	if n := t.recent[look]; int(n) < len(t.texts) && t.texts[n] == string(text) {
		return n, true
	}
	n, ok := t.numbers[string(text)]
	if !ok {
		if len(t.texts) == tableEntries {
			return 0, false
		}
		n = uint32(len(t.texts))
		own := string(text)
		t.numbers[own] = n
		t.texts = append(t.texts, own)
	}
	t.recent[look] = n
	return n, true
}
