package choreo

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/choreography-go/choreography/choreo/deadletter"
	"github.com/choreography-go/choreography/choreo/internal/txn"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Reasons of dead letters, as their header and the metrics have them.
const (
	reasonInvalid     = "invalid_event"     // claims to be a CloudEvent of a type that we hear, and is none
	reasonTooBig      = "too_big"           // larger than MaxEventBytes
	reasonUndecodable = "undecodable"       // the payload is not what the declaration says
	reasonHops        = "too_many_hops"     // a cycle of events
	reasonExhausted   = "retries_exhausted" // and no GiveUp declared
	reasonRejected    = "rejected"          // choreo.Reject without a Fail that matches
	reasonFailed      = "failed"            // a state's transition failed
	reasonUnsayable   = "unsayable"         // what the handler says cannot be said
	reasonForgotten   = "flow_forgotten"    // a compensation or replay after the flow's retention
	reasonDeadline    = "bad_deadline"      // a deadline's Within is none for this event
	reasonNotHeard    = "not_heard"         // replayed, or parked at a handler, and not heard there any more
)

var deadLetterReasons = []string{
	reasonInvalid, reasonTooBig, reasonUndecodable, reasonHops, reasonExhausted, reasonRejected, reasonFailed,
	reasonUnsayable, reasonForgotten, reasonDeadline, reasonNotHeard,
}

const (
	maxErrorText = 1024
	// maxDeadLetter is what the dead-letter topic takes; of a larger record
	// only what tells where it lies is kept.
	maxDeadLetter = 16 << 20
)

type tooBigError struct{ size, limit int }

func (e *tooBigError) Error() string {
	return fmt.Sprintf("%d bytes of data exceed MAX_EVENT_BYTES, %d; raise it, or send a reference to the data", e.size, e.limit)
}

// refusal is why an event is a dead letter before any handler saw it.
type refusal struct {
	reason string
	err    error
}

// refuse makes a record a dead letter at once, if it is of a type that we hear;
// else it is ignored.
func (e *engine) refuse(in *input, rec *kgo.Record, h *hearing, why *refusal, b *batch) {
	if h == nil {
		e.metrics.ignored(ignoredInvalid)
		e.skip(in, rec, b)
		return
	}
	e.metrics.consumed.Inc()
	e.bury(in, rec, h.event.Type, why, b)
}

// bury makes a record a dead letter that no handler has seen.
func (e *engine) bury(in *input, rec *kgo.Record, eventType string, why *refusal, b *batch) {
	e.metrics.deadLetter("", why.reason)
	l := letter{rec: rec, reason: why.reason, err: why.err}
	dead, text := e.deadLetterRecord(&l)
	e.log.Error("dead letter", "reason", why.reason, "topic", rec.Topic, "partition", rec.Partition, "offset", rec.Offset,
		"type", eventType, "error", text)
	b.submit(&txn.Result{Inc: in.owned.inc, Source: in.Source, Offset: rec.Offset, Done: e.passed(in, rec), Records: []*kgo.Record{dead}})
}

// letter is a dead letter to be written.
type letter struct {
	rec      *kgo.Record
	step     string // whose; "" if no handler is to blame
	reason   string
	attempts int
	err      error
	replay   *replay  // of which it came
	ids      []string // of the event and its flow, which are no part of the cause
}

// deadLetter adds the run's event to the dead letters, for one handler.
func (r *run) deadLetter(step, reason string, err error) {
	r.bury(letter{step: step, reason: reason, attempts: r.attempt, err: err})
}

func (r *run) bury(l letter) {
	l.rec, l.replay, l.ids = r.rec, r.replay, []string{r.flow, r.event.ID, string(r.rec.Key)}
	if l.replay != nil {
		l.replay.failed = true
	}
	r.e.metrics.deadLetter(l.step, l.reason)
	dead, text := r.e.deadLetterRecord(&l)
	log := r.logger(l.step).With("reason", l.reason, "attempts", l.attempts)
	if p, ok := errors.AsType[*panicError](l.err); ok {
		log = log.With("stack", string(p.stack))
	}
	log.Error("dead letter", "error", text)
	r.records = append(r.records, dead)
}

// deadLetterRecord keeps the original key, value and headers, and says why,
// where and how often. It returns the text of the error, too.
func (e *engine) deadLetterRecord(l *letter) (*kgo.Record, string) {
	rec, text := l.rec, e.errorText(l.err)
	d := &kgo.Record{Topic: e.names.dlq, Key: rec.Key, Value: rec.Value, Headers: make([]kgo.RecordHeader, 0, len(rec.Headers)+9)}
	add := func(key, value string) {
		d.Headers = append(d.Headers, kgo.RecordHeader{Key: key, Value: []byte(value)})
	}
	if e.poison.why(outputOf(rec, deadLetters)) != nil || size(rec) > maxDeadLetter { // keep only where it lies
		sum := sha256.Sum256(rec.Value)
		d.Key, d.Value = nil, []byte{}
		add(deadletter.HeaderTruncated, fmt.Sprintf("%d bytes, sha256 %x; the original is at the origin until its topic's retention removes it", size(rec), sum))
	} else {
		for _, h := range rec.Headers {
			if !strings.HasPrefix(h.Key, deadletter.Prefix) {
				d.Headers = append(d.Headers, h)
			}
		}
		if e.cfg.Redact != nil && e.redact(d) {
			add(deadletter.HeaderRedacted, "the payload is not the original one, which is at the origin until its topic's retention removes it")
		}
	}
	origin, previous := deadletter.PositionOf(rec).String(), ""
	if p := l.replay; p != nil {
		previous = p.Letter.String()
		if p.Origin != "" {
			origin = p.Origin
		}
	}
	add(deadletter.HeaderReason, l.reason)
	add(deadletter.HeaderStep, l.step)
	add(deadletter.HeaderAttempts, strconv.Itoa(l.attempts))
	add(deadletter.HeaderError, text)
	add(deadletter.HeaderFingerprint, fingerprint(l.step, l.reason, errorClass(l.err), normalize(text, l.ids...)))
	add(deadletter.HeaderOrigin, origin)
	add(deadletter.HeaderTime, time.Now().UTC().Format(time.RFC3339Nano))
	if previous != "" {
		add(deadletter.HeaderPrevious, previous)
	}
	return d, text
}

// redact leaves of a letter's payload what Config.Redact does. It reports
// whether that is another than the original.
func (e *engine) redact(d *kgo.Record) bool {
	ev, err := cloudevent.Read(d)
	if err != nil {
		ev.Data = d.Value
	}
	var data []byte
	if p := protect(func() { data = e.cfg.Redact(ev) }); p != nil {
		data = nil // better nothing than too much
	} else if bytes.Equal(data, ev.Data) {
		return false
	}
	if data == nil {
		data = []byte{} // a record without value is no letter
	}
	if view := cloudevent.ViewOf(d); err == nil && view.Mode() == cloudevent.Structured {
		ev.Data = data
		e.flatten(d, &ev)
		return true
	}
	d.Value = data
	return true
}

// flatten writes an event that was structured in binary mode, since its value
// holds more than its payload.
func (e *engine) flatten(d *kgo.Record, ev *cloudevent.Event) {
	var plain kgo.Record
	if err := ev.Fill(&plain); err != nil {
		plain.Value = ev.Data // attributes that cannot be headers are left out
	}
	for _, h := range d.Headers {
		if !strings.EqualFold(h.Key, "content-type") {
			plain.Headers = append(plain.Headers, h)
		}
	}
	d.Value, d.Headers = plain.Value, plain.Headers
	if d.Value == nil {
		d.Value = []byte{}
	}
}

// errorText is an error as it is kept and shown. What a decoder says may quote the
// payload.
func (e *engine) errorText(err error) string {
	if x, ok := errors.AsType[*decodeError](err); ok && e.cfg.Redact != nil {
		return fmt.Sprintf("decode the payload of %s: %s, whose text may quote the payload and is left out for Config.Redact", x.typ, errorClass(x.err))
	}
	text := err.Error()
	if e.cfg.RedactError != nil {
		if p := protect(func() { text = e.cfg.RedactError(text) }); p != nil { // better nothing than too much
			text = fmt.Sprintf("%s, whose text is left out, because Config.RedactError has panicked", errorClass(err))
		}
	}
	return bounded(text)
}

// fingerprint groups dead letters of one cause: step, reason, class of the
// error, and its message without what differs from one event to the next.
func fingerprint(step, reason, class, message string) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{step, reason, class, message}, "\x00")))
	return hex.EncodeToString(sum[:8])
}

// errorClass is the type of the innermost error; of several joined ones the
// first.
func errorClass(err error) string {
	for {
		var next error
		switch x := err.(type) { //nolint:errorlint // it is the chain that is walked
		case interface{ Unwrap() error }:
			next = x.Unwrap()
		case interface{ Unwrap() []error }:
			if all := x.Unwrap(); len(all) > 0 {
				next = all[0]
			}
		}
		if next == nil {
			return reflect.TypeOf(err).String()
		}
		err = next
	}
}

// quoted finds quoted text, also one whose end was cut off. A single quote
// opens only where a word could: it is an apostrophe elsewhere.
var quoted = regexp.MustCompile("\"(?:[^\"\\\\]|\\\\.)*(?:\"|$)|`[^`]*(?:`|$)|“[^”]*(?:”|$)|(?:^|[\\s(\\[{=:,])'[^']*(?:'|$)")

// normalize puts a placeholder for the event's own ids, quoted text, and words
// with digits in them (numbers, other ids, times, addresses).
func normalize(s string, ids ...string) string {
	for _, id := range ids {
		if id = bounded(id); len(id) >= 4 { // a shorter one may be a word of the message
			s = strings.ReplaceAll(s, id, "#")
		}
	}
	words := strings.Fields(quoted.ReplaceAllString(s, " _ "))
	for i, w := range words {
		if strings.ContainsRune(w, '#') || strings.ContainsFunc(w, unicode.IsDigit) {
			words[i] = "#"
		}
	}
	return strings.Join(words, " ")
}

// bounded makes a text fit for a header or a log line: one line, valid UTF-8,
// no longer than maxErrorText bytes.
func bounded(s string) string {
	if len(s) > maxErrorText {
		s = s[:maxErrorText] + "…"
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	return strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return ' '
		}
		return c
	}, s)
}
