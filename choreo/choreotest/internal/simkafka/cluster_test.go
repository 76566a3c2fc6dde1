//go:build synctests

package simkafka

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestRecordsGoThrough(t *testing.T) {
	run(t, 0, func(r *rig) {
		cl := r.client()
		defer cl.Close()
		rd := r.reader("in")
		defer rd.Close()
		for i := range 20 {
			want := strconv.Itoa(i)
			if err := cl.ProduceSync(context.Background(), &kgo.Record{Topic: "in", Value: []byte(want)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
			if got := r.next(rd, time.Second); got != want {
				t.Fatalf("read %q, want %q", got, want)
			}
		}
		nodes := map[int32]bool{}
		for p := range int32(3) {
			nodes[r.cluster.LeaderFor("in", p)] = true
		}
		if len(nodes) != 3 {
			t.Errorf("three partitions are led by %d brokers", len(nodes))
		}
	})
}
