package deadletter

import (
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Outcome is what became of a letter.
type Outcome string

// The outcomes.
const (
	Succeeded Outcome = "succeeded" // its replay was worked on
	Failed    Outcome = "failed"    // its replay is a dead letter of its own
	Cancelled Outcome = "cancelled" // its step is cancelled for the flow, so the replay did not run it
	Discarded Outcome = "discarded" // a person has put it aside
)

// Outcomes are all there are.
var Outcomes = []Outcome{Succeeded, Failed, Cancelled, Discarded}

// Headers of marks, besides HeaderTime.
const (
	headerMark    = "choreo-dlq-mark" // the letter, topic/partition/offset
	headerOutcome = "choreo-dlq-outcome"
	headerBy      = "choreo-dlq-by"
	headerWhy     = "choreo-dlq-why"
)

// Mark says what became of a letter. It lies on the dead-letter topic too, as a
// record without a value.
type Mark struct {
	Letter  Position
	Outcome Outcome
	Time    time.Time
	By      string // who: the service, or a person
	Why     string // what the person said of it
}

// Record makes the mark's record, with the letter's key, by which it comes to
// lie behind the letter.
func (m Mark) Record(topic string, key []byte) *kgo.Record {
	return &kgo.Record{Topic: topic, Key: key, Headers: []kgo.RecordHeader{
		header(headerMark, m.Letter.String()),
		header(headerOutcome, string(m.Outcome)),
		header(HeaderTime, m.Time.UTC().Format(time.RFC3339Nano)),
		header(headerBy, Line([]byte(m.By), maxText)),
		header(headerWhy, Line([]byte(m.Why), maxText)),
	}}
}

func header(key, value string) kgo.RecordHeader {
	return kgo.RecordHeader{Key: key, Value: []byte(value)}
}

// ReadMark reads a mark. It returns false if the record is none.
func ReadMark(rec *kgo.Record) (Mark, bool) {
	m, named := Mark{Time: rec.Timestamp}, false
	for _, h := range rec.Headers {
		switch h.Key {
		case headerMark:
			at, err := ParsePosition(Line(h.Value, maxText))
			m.Letter, named = at, err == nil
		case headerOutcome:
			m.Outcome = Outcome(Line(h.Value, maxText))
		case HeaderTime:
			if t, err := time.Parse(time.RFC3339Nano, string(h.Value)); err == nil {
				m.Time = t
			}
		case headerBy:
			m.By = Line(h.Value, maxText)
		case headerWhy:
			m.Why = Line(h.Value, maxText)
		}
	}
	return m, named && rec.Value == nil && !rec.Attrs.IsControl()
}

// IsMark reports whether the record is a mark, and no letter.
func IsMark(rec *kgo.Record) bool {
	_, ok := ReadMark(rec)
	return ok
}

// HeaderAudit is set on events that tell what was asked of the service by an
// operator: its value is the command's id. They lie on the dead-letter topic too,
// see package operator.
const HeaderAudit = "choreo-dlq-audit"

// IsAudit reports whether the record is an audit event, and no letter.
func IsAudit(rec *kgo.Record) bool {
	for _, h := range rec.Headers {
		if h.Key == HeaderAudit {
			return !rec.Attrs.IsControl()
		}
	}
	return false
}
