//go:build !unix

package contender

import "time"

func cpu() time.Duration { return 0 }

func resident() uint64 { return 0 }
