package choreo

import (
	"errors"
	"fmt"
	"testing"

	"github.com/choreography-go/choreography/choreo/internal/txn"
	"github.com/twmb/franz-go/pkg/kerr"
)

// At its start a service waits for absent brokers, and for nothing that only a
// person can change.
func TestWhatEndsAStart(t *testing.T) {
	for _, c := range []struct {
		err   error
		final bool
	}{
		{errors.New("dial tcp 127.0.0.1:9092: connect: connection refused"), false},
		{kerr.CoordinatorNotAvailable, false},
		{&txn.ClusterError{}, true},
		{&TopicsError{}, true},
		{kerr.TopicAuthorizationFailed, true},
		{kerr.ClusterAuthorizationFailed, true},
		{kerr.SaslAuthenticationFailed, true},
	} {
		if got := isFinal(fmt.Errorf("ask the brokers: %w", c.err)); got != c.final {
			t.Errorf("%v ends the start: %v, want %v", c.err, got, c.final)
		}
	}
}
