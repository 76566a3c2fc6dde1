package txn

import (
	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Partition is the partition, of n, that a record with this key belongs to by
// the default partitioner of Kafka's own clients: murmur2 (seed 0x9747b28c) of
// the key, its sign bit cleared, modulo n. n must be positive.
func Partition(key []byte, n int32) int32 {
	return int32(murmur2(key)&0x7fffffff) % n
}

// murmur2 is the 32-bit hash as Kafka uses it (org.apache.kafka.common.utils.Utils).
func murmur2(b []byte) uint32 {
	const (
		seed = 0x9747b28c
		m    = 0x5bd1e995
		r    = 24
	)
	h := uint32(seed) ^ uint32(len(b))
	for len(b) >= 4 {
		k := binary.LittleEndian.Uint32(b) * m
		k = (k ^ k>>r) * m
		h = h*m ^ k
		b = b[4:]
	}
	switch len(b) {
	case 3:
		h ^= uint32(b[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(b[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(b[0])) * m
	}
	h = (h ^ h>>13) * m
	return h ^ h>>15
}

// partitioner chooses partitions for the lanes: the record's own for manual
// topics, by key for all others. Those without a key go where the empty key
// goes, all to one partition, and so keep the order among themselves.
func partitioner(manual func(topic string) bool) kgo.Partitioner {
	return kgo.BasicConsistentPartitioner(func(topic string) func(*kgo.Record, int) int {
		if manual(topic) {
			return func(r *kgo.Record, _ int) int { return int(r.Partition) }
		}
		return func(r *kgo.Record, n int) int { return int(Partition(r.Key, int32(n))) }
	})
}
