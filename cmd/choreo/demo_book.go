package main

import (
	"sync"
	"time"

	"github.com/choreography-go/choreography/cmd/choreo/internal/check"
	"github.com/choreography-go/choreography/cmd/choreo/internal/load"
	"github.com/choreography-go/choreography/cmd/choreo/internal/shop"
)

// orderBook knows what was ordered, when, and what was read of it.
type orderBook struct {
	mu     sync.Mutex
	run    string
	orders []bookedOrder
	index  map[string]int // by ref
	full   chan struct{}  // has a value when the last outcome was read

	events       []check.Event
	notEvents    []error
	flows        map[string]int       // of our orders, by flow
	ended        map[string]time.Time // when the outcome of a flow was read
	cancelled    map[string]bool      // flows whose outcome that is
	released     map[string]bool      // flows of which no goods are set aside any more
	placedCount  int
	endedCount   int
	firstStarted time.Time
}

type bookedOrder struct {
	check.Order
	start    time.Time
	attempts int
	err      error
}

// progressed is how far the orders are.
type progressed struct{ placed, ended, events int }

func (b *orderBook) open(run string, orders int, mix shop.Mix) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.run, b.orders = run, make([]bookedOrder, orders)
	b.full = make(chan struct{}, 1)
	b.index, b.flows, b.ended = make(map[string]int, orders), make(map[string]int, orders), make(map[string]time.Time, orders)
	b.cancelled, b.released = map[string]bool{}, map[string]bool{}
	for n := range b.orders {
		_, want := mix(run, n)
		b.orders[n].Order = check.Order{Ref: shop.Ref(run, n), Want: want}
		b.index[b.orders[n].Ref] = n
	}
}

// placed notes that an order was placed, or why not.
func (b *orderBook) placed(n int, start time.Time, flow string, attempts int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := &b.orders[n]
	o.start, o.Flow, o.attempts, o.err = start, flow, attempts, err
	if b.firstStarted.IsZero() || start.Before(b.firstStarted) {
		b.firstStarted = start
	}
	b.placedCount++
	b.tellIfFull()
}

// heard notes an event.
func (b *orderBook) heard(e check.Event, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, e)
	switch e.Type {
	case check.Placed:
		n, ours := b.index[e.Ref]
		if _, again := b.flows[e.Flow]; !ours || again {
			return
		}
		b.flows[e.Flow] = n
		b.count(e.Flow)
	case check.Confirmed, check.Cancelled:
		if _, again := b.ended[e.Flow]; again {
			return
		}
		b.ended[e.Flow] = at
		b.cancelled[e.Flow] = e.Type == check.Cancelled
		b.count(e.Flow)
	case check.Released:
		if b.released[e.Flow] {
			return
		}
		b.released[e.Flow] = true
		if b.cancelled[e.Flow] {
			b.count(e.Flow)
		}
	}
	b.tellIfFull()
}

// count counts a flow when the last has come of what is waited for: that it is one of
// ours, its outcome, and if it is cancelled that its goods were put back.
func (b *orderBook) count(flow string) {
	_, ours := b.flows[flow]
	_, ended := b.ended[flow]
	if ours && ended && (!b.cancelled[flow] || b.released[flow]) {
		b.endedCount++
	}
}

func (b *orderBook) tellIfFull() {
	if b.endedCount >= len(b.orders) && b.placedCount >= len(b.orders) {
		select {
		case b.full <- struct{}{}:
		default:
		}
	}
}

func (b *orderBook) malformed(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.notEvents = append(b.notEvents, err)
}

func (b *orderBook) progress() progressed {
	b.mu.Lock()
	defer b.mu.Unlock()
	return progressed{b.placedCount, b.endedCount, len(b.events)}
}

// report judges what was read, and measures. shared says that others place
// orders on the same topics.
func (b *orderBook) report(res *result, shared bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	orders := make([]check.Order, len(b.orders))
	retried := 0
	for n, o := range b.orders {
		orders[n] = o.Order
		if o.attempts > 1 {
			retried++
		}
		if o.err != nil && len(res.Refused) < mostListed {
			res.Refused = append(res.Refused, o.err.Error())
		}
	}
	res.Retried = retried
	res.Report = check.Judge(orders, check.History{Events: b.events, Malformed: b.notEvents, Shared: shared})

	var l load.Latencies
	var last time.Time
	for flow, n := range b.flows {
		at, ended := b.ended[flow]
		if o := b.orders[n]; ended && !o.start.IsZero() {
			l.Add(at.Sub(o.start))
			if at.After(last) {
				last = at
			}
		}
	}
	res.Latency = quantiles{P50: ms(l.Quantile(0.5)), P99: ms(l.Quantile(0.99)), Max: ms(l.Quantile(1))}
	if took := last.Sub(b.firstStarted); l.Count() > 0 && took > 0 {
		res.Seconds = took.Seconds()
		res.Rate = float64(l.Count()) / took.Seconds()
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
