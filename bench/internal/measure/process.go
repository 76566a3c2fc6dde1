package measure

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"time"

	"github.com/choreography-go/choreography/internal/contender"
)

// process is a contender at work.
type process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	usages chan contender.Usage // closed when it has ended
	stderr tail
	err    error // of Wait; read after usages is closed
}

const stopTimeout = 30 * time.Second

// start starts a contender. It is killed when ctx ends.
func (r *Rig) start(ctx context.Context, c Contender, s contender.Setup) (*process, error) {
	s.Brokers, s.Partitions, s.Lanes = r.brokers, partitions, lanes
	line, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("write the setup of %s: %w", c, err)
	}
	args := r.command(c)
	p := &process{cmd: exec.CommandContext(ctx, args[0], args[1:]...), usages: make(chan contender.Usage, 1024)}
	p.cmd.Stderr = &p.stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c, err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c, err)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c, err)
	}
	go func() {
		defer close(p.usages)
		var said error
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			var u contender.Usage
			if err := json.Unmarshal(lines.Bytes(), &u); err != nil {
				said = fmt.Errorf("it said %.100q", lines.Text())
				continue
			}
			p.usages <- u
		}
		p.err = errors.Join(said, p.cmd.Wait())
	}()
	if _, err := p.stdin.Write(append(line, '\n')); err != nil {
		return nil, errors.Join(fmt.Errorf("tell %s its setup: %w", c, err), p.stop())
	}
	return p, nil
}

// usage is the next that the process tells.
func (p *process) usage(ctx context.Context) (contender.Usage, error) {
	select {
	case u, ok := <-p.usages:
		if !ok {
			return u, fmt.Errorf("the contender ended too early: %w\n%s", p.err, p.stderr.String())
		}
		return u, nil
	case <-ctx.Done():
		return contender.Usage{}, fmt.Errorf("%w; the contender said:\n%s", context.Cause(ctx), p.stderr.String())
	}
}

// ask asks for the usage and waits for it.
func (p *process) ask(ctx context.Context) (contender.Usage, error) {
	if _, err := io.WriteString(p.stdin, "\n"); err != nil {
		return contender.Usage{}, errors.Join(fmt.Errorf("ask for the usage: %w", err), p.stop())
	}
	return p.usage(ctx)
}

// stop ends the process, which commits what it has handled, and waits for that.
// It may be called again.
func (p *process) stop() error {
	_ = p.stdin.Close()
	limit := time.NewTimer(stopTimeout)
	defer limit.Stop()
	var late error
	for {
		select {
		case _, more := <-p.usages:
			if more {
				continue
			}
			if err := errors.Join(late, p.err); err != nil {
				return fmt.Errorf("the contender failed: %w\n%s", err, p.stderr.String())
			}
			return nil
		case <-limit.C:
			late = fmt.Errorf("it did not stop within %v and was killed", stopTimeout)
			_ = p.cmd.Process.Kill()
		}
	}
}

// tail keeps the end of what is written.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

// Write keeps the end.
func (t *tail) Write(b []byte) (int, error) {
	const most = 4096
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if n := len(t.buf) - most; n > 0 {
		t.buf = t.buf[n:]
	}
	return len(b), nil
}

// String is what was kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.buf))
}
