package choreotest

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/choreography-go/choreography/choreo"
	"github.com/choreography-go/choreography/choreo/deadletter"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Expect waits until the service has said the next events of the flow, and
// fails the test unless they are these, in this order, with equal payloads. It
// goes on where the last expectation of the flow ended.
func (s *Service) Expect(flow string, events ...choreo.Emission) {
	s.t.Helper()
	for i, want := range events {
		got, ok := s.next(flow)
		switch {
		case !ok:
			s.fail(flow, "the service has not said %s after %v", show(want), s.patience)
			return
		case got.err != nil:
			s.fail(flow, "the payload of %s cannot be read: %v", got.Type, got.err)
			return
		case !reflect.DeepEqual(got.emission, want):
			s.fail(flow, "event %d of %d is\n        %s\n    want\n        %s", i+1, len(events), show(got.emission), show(want))
			return
		}
	}
}

// ExpectTypes is [Service.Expect] by type alone. It returns the payloads.
func (s *Service) ExpectTypes(flow string, types ...string) []choreo.Emission {
	s.t.Helper()
	var all []choreo.Emission
	for i, want := range types {
		got, ok := s.next(flow)
		switch {
		case !ok:
			s.fail(flow, "the service has not said %s after %v", want, s.patience)
			return nil
		case got.Type != want:
			s.fail(flow, "event %d of %d is %s, want %s", i+1, len(types), show(got.emission), want)
			return nil
		}
		all = append(all, got.emission)
	}
	return all
}

// ExpectNothingMore waits until the service has worked on everything that was
// published, and fails the test if it has said events of the flow, or made dead
// letters of it, that no expectation asked for. An event that waits for its next
// attempt is not waited for longer than [Patience]: it fails the test.
func (s *Service) ExpectNothingMore(flow string) {
	s.t.Helper()
	if err := s.settle(); err != nil {
		s.fail(flow, "the service has not worked on everything: %v", err)
		return
	}
	var extra []string
	s.mu.Lock()
	if f := s.flows[flow]; f != nil {
		for _, e := range f.own()[f.expected:] {
			extra = append(extra, show(e.emission))
		}
		for _, d := range f.dead[f.buried:] {
			extra = append(extra, "dead letter: "+d.why())
		}
	}
	s.mu.Unlock()
	if len(extra) > 0 {
		s.fail(flow, "the service has also said\n        %s", strings.Join(extra, "\n        "))
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

// why tells the step, the reason and the error.
func (d DeadLetter) why() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s: %s", d.Header("choreo-dlq-step"), d.Header("choreo-dlq-reason"), d.Header("choreo-dlq-error")))
}

// ExpectDeadLetter waits for the next dead letter with the flow's key, and
// fails the test if there is none.
func (s *Service) ExpectDeadLetter(key string) DeadLetter {
	s.t.Helper()
	letter, ok := await(s, func() (DeadLetter, bool) {
		f := s.flow(key)
		if len(f.dead) == f.buried {
			return DeadLetter{}, false
		}
		f.buried++
		return f.dead[f.buried-1], true
	})
	if !ok {
		s.t.Fatalf("flow %q: no dead letter after %v\n%s", key, s.patience, s.Tree(key))
	}
	return letter
}

// ExpectReplayed waits until a replay of the dead letter was worked on, and fails
// the test if nothing came of it, more than once, or another outcome.
func (s *Service) ExpectReplayed(d DeadLetter, want deadletter.Outcome) {
	s.t.Helper()
	at := deadletter.PositionOf(d.Record)
	got, ok := await(s, func() ([]deadletter.Outcome, bool) {
		got := slices.Clone(s.marks[at])
		return got, len(got) > 0
	})
	switch {
	case !ok:
		s.t.Fatalf("no replay of dead letter %v was worked on after %v", at, s.patience)
	case len(got) > 1 || got[0] != want:
		s.t.Errorf("the replay of dead letter %v has %v, want %v once", at, got, want)
	}
}

// next waits for one more event that the service said in the flow, and uses it
// up.
func (s *Service) next(id string) (seen, bool) {
	return await(s, func() (seen, bool) {
		f := s.flows[id]
		if f == nil {
			return seen{}, false
		}
		own := f.own()
		if len(own) <= f.expected {
			return seen{}, false
		}
		f.expected++
		return own[f.expected-1], true
	})
}

// await looks until there is what is looked for, and returns what it has seen last;
// false if that is not it when the service's patience is over. It looks again when
// something was read, and every few milliseconds: a deadline passes without a
// record. look is called with the lock held.
func await[T any](s *Service, look func() (T, bool)) (T, bool) {
	patience := time.NewTimer(s.patience)
	defer patience.Stop()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		s.mu.Lock()
		got, ok := look()
		changed := s.changed
		s.mu.Unlock()
		if ok {
			return got, true
		}
		select {
		case <-changed:
		case <-again.C:
		case <-patience.C:
			return got, false
		}
	}
}

// own are the events that the service said.
func (f *flow) own() []seen {
	var own []seen
	for _, e := range f.events {
		if e.own {
			own = append(own, e)
		}
	}
	return own
}

// settle waits until the service's committed offsets are at the end of all it
// hears, and what it said is read. However short the patience, it looks: what the
// broker takes for its answers is not the service's fault.
func (s *Service) settle() error {
	began := time.Now()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for quiet := 0; quiet < 2; <-look.C {
		behind, err := s.behind()
		switch {
		case err != nil:
			return err
		case behind == "":
			quiet++
		case time.Since(began) >= s.patience:
			return fmt.Errorf("after %v it is behind on %s", s.patience, behind)
		default:
			quiet = 0
		}
	}
	return nil
}

// behind names a partition that the service has not finished, or else one that the
// test has not read to its end; "" if there is none.
func (s *Service) behind() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	group := s.svc.Name()
	committed, err := s.admin.FetchOffsets(ctx, group)
	if err != nil {
		return "", fmt.Errorf("fetch the service's offsets: %w", err)
	}
	var topics []string
	for topic := range committed {
		topics = append(topics, topic)
	}
	ends, err := s.admin.ListCommittedOffsets(ctx, append(topics, s.topics...)...)
	if err != nil {
		return "", fmt.Errorf("list the ends of %s: %w", strings.Join(topics, ", "), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	unread := ""
	for topic, partitions := range ends {
		for p, end := range partitions {
			if slices.Contains(s.topics, topic) && s.read[topic][p] < end.Offset {
				unread = fmt.Sprintf("%s/%d: the test has read %d of %d", topic, p, s.read[topic][p], end.Offset)
			}
			if !slices.Contains(topics, topic) {
				continue
			}
			at, ok := committed.Lookup(topic, p)
			if !ok || at.At < end.Offset || at.Metadata != "" {
				return fmt.Sprintf("%s/%d: committed %d of %d", topic, p, at.At, end.Offset), nil
			}
		}
	}
	if unread != "" {
		return unread, nil
	}
	if flow, parked := s.parked.any(); parked {
		return fmt.Sprintf("an event of flow %q, which is parked", flow), nil
	}
	return "", nil
}

func show(e choreo.Emission) string { return fmt.Sprintf("%s %+v", e.Type, e.Data) }

// fail reports a failed expectation with the flow's causal tree.
func (s *Service) fail(flow, format string, a ...any) {
	s.t.Helper()
	s.t.Errorf("flow %q: %s\n    its events:\n%s", flow, fmt.Sprintf(format, a...), s.Tree(flow))
}
