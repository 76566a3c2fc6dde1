//go:build unix

package choreo

import (
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
// run, so that they meet the same machine; each begins without garbage.
func BenchmarkOverByHand(b *testing.B) {
	for _, what := range []string{"reaction", "step"} {
		b.Run(what, func(b *testing.B) {
			const turns = 100
			x, y := newBelt(b, what), newBelt(b, what)
			spend := func(x *belt, deliver func([]*kgo.Record) int) time.Duration {
				runtime.GC()
				before := cpuTime(b)
				for range turns {
					x.turn(b, deliver)
				}
				return cpuTime(b) - before
			}
			var byHand, choreo time.Duration
			rounds := 0
			for b.Loop() {
				byHand += spend(x, x.byHand)
				choreo += spend(y, y.framework)
				rounds++
			}
			perRecord := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / float64(rounds*turns*beltBatch) }
			b.ReportMetric(perRecord(byHand), "byhand-ns/record")
			b.ReportMetric(perRecord(choreo), "choreo-ns/record")
			b.ReportMetric(perRecord(choreo-byHand), "over-ns/record")
			b.ReportMetric(0, "ns/op")
			b.Logf("allocations per record: by hand %.2f, choreo %.2f", x.mallocs(b, x.byHand), y.mallocs(b, y.framework))
		})
	}
}
