package choreotest

import (
	"bytes"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// logbook keeps the last lines of what instances logged and what befell them,
// each with its simulated time.
type logbook struct {
	began time.Time

	mu   sync.Mutex
	ring []string
	next int
	more int // lines that are not kept any more
}

const maxLines = 1000

func (b *logbook) note(format string, args ...any) {
	line := fmt.Sprintf("%10.3fs  %s", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.ring) < maxLines {
		b.ring = append(b.ring, line)
		return
	}
	b.ring[b.next] = line
	b.next = (b.next + 1) % maxLines
	b.more++
}

// lines are what is kept, the oldest first.
func (b *logbook) lines() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]string, 0, len(b.ring)+1)
	if b.more > 0 {
		all = append(all, fmt.Sprintf("(%d earlier lines are not kept)", b.more))
	}
	return append(append(all, b.ring[b.next:]...), b.ring[:b.next]...)
}

// Write takes one line of a slog.Handler.
func (b *logbook) Write(line []byte) (int, error) {
	b.note("%s", bytes.TrimRight(line, "\n"))
	return len(line), nil
}

// page is the part of a logbook that one process writes, until it is dead.
type page struct {
	*logbook
	dead atomic.Bool
}

func (p *page) Write(line []byte) (int, error) {
	if p.dead.Load() {
		return len(line), nil
	}
	return p.logbook.Write(line)
}

// logger keeps what is a warning or worse, and what a service says of its own
// working.
func (p *page) logger() *slog.Logger {
	text := slog.NewTextHandler(p, &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	return slog.New(text)
}
