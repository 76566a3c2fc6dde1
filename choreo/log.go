package choreo

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kslog"
)

// Log formats, as LOG_FORMAT names them.
const (
	formatJSON = "json"
	formatText = "text"
)

// newLogger writes to w. Both formats escape line breaks and quotes in values,
// so nothing in an event can forge a line.
func newLogger(w io.Writer, level slog.Level, format string) *slog.Logger {
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: readable}
	if format == formatText {
		return slog.New(slog.NewTextHandler(w, o))
	}
	return slog.New(slog.NewJSONHandler(w, o))
}

// readable writes durations as 1.5s in both formats; JSON would have a bare
// number of nanoseconds.
func readable(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// serviceLogger names service and instance on every line.
func serviceLogger(log *slog.Logger, service, instance string) *slog.Logger {
	return log.With("service", service, "instance", instance)
}

// runLogger names the run on every line. Flow and event are whatever someone
// sent, so they are cut to a size that cannot flood the log.
func runLogger(log *slog.Logger, flow, event, step string) *slog.Logger {
	return log.With("flow", clip(flow), "event", clip(event), "step", step)
}

// maxLogged bounds a value from an event on a log line, in bytes.
const maxLogged = 256

// clip cuts a text to maxLogged bytes and makes it valid UTF-8.
func clip(s string) string {
	if len(s) > maxLogged {
		cut := maxLogged
		for cut > maxLogged-utf8.UTFMax && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// clientLogger is the option by which Kafka clients log. What they call
// information is about their own working, so it is logged as debugging.
func clientLogger(log *slog.Logger) kgo.Opt {
	return kgo.WithLogger(&kafkaLogger{kslog.New(log.With("component", "kafka")), log})
}

type kafkaLogger struct {
	*kslog.Logger
	log *slog.Logger
}

// Level is the least severe level that is logged.
func (l *kafkaLogger) Level() kgo.LogLevel {
	level := l.Logger.Level()
	if level == kgo.LogLevelInfo {
		return kgo.LogLevelWarn
	}
	return level
}

// Log writes one line.
func (l *kafkaLogger) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	if level == kgo.LogLevelInfo {
		if !l.log.Enabled(context.Background(), slog.LevelDebug) {
			return
		}
		level = kgo.LogLevelDebug
	}
	l.Logger.Log(level, msg, keyvals...)
}
