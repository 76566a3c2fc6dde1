package deadletter

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Headers that are added to the original ones. All of them begin with Prefix.
const (
	Prefix = "choreo-dlq-"

	HeaderReason      = "choreo-dlq-reason"
	HeaderStep        = "choreo-dlq-step"
	HeaderAttempts    = "choreo-dlq-attempts"
	HeaderError       = "choreo-dlq-error"
	HeaderFingerprint = "choreo-dlq-fingerprint"
	HeaderOrigin      = "choreo-dlq-origin"
	HeaderTime        = "choreo-dlq-time"
	HeaderTruncated   = "choreo-dlq-truncated" // the original was too large to be kept
	HeaderRedacted    = "choreo-dlq-redacted"  // the payload is not the original one
	HeaderPrevious    = "choreo-dlq-previous"  // the letter whose replay failed
)

// Bounds of what is read of a header, in bytes.
const (
	maxError = 2 << 10
	maxText  = 512
)

// Position is where a record lies.
type Position struct {
	Topic     string
	Partition int32
	Offset    int64
}

// PositionOf is where the record lies.
func PositionOf(rec *kgo.Record) Position { return Position{rec.Topic, rec.Partition, rec.Offset} }

// String is topic/partition/offset.
func (p Position) String() string {
	return p.Topic + "/" + strconv.Itoa(int(p.Partition)) + "/" + strconv.FormatInt(p.Offset, 10)
}

// MarshalText is String, so that JSON has positions as people write them.
func (p Position) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// ParsePosition reads topic/partition/offset, as String writes it.
func ParsePosition(s string) (Position, error) {
	topic, rest, _ := strings.Cut(s, "/")
	partition, offset, _ := strings.Cut(rest, "/")
	p, err := strconv.ParseInt(partition, 10, 32)
	o, err2 := strconv.ParseInt(offset, 10, 64)
	at := Position{topic, int32(p), o}
	if err != nil || err2 != nil || p < 0 || o < 0 || topic == "" || at.String() != s {
		return Position{}, fmt.Errorf("%.64q is not topic/partition/offset", s)
	}
	return at, nil
}

// Letter is what a dead letter tells by its headers. It holds on to nothing of
// its record.
type Letter struct {
	At          Position
	Time        time.Time
	Reason      string
	Step        string // whose; "" if no handler is to blame
	Attempts    int
	Error       string
	Fingerprint string // the same for letters of one cause
	Origin      string // topic/partition/offset where the event was read
	Truncated   string // not empty: the original is not here, and why
	Redacted    string // not empty: the payload is not the original one
	Previous    string // the letter whose replay this came of

	// Of the event, as far as it can be read.
	Flow, Type, Source, ID string
	// Size of the record's key, value and headers.
	Size int64
}

// ReadLetter reads a letter. It returns false if the record is none.
func ReadLetter(rec *kgo.Record) (Letter, bool) {
	l := Letter{At: PositionOf(rec), Time: rec.Timestamp, Size: int64(len(rec.Key) + len(rec.Value))}
	own := false
	for _, h := range rec.Headers {
		l.Size += int64(len(h.Key) + len(h.Value))
		switch h.Key {
		case HeaderReason:
			l.Reason, own = Line(h.Value, maxText), true
		case HeaderStep:
			l.Step = Line(h.Value, maxText)
		case HeaderAttempts:
			if n, err := strconv.ParseUint(string(h.Value), 10, 31); err == nil {
				l.Attempts = int(n)
			}
		case HeaderError:
			l.Error = Line(h.Value, maxError)
		case HeaderFingerprint:
			l.Fingerprint = Line(h.Value, maxText)
		case HeaderOrigin:
			l.Origin = Line(h.Value, maxText)
		case HeaderTime:
			if t, err := time.Parse(time.RFC3339Nano, string(h.Value)); err == nil {
				l.Time = t
			}
		case HeaderTruncated:
			l.Truncated = orSet(Line(h.Value, maxText))
		case HeaderRedacted:
			l.Redacted = orSet(Line(h.Value, maxText))
		case HeaderPrevious:
			l.Previous = Line(h.Value, maxText)
		case headerMark, HeaderAudit:
			return Letter{}, false
		}
	}
	if !own || rec.Attrs.IsControl() {
		return Letter{}, false
	}
	l.readEvent(rec)
	return l, true
}

// orSet makes sure that a header that is there is not taken for one that is not.
func orSet(s string) string {
	if s == "" {
		return "yes"
	}
	return s
}

// readEvent finds out what it can of an event that may be broken.
func (l *Letter) readEvent(rec *kgo.Record) {
	ev, err := cloudevent.Read(rec)
	if view := cloudevent.ViewOf(rec); err != nil {
		ev.Type, ev.Source, ev.ID, ev.CorrelationID = string(view.Type()), string(view.Source()), string(view.ID()), string(view.CorrelationID())
	}
	l.Type, l.Source, l.ID = Line([]byte(ev.Type), maxText), Line([]byte(ev.Source), maxText), Line([]byte(ev.ID), maxText)
	for _, name := range []string{ev.CorrelationID, string(rec.Key), ev.ID} { // as the runtime has it
		if cloudevent.ValidCorrelationID(name) {
			l.Flow = name
			return
		}
	}
}

// Line makes a text of whatever bytes: at most limit of them and a mark where it
// was cut, valid UTF-8, printable, on one line.
func Line(b []byte, limit int) string {
	cut := ""
	if len(b) > limit {
		b, cut = b[:limit], "…"
	}
	return strings.Map(func(c rune) rune {
		if c == ' ' || unicode.IsPrint(c) {
			return c
		}
		if unicode.IsSpace(c) {
			return ' '
		}
		return utf8.RuneError
	}, strings.ToValidUTF8(string(b), "\uFFFD")) + cut
}
