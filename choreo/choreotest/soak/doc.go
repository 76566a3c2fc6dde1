// Command soak runs choreographies under simulation for hours and writes down
// what came of it. "make soak HOURS=8 JOBS=2" runs it.
//
// There are two. The framework's own is in the tests of this package: three
// services made to show loss, doubling, disorder and wrong answers of the
// barrier, with a model that says from what each service heard what it must have
// said. The other is that of the example's three services, in the directory
// services. This command runs those tests in child processes, one core each, seed
// after seed, and owns the count: simulated hours, violations, stalls, speed,
// memory. It knows of the services only what the tests print.
package main
