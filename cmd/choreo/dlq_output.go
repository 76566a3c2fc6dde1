package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/deadletter"
	"github.com/choreography-go/choreography/cmd/choreo/internal/dlq"
)

// dlqGroups is what ls says; its fields are those of --output=json.
type dlqGroups struct {
	Service string      `json:"service"`
	Topic   string      `json:"topic"`
	Groups  []dlq.Group `json:"groups"`
	Settled int         `json:"settled"` // letters of which something has become
	Strange int         `json:"strange"` // records that are no dead letters
}

func writeGroups(w io.Writer, output string, g dlqGroups) error {
	if output == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(g)
	}
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	letters := 0
	if len(g.Groups) > 0 {
		fmt.Fprintln(table, "GROUP\tLETTERS\tFIRST\tLAST\tREASON\tSTEP\tERROR")
	}
	for _, x := range g.Groups {
		letters += x.Letters
		first, last := "-", "-"
		if x.Letters > 0 {
			first, last = x.First.Format(time.DateTime), x.Last.Format(time.DateTime)
		}
		fmt.Fprintf(table, "%s\t%d\t%s\t%s\t%s\t%s\t%s%s\n", or(x.Fingerprint, "-"), x.Letters, first, last, or(x.Reason, "-"), or(x.Step, "-"),
			deadletter.Line([]byte(x.Error), 80), settledText(x.Settled))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if g.Strange > 0 {
		fmt.Fprintf(&b, "note: %d records of the topic are no dead letters\n", g.Strange)
	}
	fmt.Fprintf(&b, "%s: %d letters, %d groups; %d letters are settled\n", g.Topic, letters, len(g.Groups), g.Settled)
	_, err := io.WriteString(w, b.String())
	return err
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func settledText(settled map[deadletter.Outcome]int) string {
	if len(settled) == 0 {
		return ""
	}
	parts := make([]string, 0, len(settled))
	for _, o := range slices.Sorted(maps.Keys(settled)) {
		parts = append(parts, fmt.Sprintf("%d %s", settled[o], o))
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// items writes letters one by one, so that any number of them takes no memory.
type items struct {
	w     io.Writer
	json  bool
	full  bool // event and error, too
	what  string
	bytes int // of a payload
	n     int
}

func newItems(w io.Writer, output string, bytes int) *items {
	return &items{w: w, json: output == "json", bytes: bytes}
}

// shownLetter are the fields of a letter with --output=json.
type shownLetter struct {
	Letter      deadletter.Position `json:"letter"`
	Group       string              `json:"group"`
	Time        time.Time           `json:"time"`
	Reason      string              `json:"reason"`
	Step        string              `json:"step"`
	Attempts    int                 `json:"attempts"`
	Error       string              `json:"error"`
	Origin      string              `json:"origin"`
	Flow        string              `json:"flow"`
	Type        string              `json:"type"`
	Source      string              `json:"source"`
	ID          string              `json:"id"`
	Previous    string              `json:"previous,omitempty"`
	Truncated   string              `json:"truncated,omitempty"`
	Redacted    string              `json:"redacted,omitempty"`
	Key         *string             `json:"key,omitempty"`
	Attributes  map[string]string   `json:"attributes,omitempty"`
	Invalid     string              `json:"invalid,omitempty"`
	Payload     *string             `json:"payload,omitempty"`
	PayloadHex  string              `json:"payloadHex,omitempty"` // in place of payload, if that is no text
	PayloadSize *int                `json:"payloadBytes,omitempty"`
	Became      *shownMark          `json:"became,omitempty"`
	Left        string              `json:"left,omitempty"` // why nothing is done with it
}

type shownMark struct {
	Outcome deadletter.Outcome `json:"outcome"`
	Time    time.Time          `json:"time"`
	By      string             `json:"by"`
	Why     string             `json:"why,omitempty"`
}

func (o *items) item(i dlq.Item) error {
	o.n++
	if !o.json {
		return o.text(i)
	}
	x := shownLetter{
		Letter: i.At, Group: i.Fingerprint, Time: i.Time.UTC(), Reason: i.Reason, Step: i.Step, Attempts: i.Attempts, Error: i.Error, Origin: i.Origin,
		Flow: i.Flow, Type: i.Type, Source: i.Source, ID: i.ID, Previous: i.Previous, Truncated: i.Truncated, Redacted: i.Redacted,
	}
	if i.Left != nil {
		x.Left = i.Left.Error()
	}
	if m := i.Mark; m != nil {
		x.Became = &shownMark{m.Outcome, m.Time.UTC(), m.By, m.Why}
	}
	if i.Record != nil {
		x.event(i, o.bytes)
	}
	separator := ",\n    "
	if o.n == 1 {
		separator = "{\n  \"items\": [\n    "
	}
	b, err := json.Marshal(x)
	if err != nil {
		return err
	}
	_, err = io.WriteString(o.w, separator+string(b))
	return err
}

func (x *shownLetter) event(i dlq.Item, limit int) {
	key := deadletter.Line(i.Record.Key, 512)
	x.Key = &key
	var data []byte
	x.Attributes, x.Invalid, data = eventOf(i)
	size := len(data)
	x.PayloadSize = &size
	if data = data[:min(size, limit)]; utf8.Valid(data) {
		text := string(data)
		x.Payload = &text
	} else {
		x.PayloadHex = fmt.Sprintf("%x", data)
	}
}

// eventOf reads a letter's event, as far as it can be read.
func eventOf(i dlq.Item) (attributes map[string]string, invalid string, data []byte) {
	ev, err := cloudevent.Read(i.Record)
	attributes = map[string]string{}
	if err != nil {
		for _, h := range i.Record.Headers {
			if name, ok := strings.CutPrefix(h.Key, "ce_"); ok && len(attributes) < 100 {
				attributes[deadletter.Line([]byte(name), 64)] = deadletter.Line(h.Value, 512)
			}
		}
		return attributes, deadletter.Line([]byte(err.Error()), 512), i.Record.Value
	}
	for name, value := range ev.Attributes() {
		attributes[name] = deadletter.Line([]byte(value), 512)
	}
	return attributes, "", ev.Data
}

// text writes a letter for people.
func (o *items) text(i dlq.Item) error {
	var b strings.Builder
	switch {
	case o.full:
		o.inFull(&b, i)
	case o.n > mostListed:
		return nil
	case i.Left != nil:
		fmt.Fprintf(&b, "left out: %v  %s: %v\n", i.At, or(i.Flow, "-"), i.Left)
	default:
		fmt.Fprintf(&b, "%s: %v  flow %s  %s %s  for %s\n", o.what, i.At, or(i.Flow, "-"), or(i.Type, "-"), or(i.ID, "-"), or(i.Step, "whoever hears it"))
	}
	_, err := io.WriteString(o.w, b.String())
	return err
}

func (o *items) inFull(b *strings.Builder, i dlq.Item) {
	if o.n > 1 {
		b.WriteByte('\n')
	}
	fmt.Fprintf(b, "letter    %v, group %s, at %s\n", i.At, or(i.Fingerprint, "-"), i.Time.UTC().Format(time.RFC3339))
	fmt.Fprintf(b, "reason    %s, step %s, after %d attempts\n", i.Reason, or(i.Step, "-"), i.Attempts)
	fmt.Fprintf(b, "error     %s\n", i.Error)
	fmt.Fprintf(b, "origin    %s\n", i.Origin)
	for _, line := range [][2]string{{"replay of", i.Previous}, {"truncated", i.Truncated}, {"redacted", i.Redacted}} {
		if line[1] != "" {
			fmt.Fprintf(b, "%-9s %s\n", line[0], line[1])
		}
	}
	if m := i.Mark; m != nil {
		fmt.Fprintf(b, "became    %s at %s by %s", m.Outcome, m.Time.UTC().Format(time.RFC3339), or(m.By, "-"))
		if m.Why != "" {
			fmt.Fprintf(b, ": %s", m.Why)
		}
		b.WriteByte('\n')
	}
	attributes, invalid, data := eventOf(i)
	fmt.Fprintf(b, "flow      %s, key %s\n", or(i.Flow, "-"), or(deadletter.Line(i.Record.Key, 512), "-"))
	if invalid != "" {
		fmt.Fprintf(b, "invalid   %s\n", invalid)
	}
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		fmt.Fprintf(b, "  %s: %s\n", name, attributes[name])
	}
	fmt.Fprintf(b, "payload   %d bytes\n", len(data))
	writePayload(b, data, o.bytes)
}

// writePayload writes what a terminal may be shown of a payload: text with its
// lines indented, and whatever could move the cursor or is no text escaped.
func writePayload(b *strings.Builder, data []byte, limit int) {
	cut := len(data) > limit
	data = data[:min(len(data), limit)]
	if len(data) == 0 {
		return
	}
	b.WriteString("  ")
	for len(data) > 0 {
		c, n := utf8.DecodeRune(data)
		switch {
		case c == '\n':
			b.WriteString("\n  ")
		case c == '\t':
			b.WriteString("    ")
		case c == utf8.RuneError && n == 1:
			fmt.Fprintf(b, `\x%02x`, data[0])
		case !unicode.IsPrint(c):
			fmt.Fprintf(b, `\u%04x`, c)
		default:
			b.WriteRune(c)
		}
		data = data[n:]
	}
	if cut {
		b.WriteString("…")
	}
	b.WriteByte('\n')
}

// end writes what is said in the end, after the letters.
func (o *items) end(summary map[string]any, line string) error {
	if !o.json {
		if more := o.n - mostListed; more > 0 && !o.full {
			line = fmt.Sprintf("and %d more; --output=json lists all\n%s", more, line)
		}
		if line == "" {
			return nil
		}
		_, err := fmt.Fprintln(o.w, line)
		return err
	}
	tail := "\n  ]"
	if o.n == 0 {
		tail = "{\n  \"items\": []"
	}
	for _, name := range slices.Sorted(maps.Keys(summary)) {
		value, err := json.Marshal(summary[name])
		if err != nil {
			return err
		}
		tail += fmt.Sprintf(",\n  %q: %s", name, value)
	}
	_, err := io.WriteString(o.w, tail+"\n}\n")
	return err
}
