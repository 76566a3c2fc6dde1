package task

// InstanceInUseError ends Run: another process has joined the group under the
// same instance id.
type InstanceInUseError struct{ Group, InstanceID string }

// OffsetsError stops a task: what the group committed and what the journal says
// do not fit together, or the log no longer holds what was not read yet. Only
// a person can decide what to do, with the command that the text names.
type OffsetsError struct {
	Group, Topic string
	Partition    int32
	// What says what was found.
	What string
	// Remedy is the command that decides.
	Remedy string
}

// TopicError says that a topic is missing or is not as it was, and what to do.
type TopicError struct {
	Topic, What, Remedy string
}

func (e *InstanceInUseError) Error() string {
	return "INSTANCE_ID " + e.InstanceID
}
func (e *OffsetsError) Error() string { return e.What }
func (e *TopicError) Error() string   { return e.What }
