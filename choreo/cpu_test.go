//go:build unix

package choreo

import (
	"math"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// cpuTime is the CPU time that the process has used.
func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkOverByHand is what the runtime costs over forwarding by hand: CPU
// time per record, the garbage collector's included. Both take turns in one
// run, so that they meet the same machine, and of each the least disturbed
// round counts: what else runs on the machine only ever adds.
func BenchmarkOverByHand(b *testing.B) {
	for _, what := range []string{"reaction", "step", "step with a door"} {
		b.Run(what, func(b *testing.B) {
			const turns = 20
			x, y := newBelt(b, what), newBelt(b, what)
			round := func(x *belt, deliver func([]*kgo.Record) int) float64 {
				runtime.GC()
				before := cpuTime(b)
				for range turns {
					x.turn(b, deliver)
				}
				return float64((cpuTime(b) - before).Nanoseconds()) / (turns * beltBatch)
			}
			byHand, choreo := math.Inf(1), math.Inf(1)
			for b.Loop() {
				byHand = min(byHand, round(x, x.byHand))
				choreo = min(choreo, round(y, y.framework))
			}
			b.ReportMetric(byHand, "byhand-ns/record")
			b.ReportMetric(choreo, "choreo-ns/record")
			b.ReportMetric(choreo-byHand, "over-ns/record")
			b.ReportMetric(x.mallocs(b, x.byHand), "byhand-allocs/record")
			b.ReportMetric(y.mallocs(b, y.framework), "choreo-allocs/record")
			b.ReportMetric(0, "ns/op")
		})
	}
}
