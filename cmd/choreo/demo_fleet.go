package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/choreography-go/choreography/cmd/choreo/internal/process"
)

// services are the demo's, in the order of their steps.
var services = []string{"order", "payment", "inventory", "shipping"}

// fleet are the services that the demo runs as child processes.
type fleet struct {
	members []*member
	url     string // of the order service
	failed  chan error
	wg      sync.WaitGroup
}

type member struct {
	spec  process.Spec
	admin string

	mu    sync.Mutex
	now   *process.Process
	kills int
}

// newFleet prepares the services; nothing runs yet.
func newFleet(ctx context.Context, bin, logs string, brokers []string, prefix string, patience time.Duration) (*fleet, error) {
	addrs, err := process.FreeAddrs(ctx, len(services)+1)
	if err != nil {
		return nil, err
	}
	f := &fleet{url: "http://" + addrs[0], failed: make(chan error, 1)}
	for i, name := range services {
		f.members = append(f.members, &member{
			admin: addrs[i+1],
			spec: process.Spec{
				Name: name, Path: filepath.Join(bin, name), Log: filepath.Join(logs, name+".log"),
				Env: []string{
					"KAFKA_BROKERS=" + strings.Join(brokers, ","), "TOPIC_PREFIX=" + prefix, "INSTANCE_ID=" + name + "-0",
					"ADMIN_ADDR=" + addrs[i+1], "HTTP_ADDR=" + addrs[0], "ORDER_PATIENCE=" + patience.String(),
				},
			},
		})
	}
	return f, nil
}

// findBinaries reports the services that are not in a directory.
func findBinaries(bin string) error {
	var missing []error
	for _, name := range services {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			missing = append(missing, err)
		}
	}
	if err := errors.Join(missing...); err != nil {
		return fmt.Errorf("--bin=%q: %w; run make build", bin, err)
	}
	return nil
}

// start makes the topics, starts the services and waits until they are ready.
func (f *fleet) start(ctx context.Context) error {
	for _, m := range f.members {
		s := m.spec
		s.Args = []string{"topics", "--apply"}
		if err := process.Run(ctx, s); err != nil {
			return fmt.Errorf("make the topics: %w", err)
		}
	}
	for _, m := range f.members {
		if err := f.run(m); err != nil {
			return err
		}
	}
	for _, m := range f.members {
		if err := m.now.Poll(ctx, m.ready); err != nil {
			return err
		}
	}
	return nil
}

// run starts a member and watches it.
func (f *fleet) run(m *member) error {
	p, err := process.Start(m.spec)
	if err != nil {
		return err
	}
	m.now = p
	f.wg.Go(func() {
		<-p.Done()
		if err := p.Unexpected(); err != nil {
			select {
			case f.failed <- err:
			default: // one is enough
			}
		}
	})
	return nil
}

func (m *member) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.admin+"/readyz", nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	reasons, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	_ = resp.Body.Close()
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("/readyz answered %d: %.500q", resp.StatusCode, reasons)
	}
	return err
}

// killing kills one service after the other, at random, and restarts each at
// once under the same instance id, until ctx ends. It ends with every service
// started again.
func (f *fleet) killing(ctx context.Context, seed uint64) error {
	random := rand.New(rand.NewPCG(seed, 0))
	for {
		wait := time.Duration(500+random.IntN(900)) * time.Millisecond
		victim := f.members[random.IntN(len(f.members))]
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
		victim.mu.Lock()
		err := victim.now.Kill()
		if err == nil {
			victim.kills++
			err = f.run(victim)
		}
		victim.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

func (f *fleet) kills() map[string]int {
	all := map[string]int{}
	for _, m := range f.members {
		m.mu.Lock()
		all[m.spec.Name] = m.kills
		m.mu.Unlock()
	}
	return all
}

// stop stops all services at once, gracefully while ctx lasts.
func (f *fleet) stop(ctx context.Context) error {
	errs := make([]error, len(f.members))
	var wg sync.WaitGroup
	for i, m := range f.members {
		m.mu.Lock()
		p := m.now
		m.mu.Unlock()
		if p != nil {
			wg.Go(func() { errs[i] = p.Stop(ctx) })
		}
	}
	wg.Wait()
	f.wg.Wait()
	return errors.Join(errs...)
}

// startBroker runs the embedded broker as a process of its own and returns
// where it listens.
func startBroker(ctx context.Context, dir string) (*process.Process, string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", fmt.Errorf("start the broker: find this program: %w", err)
	}
	r, w := io.Pipe()
	p, err := process.Start(process.Spec{
		Name: "broker", Path: self, Args: []string{"broker", "--dir", filepath.Join(dir, "broker")},
		Log: filepath.Join(dir, "broker.log"), Stdout: w,
	})
	if err != nil {
		return nil, "", err
	}
	go func() {
		<-p.Done()
		_ = w.Close() // it never fails
	}()
	line := make(chan string, 1)
	go func() {
		scan := bufio.NewScanner(r)
		for scan.Scan() {
			select {
			case line <- scan.Text():
			default: // only the first is wanted; the others must be read all the same
			}
		}
		close(line)
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errors.New("it did not say within 30 s that it serves"))
	defer cancel()
	select {
	case text := <-line:
		if addr, ok := strings.CutPrefix(text, "KAFKA_BROKERS="); ok {
			return p, addr, nil
		}
		err = fmt.Errorf("it ended, or said %.200q", text)
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	return nil, "", errors.Join(fmt.Errorf("start the broker: %w; its last lines:\n%s", err, process.Tail(filepath.Join(dir, "broker.log"), 10)), p.Kill())
}
