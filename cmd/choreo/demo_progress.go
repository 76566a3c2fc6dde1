package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress shows how far the orders are: as a bar on a terminal, in a plain
// line now and then elsewhere, so that logs stay readable. It uses no colour.
type progress struct {
	w      io.Writer
	orders int
	bar    *progressbar.ProgressBar
	next   time.Time
	shown  progressed
}

// plainEvery is the time between two plain lines.
const plainEvery = 2 * time.Second

func newProgress(w io.Writer, orders int, bar bool) *progress {
	p := &progress{w: w, orders: orders, next: time.Now().Add(plainEvery)}
	if bar && isTerminal(w) {
		p.bar = progressbar.NewOptions(orders,
			progressbar.OptionSetWriter(w),
			progressbar.OptionSetDescription("orders"),
			progressbar.OptionShowCount(),
			progressbar.OptionSetPredictTime(false),
			progressbar.OptionFullWidth(),
			progressbar.OptionClearOnFinish(),
		)
	}
	return p
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}

func (p *progress) show(now progressed) {
	if p.bar != nil {
		_ = p.bar.Set(now.ended) // a terminal that does not take it is no reason to stop
		return
	}
	if t := time.Now(); now != p.shown && t.After(p.next) {
		p.next, p.shown = t.Add(plainEvery), now
		_, _ = fmt.Fprintf(p.w, "demo: %d of %d orders placed, %d outcomes\n", now.placed, p.orders, now.ended)
	}
}

func (p *progress) end() {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
}
