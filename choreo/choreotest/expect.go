package choreotest

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Expect waits until the service has said the next events of the flow, and
// fails the test unless they are these, in this order, with equal payloads. It
// goes on where the last expectation of the flow ended.
func (s *Service) Expect(flow string, events ...choreo.Emission) {
	s.t.Helper()
	got := s.next(flow, len(events))
	for i, want := range events {
		if i >= len(got) {
			s.fail(flow, "the service has not said %s after %v", show(want), Patience)
			return
		}
		if got[i].err != nil {
			s.fail(flow, "the payload of %s cannot be read: %v", got[i].Type, got[i].err)
			return
		}
		if !reflect.DeepEqual(got[i].emission, want) {
			s.fail(flow, "event %d is %s, want %s", i+1, show(got[i].emission), show(want))
			return
		}
	}
}

// ExpectTypes is [Service.Expect] by type alone. It returns the payloads.
func (s *Service) ExpectTypes(flow string, types ...string) []choreo.Emission {
	s.t.Helper()
	got := s.next(flow, len(types))
	var all []choreo.Emission
	for i, want := range types {
		if i >= len(got) {
			s.fail(flow, "the service has not said %s after %v", want, Patience)
			return nil
		}
		if got[i].Type != want {
			s.fail(flow, "event %d is %s, want %s", i+1, show(got[i].emission), want)
			return nil
		}
		all = append(all, got[i].emission)
	}
	return all
}

// ExpectNothingMore waits until the service has worked on everything that was
// published, and fails the test if it has said events of the flow that no
// expectation asked for. An event that waits for its next attempt is not waited
// for longer than [Patience]: it fails the test.
func (s *Service) ExpectNothingMore(flow string) {
	s.t.Helper()
	if err := s.settle(); err != nil {
		s.fail(flow, "the service has not worked on everything: %v", err)
		return
	}
	s.mu.Lock()
	f := s.flows[flow]
	var extra *seen
	if f != nil {
		n := 0
		for i := range f.events {
			if f.events[i].own {
				if n == f.expected && extra == nil {
					extra = &f.events[i]
				}
				if n >= f.expected {
					continue
				}
				n++
			}
		}
	}
	s.mu.Unlock()
	if extra != nil {
		s.fail(flow, "the service has also said %s", show(extra.emission))
	}
}

// DeadLetter is an event that the service could not work on, as it lies on the
// service's dead-letter topic.
type DeadLetter struct{ Record *kgo.Record }

// Header returns the value of the last header with that key, "" if there is
// none.
func (d DeadLetter) Header(key string) string {
	v := ""
	for _, h := range d.Record.Headers {
		if h.Key == key {
			v = string(h.Value)
		}
	}
	return v
}

// ExpectDeadLetter waits for the next dead letter with the flow's key, and
// fails the test if there is none.
func (s *Service) ExpectDeadLetter(key string) DeadLetter {
	s.t.Helper()
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	for {
		s.mu.Lock()
		f, changed := s.flow(key), s.changed
		if len(f.dead) > f.buried {
			d := f.dead[f.buried]
			f.buried++
			s.mu.Unlock()
			return d
		}
		s.mu.Unlock()
		select {
		case <-changed:
		case <-deadline.C:
			s.t.Helper()
			s.t.Fatalf("flow %q: no dead letter after %v\n%s", key, Patience, s.Tree(key))
		}
	}
}

// next waits for n more events that the service said in the flow.
func (s *Service) next(id string, n int) []seen {
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	for {
		s.mu.Lock()
		var own []seen
		f := s.flows[id]
		if f != nil {
			for _, e := range f.events {
				if e.own {
					own = append(own, e)
				}
			}
			own = own[f.expected:]
		}
		changed := s.changed
		if len(own) >= n {
			if f != nil {
				f.expected += n
			}
			s.mu.Unlock()
			return own[:n]
		}
		s.mu.Unlock()
		select {
		case <-changed:
		case <-deadline.C:
			return own
		}
	}
}

// settle waits until the service's committed offsets are at the end of all it
// hears, and what it said is read.
func (s *Service) settle() error {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	var behind string
	for quiet := 0; quiet < 2; {
		var err error
		behind, err = s.behind(ctx)
		if err != nil {
			return err
		}
		if quiet++; behind != "" {
			quiet = 0
		}
		select {
		case <-ctx.Done():
			if behind != "" {
				return fmt.Errorf("after %v it is behind on %s", Patience, behind)
			}
			return ctx.Err()
		case <-look.C:
		}
	}
	return nil
}

// behind names a partition that the service has not finished, or that the test
// has not read to its end; "" if there is none.
func (s *Service) behind(ctx context.Context) (string, error) {
	group := s.svc.Name()
	committed, err := s.admin.FetchOffsets(ctx, group)
	if err != nil {
		return "", fmt.Errorf("fetch the service's offsets: %w", err)
	}
	var topics []string
	for topic := range committed {
		topics = append(topics, topic)
	}
	ends, err := s.admin.ListCommittedOffsets(ctx, topics...)
	if err != nil {
		return "", fmt.Errorf("list the ends of %s: %w", strings.Join(topics, ", "), err)
	}
	for topic, partitions := range ends {
		for p, end := range partitions {
			at, ok := committed.Lookup(topic, p)
			if !ok || at.At < end.Offset || at.Metadata != "" {
				return fmt.Sprintf("%s/%d: committed %d of %d", topic, p, at.At, end.Offset), nil
			}
		}
	}
	return "", nil
}

func show(e choreo.Emission) string { return fmt.Sprintf("%s %+v", e.Type, e.Data) }

// fail reports a failed expectation with the flow's causal tree.
func (s *Service) fail(flow, format string, a ...any) {
	s.t.Helper()
	s.t.Errorf("flow %q: %s\n%s", flow, fmt.Sprintf(format, a...), s.Tree(flow))
}
