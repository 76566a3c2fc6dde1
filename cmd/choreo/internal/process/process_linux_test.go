package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const roleVariable = "PROCESS_TEST_ROLE"

// TestMain is also the child: what it does is the role.
func TestMain(m *testing.M) {
	switch role := os.Getenv(roleVariable); role {
	case "":
		goleak.VerifyTestMain(m)
	case "fail":
		fmt.Println("out")
		fmt.Fprintln(os.Stderr, "I cannot")
		os.Exit(3)
	case "wait", "stubborn":
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		fmt.Println("waiting")
		for {
			<-c
			if role == "wait" {
				os.Exit(0)
			}
		}
	case "parent":
		// Starts a child, says its pid, and waits to be killed.
		p, err := Start(Spec{Name: "grandchild", Path: os.Args[0], Env: []string{roleVariable + "=wait"}, Log: os.Getenv("CHILD_LOG")})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("pid", p.cmd.Process.Pid)
		select {}
	}
}

// child starts this test again in a role and waits until its output has want.
func child(t *testing.T, role, want string) *Process {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	p, err := Start(Spec{
		Name: role, Path: os.Args[0], Log: log,
		Env: []string{roleVariable + "=" + role, "CHILD_LOG=" + filepath.Join(t.TempDir(), "child")},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
	})
	if want != "" {
		err := p.Poll(within(t, 10*time.Second), func(context.Context) error {
			if s := Tail(log, 5); !strings.Contains(s, want) {
				return fmt.Errorf("said %q", s)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestStop(t *testing.T) {
	p := child(t, "wait", "waiting")
	if err := p.Unexpected(); err != nil {
		t.Errorf("it runs: %v", err)
	}
	if err := p.Stop(within(t, 10*time.Second)); err != nil {
		t.Error(err)
	}
	if err := p.Unexpected(); err != nil {
		t.Errorf("it was stopped: %v", err)
	}
	if err := p.Stop(within(t, time.Second)); err != nil {
		t.Errorf("stopped again: %v", err)
	}
}

func TestStopKillsWhatDoesNotStop(t *testing.T) {
	p := child(t, "stubborn", "waiting")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := p.Stop(ctx); err == nil || !strings.Contains(err.Error(), "stubborn did not stop in time") {
		t.Error(err)
	}
	<-p.Done()
}

func TestKill(t *testing.T) {
	p := child(t, "stubborn", "waiting")
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Done():
	default:
		t.Error("it still runs")
	}
	if err := errors.Join(p.Kill(), p.Unexpected()); err != nil {
		t.Errorf("killed twice: %v", err)
	}
}

func TestUnexpectedEnd(t *testing.T) {
	p := child(t, "fail", "")
	<-p.Done()
	if err := p.Unexpected(); err == nil || !strings.Contains(err.Error(), "fail ended by itself: exit status 3") {
		t.Error(err)
	}
	err := p.Poll(t.Context(), func(context.Context) error { return errors.New("not yet") })
	if err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("polled: %v", err)
	}
}

func TestRun(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	err := Run(t.Context(), Spec{Name: "failing", Path: os.Args[0], Log: log, Env: []string{roleVariable + "=fail"}})
	if err == nil || !strings.Contains(err.Error(), "I cannot") || !strings.Contains(err.Error(), "exit status 3") {
		t.Error(err)
	}
	var out bytes.Buffer
	err = Run(t.Context(), Spec{Name: "failing", Path: os.Args[0], Log: log, Stdout: &out, Env: []string{roleVariable + "=fail"}})
	if err == nil || out.String() != "out\n" {
		t.Errorf("%v, said %q", err, &out)
	}
	if err := Run(t.Context(), Spec{Name: "nothing", Path: filepath.Join(t.TempDir(), "nothing"), Log: log}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := Run(ctx, Spec{Name: "slow", Path: os.Args[0], Log: log, Env: []string{roleVariable + "=stubborn"}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// A child's child must not outlive them, whichever way the demo dies.
func TestNoChildOutlivesItsParent(t *testing.T) {
	p := child(t, "parent", "pid ")
	var pid int
	if _, err := fmt.Sscanf(Tail(p.spec.Log, 1), "pid %d", &pid); err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for alive(pid) {
		if time.Now().After(deadline) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatalf("process %d lives", pid)
		}
		time.Sleep(time.Millisecond)
	}
}

// alive reports whether a process runs; one that has ended may remain as a
// zombie until somebody asks how.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	after := stat[bytes.LastIndexByte(stat, ')')+1:]
	return !bytes.HasPrefix(bytes.TrimSpace(after), []byte("Z"))
}

func TestTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte(strings.Repeat("x", 100<<10)+"\na\nb\nc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := Tail(path, 2); got != "b\nc" {
		t.Errorf("%q", got)
	}
	if got := Tail(path, 99); len(got) > 64<<10 || !strings.HasSuffix(got, "\na\nb\nc") {
		t.Errorf("%d bytes", len(got))
	}
	if got := Tail(path+"x", 1); !strings.Contains(got, "no such file") {
		t.Errorf("%q", got)
	}
}

func TestFreeAddrs(t *testing.T) {
	addrs, err := FreeAddrs(t.Context(), 5)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		l, err := net.Listen("tcp", a)
		if err != nil {
			t.Error(err)
			continue
		}
		if port := l.Addr().(*net.TCPAddr).Port; port < 20_000 || port >= 32_000 {
			t.Errorf("port %d may be taken by an outgoing connection", port)
		}
		defer l.Close()
	}
	if len(addrs) != 5 {
		t.Errorf("%v", addrs)
	}
}
