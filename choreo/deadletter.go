package choreo

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"

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
	reasonForgotten   = "flow_forgotten"    // a compensation after the flow's retention
)

var deadLetterReasons = []string{
	reasonInvalid, reasonTooBig, reasonUndecodable, reasonHops, reasonExhausted, reasonRejected, reasonFailed,
	reasonUnsayable, reasonForgotten,
}

// Headers that the runtime adds to the original ones of a dead letter.
const (
	headerReason      = "choreo-dlq-reason"
	headerStep        = "choreo-dlq-step"
	headerAttempts    = "choreo-dlq-attempts"
	headerError       = "choreo-dlq-error"
	headerFingerprint = "choreo-dlq-fingerprint"
	headerOrigin      = "choreo-dlq-origin"
	headerTime        = "choreo-dlq-time"

	maxErrorText = 1024
	// maxDeadLetter is what the dead-letter topic takes; of a larger record
	// only what tells where it lies is kept.
	maxDeadLetter   = 16 << 20
	headerTruncated = "choreo-dlq-truncated"
)

type tooBigError struct{ size, limit int }

func (e *tooBigError) Error() string {
	return fmt.Sprintf("%d bytes of data exceed MAX_EVENT_BYTES, %d; raise it, or send a reference to the data", e.size, e.limit)
}

// refusal is why an event is a dead letter before any handler saw it.
type refusal struct {
	reason   string
	err      error
	truncate bool // keep only where the record lies
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
	e.log.Error("dead letter", "reason", why.reason, "topic", rec.Topic, "partition", rec.Partition, "offset", rec.Offset,
		"type", eventType, "error", bounded(why.err.Error()))
	b.submit(&txn.Result{Inc: in.owned.inc, Source: in.Source, Offset: rec.Offset, Done: e.passed(in, rec),
		Records: []*kgo.Record{e.deadLetterRecord(rec, "", why.reason, 0, why.err, why.truncate)}})
}

// deadLetter adds the run's event to the dead letters, for one handler.
func (r *run) deadLetter(step, reason string, err error) {
	r.e.metrics.deadLetter(step, reason)
	log := r.logger(step).With("reason", reason, "attempts", r.attempt)
	if p, ok := errors.AsType[*panicError](err); ok {
		log = log.With("stack", string(p.stack))
	}
	log.Error("dead letter", "error", bounded(err.Error()))
	r.records = append(r.records, r.e.deadLetterRecord(r.rec, step, reason, r.attempt, err, false))
}

// deadLetterRecord keeps the original key, value and headers, and says why,
// where and how often.
func (e *engine) deadLetterRecord(rec *kgo.Record, step, reason string, attempts int, err error, truncate bool) *kgo.Record {
	text := bounded(err.Error())
	d := &kgo.Record{Topic: e.names.dlq, Key: rec.Key, Value: rec.Value, Headers: make([]kgo.RecordHeader, 0, len(rec.Headers)+8)}
	if truncate || size(rec) > maxDeadLetter {
		sum := sha256.Sum256(rec.Value)
		d.Key, d.Value = nil, []byte{}
		d.Headers = append(d.Headers, kgo.RecordHeader{Key: headerTruncated,
			Value: fmt.Appendf(nil, "%d bytes, sha256 %x; the original is at the origin until its topic's retention removes it", size(rec), sum)})
	} else {
		for _, h := range rec.Headers {
			if !strings.HasPrefix(h.Key, "choreo-dlq-") {
				d.Headers = append(d.Headers, h)
			}
		}
	}
	for _, h := range [][2]string{
		{headerReason, reason}, {headerStep, step}, {headerAttempts, strconv.Itoa(attempts)}, {headerError, text},
		{headerFingerprint, fingerprint(step, reason, err)},
		{headerOrigin, fmt.Sprintf("%s/%d/%d", rec.Topic, rec.Partition, rec.Offset)},
		{headerTime, time.Now().UTC().Format(time.RFC3339Nano)},
	} {
		d.Headers = append(d.Headers, kgo.RecordHeader{Key: h[0], Value: []byte(h[1])})
	}
	return d
}

// fingerprint groups dead letters of one cause: step, class of the error, and
// its message without what differs from one event to the next.
func fingerprint(step, reason string, err error) string {
	root := err
	for {
		next := errors.Unwrap(root)
		if next == nil {
			break
		}
		root = next
	}
	sum := sha256.Sum256([]byte(step + "\x00" + reason + "\x00" + reflect.TypeOf(root).String() + "\x00" + normalize(bounded(err.Error()))))
	return hex.EncodeToString(sum[:8])
}

// normalize replaces words with digits in them (ids, amounts, addresses) and
// quoted text by a placeholder.
func normalize(s string) string {
	var b strings.Builder
	for i, part := range strings.Split(s, `"`) {
		if quoted := i%2 == 1; quoted {
			b.WriteString(`"_"`)
			continue
		}
		for _, w := range strings.FieldsFunc(part, unicode.IsSpace) {
			if strings.ContainsFunc(w, unicode.IsDigit) {
				w = "#"
			}
			b.WriteString(w)
			b.WriteByte(' ')
		}
	}
	return b.String()
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
