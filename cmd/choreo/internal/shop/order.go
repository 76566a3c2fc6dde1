// Package shop is the demo's customers: it decides what is ordered and what
// must become of it, and places orders over HTTP. It knows the services' rules
// and their HTTP interface from outside, as a customer does, and uses none of
// their code.
package shop

import (
	"fmt"

	"github.com/choreography-go/choreography/cmd/choreo/internal/check"
)

// Order is the body of POST /orders.
type Order struct {
	Customer    string  `json:"customer"`
	Tier        string  `json:"tier"`
	SKU         string  `json:"sku"`
	Quantity    int     `json:"quantity"`
	AmountCents int64   `json:"amountCents"`
	Address     Address `json:"address"`
}

// Address is where the parcel goes.
type Address struct {
	Name     string `json:"name"`
	Street   string `json:"street"`
	Postcode string `json:"postcode"`
	City     string `json:"city"`
	Country  string `json:"country"`
}

// The payment service's limits of one order, in cents.
const (
	standardLimit = 50_000
	goldLimit     = 500_000
)

// goods are what is ordered; the zero value is something of which there is plenty.
type goods struct {
	sku      string
	quantity int
}

var (
	plenty  = goods{}
	soldOut = goods{"lamp-0", 1}
	last    = goods{"vase-3", 3} // as many as there are
	tooMany = goods{"vase-3", 4}
)

// kind is one sort of order, and what its content demands.
type kind struct {
	tier  string
	cents int64
	to    Address
	goods goods
	want  check.Outcome
}

var (
	berlin    = Address{Street: "Torstr. 1", Postcode: "10119", City: "Berlin", Country: "DE"}
	vienna    = Address{Street: "Ring 2", Postcode: "1010", City: "Wien", Country: "AT"}
	zurich    = Address{Street: "Limmatquai 3", Postcode: "8001", City: "Zürich", Country: "CH"}
	amsterdam = Address{Street: "Damrak 4", Postcode: "1012 LG", City: "Amsterdam", Country: "NL"}
	// The shipping service serves none of these.
	helgoland = Address{Street: "Am Falm 5", Postcode: "27498", City: "Helgoland", Country: "DE"}
	jungholz  = Address{Street: "Dorf 6", Postcode: "6691", City: "Jungholz", Country: "AT"}
	reykjavik = Address{Street: "Laugavegur 7", Postcode: "101", City: "Reykjavík", Country: "IS"}
	// It serves this one, but gets no answer from the boats.
	hooge = Address{Street: "Hanswarft 8", Postcode: "25859", City: "Hallig Hooge", Country: "DE"}
)

// kinds is the mix: of 10 orders 5 are confirmed, 2 declined, 2 refunded and 1 is out of
// stock, with both sides of every limit among them. What is neither payable nor
// shippable is declined, because payment comes first. Nothing is both out of stock
// and not payable: either may come first.
var kinds = []kind{
	{"standard", 1_999, berlin, plenty, check.WasConfirmed},
	{"standard", standardLimit + 1, vienna, plenty, check.WasDeclined},
	{"gold", standardLimit + 1, zurich, plenty, check.WasConfirmed},
	{"standard", 4_950, helgoland, plenty, check.WasRefunded},
	{"standard", standardLimit, amsterdam, last, check.WasConfirmed},
	{"gold", goldLimit, vienna, plenty, check.WasConfirmed},
	{"gold", goldLimit, reykjavik, plenty, check.WasRefunded},
	{"standard", 1, berlin, plenty, check.WasConfirmed},
	{"gold", goldLimit + 1, helgoland, plenty, check.WasDeclined},
	{"gold", 120_000, amsterdam, tooMany, check.WasShort},

	{"standard", 25_000, zurich, plenty, check.WasConfirmed},
	{"standard", 1_000_000, berlin, plenty, check.WasDeclined},
	{"gold", 75_000, berlin, plenty, check.WasConfirmed},
	{"standard", standardLimit, jungholz, plenty, check.WasRefunded},
	{"standard", 19_900, vienna, soldOut, check.WasShort},
	{"gold", 1, zurich, plenty, check.WasConfirmed},
	{"standard", 7_500, reykjavik, plenty, check.WasRefunded},
	{"standard", 300, amsterdam, plenty, check.WasConfirmed},
	{"gold", 99_999_999, amsterdam, plenty, check.WasDeclined},
	{"gold", 480_000, berlin, plenty, check.WasConfirmed},
}

// Mix says which order has a number, counted from 0, and what must become of it.
// It depends on nothing else; run tells the orders of one run of the demo from those
// of another.
type Mix func(run string, n int) (Order, check.Outcome)

// Numbered is the [Mix] of orders that end by themselves, however long that takes.
func Numbered(run string, n int) (Order, check.Outcome) {
	k := kinds[n%len(kinds)]
	ref := Ref(run, n)
	to := k.to
	to.Name = ref
	what := k.goods
	if what == plenty {
		what = goods{fmt.Sprintf("sku-%03d", n%997), 1 + n%9}
	}
	return Order{
		Customer: ref, Tier: k.tier, SKU: what.sku, Quantity: what.quantity,
		AmountCents: k.cents, Address: to,
	}, k.want
}

// lateEvery is how many orders of [WithLate] have one that expires.
const lateEvery = 10

// WithLate is the same [Mix], but one order in ten, the first among them, can be paid
// and is in stock, and yet ends by its expiry alone: until then shipping waits for
// an answer of the boats.
func WithLate(run string, n int) (Order, check.Outcome) {
	o, want := Numbered(run, n)
	if n%lateEvery == 0 {
		o.Address, want = hooge, check.WasRefunded
		o.Address.Name = Ref(run, n)
	}
	return o, want
}

// Ref is the customer of an order, another for each order, and its
// Idempotency-Key.
func Ref(run string, n int) string { return fmt.Sprintf("%s-%06d", run, n) }
