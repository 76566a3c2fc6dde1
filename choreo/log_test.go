package choreo

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestLogLinesCannotBeForgedOrFlooded(t *testing.T) {
	evil := "f\n{\"level\":\"ERROR\"} level=ERROR\r\x1b[2J\u2028\xff\"" + strings.Repeat("ü", 100_000)
	for _, format := range []string{formatJSON, formatText} {
		var b bytes.Buffer
		log := serviceLogger(newLogger(&b, slog.LevelInfo, format), "svc", "i-0")
		runLogger(log, evil, evil, "pay").Warn("attempt failed", "error", bounded(evil))
		line := b.String()
		if strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n") || strings.ContainsAny(line, "\r\x1b") || !utf8.ValidString(line) {
			t.Errorf("%s: the line is %q", format, line)
		}
		if len(line) > 2*maxLogged+2*maxErrorText+1000 {
			t.Errorf("%s: the line has %d bytes", format, len(line))
		}
		for _, want := range []string{"svc", "i-0", "flow", "event", "step", "pay"} {
			if !strings.Contains(line, want) {
				t.Errorf("%s: %q is not in %q", format, want, line)
			}
		}
		if format == formatJSON {
			var v map[string]any
			if err := json.Unmarshal(b.Bytes(), &v); err != nil || v["level"] != "WARN" || v["step"] != "pay" {
				t.Errorf("the line is %q: %v", line, err)
			}
		}
	}
}

func TestClip(t *testing.T) {
	for in, want := range map[string]string{
		"":                               "",
		"short":                          "short",
		"a\xffb":                         "a\uFFFDb",
		strings.Repeat("a", maxLogged):   strings.Repeat("a", maxLogged),
		strings.Repeat("a", maxLogged+1): strings.Repeat("a", maxLogged) + "…",
		strings.Repeat("a", maxLogged-1) + "üü": strings.Repeat("a", maxLogged-1) + "…",
		strings.Repeat("\x80", maxLogged+9):     "\uFFFD…",
	} {
		if got := clip(in); got != want {
			t.Errorf("clip(%.20q, %d bytes) = %.20q, %d bytes", in, len(in), got, len(got))
		}
	}
}

func TestClientsLogTheirOwnWorkingsOnlyWhenDebugging(t *testing.T) {
	for level, want := range map[slog.Level]string{slog.LevelDebug: "dciw", slog.LevelInfo: "w", slog.LevelError: ""} {
		var b bytes.Buffer
		cl, err := kgo.NewClient(clientLogger(newLogger(&b, level, formatText)))
		if err != nil {
			t.Fatal(err)
		}
		l := cl.OptValue(kgo.WithLogger).(kgo.Logger)
		cl.Close()
		b.Reset()
		for _, x := range []struct {
			level kgo.LogLevel
			msg   string
		}{{kgo.LogLevelDebug, "d"}, {kgo.LogLevelDebug, "c"}, {kgo.LogLevelInfo, "i"}, {kgo.LogLevelWarn, "w"}} {
			if l.Level() >= x.level {
				l.Log(x.level, x.msg)
			}
		}
		got := ""
		for line := range strings.Lines(b.String()) {
			_, m, _ := strings.Cut(line, "msg=")
			got += m[:1]
		}
		if got != want {
			t.Errorf("at level %v: %q, want %q", level, got, want)
		}
	}
}
