// Package cloudevent reads and writes CloudEvents 1.0.2 as Kafka records, by the CloudEvents Kafka protocol binding.
//
// It owns the mapping between an [Event] and a [kgo.Record], in both content modes and both directions, the names of the
// attributes that choreo adds, the limits that untrusted attributes are held to, and the header [View] by which records are
// routed. It sends nothing, decodes no data, keeps no state and has no opinion on what a type or a key means.
//
// # Modes
//
// [Event.Record] writes binary mode: every attribute is a header "ce_<name>", the content type is the header "content-type",
// the data is the record's value as it stands. [Event.Structured] writes structured mode: one JSON document holds everything.
// [Read] reads both. Header values are plain UTF-8: unlike the HTTP binding, the Kafka binding has no percent-encoding
// (section 3.2.3 of the binding).
//
// # What is a CloudEvent
//
// A record whose content type begins with "application/cloudevents", or that has at least one of the headers ce_specversion,
// ce_id, ce_source and ce_type, claims to be an event. If it then breaks the rules, Read returns an [*InvalidError] that names
// every mistake. Any other record is none of ours, and Read returns [ErrNotCloudEvent].
//
// # Choices where the binding leaves room
//
//   - Header keys match in any letter case. Of several headers for one attribute the last wins, as with Kafka's own lastHeader
//     and in the JSON format, where the last of several members of one name wins.
//   - Headers whose name after "ce_" is no valid attribute name (ce_my_ext) belong to somebody else and are passed over. So are
//     ce_data and ce_datacontenttype: data is the value, its content type has a header of its own.
//   - An event without data and one with empty data are both written as an empty value, never as a null one: on a compacted topic a
//     null value is a tombstone. A null value is read as "no data".
//   - An optional attribute that is present but empty counts as absent.
//   - A partition key becomes the record's key and stays an attribute (section 3.1). A key is never read back into an attribute.
//   - Batches (application/cloudevents-batch+json) and formats other than JSON are refused: see [ErrBatch] and [ErrFormat].
//
// Events that choreo publishes are written in Kafka transactions. A reader that is not choreo must set
// isolation.level=read_committed, or it sees events that were never committed.
package cloudevent
