// Package operator is the format of what people tell a running service, and of
// what it answers: what is stuck, as the journal tells; commands, which reach the
// service on its inbox; and audit events, which it writes to its dead-letter topic
// in the transaction of what it does on a command. The runtime writes it, and
// tools read it.
//
// It owns names and meaning of the headers. It talks to no broker. Whatever is
// read is read without trust: texts are cut, made valid UTF-8 and kept on one
// line, and what is neither a command nor an audit is neither.
package operator
