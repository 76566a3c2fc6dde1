// Command soak runs the framework's own choreography under simulation for hours
// and writes down what came of it. "make soak HOURS=8 JOBS=2" runs it.
//
// The choreography is in the tests of this package: three services made to
// show loss, doubling, disorder and wrong answers of the barrier, with a model
// that says from what each service heard what it must have said. This command
// runs those tests in child processes, one core each, seed after seed, and owns
// the count: simulated hours, violations, stalls, speed, memory. It knows of the
// services only what the tests print.
package main
