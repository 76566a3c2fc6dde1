// Package simnet is the network of a simulation: hosts, what they listen on,
// and connections with delays and faults. It owns what is on the way between
// two ends, and it knows Kafka's frames, so that a fault can be tied to one
// request. It knows nothing of what the requests mean, and it may not touch
// the broker or the services at its ends.
//
// It keeps nothing but memory and the clock, and every wait in it is one on a
// channel, so that in a testing/synctest bubble time passes as soon as all are
// waiting. Delays come from the seed, for each connection by itself.
//
// A write never waits: what is written is on the way, as in the buffers of an
// operating system, and arrives after its delay even though the writer has
// closed the connection since. Only Cut, Kill and Network.Close lose it.
package simnet
