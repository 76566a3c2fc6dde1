package schedule

import "slices"

// Shrink looks for a part of a schedule that makes a run fail as the whole does,
// and from which nothing can be left out. It asks fails at most budget times, and
// returns the smallest part found by then and how often it asked.
//
// The whole is taken to fail. A run that fails by chance may pass when asked, and
// then that part is kept: the result is what fails reports true for, or the whole.
func Shrink(whole Schedule, budget int, fails func(Schedule) bool) (Schedule, int) {
	asked := 0
	ask := func(s Schedule) bool {
		if asked >= budget {
			return false
		}
		asked++
		return fails(s)
	}
	if len(whole) > 0 && ask(nil) {
		return nil, asked
	}
	smallest := slices.Clone(whole)
	for parts := 2; len(smallest) > 1 && asked < budget; {
		if next, ok := reduce(smallest, parts, ask); ok {
			// What was left out of n parts leaves n-1.
			parts = max(2, min(parts-1, len(next)))
			smallest = next
			continue
		}
		if parts >= len(smallest) {
			break
		}
		parts = min(len(smallest), 2*parts)
	}
	return smallest, asked
}

// reduce leaves out one of so many parts of the schedule.
func reduce(s Schedule, parts int, fails func(Schedule) bool) (Schedule, bool) {
	for i := range parts {
		from, to := i*len(s)/parts, (i+1)*len(s)/parts
		rest := slices.Concat(s[:from], s[to:])
		if fails(rest) {
			return rest, true
		}
	}
	return nil, false
}
