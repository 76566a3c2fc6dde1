package choreotest

import (
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestWatchdogNoticesThatTimeStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		barked := make(chan int64, 1)
		d := newWatchdog(standstill, func(second int64) { barked <- second })
		defer d.stop()
		for d.ticks.Store(1); d.ticks.Load() < 17; d.ticks.Add(1) {
			time.Sleep(standstill * 9 / 10)
		}
		if second := <-barked; second != 17 {
			t.Errorf("time stands still at %d, want 17", second)
		}
	})
}

func TestMemoryThatGrowsFromRunToRunIsFound(t *testing.T) {
	var total totals
	for range 10 { // what is made once
		if err := total.add(result{}, 10<<20); err != nil {
			t.Fatal(err)
		}
	}
	if err := total.add(result{}, 70<<20); err != nil {
		t.Error(err)
	}
	if err := total.add(result{}, 80<<20); err == nil || !strings.Contains(err.Error(), "after 12 runs 80 MiB are in use") {
		t.Errorf("%v", err)
	}
}

func TestMemoryInUseIsMeasured(t *testing.T) {
	before := heap()
	kept := make([]byte, 80<<20)
	if now := heap(); now < before+79<<20 {
		t.Errorf("%d bytes before, %d after", before, now)
	}
	kept[len(kept)-1] = 1
}

func TestTheEnvironmentOverridesTheOptions(t *testing.T) {
	env := map[string]string{}
	read := func() (Options, string, error) {
		o, s, given, err := Options{Seed: 3, Seeds: 7, Minimize: 9}.overridden(func(k string) string { return env[k] }, func(name string) ([]byte, error) {
			if name == "faults.txt" {
				return []byte("1s cut a-0\n2s cut b-1"), nil
			}
			return nil, os.ErrNotExist
		})
		if given != (s != nil) {
			t.Errorf("given is %v, the schedule %v", given, s)
		}
		return o, s.String(), err
	}
	want := func(seed uint64, seeds, minimize int, faults string) {
		t.Helper()
		o, s, err := read()
		if err != nil || o.Seed != seed || o.Seeds != seeds || o.Minimize != minimize || s != faults {
			t.Errorf("seed %d, %d seeds, minimize %d, %q, %v", o.Seed, o.Seeds, o.Minimize, s, err)
		}
	}
	refused := func(text string) {
		t.Helper()
		if _, _, err := read(); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v, want %q in it", err, text)
		}
	}
	want(3, 7, 9, "")
	env[envSeeds] = "1000"
	want(3, 1000, 9, "")
	env[envSeed] = "17"
	want(17, 1000, 9, "")
	delete(env, envSeeds)
	want(17, 1, 9, "")
	env[envMinimize] = "0"
	want(17, 1, 0, "")
	env[envSchedule] = "5s kill a-0 for=1s"
	want(17, 1, 0, "5s kill a-0 for=1s")
	env[envSchedule] = "@faults.txt"
	want(17, 1, 0, "1s cut a-0; 2s cut b-1")

	env[envSchedule] = "@nowhere"
	if _, _, err := read(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	env[envSchedule] = "5s explode"
	refused("explode")
	env = map[string]string{envSeed: "x"}
	refused(envSeed)
	env = map[string]string{envSeeds: "0"}
	refused(envSeeds)
	env = map[string]string{envMinimize: "-1"}
	refused(envMinimize)
}

func TestWhatIsMissingIsSaid(t *testing.T) {
	for want, err := range map[string]error{
		"has no Begin": second(newSimulation(nil, Workload{}, nil, Options{})),
		"no service":   second(newSimulation(nil, Workload{Begin: func(*World, string) error { return nil }}, nil, Options{})),
		"has no New":   second(newSimulation([]Simulated{{}}, Workload{Begin: func(*World, string) error { return nil }}, nil, Options{})),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q in it", err, want)
		}
	}
}

func second[T any](_ T, err error) error { return err }
