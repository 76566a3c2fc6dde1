package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"regexp"
	"strconv"
	"time"

	"github.com/choreography-go/choreography/cmd/choreo/internal/load"
	"github.com/choreography-go/choreography/cmd/choreo/internal/shop"
)

// demoCommand is `choreo demo`.
type demoCommand struct {
	Orders   int           `help:"Orders to place (default 200)." placeholder:"N"`
	Rate     float64       `help:"Place this many orders per second, whatever becomes of the earlier ones (open loop). Default: as fast as they are accepted." placeholder:"N"`
	Duration time.Duration `help:"Place orders at --rate for this long, in place of --orders."`
	Burst    int           `help:"Place this many orders within 100 ms, in place of --orders." placeholder:"N"`
	AtOnce   int           `help:"Orders being placed at the same time, without --rate or --burst." default:"64" placeholder:"N"`

	Brokers  []string `help:"Kafka brokers. Default: an embedded broker with a data directory of its own." placeholder:"HOST:PORT"`
	Prefix   *string  `help:"Prefix of topics and groups. Default: one of this run alone, whose topics are removed when nothing was wrong; with --order-url none."`
	Bin      string   `help:"Directory of the service binaries." default:"bin" type:"path"`
	OrderURL string   `help:"Order service that runs already, with payment, inventory and shipping, on --brokers: only place orders and check." name:"order-url" placeholder:"URL"`

	Patience time.Duration `help:"How long an order may take until it expires. If that is less than by default, one order in ten goes where no boat goes, so that it does expire." default:"15m"`

	Kill bool   `help:"Kill services with SIGKILL meanwhile, and restart them at once."`
	Seed uint64 `help:"Of what --kill kills and when (default: another each time)." placeholder:"N"`

	Output  string        `help:"text or json." enum:"text,json" default:"text"`
	Timeout time.Duration `help:"Give up when nothing has happened for so long." default:"60s"`
	Dir     string        `help:"Directory for logs and data; kept. Default: a temporary one, kept when something went wrong." type:"path"`
}

const (
	defaultOrders = 200
	// leastPatience and defaultPatience are those of the order service.
	leastPatience   = 100 * time.Millisecond
	defaultPatience = 15 * time.Minute
	burstWithin     = 100 * time.Millisecond
	mostOrders      = 1_000_000
	// openLoopAtOnce bounds the memory and connections of an open loop.
	openLoopAtOnce = 4096
	// With --kill the orders are spread over at least this time, so that
	// several kills fall into it, and placed no faster than this rate.
	killSpread  = 15 * time.Second
	killMaxRate = 300
)

var prefixPattern = regexp.MustCompile(`^[a-zA-Z0-9._-]{0,48}$`)

// Validate is called by the parser; it reports all that is wrong at once.
func (d *demoCommand) Validate() error {
	var all []error
	wrong := func(bad bool, format string, args ...any) {
		if bad {
			all = append(all, fmt.Errorf(format, args...))
		}
	}
	wrong(d.Orders < 0 || d.Orders > mostOrders, "--orders=%d: must be from 1 to %d", d.Orders, mostOrders)
	wrong(d.Burst < 0 || d.Burst > openLoopAtOnce, "--burst=%d: must be from 1 to %d", d.Burst, openLoopAtOnce)
	wrong(d.AtOnce < 1 || d.AtOnce > openLoopAtOnce, "--at-once=%d: must be from 1 to %d", d.AtOnce, openLoopAtOnce)
	wrong(!(d.Rate >= 0 && d.Rate <= 100_000), "--rate=%v: must be above 0 and at most 100000 orders per second", d.Rate)
	wrong(d.Duration < 0, "--duration=%v: must not be negative", d.Duration)
	wrong(d.Duration > 0 && d.Rate == 0, "--duration=%v: needs --rate", d.Duration)
	wrong(d.Duration > 0 && d.Orders > 0, "--duration=%v: gives the number of orders already; leave out --orders", d.Duration)
	wrong(d.Rate*d.Duration.Seconds() > mostOrders, "--rate=%v for --duration=%v: are more than %d orders", d.Rate, d.Duration, mostOrders)
	wrong(d.Burst > 0 && (d.Rate > 0 || d.Duration > 0 || d.Orders > 0), "--burst=%d: cannot be joined with --orders, --rate or --duration", d.Burst)
	wrong(d.Timeout < time.Second, "--timeout=%v: must be at least 1s", d.Timeout)
	wrong(d.Patience < leastPatience || d.Patience > defaultPatience, "--patience=%v: must be from 100ms to 15m", d.Patience)
	wrong(d.late() && d.Timeout < 2*d.Patience, "--patience=%v: nothing may happen for so long, so --timeout must be at least twice that", d.Patience)
	wrong(d.late() && d.OrderURL != "", "--patience=%v: is a setting of the order service, which runs already; leave it or --order-url out", d.Patience)
	wrong(d.Prefix != nil && !prefixPattern.MatchString(*d.Prefix), "--prefix=%q: allowed are letters, digits, '.', '_' and '-', at most 48", deref(d.Prefix))
	if d.OrderURL != "" {
		u, err := url.Parse(d.OrderURL)
		wrong(err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "", "--order-url=%q: must be like http://127.0.0.1:8080", d.OrderURL)
		wrong(len(d.Brokers) == 0, "--order-url: needs --brokers, those of the order service")
		wrong(d.Kill, "--kill: kills only services that the demo has started; leave out --order-url")
	}
	return errors.Join(all...)
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// late reports whether orders are placed that end by their expiry alone.
func (d *demoCommand) late() bool { return d.Patience < defaultPatience }

// schedule is when the orders are placed.
func (d *demoCommand) schedule() load.Schedule {
	orders := d.Orders
	if orders == 0 {
		orders = defaultOrders
	}
	var every time.Duration
	if d.Rate > 0 {
		every = time.Duration(float64(time.Second) / d.Rate)
	}
	switch {
	case d.Burst > 0:
		return load.Schedule{Orders: d.Burst, Every: burstWithin / time.Duration(d.Burst), AtOnce: openLoopAtOnce}
	case d.Duration > 0:
		orders = max(1, int(d.Rate*d.Duration.Seconds()+0.5))
		return load.Schedule{Orders: orders, Every: every, AtOnce: openLoopAtOnce}
	case d.Rate > 0:
		return load.Schedule{Orders: orders, Every: every, AtOnce: openLoopAtOnce}
	case d.Kill:
		return load.Schedule{Orders: orders, Every: max(killSpread/time.Duration(orders), time.Second/killMaxRate), AtOnce: openLoopAtOnce}
	}
	return load.Schedule{Orders: orders, AtOnce: d.AtOnce}
}

// Run runs the demo and reports it. The error is errFailed if an order is
// unfinished or anything is wrong.
func (d *demoCommand) Run(ctx context.Context, s streams) error {
	r := &demoRun{
		demoCommand: d,
		run:         "demo-" + strconv.FormatInt(time.Now().UnixMilli(), 36),
		schedule:    d.schedule(),
		mix:         shop.Numbered,
		streams:     s,
	}
	if d.late() {
		r.mix = shop.WithLate
	}
	if r.Kill && r.Seed == 0 {
		r.Seed = rand.Uint64N(1_000_000) + 1
	}
	switch {
	case d.Prefix != nil:
		r.prefix = *d.Prefix
	case d.OrderURL == "":
		r.prefix, r.ownPrefix = r.run+".", true
	}
	result, err := r.do(ctx)
	if err != nil {
		return r.explain(err)
	}
	if err := result.write(s.out, d.Output); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if !result.good() {
		return r.explain(errFailed)
	}
	return r.clear()
}
