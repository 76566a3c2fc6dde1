//go:build !race

package choreo

// raced reports that the race detector is on.
const raced = false
