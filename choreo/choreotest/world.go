package choreotest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest/internal/schedule"
	"github.com/choreography-go/choreography/choreo/choreotest/internal/simnet"
	"github.com/choreography-go/choreography/choreo/deadletter"
	"github.com/choreography-go/choreography/choreo/operator"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// World is the simulated world of one run, as a [Workload] sees it. Its methods
// may be called by any number of goroutines.
type World struct {
	sim     *simulation
	seed    uint64
	faults  schedule.Schedule
	ticks   *atomic.Int64
	began   time.Time
	ctx     context.Context // ends when the run does
	log     *logbook
	network *simnet.Network
	cluster *cluster
	outside *simnet.Host // of the workload and the observer: no fault strikes it
	client  *kgo.Client  // says what the workload says
	admin   *kadm.Client
	see     *observer
	closing chan struct{} // closed when nobody is started any more

	processes sync.WaitGroup // that run, or are to be started again
	helpers   sync.WaitGroup // that end with ctx

	mu         sync.Mutex
	instances  []*instance
	versions   map[string]int // of each service, the one that is deployed
	handlers   map[string][]*handlerFault
	held       []*kgo.Record // said, and held back to be reordered
	holding    int           // how many more to hold
	flows      []string      // that have begun, in their order
	begun      map[string]bool
	failures   []violation // found while the run goes on
	duplicates map[eventName]int
}

// eventName is what makes an event unique.
type eventName struct{ source, id string }

func newWorld(s *simulation, seed uint64, faults schedule.Schedule, ticks *atomic.Int64) *World {
	w := &World{
		sim: s, seed: seed, faults: faults, ticks: ticks, began: time.Now(), versions: map[string]int{},
		handlers: map[string][]*handlerFault{}, begun: map[string]bool{}, duplicates: map[eventName]int{}, closing: make(chan struct{}),
	}
	w.log = &logbook{began: w.began}
	return w
}

// run lives through one world, from its beginning to its end.
func (w *World) run() (r result) {
	r.faults = w.faults
	ctx, end := context.WithCancel(context.Background())
	w.ctx = ctx
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		t := time.NewTicker(time.Second)
		defer t.Stop()
		for {
			w.ticks.Add(1)
			select {
			case <-t.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	defer func() {
		end()
		<-stopped
		r.simulated = time.Since(w.began)
		r.log = w.log.lines()
		w.mu.Lock()
		r.violations = append(w.failures, r.violations...)
		w.mu.Unlock()
	}()
	if err := w.open(); err != nil {
		w.fail("the simulation starts", "", err.Error())
		return r
	}
	w.live()
	w.settle()
	w.stopAll()
	w.see.close()
	h := w.history()
	r.history, r.flows, r.events = h, h.flows, h.events
	r.violations = append(h.check(w.sim), w.checkFlows(h)...)
	end()
	w.helpers.Wait()
	w.client.Close()
	w.cluster.Close()
	w.network.Close()
	// What is on its way still falls due within this time.
	time.Sleep(time.Minute)
	return r
}

// open starts brokers, makes the topics, and starts everybody.
func (w *World) open() (err error) {
	w.network = simnet.New(simnet.Config{Seed: w.seed, Latency: latency})
	if w.cluster, err = openCluster(w.network, w.sim.Brokers, w.seed); err != nil {
		return err
	}
	w.outside = w.network.Host("world")
	if w.client, err = kgo.NewClient(kgo.SeedBrokers(w.cluster.Addrs()...), kgo.Dialer(w.outside.Dial), kgo.DisableClientMetrics(), kgo.ProducerLinger(0),
		kgo.ProducerBatchMaxBytes(16<<20), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil))); err != nil {
		return err
	}
	w.admin = kadm.NewClient(w.client)
	for _, s := range w.sim.services {
		if err := s.makers[0]().CreateTopics(w.ctx, w.config(w.outside, &page{logbook: w.log}, "topics")); err != nil {
			return err
		}
	}
	for _, t := range w.sim.topics() {
		if err := w.cluster.Place(t.name, w.seed); err != nil {
			return err
		}
	}
	if w.see, err = w.observe(); err != nil {
		return err
	}
	groups := &sessions{cluster: w.cluster, client: w.client, log: w.log}
	for _, s := range w.sim.services {
		groups.groups = append(groups.groups, s.name)
	}
	w.helpers.Go(func() { groups.watch(w.ctx) })
	for _, s := range w.sim.services {
		for n := range s.Instances {
			w.addInstance(s, n).start()
		}
	}
	return nil
}

// latency is the mean time that what is sent takes, one way.
const latency = time.Millisecond

// live lets faults and flows happen.
func (w *World) live() {
	var work sync.WaitGroup
	work.Go(w.strike)
	time.Sleep(warmUp)
	every := cmp.Or(w.sim.workload.Every, w.sim.For/time.Duration(w.sim.workload.Flows))
	for n := range w.sim.workload.Flows {
		work.Go(func() {
			flow := fmt.Sprintf("flow-%d", n+1)
			if err := w.sim.workload.Begin(w, flow); err != nil {
				w.fail("the workload begins its flows", flow, err.Error())
			}
		})
		time.Sleep(every)
	}
	work.Wait()
}

// settle waits until all has ended, or the time for it is over.
func (w *World) settle() {
	const quiet = 15 * time.Second // longer than any transaction stays open
	deadline := time.Now().Add(w.sim.Settle)
	var since time.Time
	for time.Now().Before(deadline) {
		time.Sleep(time.Second)
		if w.see.count() != w.see.last {
			w.see.last, since = w.see.count(), time.Now()
		}
		if time.Since(since) < quiet || len(w.unended()) > 0 {
			continue
		}
		if behind, err := w.behind(deadline); err == nil && behind == "" {
			return
		}
	}
	if behind, err := w.behind(deadline); err != nil {
		w.fail(nothingLost, "", fmt.Sprintf("after %v: %v", w.sim.Settle, err))
	} else if behind != "" {
		w.fail(nothingLost, "", fmt.Sprintf("%v after the last fault not everything is worked on: %s%s", w.sim.Settle, behind, w.notReady()))
	}
}

// unended are the flows that have begun and have not ended.
func (w *World) unended() (open []string) {
	w.mu.Lock()
	flows := slices.Clone(w.flows)
	w.mu.Unlock()
	for _, id := range flows {
		if !w.see.over(id) {
			open = append(open, id)
		}
	}
	return open
}

// notReady tells why services say that they are not ready.
func (w *World) notReady() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := ""
	for _, i := range w.instances {
		if i.up {
			if err := i.running.Ready(); err != nil {
				text += fmt.Sprintf("; %s is not ready: %v", i.name, err)
			}
		}
	}
	return text
}

// behind names a partition that its service has not finished, or that the
// observer has not read to its end, or a deadline that is to fire until a time or
// be met; "" if there is none.
func (w *World) behind(until time.Time) (string, error) {
	ctx, cancel := context.WithTimeout(w.ctx, 10*time.Second)
	defer cancel()
	var names []string
	for _, t := range w.sim.topics() {
		names = append(names, t.name)
	}
	stable, err := w.admin.ListCommittedOffsets(ctx, names...)
	if err != nil {
		return "", fmt.Errorf("list the last stable offsets: %w", err)
	}
	ends, err := w.admin.ListEndOffsets(ctx, names...)
	if err != nil {
		return "", fmt.Errorf("list the ends of the topics: %w", err)
	}
	for _, t := range w.sim.topics() {
		for p, at := range stable[t.name] {
			if end := ends[t.name][p].Offset; at.Offset != end {
				return fmt.Sprintf("%s/%d has an open transaction from offset %d on, its end is %d", t.name, p, at.Offset, end), nil
			}
			if read := w.see.position(t.name, p); read < at.Offset {
				return fmt.Sprintf("%s/%d is read up to %d of %d by the observer", t.name, p, read, at.Offset), nil
			}
		}
	}
	for _, s := range w.sim.services {
		committed, err := w.admin.FetchOffsets(ctx, s.name)
		if err != nil {
			return "", fmt.Errorf("fetch the offsets of %s: %w", s.name, err)
		}
		for _, topic := range s.inputs() {
			for p, end := range stable[topic] {
				at, ok := committed.Lookup(topic, p)
				if ok && at.At == end.Offset && at.Metadata == "" || !ok && end.Offset == 0 {
					continue
				}
				return fmt.Sprintf("%s has finished %s/%d up to %d of %d (beyond: %q)", s.name, topic, p, at.At, end.Offset, at.Metadata), nil
			}
		}
	}
	if flow, parked := w.see.waiting(); parked {
		return fmt.Sprintf("an event of flow %q is parked", flow), nil
	}
	if d, pending := w.see.pending(until); pending {
		return fmt.Sprintf("deadline %q of flow %q is pending", d.name, d.flow), nil
	}
	return "", nil
}

// stopAll stops everybody gracefully, and waits for those who were killed too.
func (w *World) stopAll() {
	close(w.closing)
	w.mu.Lock()
	all := slices.Clone(w.instances)
	w.mu.Unlock()
	var wg sync.WaitGroup
	for _, i := range all {
		wg.Go(i.stop)
	}
	wg.Wait()
	for _, i := range all {
		for _, p := range i.killed {
			select {
			case <-p:
			case <-time.After(stopLimit):
				w.fail(allStops, "", fmt.Sprintf("a killed process of %s has not returned from Run after %v", i.name, stopLimit))
			}
		}
	}
	if !w.hasFailed(allStops) {
		w.processes.Wait()
	}
}

// stopLimit is how long a service may take to stop.
const stopLimit = 2 * time.Minute

// Context ends when the run does.
func (w *World) Context() context.Context { return w.ctx }

// Say says an event in a flow as somebody outside would who is none of the
// services: at once on its topic. One of the services must declare it. Events
// may be said twice or in another order when the options ask for that.
func (w *World) Say(flow string, e choreo.Emission) error {
	var rec *kgo.Record
	for _, s := range w.sim.services {
		r, err := s.makers[0]().Encode(flow, e)
		if err == nil {
			rec = r
			break
		}
		if !errors.Is(err, choreo.ErrUndeclared) {
			return err
		}
	}
	if rec == nil {
		return fmt.Errorf("say %s: no service declares it", e.Type)
	}
	w.Began(flow)
	w.mu.Lock()
	if w.holding > 0 {
		w.held = append(w.held, rec)
		w.holding--
		w.mu.Unlock()
		return nil
	}
	w.mu.Unlock()
	return w.produce(rec)
}

// produce says a record, for as long as it takes.
func (w *World) produce(rec *kgo.Record) error {
	if err := w.client.ProduceSync(w.ctx, rec).FirstErr(); err != nil {
		return fmt.Errorf("say an event on %s: %w", rec.Topic, err)
	}
	return nil
}

// Publish says an event in a flow through [choreo.Service.Publish] of a running
// instance of a service, under the flow as idempotency key, again at another
// instance until it succeeds. So a flow publishes one event of a type.
func (w *World) Publish(service, flow string, e choreo.Emission) error {
	w.Began(flow)
	for n := 0; ; n++ {
		i := w.runningInstance(service, n)
		var err error
		if i == nil {
			err = fmt.Errorf("no instance of %q runs", service)
		} else {
			ctx, cancel := context.WithTimeout(w.ctx, 5*time.Second)
			_, err = i.running.Publish(ctx, e, choreo.Flow(flow), choreo.IdempotencyKey(flow+" "+e.Type))
			cancel()
		}
		if err == nil || errors.Is(err, choreo.ErrUndeclared) {
			return err
		}
		if n == 300 {
			return fmt.Errorf("publish %s at %s, %d times: %w", e.Type, service, n, err)
		}
		select {
		case <-time.After(time.Second):
		case <-w.ctx.Done():
			return w.ctx.Err()
		}
	}
}

// Replay sends the dead letters of a flow again that lie at a service and of
// which nothing has become yet, as choreo dlq replay --flow does. It returns how
// many there were.
func (w *World) Replay(service, flow string) (int, error) {
	letters := w.see.letters(service+".dlq", flow)
	for _, rec := range letters {
		l, _ := deadletter.ReadLetter(rec)
		again, err := l.Replay(rec, service+".inbox", false)
		if err != nil {
			return 0, err
		}
		if err := w.produce(again); err != nil {
			return 0, err
		}
	}
	return len(letters), nil
}

// Stuck is what of a service's flows is stuck, as choreo stuck ls lists it.
func (w *World) Stuck(service string) []operator.Item { return w.see.stuckAt(service) }

// Tell sends a command about a flow to a service, as choreo stuck does. What comes
// of it is in the flow's Audits.
func (w *World) Tell(service string, c operator.Command) error {
	if err := c.Validate(); err != nil {
		return err
	}
	return w.produce(c.Record(service + ".inbox"))
}

// Began says that a flow has begun that [World.Say] and [World.Publish] do not
// know of, such as one that was begun over HTTP: it must end like the others.
func (w *World) Began(flow string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.begun[flow] {
		w.begun[flow] = true
		w.flows = append(w.flows, flow)
	}
}

// HTTP returns a client whose requests reach a running instance of a service,
// whatever the host in the URL; the port must be that of the service's
// [choreo.HTTP].
func (w *World) HTTP(service string) *http.Client {
	var next atomic.Int64
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, // each request asks another instance
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			i := w.runningInstance(service, int(next.Add(1)))
			if i == nil {
				return nil, fmt.Errorf("no instance of %q runs", service)
			}
			_, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return w.outside.Dial(ctx, network, net.JoinHostPort(i.name, port))
		},
	}}
}

// hasFailed reports whether a violation of an invariant was noted.
func (w *World) hasFailed(invariant string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.failures, func(v violation) bool { return v.invariant == invariant })
}

// fail notes a violation that was found while the run goes on.
func (w *World) fail(invariant, flow, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures = append(w.failures, violation{invariant, flow, text})
}

// Sleep lets simulated time pass, or returns an error when the run has ended.
func (w *World) Sleep(d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-w.ctx.Done():
		return fmt.Errorf("the run has ended: %w", w.ctx.Err())
	}
}
