// Package process runs child processes that do not outlive this one: each in
// a process group of its own, killed as a whole, and on Linux killed by the
// kernel should this process die without having stopped them. It knows nothing
// of what they do.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// Spec says what to run.
type Spec struct {
	// Name is for messages.
	Name string
	Path string
	Args []string
	// Env is added to this process's environment.
	Env []string
	// Log is a file to which the process's output is appended.
	Log string
	// Stdout, if set, gets the standard output in place of Log.
	Stdout io.Writer
}

// Process is one run of a child. Its methods may be called by any number of
// goroutines.
type Process struct {
	spec Spec
	cmd  *exec.Cmd
	log  *os.File
	done chan struct{}

	mu      sync.Mutex
	stopped bool // by us
	err     error
}

// Start starts a child. Stop or Kill it.
func Start(s Spec) (*Process, error) {
	log, err := os.OpenFile(s.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: open its log: %w", s.Name, err)
	}
	cmd := exec.Command(s.Path, s.Args...) //nolint:noctx // Stop and Kill end it, as a group
	p := &Process{spec: s, cmd: cmd, log: log, done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), s.Env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if s.Stdout != nil {
		p.cmd.Stdout = s.Stdout
	}
	p.cmd.SysProcAttr = attributes()
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", s.Name, err), log.Close())
	}
	go p.wait()
	return p, nil
}

func (p *Process) wait() {
	err := p.cmd.Wait()
	_ = p.log.Close() // only the child wrote to it
	p.mu.Lock()
	p.err = err
	p.mu.Unlock()
	close(p.done)
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Unexpected returns an error if the process has ended and neither Stop nor
// Kill was called.
func (p *Process) Unexpected() error {
	select {
	case <-p.done:
	default:
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return nil
	}
	how := "exit status 0"
	if p.err != nil {
		how = p.err.Error()
	}
	return fmt.Errorf("%s ended by itself: %s", p.spec.Name, how)
}

// Kill kills the process group at once (SIGKILL) and returns when the process
// has ended.
func (p *Process) Kill() error {
	p.mark()
	if err := p.signal(true); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", p.spec.Name, err)
	}
	<-p.done
	return nil
}

// Stop asks the process to end (SIGTERM) and kills it when it has not done so
// before ctx ends. It returns nil if it ended by itself with exit status 0.
func (p *Process) Stop(ctx context.Context) error {
	p.mark()
	if err := p.signal(false); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return errors.Join(fmt.Errorf("stop %s: %w", p.spec.Name, err), p.Kill())
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("%s did not stop in time and was killed", p.spec.Name), p.Kill())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return fmt.Errorf("%s was stopped and ended with %w", p.spec.Name, p.err)
	}
	return nil
}

// signal signals the group, unless the process has ended: its number may be
// another's by now.
func (p *Process) signal(kill bool) error {
	select {
	case <-p.done:
		return os.ErrProcessDone
	default:
		return signalGroup(p.cmd.Process, kill)
	}
}

func (p *Process) mark() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
}

// Run runs a child to its end. When it fails, or ctx ends, the error has the
// last lines of its output.
func Run(ctx context.Context, s Spec) error {
	p, err := Start(s)
	if err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("%s %s: %w", s.Name, strings.Join(s.Args, " "), context.Cause(ctx)), p.Kill())
	}
	if p.err != nil {
		return fmt.Errorf("%s %s: %w; its last lines:\n%s", s.Name, strings.Join(s.Args, " "), p.err, Tail(s.Log, 10))
	}
	return nil
}

// Tail returns the last lines of a log file, or why they cannot be read.
func Tail(path string, lines int) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close() //nolint:errcheck // it was only read
	const most = 64 << 10
	if info, err := f.Stat(); err == nil && info.Size() > most {
		if _, err := f.Seek(-most, io.SeekEnd); err != nil {
			return err.Error()
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return err.Error()
	}
	all := bytes.Split(bytes.TrimRight(text, "\n"), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
}

// Poll calls ready until it returns nil, at growing intervals of at most
// 100 ms, and returns its last error when ctx ends or the process does.
func (p *Process) Poll(ctx context.Context, ready func(context.Context) error) error {
	wait := 2 * time.Millisecond
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("wait for %s: %w; last: %w", p.spec.Name, context.Cause(ctx), err)
		case <-p.done:
			t.Stop()
			return errors.Join(fmt.Errorf("wait for %s: it has ended", p.spec.Name), p.Unexpected())
		}
		wait = min(2*wait, 100*time.Millisecond)
	}
}
