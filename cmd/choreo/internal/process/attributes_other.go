//go:build !unix

package process

import (
	"os"
	"syscall"
)

func attributes() *syscall.SysProcAttr { return nil }

// signalGroup can only kill here, and only the process itself.
func signalGroup(p *os.Process, _ bool) error { return p.Kill() }
