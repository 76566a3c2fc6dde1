package choreotest

import "time"

// SetPatience changes how long an expectation waits from now on. What will not come
// need not be waited for, once all has come that will.
func (s *Service) SetPatience(d time.Duration) { s.patience = d }
