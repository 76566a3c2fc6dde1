package task

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
)

// InstanceInUseError ends Run: another process has joined the group under the
// same instance id, so the broker fenced this one.
type InstanceInUseError struct{ Group, InstanceID string }

func (e *InstanceInUseError) Error() string {
	return fmt.Sprintf("INSTANCE_ID %q is in use by another process of consumer group %q: the broker has fenced this one; give every process an instance id of its own", e.InstanceID, e.Group)
}

// OffsetsError stops a task: what the group committed and what the journal says
// do not fit together, or the log does not hold any more what was not read yet.
// Only a person can decide what to do, with the command that Remedy names.
type OffsetsError struct {
	Group, Topic string
	Partition    int32
	// What was found, as a clause: "the journal says ..., but ...".
	What string
	// Remedy is the command that decides.
	Remedy string
}

func (e *OffsetsError) Error() string {
	return fmt.Sprintf("group %q, topic %q, partition %d: %s; nothing is reset silently: decide with `%s`, then restart", e.Group, e.Topic, e.Partition, e.What, e.Remedy)
}

// TopicError says that a topic is missing, does not fit or is not as it was,
// and what to do.
type TopicError struct {
	Topic string
	// What was found, as a clause.
	What string
	// Remedy is what to do, as an imperative clause.
	Remedy string
}

func (e *TopicError) Error() string {
	return fmt.Sprintf("topic %q %s: %s", e.Topic, e.What, e.Remedy)
}

// StoreError stops a task: records of its journal could not be read.
type StoreError struct {
	Topic     string
	Partition int32
	Err       error
}

func (e *StoreError) Error() string {
	return fmt.Sprintf("restoring journal %q, partition %d: %v", e.Topic, e.Partition, e.Err)
}

// Unwrap is the store's own error.
func (e *StoreError) Unwrap() error { return e.Err }

// refusedError is an engine's refusal to open a task.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

// stops tells whether an error stops the task, because trying again cannot
// mend it.
func stops(err error) bool {
	var oe *OffsetsError
	var te *TopicError
	var se *StoreError
	var re *refusedError
	return errors.As(err, &re) || errors.As(err, &oe) || errors.As(err, &te) || errors.As(err, &se) || denied(err)
}

func denied(err error) bool {
	for _, e := range []error{kerr.GroupAuthorizationFailed, kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// fatal is what Run ends with for an error of the group client that joining
// again cannot mend; nil for the others.
func (c *Config) fatal(err error) error {
	switch {
	case errors.Is(err, kerr.FencedInstanceID):
		return &InstanceInUseError{Group: c.Group, InstanceID: c.InstanceID}
	case denied(err):
		return fmt.Errorf("joining consumer group %q on topic %q: %w; grant the principal READ on both", c.Group, c.Inbox, err)
	case errors.Is(err, kerr.InconsistentGroupProtocol):
		return fmt.Errorf("joining consumer group %q: %w; its members use another kind of assignment: is the name used by something else, or does the group protocol setting differ between members?", c.Group, err)
	case errors.Is(err, kerr.InvalidSessionTimeout):
		return fmt.Errorf("joining consumer group %q: %w; a session timeout of %v is outside the broker's group.min.session.timeout.ms and group.max.session.timeout.ms", c.Group, err, c.SessionTimeout)
	case errors.Is(err, kerr.InvalidGroupID), errors.Is(err, kerr.GroupMaxSizeReached), errors.Is(err, kerr.GroupIDNotFound),
		errors.Is(err, kerr.UnsupportedVersion), errors.Is(err, kerr.UnsupportedAssignor):
		return fmt.Errorf("joining consumer group %q: %w", c.Group, err)
	}
	return nil
}
