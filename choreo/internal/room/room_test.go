package room

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fill takes room for as many records of n bytes as the room is for.
func fill(t *testing.T, r *Room, n int64) (records int) {
	t.Helper()
	records = int(min(int64(r.MaxRecords), r.MaxBytes/n))
	for i := range records {
		if !r.Try(n) {
			t.Fatalf("no room for record %d", i)
		}
	}
	return records
}

func TestARoomIsForSoManyRecordsAndBytes(t *testing.T) {
	closed := false
	for name, tc := range map[string]struct {
		room *Room
		in   []int64 // what there is room for
		out  int64   // what there is none for then
	}{
		"records":                     {&Room{MaxRecords: 2, MaxBytes: 100}, []int64{10, 10}, 10},
		"bytes":                       {&Room{MaxRecords: 10, MaxBytes: 100}, []int64{60, 40}, 1},
		"a record larger than all":    {&Room{MaxRecords: 10, MaxBytes: 100}, []int64{101}, 1},
		"none larger beside another":  {&Room{MaxRecords: 10, MaxBytes: 100}, []int64{1}, 100},
		"of nothing, one after other": {&Room{}, []int64{1}, 1},
		"closed for another reason":   {&Room{MaxRecords: 10, MaxBytes: 100, Closed: func() bool { return true }}, nil, 1},
		"not closed":                  {&Room{MaxRecords: 1, MaxBytes: 100, Closed: func() bool { return closed }}, []int64{1}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := tc.room
			var bytes int64
			for _, n := range tc.in {
				if !r.Try(n) {
					t.Fatalf("no room for %d of %v", n, tc.in)
				}
				bytes += n
			}
			if r.Try(tc.out) {
				t.Errorf("room for %d beside %v", tc.out, tc.in)
			}
			if n, b := r.Used(); n != len(tc.in) || b != bytes {
				t.Errorf("%d records of %d bytes are in it, want %d of %d", n, b, len(tc.in), bytes)
			}
			for _, n := range tc.in {
				r.Give(n)
			}
			if n, b := r.Used(); n != 0 || b != 0 {
				t.Errorf("%d records of %d bytes are left", n, b)
			}
			if len(tc.in) > 0 && !r.Try(tc.in[0]) {
				t.Error("there is no room again")
			}
		})
	}
}

// Who waits for room is told once for much that is given back, at once when it
// is a good piece, and in a moment when it is little.
func TestWhoWaitsForRoomIsToldOnceForMuch(t *testing.T) {
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
				r := &Room{MaxRecords: tc.records, MaxBytes: tc.bytes}
				full := fill(t, r, 10)
				began, told := time.Now(), 0
				entered := make(chan time.Duration)
				go func() {
					if !r.Wait(context.Background(), context.Background(), 10) {
						t.Error("no room")
					}
					entered <- time.Since(began)
				}()
				synctest.Wait()
				closed := r.freed
				for range tc.given {
					r.Give(10)
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
				if n, _ := r.Used(); n != full-tc.given+1 {
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

// Who waits gives up with either context, and looks again when another reason to
// wait may be over.
func TestWhoWaitsIsToldOfTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closed := true
		r := &Room{MaxRecords: 1, MaxBytes: 1, Closed: func() bool { return closed }}
		live := context.Background()
		short, cancel := context.WithTimeout(live, time.Second)
		defer cancel()
		for _, both := range [][2]context.Context{{short, live}, {live, short}} {
			if r.Wait(both[0], both[1], 1) {
				t.Error("in a room that is closed")
			}
		}
		entered := make(chan bool)
		go func() { entered <- r.Wait(live, live, 1) }()
		synctest.Wait()
		r.Changed() // it has not
		synctest.Wait()
		select {
		case <-entered:
			t.Error("in a room that is still closed")
		default:
		}
		closed = false
		r.Changed()
		if !<-entered {
			t.Error("no room")
		}
	})
}
