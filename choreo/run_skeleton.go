package choreo

import (
	"context"
	"sync/atomic"
)

type runningService struct{ atomic.Pointer[engine] }

// Run runs the service until ctx ends, then stops it gracefully: nothing new
// is taken, what is in work is finished and committed within
// [Config].StopTimeout, and a restart under the same instance id continues at
// once. It returns nil after a graceful stop, and otherwise the error that
// ended the run.
func (s *Service) Run(ctx context.Context, cfg Config) error { return nil }
