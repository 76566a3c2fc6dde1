//go:build synctests

package choreotest

// tagged is whether the build has the tag that the Kafka client needs to run
// under simulated time.
const tagged = true
