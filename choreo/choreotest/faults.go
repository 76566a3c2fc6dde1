package choreotest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/choreotest/internal/schedule"
	"github.com/choreography-go/choreography/choreo/choreotest/internal/simnet"
	"github.com/choreography-go/choreography/choreo/contract"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// strike lets the faults of the schedule happen, each at its time, and returns
// when all are over and what they broke is whole again.
func (w *World) strike() {
	var going sync.WaitGroup
	over := make(chan struct{}) // when no more requests are counted
	for _, f := range w.faults {
		time.Sleep(time.Until(w.began.Add(f.At)))
		going.Go(func() {
			effect, err := w.apply(f, over)
			switch {
			case err != nil:
				w.fail("the schedule can be followed", "", fmt.Sprintf("%v: %v", f, err))
			case effect != "":
				w.log.note("fault: %v: %s", f, effect)
			default:
				w.log.note("fault: %v", f)
			}
		})
	}
	end := w.began.Add(max(w.faults.End(), warmUp+w.sim.For))
	time.Sleep(time.Until(end))
	close(over)
	w.cluster.heal()
	w.mu.Lock()
	clear(w.handlers)
	w.mu.Unlock()
	w.sayHeld()
	going.Wait()
	w.log.note("the last fault is over")
}

// apply lets one fault happen. It returns what is to be remarked about it: that
// it had no effect, for example, because whom it was to strike was down.
func (w *World) apply(f schedule.Fault, over <-chan struct{}) (remark string, err error) {
	switch f.Kind {
	case schedule.BrokerError:
		key, err := requestKey(f.Request)
		if err != nil {
			return "", err
		}
		e, err := errorNamed(f.Err)
		if err != nil {
			return "", err
		}
		w.cluster.refuse(key, e, f.Count)
	case schedule.LeaderMove:
		return "", w.moveLeader(f)
	case schedule.CoordinatorMove:
		w.cluster.RehashCoordinators()
	case schedule.LateMarker:
		const most = 2 * time.Second
		w.cluster.LateMarkers(min(most, f.For), time.Now().Add(f.For))
	case schedule.Join:
		return w.join(f)
	case schedule.Deploy:
		return w.deploy(f)
	case schedule.HandlerError, schedule.HandlerPanic, schedule.HandlerSlow:
		w.mu.Lock()
		w.handlers[f.Target] = append(w.handlers[f.Target], &handlerFault{f, f.Count})
		w.mu.Unlock()
	case schedule.Duplicate:
		return w.duplicate(f)
	case schedule.Reorder:
		w.mu.Lock()
		w.holding += f.Count
		w.mu.Unlock()
		select {
		case <-time.After(10 * time.Second):
		case <-over:
		}
		w.sayHeld()
	default:
		i := w.instance(f.Target)
		if i == nil {
			return "", fmt.Errorf("there is no instance %q", f.Target)
		}
		return w.applyTo(i, f, over)
	}
	return "", nil
}

// applyTo lets a fault strike an instance.
func (w *World) applyTo(i *instance, f schedule.Fault, over <-chan struct{}) (remark string, err error) {
	w.mu.Lock()
	up, host := i.up, i.host
	w.mu.Unlock()
	if !up {
		return "it is down already", nil
	}
	switch f.Kind {
	case schedule.Cut:
		host.Cut()
	case schedule.Slow:
		host.Slow(time.Now().Add(f.For))
	case schedule.Freeze:
		host.Freeze(time.Now().Add(f.For))
		time.Sleep(f.For)
	case schedule.LostAnswer:
		return w.await(host, f, over, func(*simnet.Exchange) { host.Cut() })
	case schedule.LateRequest:
		return w.await(host, f, over, func(x *simnet.Exchange) { x.Stall(time.Now().Add(f.For)) })
	case schedule.Kill:
		return w.kill(i, host, f, over)
	case schedule.Leave:
		if !i.tryClaim() {
			return "it is starting or stopping already", nil
		}
		defer i.release()
		i.stop()
		time.Sleep(f.For)
		i.start()
	default:
		err = fmt.Errorf("there is no fault of that kind")
	}
	return remark, err
}

// kill kills an instance, now or around a request, and starts it again.
func (w *World) kill(i *instance, host *simnet.Host, f schedule.Fault, over <-chan struct{}) (remark string, err error) {
	struck := false
	strike := func() { struck = i.kill() }
	if f.Request == "" {
		strike()
	} else if remark, err = w.await(host, f, over, func(*simnet.Exchange) {
		w.mu.Lock()
		same := i.host == host
		w.mu.Unlock()
		if same {
			strike()
		}
	}); err != nil || remark != "" {
		return remark, err
	}
	if !struck {
		return "it is down already", nil
	}
	at := time.Since(w.began)
	if !i.tryClaim() { // it was being stopped, and is started by whoever did it
		return "it was stopping", nil
	}
	defer i.release()
	time.Sleep(f.For)
	w.mu.Lock()
	up := i.up
	w.mu.Unlock()
	if !up {
		i.start()
	}
	if f.Request != "" {
		remark = fmt.Sprintf("it was killed at %v", at)
	}
	return remark, nil
}

// await lets something happen around a host's request.
func (w *World) await(host *simnet.Host, f schedule.Fault, over <-chan struct{}, do func(*simnet.Exchange)) (remark string, err error) {
	key, err := requestKey(f.Request)
	if err != nil {
		return "", err
	}
	when := simnet.AfterAnswered
	if f.When == schedule.Before {
		when = simnet.BeforeSent
	}
	happened := make(chan struct{})
	cancel := host.On(simnet.Trigger{Key: int16(key), Nth: f.Nth, When: when, Do: func(x *simnet.Exchange) {
		do(x)
		close(happened)
	}})
	defer cancel()
	select {
	case <-happened:
		return "", nil
	case <-over:
		return "there was no such request", nil
	}
}

func (w *World) moveLeader(f schedule.Fault) error {
	if f.Target == "*" {
		for _, t := range w.sim.topics() {
			for p := range t.partitions {
				if err := w.cluster.MoveTopicPartition(t.name, int32(p), int32((f.Node+p)%w.sim.Brokers)); err != nil {
					return err
				}
			}
		}
		return nil
	}
	topic, number, _ := strings.Cut(f.Target, "/")
	p, err := strconv.ParseInt(number, 10, 32)
	if err != nil {
		return fmt.Errorf("the target is no partition, such as orders/3")
	}
	return w.cluster.MoveTopicPartition(topic, int32(p), int32(f.Node%w.sim.Brokers))
}

// join adds an instance for a while.
func (w *World) join(f schedule.Fault) (remark string, err error) {
	at := slices.IndexFunc(w.sim.services, func(s *simulatedService) bool { return s.name == f.Target })
	if at < 0 {
		return "", fmt.Errorf("there is no service %q", f.Target)
	}
	s := w.sim.services[at]
	i := w.instance(schedule.Instance(s.name, s.Instances))
	if i == nil {
		i = w.addInstance(s, s.Instances)
	}
	if !i.tryClaim() {
		return "it is there already", nil
	}
	defer i.release()
	i.start()
	time.Sleep(f.For)
	i.stop()
	return "", nil
}

// deploy replaces the instances of a service by its next version.
func (w *World) deploy(f schedule.Fault) (remark string, err error) {
	all := w.instancesOf(f.Target)
	if len(all) == 0 {
		return "", fmt.Errorf("there is no service %q", f.Target)
	}
	w.mu.Lock()
	if w.versions[f.Target]+1 >= len(all[0].service.makers) {
		w.mu.Unlock()
		return "the last version is deployed already", nil
	}
	w.versions[f.Target]++
	w.mu.Unlock()
	for _, i := range all {
		i.claim <- struct{}{}
		w.mu.Lock()
		up := i.up
		w.mu.Unlock()
		if up {
			i.stop()
			time.Sleep(f.For)
			i.start()
		}
		i.release()
	}
	return "", nil
}

// duplicate says one of the latest events of a topic again, as a publisher does
// that did not hear that it was said.
func (w *World) duplicate(f schedule.Fault) (remark string, err error) {
	// An older event would be one that everybody may have forgotten.
	const oldest = 20 * time.Second
	rec, name := w.see.latest(f.Target, f.Nth, time.Now().Add(-oldest))
	if rec == nil {
		return "nothing was said lately", nil
	}
	w.mu.Lock()
	w.duplicates[name]++
	w.mu.Unlock()
	return fmt.Sprintf("event %s of %s/%d/%d", name.id, rec.Topic, rec.Partition, rec.Offset), w.produce(&kgo.Record{
		Topic: rec.Topic, Key: rec.Key, Value: rec.Value, Headers: rec.Headers,
	})
}

// sayHeld says what was held back, the latest first.
func (w *World) sayHeld() {
	w.mu.Lock()
	held := w.held
	w.held, w.holding = nil, 0
	w.mu.Unlock()
	for _, rec := range slices.Backward(held) {
		if err := w.produce(rec); err != nil {
			w.fail("the workload begins its flows", "", err.Error())
		}
	}
}

// handlerFault strikes the next attempts of a service.
type handlerFault struct {
	schedule.Fault
	left int
}

var errInjected = errors.New("an injected fault")

// handlerFaults makes the middleware by which faults strike handlers.
func (w *World) handlerFaults(service string) choreo.Middleware {
	return func(next func(context.Context) error) func(context.Context) error {
		return func(ctx context.Context) error {
			f, n := w.nextHandlerFault(service, choreo.Meta(ctx).Step)
			switch f.Kind {
			case schedule.HandlerSlow:
				t := time.NewTimer(f.For)
				defer t.Stop()
				select {
				case <-t.C:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			case schedule.HandlerPanic:
				panic(errInjected)
			case schedule.HandlerError:
				if n%2 == 1 {
					return errInjected
				}
				if err := next(ctx); err != nil {
					return err
				}
				return errInjected
			}
			return next(ctx)
		}
	}
}

// nextHandlerFault is what strikes the next attempt of a handler. Transitions of
// a state are not repeated, so they do not fail: their flows would be stuck.
func (w *World) nextHandlerFault(service, handler string) (f schedule.Fault, left int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.handlers[service]
	if len(all) == 0 || all[0].Kind != schedule.HandlerSlow && w.sim.hasRole(service, handler, contract.Changes) {
		return f, 0
	}
	x := all[0]
	if x.left--; x.left <= 0 {
		w.handlers[service] = all[1:]
	}
	return x.Fault, x.left
}

// requestKey is the key of a type of request.
func requestKey(name string) (kmsg.Key, error) {
	for k := kmsg.Key(0); k <= kmsg.MaxKey; k++ {
		if kmsg.NameForKey(int16(k)) == name {
			return k, nil
		}
	}
	return 0, fmt.Errorf("no request of Kafka is named %q", name)
}

// errorNamed is the Kafka error of a name.
func errorNamed(name string) (*kerr.Error, error) {
	for code := int16(-1); code < 200; code++ {
		if e := kerr.TypedErrorForCode(code); e != nil && e.Message == name {
			return e, nil
		}
	}
	return nil, fmt.Errorf("no error of Kafka is named %q", name)
}
