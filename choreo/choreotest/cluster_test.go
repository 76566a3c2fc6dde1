//go:build synctests

package choreotest

import (
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/choreography-go/choreography/choreo/choreotest/internal/schedule"
	"github.com/choreography-go/choreography/choreo/choreotest/internal/simnet"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// txn is the id of a transaction that is open.
const txn = "hall-1"

// asked are requests that ask for something by which a broker in trouble can answer
// with an error.
func asked(key kmsg.Key, id [16]byte, producer *kmsg.InitProducerIDResponse) kmsg.Request {
	topic, group, partition := "seats", "hall", int32(0)
	req := kmsg.RequestForKey(int16(key))
	switch req := req.(type) {
	case *kmsg.ProduceRequest:
		req.Acks = -1
		req.Topics = []kmsg.ProduceRequestTopic{{Topic: topic, TopicID: id, Partitions: []kmsg.ProduceRequestTopicPartition{{Partition: partition}}}}
	case *kmsg.FetchRequest:
		req.Topics = []kmsg.FetchRequestTopic{{Topic: topic, TopicID: id, Partitions: []kmsg.FetchRequestTopicPartition{{Partition: partition, CurrentLeaderEpoch: -1}}}}
	case *kmsg.ListOffsetsRequest:
		req.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: topic, Partitions: []kmsg.ListOffsetsRequestTopicPartition{{Partition: partition, CurrentLeaderEpoch: -1}}}}
	case *kmsg.MetadataRequest:
		req.Topics = []kmsg.MetadataRequestTopic{{Topic: &topic}}
	case *kmsg.TxnOffsetCommitRequest:
		req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group, req.Generation = txn, producer.ProducerID, producer.ProducerEpoch, group, -1
		req.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: topic, TopicID: id, Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{{Partition: partition}}}}
	case *kmsg.OffsetFetchRequest:
		req.Group, req.Groups = group, []kmsg.OffsetFetchRequestGroup{{Group: group}}
	case *kmsg.FindCoordinatorRequest:
		req.CoordinatorKey, req.CoordinatorKeys = group, []string{group}
	case *kmsg.AddPartitionsToTxnRequest:
		req.TransactionalID = txn
		req.Topics = []kmsg.AddPartitionsToTxnRequestTopic{{Topic: topic, Partitions: []int32{partition}}}
	case *kmsg.OffsetForLeaderEpochRequest:
		req.Topics = []kmsg.OffsetForLeaderEpochRequestTopic{{Topic: topic, Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{{Partition: partition, CurrentLeaderEpoch: -1}}}}
	case *kmsg.DescribeTransactionsRequest:
		req.TransactionalIDs = []string{txn}
	case *kmsg.DescribeProducersRequest:
		req.Topics = []kmsg.DescribeProducersRequestTopic{{Topic: topic, Partitions: []int32{partition}}}
	case *kmsg.DescribeConfigsRequest:
		req.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: topic}}
	}
	return req
}

// says reports whether an answer has an error of that code, wherever.
func says(answer reflect.Value, code int16) bool {
	switch answer.Kind() {
	case reflect.Pointer:
		return !answer.IsNil() && says(answer.Elem(), code)
	case reflect.Slice:
		for i := range answer.Len() {
			if says(answer.Index(i), code) {
				return true
			}
		}
	case reflect.Struct:
		if f := answer.FieldByName("ErrorCode"); f.IsValid() && f.Int() == int64(code) {
			return true
		}
		for i := range answer.NumField() {
			if says(answer.Field(i), code) {
				return true
			}
		}
	}
	return false
}

// Whatever a schedule refuses is refused, as often as it says and no more.
func TestEveryTypeOfRequestIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := simnet.New(simnet.Config{Seed: 1, Latency: time.Millisecond})
		c, err := openCluster(net, 1, 1)
		if err != nil {
			t.Fatal(err)
		}
		versions := kversion.Stable()
		versions.SetMaxKeyVersion(int16(kmsg.AddPartitionsToTxn), 3) // later ones are for brokers
		client, err := kgo.NewClient(kgo.MaxVersions(versions), kgo.SeedBrokers(c.Addrs()...), kgo.Dialer(net.Host("test").Dial), kgo.DisableClientMetrics())
		if err != nil {
			t.Fatal(err)
		}
		created, err := kadm.NewClient(client).CreateTopic(t.Context(), 1, 1, nil, "seats")
		if err != nil {
			t.Fatal(err)
		}
		open := kmsg.NewInitProducerIDRequest()
		open.TransactionalID, open.TransactionTimeoutMillis = new(txn), 60_000
		producer, err := open.RequestWith(t.Context(), client)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range schedule.Requests {
			key, err := requestKey(r.Name)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range r.Errs {
				e, err := errorNamed(name)
				if err != nil {
					t.Fatal(err)
				}
				refused := func() bool {
					answer, err := client.Broker(0).Request(t.Context(), asked(key, created.ID, producer))
					if err != nil {
						t.Fatalf("%s: %v", r.Name, err)
					}
					return says(reflect.ValueOf(answer), e.Code)
				}
				c.refuse(key, e, 2)
				first, second, third := refused(), refused(), refused()
				if !first || !second || third {
					t.Errorf("%s is to be refused twice by %s, and is: %t, %t, %t", r.Name, name, first, second, third)
				}
				c.refuse(key, e, 2)
				c.heal()
				if refused() {
					t.Errorf("%s is refused by %s when all is well again", r.Name, name)
				}
			}
		}
		client.Close()
		c.Close()
		net.Close()
		time.Sleep(time.Minute)
	})
}
