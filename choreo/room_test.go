package choreo

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Who waits for room is told once for much that is given back, at once when it
// is a good piece, and in a moment when it is little.
func TestWhoWaitsForRoomIsToldOnceForMuch(t *testing.T) {
	rec := &kgo.Record{Value: make([]byte, 10)}
	for _, tc := range []struct {
		name    string
		records int   // the room holds
		bytes   int64 // the room holds
		given   int
		want    time.Duration
	}{
		{"a good piece", 160, 1 << 20, 10, 0},
		{"little", 160, 1 << 20, 9, gathering},
		{"many records, but few of the bytes", 200, 1600, 9, gathering},
		{"many of the bytes", 200, 1600, 10, 0},
		{"all of a small room", 1, 1 << 20, 1, 0},
		{"one of few", 4, 1 << 20, 1, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRoom(tc.records, tc.bytes)
				for r.try(rec) {
				}
				full, _ := r.used()
				began, told := time.Now(), 0
				closed := r.freed
				entered := make(chan time.Duration)
				go func() {
					if !r.wait(context.Background(), context.Background(), rec) {
						t.Error("no room")
					}
					entered <- time.Since(began)
				}()
				synctest.Wait()
				for range tc.given {
					r.give(10)
					select {
					case <-closed:
						told++
						closed = r.freed
					default:
					}
				}
				if took := <-entered; took != tc.want || told > 1 {
					t.Errorf("in the room after %v, told %d times before, want %v and once", took, told, tc.want)
				}
				if n, _ := r.used(); n != full-tc.given+1 {
					t.Errorf("%d records in the room of %d, of which %d were given back", n, full, tc.given)
				}
				time.Sleep(2 * gathering)
				r.mu.Lock()
				defer r.mu.Unlock()
				if r.waking {
					t.Error("a timer is still said to run")
				}
			})
		})
	}
}
