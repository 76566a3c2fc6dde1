package schedule

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var shape = Shape{
	Services: []Service{{Name: "order", Instances: 2}, {Name: "payment", Instances: 3, Versions: 1}},
	Topics:   []Topic{{Name: "orders", Partitions: 8, Events: true}, {Name: "order.journal", Partitions: 8}},
	Brokers:  3, Kinds: Kinds(), From: time.Second, To: 5 * time.Minute, Every: time.Second,
}

func TestTheSameSeedGivesTheSameSchedule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		a, b := Generate(seed, shape), Generate(seed, shape)
		if !reflect.DeepEqual(a, b) {
			t.Fatalf("%v\n%v", a, b)
		}
		if reflect.DeepEqual(a, Generate(seed+1, shape)) {
			t.Fatal("the next seed gives the same schedule")
		}
		if !slices.IsSortedFunc(a, func(x, y Fault) int { return int(x.At - y.At) }) {
			t.Fatalf("not in the order of time: %v", a)
		}
		for _, f := range a {
			if f.At < shape.From || f.At >= shape.To {
				t.Fatalf("%v is not from %v to %v", f, shape.From, shape.To)
			}
		}
	})
}

func TestEveryPossibleKindIsGenerated(t *testing.T) {
	got := map[Kind]int{}
	for seed := range uint64(20) {
		for _, f := range Generate(seed, shape) {
			got[f.Kind]++
		}
	}
	for _, k := range Kinds() {
		if got[k] == 0 {
			t.Errorf("no %q in 20 schedules", k)
		}
	}
}

func TestImpossibleKindsAreNotGenerated(t *testing.T) {
	s := Generate(1, Shape{
		Services: []Service{{Name: "a", Instances: 1}}, Brokers: 1, Kinds: []Kind{Deploy, LeaderMove, CoordinatorMove, Duplicate},
		To: time.Minute, Every: time.Second,
	})
	if len(s) != 0 {
		t.Errorf("%v", s)
	}
}

func TestTextIsReadBackAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Generate(rapid.Uint64().Draw(t, "seed"), shape)
		got, err := Parse(s.String())
		if err != nil || !reflect.DeepEqual(got, s) {
			t.Fatalf("%v\n%v\n%v", s, got, err)
		}
		lines, err := Parse(strings.ReplaceAll(s.String(), "; ", "  # a remark; with a semicolon\n"))
		if err != nil || !reflect.DeepEqual(lines, s) {
			t.Fatalf("as lines: %v\n%v\n%v", s, lines, err)
		}
	})
}

func TestTextThatIsNoScheduleIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"1s":                         "at least a time and a kind",
		"soon cut a-0":               `time is "soon"`,
		"-1s cut a-0":                `time is "-1s"`,
		"1s explode a-0":             `no kind "explode"`,
		"1s cut a-0 b-0":             `"b-0" is not key=value`,
		"1s kill a-0 nth=x":          `nth is "x"`,
		"1s kill a-0 color=red":      `no "color"`,
		"1s cut a-0\n2s kill for=-1": "line 2",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q in it", text, err, want)
		}
	}
}

func TestShrinkFindsTheFaultsThatMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		whole := Generate(rapid.Uint64().Draw(t, "seed"), shape)[:rapid.IntRange(1, 64).Draw(t, "length")]
		var matter Schedule
		for _, i := range rapid.SliceOfNDistinct(rapid.IntRange(0, len(whole)-1), 0, min(3, len(whole)), rapid.ID[int]).Draw(t, "matter") {
			matter = append(matter, whole[i])
		}
		slices.SortFunc(matter, func(a, b Fault) int { return int(a.At - b.At) })
		asked := 0
		got, n := Shrink(whole, 1000, func(s Schedule) bool {
			asked++
			for _, f := range matter {
				if !slices.Contains(s, f) {
					return false
				}
			}
			return true
		})
		if len(got)+len(matter) > 0 && !slices.Equal(got, matter) {
			t.Fatalf("shrunk to %v, want %v", got, matter)
		}
		if asked != n {
			t.Fatalf("asked %d times and says %d", asked, n)
		}
	})
}

func TestShrinkAsksNoMoreThanItMay(t *testing.T) {
	whole := Generate(1, shape)
	asked := 0
	got, n := Shrink(whole, 7, func(s Schedule) bool { asked++; return slices.Contains(s, whole[3]) && slices.Contains(s, whole[90]) })
	if asked != 7 || n != 7 {
		t.Errorf("asked %d times, says %d, want 7", asked, n)
	}
	if !slices.Contains(got, whole[3]) || !slices.Contains(got, whole[90]) {
		t.Errorf("%v lacks what matters", got)
	}
}

func TestEndIsWhenTheLastFaultIsOver(t *testing.T) {
	s, err := Parse("1s freeze a-0 for=20s; 5s cut a-0")
	if err != nil || s.End() != 21*time.Second {
		t.Errorf("%v, %v", s.End(), err)
	}
}
