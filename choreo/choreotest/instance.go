package choreotest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest/internal/schedule"
	"github.com/choreography-go/choreography/choreo/choreotest/internal/simnet"
	"github.com/twmb/franz-go/pkg/kgo"
)

// instance is one instance of a service: one process after another under one
// name. Its fields are guarded by World.mu.
type instance struct {
	w       *World
	service *simulatedService
	name    string
	claim   chan struct{} // who starts and stops it holds what is in it

	up      bool
	host    *simnet.Host
	log     *page
	running *choreo.Service
	cancel  context.CancelFunc
	done    chan struct{}
	killed  []chan struct{} // processes that were killed and may not have returned
}

func (w *World) addInstance(s *simulatedService, number int) *instance {
	i := &instance{w: w, service: s, name: schedule.Instance(s.name, number), claim: make(chan struct{}, 1)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.instances = append(w.instances, i)
	return i
}

// config is how an instance runs.
func (w *World) config(host *simnet.Host, log *page, name string) choreo.Config {
	c := choreo.Config{
		InstanceID: name,
		Logger:     log.logger(),
	}
	if w.sim.Configure != nil {
		w.sim.Configure(&c)
	}
	// The world's own.
	c.Brokers, c.TopicPrefix, c.Listen = w.cluster.Addrs(), "", host.Listen
	c.ClientOptions = append(slices.Clip(c.ClientOptions), kgo.Dialer(host.Dial), kgo.FetchMaxWait(fetchWait),
		kgo.DisableClientMetrics())
	return c
}

// fetchWait is how long a fetch waits for records: so long that little happens
// while nothing does.
const fetchWait = 5 * time.Second

// start starts a process. The caller holds the claim, or is alone.
func (i *instance) start() {
	w := i.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if i.host == nil {
		i.host = w.network.Host(i.name)
	} else {
		i.host = i.host.Revive()
	}
	svc := i.service.makers[w.versions[i.service.name]]()
	svc.Use(w.handlerFaults(i.service.name))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	i.up, i.running, i.cancel, i.done = true, svc, cancel, done
	i.log = &page{logbook: w.log}
	cfg := w.config(i.host, i.log, i.name)
	w.processes.Go(func() {
		err := svc.Run(ctx, cfg)
		close(done)
		if err != nil && ctx.Err() == nil {
			i.crashed(done, err)
		}
	})
}

// crashed starts a process again that has ended by itself.
func (i *instance) crashed(done chan struct{}, err error) {
	i.w.log.note("%s ended with an error: %v", i.name, err)
	i.claim <- struct{}{}
	defer i.release()
	i.w.mu.Lock()
	same := i.done == done && i.up
	if same {
		i.up = false
	}
	i.w.mu.Unlock()
	if !same {
		return
	}
	i.w.fail(endsByItself, "", fmt.Sprintf("%s at %v: %v", i.name, time.Since(i.w.began), err))
	select {
	case <-time.After(time.Second):
		i.start()
	case <-i.w.closing:
	}
}

// kill ends the process at once: nothing of it gets out any more. It does not
// wait. It reports whether the process was up.
func (i *instance) kill() bool {
	w := i.w
	w.mu.Lock()
	if !i.up {
		w.mu.Unlock()
		return false
	}
	i.up = false
	i.killed = append(i.killed, i.done)
	host, cancel := i.host, i.cancel
	i.log.dead.Store(true)
	w.mu.Unlock()
	host.Kill()
	cancel()
	return true
}

// stop stops the process gracefully, and waits for it.
func (i *instance) stop() {
	w := i.w
	w.mu.Lock()
	if !i.up {
		w.mu.Unlock()
		return
	}
	i.up = false
	cancel, done := i.cancel, i.done
	w.mu.Unlock()
	cancel()
	limit := time.NewTimer(stopLimit)
	defer limit.Stop()
	select {
	case <-done:
	case <-limit.C:
		w.fail(allStops, "", fmt.Sprintf("%s has not stopped %v after it was asked to", i.name, stopLimit))
		i.host.Kill()
		select {
		case <-done:
		case <-time.After(stopLimit):
		}
	}
}

// tryClaim reports whether nobody else starts or stops the instance now, and
// claims it then.
func (i *instance) tryClaim() bool {
	select {
	case i.claim <- struct{}{}:
		return true
	default:
		return false
	}
}

func (i *instance) release() { <-i.claim }

// instance finds one by its name.
func (w *World) instance(name string) *instance {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, i := range w.instances {
		if i.name == name {
			return i
		}
	}
	return nil
}

// instancesOf are those of a service.
func (w *World) instancesOf(service string) (all []*instance) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, i := range w.instances {
		if i.service.name == service {
			all = append(all, i)
		}
	}
	return all
}

// runningInstance is one of those of a service that are up, another one for
// every n; nil if none is.
func (w *World) runningInstance(service string, n int) *instance {
	w.mu.Lock()
	defer w.mu.Unlock()
	var up []*instance
	for _, i := range w.instances {
		if i.service.name == service && i.up {
			up = append(up, i)
		}
	}
	if len(up) == 0 {
		return nil
	}
	return up[n%len(up)]
}
