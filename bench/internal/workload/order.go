// Package workload is what the contenders forward: it makes the input and
// judges the output. It does not know who forwards.
package workload

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/choreography-go/choreography/choreo/cloudevent"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Order is the payload: about 200 bytes of JSON.
type Order struct {
	// Seq numbers the orders of an input from 0 on.
	Seq      int64  `json:"seq"`
	Customer string `json:"customer"`
	Article  string `json:"article"`
	Street   string `json:"street"`
	City     string `json:"city"`
	Pieces   int    `json:"pieces"`
	Cents    int64  `json:"cents"`
	Note     string `json:"note"`
}

// Types of the events on the way from the input to the output.
const (
	TypePlaced  = "bench.order.placed.v1"
	TypePaid    = "bench.order.paid.v1"
	TypeShipped = "bench.order.shipped.v1"
	TypeDone    = "bench.order.done.v1"
)

// Source says who placed the orders.
const Source = "/bench"

// KeyOf is the key, and the flow, of an order: flows take turns.
func KeyOf(seq int64, flows int) string { return "flow-" + strconv.FormatInt(seq%int64(flows), 10) }

// record is an order as an event of its own id.
func record(topic, run string, seq int64, flows int) (*kgo.Record, error) {
	data, err := json.Marshal(Order{
		Seq: seq, Customer: "c-" + strconv.FormatInt(seq%9973, 10), Article: "a-" + strconv.FormatInt(seq%101, 10),
		Street: "17 Long Acre", City: "Old Harbour", Pieces: int(seq%7) + 1, Cents: 100 * (seq%997 + 1),
		Note: "Leave it with the neighbours if nobody is at home, and ring twice.",
	})
	if err != nil {
		return nil, fmt.Errorf("encode order %d: %w", seq, err)
	}
	key := KeyOf(seq, flows)
	rec, err := cloudevent.Event{
		ID: run + "-" + strconv.FormatInt(seq, 10), Source: Source, Type: TypePlaced, Time: time.Now(),
		DataContentType: "application/json", CorrelationID: key, CausationID: "none", PartitionKey: key, Data: data,
	}.Record(topic)
	if err != nil {
		return nil, fmt.Errorf("write order %d as an event: %w", seq, err)
	}
	return rec, nil
}
