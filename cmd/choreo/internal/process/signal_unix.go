//go:build unix

package process

import (
	"errors"
	"os"
	"syscall"
)

// signalGroup signals the process and all that it started.
func signalGroup(p *os.Process, kill bool) error {
	s := syscall.SIGTERM
	if kill {
		s = syscall.SIGKILL
	}
	err := syscall.Kill(-p.Pid, s)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}
