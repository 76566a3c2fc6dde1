// Package integration proves on real Kafka what the runtime promises: nothing
// lost, nothing doubled, nothing out of order per key, whatever is killed,
// stopped, paused, added, removed, deployed or deleted meanwhile.
//
// The services under test are declared in services_test.go and run as processes
// of their own (the test binary starts itself again), so that SIGKILL, SIGSTOP
// and SIGTERM are real. What they said is checked by checker_test.go, a
// read-committed reader that shares no code with the runtime, against what
// feeder_test.go, a plain producer, was acknowledged.
//
// Brokers are those of KAFKA_BROKERS, or containers where Docker is there. Tests
// that break brokers (their names end in NeedsDocker) always use containers.
// Nothing skips: without brokers a test fails and says what to do.
package integration
