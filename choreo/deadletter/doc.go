// Package deadletter is the format of a service's dead-letter topic: letters,
// the marks that say what became of them, and the records by which letters are
// replayed. The runtime writes it, and tools read it.
//
// It owns names and meaning of the headers. It talks to no broker and keeps
// nothing. Whatever lies on the topic is read without trust: texts are cut, made
// valid UTF-8 and kept on one line, and what is neither a letter nor a mark is
// neither.
package deadletter
