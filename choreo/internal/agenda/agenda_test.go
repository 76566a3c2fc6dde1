package agenda

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// told gathers what an agenda has told, with the times.
type told struct {
	mu   sync.Mutex
	keys []string
	at   []time.Time
}

func (x *told) due(keys []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, k := range keys {
		x.keys, x.at = append(x.keys, k), append(x.at, time.Now())
	}
}

// Whatever is added, and whenever, is told of once, at its time and in order.
func TestEverythingIsToldOfAtItsTime(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		delays := rapid.SliceOfN(rapid.IntRange(-2, 50), 0, 40).Draw(rt, "delays")
		pauses := rapid.SliceOfN(rapid.SampledFrom([]int{0, 0, 0, 1, 7, 60}), len(delays), len(delays)).Draw(rt, "pauses")
		synctest.Test(t, func(*testing.T) {
			var x told
			a := New(x.due)
			defer a.Close()
			want := map[string]time.Time{}
			for k, d := range delays {
				time.Sleep(time.Duration(pauses[k]) * time.Millisecond)
				key := fmt.Sprint(k)
				want[key] = time.Now().Add(max(0, time.Duration(d)*time.Millisecond))
				a.Add(key, time.Duration(d)*time.Millisecond)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			if len(x.keys) != len(delays) || a.Len() != 0 {
				rt.Fatalf("told of %d of %d, %d are left", len(x.keys), len(delays), a.Len())
			}
			for k, key := range x.keys {
				if !x.at[k].Equal(want[key]) {
					rt.Errorf("told of %s at %v, want %v", key, x.at[k], want[key])
				}
				delete(want, key)
			}
			if len(want) > 0 {
				rt.Errorf("never told of %v", want)
			}
		})
	})
}

func TestWhatIsAddedWhileItTellsIsToldOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var x told
		var a *Agenda
		a = New(func(keys []string) {
			x.due(keys)
			if n, _ := strconv.Atoi(keys[0]); n < 5 {
				a.Add(strconv.Itoa(n+1), time.Duration(n%2)*time.Minute)
			}
		})
		defer a.Close()
		a.Add("0", time.Second)
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := fmt.Sprint(x.keys); got != "[0 1 2 3 4 5]" {
			t.Errorf("told of %s", got)
		}
	})
}

// What is swept out is not told of, and all else is at its time, also what is
// added meanwhile.
func TestSweep(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seconds := rapid.SliceOfN(rapid.IntRange(1, 20), 1, 30).Draw(rt, "seconds")
		keep := rapid.SliceOfN(rapid.Bool(), len(seconds), len(seconds)).Draw(rt, "keep")
		when := rapid.IntRange(0, 21).Draw(rt, "swept after")
		synctest.Test(t, func(*testing.T) {
			var x told
			a := New(x.due)
			defer a.Close()
			began, want := time.Now(), map[string]int{}
			for k, s := range seconds {
				a.Add(fmt.Sprint(k), time.Duration(s)*time.Second)
				if keep[k] || s <= when {
					want[fmt.Sprint(k)] = s
				}
			}
			time.Sleep(time.Duration(when) * time.Second)
			synctest.Wait()
			added := false
			a.Sweep(func(key string) bool {
				if !added {
					added = true
					a.Add("added", time.Second)
					want["added"] = when + 1
				}
				k, _ := strconv.Atoi(key)
				return keep[k]
			})
			time.Sleep(time.Minute)
			synctest.Wait()
			if len(x.keys) != len(want) || a.Len() != 0 {
				rt.Fatalf("told of %v, want %v, %d are left", x.keys, want, a.Len())
			}
			for k, key := range x.keys {
				if after := x.at[k].Sub(began); after != time.Duration(want[key])*time.Second {
					rt.Errorf("told of %s after %v, want %d s", key, after, want[key])
				}
			}
		})
	})
	a := New(nil)
	a.Add("a", time.Hour)
	a.Sweep(func(string) bool { a.Close(); return true })
	if a.Len() > 0 {
		t.Error("a closed agenda has been filled")
	}
}

// What is due for longer is told of first, and tells for how long.
func TestWhatIsOverdueIsToldOfInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var x told
		gate := make(chan struct{})
		a := New(func(keys []string) {
			<-gate
			x.due(keys)
		})
		defer a.Close()
		a.Add("first", -time.Second)
		synctest.Wait()
		for k, in := range map[string]time.Duration{"c": time.Hour, "b": -time.Minute, "a": -time.Hour} {
			a.Add(k, in)
		}
		time.Sleep(time.Second)
		if late := a.Overdue(); late != time.Hour+time.Second {
			t.Errorf("the first is overdue for %v", late)
		}
		close(gate)
		synctest.Wait()
		if late := a.Overdue(); late != 0 {
			t.Errorf("nothing is due, and it is overdue for %v", late)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if got := fmt.Sprint(x.keys); got != "[first a b c]" || a.Overdue() != 0 {
			t.Errorf("told of %s", got)
		}
	})
}

func TestNothingIsToldOfAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var x told
		a := New(x.due)
		a.Add("a", time.Second)
		a.Close()
		a.Add("b", 0)
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(x.keys) > 0 || a.Len() > 0 {
			t.Errorf("told of %v, %d are left", x.keys, a.Len())
		}
		New(x.due).Close()
	})
}

// A million keys take at most 48 bytes each, beside their texts, and are told
// of faster than 20,000 a second, a bounded number at once.
func TestAMillionKeys(t *testing.T) {
	const n = 1_000_000
	keys := make([]string, n)
	for i := range keys {
		keys[i] = strconv.Itoa(i)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	got, atOnce := 0, 0
	done := make(chan struct{})
	a := New(func(keys []string) {
		atOnce = max(atOnce, len(keys))
		if got += len(keys); got == n+1 {
			close(done)
		}
	})
	defer a.Close()
	began := time.Now()
	for i, key := range keys {
		a.push(entry{time.Duration(i * 7919 % n), key})
	}
	adding := time.Since(began)
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := float64(after.HeapAlloc-before.HeapAlloc) / n
	began = time.Now()
	a.Add("last", 0)
	<-done
	took := time.Since(began)
	t.Logf("%.1f bytes each, %v to add, told of %.0f a second", each, adding, n/took.Seconds())
	if each > 48 {
		t.Errorf("%.1f bytes each", each)
	}
	if atOnce != most {
		t.Errorf("told of up to %d at once, want %d", atOnce, most)
	}
	if rate := n / took.Seconds(); rate < 20_000 {
		t.Errorf("told of %.0f a second", rate)
	}
	runtime.KeepAlive(keys)
}

func TestKeysComeInTheOrderOfTheirTimes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := New(nil)
		var want []entry
		for k, at := range rapid.SliceOfN(rapid.IntRange(0, 30), 0, 60).Draw(t, "times") {
			e := entry{time.Duration(at), fmt.Sprint(k)}
			a.push(e)
			want = append(want, e)
		}
		slices.SortFunc(want, func(a, b entry) int { return cmp.Compare(a.at, b.at) })
		for _, e := range want {
			if at := a.heap[0].at; at != e.at {
				t.Fatalf("the first is due at %v, want %v", at, e.at)
			}
			a.pop()
		}
	})
}
