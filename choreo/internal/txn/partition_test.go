package txn

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

func TestMurmur2AsKafka(t *testing.T) {
	for in, want := range map[string]int32{ // from org.apache.kafka.common.utils.UtilsTest
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		if got := int32(murmur2([]byte(in))); got != want {
			t.Errorf("murmur2(%q) = %d, want %d", in, got, want)
		}
	}
}

func TestPartitionAgreesWithTheDefaultPartitioner(t *testing.T) {
	theirs := kgo.StickyKeyPartitioner(nil).ForTopic("t")
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "key")
		n := rapid.Int32Range(1, 1000).Draw(t, "n")
		if got, want := Partition(key, n), theirs.Partition(&kgo.Record{Key: key}, int(n)); got != int32(want) {
			t.Fatalf("Partition(%x, %d) = %d, want %d", key, n, got, want)
		}
	})
}

func TestManualTopicsKeepTheirPartition(t *testing.T) {
	r := newRig(t, rigConfig{})
	inc, src := r.fence.Open(0), r.source(0, 10)
	res, d := result(inc, src, 0)
	for p := range int32(4) {
		res.Records = append(res.Records,
			&kgo.Record{Topic: "journal", Partition: p, Key: []byte("same"), Value: []byte{byte(p)}},
			&kgo.Record{Topic: "out", Partition: p, Key: []byte("same"), Value: []byte{byte(p)}})
	}
	r.pipe.Submit(res)
	d.is(t, true)
	for _, rec := range r.records("journal") {
		if rec.Partition != int32(rec.Value[0]) {
			t.Errorf("record for journal-%d went to %d", rec.Value[0], rec.Partition)
		}
	}
	for _, rec := range r.records("out") {
		if want := Partition([]byte("same"), 4); rec.Partition != want {
			t.Errorf("keyed record went to %d, want %d", rec.Partition, want)
		}
	}
}
